"""The nearest of a gallery by lower bounds first: the same lists as by all distances."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import TRACK_METRICS, image_distance
from ranked import DEFINITIONS, KINDS, images, labelled_sides, lists, options, table, two_sides

from vreid_cli.errors import DataError
from vreid_cli.ranking import rank as ranking_module
from vreid_cli.ranking.options import RankingOptions
from vreid_cli.ranking.planning import plan_ranking
from vreid_cli.ranking.rank import rank
from vreid_cli.ranking.selection import ListRules
from vreid_cli.ranking.shortlists import shortlists
from vreid_cli.types.arrays import Float32Array, Int64Array
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.rankings import Ranking

SEEDS = st.integers(0, 2**32 - 1)


def both_ways(query: FeatureSet, gallery: FeatureSet, chosen: RankingOptions) -> tuple[dict[str, Ranking], ...]:
    """By shortlists, however long, and by the distances to all items."""
    found = []
    for part in (np.inf, -1.0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ranking_module, "_SHORT", part)
            found.append(rank(query, gallery, chosen))
    return tuple(found)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=2)
@given(seed=SEEDS, width=st.sampled_from([2, 5, 64, 300]), definition=st.sampled_from(DEFINITIONS))
def test_lists_are_those_of_all_distances(kind: str, seed: int, width: int, definition: Any) -> None:
    query, gallery = two_sides(kind, seed, width, queries=20, items=200)
    chosen = RankingOptions(metric=tuple(TRACK_METRICS), definition=definition, top_k=5)
    short, whole = both_ways(query, gallery, chosen)
    for metric, ranking in short.items():
        assert lists(ranking) == lists(whole[metric]), metric
        assert ranking.warnings == whole[metric].warnings


@settings(max_examples=10)
@given(seed=SEEDS, cameras=st.sampled_from(["all", "other"]), top_k=st.sampled_from([1, 4, 29]))
def test_items_of_the_querys_vehicle_have_their_true_ranks(seed: int, cameras: str, top_k: int) -> None:
    query, gallery = labelled_sides(seed)
    short, whole = both_ways(query, gallery, options("i2i", cameras=cameras, top_k=top_k))
    for metric, ranking in short.items():
        assert lists(ranking) == lists(whole[metric]), metric


@settings(max_examples=10)
@given(kind=st.sampled_from(sorted(KINDS)), seed=SEEDS, width=st.sampled_from([1, 3, 64, 1920]))
def test_a_shortlist_holds_all_that_is_as_near_as_the_nearest(kind: str, seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = (KINDS[kind](rng, rows, width).astype(np.float32) for rows in (2, 60))
    for metric in ("MED", "MCD"):
        job = plan_ranking(images(one, "q"), images(other, "r"), options("i2i", metric, top_k=3))
        engine = job.plan()
        found, zero_vectors = shortlists(engine, ListRules(job), next(engine.query_blocks(most=2)))
        assert zero_vectors == (~other.any(axis=1)).sum()
        for query, short in zip(one, found, strict=True):
            exact = np.array([image_distance(query, row, metric) for row in other])
            assert set(np.flatnonzero(exact <= np.sort(exact)[2])) <= set(short.tolist())


def made(rng: np.random.Generator, rows: int) -> Float32Array:
    return rng.normal(size=(rows, 64)).astype(np.float32)


def test_few_of_a_gallery_are_compared_exactly() -> None:
    rng = np.random.default_rng(3)
    rows, taken = made(rng, 5000), []

    class Counting:
        shape = rows.shape

        def take(self, wanted: Int64Array) -> Float32Array:
            taken.append(len(wanted))
            return rows[wanted]

    gallery = replace(images(rows, "r"), matrix=Counting())
    rank(images(made(rng, 1), "q"), gallery, options("i2i", "MED", "MCD", top_k=10))
    # A sample, all of them once, those that are near by the bounds, and the shortlist.
    assert 4096 + 5000 + 2 * 10 <= sum(taken) <= 4096 + 5000 + 100


def test_a_query_alone_has_the_list_that_it_has_among_many() -> None:
    rng = np.random.default_rng(5)
    query, gallery = images(made(rng, 100), "q"), images(made(rng, 2000), "r")
    chosen = options("i2i", top_k=20)
    many = rank(query, gallery, chosen)
    for metric, ranking in rank(query.select(np.array([7])), gallery, chosen).items():
        for what in ("rank", "distance"):
            assert np.array_equal(table(ranking, of=what)[0], table(many[metric], of=what)[7], equal_nan=True)


def test_a_feature_that_is_not_finite_is_named() -> None:
    rng = np.random.default_rng(7)
    rows = made(rng, 50)
    rows[17, 2] = np.nan
    with pytest.raises(DataError, match="r0017 is not finite"):
        rank(images(made(rng, 1), "q"), images(rows, "r"), options("i2i", "MCD", top_k=1))
