"""Intervals hold the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from vreid_cli.evaluation.uncertainty import mean_intervals, tail_of
from vreid_cli.types.arrays import text_array

Floats = NDArray[np.floating]


def simulated(rng: np.random.Generator, vehicles: int) -> tuple[Floats, NDArray[np.object_]]:
    """Queries of vehicles, easy ones and hard ones; the true mean is 0.6."""
    sizes = rng.integers(1, 15, size=vehicles)
    level = rng.beta(3, 2, size=vehicles)
    owner = np.repeat(np.arange(vehicles), sizes)
    values = (rng.random(len(owner)) < level[owner]).astype(np.float64)
    return values, text_array([f"v{i}" for i in owner])


@pytest.mark.slow
@pytest.mark.parametrize("vehicles", [20, 40, 200])
def test_intervals_hold_the_truth_as_often_as_they_say(vehicles: int) -> None:
    rng = np.random.default_rng(vehicles)
    held = 0
    for trial in range(600):
        values, names = simulated(rng, vehicles)
        (interval,) = mean_intervals(values[:, None], names, resamples=400, seed=trial)
        assert interval is not None
        held += interval.low <= 0.6 <= interval.high
    assert 0.92 <= held / 600 <= 0.98


@pytest.mark.slow
def test_resampling_queries_instead_of_vehicles_would_be_too_sure() -> None:
    # What the resampling of vehicles is for: the same simulation, each query a vehicle of its own.
    rng = np.random.default_rng(1)
    held = 0
    for trial in range(300):
        values, names = simulated(rng, 40)
        (interval,) = mean_intervals(
            values[:, None], text_array([str(i) for i in range(len(names))]), resamples=400, seed=trial
        )
        assert interval is not None
        held += interval.low <= 0.6 <= interval.high
    assert held / 300 < 0.85


def test_intervals_are_the_same_for_the_same_seed_and_contain_the_mean() -> None:
    values, names = simulated(np.random.default_rng(3), 30)
    columns = np.stack([values, 1 - values, np.ones(len(values))], axis=1)
    one, again, other = (mean_intervals(columns, names, resamples=500, seed=seed) for seed in (7, 7, 8))
    assert one == again != other
    for interval, mean in zip(one, columns.mean(axis=0), strict=True):
        assert interval is not None
        assert interval.low <= mean <= interval.high
    assert (one[2].low, one[2].high) == (1, 1)  # type: ignore[union-attr]
    assert one[0].low == pytest.approx(1 - one[1].high)  # type: ignore[union-attr]


def test_one_vehicle_says_nothing_about_others() -> None:
    assert mean_intervals(np.ones((5, 2)), text_array(["v"] * 5), resamples=100, seed=0) == [None, None]


@pytest.mark.parametrize(("clusters", "rel"), [(12, 5e-4), (40, 3e-6), (200, 1e-7)])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_percentiles_of_few_vehicles_are_as_wide_as_students(clusters: int, rel: float, level: float) -> None:
    quantile = stats.t.ppf((1 + level) / 2, clusters - 1)
    expected = stats.norm.cdf(-quantile * np.sqrt(clusters / (clusters - 1)))
    assert tail_of(clusters, level=level) == pytest.approx(expected, rel=rel)
