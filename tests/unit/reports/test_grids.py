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
from rich.console import Console
from rich.table import Table
from tiny import Vreid, read_grid

import vreid_cli
from vreid_cli.ranking.metrics import metric_order
from vreid_cli.reports.grids import grid_tables, make_grids, why_no_grid
from vreid_cli.reports.names import enumerate_some, network_labels, ranking_names
from vreid_cli.reports.tables import comparison_tables, error_table, evaluation_table
from vreid_cli.store.rankings import write_ranking
from vreid_cli.types.features import FeatureSet

NETWORKS = ("densenet201", "resnet18", "alexnet", "vgg16", "inception_v3")
TITLE = "Track to track: metrics by networks"


def row(network: str = "resnet18", metric: str = "minMED", mean_ap: float | None = 0.5, **more: Any) -> dict[str, Any]:
    """One result as ``--json`` prints it; what is not said is usual."""
    task = more.get("task", "t2t")
    digest = more.pop("digest", f"{network}00112233")
    identity = {"architecture": network, "weights_digest": digest, "precision": "fp32", "backend": "torch"}
    cmc = {rank: None if mean_ap is None else mean_ap + gain for rank, gain in (("1", 0.05), ("5", 0.06), ("10", 0.07))}
    curve = {"equal_error_rate": 0.1, "equal_error_threshold": 0.2, "at_false_match_rate": {"0.01": None}}
    return {
        "ranking": f"runs/paper-{network}/rankings/{task}-{metric}.parquet",
        **{"dataset": "veri", "task": task, "metric": metric, "definition": "paper", "track_unit": "passage"},
        **{"query_source": "gallery", "coverage": "full", "cameras": "all", "threshold": None, "rerank": None},
        **{"ap_rule": "rectangle", "same_camera": "drop", "without_positive": "skip", "ground_truth": "labels"},
        **{"mAP": mean_ap, "mINP": mean_ap, "cmc": cmc},
        **{"valid_queries": 1677, "total_queries": 1678, "positives": 90, "junk": 9, "gallery_size": 2021},
        **{"weights": "last.safetensors", "architecture": network, "identity": identity},
        **{"alpha": 1.0 if metric == "RSCR" else None, "trial": None, "trial_seed": None},
        **{"intervals": {"vehicles": 200, "mAP": None}, "same_vehicle_errors": curve},
        **more,
    }


def shown(tables: Table | Iterable[Table], *, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    for table in [tables] if isinstance(tables, Table) else tables:
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def whole(networks: Sequence[str] = NETWORKS) -> list[dict[str, Any]]:
    """Every ranking of the paper's grid, each with a score of its own."""
    names = [("i2t", "MED"), ("i2t", "MCD"), ("i2t", "RSCR")]
    names += [("t2t", metric) for metric in metric_order() if metric not in ("MED", "MCD")]
    return [
        row(network, metric, 0.3 + 0.1 * column + 0.001 * line, task=task)
        for column, network in enumerate(networks)
        for line, (task, metric) in enumerate(names)
    ]


# -- what stands where -----------------------------------------------------------------------------------------


def test_rows_are_metrics_in_the_papers_order_and_columns_networks_as_they_come() -> None:
    results = whole()
    results.sort(key=lambda result: (NETWORKS.index(result["architecture"]), result["ranking"]))
    first, second = make_grids(results, metric_order())[0]
    assert first.metrics == ("MED", "MCD", "RSCR, α 1")
    assert second.metrics == (
        *("minMED", "meanMED", "medMED", "meanMED50", "medMED50"),
        *("minMCD", "meanMCD", "medMCD", "meanMCD50", "medMCD50", "RSCR, α 1"),
    )
    grid = read_grid(shown(grid_tables(results, metric_order())), TITLE)
    assert tuple(dict.fromkeys(network for *_, network in grid)) == NETWORKS
    assert tuple(dict.fromkeys(score for score, *_ in grid)) == ("mAP", "rank-1", "rank-5")


def test_every_cell_is_its_own_rankings_score_in_whatever_order_they_come() -> None:
    results = whole()
    random.Random(3).shuffle(results)
    told = shown(grid_tables(results, metric_order()))
    for title, task in ((TITLE, "t2t"), ("Image to track", "i2t")):
        grid = {place: cell.removesuffix("*") for place, cell in read_grid(told, title).items()}
        own = [result for result in results if result["task"] == task]
        assert len(grid) == 3 * len(own)
        for result in own:
            metric = result["metric"] + (", α 1" if result["metric"] == "RSCR" else "")
            scores = (result["mAP"], result["cmc"]["1"], result["cmc"]["5"])
            for head, score in zip(("mAP", "rank-1", "rank-5"), scores, strict=True):
                assert grid[head, metric, result["architecture"]] == f"{100 * score:.1f}"


def test_the_best_metric_of_each_network_is_marked_and_ties_are_all_best() -> None:
    results = [
        *(row("resnet18", metric, score) for metric, score in (("minMED", 0.5), ("meanMED", 0.5), ("medMED", 0.4999))),
        *(row("vgg16", metric, score) for metric, score in (("minMED", 0.2), ("meanMED", None))),
    ]
    grid = read_grid(shown(grid_tables(results, metric_order())), TITLE)
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
        {"architecture": None, "identity": None},
        {"metric": None},
    ],
)
def test_what_was_made_or_counted_otherwise_is_left_out_and_named(other: dict[str, Any]) -> None:
    results = [row("resnet18"), row("vgg16"), row("alexnet", **other)]
    grids, left = make_grids(results, metric_order())
    assert [result["architecture"] for result in grids[0].cells.values()] == ["resnet18", "vgg16"]
    assert left == results[2:]
    told = " ".join(shown(grid_tables(results, metric_order())).split())
    assert f"in no grid: {ranking_names(results)[results[2]['ranking']]}" in told


