"""Brier score, calibration error and reliability, against a loop over pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vreid_cli.evaluation.reliability import BINS, measure_reliability


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 60), vehicles=st.integers(1, 12))
def test_scores_are_those_of_a_loop(seed: int, size: int, vehicles: int) -> None:
    rng = np.random.default_rng(seed)
    probability, same = rng.choice([0.0, 0.05, 0.1, 0.33, 0.85, 0.95, 1.0], size), rng.random(size) < 0.5
    weight, own = rng.integers(1, 4, size).astype(float), rng.integers(0, vehicles, size)
    found = measure_reliability(probability, same, vehicles=own, weight=weight, resamples=100)
    pairs = [(p, float(y)) for p, y, w in zip(probability, same, weight, strict=True) for _ in range(int(w))]
    assert found.brier == pytest.approx(sum((p - y) ** 2 for p, y in pairs) / len(pairs))
    bins: dict[int, list[tuple[float, float]]] = {}
    for p, y in pairs:
        bins.setdefault(min(int(p * BINS), BINS - 1), []).append((p, y))
    error = sum(abs(sum(p for p, _ in part) - sum(y for _, y in part)) for part in bins.values())
    assert found.ece == pytest.approx(error / len(pairs))
    assert [part.pairs for part in found.bins] == [len(bins[number]) for number in sorted(bins)]
    for part, number in zip(found.bins, sorted(bins), strict=True):
        assert (part.low, part.high) == (number / BINS, (number + 1) / BINS)
        assert part.share == pytest.approx(np.mean([y for _, y in bins[number]]))
        assert part.probability == pytest.approx(np.mean([p for p, _ in bins[number]]))
    assert found.vehicles == len(set(own.tolist()))
    assert (found.brier_interval is None) == (found.vehicles == 1)
    assert found.pairs == len(pairs)


def test_intervals_hold_what_is_true_about_as_often_as_they_say() -> None:
    held = {"brier": 0, "share": 0}
    for seed in range(100):
        rng = np.random.default_rng(seed)
        # Pairs of one vehicle share their luck, so that an interval over pairs would be too narrow.
        chance = np.repeat(rng.choice([0.5, 0.9], 60), 20)
        same = rng.random(1200) < chance
        found = measure_reliability(
            np.full(1200, 0.7), same, vehicles=np.repeat(np.arange(60), 20), resamples=400, seed=seed
        )
        assert found.brier_interval is not None
        (part,) = found.bins
        assert part.interval is not None
        held["share"] += part.interval.low <= 0.7 <= part.interval.high
        held["brier"] += found.brier_interval.low <= 0.7 * 0.09 + 0.3 * 0.49 <= found.brier_interval.high
    assert all(88 <= count <= 100 for count in held.values()), held


def test_a_single_vehicle_has_no_interval() -> None:
    found = measure_reliability(np.array([0.2, 0.8]), np.array([False, True]), vehicles=np.zeros(2, dtype=np.int64))
    assert found.brier_interval is None
    assert found.ece_interval is None
    assert all(part.interval is None for part in found.bins)
