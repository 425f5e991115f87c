"""Queries whose vehicle is not in the gallery, against counting them one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import scored, two_cameras
from worlds import WORLDS, World

from vreid_cli.errors import DataError
from vreid_cli.evaluation.calibrate import calibrate
from vreid_cli.evaluation.evaluate import evaluate
from vreid_cli.evaluation.open_set import FALSE_POSITIVE_RATES, OpenSet
from vreid_cli.evaluation.options import CalibrationOptions, EvaluationOptions

#: Of each labelled query: distance of its nearest, whether that is right, and distance of the nearest right one.
Found = list[tuple[float, bool, float | None]]


def one_by_one(made: World, same_camera: str) -> Found:
    found: Found = []
    for query, row in enumerate(made.distances):
        if made.query_vehicles[query] is None:
            continue
        counted = []
        for item in np.argsort(row, kind="stable").tolist():
            same = made.same_vehicle(query, item)
            junk = same and made.same_camera(query, item) and same_camera == "drop"
            if made.selves[query] != item and not junk:
                counted.append((float(row[item]), same))
        right = [distance for distance, same in counted if same]
        nearest = counted[0] if counted else (np.inf, False)
        found.append((*nearest, right[0] if right else None))
    return found


def value(estimate: Any) -> float | None:
    return None if estimate is None else estimate.value


@settings(max_examples=100, deadline=None)
@given(made=WORLDS, same_camera=st.sampled_from(["drop", "keep"]), threshold=st.sampled_from([0.0, 0.5, 1.0, 9.0]))
def test_every_figure_is_that_of_a_count(made: World, same_camera: Any, threshold: float) -> None:
    chosen = EvaluationOptions(same_camera=same_camera, threshold=threshold, resamples=100)
    one = evaluate(made.ranking(), chosen).open_set
    found = one_by_one(made, same_camera)
    if not found:
        assert one is None
        return
    assert one is not None
    mated = [row for row in found if row[2] is not None]
    others = [row for row in found if row[2] is None]
    assert (one.mated, one.others) == (len(mated), len(others))
    rule = one.decisions
    assert rule is not None
    limit = np.float32(threshold)
    assert rule.right == sum(d <= limit and same for d, same, _ in mated)
    assert rule.wrong == sum(d <= limit and not same for d, same, _ in mated)
    assert rule.missed == sum(d > limit for d, _, _ in mated)
    assert rule.false == sum(d <= limit for d, _, _ in others)
    assert rule.absent == sum(d > limit for d, _, _ in others)
    said = rule.right + rule.wrong + rule.false
    assert value(rule.precision) == (rule.right / said if said else None)
    assert value(rule.recall) == (rule.right / len(mated) if mated else None)
    assert value(rule.true_negative_rate) == (rule.absent / len(others) if others else None)
    if said + len(mated):
        assert value(rule.f1) == pytest.approx(2 * rule.right / (said + len(mated)))
    if mated and others:
        wins = [(a < b) + (a == b) / 2 for a, _, _ in mated for b, _, _ in others]
        assert value(one.auroc) == pytest.approx(np.mean(wins))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([4, 10**6]))
def test_identification_rates_are_the_best_over_all_thresholds(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    distances = np.round(rng.normal(2, 0.5, (150, 60)).clip(0) * levels) / levels
    queries, gallery = [f"v{n}" for n in range(150)], [f"v{n}" for n in range(45)] + [None] * 15
    distances[np.arange(45), np.arange(45)] = np.round(rng.normal(0.9, 0.5, 45).clip(0) * levels) / levels
    one = evaluate(scored(distances, queries, gallery), EvaluationOptions(resamples=100)).open_set
    assert one is not None
    single = distances.astype(np.float32)
    nearest, right = single.min(axis=1), single[np.arange(45), np.arange(45)]
    others = nearest[45:]
    for rate in FALSE_POSITIVE_RATES:
        at = one.at_false_positive_rate[rate]
        assert at is not None
        allowed = [t for t in [-1.0, *np.unique(single)] if np.mean(others <= t) <= rate]
        assert at.tpir.value == pytest.approx(max(np.mean(right <= t) for t in allowed))
        first = np.argmin(single[:45], axis=1) == np.arange(45)
        assert at.rank1.value == pytest.approx(max(np.mean(first & (nearest[:45] <= t)) for t in allowed))
        assert np.mean(others <= np.float32(at.threshold)) <= rate
        assert np.mean(right <= np.float32(at.threshold)) == pytest.approx(at.tpir.value)


@pytest.mark.parametrize(("others", "known"), [(9, []), (10, [0.1]), (99, [0.1]), (100, [0.01, 0.1])])
def test_a_rate_that_too_few_queries_can_tell_is_not_given(others: int, known: list[float]) -> None:
    names = [f"v{n}" for n in range(others + 5)]
    ranking = scored(np.random.default_rng(0).random((others + 5, 5)), names, names[:5])
    one = evaluate(ranking, EvaluationOptions(resamples=100)).open_set
    assert one is not None
    assert sorted(rate for rate, found in one.at_false_positive_rate.items() if found is not None) == known


def opened(share: float, seed: int, **more: Any) -> OpenSet:
    chosen = EvaluationOptions(split_open=share, resamples=100, **more)
    one = evaluate(two_cameras(100, 3), chosen, seed=seed).open_set
    assert one is not None
    return one


def test_vehicles_that_are_held_out_leave_the_gallery_and_nothing_else_changes() -> None:
    ranking = two_cameras(100, 3)
    plain = evaluate(ranking, EvaluationOptions(resamples=100))
    assert plain.open_set is None
    split = evaluate(ranking, EvaluationOptions(split_open=0.3, resamples=100), seed=4)
    assert split.mean_ap == plain.mean_ap
    one = split.open_set
    assert one is not None
    assert (one.held_out, one.mated, one.others) == (30, 70, 30)
    # The same by hand: the columns of those vehicles taken out of the matrix.
    names = sorted(str(name) for name in ranking.queries.vehicles)
    absent = {names[place] for place in np.random.default_rng([4, 6]).permutation(100)[:30].tolist()}
    kept = [place for place, name in enumerate(ranking.gallery.vehicles) if name not in absent]
    matrix = np.full((100, 100), np.nan, dtype=np.float32)
    (block,) = ranking.blocks
    matrix[block.query_index, block.gallery_index] = block.distance
    smaller = scored(matrix[:, kept].astype(np.float64), list(ranking.queries.vehicles), [names[n] for n in kept])
    by_hand = evaluate(smaller, EvaluationOptions(resamples=100), seed=4).open_set
    assert by_hand is not None
    assert replace(by_hand, held_out=30) == one


def test_the_seed_chooses_who_is_held_out() -> None:
    assert opened(0.3, 1) == opened(0.3, 1)
    assert opened(0.3, 1) != opened(0.3, 2)
    assert opened(0.301, 1).held_out == 31


def test_intervals_hold_the_score() -> None:
    one = opened(0.4, 0, threshold=1.3)
    rule = one.decisions
    assert rule is not None
    for estimate in (one.auroc, rule.f1, rule.precision, rule.recall, rule.true_negative_rate):
        assert estimate is not None
        assert estimate.interval is not None
        assert estimate.interval.low <= estimate.value <= estimate.interval.high
        assert 0 <= estimate.interval.low < estimate.interval.high <= 1


def test_a_probability_is_the_distance_that_it_stands_for() -> None:
    ranking = two_cameras(100, 3)
    calibration = calibrate(ranking, CalibrationOptions(resamples=20)).calibration
    sure = replace(ranking, facts=ranking.facts.with_probabilities(calibration))
    farthest = calibration.farthest(0.9, prior=0.01)
    assert farthest is not None
    by_probability, by_distance = (
        evaluate(sure, EvaluationOptions(split_open=0.3, resamples=100, **chosen)).open_set
        for chosen in ({"min_probability": 0.9}, {"threshold": farthest})
    )
    assert by_probability is not None
    assert by_distance is not None
    assert by_probability.decisions is not None
    assert by_probability.decisions.probability == 0.9
    assert replace(by_probability.decisions, probability=None) == by_distance.decisions
    default = evaluate(sure, EvaluationOptions(split_open=0.3, resamples=100)).open_set
    assert default is not None
    assert default.decisions is not None
    assert default.decisions.probability == 0.5


@pytest.mark.parametrize(
    ("chosen", "facts", "message"),
    [
        ({"min_probability": 0.9}, {}, "the distances of meanMCD50 have no probabilities"),
        ({"split_open": 0.3}, {"coverage": "positives"}, "what would be the nearest is not known"),
    ],
)
def test_what_cannot_be_measured_is_refused(chosen: dict[str, Any], facts: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(two_cameras(20, **facts), EvaluationOptions(**chosen))
