"""The paper's table: what stands in one grid, what does not, and what networks and rankings are called."""

from __future__ import annotations

import io
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lists import write_to
from rich.console import Console
from rich.table import Table
from tiny import Vreid, read_grid

import vreid_cli
from vreid_cli.evaluation.comparison import Comparison
from vreid_cli.evaluation.evaluate import Evaluation, Intervals
from vreid_cli.evaluation.options import EvaluationOptions
from vreid_cli.evaluation.scores import QueryScores
from vreid_cli.evaluation.thresholds import ErrorCurve
from vreid_cli.ranking.metrics import metric_order
from vreid_cli.reports.grids import grid_tables, make_grids, why_no_grid
from vreid_cli.reports.names import enumerate_some, names_of, network_labels
from vreid_cli.reports.tables import comparison_tables, error_table, evaluation_table
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.rankings import RankingFacts

NETWORKS = ("densenet201", "resnet18", "alexnet", "vgg16", "inception_v3")
TITLE = "Track to track: metrics by networks"


def row(
    network: str | None = "resnet18",
    metric: str | None = "minMED",
    mean_ap: float | None = 0.5,
    *,
    path: str | None = None,
    **more: Any,
) -> tuple[str, Evaluation]:
    """An evaluation and the path of its ranking; what is not said is usual."""
    task = more.get("task", "t2t")
    digest = more.pop("digest", f"{network}00112233")
    identity = {"architecture": network, "weights_digest": digest, "precision": "fp32", "backend": "torch"}
    usual = {
        **{"dataset": "veri", "task": task, "metric": metric, "definition": "paper", "track_unit": "passage"},
        **{"query_source": "gallery", "gallery_size": 2021, "weights": "last.safetensors"},
        **{"alpha": 1.0 if metric == "RSCR" else None, "gallery_identity": identity if network else None},
    }
    declared = RankingFacts.declared()
    facts = RankingFacts(**{**usual, **{name: value for name, value in more.items() if name in declared}})
    counts = {"valid_queries": 1677, "total_queries": 1678, "positives": 90, "junk": 9}
    given = {name: value for name, value in more.items() if name not in declared}
    curve = ErrorCurve(
        *(np.array(column) for column in ([0.2, 0.4], [0.1, 1.0], [0.1, 0.0])),
        positives=10,
        negatives=10,
        positive_counts=np.array([9, 1]),
        negative_counts=np.array([1, 9]),
    )
    cmc = {rank: None if mean_ap is None else mean_ap + gain for rank, gain in ((1, 0.05), (5, 0.06), (10, 0.07))}
    found = Evaluation(
        **{"mean_ap": mean_ap, "mean_inp": mean_ap, "cmc": cmc, "unlabelled_queries": 0},
        **{"facts": facts, "options": EvaluationOptions(), "seed": 0, "curve": curve},
        queries=QueryScores.joined([]),
        intervals=Intervals(200, None, None, {}),
        **{**counts, **given},
    )
    return path or f"runs/paper-{network}/rankings/{task}-{metric}.parquet", found