def test_two_ways_of_ranking_that_several_networks_share_make_two_grids() -> None:
    rerank = {"k1": 20.0, "k2": 6.0, "lambda_value": 0.3}
    results = [row(network, rerank=way) for way in (None, rerank) for network in ("resnet18", "vgg16")]
    first, second = (" ".join(shown(table).split()) for table in grid_tables(results, metric_order()))
    assert "re-ranking" not in first
    assert "re-ranking k1 20, k2 6, lambda_value 0.3" in second
    for told in (first, second):
        for fact in ("dataset veri", "task t2t", "track unit passage", "definition paper", "AP rule rectangle"):
            assert fact in told
        assert "--same-camera drop" in told
        assert "valid queries 1,677 of 1,678" in told


def test_another_alpha_is_another_row_and_a_twin_takes_no_cell() -> None:
    results = [row("resnet18", "RSCR", 0.4), row("vgg16", "RSCR", 0.3), row("vgg16", "RSCR", 0.2, alpha=0.5)]
    twin = row("vgg16", "RSCR", 0.9, ranking="copy.parquet")
    (grid,), left = make_grids([*results, twin], metric_order())
    assert grid.metrics == ("RSCR, α 0.5", "RSCR, α 1")
    assert left == [twin]
    assert "90.0" not in shown(grid_tables([*results, twin], metric_order()))


def test_one_network_makes_no_grid() -> None:
    assert list(grid_tables(whole(["resnet18"]), metric_order())) == []
    assert list(grid_tables([], metric_order())) == []


def test_where_no_two_networks_were_counted_alike_it_is_said_why() -> None:
    results = [row("resnet18"), row("vgg16", positives=89)]
    told = why_no_grid(results, metric_order())
    assert told is not None
    assert told.endswith(": resnet18 minMED and vgg16 minMED differ in positives: 90 and 89")
    for nothing in (whole(), [row()], [row(), row(positives=89)], [row(), row("vgg16", "MED", task="i2t")]):
        assert why_no_grid(nothing, metric_order()) is None


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
    results: list[dict[str, Any]], labels: list[tuple[str, ...]]
) -> None:
    assert list(network_labels(results).values()) == labels


def test_rankings_of_several_networks_never_share_a_name() -> None:
    results = whole()
    names = ranking_names(results)
    assert len(set(names.values())) == len(results)
    assert names["runs/paper-vgg16/rankings/t2t-minMED.parquet"] == "vgg16 minMED"
    assert names["runs/paper-vgg16/rankings/t2t-RSCR.parquet"] == "vgg16 t2t-RSCR"  # i2t has one too
    alone = ranking_names(whole(["vgg16"]))
    assert alone["runs/paper-vgg16/rankings/t2t-minMED.parquet"] == "minMED"
    twins = [row(ranking="a/t2t-minMED.parquet"), row(ranking="b/t2t-minMED.parquet")]
    assert ranking_names(twins) == {result["ranking"]: result["ranking"] for result in twins}


def test_of_many_names_the_first_are_told() -> None:
    assert enumerate_some(["a", "b", "c"]) == "a, b, c"
    assert enumerate_some(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


# -- tables that people can read -------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_tables_of_the_whole_grid_fit_the_terminal_and_lose_no_name(width: int) -> None:
    results = whole()
    grids = shown(grid_tables(results, metric_order()), width=width)
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
    results = [result for result in whole() if result["task"] == "t2t"]
    against = next(r for r in results if (r["architecture"], r["metric"]) == ("vgg16", "meanMCD50"))
    comparisons = [
        {
            **{"ranking": result["ranking"], "against": against["ranking"], "difference": 0.01, "interval": None},
            **{"p_value": 0.5, "queries": 9, "vehicles": 3},
        }
        for result in results
        if result is not against
    ]
    told = shown(comparison_tables(comparisons, results))
    rows = [line.split("│")[1].strip() for line in told.splitlines() if line.startswith("│")]
    expected = {f"{network} meanMCD50" for network in NETWORKS} | {
        name for path, name in ranking_names(results).items() if "paper-vgg16" in path
    }
    assert set(rows) == expected - {"vgg16 meanMCD50"}
    assert "14 of 54" in told
    few = shown(comparison_tables(comparisons[:5], results))
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
            with write_ranking(path, ranking.facts, queries=ranking.queries, gallery=ranking.gallery) as writer:
                for block in ranking.blocks:
                    writer.append(block)
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
