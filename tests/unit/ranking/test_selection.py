"""What of the ranked lists is kept, in which order, and that keeping it bit by bit is the same as having it all."""

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
from ranked import (
    DEFINITIONS,
    Listed,
    assert_sorted_by_gallery_order,
    changed,
    distances,
    features,
    images,
    labelled_sides,
    lists,
    options,
    order,
    random_tracks,
    within,
)

from vreid_cli import FeatureSet, RankingOptions, evaluate, rank
from vreid_cli.ranking.selection import pack, unpack_items
from vreid_cli.runtime import products
from vreid_cli.types.arrays import text_array
from vreid_cli.types.rankings import Definition, Ranking, Task

SEEDS = st.integers(0, 2**32 - 1)


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


def brute_force(full: Ranking, *, other: bool, top_k: int | None, threshold: float | None) -> dict[str, Listed]:
    """The lists that should be left, from the full ones, row by row."""
    queries, gallery = (
        {name: (vehicle, camera) for name, vehicle, camera in zip(i.ids, i.vehicles, i.cameras, strict=True)}
        for i in (full.queries, full.gallery)
    )
    expected = {}
    for query, rows in lists(full).items():
        vehicle, camera = queries[query]
        ranked = [row for row in rows if not other or camera is None or gallery[row[0]][1] != camera]
        expected[query] = [
            (item, place, distance)
            for place, (item, _, distance) in enumerate(ranked, start=1)
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
    chosen = RankingOptions(task=task, metric=(metric,), definition=definition)
    full = rank(query, gallery, chosen)[metric]
    cut = changed(chosen, top_k=top_k, threshold=threshold, cameras="other" if other else "all")
    expected = brute_force(full, other=other, top_k=top_k, threshold=threshold)
    assert lists(rank(query, gallery, cut)[metric]) == expected
    assert lists(within(1, query, gallery, cut)[metric]) == expected


def test_small_budgets_merge_and_large_ones_do_not() -> None:
    # The property above says nothing if both ways are one.
    rng = np.random.default_rng(1)
    query, gallery = (
        FeatureSet.from_arrays(rng.normal(size=(n, 4)), track_id=[f"{n}-{i}" for i in range(n)]) for n in (5, 200)
    )
    for budget, top_k, blocks in ((1, 3, 1), (1, None, 5), (2**30, 3, 1)):
        ranking = within(budget, query, gallery, RankingOptions(metric=("minMED",), top_k=top_k))["minMED"]
        assert len(ranking.blocks) == blocks


def test_equal_items_far_apart_tie_where_lists_are_merged() -> None:
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(600, 64)).astype(np.float32)
    rows[[40, 310, 599]] = rows[7]
    names = [f"g{index:03d}" for index in range(600)]
    gallery = FeatureSet.from_arrays(rows, track_id=names)
    query = FeatureSet.from_arrays(rows[7:8] + 0.1, track_id=["q"])
    found = lists(within(1, query, gallery, RankingOptions(metric=("minMCD",), top_k=3))["minMCD"])
    assert [item for item, _, _ in found["q"]] == ["g007", "g040", "g310"]
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
    rows = rng.normal(size=(700, 32)).astype(np.float32)
    gallery = FeatureSet.from_arrays(
        rows, track_id=[f"g{i:03d}" for i in range(700)], vehicle_id=[str(i % 3) for i in range(700)]
    )
    vehicles = ["0", "1", "2", None]
    query = FeatureSet.from_arrays(rng.normal(size=(4, 32)), track_id=[f"q{i}" for i in range(4)], vehicle_id=vehicles)
    with rounding_that_never_repeats():
        found = lists(within(1, query, gallery, RankingOptions(metric=("minMCD",), top_k=50))["minMCD"])
    for listed, vehicle in zip(found.values(), vehicles, strict=True):
        items, ranks, distances = (list(column) for column in zip(*listed, strict=True))
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
        with rounding_that_never_repeats():
            ranking = within(budget, query, gallery, RankingOptions(metric=("minMCD",), top_k=top_k))["minMCD"]
        for listed in lists(ranking).values():
            equal = [(item, distance) for item, _, distance in listed if item in ("g007", "g040", "g210", "g299")]
            assert [item for item, _ in equal] == ["g007", "g040", "g210", "g299"][: len(equal)]
            assert len({distance for _, distance in equal}) == 1


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
    labelled: bool, top_k: int | None, threshold: float | None, coverage: str, told: str
) -> None:
    rng = np.random.default_rng(3)
    query, gallery = side(rng, "q", tracks=3, labelled=labelled), side(rng, "g", tracks=9)
    chosen = RankingOptions(metric=("meanMED",), top_k=top_k, threshold=threshold)
    facts = rank(query, gallery, chosen)["meanMED"].facts
    assert (facts.coverage, facts.threshold, facts.text("coverage")) == (coverage, threshold, told)