def shown(tables: Table | Iterable[Table], *, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    for table in [tables] if isinstance(tables, Table) else tables:
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def whole(networks: Sequence[str] = NETWORKS) -> dict[str, Evaluation]:
    """Every ranking of the paper's grid, each with a score of its own."""
    names = [("i2t", "MED"), ("i2t", "MCD"), ("i2t", "RSCR")]
    names += [("t2t", metric) for metric in metric_order() if metric not in ("MED", "MCD")]
    return dict(
        row(network, metric, 0.3 + 0.1 * column + 0.001 * line, task=task)
        for column, network in enumerate(networks)
        for line, (task, metric) in enumerate(names)
    )


# -- what stands where -----------------------------------------------------------------------------------------


def test_rows_are_metrics_in_the_papers_order_and_columns_networks_as_they_come() -> None:
    results = dict(
        sorted(whole().items(), key=lambda item: (NETWORKS.index(item[1].facts.architecture or ""), item[0]))
    )
    first, second = make_grids(results)[0]
    assert first.metrics == ("MED", "MCD", "RSCR, α 1")
    assert second.metrics == (
        *("minMED", "meanMED", "medMED", "meanMED50", "medMED50"),
        *("minMCD", "meanMCD", "medMCD", "meanMCD50", "medMCD50", "RSCR, α 1"),
    )
    grid = read_grid(shown(grid_tables(results)), TITLE)
    assert tuple(dict.fromkeys(network for *_, network in grid)) == NETWORKS
    assert tuple(dict.fromkeys(score for score, *_ in grid)) == ("mAP", "rank-1", "rank-5")


def test_every_cell_is_its_own_rankings_score_in_whatever_order_they_come() -> None:
    items = list(whole().items())
    random.Random(3).shuffle(items)
    results = dict(items)
    told = shown(grid_tables(results))
    for title, task in ((TITLE, "t2t"), ("Image to track", "i2t")):
        grid = {place: cell.removesuffix("*") for place, cell in read_grid(told, title).items()}
        own = [one for one in results.values() if one.facts.task == task]
        assert len(grid) == 3 * len(own)
        for one in own:
            metric = str(one.facts.metric) + (", α 1" if one.facts.metric == "RSCR" else "")
            scores = (one.mean_ap, one.cmc[1], one.cmc[5])
            for head, score in zip(("mAP", "rank-1", "rank-5"), scores, strict=True):
                assert score is not None
                assert grid[head, metric, one.facts.architecture] == f"{100 * score:.1f}"


def test_the_best_metric_of_each_network_is_marked_and_ties_are_all_best() -> None:
    rows = [
        *(row("resnet18", metric, score) for metric, score in (("minMED", 0.5), ("meanMED", 0.5), ("medMED", 0.4999))),
        *(row("vgg16", metric, score) for metric, score in (("minMED", 0.2), ("meanMED", None))),
    ]
    grid = read_grid(shown(grid_tables(dict(rows))), TITLE)
    assert [grid["mAP", metric, "resnet18"] for metric in ("minMED", "meanMED", "medMED")] == ["50.0*", "50.0*", "50.0"]
    # Of one score there is no best; what was never ranked, or is refused, is a dash.
    assert [grid["mAP", metric, "vgg16"] for metric in ("minMED", "meanMED", "medMED")] == ["20.0", "-", "-"]


@pytest.mark.parametrize(
    "other",
    [
        {"definition": "released"},
        {"rerank": {"k1": 20, "k2": 6, "lambda_value": 0.3}},
        {"threshold": 0.2, "coverage": "positives"},
        {"coverage": "top-k"},
        {"cameras": "other"},
        {"track_unit": "camera"},
        {"dataset": "vric"},
        {"gallery_size": 11579},
        {"valid_queries": 1670},
        {"positives": 89},
        {"junk": 8},
        {"ground_truth": "gt_index.txt and jk_index.txt"},
        {"trial": 0, "trial_seed": 0},
        {"network": None},
        {"metric": None},
    ],
)
def test_what_was_made_or_counted_otherwise_is_left_out_and_named(other: dict[str, Any]) -> None:
    results = dict([row("resnet18"), row("vgg16"), row(**{"network": "alexnet", **other})])
    grids, left = make_grids(results)
    assert list(grids[0].cells.values()) == list(results)[:2]
    assert left == list(results)[2:]
    told = " ".join(shown(grid_tables(results)).split())
    assert f"in no grid: {names_of(results)[left[0]]}" in told


def test_two_ways_of_ranking_that_several_networks_share_make_two_grids() -> None:
    rerank = {"k1": 20.0, "k2": 6.0, "lambda_value": 0.3}
    results = dict(
        row(network, rerank=way, path=f"{network}-{bool(way)}.parquet")
        for way in (None, rerank)
        for network in ("resnet18", "vgg16")
    )
    first, second = (" ".join(shown(table).split()) for table in grid_tables(results))
    assert "re-ranking" not in first
    assert "re-ranking k1 20, k2 6, lambda_value 0.3" in second
    for told in (first, second):
        for fact in ("dataset veri", "task t2t", "track unit passage", "definition paper", "AP rule rectangle"):
            assert fact in told
        assert "--same-camera drop" in told
        assert "valid queries 1,677 of 1,678" in told


def test_another_alpha_is_another_row_and_a_duplicate_takes_no_cell() -> None:
    rows = [row("resnet18", "RSCR", 0.4), row("vgg16", "RSCR", 0.3)]
    rows += [row("vgg16", "RSCR", 0.2, alpha=0.5, path="other.parquet"), row("vgg16", "RSCR", 0.9, path="copy.parquet")]
    results = dict(rows)
    (grid,), left = make_grids(results)
    assert grid.metrics == ("RSCR, α 0.5", "RSCR, α 1")
    assert left == ["copy.parquet"]
    assert "90.0" not in shown(grid_tables(results))


def test_one_network_makes_no_grid() -> None:
    assert list(grid_tables(whole(["resnet18"]))) == []
    assert list(grid_tables({})) == []


def test_where_no_two_networks_were_counted_alike_it_is_said_why() -> None:
    told = why_no_grid(dict([row("resnet18"), row("vgg16", positives=89)]))
    assert told is not None
    assert told.endswith(": resnet18 minMED and vgg16 minMED differ in positives: 90 and 89")
    for rows in ([row()], [row(), row(positives=89, path="other")], [row(), row("vgg16", "MED", task="i2t")]):
        assert why_no_grid(dict(rows)) is None
    assert why_no_grid(whole()) is None


# -- names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("results", "labels"),
    [
        ([row("resnet18"), row("vgg16")], [("resnet18",), ("vgg16",)]),
        (
            [row("resnet18"), row("vgg16", weights="imagenet")],
            [("resnet18", "last.safetensors"), ("vgg16", "imagenet")],
        ),
        (
            [row(digest="aaaaaaaaaa", weights="imagenet"), row(digest="bbbbbbbbbb", weights="mine.pth")],
            [("resnet18", "imagenet"), ("resnet18", "mine.pth")],
        ),
        ([row(digest="aaaaaaaaaa"), row(digest="bbbbbbbbbb")], [("resnet18", "aaaaaaaa"), ("resnet18", "bbbbbbbb")]),
        ([row(), row(weights="renamed.safetensors")], [("resnet18",)]),  # the same weights under two names
    ],
)
def test_networks_are_told_apart_by_as_much_as_it_takes(
    results: list[tuple[str, Evaluation]], labels: list[tuple[str, ...]]
) -> None:
    assert list(network_labels(one.facts for _, one in results).values()) == labels


