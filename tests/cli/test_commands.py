"""Every command as a person uses it: what it prints, writes and keeps."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from processes import in_process_of_its_own
from tiny import EXTRACT, TRACKS, Vreid, draw, draw_tracks, judge

import vreid_cli.workflows.evaluate as evaluate_module
from vreid_cli.errors import StoreError
from vreid_cli.store.features import FeatureStore
from vreid_cli.store.rankings import RANKING_SCHEMA

QUERIES = sorted(name.removeprefix("query/") for name in TRACKS if name.startswith("query/"))
GALLERY = sorted(name.removeprefix("gallery/") for name in TRACKS if name.startswith("gallery/"))
TRACK_METRICS = [
    *("minMED", "meanMED", "medMED", "meanMED50", "medMED50"),
    *("minMCD", "meanMCD", "medMCD", "meanMCD50", "medMCD50"),
    "RSCR",
]


def columns(path: Path) -> dict[str, list[object]]:
    """A ranking's rows, without its metadata."""
    table: dict[str, list[object]] = pq.read_table(path).to_pydict()
    assert list(table) == RANKING_SCHEMA.names
    return table


# -- one smoke test a command, as the console script runs it ----------------------------------------------------


def test_smoke_extract(made: Path, weights: Path, tmp_path: Path) -> None:
    done = in_process_of_its_own(*EXTRACT, "--data-dir", made / "data", "--weights", weights, "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["outputs"] == [
        f"runs/tracks-resnet18-tiny/features/{split}" for split in ("query", "gallery")
    ]


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


@pytest.mark.usefixtures("ready")
def test_smoke_rank_then_evaluate_then_show_then_export(tmp_path: Path) -> None:
    rank = in_process_of_its_own("rank", cwd=tmp_path)
    assert "4 queries against 7 gallery items" in rank.stdout
    assert "run: runs/tracks-resnet18-tiny (named by runs/latest)" in rank.stderr
    evaluate = in_process_of_its_own("evaluate", "--json", cwd=tmp_path)
    assert json.loads(evaluate.stdout)["results"][0]["total_queries"] == 4
    show = in_process_of_its_own("show", "0001_c001", cwd=tmp_path)
    assert "0001_c002" in show.stdout
    export = in_process_of_its_own("export", "features", "--format", "npz", cwd=tmp_path)
    assert "feat_query.npz" in export.stdout


def test_smoke_demo_settings(tmp_path: Path) -> None:
    done = in_process_of_its_own("demo", "--show-config", "--epochs", "3", cwd=tmp_path)
    assert "epochs = 3" in done.stdout


@pytest.mark.parametrize("arguments", [["--show-config"], ["--json", "--show-config"], ["--json", "--task", "x"]])
@pytest.mark.usefixtures("ready")
def test_a_reader_that_stops_reading_is_no_error(tmp_path: Path, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "vreid_cli", "rank", *arguments]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        told = process.stderr.read().decode()
    assert "Traceback" not in told
    assert "BrokenPipe" not in told


# -- extract ---------------------------------------------------------------------------------------------------


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
        (("--batch-size", "many"), "'many' is neither auto nor a whole number"),
        (("--workers", "-1"), "'-1' is neither auto nor a whole number"),
        (("--seed", "-1"), "Invalid value for '--seed'"),
        (("--dataset", "tracks", "--weights", "random"), "where are the query tracks?"),
        (("--arch", "resnet18"), "--arch resnet18: which weights?"),
        (("--colour",), "No such option: --colour"),
    ],
)
def test_extract_refuses_wrong_usage(vreid: Vreid, arguments: tuple[str, ...], message: str) -> None:
    error = vreid.json("extract", *arguments, code=2)["error"]
    assert message in error["message"]
    assert not Path("runs").exists()


# -- rank ------------------------------------------------------------------------------------------------------


def test_rank_lists_every_gallery_item_for_every_query(vreid: Vreid, ready: Path) -> None:
    told = vreid("rank")
    for words in (
        *("task t2t", "definition paper", "track unit passage", "all cameras"),
        "next: vreid evaluate, vreid show",
    ):
        assert words in told
    table = columns(ready / "rankings" / "t2t-meanMCD50.parquet")
    assert table["query_id"] == [query for query in QUERIES for _ in GALLERY]
    assert table["rank"] == list(range(1, 8)) * 4
    for start in range(0, 28, 7):
        assert sorted(map(str, table["gallery_id"][start : start + 7])) == GALLERY
        distances = np.array(table["distance"][start : start + 7])
        assert (np.diff(distances) >= 0).all()


