"""``vreid evaluate`` and ``vreid.evaluate`` find the same numbers and the same warnings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import Vreid

import vreid_cli as vreid
from vreid_cli.reports.evaluation_json import evaluation_json
from vreid_cli.store.formats import write_ranking


@pytest.fixture(name="run")
def command(vreid: Vreid) -> Vreid:
    """The command line, under a name that leaves ``vreid`` to the library."""
    return vreid


def by_command(run: Vreid, path: Path, *arguments: str) -> tuple[dict[str, Any], list[str]]:
    report = run.json("evaluate", path, *arguments)
    (result,) = report["results"]
    return result, report["warnings"]


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((), {}),
        (
            ("--same-camera", "keep", "--ap", "trapezoid", "--ranks", "1,3", "--by", "camera,length"),
            {"same_camera": "keep", "ap": "trapezoid", "ranks": (1, 3), "by": ("camera", "length")},
        ),
        (("--set", "evaluate.without_positive=zero"), {"without_positive": "zero"}),
    ],
)
@pytest.mark.parametrize("recipe", [(), ("--top-k", "1"), ("--cameras", "other")])
def test_evaluate(
    run: Vreid, ready: Path, arguments: tuple[str, ...], options: dict[str, Any], recipe: tuple[str, ...]
) -> None:
    run("rank", *recipe)
    path = ready / "rankings" / "t2t-meanMCD50.parquet"
    expected, warnings = by_command(run, path, *arguments)
    ranking = vreid.read_ranking(path)
    found = vreid.evaluate(ranking, vreid.EvaluationOptions(**options))
    assert evaluation_json(str(path), found) == expected
    assert list(found.warnings) == warnings


def test_what_can_never_be_found_is_said_both_ways(run: Vreid, ready: Path) -> None:
    tracks = vreid.FeatureSet.from_arrays(np.eye(3), track_id=["0001_c001", "0002_c001", "0003_c002"])
    (memory,) = vreid.rank(tracks, tracks).values()
    path = Path("r.json")
    with write_ranking(path, memory.facts, queries=memory.queries, gallery=memory.gallery) as write:
        for block in memory.blocks:
            write(block)
    _, warnings = by_command(run, path)
    for ranking in (memory, vreid.read_ranking(path)):
        assert list(vreid.evaluate(ranking).warnings) == warnings
    (warning,) = warnings
    assert "The queries are unlabelled" in warning


def test_compare(run: Vreid, ready: Path) -> None:
    run("rank", "--metric", "meanMCD50,minMED")
    paths = [ready / "rankings" / f"t2t-{metric}.parquet" for metric in ("minMED", "meanMCD50")]
    (expected,) = run.json("evaluate", *paths, "--seed", "3")["comparisons"]
    against, other = (vreid.evaluate(vreid.read_ranking(path), seed=3) for path in paths)
    found = vreid.compare(other, against)
    assert found is not None
    assert found.interval is not None
    assert (found.difference, found.p_value) == (expected["difference"], expected["p_value"])
    assert [found.interval.low, found.interval.high] == expected["interval"]