def test_rankings_of_several_networks_never_share_a_name() -> None:
    results = whole()
    names = names_of(results)
    assert len(set(names.values())) == len(results)
    assert names["runs/paper-vgg16/rankings/t2t-minMED.parquet"] == "vgg16 minMED"
    assert names["runs/paper-vgg16/rankings/t2t-RSCR.parquet"] == "vgg16 t2t-RSCR"  # i2t has one too
    alone = names_of(whole(["vgg16"]))
    assert alone["runs/paper-vgg16/rankings/t2t-minMED.parquet"] == "minMED"
    alike = dict([row(path="a/t2t-minMED.parquet"), row(path="b/t2t-minMED.parquet")])
    assert names_of(alike) == {path: path for path in alike}


def test_of_many_names_the_first_are_told() -> None:
    assert enumerate_some(["a", "b", "c"]) == "a, b, c"
    assert enumerate_some(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


# -- tables that people can read -------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_tables_of_the_whole_grid_fit_the_terminal_and_lose_no_name(width: int) -> None:
    results = whole()
    grids = shown(grid_tables(results), width=width)
    scores = shown(evaluation_table(results, width=width), width=width)
    for told in (grids, scores):
        assert max(map(len, told.splitlines())) <= width
        assert "…" not in told
    for name in (*NETWORKS, "meanMCD50", "RSCR, α 1"):
        assert name in grids
        assert name in scores
    assert "rank-5" in scores
    assert ("rank-10" in scores.splitlines()[1]) == (width >= 100)
    # What there is no room for is not dropped in silence.
    assert ("no room for mINP, rank-10 (--json holds all)" in " ".join(scores.split())) == (width < 100)


def test_of_many_comparisons_those_of_the_network_or_the_metric_are_shown() -> None:
    results = {path: one for path, one in whole().items() if one.facts.task == "t2t"}
    against = "runs/paper-vgg16/rankings/t2t-meanMCD50.parquet"
    comparisons = {path: Comparison(0.01, None, 0.5, 9, 3) for path in results if path != against}
    told = shown(comparison_tables({against: comparisons}, results))
    rows = [line.split("│")[1].strip() for line in told.splitlines() if line.startswith("│")]
    expected = {f"{network} meanMCD50" for network in NETWORKS} | {
        name for path, name in names_of(results).items() if "paper-vgg16" in path
    }
    assert set(rows) == expected - {"vgg16 meanMCD50"}
    assert "14 of 54" in told
    few = shown(comparison_tables({against: dict(list(comparisons.items())[:5])}, results))
    assert sum(line.startswith("│") for line in few.splitlines()) == 5
    assert " of 5" not in few


def test_of_many_thresholds_those_around_the_best_of_each_task_are_shown() -> None:
    table = error_table(whole())
    assert table is not None
    told = shown(table)
    rows = [line.split("│")[1].strip() for line in told.splitlines() if line.startswith("│")]
    assert len(rows) == (3 + 4) + (11 + 4)
    assert all(name.startswith("inception_v3") or "RSCR" in name for name in rows)  # whole() makes these the best
    assert "22 of 70" in told


# -- from features ---------------------------------------------------------------------------------------------

VEHICLES, CAMERAS, IMAGES, WIDTH = 6, 3, 2, 5


def made_by(network: str, rng: np.random.Generator) -> FeatureSet:
    """Random features of tracks, two images each, as a network would have left them."""
    tracks = [(f"{v:04d}", f"c{c:03d}") for v in range(VEHICLES) for c in range(CAMERAS)]
    images = [pair for pair in tracks for _ in range(IMAGES)]
    features = FeatureSet.from_arrays(
        rng.normal(size=(len(images), WIDTH)).astype(np.float32),
        track_id=[f"{vehicle}_{camera}" for vehicle, camera in images],
        vehicle_id=[vehicle for vehicle, _ in images],
        camera_id=[camera for _, camera in images],
    )
    identity = {"architecture": network, "weights_digest": network}
    return replace(features, identity=identity, dataset="veri", weights=f"{network}.pth")


def mean_ap_by_hand(query: np.ndarray, gallery: np.ndarray, metric: str) -> float:
    """A query at a time: the nearest image of each track, junk left out, mean precision at the positives."""
    if metric == "MCD":
        query, gallery = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, gallery))
    labels = [(v, c) for v in range(VEHICLES) for c in range(CAMERAS)]
    precisions = []
    for index, one in enumerate(query.astype(np.float64)):
        vehicle, camera = labels[index // IMAGES]
        near = [
            min(
                float(((one - other) ** 2).sum()) for other in gallery[IMAGES * t : IMAGES * (t + 1)].astype(np.float64)
            )
            for t in range(len(labels))
        ]
        ranked = [labels[t][0] == vehicle for t in np.argsort(near) if labels[t] != (vehicle, camera)]
        hits = np.flatnonzero(ranked)
        precisions.append(np.mean([(k + 1) / (place + 1) for k, place in enumerate(hits)]))
    return float(np.mean(precisions))


def test_cells_are_what_a_count_by_hand_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    vreid = Vreid(capsys)
    expected, folders = {}, []
    for seed, network in enumerate(("vgg16", "resnet18")):
        rng = np.random.default_rng(seed)
        query, gallery = made_by(network, rng), made_by(network, rng)
        rankings = vreid_cli.rank(query, gallery, vreid_cli.RankingOptions(task="i2t", metric=("MCD", "MED")))
        folders.append(folder := Path(network))
        for metric, ranking in rankings.items():
            path = folder / f"i2t-{metric}.parquet"
            write_to(path, ranking)
            sides = [side.matrix.take(np.arange(len(side))) for side in (query, gallery)]
            expected[metric, f"{network} {network}.pth"] = mean_ap_by_hand(sides[0], sides[1], metric)
    grid = read_grid(vreid("evaluate", *folders), "Image to track")
    found = {
        (metric, network): cell.removesuffix("*") for (score, metric, network), cell in grid.items() if score == "mAP"
    }
    assert found == {place: f"{100 * mean:.1f}" for place, mean in expected.items()}
    assert len(set(found.values())) == 4
    # The first of the alphabet was named by nobody: the best is what all are compared with.
    comparisons = vreid.json("evaluate", *folders)["comparisons"]
    best = max(vreid.json("evaluate", *folders)["results"], key=lambda result: result["mAP"])
    assert {one["against"] for one in comparisons} == {best["ranking"]}
    # A ranking that is named first is compared with, and is not there twice.
    report = vreid.json("evaluate", "vgg16/i2t-MED.parquet", *folders)
    assert len(report["results"]) == 4
    assert {one["against"] for one in report["comparisons"]} == {"vgg16/i2t-MED.parquet"}