def test_lists_may_be_repeated_comma_separated_and_spelt_as_the_authors_do(vreid: Vreid, ready: Path) -> None:
    report = vreid.json("rank", "--metric", "minmed, MEAN50MCD", "--metric", "medMED,minMED")
    assert [Path(output).stem for output in report["outputs"]] == ["t2t-minMED", "t2t-meanMCD50", "t2t-medMED"]


def test_all_metrics_of_each_task(vreid: Vreid, ready: Path) -> None:
    report = vreid.json("rank", "--metric", "all")
    assert [Path(output).stem for output in report["outputs"]] == [f"t2t-{metric}" for metric in TRACK_METRICS]
    for task in ("i2t", "i2i"):
        report = vreid.json("rank", "--task", task, "--metric", "all")
        assert [Path(output).stem for output in report["outputs"]] == [
            f"{task}-{metric}" for metric in ("MED", "MCD", "RSCR")
        ]


@pytest.mark.parametrize("task", ["i2t", "i2i"])
def test_single_images_are_ranked_by_mcd_unless_told_otherwise(vreid: Vreid, ready: Path, task: str) -> None:
    assert "10 queries" in vreid("rank", "--task", task)
    assert (ready / "rankings" / f"{task}-MCD.parquet").is_file()


@pytest.mark.usefixtures("ready")
def test_an_unknown_metric_is_offered_the_nearest(vreid: Vreid) -> None:
    error = vreid.error("rank", "--metric", "meanMCD5", code=2)
    assert error["message"] == "--metric meanMCD5: no metric of the task t2t"
    assert error["hint"].startswith("did you mean 'meanMCD50'?")
    assert "no metric of the task i2t" in vreid.error("rank", "--task", "i2t", "--metric", "minMCD", code=2)["message"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--task", "t2i"), "--task t2i: needs 't2t', 'i2t' or 'i2i'"),
        (("--task", "i2t", "--definition", "released"), "--definition released is about two tracks"),
        (("--task", "i2i", "--track-unit", "camera"), "--track-unit: the task i2i compares single images"),
        (("--metric", "all", "-o", "r.json"), "11 metrics need a folder"),
        (("-o", "r.csv"), "unknown ending '.csv'"),
        (("--top-k", "0"), "Invalid value for '--top-k'"),
        (("--device", "gpu"), "--device gpu: unknown device"),
        (("--query-features", "a.json", "--gallery-features", "b.json"), "where should the ranking go?"),
        (("--set", "rank.top_k=x"), '--set rank.top_k = "x": needs a whole number'),
        (("--set", "rank.topk=1"), "--set: unknown key 'rank.topk'"),
        (("--set", "top_k=1"), "--set top_k=1: not of the form section.key=VALUE"),
    ],
)
@pytest.mark.usefixtures("ready")
def test_rank_refuses_wrong_usage(vreid: Vreid, arguments: tuple[str, ...], message: str) -> None:
    error = vreid.json("rank", *arguments, code=2)["error"]
    assert message in error["message"]
    assert not list(Path("runs").glob("*/rankings/*"))


def test_a_ranking_made_otherwise_is_replaced_only_with_force(vreid: Vreid, ready: Path) -> None:
    path = ready / "rankings" / "t2t-meanMCD50.parquet"
    vreid("rank")
    vreid("rank")  # the same recipe may be made again
    before = path.read_bytes()
    error = vreid.error("rank", "--top-k", "2")
    assert "is there already and was made otherwise: its coverage is full, not positives" in error["message"]
    assert "--force" in error["hint"]
    assert path.read_bytes() == before
    assert "only the 2 nearest and the query's vehicle listed" in vreid("rank", "--top-k", "2", "--force")
    assert len(columns(path)["rank"]) < 28


