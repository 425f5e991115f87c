"""``vreid train`` from the command line, on a set so small that an epoch takes a moment."""

from __future__ import annotations

import csv
import json
import os
import pickle
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from tiny import Vreid, draw

from vreid_cli.config import TrainSettings, list_presets
from vreid_cli.models.backbones import BACKBONES
from vreid_cli.models.checkpoint import save_checkpoint
from vreid_cli.models.network import build_random
from vreid_cli.models.transforms import Transform
from vreid_cli.runtime import extras

pytestmark = pytest.mark.usefixtures("one_thread")

#: What makes an epoch of the drawn images a matter of a second.
QUICK = ("--arch", "resnet18", "--weights", "random", "--crop", "32", "--workers", "0", "--epochs", "2")
STRONG = ("--recipe", "strong", "--set", "train.per_vehicle=2", "--batch-size", "8", "--held-out", "4")


def draw_manifest(folder: Path, *, learned: int = 10, looked_for: int = 3, images: int = 2) -> Path:
    """Vehicles seen by two cameras: ``learned`` of them to train on, others as queries and gallery."""
    rows = [("path", "split", "vehicle", "camera")]
    for vehicle in range(learned + looked_for):
        for camera in (1, 2):
            split = "train" if vehicle < learned else "query" if camera == 1 else "gallery"
            for index in range(images if split == "train" else 1):
                name = f"v{vehicle}_c{camera}_{index}.png"
                draw(folder / name, hue=5 * vehicle + 1, seed=10 * camera + index)
                rows.append((name, split, f"v{vehicle}", f"c{camera}"))
    path = folder / "cars.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_manifest(tmp_path_factory.mktemp("cars"))


@pytest.fixture
def cars(vreid: Vreid, drawn: Path) -> tuple[str, ...]:
    """The options that name the drawn set."""
    return ("--dataset", "csv", "--data-dir", str(drawn))