def test_a_threshold_changes_no_score() -> None:
    rng = np.random.default_rng(4)
    query, gallery = side(rng, "q", tracks=8), side(rng, "g", tracks=30)
    # An unlabelled query that lists nothing is no longer seen; it never counted.
    full, cut = (
        replace(
            evaluate(rank(query, gallery, RankingOptions(metric=("meanMED",), threshold=t))["meanMED"]),
            unlabelled_queries=0,
        )
        for t in (None, 0.5)
    )
    assert full == cut
    assert full.mean_ap is not None


@pytest.mark.parametrize("top_k", [None, 5])
def test_a_query_with_nothing_near_lists_nothing(top_k: int | None) -> None:
    query = FeatureSet.from_arrays(np.array([[0.0], [100.0]]), track_id=["near", "far"])
    gallery = FeatureSet.from_arrays(np.arange(9.0)[:, None], track_id=[f"g{i}" for i in range(9)])
    chosen = RankingOptions(metric=("minMED",), threshold=2, top_k=top_k)
    for budget in (1, 2**30):
        ranking = within(budget, query, gallery, chosen)["minMED"]
        assert {name: [row[0] for row in rows] for name, rows in lists(ranking).items()} == {
            "near": ["g0", "g1", "g2"],
            "far": [],
        }
        assert ranking.facts.query_count == 2


@settings(max_examples=50)
@given(st.lists(st.floats(0, 2.0**127, width=32, allow_subnormal=False), min_size=1, max_size=40))
def test_keys_sort_as_distances_do_with_ties_by_place(values: list[float]) -> None:
    distances = np.array([*values, *values[:5], -0.0, 0.0], dtype=np.float32)
    keys = pack(torch.from_numpy(distances), torch.arange(len(distances)))
    assert unpack_items(keys.sort().values).tolist() == np.argsort(distances, kind="stable").tolist()


# -- order ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["minMED", "meanMED", "medMCD50", "meanMCD50"])
@pytest.mark.parametrize("width", [3, 64, 1920])
@pytest.mark.parametrize("budget", [1, 2**30])
def test_equal_tracks_tie_in_gallery_order(metric: str, width: int, budget: int) -> None:
    # Matrix products give equal columns unequal last digits, depending on where in a block they lie.
    rng = np.random.default_rng(width)
    copied = rng.normal(size=(5, width)).astype(np.float32)
    copies = [f"c{i:03d}" for i in range(30)]
    others = random_tracks(rng, "r", count=33, width=width, longest=5)
    names = list(rng.permutation([*copies, *others]))
    gallery = {name: others.get(name, copied) for name in names}
    found = within(
        budget, features(random_tracks(rng, "q", count=4, width=width)), features(gallery), options("t2t", metric)
    )
    for rows in lists(found[metric]).values():
        assert len({distance for item, _, distance in rows if item in copies}) == 1
        assert [item for item, _, _ in rows if item in copies] == [name for name in names if name in copies]
    assert_sorted_by_gallery_order(found[metric])


@pytest.mark.parametrize("task", ["i2i", "t2t"])
@settings(max_examples=25)
@given(seed=SEEDS, width=st.integers(1, 4), largest=st.integers(1, 30))
def test_points_at_equal_distance_tie_in_gallery_order(task: Task, seed: int, width: int, largest: int) -> None:
    # Between whole numbers the arithmetic of MED is exact, if nothing odd is subtracted first.
    rng = np.random.default_rng(seed)
    points = rng.integers(-largest, largest + 1, size=(int(rng.integers(1, 40)), width))
    query = rng.integers(-largest, largest + 1, size=(2, width))
    metric = "MED" if task == "i2i" else "meanMED"
    found = lists(rank(images(query, "q"), images(points, "r"), options(task, metric))[metric])
    for number, rows in enumerate(found.values()):
        squares = ((points - query[number]) ** 2).sum(axis=1)
        assert [item for item, _, _ in rows] == [f"r{i:04d}" for i in np.argsort(squares, kind="stable")]


