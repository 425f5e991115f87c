"""Whether probabilities are what they say (docs/definitions.md#reliability)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid_cli.evaluation.uncertainty import Interval, percentile_intervals, resample_sums
from vreid_cli.types.arrays import BoolArray, Int64Array

FloatArray = NDArray[np.float64]
#: Bins of equal width between 0 and 1.
BINS = 10
_FEWEST = 5


@dataclass(frozen=True)
class ReliabilityBin:
    """Pairs whose probabilities lie close together.

    Attributes:
        low: Smallest probability of the bin.
        high: Largest, not included but for 1.
        pairs: How many there are.
        probability: Their mean probability.
        share: How many of them are of the same vehicle, as a share.
        interval: Its interval; None with fewer than five vehicles, of which resampling says nothing.
    """

    low: float
    high: float
    pairs: float
    probability: float
    share: float
    interval: Interval | None


@dataclass(frozen=True)
class Reliability:
    """How far probabilities can be trusted.

    Attributes:
        pairs: Pairs that were looked at.
        vehicles: Vehicles of their queries.
        base_rate: Share of the pairs that are of the same vehicle.
        brier: Mean squared difference between probability and truth; smaller is better.
        brier_interval: Its interval; None with a single vehicle.
        brier_constant: The Brier score of saying the base rate of every pair.
        ece: Expected calibration error: mean difference between a bin's probability and its share, by pairs.
        ece_interval: Its interval.
        bins: The bins that hold pairs.
        cross_validated: Whether the probabilities come from other vehicles of the same data, fold by fold; else they
            are those of the ranking.
    """

    pairs: float
    vehicles: int
    base_rate: float
    brier: float
    brier_interval: Interval | None
    brier_constant: float
    ece: float
    ece_interval: Interval | None
    bins: tuple[ReliabilityBin, ...]
    cross_validated: bool


def measure_reliability(
    probability: FloatArray,
    same: BoolArray,
    *,
    vehicles: Int64Array,
    weight: FloatArray | None = None,
    cross_validated: bool = False,
    resamples: int = 2000,
    seed: int = 0,
) -> Reliability:
    """Compare probabilities with the truth; intervals resample vehicles with all their pairs.

    Args:
        probability: (n,) of the same vehicle.
        same: (n,) the truth.
        vehicles: (n,) number of the query's vehicle.
        weight: (n,) how many pairs each stands for; None for one.
        cross_validated: What is said of the probabilities.
        resamples: How often vehicles are resampled.
        seed: Of the resamples.

    Examples:
        >>> probability, same = np.array([0.1, 0.1, 0.9, 0.9]), np.array([False, False, True, False])
        >>> found = measure_reliability(probability, same, vehicles=np.array([0, 1, 0, 1]))
        >>> round(found.brier, 3), round(found.ece, 3)
        (0.21, 0.25)
    """
    weight = np.ones(len(same)) if weight is None else weight
    own = np.unique(vehicles, return_inverse=True)[1]
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    count = int(own.max(initial=-1)) + 1
    cell = own * BINS + place

    def sums(values: FloatArray) -> FloatArray:
        """(V, bins) of each vehicle in each bin."""
        found = np.bincount(cell, weights=values * weight, minlength=count * BINS)
        return found.astype(np.float64).reshape(count, BINS)

    truth = same.astype(np.float64)
    # (V, 4, bins): pairs, probabilities, same-vehicle pairs, squared errors.
    table = np.stack(
        [sums(values) for values in (np.ones(len(same)), probability, truth, (probability - truth) ** 2)], 1
    )
    flat = table.reshape(count, -1)
    drawn = resample_sums(flat, resamples=resamples, seed=seed) if count > 1 else None
    resampled = None if drawn is None else drawn.reshape(-1, *table.shape[1:])
    brier, ece, shares = _scores(table.sum(axis=0)[None])
    intervals = [None] * (2 + BINS) if resampled is None else _ends(_scores(resampled), count, ece=float(ece[0]))
    total = table.sum(axis=0)
    base_rate = float(total[2].sum() / total[0].sum())
    return Reliability(
        pairs=float(total[0].sum()),
        vehicles=count,
        base_rate=base_rate,
        brier=float(brier[0]),
        brier_interval=intervals[0],
        brier_constant=base_rate * (1 - base_rate),
        ece=float(ece[0]),
        ece_interval=intervals[1],
        bins=tuple(
            ReliabilityBin(
                low=number / BINS,
                high=(number + 1) / BINS,
                pairs=float(total[0, number]),
                probability=float(total[1, number] / total[0, number]),
                share=float(shares[0, number]),
                interval=intervals[2 + number] if (table[:, 0, number] > 0).sum() >= _FEWEST else None,
            )
            for number in range(BINS)
            if total[0, number]
        ),
        cross_validated=cross_validated,
    )


def _scores(tables: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Of (r, 4, bins) tables: (r,) Brier scores, (r,) calibration errors, (r, bins) shares; NaN for empty bins."""
    pairs, probability, truth, squares = np.moveaxis(tables, 1, 0)
    total = pairs.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(pairs > 0, truth / pairs, np.nan)
    return squares.sum(axis=1) / total, np.abs(probability - truth).sum(axis=1) / total, shares


def _ends(scores: tuple[FloatArray, FloatArray, FloatArray], count: int, *, ece: float) -> list[Interval | None]:
    brier, errors, shares = scores
    # A resample errs by its own chance besides, and an error of either sign counts: that excess is taken off.
    errors = np.maximum(errors - (errors.mean() - ece), 0)
    return percentile_intervals(np.column_stack([brier, errors, shares]), vehicles=count)
