"""Distances do not depend on what is compared together: blocks of any size give the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import TRACK_METRICS
from ranked import (
    DEFINITIONS,
    KINDS,
    Floats,
    assert_track_distances,
    changed,
    distances,
    features,
    lists,
    options,
    random_tracks,
    table,
    two_sides,
    within,
)

from vreid_cli.errors import DataError
from vreid_cli.ranking.options import RankingOptions
from vreid_cli.ranking.rank import rank
from vreid_cli.runtime.options import RuntimeOptions
from vreid_cli.types.arrays import Float32Array, Int64Array
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.rankings import Definition, Ranking, Task

#: What distances by blocks of different sizes may differ by, in parts of the distance.
RELATIVE = 1e-6
#: Directions are rounded to 1.1e-16 of their length, so half the squared distance of two equal ones may be a few
#: times its square, which is nothing that a cosine distance tells apart from 0.
FLOOR = 1e-30
SEEDS = st.integers(0, 2**32 - 1)
TASKS: tuple[tuple[Task, Definition], ...] = (("t2t", "paper"), ("t2t", "released"), ("i2t", "paper"), ("i2i", "paper"))


# -- comparing -----------------------------------------------------------------------------------------------


def slack(values: Floats, metric: str) -> Floats:
    return RELATIVE * values + (FLOOR if "MCD" in metric else 0)


def assert_same(found: Ranking, expected: Ranking, metric: str) -> None:
    """The same distances, and the same order wherever they differ by more than rounding."""
    one, other = table(found), table(expected)
    assert np.isfinite(other).all()
    assert (np.abs(one - other) <= slack(other, metric)).all(), metric
    for places, values in zip(table(found, of="rank"), other, strict=True):
        in_order = values[np.argsort(places)]
        # Nothing stands behind what is farther by more than that.
        assert (np.maximum.accumulate(in_order) <= in_order + slack(in_order, metric)).all(), metric


def assert_listed(found: Ranking, expected: Ranking, metric: str, *, top_k: int | None, threshold: float) -> None:
    """What is listed of whole lists, with the right distances at the right ranks."""
    one, whole = table(found), table(expected)
    listed = np.isfinite(one)
    assert (np.abs(one - whole) <= slack(whole, metric))[listed].all(), metric
    ranks, ordered = table(found, of="rank"), np.sort(whole, axis=1)
    at_rank = np.take_along_axis(ordered, np.where(listed, ranks, 1).astype(np.int64) - 1, axis=1)
    assert (np.abs(one - at_rank) <= slack(whole, metric))[listed].all(), metric
    count = np.minimum((whole <= threshold + slack(whole, metric)).sum(axis=1), top_k or whole.shape[1])
    least = np.minimum((whole <= threshold - slack(whole, metric)).sum(axis=1), top_k or whole.shape[1])
    assert (listed.sum(axis=1) <= count).all(), metric
    assert (listed.sum(axis=1) >= least).all(), metric


def metrics_of(task: Task) -> tuple[str, ...]:
    return tuple(TRACK_METRICS) if task == "t2t" else ("MED", "MCD")


# -- tests ---------------------------------------------------------------------------------------------------

BUDGETS = st.floats(0, 22).map(lambda power: int(2**power))
WIDTHS = st.sampled_from([2, 3, 5, 16, 64, 100, 300])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8)
@given(seed=SEEDS, width=WIDTHS, budget=BUDGETS, task=st.sampled_from(TASKS), alone=st.booleans())
def test_any_block_size_gives_the_same(
    kind: str, seed: int, width: int, budget: int, task: tuple[Task, Definition], alone: bool
) -> None:
    sides = two_sides(kind, seed, width)
    chosen = RankingOptions(task=task[0], metric=metrics_of(task[0]), definition=task[1])
    if alone:  # the cosine then has a product of its own
        chosen = changed(chosen, metric=tuple(name for name in metrics_of(task[0]) if "MCD" in name))
    whole = within(2**30, *sides, chosen)
    assert all(len(ranking.blocks) == 1 for ranking in whole.values())
    for metric, ranking in within(budget, *sides, chosen).items():
        assert_same(ranking, whole[metric], metric)


# Against images of 1e12 the sparse codes' weight is nothing: such problems have no solution in float64.
@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "large"])
@settings(max_examples=4)
@given(seed=SEEDS, width=WIDTHS, budget=BUDGETS, task=st.sampled_from(["t2t", "i2t", "i2i"]))
def test_any_block_size_gives_the_same_residuals(kind: str, seed: int, width: int, budget: int, task: Task) -> None:
    sides = two_sides(kind, seed, width, queries=20, items=140)
    chosen = RankingOptions(task=task, metric=("RSCR",))
    whole, some = (within(size, *sides, chosen)["RSCR"] for size in (2**30, budget))
    assert_same(some, whole, "RSCR")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=4)
@given(seed=SEEDS, width=WIDTHS, budget=BUDGETS, task=st.sampled_from(["t2t", "i2i"]), top_k=st.sampled_from([None, 3]))
def test_any_block_size_lists_the_same(
    kind: str, seed: int, width: int, budget: int, task: Task, top_k: int | None
) -> None:
    # Small budgets merge the lists of several blocks of the gallery.
    sides = two_sides(kind, seed, width)
    metrics = ("medMED", "meanMCD50") if task == "t2t" else ("MED", "MCD")
    chosen = RankingOptions(task=task, metric=metrics)
    for metric, whole in within(2**30, *sides, chosen).items():
        threshold = float(np.quantile(table(whole), 0.3))
        cut = changed(chosen, metric=(metric,), top_k=top_k, threshold=threshold)
        assert_listed(within(budget, *sides, cut)[metric], whole, metric, top_k=top_k, threshold=threshold)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "definition"), [("t2t", "paper"), ("t2t", "released"), ("i2t", "paper"), ("i2i", "paper")]
)
def test_blocked_is_unblocked(task: Task, definition: Definition) -> None:
    rng = np.random.default_rng(23)
    query = features(random_tracks(rng, "q", count=12, width=9))
    gallery = features(random_tracks(rng, "r", count=25, width=9))
    query, gallery = (replace(side, source=name) for side, name in ((query, "q"), (gallery, "r")))
    whole = rank(query, gallery, options(task, definition=definition))
    assert all(len(ranking.blocks) == 1 for ranking in whole.values())
    # One query a block and 64 images; a few; and some odd number of them.
    for budget in (1, 20_000, 150_000):
        blocked = within(budget, query, gallery, options(task, definition=definition))
        for metric, ranking in blocked.items():
            assert budget > 1 or len(ranking.blocks) == len(ranking.queries)
            assert_same_up_to_rounding(ranking, whole[metric])


@pytest.mark.slow
def test_a_track_longer_than_a_block_is_not_cut() -> None:
    rng = np.random.default_rng(29)
    query = {"q0": rng.normal(size=(90, 4)), "q1": rng.normal(size=(2, 4))}
    gallery = {"r0": rng.normal(size=(3, 4)), "r1": rng.normal(size=(150, 4)), "r2": rng.normal(size=(100, 4))}
    for definition in DEFINITIONS:
        assert_track_distances(query, gallery, definition, budget=1)


def test_the_smallest_budget_that_can_be_asked_for() -> None:
    rng = np.random.default_rng(31)
    query, gallery = (features(random_tracks(rng, p, count=60, width=5)) for p in "qr")
    small = rank(query, gallery, options("t2t", "meanMED"), runtime=RuntimeOptions(memory_budget_mb=1))["meanMED"]
    large = rank(query, gallery, options("t2t", "meanMED"), runtime=RuntimeOptions(memory_budget_mb=512))["meanMED"]
    assert_same_up_to_rounding(small, large)


def assert_same_up_to_rounding(one: Ranking, other: Ranking) -> None:
    """The same distances to 1e-6 of their size, and the same order wherever they differ by more."""
    expected = distances(other)
    found = distances(one)
    assert found.keys() == expected.keys()
    assert all(abs(value - expected[pair]) <= 1e-6 * expected[pair] for pair, value in found.items())
    for query, rows in lists(one).items():
        farthest = 0.0
        for item, _, _ in rows:
            assert farthest <= expected[query, item] * (1 + 1e-6)
            farthest = max(farthest, expected[query, item])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("metric", ["meanMED", "meanMCD50"])
@pytest.mark.parametrize("side", ["query", "gallery"])
def test_a_feature_that_is_not_finite_is_an_error_that_names_the_image(value: float, metric: str, side: str) -> None:
    rng = np.random.default_rng(59)
    rows = {"query": rng.normal(size=(30, 4)), "gallery": rng.normal(size=(90, 4))}
    rows[side][17, 2] = value
    sides = {
        name: FeatureSet.from_arrays(
            array,
            track_id=[f"t{i // 7}" for i in range(len(array))],
            image_id=[f"{name}-{i}.jpg" for i in range(len(array))],
            source=f"{name}.npz",
        )
        for name, array in rows.items()
    }
    for budget in (1, 2**28):
        with pytest.raises(DataError, match=rf"{side}-17\.jpg .*not finite") as caught:
            within(budget, sides["query"], sides["gallery"], options("t2t", metric))
        assert caught.value.file == f"{side}.npz"


def test_few_queries_read_each_image_of_the_gallery_once() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4000, 4)).astype(np.float32)
    rows[3000:] = rows[:1000]  # items that equal one of another block take its distances
    names = [f"t{row // 2}" for row in range(len(rows))]
    taken = []

    class Counting:
        shape = rows.shape

        def take(self, wanted: Int64Array) -> Float32Array:
            taken.append(wanted)
            return rows[wanted]

    gallery = replace(FeatureSet.from_arrays(rows, track_id=names), matrix=Counting())
    query = FeatureSet.from_arrays(rng.normal(size=(3, 4)), track_id=["q", "q", "p"])
    found = rank(query, gallery, options("t2t", "meanMCD50", "minMED"), runtime=RuntimeOptions(memory_budget_mb=1))
    # As a sample, once in more than one block, and the two thousand again that equal others, item by item.
    assert sum(map(len, taken)) == 4000 + 4000 + 2000
    assert len(taken) > 1 + 1 + 1000
    for metric, ranking in found.items():
        values = table(ranking)
        assert np.array_equal(values[:, :500], values[:, 1500:]), metric
