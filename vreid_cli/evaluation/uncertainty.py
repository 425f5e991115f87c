"""How sure a mean over queries is.

Queries of one vehicle succeed and fail together, so vehicles with all their queries are resampled: VeRi's 1,678
queries show 200 vehicles, and resampling queries would give intervals that are far too narrow. Sources:
docs/definitions.md#uncertainty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from vreid_cli.types.arrays import TextArray

FloatArray = NDArray[np.float64]
#: Vehicles times resamples at a time.
CHUNK = 1 << 22


@dataclass(frozen=True)
class Interval:
    """A confidence interval, as fractions."""

    low: float
    high: float


def mean_intervals(
    values: FloatArray, vehicles: TextArray, *, resamples: int, seed: int, level: float = 0.95
) -> list[Interval | None]:
    """Confidence intervals of the means of several columns.

    Args:
        values: (n, m) one row a query.
        vehicles: (n,) vehicle of each query.
        resamples: How often the vehicles are resampled.
        seed: Of the resamples; the same seed gives the same intervals.
        level: Share of such intervals that hold the true mean.

    Returns:
        One for each column; None with fewer than two vehicles, which say nothing about others.

    Examples:
        >>> vehicles = np.array(["a", "a", "b", "c"], dtype=object)
        >>> (interval,) = mean_intervals(np.array([[1.0], [0.5], [0.0], [1.0]]), vehicles, resamples=500, seed=0)
        >>> 0 <= interval.low < 0.625 < interval.high <= 1
        True
    """
    sums, counts = sum_by_vehicle(values, vehicles)
    if len(counts) < 2:
        return [None] * values.shape[1]
    drawn = resample_sums(np.column_stack([sums, counts]), resamples=resamples, seed=seed)
    return percentile_intervals(drawn[:, :-1] / drawn[:, -1:], vehicles=len(counts), level=level)


def resample_sums(sums: FloatArray, *, resamples: int, seed: int) -> FloatArray:
    """(resamples, m) sums over as many vehicles as there are, drawn with replacement.

    Args:
        sums: (V, m) what each vehicle adds.
        resamples: How often the vehicles are drawn.
        seed: Of the draws.

    Examples:
        >>> resample_sums(np.array([[1.0, 2.0], [1.0, 2.0]]), resamples=2, seed=0).tolist()
        [[2.0, 4.0], [2.0, 4.0]]
    """
    number, rng = len(sums), np.random.default_rng(seed)
    drawn = []
    for start in range(0, resamples, step := max(1, CHUNK // number)):
        weights = rng.multinomial(number, np.full(number, 1 / number), size=min(step, resamples - start))
        drawn.append(weights @ sums)
    return np.concatenate(drawn)


def percentile_intervals(scores: FloatArray, *, vehicles: int, level: float = 0.95) -> list[Interval | None]:
    """The interval of each column of resampled scores (B, m), widened for few vehicles; NaN are left out.

    Examples:
        >>> percentile_intervals(np.full((100, 1), 0.5), vehicles=30)
        [Interval(low=0.5, high=0.5)]
    """
    tail = tail_of(vehicles, level=level)
    found: list[Interval | None] = []
    for column in scores.T:
        known = column[~np.isnan(column)]
        low, high = np.quantile(known, [tail, 1 - tail]) if len(known) else (np.nan, np.nan)
        found.append(Interval(float(low), float(high)) if len(known) else None)
    return found


def sum_by_vehicle(values: FloatArray, vehicles: TextArray) -> tuple[FloatArray, FloatArray]:
    """(V, m) sums and (V,) numbers of the rows of each vehicle.

    Examples:
        >>> sums, counts = sum_by_vehicle(np.array([[1.0], [0.5], [0.5]]), np.array(["a", "b", "b"], dtype=object))
        >>> sums.tolist(), counts.tolist()
        ([[1.0], [1.0]], [1.0, 2.0])
    """
    _, group, counts = np.unique(vehicles.astype(str), return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, group, values)
    return sums, counts.astype(np.float64)


def tail_of(clusters: int, *, level: float = 0.95) -> float:
    """The normal tail that percentiles must be taken at, so that few clusters give Student's width.

    Examples:
        >>> tail_of(5) < tail_of(200) < 0.025
        True
    """
    normal = NormalDist()
    z = normal.inv_cdf(1 - (1 - level) / 2)
    nu = clusters - 1
    # Student's quantile by its expansion in 1/ν (Abramowitz and Stegun 26.7.5).
    t = z + (z**3 + z) / (4 * nu) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * nu**2)
    t += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * nu**3)
    return normal.cdf(-t * math.sqrt(clusters / (clusters - 1)))