def test_a_threshold_lists_what_is_near_and_the_querys_vehicle(vreid: Vreid, ready: Path) -> None:
    vreid("rank")
    path = ready / "rankings" / "t2t-meanMCD50.parquet"
    full = columns(path)
    limit = sorted(full["distance"])[len(full["distance"]) // 2]
    told = vreid("rank", "--threshold", str(limit), "--force")
    assert "only what is no farther than" in told
    assert "and the query's vehicle listed" in told
    rows = zip(
        *(full[name] for name in ("query_id", "rank", "distance", "query_vehicle", "gallery_vehicle")), strict=True
    )
    expected = [(query, rank) for query, rank, d, one, other in rows if d <= np.float32(limit) or one == other]
    cut = columns(path)
    assert list(zip(cut["query_id"], cut["rank"], strict=True)) == expected
    assert 0 < len(expected) < len(full["rank"])
    (result,) = vreid.json("evaluate")["results"]
    assert (result["coverage"], result["mAP"] is None) == ("positives", False)


def test_re_ranking_has_a_file_and_a_line_of_its_own(vreid: Vreid, ready: Path) -> None:
    vreid("rank", "--metric", "meanMCD50,RSCR")
    told = vreid("rank", "--rerank", "--set", "rank.k1=4", "--set", "rank.k2=2")
    assert "re-ranked (k1 4 k2 2 lambda_value 0.3)" in told
    assert (ready / "rankings" / "t2t-meanMCD50-rerank.parquet").is_file()
    results = vreid.json("evaluate")["results"]
    assert [(r["metric"], r["rerank"]) for r in results] == [
        ("RSCR", None),
        ("meanMCD50", {"k1": 4, "k2": 2, "lambda_value": 0.3}),
        ("meanMCD50", None),
    ]
    table = vreid("evaluate")
    assert "re-ranking" in table
    assert "RSCR, α 1" in table
    error = vreid.error("rank", "--rerank", "--set", "rank.k1=5")
    assert "its rerank is another" in error["message"]
    error = vreid.json("rank", "--set", "rank.k1=4", code=2)["error"]
    assert "only --rerank uses it" in error["message"]


def test_outputs_elsewhere_are_named_in_what_to_do_next(vreid: Vreid, ready: Path) -> None:
    told = vreid("rank", "-o", "out dir/r é.json")
    assert "vreid evaluate 'out dir/r é.json', vreid show --ranking 'out dir/r é.json'" in told
    assert "vreid evaluate all, vreid show" in vreid("rank", "--metric", "all", "-o", "all")
    assert len(list(Path("all").iterdir())) == 11
    Path("elsewhere").mkdir()
    shutil.move(ready, Path("elsewhere") / "moved run")
    assert "vreid evaluate --run-dir 'elsewhere/moved run'" in vreid("rank", "--run-dir", "elsewhere/moved run")


def test_other_cameras_are_ranked_without_what_the_query_saw_itself(vreid: Vreid, ready: Path) -> None:
    vreid("rank", "--cameras", "other")
    table = columns(ready / "rankings" / "t2t-meanMCD50.parquet")
    assert all(q != g for q, g in zip(table["query_camera"], table["gallery_camera"], strict=True))
    vreid("evaluate", "--same-camera", "keep")
    assert "never ranked" in vreid.err


# -- evaluate --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("ready")
def test_the_table_says_by_which_rules_it_was_counted(vreid: Vreid) -> None:
    vreid("rank", "--metric", "minMED,meanMCD50")
    told = " ".join(vreid("evaluate", "--ap", "trapezoid", "--ranks", "1,3").split())
    for words in (
        *("dataset tracks", "task t2t", "track unit passage", "definition paper", "weights tiny.safetensors"),
        *("AP rule trapezoid", "--same-camera drop", "scores in %", "rank-3", "4/4", "minMED", "meanMCD50"),
    ):
        assert words in told
    assert "--same-camera keep" in " ".join(vreid("evaluate", "--same-camera", "keep").split())


def test_evaluate_prints_and_keeps_the_object_of_the_contract(vreid: Vreid, ready: Path) -> None:
    vreid("rank")
    report = vreid.json("evaluate", "--ranks", "5", "--ranks", "1,500")
    result = report["results"][0]
    assert result.items() >= {
        "dataset": "tracks", "task": "t2t", "metric": "meanMCD50", "definition": "paper", "track_unit": "passage",
        "ap_rule": "rectangle", "same_camera": "drop", "valid_queries": 4, "total_queries": 4,
        "positives": 4, "junk": 2,
    }.items()  # fmt: skip
    assert list(result["cmc"]) == ["1", "5", "500"]
    assert 0 < result["mAP"] <= 1
    assert 0 < result["mINP"] <= 1
    kept = json.loads((ready / "evaluations" / "t2t-meanMCD50.json").read_text())
    assert kept == {"schema": 1, "results": [result]}


@pytest.mark.parametrize("same_camera", ["drop", "keep"])
@pytest.mark.parametrize("ap", ["rectangle", "trapezoid"])
@pytest.mark.usefixtures("ready")
def test_json_and_parquet_of_one_ranking_are_worth_the_same(vreid: Vreid, same_camera: str, ap: str) -> None:
    vreid("rank", "-o", "r.json")
    vreid("rank", "-o", "r.parquet")
    results = vreid.json("evaluate", "r.json", "r.parquet", "--same-camera", same_camera, "--ap", ap)["results"]
    first, second = ({**result, "ranking": None} for result in results)
    assert first == second


@pytest.mark.usefixtures("ready")
def test_a_folder_stands_for_its_rankings_and_twins_are_told_apart_by_file(vreid: Vreid) -> None:
    vreid("rank", "-o", "out/a.json")
    vreid("rank", "-o", "out/b.parquet")
    assert list(judge(vreid.json("evaluate", "out")["results"])) == ["a.json", "b.parquet"]
    told = vreid("evaluate", "out")
    assert "out/a.json" in told
    assert "out/b.parquet" in told


def test_a_run_that_cannot_be_written_to_can_still_be_evaluated(
    vreid: Vreid, ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vreid("rank")

    def refuse(path: Path, value: object) -> None:
        raise StoreError(f"{path} cannot be written: Permission denied")

    monkeypatch.setattr(evaluate_module, "write_json", refuse)
    report = vreid.json("evaluate")
    assert len(report["results"]) == 1
    assert report["warnings"] == [f"{ready}/evaluations/t2t-meanMCD50.json cannot be written: Permission denied"]


def test_without_labels_there_are_lists_but_no_scores(vreid: Vreid, weights: Path) -> None:
    draw_tracks(Path("data"), {"query/red car": 2, "query/van": 1, "gallery/a": 2, "gallery/b": 1})
    vreid(*EXTRACT, "--data-dir", "data", "--weights", weights)
    vreid("rank", "--top-k", "1")
    report = vreid.json("evaluate")
    result = report["results"][0]
    assert (result["mAP"], result["mINP"], result["valid_queries"], result["total_queries"]) == (None, None, 0, 2)
    assert result["coverage"] == "top-k"
    assert any("unlabelled" in warning and "--label-pattern" in warning for warning in report["warnings"])
    told = vreid("show")
    assert "red car" in told
    assert "same vehicle" not in told
    assert "only the 1 nearest listed" in told
    vreid("show", "-o", "sheet.png")
    error = vreid.error("rank", "--track-unit", "camera", "-o", "r.json")
    assert "track unit 'camera' is undefined" in error["message"]


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


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("nowhere.json",), 1, "nowhere.json"),
        (("nowhere.parquet",), 1, "there is no ranking nowhere.parquet"),
        (("nowhere.txt",), 1, "nowhere.txt is no ranking that is known"),
        (("--ap", "square"), 2, "--ap square: needs 'rectangle' or 'trapezoid'"),
        (("--ranks", "1,x"), 2, "--ranks 1,x: 'x' is no whole number"),
        (("--ranks", "0"), 2, "--ranks 0: needs at least 1"),
        (("--ranks", ""), 2, "--ranks '' names nothing"),
        (("--same-camera", "leave"), 2, "--same-camera leave: needs 'drop' or 'keep'"),
        ((), 1, "there are no rankings in runs/tracks-resnet18-tiny"),
    ],
)
@pytest.mark.usefixtures("ready")
def test_evaluate_refuses(vreid: Vreid, arguments: tuple[str, ...], code: int, message: str) -> None:
    assert message in vreid.json("evaluate", *arguments, code=code)["error"]["message"]


