"""What of the ranked lists is kept, and that keeping it bit by bit is the same as having it all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lists import means
from numpy.typing import NDArray

from vreid_cli import FeatureSet, RankingOptions, evaluate, rank
from vreid_cli.errors import UsageError
from vreid_cli.ranking import aggregation
from vreid_cli.ranking import rank as rank_module
from vreid_cli.ranking.duplicates import Twins
from vreid_cli.ranking.reranking import RerankOptions
from vreid_cli.ranking.selection import pack, unpack_items
from vreid_cli.runtime import products
from vreid_cli.types.rankings import Ranking

Row = tuple[int, str, float]


@contextmanager
def a_budget_of(size: int) -> Iterator[None]:
    with patch.object(rank_module, "memory_budget", return_value=size):
        yield


def side(rng: np.random.Generator, prefix: str, *, tracks: int, labelled: bool = True) -> FeatureSet:
    """Tracks of whole numbers, so that many distances are equal, by a few vehicles and cameras."""
    lengths = rng.integers(1, 5, size=tracks)
    names = [f"{prefix}{rng.integers(1000):03d}{index:03d}" for index in range(tracks)]
    vehicles = [str(rng.integers(4)) if labelled and rng.random() < 0.9 else None for _ in names]
    cameras = [f"c{rng.integers(3)}" if rng.random() < 0.9 else None for _ in names]
    owner = np.repeat(np.arange(tracks), lengths)
    return FeatureSet.from_arrays(
        rng.integers(-2, 3, size=(len(owner), 3)).astype(np.float32),
        track_id=[names[i] for i in owner],
        vehicle_id=[vehicles[i] for i in owner],
        camera_id=[cameras[i] for i in owner],
    )


def lists(ranking: Ranking) -> dict[str, list[Row]]:
    """Each query's rows as (rank, gallery item, distance)."""
    found: dict[str, list[Row]] = {str(name): [] for name in ranking.queries.ids}
    for block in ranking.blocks:
        for query, place, item, distance in zip(
            block.query_index, block.rank, block.gallery_index, block.distance, strict=True
        ):
            found[ranking.queries.ids[query]].append((int(place), ranking.gallery.ids[item], float(distance)))
    return found


def brute_force(full: Ranking, *, other: bool, top_k: int | None, threshold: float | None) -> dict[str, list[Row]]:
    """The lists that should be left, from the full ones, row by row."""
    queries, gallery = (
        {name: (vehicle, camera) for name, vehicle, camera in zip(i.ids, i.vehicles, i.cameras, strict=True)}
        for i in (full.queries, full.gallery)
    )
    expected = {}
    for query, rows in lists(full).items():
        vehicle, camera = queries[query]
        ranked = [row for row in rows if not other or camera is None or gallery[row[1]][1] != camera]
        expected[query] = [
            (place, item, distance)
            for place, (_, item, distance) in enumerate(ranked, start=1)
            if (vehicle is not None and gallery[item][0] == vehicle)
            or ((top_k is None or place <= top_k) and (threshold is None or distance <= threshold))
        ]
    return expected


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    task=st.sampled_from(["t2t", "i2t", "i2i"]),
    definition=st.sampled_from(["paper", "released"]),
    other=st.booleans(),
    top_k=st.sampled_from([None, 1, 3, 17]),
    threshold=st.sampled_from([None, 0.0, 1.5, 3.0]),
    labelled=st.booleans(),
)
def test_limits_and_budgets_leave_true_ranks(
    seed: int, task: Any, definition: Any, other: bool, top_k: int | None, threshold: float | None, labelled: bool
) -> None:
    rng = np.random.default_rng(seed)
    query, gallery = side(rng, "q", tracks=5, labelled=labelled), side(rng, "g", tracks=40)
    metric = "minMED" if task == "t2t" else "MED"
    definition = definition if task == "t2t" else "paper"
    chosen = RankingOptions(task=task, metrics=(metric,), definition=definition, device="cpu")
    full = rank(query, gallery, chosen)[metric]
    cut = replace(chosen, top_k=top_k, threshold=threshold, cameras="other" if other else "all")
    expected = brute_force(full, other=other, top_k=top_k, threshold=threshold)
    assert lists(rank(query, gallery, cut)[metric]) == expected
    with a_budget_of(1):
        assert lists(rank(query, gallery, cut)[metric]) == expected


def test_small_budgets_merge_and_large_ones_do_not() -> None:
    # The property above says nothing if both ways are one.
    rng = np.random.default_rng(1)
    query, gallery = (
        FeatureSet.from_arrays(rng.normal(size=(n, 4)), track_id=[f"{n}-{i}" for i in range(n)]) for n in (5, 200)
    )
    for budget, top_k, blocks in ((1, 3, 1), (1, None, 5), (2**30, 3, 1)):
        with a_budget_of(budget), patch.object(rank_module, "MergedLists", wraps=rank_module.MergedLists) as merged:
            ranking = rank(query, gallery, RankingOptions(metrics=("minMED",), top_k=top_k, device="cpu"))["minMED"]
        assert (len(ranking.blocks), merged.called) == (blocks, budget == 1 and top_k is not None)


