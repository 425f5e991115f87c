"""Which distance means the same vehicle: errors of the rule "same if no farther than t", for every t.

Pairs are counted in bins so narrow that a threshold is known to one part in 8,000, so any number of pairs
takes the same memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid_cli.evaluation.judging import WRONG, Kinds, positive
from vreid_cli.evaluation.options import EvaluationOptions
from vreid_cli.types.arrays import Float32Array, Int64Array

#: Bits of a float32 that are left out: what remains rises with a distance that is not negative.
_DROPPED_BITS = 10
_BINS = (0x7F800000 >> _DROPPED_BITS) + 1
#: False-match rates at which the miss rate is given.
FALSE_MATCH_RATES = (0.1, 0.01, 0.001, 0.0001)


@dataclass(frozen=True)
class OperatingPoint:
    """The rule at one threshold.

    Attributes:
        threshold: Largest distance that counts as the same vehicle.
        miss_rate: Share of same-vehicle pairs that are farther.
    """

    threshold: float
    miss_rate: float


@dataclass(frozen=True, eq=False)
class ErrorCurve:
    """Errors at every threshold that makes a difference.

    Attributes:
        thresholds: (n,) rising.
        false_match_rate: (n,) share of pairs of different vehicles that are no farther.
        miss_rate: (n,) share of pairs of the same vehicle that are farther.
        positives: Pairs of the same vehicle.
        negatives: Pairs of different vehicles.
        positive_counts: (n,) pairs of the same vehicle between the threshold before and this one.
        negative_counts: (n,) the same of different vehicles.
    """

    thresholds: NDArray[np.float64]
    false_match_rate: NDArray[np.float64]
    miss_rate: NDArray[np.float64]
    positives: int
    negatives: int
    positive_counts: Int64Array
    negative_counts: Int64Array

    def equal_error(self) -> OperatingPoint:
        """Where both errors are (nearly) equal; the rate is the mean of the two."""
        at = int(np.argmin(np.abs(self.false_match_rate - self.miss_rate)))
        rate = (self.false_match_rate[at] + self.miss_rate[at]) / 2
        return OperatingPoint(float(self.thresholds[at]), float(rate))

    def at_false_match_rate(self, rate: float) -> OperatingPoint | None:
        """The largest threshold with no more false matches than this.

        None where there are too few pairs for such a rate, or no threshold keeps it.
        """
        at = int(np.searchsorted(self.false_match_rate, rate, side="right")) - 1
        if at < 0 or self.negatives * rate < 1:
            return None
        return OperatingPoint(float(self.thresholds[at]), float(self.miss_rate[at]))

    def points(self) -> Mapping[float, OperatingPoint | None]:
        """The rule at each of :data:`FALSE_MATCH_RATES`."""
        return {rate: self.at_false_match_rate(rate) for rate in FALSE_MATCH_RATES}


class PairCounter:
    """Counts the distances of same-vehicle and other pairs, block by block.

    Args:
        options: How to count: pairs that scores leave out are left out here too.
    """

    def __init__(self, options: EvaluationOptions) -> None:
        self._same_camera = options.same_camera
        self._positive, self._negative = np.zeros((2, _BINS), dtype=np.int64)

    def add(self, distance: Float32Array, kinds: Kinds) -> None:
        """Count some pairs; those whose query's vehicle is unknown say nothing."""
        # The absolute value turns -0.0 into 0; no distance is negative otherwise.
        bins = np.abs(distance).view(np.int32) >> _DROPPED_BITS
        np.add.at(self._positive, bins[positive(kinds, self._same_camera)], 1)
        np.add.at(self._negative, bins[kinds == WRONG], 1)

    def curve(self) -> ErrorCurve | None:
        """The errors; None where one kind of pairs is missing."""
        used = np.flatnonzero((self._positive > 0) | (self._negative > 0))
        positive, negative = self._positive[used], self._negative[used]
        positives, negatives = int(positive.sum()), int(negative.sum())
        if not positives or not negatives:
            return None
        edges = ((used + 1) << _DROPPED_BITS) - 1
        return ErrorCurve(
            thresholds=edges.astype(np.int32).view(np.float32).astype(np.float64),
            false_match_rate=np.cumsum(negative) / negatives,
            miss_rate=1 - np.cumsum(positive) / positives,
            positives=positives,
            negatives=negatives,
            positive_counts=positive,
            negative_counts=negative,
        )
