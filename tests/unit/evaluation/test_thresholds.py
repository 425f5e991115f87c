"""Which distance means the same vehicle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lists import ranking_of
from oracles import Entry
from worlds import WORLDS, World

from vreid_cli.evaluation.evaluate import evaluate
from vreid_cli.evaluation.options import EvaluationOptions
from vreid_cli.evaluation.thresholds import FALSE_MATCH_RATES, ErrorCurve


@settings(max_examples=60)
@given(made=WORLDS, same_camera=st.sampled_from(["drop", "keep"]))
def test_errors_of_a_threshold_agree_with_counting_pairs(made: World, same_camera: Any) -> None:
    curve = evaluate(made.ranking(), EvaluationOptions(same_camera=same_camera, resamples=100)).curve
    same, different = [], []
    for q, row in enumerate(made.distances):
        for i, distance in enumerate(row):
            junk = same_camera == "drop" and made.same_vehicle(q, i) and made.same_camera(q, i)
            if made.query_vehicles[q] is None or made.selves[q] == i or junk:
                continue
            (same if made.same_vehicle(q, i) else different).append(float(distance))
    if not same or not different:
        assert curve is None
        return
    assert curve is not None
    assert (curve.positives, curve.negatives) == (len(same), len(different))
    for threshold, false_matches, missed in zip(curve.thresholds, curve.false_match_rate, curve.miss_rate, strict=True):
        assert false_matches == pytest.approx(np.mean(np.array(different) <= threshold))
        assert missed == pytest.approx(np.mean(np.array(same) > threshold))
    for rate, point in curve.points().items():
        if point is not None:
            assert np.mean(np.array(different) <= point.threshold) <= rate
            assert point.miss_rate == pytest.approx(np.mean(np.array(same) > point.threshold))


def curve_of(distance: np.ndarray, same_vehicle: np.ndarray) -> ErrorCurve:
    """Errors of one query's list, in any order of distance."""
    lists = [[Entry(bool(same), False, False) for same in same_vehicle]]
    curve = evaluate(ranking_of(lists, distances=distance)).curve
    assert curve is not None
    return curve


def test_equal_errors_of_two_bells() -> None:
    # Normal distances around 1 and 2 with spread 0.25 cross at 1.5, where 2.275% lie beyond two spreads.
    rng = np.random.default_rng(0)
    distance = np.concatenate([rng.normal(1, 0.25, 40_000), rng.normal(2, 0.25, 40_000)]).clip(0).astype(np.float32)
    curve = curve_of(distance, np.arange(len(distance)) < 40_000)
    equal = curve.equal_error()
    assert equal.threshold == pytest.approx(1.5, abs=0.01)
    assert equal.miss_rate == pytest.approx(0.02275, abs=0.002)
    point = curve.at_false_match_rate(0.01)
    assert point is not None
    assert point.threshold == pytest.approx(2 - 2.326 * 0.25, abs=0.02)
    assert curve.at_false_match_rate(1e-6) is None  # 40,000 pairs cannot tell one in a million


def test_a_threshold_ends_before_the_next_distance_that_can_be_told_apart() -> None:
    # Two distances of different vehicles in neighbouring bins, by their bits; the pair of one vehicle is below.
    bits = np.array([999 << 10, (1000 << 10) + 5, 1001 << 10], dtype=np.int32)
    distance = bits.view(np.float32)
    curve = curve_of(distance, np.array([True, False, False]))
    assert [int((distance[1:] <= threshold).sum()) for threshold in curve.thresholds] == [0, 1, 2]
    assert curve.false_match_rate.tolist() == [0, 0.5, 1]


def test_the_rates_that_are_reported_are_those_of_the_tables() -> None:
    # As docs/definitions.md and the tables name them: 10 %, 1 %, 0.1 % and 0.01 % false matches.
    assert tuple(10.0**-power for power in range(1, 5)) == FALSE_MATCH_RATES
