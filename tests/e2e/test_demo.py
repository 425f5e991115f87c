"""``vreid demo`` as a person runs it, and what it is worth."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from vreid_cli.cli.app import run
from vreid_cli.models.backbones import BACKBONES
from vreid_cli.models.checkpoint import save_checkpoint
from vreid_cli.models.network import build_random
from vreid_cli.models.transforms import Transform
from vreid_cli.store.features import FeatureStore
from vreid_cli.workflows.demo import ARCHITECTURE

TINY = [
    *("--set", "demo.train_vehicles=3", "--set", "demo.test_vehicles=3"),
    *("--set", "demo.cameras=2", "--set", "demo.images_per_track=2", "--epochs", "1"),
]


def evaluate_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, object]]:
    """Results of ``vreid evaluate --json`` by metric."""
    capsys.readouterr()
    assert run(["evaluate", "--json", *arguments]) == 0
    return {result["metric"]: result for result in json.loads(capsys.readouterr().out)["results"]}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_trained_network_finds_vehicles_that_it_has_never_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["demo"]) == 0
    told = capsys.readouterr().out
    assert "Three things to try next" in told
    demo = Path("runs/demo")
    assert (demo / "reports" / "nearest.png").stat().st_size > 10_000
    trained = evaluate_json(capsys)  # runs/latest names the demo

    untrained = tmp_path / "untrained.safetensors"
    save_checkpoint(
        untrained, build_random(BACKBONES[ARCHITECTURE], seed=0), transform=Transform(resize=72, crop=64), facts={}
    )
    common = ["--run-dir", "runs/untrained"]
    model = ["--arch", ARCHITECTURE, "--weights", str(untrained)]
    assert run(["extract", "--data-dir", str(demo / "data"), *model, *common]) == 0
    assert run(["rank", "--metric", "all", *common]) == 0
    baseline = evaluate_json(capsys, *common)

    assert set(trained) == set(baseline)
    for metric in ("meanMCD50", "minMED"):
        gain = float(trained[metric]["mAP"]) - float(baseline[metric]["mAP"])  # type: ignore[arg-type]
        assert gain >= 0.2, f"{metric}: {trained[metric]['mAP']} trained, {baseline[metric]['mAP']} untrained"
    # The vehicles that were trained on are not among those that were looked for.
    names = {path.name[:4] for path in (demo / "data" / "image_train").iterdir()}
    assert names.isdisjoint(path.name[:4] for path in (demo / "data" / "image_test").iterdir())


@pytest.mark.slow
def test_a_seed_gives_the_same_demo_twice_and_another_seed_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        assert run(["demo", "--run-dir", name, "--seed", seed, *TINY]) == 0
    # A part's bytes hold the digest of the weights too. (The checkpoint's own bytes may differ: safetensors
    # writes its metadata in any order.)
    part = "features/gallery/part-00000.arrow"
    for file in (part, "data/test_track.txt"):
        assert Path("a", file).read_bytes() == Path("b", file).read_bytes(), file
    assert Path("a", part).read_bytes() != Path("c", part).read_bytes()


@pytest.mark.slow
def test_it_makes_room_for_itself_only_where_a_demo_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["demo", *TINY]) == 0
    keepsake = Path("runs/demo/my-notes.txt")
    keepsake.write_text("mine")
    assert run(["demo", "--seed", "1", *TINY]) == 0
    assert keepsake.read_text() == "mine"

    own = Path("own")
    own.mkdir()
    (own / "thesis.tex").write_text("years of work")
    capsys.readouterr()
    assert run(["demo", "--run-dir", "own", *TINY]) == 1
    assert "not made by vreid demo" in capsys.readouterr().err
    assert [path.name for path in own.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_extraction_sees_images_and_never_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same images under names that say nothing, one track each, give the same features."""
    monkeypatch.chdir(tmp_path)
    assert run(["demo", *TINY]) == 0
    labelled = FeatureStore(Path("runs/demo/features/gallery")).read()
    for position, name in enumerate(labelled.image_id):
        for split in ("query", "gallery"):
            # The order is kept, so that batches hold the same images and the features agree to the bit.
            target = Path("blind", split, f"{position:06d}", "image.jpg")
            target.parent.mkdir(parents=True)
            shutil.copyfile(Path("runs/demo/data/image_test", name), target)
    model = ["--arch", ARCHITECTURE, "--weights", "runs/demo/checkpoints/last.safetensors"]
    assert run(["extract", "--dataset", "tracks", "--data-dir", "blind", "--run-dir", "blind-run", *model]) == 0
    blind = FeatureStore(Path("blind-run/features/gallery")).read()
    assert set(blind.vehicle_id) == {None}
    rows = np.arange(len(labelled), dtype=np.int64)
    np.testing.assert_array_equal(blind.matrix.take(rows), labelled.matrix.take(rows))