# -- show ------------------------------------------------------------------------------------------------------


def test_show_lists_the_nearest_and_says_how_they_were_counted(vreid: Vreid, ready: Path) -> None:
    vreid("rank")
    told = vreid("show", "--top", "2")
    assert all(query in told for query in QUERIES)
    for words in (
        *("meanMCD50", "dataset tracks", "task t2t", "definition paper", "track unit passage"),
        "--same-camera drop",
    ):
        assert words in told
    nearest = {entry["query_id"]: entry["nearest"] for entry in vreid.json("show", "--top", "9")["queries"]}
    # The query's own vehicle before its own camera is junk, and ranks are counted without it.
    assert "0001_c001_again" not in [item["gallery_id"] for item in nearest["0001_c001"]]
    assert [item["rank"] for item in nearest["0001_c001"]] == list(range(1, 7))
    kept = vreid.json("show", "0001_c001", "--top", "9", "--same-camera", "keep")["queries"][0]["nearest"]
    assert "0001_c001_again" in [item["gallery_id"] for item in kept]
    assert "ranking: runs/tracks-resnet18-tiny/rankings/t2t-meanMCD50.parquet" in vreid.err


@pytest.mark.usefixtures("ready")
def test_show_finds_queries_by_name_and_by_pattern(vreid: Vreid) -> None:
    vreid("rank")

    def shown(*names: str) -> list[str]:
        return [entry["query_id"] for entry in vreid.json("show", *names)["queries"]]

    assert shown("*_c001") == ["0001_c001", "0003_c001"]
    assert shown("0003_c001", "000?_c001") == ["0003_c001", "0001_c001"]
    error = vreid.error("show", "0001_c01", code=2)
    assert error["message"].endswith("has no query '0001_c01'")
    assert error["hint"].startswith("did you mean '0001_c001'?")
    told = vreid("show", "--set", "show.max_queries=3")
    assert "1 more query" in told
    assert QUERIES[3] not in told


