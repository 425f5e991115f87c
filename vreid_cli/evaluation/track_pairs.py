"""Errors of a distance threshold between tracks, each pair counted once."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from vreid_cli.evaluation.judging import RIGHT, UNKNOWN, WRONG
from vreid_cli.evaluation.options import EvaluationOptions
from vreid_cli.evaluation.thresholds import ErrorCurve, PairCounter
from vreid_cli.types.arrays import Float32Array, Int64Array, TextArray, shared_codes

#: Positions of tracks and of others (m,), and how far apart they are (m,).
TrackPairs = tuple[Int64Array, Int64Array, Float32Array]


def track_pair_errors(pairs: Iterable[TrackPairs], vehicles: TextArray) -> ErrorCurve | None:
    """Errors of the rule "one vehicle if no farther than t" for pairs of tracks.

    Args:
        pairs: The pairs that count, in any number of blocks.
        vehicles: (n,) vehicle of each track; pairs of a track without one are not counted.

    Returns:
        The errors; None where there are no pairs of one vehicle, or none of two.

    Examples:
        >>> from vreid_cli.types.arrays import text_array
        >>> ends = np.array([0, 0, 1]), np.array([1, 2, 2])
        >>> curve = track_pair_errors([(*ends, np.array([0.1, 0.5, 0.4], np.float32))], text_array(["a", "a", "b"]))
        >>> curve.positives, curve.negatives
        (1, 2)
    """
    codes, _ = shared_codes(vehicles, vehicles[:0])
    counter = PairCounter(EvaluationOptions())
    for one, other, distance in pairs:
        kinds = np.where(codes[one] == codes[other], np.int8(RIGHT), np.int8(WRONG))
        kinds[(codes[one] < 0) | (codes[other] < 0)] = UNKNOWN
        counter.add(distance, kinds)
    return counter.curve()
