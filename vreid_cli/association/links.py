"""How strongly the distance of two tracks links them: as it is, or by what a calibration says it is evidence for.

Definition: docs/definitions.md#identities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vreid_cli.association.linkage import SparsePairs
from vreid_cli.association.options import AssociationOptions
from vreid_cli.errors import UsageError
from vreid_cli.types.amounts import amount
from vreid_cli.types.arrays import Float32Array, Int32Array
from vreid_cli.types.calibrations import Calibration, logit, sigmoid
from vreid_cli.types.identities import FloatArray

#: Where nobody says how probable one vehicle must be.
DEFAULT_PROBABILITY = 0.5


@dataclass(frozen=True, eq=False)
class Links:
    """What distances of tracks are worth to the linkage; made by :func:`make_links`.

    Without a calibration a distance is its own cost. With one the cost is the log-likelihood ratio that it lacks to the
    largest one there is.

    Attributes:
        threshold: Largest mean cost within an identity.
        reach: What pairs cost that are farther apart than ``farthest``.
        farthest: The distance up to which pairs are worth keeping.
        min_probability: The probability that the threshold stands for; None where it is a distance.
        calibration: What gives distances probabilities.
        prior: Share of all pairs of tracks that are taken for one vehicle.
    """

    threshold: float
    reach: float
    farthest: float
    min_probability: float | None = None
    calibration: Calibration | None = None
    prior: float | None = None

    def cost(self, distance: Float32Array) -> Float32Array:
        """(m,) costs of distances (m,)."""
        return distance if self.calibration is None else _lacking(self.calibration, distance)

    def probabilities(self, pairs: SparsePairs, labels: Int32Array) -> FloatArray:
        """The probability of each item's cluster: that two items of it, taken at random, are one vehicle.

        Args:
            pairs: The possible pairs within reach, by their cost.
            labels: (n,) int32 cluster of each item, from 0.

        Returns:
            (n,) float64, the mean over all pairs of the cluster; NaN without a calibration, and for an item that is
            alone.
        """
        if self.calibration is None or self.prior is None:
            return np.full(len(labels), np.nan)
        odds = self.calibration.log_ratios[0] + logit(self.prior)
        probability = sigmoid(odds - pairs.value.astype(np.float64))
        inside = labels[pairs.one] == labels[pairs.other]
        cluster, size = labels[pairs.one[inside]], np.bincount(labels, minlength=1)
        total = np.bincount(cluster, weights=probability[inside], minlength=len(size)).astype(np.float64)
        known = np.bincount(cluster, minlength=len(size))
        count = size * (size - 1) / 2
        total = total + (count - known) * sigmoid(odds - self.reach)
        found: FloatArray = np.divide(total, count, out=np.full(len(size), np.nan), where=count > 0)[labels]
        return found


def make_links(options: AssociationOptions, *, tracks: int, calibration: Calibration | None = None) -> Links:
    """How the distances of some tracks count.

    Args:
        options: The threshold, as a distance or as a probability; what lies within reach; and how many other tracks
            show a vehicle.
        tracks: Number of tracks.
        calibration: What gives distances probabilities.

    Raises:
        UsageError: There is no threshold or there are two, a probability is wanted without a calibration, or no
            distance has it.

    Examples:
        >>> make_links(AssociationOptions(threshold=0.25), tracks=9).farthest
        0.5
    """
    if options.threshold is not None and options.min_probability is not None:
        raise UsageError("--threshold and --min-probability are two ways to say one thing", hint="give one of them")
    if calibration is None:
        if options.min_probability is not None:
            hint = "fit one on labelled tracks with vreid calibrate, or name one with --calibration"
            raise UsageError(f"--min-probability: no calibration gives {options.metric} probabilities", hint=hint)
        if options.threshold is None:
            hint = "give the distance that vreid.evaluate of a labelled part advises, or a calibration"
            raise UsageError("association needs a threshold", hint=hint)
        reach = _above_nothing(options.threshold * options.reach)
        return Links(options.threshold, reach, reach)
    return _by_evidence(options, calibration, tracks=tracks)


def _by_evidence(options: AssociationOptions, calibration: Calibration, *, tracks: int) -> Links:
    """Links whose cost is a likelihood ratio; arguments and errors are those of :func:`make_links`."""
    prior = calibration.prior(gallery_size=tracks - 1, expected=options.expected)
    if prior >= 1:
        raise UsageError(
            f"associate.expected {options.expected:g}: of {amount(tracks, 'track')} fewer others show a vehicle",
            hint="1 where each vehicle passes once more, 0.5 where every second one does",
        )
    best, worst = calibration.log_ratios[0], calibration.log_ratios[-1]
    wanted = None
    if options.threshold is not None:
        threshold = float(_lacking(calibration, np.array([options.threshold]))[0])
    else:
        wanted = DEFAULT_PROBABILITY if options.min_probability is None else options.min_probability
        threshold = best - (logit(wanted) - logit(prior))
        if threshold < 0:
            most = float(sigmoid(best + logit(prior)))
            raise UsageError(
                f"no distance makes one vehicle of two tracks as probable as {wanted:g}; of {amount(tracks, 'track')} "
                f"the nearest is {most:.2g}",
                hint="give a smaller --min-probability, a --threshold, or --false-match-rate where vehicles are known; "
                "or say how many other tracks show a vehicle: --set associate.expected=3",
            )
    # Beyond the last distance that tells anything all pairs are alike: they need not be kept.
    level = max(best - threshold * options.reach, float(np.nextafter(worst, np.inf)))
    farthest = calibration.farthest(float(sigmoid(level)), prior=0.5)
    return Links(threshold, _above_nothing(best - level), farthest or 0.0, wanted, calibration, prior)


def _lacking(calibration: Calibration, distance: Float32Array | FloatArray) -> Float32Array:
    return (calibration.log_ratios[0] - calibration.log_ratio(distance)).astype(np.float32)


def _above_nothing(reach: float) -> float:
    """The reach, above a threshold of 0: else pairs that are not known would count as near enough."""
    return max(reach, float(np.finfo(np.float32).tiny))