def test_show_takes_the_default_ranking_else_the_only_one_else_asks(vreid: Vreid, ready: Path) -> None:
    assert vreid.error("show")["message"] == f"{ready} has no rankings yet"
    vreid("rank", "--metric", "minMED")
    assert vreid.json("show")["ranking"] == f"{ready}/rankings/t2t-minMED.parquet"
    vreid("rank", "--metric", "medMED")
    error = vreid.error("show")
    assert "several rankings" in error["message"]
    assert "t2t-medMED.parquet" in error["hint"]
    vreid("rank")
    assert vreid.json("show")["ranking"] == f"{ready}/rankings/t2t-meanMCD50.parquet"


@pytest.mark.parametrize("task", ["t2t", "i2t", "i2i"])
@pytest.mark.usefixtures("ready")
def test_a_sheet_holds_the_very_images(vreid: Vreid, made: Path, task: str) -> None:
    metric = "meanMCD50" if task == "t2t" else "MCD"
    vreid("rank", "--task", task)
    report = vreid.json("show", "--ranking", f"runs/tracks-resnet18-tiny/rankings/{task}-{metric}.parquet",
                        "0003_c001*", "--top", "3", "-o", "sheets/sheet.png")  # fmt: skip
    assert report["outputs"] == ["sheets/sheet.png"]
    assert report["warnings"] == []
    sheet = np.asarray(Image.open("sheets/sheet.png").convert("RGB")).reshape(-1, 3)
    # The vehicle's own colour lies on the sheet, as the mean of its body does in the image.
    body = np.asarray(Image.open(made / "data/query/0003_c001/0.png"))[8:24, 6:30].reshape(-1, 3).mean(axis=0)
    assert (np.abs(sheet - body).max(axis=1) < 12).sum() > 500


def test_a_sheet_of_images_that_moved_says_how_to_find_them_again(vreid: Vreid, ready: Path, made: Path) -> None:
    shutil.copytree(made / "data", "data")
    vreid("extract", "--run-dir", ready, "--data-dir", "data")
    vreid("rank")
    Path("data").rename("moved")
    error = vreid.error("show", "-o", "sheet.png")
    assert "are not at" in error["message"]
    assert "--data-dir" in error["hint"]
    assert "nothing to compute" in vreid("extract", "--run-dir", ready, "--data-dir", "moved")
    vreid("show", "-o", "sheet.png")


