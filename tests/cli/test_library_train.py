"""``vreid.train`` and ``vreid train``: the same numbers, the same warnings, the same network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import Vreid, draw

import vreid_cli as library
from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.data.listing import DataFolders
from vreid_cli.store.metadata import read_metadata

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = {
    "epochs": 2,
    "batch_size": 4,
    "crop": 32,
    "flip": True,
    "learning_rate": 0.01,
    "held_out": 2,
    "validate_every": 1,
}


@pytest.fixture
def cars(tmp_path: Path) -> Path:
    """Six vehicles seen by two cameras, one image without a label, one that is no image."""
    rows = ["path,split,vehicle,camera"]
    for vehicle in range(6):
        for camera in (1, 2):
            name = f"{vehicle}_{camera}.png"
            draw(tmp_path / name, hue=vehicle + 1, seed=camera)
            rows.append(f"{name},train,v{vehicle},c{camera}")
    draw(tmp_path / "nobody.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    rows += ["nobody.png,train,,c1", "bad.png,train,v0,c3"]
    (tmp_path / "cars.csv").write_text("\n".join(rows))
    return tmp_path / "cars.csv"


@pytest.mark.slow
def test_both_ways_train_the_same_network(vreid: Vreid, cars: Path):
    settings = [f"--set=train.{key}={json.dumps(value)}" for key, value in RECIPE.items()]
    common = ("--dataset", "csv", "--data-dir", cars, "--arch", "resnet18", "--weights", "random", "--seed", "3")
    report = vreid.json("train", *common, *settings, "--run-dir", "mine", "--device", "cpu", "--workers", "0")

    listing = LAYOUTS["csv"].read(DataFolders(cars), "train")
    recipe = read_metadata(Path("mine/checkpoints/last.safetensors"))["recipe"]
    options = library.TrainingOptions(**{key: recipe[key] for key in library.TrainingOptions.model_fields})
    result = library.train(
        listing.records,
        options,
        network=library.load_network("random", arch="resnet18", seed=3),
        seed=3,
        device="cpu",
        workers=0,
        validate=library.Validation(),
    )
    assert result.network.digest == library.load_network("mine/checkpoints/last.safetensors").digest
    epochs = [{**epoch, "seconds": 0} for epoch in report["epochs"]]
    assert [
        {**vars(epoch), "seconds": 0, "scores": epoch.scores and vars(epoch.scores)} for epoch in result.history
    ] == epochs
    assert all(epoch.scores is not None for epoch in result.history)
    assert report["warnings"] == [*listing.warnings, *result.warnings]
    assert len(result.warnings) == 2
    assert report["vehicles"] == len(result.network.classes) == 4
    assert [one["image_id"] for one in report["skipped"]] == [record.image_id for record, _ in result.skipped]


def test_a_folder_of_tracks_is_enough(tmp_path: Path):
    for vehicle in (1, 2, 3):
        for k in range(2):
            draw(tmp_path / "train" / f"000{vehicle}_c001" / f"{k}.png", hue=vehicle, seed=k)
    seen: list[int] = []
    result = library.train(
        tmp_path,
        library.TrainingOptions(epochs=2, batch_size=2, crop=32),
        network=library.load_network("random", arch="resnet18"),
        device="cpu",
        watch=lambda trainer: seen.append(trainer.epoch),
    )
    assert result.network.classes == ("0001", "0002", "0003")
    assert result.images == 6
    assert seen == [0, 1, 2]
    assert result.best.epoch == 2