def facts_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def same_weights(one: Path, other: Path) -> bool:
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_train_extract_rank_evaluate(vreid: Vreid, cars: tuple[str, ...]):
    out = vreid("train", *cars, *QUICK, *STRONG, "--run-dir", "mine", "--set", "train.validate_every=1")
    run = Path("mine")
    assert "6 vehicles in 24 images, 2 epochs" in out
    assert re.search(r"held-out vehicles, last \(epoch 2\): mAP [\d.]+, rank-1", out)
    assert "epoch 2/2: loss" in vreid.err
    with (run / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(0 < float(row["mAP"]) <= 1 and float(row["loss"]) > 0 for row in rows)
    with Image.open(run / "curves.png") as image:
        assert image.size[0] > 800
        assert len(np.unique(np.asarray(image.convert("L")))) > 50

    last = run / "checkpoints" / "last.safetensors"
    facts = facts_of(last)
    assert facts["architecture"] == "resnet18"
    assert json.loads(facts["transform"])["crop"] == 32
    assert json.loads(facts["recipe"])["triplet"] == 1.0
    data = json.loads(facts["data"])
    assert len(json.loads(facts["classes"])) == 6
    assert len(data["held_out"]) == 4
    assert not set(data["held_out"]) & set(json.loads(facts["classes"]))
    assert len(data["fingerprint"]) == 64
    assert json.loads(facts["metrics"])["mAP"] == float(rows[-1]["mAP"])
    assert (run / "history.jsonl").is_file()

    # The command that it offers works as it stands, and takes architecture and input from the file.
    offered = out.rpartition("next: vreid ")[2].split()
    report = vreid.json("info", "mine")
    assert report["next"] == f"vreid {' '.join(offered)}"
    assert (report["training"]["complete"], report["training"]["epoch"]) == (True, len(rows))
    assert report["training"]["checkpoints"][0]["mAP"] == float(rows[-1]["mAP"])
    vreid(*offered)
    info = json.loads((run / "run.json").read_text())
    assert info["architecture"] == "resnet18"
    assert "crop32" in info["transform"]
    vreid("rank", "--run-dir", "mine", "--task", "i2i", "--metric", "MCD")
    result = vreid.json("evaluate", "--run-dir", "mine")["results"][0]
    assert result["valid_queries"] == 3
    assert 0 < result["mAP"] <= 1


@pytest.mark.slow
def test_json_report(vreid: Vreid, cars: tuple[str, ...]):
    report = vreid.json("train", *cars, *QUICK, "--held-out", "4", "--run-dir", "mine", "--quiet")
    assert [Path(path).name for path in report["outputs"]] == [
        "last.safetensors",
        "best.safetensors",
        "log.csv",
        "curves.png",
    ]
    assert all(Path(path).is_file() for path in report["outputs"])
    assert [epoch["epoch"] for epoch in report["epochs"]] == [1, 2]
    assert report["epochs"][0]["scores"] is None
    assert 0 < report["epochs"][1]["scores"]["mean_ap"] <= 1


@pytest.mark.slow
def test_without_held_out_vehicles_the_best_is_the_last(vreid: Vreid, cars: tuple[str, ...]):
    out = vreid("train", *cars, *QUICK, "--run-dir", "mine")
    assert "held-out" not in out
    assert "10 vehicles in 40 images" in out
    assert same_weights(Path("mine/checkpoints/best.safetensors"), Path("mine/checkpoints/last.safetensors"))
    assert vreid("train", *cars, *QUICK, code=0)
    assert Path("runs/csv-resnet18-paper/log.csv").is_file()


# ---- recipes and settings


@pytest.mark.parametrize("name", ["paper", "strong"])
def test_a_recipe_sets_every_number(name: str):
    path = list_presets()[f"recipe-{name}"]
    table = tomllib.loads(path.read_text())["train"]
    carried_out = {"tensorboard", "resume", "restart"}
    assert set(table) == set(TrainSettings.model_fields) - carried_out
    assert table["recipe"] == name


def test_settings_lie_above_the_recipe_and_say_where_they_come_from(vreid: Vreid):
    Path("vreid.toml").write_text("[train]\nmargin = 0.5\nlearning_rate = 0.004\n")
    report = vreid.json("train", "--recipe", "strong", "--epochs", "7", "--set", "train.erase=0.1", "--show-config")
    train, sources = report["config"]["train"], report["sources"]
    assert (train["epochs"], train["margin"], train["erase"], train["triplet"]) == (7, 0.5, 0.1, 1.0)
    assert sources["train.epochs"] == "command line"
    assert sources["train.margin"] == "vreid.toml"
    assert sources["train.triplet"].endswith("recipe-strong.toml")
    assert vreid.json("train", "--show-config")["config"]["train"]["recipe"] == "paper"


def test_a_preset_may_choose_the_recipe(vreid: Vreid):
    Path("mine.toml").write_text('[train]\nrecipe = "strong"\n')
    assert vreid.json("train", "--config", "mine.toml", "--show-config")["config"]["train"]["neck"] is True


@pytest.mark.slow
def test_wrong_usage(vreid: Vreid, cars: tuple[str, ...]):
    for arguments, report in (
        (("--recipe", "best"), "--recipe best: needs 'paper' or 'strong'"),
        (("--precision", "fp8"), "--precision fp8"),
        (("--precision", "tf32", *QUICK), "tf32"),
        (("--held-out", "2.5", *QUICK), "--held-out 2.5"),
        (("--crop", "16", *QUICK[:4], "--workers", "0", "--set", "train.resize=8"), "larger than train.resize"),
        (("--resume", "nowhere", "--restart"), "exclude each other"),
        (("--resume", "nowhere", "--run-dir", "other"), "continues where it is"),
        (("--arch", "inception_v3", "--weights", "random", "--crop", "32"), "no input for inception_v3"),
        ((*QUICK, "--batch-size", "60", "--set", "train.per_vehicle=2"), "30 vehicles x 2 images"),
    ):
        error = vreid.error("train", *cars, *arguments, code=2)
        assert report in error["message"], error


# ---- going on


@pytest.mark.slow
def test_an_interrupted_training_goes_on_to_the_same_end(
    vreid: Vreid, cars: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    options = (*cars, *QUICK[:-1], "3", *STRONG, "--seed", "4")
    vreid("train", *options, "--run-dir", "whole")
    from vreid_cli.training.trainer import Trainer

    original, passes = Trainer._pass, []

    def interrupted(self: Trainer, *arguments: object, **more: object) -> torch.Tensor:
        passes.append(self.epoch)
        if self.epoch == 1 and passes.count(1) == 2:
            raise KeyboardInterrupt
        return original(self, *arguments, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_pass", interrupted)
        vreid("train", *options, "--run-dir", "broken", code=130)
    assert "vreid train --resume broken" in vreid.err
    assert len((Path("broken") / "log.csv").read_text().splitlines()) == 2
    assert "already holds a training" in vreid.error("train", *options, "--run-dir", "broken")["message"]
    out = vreid("train", "--resume", "broken", "--workers", "0")
    assert "6 vehicles in 24 images, 3 epochs" in out
    for name in ("last", "best"):
        file = f"checkpoints/{name}.safetensors"
        assert same_weights(Path("whole", file), Path("broken", file))
    logs = [list(csv.DictReader(Path(name, "log.csv").read_text().splitlines())) for name in ("whole", "broken")]
    for one, other in zip(*logs, strict=True):
        assert {**one, "seconds": ""} == {**other, "seconds": ""}
    # Once more: there is nothing left to do, and nothing changes.
    before = Path("broken/checkpoints/resume.safetensors").read_bytes()
    vreid("train", "--resume", "broken", "--workers", "0")
    assert Path("broken/checkpoints/resume.safetensors").read_bytes() == before


KILLED = """
import os, signal, sys
from vreid_cli.training.trainer import Trainer
original, passes = Trainer._pass, []
def killed(self, *arguments, **more):
    passes.append(self.epoch)
    if passes.count(1) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, *arguments, **more)
Trainer._pass = killed
from vreid_cli.cli.app import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_bits(vreid: Vreid, cars: tuple[str, ...]):
    options = (*cars, *QUICK[:-1], "3", *STRONG)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, "train", *options, "--run-dir", "killed"]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert killed.returncode == -9, killed.stderr
    assert len(Path("killed/log.csv").read_text().splitlines()) == 2
    vreid("train", *options, "--run-dir", "whole")
    vreid("train", "--resume", "killed")
    assert same_weights(Path("whole/checkpoints/last.safetensors"), Path("killed/checkpoints/last.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("seam", ["last.safetensors", "best.safetensors", "log.csv", "curves.png"])
def test_stopped_between_two_files_all_are_made_whole(
    vreid: Vreid, cars: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, seam: str
):
    options = (*cars, *QUICK, "--seed", "2")
    vreid("train", *options, "--run-dir", "whole")
    from vreid_cli.runtime import files as atomic

    replaced, seen = Path.replace, []

    def stop(self: Path, target: Path) -> Path:
        seen.append(target.name)
        if target.name == seam and seen.count(seam) == 2:
            raise KeyboardInterrupt
        return replaced(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(atomic.Path, "replace", stop)
        vreid("train", *options, "--run-dir", "broken", code=130)
    vreid("train", "--resume", "broken", "--workers", "0")
    for name in ("last", "best"):
        file = f"checkpoints/{name}.safetensors"
        assert same_weights(Path("whole", file), Path("broken", file))
    assert len(Path("broken/log.csv").read_text().splitlines()) == 3
    assert not list(Path("broken/checkpoints").glob("*.tmp*"))


@pytest.mark.slow
def test_batches_of_a_recipe_shrink_to_the_vehicles_but_not_those_of_a_person(vreid: Vreid, cars: tuple[str, ...]):
    vreid("train", *cars, *QUICK, "--recipe", "strong", "--held-out", "4", "--run-dir", "mine")
    assert "6 vehicles: batches of 24 images instead of the recipe's 64" in vreid.err
    facts = facts_of(Path("mine/checkpoints/last.safetensors"))
    assert json.loads(facts["recipe"])["batch_size"] == 24
    vreid("train", "--resume", "mine")
    error = vreid.error("train", *cars, *QUICK, "--recipe", "strong", "--batch-size", "64", code=2)
    assert "16 vehicles x 4 images" in error["message"]


@pytest.mark.slow
def test_an_earlier_training_is_kept_until_all_else_is_right(vreid: Vreid, cars: tuple[str, ...]):
    vreid("train", *cars, *QUICK, "--run-dir", "mine")
    vreid.error("train", *cars, *QUICK, "--run-dir", "mine", "--restart", "--weights", "nowhere.pth")
    assert Path("mine/checkpoints/last.safetensors").is_file()


@pytest.mark.slow
def test_what_contradicts_the_training_that_goes_on(vreid: Vreid, cars: tuple[str, ...], drawn: Path):
    vreid("train", *cars, *QUICK, "--run-dir", "mine")
    error = vreid.error("train", "--resume", "mine", "--epochs", "9")
    assert "--epochs '9'" in error["message"]
    assert "made with '2'" in error["message"]
    assert "--arch 'alexnet'" in vreid.error("train", "--resume", "mine", "--arch", "alexnet")["message"]
    other_input = ("--set", "model.input.mean=[0.1, 0.2, 0.3]")
    assert "model.input.mean" in vreid.error("train", "--resume", "mine", *other_input)["message"]
    assert "no training to continue" in vreid.error("train", "--resume", "nowhere")["message"]
    other = draw_manifest(Path("other"), learned=9)
    message = vreid.error("train", "--resume", "mine", "--data-dir", other)["message"]
    assert "no longer those that it began with" in message
    Path("mine/checkpoints/resume.safetensors").write_bytes(b"cut short")
    assert "damaged" in vreid.error("train", "--resume", "mine")["message"]
    assert "--restart" in vreid.error("train", *cars, *QUICK, "--run-dir", "mine")["hint"]
    vreid("train", *cars, *QUICK, "--run-dir", "mine", "--restart")


@pytest.mark.slow
def test_a_moved_run_goes_on_where_its_data_are(vreid: Vreid, cars: tuple[str, ...], drawn: Path):
    vreid("train", *cars, *QUICK, "--run-dir", "mine")
    Path("mine").rename("moved")
    vreid("train", "--resume", "moved", "--data-dir", drawn)


# ---- bad input


@pytest.mark.slow
def test_a_vehicle_with_one_image_makes_no_pairs(vreid: Vreid, cars: tuple[str, ...], drawn: Path):
    lines = drawn.read_text().splitlines()
    alone = [line for line in lines if not re.match(r"v3_c2|v3_c1_1", line)]
    path = drawn.parent / "alone.csv"
    path.write_text("\n".join(alone))
    arguments = ("--dataset", "csv", "--data-dir", path, *QUICK, "--run-dir", "mine")
    error = vreid.error("train", *arguments, *STRONG[:-2])
    assert "1 of 8 have one: v3" in error["message"]
    assert "per_vehicle=0" in error["hint"]
    vreid("train", *arguments)  # a classification takes it


def test_a_vehicle_both_learned_and_looked_for(vreid: Vreid, drawn: Path):
    lines = drawn.read_text().replace("v11_c1_0.png,query,v11", "v11_c1_0.png,query,v3")
    path = drawn.parent / "both.csv"
    path.write_text(lines)
    error = vreid.error("train", "--dataset", "csv", "--data-dir", path, *QUICK)
    assert "1 vehicle in both splits, train and query: v3" in error["message"]
    assert "means nothing" in error["hint"] or "mean nothing" in error["hint"]


@pytest.mark.slow
def test_held_out_vehicles_that_nobody_sees_twice(vreid: Vreid, drawn: Path):
    path = drawn.parent / "one_camera.csv"
    path.write_text(re.sub(r",c2$", ",c1", drawn.read_text(), flags=re.MULTILINE))
    error = vreid.error("train", "--dataset", "csv", "--data-dir", path, *QUICK, "--held-out", "3")
    assert "seen by two cameras" in error["message"]
    vreid("train", "--dataset", "csv", "--data-dir", path, *QUICK, "--held-out", "0")


def test_nothing_to_learn_from(vreid: Vreid, drawn: Path):
    path = drawn.parent / "unlabelled.csv"
    path.write_text("path,split\nv0_c1_0.png,train\nv1_c1_0.png,train\n")
    assert "nothing to learn" in vreid.error("train", "--dataset", "csv", "--data-dir", path, *QUICK)["message"]
    path.write_text("path,split,vehicle\nv0_c1_0.png,gallery,v0\n")
    assert (
        "no rows of the split train" in vreid.error("train", "--dataset", "csv", "--data-dir", path, *QUICK)["message"]
    )


@pytest.mark.slow
def test_bad_images_are_named_skipped_and_counted(vreid: Vreid, tmp_path: Path):
    manifest = draw_manifest(tmp_path / "data")
    (tmp_path / "data" / "v1_c1_0.png").write_bytes(b"no image")
    arguments = ("train", "--dataset", "csv", "--data-dir", manifest, *QUICK)
    report = vreid.json(*arguments, "--run-dir", "a")
    assert [(entry["image_id"], entry["split"]) for entry in report["skipped"]] == [("v1_c1_0.png", "train")]
    assert "not an image" in report["skipped"][0]["reason"]
    assert "v1_c1_0.png" in vreid.err
    error = vreid.error(*arguments, "--run-dir", "b", "--strict")
    assert "v1_c1_0.png" in error["message"]
    for name in ("v1_c1_1", "v1_c2_0", "v1_c2_1"):
        (tmp_path / "data" / f"{name}.png").write_bytes(b"")
    assert "without a readable image: v1" in vreid.error(*arguments, "--run-dir", "c")["message"]


def test_weights_of_another_architecture_cut_short_or_hostile(vreid: Vreid, cars: tuple[str, ...], tmp_path: Path):
    other = tmp_path / "alexnet.safetensors"
    save_checkpoint(other, build_random(BACKBONES["alexnet"], seed=0), transform=Transform(66, 64), facts={})
    rest = ("--arch", "resnet18", "--workers", "0", "--epochs", "1")
    error = vreid.error("train", *cars, *rest, "--weights", other)
    assert "is for alexnet, not for resnet18" in error["message"]
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(other.read_bytes()[:1000])
    assert "damaged" in vreid.error("train", *cars, *rest, "--weights", cut)["message"]
    hostile = tmp_path / "hostile.pth"
    hostile.write_bytes(pickle.dumps(_Hostile(str(tmp_path / "ran"))))
    assert "state dict" in vreid.error("train", *cars, *rest, "--weights", hostile)["message"]
    assert not (tmp_path / "ran").exists()


class _Hostile:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.path}'",)


def test_imagenet_without_a_network(vreid: Vreid, cars: tuple[str, ...], monkeypatch: pytest.MonkeyPatch):
    def offline(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    error = vreid.error("train", *cars, "--arch", "resnet18")
    assert "cannot be downloaded" in error["message"]
    assert "--weights" in error["hint"]


@pytest.mark.slow
def test_missing_extras_name_the_command(vreid: Vreid, cars: tuple[str, ...], monkeypatch: pytest.MonkeyPatch):
    for package, arguments, extra in (
        ("matplotlib", (), "train"),
        ("pytorch_metric_learning", STRONG, "train"),
        ("tensorboard", ("--tensorboard",), "tensorboard"),
    ):
        with monkeypatch.context() as patch:
            find = extras.find_spec
            patch.setattr(
                extras, "find_spec", lambda name, gone=package, find=find: None if name == gone else find(name)
            )
            error = vreid.error("train", *cars, *QUICK, *arguments)
            assert package in error["message"]
            assert f'pip install "vreid[{extra}]"' in error["hint"]
    vreid("train", *cars, *QUICK)  # nothing of it needs more than what it uses


# ---- starting from a checkpoint


@pytest.mark.slow
def test_the_head_is_kept_for_the_same_vehicles_and_made_for_others(vreid: Vreid, cars: tuple[str, ...]):
    vreid("train", *cars, *QUICK, *STRONG, "--run-dir", "first")
    last = "first/checkpoints/last.safetensors"
    again = ("--arch", "resnet18", "--weights", last, "--workers", "0", "--epochs", "1")
    vreid("train", *cars, *again, *STRONG, "--run-dir", "same")
    assert "classifier" not in vreid.err
    vreid("train", *cars, *again, *STRONG[:-1], "3", "--run-dir", "more")
    assert "classifier of 6 classes was dropped; a new one of 7 was made" in vreid.err
    vreid("train", *cars, *again, "--run-dir", "plain")
    assert "neck was dropped" in vreid.err
    assert json.loads(facts_of(Path("plain/checkpoints/last.safetensors"))["transform"])["crop"] == 32


@pytest.mark.slow
def test_tensorboard(vreid: Vreid, cars: tuple[str, ...]):
    vreid("train", *cars, *QUICK, "--tensorboard", "--run-dir", "mine")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator("mine/tensorboard").Reload()
    losses = [event.value for event in events.Scalars("loss")]
    with Path("mine/log.csv").open() as file:
        assert losses == pytest.approx([float(row["loss"]) for row in csv.DictReader(file)])
