"""``vreid info``: tells what is in a run, whole or not, and changes nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from tiny import EXTRACT, TRACKS, Vreid, draw, draw_tracks

from vreid_cli import models
from vreid_cli.models.backbones import BACKBONES
from vreid_cli.models.checkpoint import save_checkpoint
from vreid_cli.models.network import build_random
from vreid_cli.models.transforms import Transform
from vreid_cli.store.features import FeatureStore
from vreid_cli.store.plan import PLAN_SCHEMA, Plan
from vreid_cli.training.state import EpochResult, Scores, TrainingState, save_state

IMAGES = {split: sum(n for name, n in TRACKS.items() if name.startswith(split)) for split in ("query", "gallery")}
KEYS = {
    *("schema", "outputs", "skipped", "warnings", "run_dir", "complete", "next", "splits", "rankings", "training"),
    *("files", "reports", "history", "history_error", "dataset", "subset", "label_pattern", "data_dir", "query_dir"),
    *("gallery_dir", "data_dir_exists", "query_dir_exists", "gallery_dir_exists", "architecture", "weights"),
    *(
        "weights_exists",
        "weights_digest",
        "transform",
        "precision",
        "backend",
        "int8_error",
        "seed",
        "note",
        "versions",
    ),
}


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def facts_of(found: dict[str, object]) -> dict[str, object]:
    """What must not depend on where the run lies."""
    return {key: value for key, value in found.items() if key not in ("run_dir", "next")}


def test_a_run_with_everything(vreid: Vreid, ready: Path) -> None:
    vreid("rank")
    vreid("rank", "--task", "i2t", "--metric", "MED,RSCR", "--top-k", "2")
    vreid("evaluate", "runs/tracks-resnet18-tiny/rankings/t2t-meanMCD50.parquet")
    before = snapshot(Path("runs"))
    found = vreid.json("info")
    assert set(found) == KEYS
    assert (found["run_dir"], found["complete"], found["warnings"]) == (str(ready), True, [])
    assert (found["dataset"], found["architecture"], found["seed"]) == ("tracks", "resnet18", 0)
    assert (found["data_dir_exists"], found["weights_exists"], found["query_dir_exists"]) == (True, True, None)
    for split, cameras in (("query", 3), ("gallery", 3)):
        one = found["splits"][split]
        tracks = [name for name in TRACKS if name.startswith(split)]
        assert (one["state"], one["images"], one["tracks"]) == ("complete", IMAGES[split], len(tracks))
        assert one["vehicles"] == len({name.split("/")[1][:4] for name in tracks})
        assert (one["cameras"], one["dimension"], one["parts"], one["skipped"]) == (cameras, 512, 1, 0)
        assert (one["done_images"], one["planned_images"]) == (IMAGES[split], IMAGES[split])
        assert one["identity"]["weights_digest"] == found["weights_digest"]
    rankings = {row["name"]: row for row in found["rankings"]}
    assert set(rankings) == {"t2t-meanMCD50", "i2t-MED", "i2t-RSCR"}
    mean = rankings["t2t-meanMCD50"]
    scored = json.loads((ready / "evaluations" / "t2t-meanMCD50.json").read_text())["results"][0]
    assert (mean["mAP"], mean["evaluated"], mean["outdated"]) == (scored["mAP"], True, False)
    assert (mean["query_count"], mean["gallery_size"], mean["coverage"]) == (4, 7, "full")
    assert mean["same_features"] is True
    assert (rankings["i2t-MED"]["mAP"], rankings["i2t-MED"]["top_k"]) == (None, 2)
    assert found["next"] == f"vreid evaluate --run-dir {ready}"
    assert len(found["history"]) >= 3
    assert snapshot(Path("runs")) == before
    told = vreid("info")
    assert snapshot(Path("runs")) == before
    for words in ("resnet18", found["weights_digest"][:12], "t2t-meanMCD50", f"{100 * scored['mAP']:.1f}", "complete"):
        assert words in told
    assert vreid("info", ready) == told == vreid("info", "--run-dir", ready)


def test_indexes_calibrations_and_identities_are_listed(vreid: Vreid, ready: Path) -> None:
    vreid("rank")
    vreid("evaluate")
    vreid("index")
    vreid("associate", "--threshold", "0.25")
    shutil.copytree(next(Path(models.__file__).parent.glob("*/calibrations")), ready / "calibrations")
    found = vreid.json("info")
    what = {one["file"]: one["what"] for one in found["files"]}
    assert what.pop("index/cosine.json") == "index flat for the cosine distance"
    assert what.pop("identities/meanMCD50.parquet") == "identities by meanMCD50 ≤ 0.25"
    assert what
    assert all(said.startswith("calibration of ") for said in what.values())
    assert found["next"] is None
    told = vreid("info")
    assert all(one["file"] in told for one in found["files"])


def test_a_run_that_was_moved_says_the_same(vreid: Vreid, ready: Path, tmp_path: Path) -> None:
    vreid("rank")
    here = vreid.json("info")
    shutil.move(ready, tmp_path / "elsewhere")
    assert facts_of(vreid.json("info", "elsewhere")) == facts_of(here)
    error = vreid.error("info")
    assert "gone" in error["message"]


def test_images_and_weights_that_are_gone(vreid: Vreid, tmp_path: Path, weights: Path) -> None:
    draw_tracks(tmp_path / "data", TRACKS)
    shutil.copy(weights, tmp_path / "own.safetensors")
    vreid(*EXTRACT, "--data-dir", "data", "--weights", "own.safetensors")
    shutil.rmtree("data")
    Path("own.safetensors").unlink()
    Path("runs/tracks-resnet18-own/features/query/complete.json").unlink()
    found = vreid.json("info")
    assert (found["data_dir_exists"], found["weights_exists"], found["complete"]) == (False, False, False)
    assert found["next"] == "vreid extract --run-dir runs/tracks-resnet18-own --data-dir … --weights …"
    assert vreid("info").count("not there any more") == 2


def test_half_a_run_says_how_much_is_done_and_how_to_go_on(vreid: Vreid, tmp_path: Path, weights: Path) -> None:
    draw_tracks(tmp_path / "data", TRACKS)
    vreid(*EXTRACT, "--data-dir", "data", "--weights", weights, "--set", "extract.part_images=4")
    run = Path("runs/tracks-resnet18-tiny")
    gallery = FeatureStore(run / "features" / "gallery")
    lost = len(gallery.read_part(1))
    gallery.complete_path.unlink()
    gallery.part_path(1).unlink()
    found = vreid.json("info")
    one = found["splits"]["gallery"]
    assert (found["complete"], one["state"], one["problems"]) == (False, "unfinished", [])
    assert (one["done_images"], one["planned_images"]) == (IMAGES["gallery"] - lost, IMAGES["gallery"])
    assert one["planned_parts"] == one["done_parts"] + 1
    assert f"{IMAGES['gallery'] - lost} of {IMAGES['gallery']} images done" in vreid("info")
    assert found["next"] == f"vreid extract --run-dir {run}"
    vreid(*found["next"].split()[1:])
    after = vreid.json("info")
    assert (after["complete"], after["splits"]["gallery"]["images"]) == (True, IMAGES["gallery"])
    assert after["next"] == f"vreid rank --run-dir {run}"
    # A part that no longer holds what the plan says is not done, though it is there.
    draw(tmp_path / "data" / "gallery" / "0001_c002" / "0.png", hue=9, seed=99)
    plan = gallery.read_plan()
    assert plan is not None
    rows = [{**plan.table.to_pylist()[0], "sha256": "other"}]
    gallery.write_plan(Plan(pa.Table.from_pylist(rows, schema=PLAN_SCHEMA)))
    gallery.complete_path.unlink()
    assert vreid.json("info")["splits"]["gallery"]["done_images"] == 0


def test_skipped_images_are_counted_and_the_first_named(vreid: Vreid, tmp_path: Path, weights: Path) -> None:
    draw_tracks(tmp_path / "data", TRACKS)
    bad = [f"0004_c001/{number}.png" for number in range(4)] + ["0009_c001/0.png"]
    for name in bad:
        (tmp_path / "data" / "gallery" / name).write_bytes(b"")
    vreid(*EXTRACT, "--data-dir", "data", "--weights", weights)
    found = vreid.json("info")
    assert [entry["image_id"] for entry in found["skipped"]] == bad
    assert (found["splits"]["gallery"]["skipped"], found["splits"]["gallery"]["state"]) == (5, "complete")
    told = vreid("info")
    assert f"{bad[0]} (the file is empty)" in told
    assert "2 more: see skipped.csv" in told
    assert bad[4] not in told


#: A file of the run, and what is then reported.
DAMAGE = {
    "run.json": "not valid JSON",
    "features/gallery/plan.parquet": "plan.parquet is damaged",
    "features/gallery/part-00000.arrow": "part-00000.arrow is damaged",
    "features/gallery/complete.json": "not valid JSON",
    "rankings/t2t-meanMCD50.parquet": "is damaged or no ranking",
    "evaluations/t2t-meanMCD50.json": "not valid JSON",
    "index/cosine.json": "not valid JSON",
    "calibrations/t2t-meanMCD50.json": "not valid JSON",
    "identities/meanMCD50.parquet": "cannot be read as identities",
    "history.jsonl": "1 line of",
    "checkpoints/last.safetensors": "damaged or is no safetensors",
    "checkpoints/resume.safetensors": "damaged or is no safetensors",
}


@pytest.mark.parametrize(("name", "words"), DAMAGE.items())
def test_what_is_damaged_is_told_and_the_rest_still_shown(vreid: Vreid, ready: Path, name: str, words: str) -> None:
    vreid("rank")
    vreid("evaluate")
    (ready / name).parent.mkdir(exist_ok=True)
    (ready / name).write_bytes(b"{damaged \xff")
    found = vreid.json("info")
    assert len([warning for warning in found["warnings"] if words in warning]) == 1
    told = vreid("info")
    assert words in told or name == "run.json"
    assert "query" in told
    assert found["splits"]["query"]["state"] == "complete"
    if "features" in name:
        assert (found["splits"]["gallery"]["state"], found["complete"]) == ("damaged", False)
        assert found["next"].startswith("vreid extract --run-dir")
    if "rankings" in name:
        assert found["rankings"][0]["error"]
    if "evaluations" in name:
        assert (found["rankings"][0]["mAP"], found["rankings"][0]["task"]) == (None, "t2t")


@pytest.mark.parametrize("content", ["[]", '{"dataset": 5, "weights": [], "versions": 3, "data_dir": {}}', "{}"])
def test_a_run_json_that_says_something_else(vreid: Vreid, ready: Path, content: str) -> None:
    (ready / "run.json").write_text(content)
    assert vreid.json("info", ready)["splits"]["query"]["state"] == "complete"
    assert "query" in vreid("info", ready)


def test_a_lost_part_and_a_lost_plan(vreid: Vreid, ready: Path) -> None:
    (ready / "features/gallery/part-00000.arrow").unlink()
    (ready / "features/query/plan.parquet").unlink()
    splits = vreid.json("info")["splits"]
    assert {one["state"] for one in splits.values()} == {"damaged"}
    assert any("complete.json says: 0, not" in problem for problem in splits["gallery"]["problems"])
    assert "missing" in splits["query"]["problems"][0]


def test_scores_of_another_ranking_are_not_shown_as_its_own(vreid: Vreid, ready: Path) -> None:
    vreid("rank")
    vreid("evaluate")
    vreid("rank", "--cameras", "other", "--force")
    (row,) = vreid.json("info")["rankings"]
    assert (row["outdated"], row["cameras"]) == (True, "other")
    assert "that of an earlier ranking" in vreid("info")
    (ready / "rankings" / "t2t-meanMCD50.parquet").unlink()
    (row,) = vreid.json("info")["rankings"]
    assert (row["file"], row["evaluated"]) == (None, True)
    assert "the ranking that was scored is gone" in vreid("info")


# -- runs of training ---------------------------------------------------------------------------------------


def write_training(run: Path, *, epoch: int, epochs: int) -> None:
    """What ``vreid train`` leaves after some epochs, without training."""
    results = tuple(EpochResult(n, 1.0, 1.0, 0.0, 0.5, 0.1, 40, 1.0, Scores(n / 10, 0.5)) for n in range(1, epoch + 1))
    settings = {
        "train": {"recipe": "strong", "epochs": epochs},
        "model": {"arch": "resnet18"},
        "data": {"dataset": "csv", "data_dir": "/my cars.csv"},
    }
    facts = {"settings": settings}
    state = TrainingState(epoch, {"weight": torch.zeros(2)}, history=results, facts=facts)
    (run / "checkpoints").mkdir(parents=True)
    save_state(run / "checkpoints" / "resume.safetensors", state)
    about = {
        "recipe": settings["train"],
        "classes": ["1", "2", "3"],
        "data": {"dataset": "veri", "images": 40, "held_out": ["9"]},
        "begun_from": {"weights": "imagenet", "digest": "abc"},
        "metrics": {"epoch": epoch, "mAP": epoch / 10},
        "seed": 5,
    }
    network = build_random(BACKBONES["resnet18"], seed=0)
    texts = {key: json.dumps(value) for key, value in about.items()}
    for name in ("last", "best"):
        path = run / "checkpoints" / f"{name}.safetensors"
        save_checkpoint(path, network, transform=Transform(resize=34, crop=32), facts=texts)


def test_a_run_of_training_alone(vreid: Vreid) -> None:
    write_training(Path("runs/cars"), epoch=3, epochs=30)
    found = vreid.json("info", "runs/cars")
    assert set(found) == KEYS
    assert (found["dataset"], found["splits"], found["complete"]) == (None, {}, None)
    training = found["training"]
    assert (training["epoch"], training["epochs"], training["complete"]) == (3, 30, False)
    assert (training["seed"], training["begun_from"]["weights"]) == (5, "imagenet")
    assert (training["recipe"], training["architecture"], training["vehicles"]) == ("strong", "resnet18", 3)
    assert {one["name"]: (one["epoch"], one["mAP"]) for one in training["checkpoints"]} == {
        "last.safetensors": (3, 0.3),
        "best.safetensors": (3, 0.3),
        "resume.safetensors": (3, None),
    }
    assert found["next"] == "vreid train --resume runs/cars"
    told = vreid("info", "runs/cars")
    for words in ("epoch 3 of 30", "recipe strong", "imagenet", "3 vehicles in 40 images, 1 held out", "30.0"):
        assert words in told


def test_a_training_that_is_finished_leads_on_to_extract(vreid: Vreid) -> None:
    write_training(Path("my cars"), epoch=3, epochs=3)
    found = vreid.json("info", "my cars")
    assert found["training"]["complete"] is True
    weights = "'my cars/checkpoints/last.safetensors'"
    assert found["next"] == (
        f"vreid extract --run-dir 'my cars' --weights {weights} --dataset csv --data-dir '/my cars.csv'"
    )


# -- errors -------------------------------------------------------------------------------------------------


def test_no_run_and_no_run_directory(vreid: Vreid, tmp_path: Path) -> None:
    assert "vreid extract" in vreid.error("info")["hint"]
    (tmp_path / "empty").mkdir()
    error = vreid.error("info", "empty")
    assert (error["file"], "no run directory" in error["message"]) == ("empty", True)
    assert "is not there" in vreid.error("info", "nowhere")["message"]
    (tmp_path / "file").touch()
    assert "is no folder" in vreid.error("info", "file")["message"]
    assert "which one" in vreid.error("info", "one", "--run-dir", "two", code=2)["message"]


@pytest.mark.usefixtures("ready")
def test_a_narrow_terminal_cuts_off_no_number(vreid: Vreid, monkeypatch: pytest.MonkeyPatch) -> None:
    vreid("rank", "--metric", "minMED,meanMCD50")
    monkeypatch.setattr("vreid_cli.cli.output._WIDTH_OF_NO_TERMINAL", 40)
    for command in (("show", "0001_c001"), ("evaluate",)):
        lines = vreid(*command).splitlines()
        assert not [line for line in lines if "…" in line]
        assert max(len(line) for line in lines if "│" in line) <= 40


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal(
    vreid: Vreid, ready: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    vreid("rank", "--metric", "all")
    vreid("rank", "--definition", "released", "--cameras", "other", "--rerank")
    vreid("evaluate")
    monkeypatch.setattr("vreid_cli.cli.output._WIDTH_OF_NO_TERMINAL", width)
    table = [line for line in vreid("info", ready).splitlines() if "t2t-" in line and "vreid" not in line]
    assert len(table) >= 12
    assert max(map(len, (line.rstrip() for line in table))) <= width
