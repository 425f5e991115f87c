"""Distances do not depend on what is compared together: blocks of any size, either path of the cosine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from oracles import TRACK_METRICS, image_distance

from vreid_cli import FeatureSet, RankingOptions, rank
from vreid_cli.ranking import engine as engine_module
from vreid_cli.ranking import rank as rank_module
from vreid_cli.ranking.distances import Frame, _Pairs, frame_for
from vreid_cli.types.rankings import Definition, Ranking, Task

Floats = NDArray[np.floating]
#: What distances by blocks of different sizes may differ by, in parts of the distance.
RELATIVE = 1e-6
#: Directions are rounded to 1.1e-16 of their length, so half the squared distance of two equal ones may be a few
#: times its square, which is nothing that a cosine distance tells apart from 0.
FLOOR = 1e-30
SEEDS = st.integers(0, 2**32 - 1)
TASKS: tuple[tuple[Task, Definition], ...] = (("t2t", "paper"), ("t2t", "released"), ("i2t", "paper"), ("i2i", "paper"))


# -- made data -----------------------------------------------------------------------------------------------


def nearly_parallel(rng: np.random.Generator, rows: int, width: int) -> Floats:
    spread = 10.0 ** rng.integers(-4, 0)
    return np.linspace(0.5, 1.5, width) + spread * rng.normal(size=(rows, width))


def of_any_length(rng: np.random.Generator, rows: int, width: int) -> Floats:
    """As an untrained network makes them: the lengths differ more than the directions."""
    return nearly_parallel(rng, rows, width) * rng.uniform(0.5, 2, size=(rows, 1))


def clustered(rng: np.random.Generator, rows: int, width: int) -> Floats:
    """Pairs at every share of the spread, those where digits begin to be lost among them."""
    centres = np.random.default_rng(width).normal(size=(4, width))
    spread = rng.choice([0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7], size=(rows, 1))
    return centres[rng.integers(0, 4, size=rows)] + spread * rng.normal(size=(rows, width))


def copies(rng: np.random.Generator, rows: int, width: int) -> Floats:
    """Equal rows, multiples of each other, rows that are nearly so, and rows of zeros."""
    originals = np.random.default_rng(width).normal(size=(9, width))
    made = originals[rng.integers(0, 9, size=rows)] * rng.choice([1.0, 0.25, 3.0, 0.7], size=(rows, 1))
    made += rng.choice([0.0, 0.0, 1e-5, 1e-3], size=(rows, 1)) * rng.normal(size=(rows, width))
    made[rng.random(rows) < 0.1] = 0
    return made


KINDS: dict[str, Callable[[np.random.Generator, int, int], Floats]] = {
    "normal": lambda rng, rows, width: rng.normal(size=(rows, width)),
    "positive": lambda rng, rows, width: np.maximum(rng.normal(size=(rows, width)), 0),
    "nearly parallel": nearly_parallel,
    "of any length": of_any_length,
    "clustered": clustered,
    "copies": copies,
    "large": lambda rng, rows, width: 1e12 * rng.normal(size=(rows, width)),
    "small": lambda rng, rows, width: 1e-12 * rng.normal(size=(rows, width)),
}


def side(rows: Floats, prefix: str, rng: np.random.Generator) -> FeatureSet:
    """Tracks of one to eight images; a name tells the place of its row."""
    lengths = rng.integers(1, 9, size=len(rows))
    track_id = np.repeat([f"{prefix}{number:04d}" for number in range(len(rows))], lengths)[: len(rows)]
    names = [f"{prefix}{number:04d}" for number in range(len(rows))]
    return FeatureSet.from_arrays(rows.astype(np.float32), track_id=list(track_id), image_id=names, source=prefix)


def two_sides(
    kind: str, seed: int, width: int, *, queries: int = 70, items: int = 150
) -> tuple[FeatureSet, FeatureSet]:
    rng = np.random.default_rng(seed)
    query, gallery = (KINDS[kind](rng, rows, width) for rows in (queries, items))
    return side(query, "q", rng), side(gallery, "r", rng)


# -- comparing -----------------------------------------------------------------------------------------------


def within(budget: int, query: FeatureSet, gallery: FeatureSet, chosen: RankingOptions) -> dict[str, Ranking]:
    with patch.object(rank_module, "memory_budget", return_value=budget):
        return rank(query, gallery, chosen)


def table(ranking: Ranking, *, of: str = "distance") -> NDArray[np.float64]:
    """(queries, items) distances or ranks; NaN for what is not listed."""
    values = np.full((len(ranking.queries), len(ranking.gallery)), np.nan)
    for block in ranking.blocks:
        values[block.query_index, block.gallery_index] = getattr(block, of)
    return values


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


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8)
@given(seed=SEEDS, width=WIDTHS, budget=BUDGETS, task=st.sampled_from(TASKS), alone=st.booleans())
def test_any_block_size_gives_the_same(
    kind: str, seed: int, width: int, budget: int, task: tuple[Task, Definition], alone: bool
) -> None:
    sides = two_sides(kind, seed, width)
    chosen = RankingOptions(task=task[0], metrics=metrics_of(task[0]), definition=task[1], device="cpu")
    if alone:  # the cosine then has a product of its own
        chosen = replace(chosen, metrics=tuple(name for name in chosen.metrics if "MCD" in name))
    whole = within(2**30, *sides, chosen)
    assert all(len(ranking.blocks) == 1 for ranking in whole.values())
    for metric, ranking in within(budget, *sides, chosen).items():
        assert_same(ranking, whole[metric], metric)


# Against images of 1e12 the sparse codes' weight is nothing: such problems have no solution in float64.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "large"])
@settings(max_examples=4)
@given(seed=SEEDS, width=WIDTHS, budget=BUDGETS, task=st.sampled_from(["t2t", "i2t", "i2i"]))
def test_any_block_size_gives_the_same_residuals(kind: str, seed: int, width: int, budget: int, task: Task) -> None:
    sides = two_sides(kind, seed, width, queries=20, items=140)
    chosen = RankingOptions(task=task, metrics=("RSCR",), device="cpu")
    whole, some = (within(size, *sides, chosen)["RSCR"] for size in (2**30, budget))
    assert_same(some, whole, "RSCR")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=4)
@given(seed=SEEDS, width=WIDTHS, budget=BUDGETS, task=st.sampled_from(["t2t", "i2i"]), top_k=st.sampled_from([None, 3]))
def test_any_block_size_lists_the_same(
    kind: str, seed: int, width: int, budget: int, task: Task, top_k: int | None
) -> None:
    # Small budgets merge the lists of several blocks of the gallery.
    sides = two_sides(kind, seed, width)
    metrics = ("medMED", "meanMCD50") if task == "t2t" else ("MED", "MCD")
    chosen = RankingOptions(task=task, metrics=metrics, device="cpu")
    for metric, whole in within(2**30, *sides, chosen).items():
        threshold = float(np.quantile(table(whole), 0.3))
        cut = replace(chosen, metrics=(metric,), top_k=top_k, threshold=threshold)
        assert_listed(within(budget, *sides, cut)[metric], whole, metric, top_k=top_k, threshold=threshold)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", [True, False, None])
@settings(max_examples=4)
@given(seed=SEEDS, width=WIDTHS)
def test_small_cosine_distances_keep_their_digits(kind: str, shared: bool | None, seed: int, width: int) -> None:
    # By MED's product, by one of their own beside it, or alone: all are near the definition in float64.
    query, gallery = two_sides(kind, seed, width, queries=30, items=40)
    chosen = RankingOptions(task="i2i", metrics=("MCD",) if shared is None else ("MED", "MCD"), device="cpu")
    with patch.object(engine_module, "frame_for", lambda *samples: replace(frame_for(*samples), shared=bool(shared))):
        found = table(rank(query, gallery, chosen)["MCD"])
    one, other = (each.matrix.take(np.arange(len(each))) for each in (query, gallery))
    for q, r in np.ndindex(found.shape):
        expected = image_distance(one[q], other[r], "MCD")
        # The float64 definition itself is right to a few 1e-16.
        assert abs(found[q, r] - expected) <= 1e-5 * expected + 2e-15, (q, r, found[q, r], expected)


def frame_of(query: FeatureSet, gallery: FeatureSet) -> Frame:
    return frame_for(*(torch.from_numpy(each.matrix.take(np.arange(len(each)))) for each in (gallery, query)))


@pytest.mark.parametrize(("kind", "shared"), [("normal", True), ("nearly parallel", True), ("of any length", False)])
def test_few_cosines_are_computed_again(kind: str, shared: bool) -> None:
    # Pair by pair takes hundreds of times as long as in a product.
    query, gallery = two_sides(kind, 3, 256, queries=200, items=400)
    assert frame_of(query, gallery).shared == shared
    again = 0

    def angular(pairs: _Pairs, image: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        nonlocal again
        again += len(row)
        return original(pairs, image, row)

    original = _Pairs.angular
    with patch.object(_Pairs, "angular", angular):
        for metrics in (("MED", "MCD"), ("MCD",)):
            rank(query, gallery, RankingOptions(task="i2i", metrics=metrics, device="cpu"))
    assert again < 0.01 * 2 * len(query) * len(gallery)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_queries_of_another_length_take_a_product_of_directions(factor: float) -> None:
    query, gallery = two_sides("positive", 5, 64)
    rows = query.matrix.take(np.arange(len(query)))
    assert frame_of(query, gallery).shared
    assert not frame_of(side(factor * rows, "q", np.random.default_rng(5)), gallery).shared