def test_ties_go_by_gallery_order_or_in_the_released_definition_by_name() -> None:
    near, far = np.ones((1, 3)), np.array([[1.0, 0, 0]])
    gallery = {"m": near, "z": far, "b": near, "a": far, "y": near, "c": far}
    query = {"q": np.ones((2, 3))}
    for definition, expected in (("paper", "mbyzac"), ("released", "bmyacz")):
        for metric, ranking in rank(features(query), features(gallery), options("t2t", definition=definition)).items():
            assert "".join(order(ranking, "q")) == expected, metric


@pytest.mark.parametrize("definition", DEFINITIONS)
@settings(max_examples=10)
@given(seed=SEEDS)
def test_permuting_the_gallery_changes_nothing_but_ties(definition: Definition, seed: int) -> None:
    rng = np.random.default_rng(seed)
    query = random_tracks(rng, "q", count=3, width=6, longest=4)
    gallery = random_tracks(rng, "r", count=9, width=6, longest=4)
    gallery["copy"] = gallery["r004"].copy()
    permuted = {name: gallery[name] for name in rng.permutation(list(gallery))}
    chosen = options("t2t", "meanMCD50", "medMED", definition=definition)
    one, other = (rank(features(query), features(side), chosen) for side in (gallery, permuted))
    for metric in one:
        found, expected = distances(other[metric]), distances(one[metric])
        assert all(abs(found[pair] - expected[pair]) <= 3e-6 for pair in expected)
        for q in query:
            without = [[i for i in order(r[metric], q) if i != "copy"] for r in (one, other)]
            assert without[0] == without[1]
            first = order(other[metric], q)
            expected_first = min(("r004", "copy"), key=list(permuted).index if definition == "paper" else str)
            assert min(("r004", "copy"), key=first.index) == expected_first
            assert abs(first.index("r004") - first.index("copy")) == 1


@pytest.mark.parametrize("top_k", [1, 5, 29])
@pytest.mark.parametrize("cameras", ["all", "other"])
@pytest.mark.parametrize("task", ["t2t", "i2i"])
def test_top_k_keeps_the_nearest_and_every_same_vehicle_row_at_its_true_rank(
    top_k: int, cameras: str, task: Task
) -> None:
    query, gallery = labelled_sides()
    metric = "MED" if task == "i2i" else "minMED"
    full = rank(query, gallery, options(task, metric, cameras=cameras))[metric]
    some = rank(query, gallery, options(task, metric, cameras=cameras, top_k=top_k))[metric]
    assert (full.facts.coverage, some.facts.coverage) == ("full", "positives")
    assert (some.facts.top_k, some.facts.gallery_size) == (top_k, len(gallery))
    vehicle = dict(zip(gallery.image_id, gallery.vehicle_id, strict=True))
    for name, own in zip(query.image_id, query.vehicle_id, strict=True):
        same = {item for item, label in vehicle.items() if own is not None and label == own}
        expected = [row for row in lists(full)[name] if row[1] <= top_k or row[0] in same]
        assert lists(some)[name] == expected


@pytest.mark.parametrize("task", ["t2t", "i2t", "i2i"])
def test_other_cameras_only(task: Task) -> None:
    query, gallery = labelled_sides()
    metric = "minMED" if task == "t2t" else "MED"
    full = rank(query, gallery, options(task, metric))[metric]
    other = rank(query, gallery, options(task, metric, cameras="other"))[metric]
    assert other.facts.cameras == "other"
    camera = dict(zip(gallery.image_id, gallery.camera_id, strict=True))
    for name, own in zip(query.image_id, query.camera_id, strict=True):
        kept = [row for row in lists(full)[name] if own is None or camera[row[0]] != own]
        assert len(kept) < len(gallery) or own is None
        assert lists(other)[name] == [(item, place, d) for place, (item, _, d) in enumerate(kept, start=1)]


def test_top_k_of_unlabelled_images_is_the_nearest_only() -> None:
    query, gallery = labelled_sides()
    query = replace(query, vehicle_id=text_array([None] * len(query)))
    full = rank(query, gallery, options("i2i", "MED"))["MED"]
    some = rank(query, gallery, options("i2i", "MED", top_k=4))["MED"]
    assert lists(some) == {name: rows[:4] for name, rows in lists(full).items()}


def test_top_k_is_the_same_for_any_memory_budget() -> None:
    query, gallery = labelled_sides()
    chosen = options("i2i", "MED", top_k=3, cameras="other")
    whole = lists(rank(query, gallery, chosen)["MED"])
    assert lists(within(1, query, gallery, chosen)["MED"]) == whole