def test_equal_items_far_apart_tie_where_lists_are_merged() -> None:
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(600, 64)).astype(np.float32)
    rows[[40, 310, 599]] = rows[7]
    names = [f"g{index:03d}" for index in range(600)]
    gallery = FeatureSet.from_arrays(rows, track_id=names)
    query = FeatureSet.from_arrays(rows[7:8] + 0.1, track_id=["q"])
    with a_budget_of(1):
        found = lists(rank(query, gallery, RankingOptions(metrics=("minMCD",), top_k=3, device="cpu"))["minMCD"])
    assert [item for _, item, _ in found["q"]] == ["g007", "g040", "g310"]
    assert len({distance for _, _, distance in found["q"]}) == 1


@contextmanager
def rounding_that_never_repeats() -> Iterator[None]:
    """Products whose last digits differ from call to call, as they may from one shape of block to another."""
    noise = torch.Generator().manual_seed(0)

    def noisy(rows: torch.Tensor, columns: torch.Tensor, out: torch.Tensor) -> None:
        torch.mm(rows, columns.T, out=out)
        out.mul_(1 + 1e-6 * torch.rand(out.shape, generator=noise))

    with patch.object(products, "TORCH", products.Product("torch", noisy)):
        yield


def test_rounding_gives_no_item_two_ranks_and_no_rank_two_items() -> None:
    # What is known beforehand of the query's vehicle and what the pass over the gallery finds may differ.
    rng = np.random.default_rng(6)
    rows = (rng.normal(size=32) + 1e-6 * rng.normal(size=(700, 32))).astype(np.float32)
    gallery = FeatureSet.from_arrays(
        rows, track_id=[f"g{i:03d}" for i in range(700)], vehicle_id=[str(i % 3) for i in range(700)]
    )
    vehicles = ["0", "1", "2", None]
    query = FeatureSet.from_arrays(rng.normal(size=(4, 32)), track_id=[f"q{i}" for i in range(4)], vehicle_id=vehicles)
    with a_budget_of(1), rounding_that_never_repeats():
        found = lists(rank(query, gallery, RankingOptions(metrics=("minMCD",), top_k=50, device="cpu"))["minMCD"])
    for listed, vehicle in zip(found.values(), vehicles, strict=True):
        ranks, items, distances = (list(column) for column in zip(*listed, strict=True))
        assert ranks[:50] == list(range(1, 51))
        assert len(set(ranks)) == len(set(items)) == len(listed)
        assert (ranks, distances) == (sorted(ranks), sorted(distances))
        own = [f"g{i:03d}" for i in range(700) if vehicle is not None and str(i % 3) == vehicle]
        assert set(own) <= set(items)
        # Between two listed ranks, as many are missing as are not of the vehicle.
        assert all(item in own for item in items[50:])
        assert max(ranks) <= 700


@pytest.mark.parametrize("budget", [1, 2**30])
def test_rounding_does_not_part_equal_items(budget: int) -> None:
    rows = np.random.default_rng(7).normal(size=(300, 16)).astype(np.float32)
    rows[[40, 210, 299]] = rows[7]
    gallery = FeatureSet.from_arrays(rows, track_id=[f"g{i:03d}" for i in range(300)])
    query = FeatureSet.from_arrays(rows[50:53], track_id=["a", "b", "c"])
    for top_k in (None, 300, 299):
        with a_budget_of(budget), rounding_that_never_repeats():
            ranking = rank(query, gallery, RankingOptions(metrics=("minMCD",), top_k=top_k, device="cpu"))["minMCD"]
        for listed in lists(ranking).values():
            equal = [(item, distance) for _, item, distance in listed if item in ("g007", "g040", "g210", "g299")]
            assert [item for item, _ in equal] == ["g007", "g040", "g210", "g299"][: len(equal)]
            assert len({distance for _, distance in equal}) == 1


def test_equal_items_are_given_the_distances_of_the_first() -> None:
    # Items 2, 5 and 9 are like item 1, and 7 is like 3; they come in blocks whose columns are out of order.
    twins = Twins(np.array([2, 5, 7, 9]), np.array([1, 1, 3, 1]))
    values = torch.rand(4, 10)
    saved: dict[str, torch.Tensor] = {}
    found = torch.empty(4, 10)
    for start, items in ((0, [3, 0, 2, 1]), (4, [1, 0, 2]), (7, [2, 0, 1])):
        positions = start + np.array(items)
        block = values[:, positions].clone()
        twins.equalise("MED", block, start, np.array(items), saved=saved)
        found[:, positions] = block
    expected = values[:, [0, 1, 1, 3, 4, 1, 6, 3, 8, 1]]
    assert torch.equal(found, expected)
    assert twins.saved == 2