def test_a_sheet_shows_the_images_of_the_rankings_own_run(
    vreid: Vreid, ready: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vreid("rank")
    shutil.copy(ready / "rankings/t2t-meanMCD50.parquet", "copy.parquet")
    draw_tracks(Path("other"), {"query/0007_c001": 1, "gallery/0008_c002": 1})
    vreid(*EXTRACT, "--data-dir", "other", "--weights", weights, "--run-dir", "newer")
    vreid("show", "--ranking", ready / "rankings/t2t-meanMCD50.parquet", "-o", "sheet.png")
    assert "newer" not in vreid.err
    error = vreid.error("show", "--ranking", "copy.parquet", "-o", "sheet.png")
    assert error["message"].startswith("nothing that copy.parquet names is in newer/features/query")
    vreid("show", "--ranking", "copy.parquet", "-o", "sheet.png", "--run-dir", ready)
    monkeypatch.chdir(ready / "rankings")
    vreid("show", "--ranking", "t2t-meanMCD50.parquet", "-o", "sheet.png")
    Path("../../latest").unlink()
    assert "lies in no run" in vreid.error("show", "--ranking", "../../../copy.parquet", "-o", "s.png")["message"]


@pytest.mark.usefixtures("ready")
def test_show_refuses_what_it_cannot_show(vreid: Vreid) -> None:
    vreid("rank")
    assert "not as '.pdf'" in vreid.json("show", "-o", "x.pdf", code=2)["error"]["message"]
    assert "--top" in vreid.json("show", "--top", "0", code=2)["error"]["message"]


def test_names_are_shown_as_they_are(vreid: Vreid, weights: Path) -> None:
    names = ["[bold]x[", ":car:", "-x", "mes véhicules 車"]
    draw_tracks(Path("data"), {**{f"query/{name}": 1 for name in names}, "gallery/a[/b]": 1})
    vreid(*EXTRACT, "--data-dir", "data", "--weights", weights)
    vreid("rank")
    told = vreid("show")
    assert all(name in told for name in [*names, "a[/b]"])
    assert "-x" in vreid("show", "--", "-x")
    vreid("show", "-o", "[red]sheet.png")
    assert "[red]sheet.png" in vreid.out


# -- export ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "npz"])
@pytest.mark.parametrize("unit", ["passage", "camera"])
def test_what_is_exported_ranks_as_the_run_itself(vreid: Vreid, ready: Path, form: str, unit: str) -> None:
    vreid("rank", "--metric", "all", "--track-unit", unit, "-o", "own")
    outputs = vreid.json("export", "features", "--format", form, "--track-unit", unit)["outputs"]
    assert outputs == [f"{ready}/exports/feat_{side}.{form}" for side in ("query", "test")]
    # The export has grouped the images by the unit already: its tracks are the run's items.
    vreid("rank", "--query-features", outputs[0], "--gallery-features", outputs[1], "--metric", "all", "-o", "again")
    for metric in TRACK_METRICS:
        suffix = "-camera" if unit == "camera" else ""
        own = columns(Path(f"own/t2t-{metric}{suffix}.parquet"))
        again = columns(Path(f"again/t2t-{metric}.parquet"))
        distances = [np.array(table.pop("distance")) for table in (own, again)]
        np.testing.assert_allclose(*distances, rtol=1e-6, atol=1e-7)
        assert own == again


def test_an_export_replaces_nothing_without_force(vreid: Vreid, ready: Path) -> None:
    vreid("export", "features", "-o", "out")
    error = vreid.error("export", "features", "-o", "out")
    assert "out/feat_query.json is there already" in error["message"]
    vreid("export", "features", "-o", "out", "--force")
    error = vreid.error("export", "features", "--format", "xml", code=2)
    assert error["message"] == "--format xml: needs 'json' or 'npz'"


@pytest.mark.shared
def test_the_real_sample_goes_all_the_way(vreid: Vreid, weights: Path, shared: Path) -> None:
    run = ("--run-dir", "run")
    vreid(*EXTRACT, "--data-dir", shared / "reference/image_sample", "--weights", weights, *run)
    vreid("rank", *run)
    result = vreid.json("evaluate", *run)["results"][0]
    assert (result["valid_queries"], result["total_queries"], result["positives"], result["junk"]) == (4, 4, 4, 0)
    assert vreid.json("show", *run, "-o", "sheet.png")["warnings"] == []
    assert Image.open("sheet.png").width > 600


@pytest.mark.shared
def test_the_released_features_are_ranked_without_a_run(vreid: Vreid, shared: Path) -> None:
    features = [shared / "reference" / f"feat_{side}.json" for side in ("query", "test")]
    sides = ("--query-features", features[0], "--test-features", features[1])
    vreid("rank", *sides, "--metric", "meanMCD50", "--definition", "released", "--output", "r.json")
    assert vreid.err == ""
    told = vreid("evaluate", "r.json")
    assert re.search(r"meanMCD50 +│ +100\.0 ±0\.0 │ 100\.0 │ +100\.0 .* 4/4", told)
    for words in ("definition released", "dataset unknown", "track unit passage"):
        assert words in " ".join(told.split())
    assert sorted(path.name for path in Path().iterdir()) == ["r.json"]


# -- which run -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["rank"], ["evaluate"], ["show"], ["export", "features"]])
def test_without_a_run_the_hint_says_how_to_make_one(vreid: Vreid, command: list[str]) -> None:
    error = vreid.error(*command)
    assert error["message"] == "there is no run to work on: neither --run-dir nor runs/latest names one"
    assert "vreid extract" in error["hint"]
    assert "is no run directory" in vreid.error(*command, "--run-dir", "nowhere")["message"]
    assert list(Path().iterdir()) == []


def test_a_run_that_is_gone_is_said_to_be_gone(vreid: Vreid, ready: Path) -> None:
    shutil.rmtree(ready)
    error = vreid.error("rank")
    assert error["message"] == "there is no run to work on: the run that runs/latest names is gone"
    assert error["file"] == "runs/latest"


def test_a_run_can_be_moved_and_used_from_elsewhere(
    vreid: Vreid, ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vreid("rank")
    shutil.move("runs", "größere läufe")
    run = Path("größere läufe") / ready.name
    assert vreid.json("evaluate", "--run-dir", run)["results"][0]["valid_queries"] == 4
    vreid("rank", "--run-dir", (tmp_path / run).resolve(), "--task", "i2t")
    monkeypatch.chdir(run)
    assert len(vreid.json("evaluate", "--run-dir", ".")["results"]) == 2
    assert "0001_c002" in vreid("show", "--run-dir", ".", "-o", "sheet.png") + vreid("show", "--run-dir", ".")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"schema": 1, "da', "is not valid JSON"),
        ("[]", "holds a list, not an object"),
        ('{"dataset": 3}', "data.dataset = 3: needs text in quotes"),
    ],
)
def test_a_damaged_run_file_is_named_and_can_be_mended(
    vreid: Vreid, ready: Path, made: Path, weights: Path, content: str, message: str
) -> None:
    (ready / "run.json").write_text(content)
    error = vreid.error("rank")
    assert message in error["message"]
    assert error["file"] == str(ready / "run.json")
    (ready / "run.json").unlink()
    assert vreid(*EXTRACT, "--data-dir", made / "data", "--weights", weights).count("nothing to compute") == 2
    vreid("rank")


