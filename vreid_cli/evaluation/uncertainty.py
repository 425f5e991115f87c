"""How sure a mean over queries is, and whether one ranking is better than another.

Queries of one vehicle succeed and fail together, so what is drawn again, or has its sign flipped, are vehicles
with all their queries: VeRi's 1,678 queries show 200 vehicles, and drawing queries would give intervals that
are far too narrow. Sources: Cameron, Gelbach, Miller 2008 (resampling of clusters); Hesterberg 2015, section 3
(percentiles widened for few of them).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, mean, stdev

import numpy as np
from numpy.typing import NDArray

from vreid_cli.evaluation.scores import QueryScores
from vreid_cli.types.arrays import TextArray

FloatArray = NDArray[np.float64]
#: Vehicles times draws at a time.
_DRAWN = 1 << 22


@dataclass(frozen=True)
class Interval:
    """A confidence interval, as fractions."""

    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """One ranking against another on the queries that are valid in both.

    Attributes:
        difference: Mean difference, the first minus the second.
        interval: Its interval; None with fewer than two vehicles.
        p_value: How often flipping the signs of vehicles at random gives a difference as large.
        queries: How many queries both have.
        vehicles: How many vehicles these show.
    """

    difference: float
    interval: Interval | None
    p_value: float
    queries: int
    vehicles: int


@dataclass(frozen=True)
class Spread:
    """A score over several trials of one protocol.

    Attributes:
        mean: Over the trials.
        deviation: Standard deviation between them (n - 1); None for a single one.
    """

    mean: float
    deviation: float | None


def over_trials(values: Sequence[float | None]) -> Spread | None:
    """Mean and spread of one score; None where some trial has none."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return Spread(mean(known), stdev(known) if len(known) > 1 else None)


def mean_intervals(
    values: FloatArray, vehicles: TextArray, *, draws: int, seed: int, level: float = 0.95
) -> list[Interval | None]:
    """Confidence intervals of the means of several columns.

    Args:
        values: (n, m) one row a query.
        vehicles: (n,) vehicle of each query.
        draws: How often the vehicles are drawn again.
        seed: Of the draws; the same seed gives the same intervals.
        level: Share of such intervals that hold the true mean.

    Returns:
        One for each column; None with fewer than two vehicles, which say nothing about others.
    """
    sums, counts = _by_vehicle(values, vehicles)
    number = len(counts)
    if number < 2:
        return [None] * values.shape[1]
    rng = np.random.default_rng(seed)
    means = []
    for start in range(0, draws, step := max(1, _DRAWN // number)):
        weights = rng.multinomial(number, np.full(number, 1 / number), size=min(step, draws - start))
        means.append((weights @ sums) / (weights @ counts)[:, None])
    tail = _widened_tail((1 - level) / 2, number)
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0)
    return [Interval(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def compare(one: QueryScores, other: QueryScores, *, draws: int, seed: int) -> Comparison | None:
    """Difference of mAP between two rankings of the same queries; None where they share no valid query."""
    place = {name: index for index, name in enumerate(other.query_ids)}
    both = [(i, place[name]) for i, name in enumerate(one.query_ids) if name in place]
    pairs = np.array(both, dtype=np.int64).reshape(-1, 2)
    first, second = one.average_precision[pairs[:, 0]], other.average_precision[pairs[:, 1]]
    valid = ~np.isnan(first) & ~np.isnan(second)
    if not valid.any():
        return None
    differences = (first - second)[valid]
    vehicles = one.vehicles[pairs[valid, 0]]
    (interval,) = mean_intervals(differences[:, None], vehicles, draws=draws, seed=seed)
    sums, counts = _by_vehicle(differences[:, None], vehicles)
    return Comparison(
        difference=float(differences.mean()),
        interval=interval,
        p_value=_sign_flip_p_value(sums[:, 0], draws=draws, seed=seed),
        queries=len(differences),
        vehicles=len(counts),
    )


def _by_vehicle(values: FloatArray, vehicles: TextArray) -> tuple[FloatArray, FloatArray]:
    """(V, m) sums and (V,) numbers of the rows of each vehicle."""
    _, group = np.unique(vehicles.astype(str), return_inverse=True)
    counts = np.bincount(group).astype(np.float64)
    sums = np.empty((len(counts), values.shape[1]))
    for index, column in enumerate(values.T):
        sums[:, index] = np.bincount(group, weights=column, minlength=len(counts))
    return sums, counts


def _sign_flip_p_value(sums: FloatArray, *, draws: int, seed: int) -> float:
    """Two-sided: without a difference a vehicle's sum is as likely to have the other sign."""
    rng = np.random.default_rng([seed, 1])
    observed = abs(sums.sum())
    # Sums that are equal but for the order of adding count as equal.
    limit = observed - 1e-12 * max(1.0, float(np.abs(sums).sum()))
    extreme = 0
    for start in range(0, draws, step := max(1, _DRAWN // len(sums))):
        signs = rng.integers(0, 2, size=(min(step, draws - start), len(sums))) * 2 - 1
        extreme += int((np.abs(signs @ sums) >= limit).sum())
    return (1 + extreme) / (1 + draws)


def _widened_tail(tail: float, clusters: int) -> float:
    """The normal tail that percentiles must be taken at, so that few clusters give Student's width."""
    normal = NormalDist()
    z = normal.inv_cdf(1 - tail)
    nu = clusters - 1
    # Student's quantile by its expansion in 1/ν (Abramowitz and Stegun 26.7.5).
    t = z + (z**3 + z) / (4 * nu) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * nu**2)
    t += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * nu**3)
    return normal.cdf(-t * math.sqrt(clusters / (clusters - 1)))
