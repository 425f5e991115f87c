"""Means, intervals and warnings together, and ground truth that a data set states."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lists import ranking_of
from oracles import Entry
from worlds import World

from vreid_cli.evaluation.evaluate import evaluate
from vreid_cli.evaluation.options import EvaluationOptions
from vreid_cli.types.features import MEANINGLESS
from vreid_cli.types.truth import GroundTruth, SameCamera

RIGHT, WRONG, JUNK, SELF = (
    Entry(True, False, False),
    Entry(False, False, False),
    Entry(True, True, False),
    Entry(True, True, True),
)


def test_queries_without_a_positive_count_as_nothing_where_that_is_asked_for() -> None:
    made = World(4, queries=40, gallery=6)
    skip, zero = (
        evaluate(made.ranking(), EvaluationOptions(without_positive=policy, resamples=300))
        for policy in ("skip", "zero")
    )
    labelled = sum(vehicle is not None for vehicle in made.query_vehicles)
    valid = int((skip.queries.positives > 0).sum())
    assert 0 < valid < labelled < 40
    assert zero.valid_queries == skip.valid_queries == valid
    assert zero.mean_ap == pytest.approx((skip.mean_ap or 0) * valid / labelled)
    assert zero.cmc[1] == pytest.approx((skip.cmc[1] or 0) * valid / labelled)
    assert (zero.mean_ap or 0) < (skip.mean_ap or 0) - 0.1
    # The intervals are about the same queries as the means.
    for found in (skip, zero):
        assert found.intervals.mean_ap is not None
        middle = (found.intervals.mean_ap.low + found.intervals.mean_ap.high) / 2
        assert middle == pytest.approx(found.mean_ap, abs=0.08)


# -- warnings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lists", "labelled", "same_camera", "reason"),
    [
        ([[WRONG]], [False], "drop", "The queries are unlabelled"),
        ([[SELF, JUNK, WRONG]], [True], "drop", "seen by the query's own camera"),
        ([[SELF, WRONG]], [True], "keep", "is the query itself"),
        ([[WRONG, WRONG]], [True], "drop", "No gallery item has the vehicle"),
    ],
)
def test_where_nothing_can_be_found_it_is_said_why(
    lists: list[list[Entry]], labelled: list[bool], same_camera: SameCamera, reason: str
) -> None:
    found = evaluate(ranking_of(lists, labelled), EvaluationOptions(same_camera=same_camera))
    (warning,) = found.warnings
    assert reason in warning
    assert found.mean_ap is None


def test_what_is_doubtful_about_a_ranking_is_said() -> None:
    lists = [[RIGHT, WRONG], [WRONG]]
    assert evaluate(ranking_of(lists)).warnings == ()
    assert evaluate(ranking_of(lists, weights="random")).warnings == (MEANINGLESS,)
    assert "1 of 2 queries have no vehicle label" in evaluate(ranking_of(lists, [True, False])).warnings
    assert any("are refused" in text for text in evaluate(ranking_of(lists, coverage="top-k")).warnings)
    keep = EvaluationOptions(same_camera="keep")
    assert any("never ranked" in text for text in evaluate(ranking_of(lists, cameras="other"), keep).warnings)


# -- a data set's own truth ----------------------------------------------------------------------------------


def test_stated_truth_decides_and_contradictions_are_reported() -> None:
    made = World(2, queries=2, gallery=6)
    made.query_vehicles, made.gallery_vehicles = ["v1", "v1"], ["v1", "v1", "v2", "v2", "v1", "v9"]
    made.query_cameras, made.gallery_cameras = ["c0", "c0"], ["c0", "c1", "c1", "c0", "c1", "c1"]
    made.selves = [-1, -1]
    truth = GroundTruth(
        source="the lists",
        gallery=frozenset({"g0", "g1", "g2", "g3", "g4"}),  # g5 is not theirs to judge
        good={"q0": frozenset({"g0", "g2"})},  # nothing is said of q1
        junk={"q0": frozenset({"g1", "g3"})},
    )
    ranking = made.ranking()
    found = evaluate(ranking, truth=truth)
    # q0: g0 and g2 are right, g1 and g3 junk; q1 by labels: g1 and g4 are right, g0 is junk.
    assert found.queries.positives.tolist() == [2, 2]
    assert found.queries.junk.tolist() == [2, 1]
    assert found.ground_truth == "the lists"
    order = [ranking.gallery.ids[i] for i in np.argsort(made.distances[0], kind="stable")]
    counted = [name for name in order if name not in ("g1", "g3")]
    places = sorted(counted.index(name) + 1 for name in ("g0", "g2"))
    assert found.queries.average_precision[0] == pytest.approx((1 / places[0] + 2 / places[1]) / 2)
    # g0 is junk and g1 right by their labels, g2 and g3 of another vehicle, g4 of the same.
    (warning,) = found.warnings
    assert "the lists contradict the labels about 5 pairs," in warning
    assert warning.count("q0 and g") == 3
    # In lists that leave out what labels do not know, a right item may be missing.
    (block,) = ranking.blocks
    cut = made.ranking(ranking.gallery.ids[block.gallery_index] != "g2")
    again = evaluate(replace(cut, facts=replace(cut.facts, coverage="positives")), truth=truth)
    assert "not listed, and left out of the scores: 1 item that the lists call right" in again.warnings[1]


def test_the_query_itself_is_left_out_whatever_the_lists_say() -> None:
    ranking = ranking_of([[SELF, RIGHT]])
    own, right = ranking.gallery.ids
    truth = GroundTruth("the lists", frozenset({own, right}), {"q0": frozenset({own, right})}, {"q0": frozenset()})
    found = evaluate(ranking, truth=truth)
    assert (found.positives, found.junk, found.warnings) == (1, 1, ())


def test_labels_that_are_not_there_contradict_nothing() -> None:
    ranking = ranking_of([[WRONG, WRONG]], [False])
    nothing = GroundTruth("the lists", frozenset(ranking.gallery.ids), {"q0": frozenset()}, {"q0": frozenset()})
    assert not any("contradict" in text for text in evaluate(ranking, truth=nothing).warnings)
