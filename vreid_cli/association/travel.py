"""Where vehicles go: from which camera to which, and how long it takes. Definition: docs/definitions.md#traffic."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vreid_cli.types.arrays import Int64Array
from vreid_cli.types.identities import FloatArray, Identities

#: Quantiles of travel times that are reported.
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True, eq=False)
class Traffic:
    """How vehicles that were seen more than once go from camera to camera.

    Attributes:
        cameras: The C cameras, sorted.
        trips: (C, C) int64 vehicles by the camera that saw them first (row) and last (column).
        hops: (C, C) int64 times that a camera (column) was the next to see a vehicle after another (row).
        seconds: Travel times of hops by the two cameras, from the last frame before one to the first before the other;
            only where both are known in seconds.
        once: Vehicles that were seen once only.
    """

    cameras: tuple[str, ...]
    trips: Int64Array
    hops: Int64Array
    seconds: Mapping[tuple[str, str], FloatArray]
    once: int


def count_traffic(found: Identities) -> Traffic:
    """Trips and hops of vehicles; tracks whose camera or time is unknown are left out.

    Times in seconds order the tracks of a vehicle, where all of its tracks have them; else frames do.

    Examples:
        >>> from vreid_cli.types.arrays import text_array
        >>> from vreid_cli.types.identities import TrackTimes
        >>> from vreid_cli.types.tracks import Items
        >>> start = np.array([0.0, 60.0, 10.0])
        >>> times = TrackTimes(np.arange(3), np.arange(3), start, start + 5)
        >>> names = text_array(["t1", "t2", "t3"])
        >>> tracks = Items(names, text_array([None] * 3), text_array(["a", "b", "a"]))
        >>> ones = np.ones(3, np.int64)
        >>> traffic = count_traffic(Identities(tracks, np.array([1, 1, 2]), ones, times, start, start, names))
        >>> traffic.trips.tolist(), traffic.seconds["a", "b"].tolist(), traffic.once
        ([[0, 1], [0, 0]], [55.0], 1)
    """
    times, column = found.times, found.tracks.cameras
    known = (times.first >= 0) & np.array([camera is not None for camera in column], dtype=bool)
    cameras = sorted({str(camera) for camera in column[known]})
    number = {camera: code for code, camera in enumerate(cameras)}
    trips, hops = np.zeros((2, len(cameras), len(cameras)), dtype=np.int64)
    seconds: dict[tuple[str, str], list[float]] = {}
    once = 0
    by_identity = np.flatnonzero(known)
    by_identity = by_identity[np.argsort(found.identity[by_identity], kind="stable")]
    ends = np.flatnonzero(np.diff(found.identity[by_identity])) + 1
    for members in np.split(by_identity, ends) if len(by_identity) else []:
        timed = not np.isnan(times.start[members]).any()
        order = members[np.argsort((times.start if timed else times.first)[members], kind="stable")]
        once += len(order) == 1
        if len(order) > 1:
            trips[number[column[order[0]]], number[column[order[-1]]]] += 1
        for one, other in itertools.pairwise(order.tolist()):
            hops[number[column[one]], number[column[other]]] += 1
            if timed:
                gap = float(times.start[other] - times.end[one])
                seconds.setdefault((str(column[one]), str(column[other])), []).append(gap)
    return Traffic(tuple(cameras), trips, hops, {pair: np.array(gaps) for pair, gaps in seconds.items()}, once)
