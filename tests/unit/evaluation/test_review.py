"""Scores by marks: against a walk over the marked items, and against labels where every pair is marked by them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lists import entries, made_ranking
from oracles import rectangle_ap
from ranked import features, lists, options, random_tracks
from worlds import WORLDS, World

import vreid_cli as vreid
from vreid_cli.errors import DataError
from vreid_cli.ranking.rank import rank
from vreid_cli.types.rankings import Ranking
from vreid_cli.types.truth import ReviewedPairs

Marks = dict[tuple[str, str], bool]


def unlabelled(seed: int, *, top_k: int | None = None) -> Ranking:
    rng = np.random.default_rng(seed)
    sides = (
        features(random_tracks(rng, prefix, count=count, width=4, longest=3)) for prefix, count in (("q", 6), ("r", 12))
    )
    return rank(*sides, options("t2t", "meanMCD50", top_k=top_k))["meanMCD50"]


def some_marks(ranking: Ranking, seed: int, *, share: float = 0.5) -> Marks:
    rng = np.random.default_rng(seed)
    pairs = [(query, item) for query, rows in lists(ranking).items() for item, _, _ in rows]
    return {pair: bool(rng.random() < 0.3) for pair in pairs if rng.random() < share}


def condensed(ranking: Ranking, marks: Marks) -> dict[str, list[bool]]:
    """For each query its marked items, nearest first: whether they are right."""
    return {
        query: [marks[query, item] for item, _, _ in rows if (query, item) in marks]
        for query, rows in lists(ranking).items()
    }


@pytest.mark.parametrize("top_k", [None, 5])
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_scores_are_those_of_the_marked_items(top_k: int | None, seed: int) -> None:
    ranking = unlabelled(seed, top_k=top_k)
    marks = some_marks(ranking, seed)
    if True not in marks.values():
        return
    found = vreid.evaluate(ranking, truth=ReviewedPairs("r.csv", marks))
    valid = {query: row for query, row in condensed(ranking, marks).items() if any(row)}
    assert found.mean_ap == pytest.approx(np.mean([rectangle_ap(row) for row in valid.values()]))
    for k, value in found.cmc.items():
        assert value == pytest.approx(np.mean([any(row[:k]) for row in valid.values()]))
    assert (found.valid_queries, found.total_queries) == (len(valid), 6)
    assert f"scored by {len(marks):,} pairs" in found.warnings[0]


@settings(max_examples=10)
@given(world=WORLDS)
def test_marks_of_every_pair_by_its_labels_score_as_the_labels_do(world: World) -> None:
    ranking = world.ranking()
    by_labels = vreid.evaluate(ranking)
    own, other = (dict(zip(side.ids, side.vehicles, strict=True)) for side in (ranking.queries, ranking.gallery))
    marks = {(query, item): own[query] is not None and own[query] == other[item] for query in own for item in other}
    if not by_labels.valid_queries:
        return
    found = vreid.evaluate(ranking, truth=ReviewedPairs("r.csv", marks))
    assert found.mean_ap == pytest.approx(by_labels.mean_ap)
    assert found.mean_inp == pytest.approx(by_labels.mean_inp)
    assert found.cmc == pytest.approx(by_labels.cmc)


def test_what_is_left_out_is_said() -> None:
    ranking = made_ranking()
    left_out = [entry.left_out("drop") for entry in entries(ranking)[0]]
    (block,) = ranking.blocks
    names = ranking.gallery.ids[block.gallery_index[: len(left_out)]]
    marks = {(ranking.queries.ids[0], str(name)): True for name in names}
    review = ReviewedPairs("r.csv", {**marks, ("somebody", "else"): False}, unsure=3)
    told = " ".join(vreid.evaluate(ranking, truth=review).warnings)
    assert f"scored by {left_out.count(False):,} pairs that r.csv marks" in told
    assert "3 of them marked unsure" in told
    assert "1 pair marked by r.csv and not listed" in told
    assert f"{left_out.count(True)} marked pair" in told
    assert "of junk or the query itself" in told


def test_queries_that_marks_join_are_one_vehicle() -> None:
    ranking = unlabelled(3)
    a, b, c = ranking.queries.ids[:3]
    first, second = ranking.gallery.ids[:2]
    marks = {(a, first): True, (b, first): True, (b, second): True, (c, second): False, (c, first): False}
    found = vreid.evaluate(ranking, truth=ReviewedPairs("r.csv", marks))
    assert found.intervals.vehicles == 1
    assert found.queries.vehicles[0] == found.queries.vehicles[1] != found.queries.vehicles[2]
    joined = vreid.evaluate(ranking, truth=ReviewedPairs("r.csv", {**marks, (c, second): True}))
    assert len(set(joined.queries.vehicles)) == 1


def test_a_review_of_another_ranking_is_refused() -> None:
    ranking = unlabelled(1)
    with pytest.raises(DataError, match=r"of 1 pair that .* none is") as caught:
        vreid.evaluate(ranking, truth=ReviewedPairs("r.csv", {("x", "y"): True}))
    assert "another ranking" in str(caught.value.hint)
    pair = (ranking.queries.ids[0], ranking.gallery.ids[0])
    with pytest.raises(DataError, match="marks no pair of memory"):
        vreid.evaluate(ranking, truth=ReviewedPairs("r.csv", {pair: False}))


def test_the_ranking_stays_what_it_is() -> None:
    ranking = unlabelled(2, top_k=4)
    marks = some_marks(ranking, 2, share=1)
    found = vreid.evaluate(ranking, truth=ReviewedPairs("r.csv", {**marks, next(iter(marks)): True}))
    assert found.facts == replace(ranking.facts)
    assert found.ground_truth == "r.csv"
    assert found.curve is None