@pytest.mark.parametrize(
    ("labelled", "top_k", "threshold", "coverage", "told"),
    [
        (True, None, None, "full", "every item"),
        (True, None, 1.5, "positives", "only what is no farther than 1.5 and the query's vehicle"),
        (True, 2, 1.5, "positives", "only the 2 nearest of what is no farther than 1.5 and the query's vehicle"),
        (False, None, 1.5, "top-k", "only what is no farther than 1.5"),
        (False, 2, None, "top-k", "only the 2 nearest"),
    ],
)
def test_what_is_listed_is_told(
    labelled: bool, top_k: int | None, threshold: float | None, coverage: str, told: str | None
) -> None:
    rng = np.random.default_rng(3)
    query, gallery = side(rng, "q", tracks=3, labelled=labelled), side(rng, "g", tracks=9)
    chosen = RankingOptions(metrics=("meanMED",), top_k=top_k, threshold=threshold, device="cpu")
    facts = rank(query, gallery, chosen)["meanMED"].facts
    assert (facts.coverage, facts.threshold, facts.text("coverage")) == (coverage, threshold, told)


def test_a_threshold_changes_no_score() -> None:
    rng = np.random.default_rng(4)
    query, gallery = side(rng, "q", tracks=8), side(rng, "g", tracks=30)
    # An unlabelled query that lists nothing is no longer seen; it never counted.
    full, cut = (
        replace(
            evaluate(rank(query, gallery, RankingOptions(metrics=("meanMED",), threshold=t, device="cpu"))["meanMED"]),
            unlabelled_queries=0,
        )
        for t in (None, 0.5)
    )
    assert means(full) == means(cut)
    assert full.mean_ap is not None


@pytest.mark.parametrize("top_k", [None, 5])
def test_a_query_with_nothing_near_lists_nothing(top_k: int | None) -> None:
    query = FeatureSet.from_arrays(np.array([[0.0], [100.0]]), track_id=["near", "far"])
    gallery = FeatureSet.from_arrays(np.arange(9.0)[:, None], track_id=[f"g{i}" for i in range(9)])
    chosen = RankingOptions(metrics=("minMED",), threshold=2, top_k=top_k, device="cpu")
    for budget in (1, 2**30):
        with a_budget_of(budget):
            ranking = rank(query, gallery, chosen)["minMED"]
        assert {name: [row[1] for row in rows] for name, rows in lists(ranking).items()} == {
            "near": ["g0", "g1", "g2"],
            "far": [],
        }
        assert ranking.facts.query_count == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"top_k": 0},
        {"threshold": -1.0},
        {"threshold": float("nan")},
        {"alpha": 0.0},
        {"cameras": "some"},
        {"task": "t2i"},
        {"definition": "Paper"},
        {"track_unit": "vehicle"},
        {"product": "fast"},
        {"metrics": ()},
        {"rerank": RerankOptions(k1=0)},
        {"rerank": RerankOptions(lambda_value=2)},
    ],
)
def test_options_that_make_no_sense_are_named(wrong: dict[str, Any]) -> None:
    rng = np.random.default_rng(5)
    (name,) = wrong
    with pytest.raises(UsageError, match=name):
        rank(side(rng, "q", tracks=2), side(rng, "g", tracks=2), RankingOptions(device="cpu", **wrong))


@settings(max_examples=50)
@given(st.lists(st.floats(0, 2.0**127, width=32, allow_subnormal=False), min_size=1, max_size=40))
def test_keys_sort_as_distances_do_with_ties_by_place(values: list[float]) -> None:
    distances = np.array([*values, *values[:5], -0.0, 0.0], dtype=np.float32)
    keys = pack(torch.from_numpy(distances), torch.arange(len(distances)))
    assert unpack_items(keys.sort().values).tolist() == np.argsort(distances, kind="stable").tolist()


@pytest.mark.parametrize("count", [*range(1, 14), 31, 49, 64, 65, 90])
def test_a_network_sorts_what_is_asked_for(count: int) -> None:
    values: NDArray[np.float32] = np.random.default_rng(count).integers(0, 9, size=(count, 500)).astype(np.float32)
    ordered = np.sort(values, axis=0)
    half = ordered[: count // 2 + 1]
    expected = {
        "min": ordered[0],
        "mean": values.mean(axis=0),
        "med": np.median(values, axis=0),
        "mean50": half.mean(axis=0),
        "med50": np.median(half, axis=0),
    }
    slots = torch.from_numpy(values).unbind(0)
    together = aggregation.aggregate(slots, expected)  # type: ignore[arg-type]
    for name, wanted in expected.items():
        # Alone, only the comparators that this one needs are left.
        (alone,) = aggregation.aggregate(slots, (name,)).values()  # type: ignore[arg-type]
        for found in (together[name], alone):  # type: ignore[index]
            np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-6)
