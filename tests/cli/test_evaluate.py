"""What ``vreid evaluate`` says beside the means, from the command line."""

from __future__ import annotations

import csv
import importlib.util
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny import Vreid


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
        assert result["intervals"]["draws"] == 200
        errors = result["same_vehicle_errors"]
        assert 0 <= errors["equal_error_rate"] <= 1
        assert set(errors["at_false_match_rate"]) == {"0.1", "0.01", "0.001", "0.0001"}
    best = max(report["results"], key=lambda result: result["mAP"])
    assert {comparison["against"] for comparison in report["comparisons"]} == {best["ranking"]}
    assert len(report["comparisons"]) == 2
    assert all(0 < comparison["p_value"] <= 1 for comparison in report["comparisons"])
    told = vreid("evaluate", "--set", "evaluate.resamples=200")
    for text in ("±", "mAP against", "Same vehicle if no farther than d", "vehicles drawn again"):
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
    error = vreid.json("evaluate", "--plot", "plot.png", code=2)["error"]
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


def test_what_is_doubtful_about_one_run_of_several_names_its_files(vreid: Vreid, ranked: Path, made: Path) -> None:
    data = ("--dataset", "tracks", "--data-dir", made / "data", "--arch", "resnet18", "--weights", "random")
    vreid("extract", *data, "--run-dir", "runs/random")
    vreid("rank", "--run-dir", "runs/random", "--metric", "minMED,RSCR,meanMCD50,medMED")
    (warning,) = vreid.json("evaluate", ranked, "runs/random")["warnings"]
    # t2t-minMED.parquet would be either's; the one that only one run has is told as short as before.
    first = "runs/random/rankings/t2t-RSCR.parquet, runs/random/rankings/t2t-meanMCD50.parquet, t2t-medMED.parquet"
    assert warning.startswith(f"{first} and 1 more: random weights")
    vreid("evaluate", ranked, "runs/random", "--plot", "plot.svg")
    names = {text for text in re.findall(r"<!-- (.*?) -->", Path("plot.svg").read_text()) if "minMED" in text}
    assert len({name.partition(" (equal")[0] for name in names}) == 2