def test_random_weights_without_a_seed_in_the_run_file_do_no_harm(vreid: Vreid, ready: Path) -> None:
    (ready / "run.json").write_text('{"weights": "random"}')
    vreid("rank")


def test_a_damaged_store_or_ranking_is_named(vreid: Vreid, ready: Path) -> None:
    vreid("rank")
    ranking = ready / "rankings" / "t2t-meanMCD50.parquet"
    ranking.write_bytes(ranking.read_bytes()[:400])
    for command in (["evaluate"], ["show"]):
        assert vreid.error(*command)["file"] == str(ranking)
    assert "it is no readable ranking" in vreid.error("rank")["message"]
    vreid("rank", "--force")
    part = ready / "features/query/part-00000.arrow"
    whole = part.read_bytes()
    part.write_bytes(whole[: len(whole) // 2])
    assert vreid.error("rank")["file"] == str(part)
    part.write_bytes(whole)
    (ready / "features/query/complete.json").write_text("{")
    assert vreid.error("rank")["file"] == str(ready / "features/query/complete.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "data.dataset=veri"), "--set data.dataset 'veri'"),
        (("--set", "data.data_dir=elsewhere"), "--set data.data_dir 'elsewhere'"),
        (("--set", "model.arch=vgg16"), "--set model.arch 'vgg16'"),
        (("--config", "veri-t2t"), "veri-t2t.toml: data.dataset 'veri'"),
    ],
)
def test_a_setting_that_contradicts_the_run_is_refused(
    vreid: Vreid, ready: Path, arguments: tuple[str, ...], message: str
) -> None:
    error = vreid.error("rank", *arguments)
    assert message in error["message"]
    assert f"the run {ready} was made with" in error["message"]


# -- settings, streams -----------------------------------------------------------------------------------------


def test_each_setting_says_where_it_came_from(vreid: Vreid, ready: Path, made: Path, weights: Path) -> None:
    Path("vreid.toml").write_text('[rank]\ntask = "i2t"\ntop_k = 9\ncameras = "other"\n')
    shown = vreid.json("rank", "--show-config", "--set", "rank.top_k=8", "--definition", "paper")
    assert shown["config"]["rank"]["task"] == "i2t"
    assert shown["config"]["rank"]["top_k"] == 8
    assert shown["config"]["data"]["data_dir"] == str(made / "data")
    sources = shown["sources"]
    assert (
        sources.items()
        >= {
            "rank.task": "vreid.toml",
            "rank.top_k": "--set",
            "rank.definition": "command line",
            "rank.metric": "default",
            "model.weights": f"{ready}/run.json",
        }.items()
    )
    Path("other.toml").write_text("[run]\nseed = 5\n")
    sources = vreid.json("rank", "--show-config", "--config", "other.toml")["sources"]
    assert (sources["run.seed"], sources["rank.task"]) == ("other.toml", "default")
    sources = vreid.json("extract", "--show-config", "--config", "own-tracks")["sources"]
    assert sources["model.weights"].endswith("own-tracks.toml")
    # It can be saved and used as it is.
    Path("saved.toml").write_text(vreid("rank", "--show-config"))
    saved = vreid.json("rank", "--show-config", "--config", "saved.toml")["config"]
    assert saved == vreid.json("rank", "--show-config")["config"]
    assert not (ready / "rankings").exists()


@pytest.mark.usefixtures("ready")
def test_a_file_is_strict_and_its_errors_name_it(vreid: Vreid) -> None:
    Path("vreid.toml").write_text("[rank]\ntop_k = true\n")
    error = vreid.error("rank")
    assert error["message"] == "vreid.toml: rank.top_k = true: needs a whole number"
    assert error["file"] == "vreid.toml"
    Path("vreid.toml").write_text("[rank]\nmetrics = []\n")
    assert "did you mean 'metric'?" in vreid.error("rank")["hint"]
    assert "there is no preset 'veri'" in vreid.error("rank", "--config", "veri")["message"]
    assert "there is no configuration file" in vreid.error("rank", "--config", "a/b")["message"]


def test_quiet_says_nothing_but_the_result_and_verbose_says_more(vreid: Vreid, ready: Path, made: Path) -> None:
    again = ("extract", "--run-dir", ready)
    vreid(*again)
    usual = vreid.err
    vreid(*again, "--quiet")
    assert vreid.err == ""
    assert "nothing to compute" in vreid.out
    vreid(*again, "--verbose")
    assert len(vreid.err) > len(usual)


def test_wrong_usage_as_json_is_one_object_too(vreid: Vreid) -> None:
    for arguments in (["rnk"], ["rank", "--foo"], [], ["rank", "--top-k"], ["rank", "surplus"], ["export", "feature"]):
        assert vreid.json(*arguments, code=2)["error"]["message"]


def test_a_terminal_without_the_letters_loses_nothing(vreid: Vreid, weights: Path, tmp_path: Path) -> None:
    draw_tracks(Path("data"), {"query/車": 1, "gallery/über": 1})
    vreid(*EXTRACT, "--data-dir", "data", "--weights", weights)
    vreid("rank")
    command = [sys.executable, "-m", "vreid_cli", "show"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for more in ([], ["--json"]):
        done = subprocess.run([*command, *more], cwd=tmp_path, env=environment, capture_output=True, check=True)
        assert b"\\u8eca" in done.stdout
    assert json.loads(done.stdout)["queries"][0]["query_id"] == "車"


def test_a_single_image_is_a_track_of_its_own(vreid: Vreid, weights: Path) -> None:
    draw(Path("data/query/0001_c001/a.jpg"), hue=1)
    draw(Path("data/gallery/0001_c002/a.jpg"), hue=1)
    vreid(*EXTRACT, "--data-dir", "data", "--weights", weights)
    vreid("rank")
    assert vreid.json("evaluate")["results"][0]["mAP"] == 1
