"""``vreid evaluate``: its tables, its JSON, and what it writes."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny import EXTRACT, Vreid, draw, draw_tracks, judge

import vreid_cli.workflows.evaluate as evaluate_module
from vreid_cli.errors import StoreError


@pytest.fixture
def ranked(vreid: Vreid, ready: Path) -> Path:
    """A run with three rankings."""
    vreid("rank", "--metric", "meanMCD50,minMED,RSCR")
    return ready


def test_intervals_comparisons_and_thresholds_are_told(vreid: Vreid, ranked: Path) -> None:
    report = vreid.json("evaluate", "--set", "evaluate.resamples=200")
    for result in report["results"]:
        low, high = result["intervals"]["mAP"]
        assert low <= result["mAP"] <= high
        assert result["intervals"]["resamples"] == 200
        errors = result["same_vehicle_errors"]
        assert 0 <= errors["equal_error_rate"] <= 1
        assert set(errors["at_false_match_rate"]) == {"0.1", "0.01", "0.001", "0.0001"}
    best = max(report["results"], key=lambda result: result["mAP"])
    assert {comparison["against"] for comparison in report["comparisons"]} == {best["ranking"]}
    assert len(report["comparisons"]) == 2
    assert all(0 < comparison["p_value"] <= 1 for comparison in report["comparisons"])
    told = vreid("evaluate", "--set", "evaluate.resamples=200")
    for text in ("±", "mAP against", "Same vehicle if no farther than d", "vehicles resampled"):
        assert text in told


def test_every_table_says_how_it_was_counted(vreid: Vreid, ranked: Path) -> None:
    told = " ".join(vreid("evaluate", "--by", "camera,length").split())
    tables = told.count("┏")
    assert tables == 1 + 2 * 3 + 2  # scores, two breakdowns of each ranking, comparisons, thresholds
    for fact in ("dataset tracks", "task t2t", "track unit passage", "definition paper", "AP rule rectangle"):
        assert told.count(fact) == tables, fact
    assert told.count("--same-camera drop") == tables
    assert told.count("valid/total") + told.count("valid queries ") >= tables


def test_rankings_that_are_named_are_compared_with_the_first(vreid: Vreid, ranked: Path) -> None:
    names = [str(ranked / "rankings" / f"t2t-{metric}.parquet") for metric in ("minMED", "meanMCD50")]
    (comparison,) = vreid.json("evaluate", *names)["comparisons"]
    assert (comparison["against"], comparison["ranking"]) == tuple(names)
    one, other = (result["mAP"] for result in vreid.json("evaluate", *names)["results"])
    assert comparison["difference"] == pytest.approx(other - one)
    assert comparison == vreid.json("evaluate", *names)["comparisons"][0]  # seeded
    again = vreid.json("evaluate", *names, "--seed", "7")["comparisons"][0]
    assert again["difference"] == comparison["difference"]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_scores_of_each_query_as_a_table(vreid: Vreid, ranked: Path, ending: str) -> None:
    path = Path(f"queries.{ending}")
    report = vreid.json("evaluate", "--per-query", path)
    assert str(path) in report["outputs"]
    rows: list[dict[str, Any]]
    if ending == "csv":
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    else:
        rows = pq.read_table(path).to_pylist()
    for result in report["results"]:
        own = [row for row in rows if row["ranking"] == result["ranking"]]
        assert len(own) == result["total_queries"]
        valid = [float(row["average_precision"]) for row in own if row["average_precision"] not in (None, "")]
        assert len(valid) == result["valid_queries"]
        assert sum(valid) / len(valid) == pytest.approx(result["mAP"])
        assert sum(int(row["positives"]) for row in own) == result["positives"]


def test_parts_by_camera_and_by_length(vreid: Vreid, ranked: Path) -> None:
    path = ranked / "rankings" / "t2t-minMED.parquet"
    (result,) = vreid.json("evaluate", path, "--by", "camera,length")["results"]
    assert {(part["query_camera"], part["gallery_camera"]) for part in result["by_camera"]}
    assert sum(part["queries"] for part in result["by_length"]) == result["valid_queries"]
    mean = sum(part["mAP"] * part["queries"] for part in result["by_length"]) / result["valid_queries"]
    assert mean == pytest.approx(result["mAP"])
    told = vreid("evaluate", path, "--by", "camera", "--by", "length")
    assert "minMED by camera" in told
    assert "minMED by length" in told
    (plain,) = vreid.json("evaluate", path)["results"]
    assert (plain["by_camera"], plain["by_length"]) == (None, None)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_a_plot(vreid: Vreid, ranked: Path, ending: str) -> None:
    path = Path(f"plot.{ending}")
    assert str(path) in vreid.json("evaluate", "--plot", path)["outputs"]
    head = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[ending]
    assert path.read_bytes().startswith(head)
    if ending == "png":
        with Image.open(path) as image:
            assert min(image.size) > 600


def test_a_plot_of_many_rankings_shows_the_best_and_says_so(vreid: Vreid, ready: Path) -> None:
    for task in ("t2t", "i2t", "i2i"):
        vreid("rank", "--task", task, "--metric", "all")
    report = vreid.json("evaluate", "--plot", "plot.svg")
    assert report["warnings"] == ["plot.svg shows the 14 best of 17 rankings: name those to show"]
    shown = set(re.findall(r"<!-- (\S+?)(?:, α 1)? \(equal errors", Path("plot.svg").read_text()))
    assert len(shown) == 14
    # Names are metrics, or files where tasks share a metric.
    scores = [
        (name in shown, result["mAP"]) for result in report["results"] for name in _names_of(result) & shown or [""]
    ]
    assert min(score for kept, score in scores if kept) >= max(score for kept, score in scores if not kept)


def _names_of(result: dict[str, Any]) -> set[str]:
    return {result["metric"], Path(result["ranking"]).stem}


def test_a_plot_of_cut_lists_has_nothing_to_draw_and_says_so(vreid: Vreid, ready: Path) -> None:
    vreid("rank", "--top-k", "1")
    vreid("evaluate", "--plot", "plot.png")
    assert Path("plot.png").is_file()


def test_without_matplotlib_the_error_names_what_to_install(
    vreid: Vreid, ranked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr("vreid_cli.runtime.extras.find_spec", lambda name: None if name == "matplotlib" else real(name))
    error = vreid.json("evaluate", "--plot", "plot.png", code=1)["error"]
    assert error["message"] == "--plot needs matplotlib, which is not installed"
    assert 'pip install "vreid[plot]"' in error["hint"]
    assert 'pip install -e ".[plot]"' in error["hint"]
    assert vreid.json("evaluate")["results"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--plot", "p.gif"), "unknown ending '.gif'"),
        (("--per-query", "q.xlsx"), "unknown ending '.xlsx'"),
        (("--by", "colour"), "needs"),
        (("--set", "evaluate.resamples=3"), "at least 100"),
        (("--set", "evaluate.without_positive=maybe"), "'skip' or 'zero'"),
    ],
)
def test_wrong_usage_is_refused_before_any_work(
    vreid: Vreid, ranked: Path, option: tuple[str, str], message: str
) -> None:
    error = vreid.json("evaluate", *option, code=2)["error"]
    assert message in error["message"]
    assert not list((ranked / "evaluations").glob("*"))


def test_queries_without_a_positive_can_count_as_nothing(vreid: Vreid, ranked: Path) -> None:
    path = ranked / "rankings" / "t2t-minMED.parquet"
    (skip,) = vreid.json("evaluate", path)["results"]
    (zero,) = vreid.json("evaluate", path, "--set", "evaluate.without_positive=zero")["results"]
    assert (skip["without_positive"], zero["without_positive"]) == ("skip", "zero")
    assert zero["valid_queries"] == skip["valid_queries"]
    share = skip["valid_queries"] / skip["total_queries"]
    assert zero["mAP"] == pytest.approx(skip["mAP"] * share)
    assert "over all labelled queries" in " ".join(
        vreid("evaluate", path, "--set", "evaluate.without_positive=zero").split()
    )


@pytest.mark.slow
def test_what_is_doubtful_about_one_run_of_several_names_its_files(vreid: Vreid, ranked: Path, made: Path) -> None:
    data = ("--dataset", "tracks", "--data-dir", made / "data", "--arch", "resnet18", "--weights", "random")
    vreid("extract", *data, "--run-dir", "runs/random")
    vreid("rank", "--run-dir", "runs/random", "--metric", "minMED,RSCR,meanMCD50,medMED")
    (warning,) = vreid.json("evaluate", ranked, "runs/random")["warnings"]
    # t2t-minMED.parquet would be either's; the one that only one run has keeps its short name.
    first = "runs/random/rankings/t2t-RSCR.parquet, runs/random/rankings/t2t-meanMCD50.parquet, t2t-medMED.parquet"
    assert warning.startswith(f"{first} and 1 more: random weights")
    vreid("evaluate", ranked, "runs/random", "--plot", "plot.svg")
    names = {text for text in re.findall(r"<!-- (.*?) -->", Path("plot.svg").read_text()) if "minMED" in text}
    assert len({name.partition(" (equal")[0] for name in names}) == 2


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
    assert "lists only the 1 nearest" in told
    vreid("show", "-o", "sheet.png")
    error = vreid.error("rank", "--track-unit", "camera", "-o", "r.json")
    assert "track unit 'camera' is undefined" in error["message"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("nowhere.json",), 1, "nowhere.json"),
        (("nowhere.parquet",), 1, "there is no ranking nowhere.parquet"),
        (("nowhere.txt",), 1, "nowhere.txt is no ranking that is known"),
        (("--ap", "square"), 2, "--ap square: needs 'rectangle' or 'trapezoid'"),
        (("--ranks", "1,x"), 2, "--ranks x: needs a whole number"),
        (("--ranks", "0"), 2, "--ranks 0: needs at least 1"),
        (("--ranks", ""), 2, "--ranks '' names nothing"),
        (("--same-camera", "leave"), 2, "--same-camera leave: needs 'drop' or 'keep'"),
        ((), 1, "there are no rankings in runs/tracks-resnet18-tiny"),
    ],
)
@pytest.mark.usefixtures("ready")
def test_evaluate_refuses(vreid: Vreid, arguments: tuple[str, ...], code: int, message: str) -> None:
    assert message in vreid.json("evaluate", *arguments, code=code)["error"]["message"]


def test_a_single_image_is_a_track_of_its_own(vreid: Vreid, weights: Path) -> None:
    draw(Path("data/query/0001_c001/a.jpg"), hue=1)
    draw(Path("data/gallery/0001_c002/a.jpg"), hue=1)
    vreid(*EXTRACT, "--data-dir", "data", "--weights", weights)
    vreid("rank")
    assert vreid.json("evaluate")["results"][0]["mAP"] == 1
