"""``vreid extract``: what it prints, writes and keeps."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from tiny import EXTRACT, Vreid, draw_tracks

from vreid_cli.store.features import FeatureStore


def test_extract_says_where_the_time_went(vreid: Vreid, made: Path, weights: Path) -> None:
    arguments = (*EXTRACT, "--data-dir", made / "data", "--weights", weights, "--split", "gallery")
    told = vreid(*arguments, "--workers", "1")
    seconds = r"\d+\.\d s"
    assert re.search(
        rf"\d+\.\d images per second: {seconds} waiting for images, {seconds} computing, {seconds} writing "
        rf"\({seconds} of decoding in 1 worker\); {seconds} in all\n",
        told,
    )
    split = vreid.json(*arguments, "--restart", "--workers", "0")["splits"]["gallery"]
    assert (split["images"], split["computed"], split["skipped"], split["workers"]) == (15, 15, 0, 0)
    seconds = split["seconds"]
    assert set(seconds) == {"wait", "compute", "write", "decode"}
    assert all(value > 0 for value in seconds.values())
    assert seconds["decode"] <= seconds["wait"]  # which it is part of, where no worker does it
    assert "images per second" not in vreid(*arguments)
    assert vreid.json(*arguments)["splits"]["gallery"]["seconds"] == dict.fromkeys(seconds, 0.0)


def test_extract_writes_a_run_that_says_what_made_it(vreid: Vreid, made: Path, weights: Path) -> None:
    told = vreid(*EXTRACT, "--data-dir", made / "data", "--weights", weights)
    assert "query: 10 images in 4 tracks, 10 computed now" in told
    assert "gallery: 15 images in 7 tracks, 15 computed now" in told
    run = Path("runs/tracks-resnet18-tiny")
    assert Path("runs/latest").read_text().strip() == run.name
    info = json.loads((run / "run.json").read_text())
    assert (info["dataset"], info["architecture"], info["data_dir"]) == ("tracks", "resnet18", str(made / "data"))
    assert info["weights"] == str(weights)
    assert len(info["weights_digest"]) == 64
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [entry["exit_code"] for entry in history] == [0]


def test_extract_again_computes_nothing_and_changes_no_feature(
    vreid: Vreid, ready: Path, made: Path, weights: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in ready.glob("features/*/*")}
    told = vreid(*EXTRACT, "--data-dir", made / "data", "--weights", weights)
    assert told.count("nothing to compute") == 2
    assert {path: path.stat().st_mtime_ns for path in ready.glob("features/*/*")} == before


def test_extract_computes_only_what_is_new(vreid: Vreid, made: Path, ready: Path, weights: Path) -> None:
    shutil.copytree(made / "data", "data")
    vreid(*EXTRACT, "--data-dir", "data", "--weights", weights)
    assert f"{ready}: its data_dir was {made / 'data'}" in vreid.err
    draw_tracks(Path("data"), {"gallery/0005_c001": 2})
    told = vreid("extract", "--run-dir", ready)
    assert "query: 10 images in 4 tracks, nothing to compute" in told
    assert "gallery: 17 images in 8 tracks, 2 computed now" in told


@pytest.mark.slow
def test_random_weights_are_said_to_mean_nothing_everywhere(vreid: Vreid, made: Path) -> None:
    report = vreid.json(*EXTRACT, "--data-dir", made / "data", "--weights", "random", "--split", "query,gallery")
    assert any("mean nothing" in warning for warning in report["warnings"])
    for command in (["rank"], ["evaluate"], ["show"], ["show", "-o", "sheet.png"], ["export", "features"]):
        vreid(*command)
        assert vreid.err.count("mean nothing") == 1, command
    assert "mean nothing" in (Path("runs/tracks-resnet18-random/run.json")).read_text()


def test_one_split_alone_can_be_extracted_but_not_ranked(vreid: Vreid, made: Path, weights: Path) -> None:
    report = vreid.json(*EXTRACT, "--data-dir", made / "data", "--weights", weights, "--split", "test")
    assert [Path(output).name for output in report["outputs"]] == ["gallery"]
    error = vreid.error("rank")
    assert "there are no features in runs/tracks-resnet18-tiny/features/query" in error["message"]
    assert error["hint"] == "make them with vreid extract"


def test_the_command_that_extracts_the_other_side_works_as_printed(vreid: Vreid, made: Path, weights: Path) -> None:
    said = vreid(
        *EXTRACT, "--data-dir", made / "data", "--weights", weights, "--split", "gallery", "--run-dir", "a run"
    )
    assert said.splitlines()[-1] == "or:   vreid associate"
    command = next(line.removeprefix("next: vreid ") for line in said.splitlines() if line.startswith("next: "))
    assert vreid(*shlex.split(command)).splitlines()[-1] == "next: vreid rank"
    vreid("rank", "--run-dir", "a run")


def test_an_interruption_keeps_finished_parts_and_the_same_command_goes_on(
    vreid: Vreid, made: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (*EXTRACT, "--data-dir", made / "data", "--weights", weights, "--set", "extract.part_images=2")
    write_part = FeatureStore.write_part

    def interrupted(store: FeatureStore, part: int, *args: object, **kwargs: object) -> None:
        if part == 2:
            raise KeyboardInterrupt
        write_part(store, part, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(FeatureStore, "write_part", interrupted)
    vreid(*command, code=130)
    assert "interrupted; what was finished is kept" in vreid.err
    query = Path("runs/tracks-resnet18-tiny/features/query")
    assert sorted(path.name for path in query.glob("*.arrow")) == ["part-00000.arrow", "part-00001.arrow"]
    assert not (query / "complete.json").exists()
    # The next command speaks of this run, not of an older one.
    assert "not complete" in vreid.error("rank")["message"]
    monkeypatch.setattr(FeatureStore, "write_part", write_part)
    finished = {path: path.stat().st_mtime_ns for path in query.glob("*.arrow")}
    assert "query: 10 images in 4 tracks, 4 computed now" in vreid(*command)
    assert finished.items() <= {path: path.stat().st_mtime_ns for path in query.glob("*.arrow")}.items()


def test_another_network_needs_restart_or_another_run(vreid: Vreid, made: Path, ready: Path) -> None:
    again = (*EXTRACT, "--data-dir", made / "data", "--run-dir", ready, "--weights", "random")
    error = vreid.error(*again)
    assert "another weights_digest" in error["message"]
    assert "--restart" in error["hint"]
    assert "10 computed now" in vreid(*again, "--restart")


def test_folders_of_tracks_are_not_for_veri(vreid: Vreid) -> None:
    error = vreid.error("extract", "--query-dir", "x", code=2)
    assert error["message"] == "--query-dir: the layout veri has folders of its own"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--dataset", "vri"), "--dataset vri: needs 'veri', 'vehicleid', 'veri-wild', "),
        (("--arch", "resnet19", "--dataset", "tracks"), "--arch resnet19: needs 'densenet201', 'resnet18'"),
        (("--split", "gallry"), "--split gallry: needs 'query', 'gallery' or 'train'"),
        (("--split", ","), "--split ',' names nothing"),
        (("--batch-size", "0"), "--batch-size 0: needs 'auto' or at least 1"),
        (("--batch-size", "many"), "--batch-size many: needs 'auto' or a whole number"),
        (("--workers", "-1"), "--workers -1: needs 'auto' or at least 0"),
        (("--seed", "-1"), "--seed -1: needs at least 0"),
        (("--dataset", "tracks", "--weights", "random"), "where are the query tracks?"),
        (("--arch", "resnet18"), "--arch resnet18: which weights?"),
        (("--colour",), "No such option: --colour"),
        (("--data-dir", ""), "--data-dir '' names nothing"),
        (("--weights", "random", "--arch", "resnet18", "--per-track", "3"), "--per-track: only --dataset mot uses it"),
    ],
)
def test_extract_refuses_wrong_usage(vreid: Vreid, arguments: tuple[str, ...], message: str) -> None:
    error = vreid.json("extract", *arguments, code=2)["error"]
    assert message in error["message"]
    assert not Path("runs").exists()


def test_labels_come_from_extract_and_a_pattern_that_would_do_nothing_is_refused(vreid: Vreid, weights: Path) -> None:
    draw_tracks(Path("data"), {"query/car7-cam1": 1, "gallery/car7-cam2": 1, "gallery/car8-cam2": 1})
    command = (*EXTRACT, "--data-dir", "data", "--weights", weights)
    pattern = ("--label-pattern", r"(?P<vehicle>car\d)-(?P<camera>cam\d)")
    vreid(*command)
    error = vreid.error("rank", *pattern)
    assert error["message"].startswith("--label-pattern '(?P<vehicle>car")
    assert "vreid extract" in error["hint"]
    assert vreid(*command, *pattern).count("nothing to compute") == 2
    vreid("rank")
    assert vreid.json("evaluate")["results"][0]["valid_queries"] == 1
