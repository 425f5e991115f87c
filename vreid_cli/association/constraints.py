"""Which pairs of tracks can be one vehicle at all. Definition: docs/definitions.md#identities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vreid_cli.errors import DataError, UsageError, did_you_mean
from vreid_cli.types.arrays import BoolArray, Int64Array, TextArray, shared_codes
from vreid_cli.types.identities import FloatArray, TrackTimes, TravelWindow

IndexArray = NDArray[np.signedinteger]


@dataclass(frozen=True, eq=False)
class Constraints:
    """What is known of n tracks that excludes some pairs of them; made by :func:`make_constraints`.

    Attributes:
        camera: (n,) int64 number of the camera, -1 where unknown.
        times: When each was seen.
        other_cameras: Whether one camera never sees a vehicle twice.
        windows: (C, C, 2) float64 shortest and longest seconds from one camera to another; NaN where none is given.
    """

    camera: Int64Array
    times: TrackTimes
    other_cameras: bool
    windows: FloatArray

    def possible(self, one: IndexArray, other: IndexArray) -> BoolArray:
        """(m,) whether each pair of tracks, by their positions, can be one vehicle."""
        times, cameras = self.times, (self.camera[one], self.camera[other])
        same = (cameras[0] == cameras[1]) & (cameras[0] >= 0)
        known = (times.first[one] >= 0) & (times.first[other] >= 0)
        apart = (times.last[one] < times.first[other]) | (times.last[other] < times.first[one])
        excluded: BoolArray = same & known & ~apart
        if self.other_cameras:
            excluded |= same
        if self.windows.size:
            excluded |= ~self._in_window(one, other)
        return ~excluded

    def _in_window(self, one: IndexArray, other: IndexArray) -> BoolArray:
        """(m,) whether a pair keeps a window that is given for its cameras, in either direction."""
        given, kept = np.zeros((2, len(one)), dtype=np.bool_)
        for a, b in ((one, other), (other, one)):
            low, high = np.moveaxis(self.windows[self.camera[a], self.camera[b]], -1, 0)
            known = ~np.isnan(low) & (self.camera[a] >= 0) & (self.camera[b] >= 0)
            gap = self.times.start[b] - self.times.end[a]
            given |= known
            kept |= known & (gap >= low) & (gap <= high)
        return ~given | kept


def make_constraints(
    cameras: TextArray,
    times: TrackTimes,
    *,
    which: Literal["all", "other"] = "all",
    windows: Sequence[TravelWindow] = (),
) -> Constraints:
    """Gather what excludes pairs.

    Args:
        cameras: (n,) camera of each track, or None.
        times: When each was seen.
        which: ``other``: one camera never sees a vehicle twice.
        windows: Travel times between cameras.

    Raises:
        DataError: A window names a camera that no track has, or contradicts another; or a track of a camera with a
            window has no time in seconds.
        UsageError: ``other`` where no camera is known.

    Examples:
        >>> from vreid_cli.types.arrays import text_array
        >>> frames = np.array([1, 5, 20])
        >>> times = TrackTimes(frames, frames + 9, frames / 10, frames / 10 + 0.9)
        >>> found = make_constraints(text_array(["a", "a", "a"]), times)
        >>> found.possible(np.array([0, 0]), np.array([1, 2])).tolist()
        [False, True]
    """
    codes, _ = shared_codes(cameras, cameras[:0])
    if which == "other" and (codes < 0).all():
        raise UsageError("--cameras other: no camera of any track is known", hint="leave it out")
    names = list(dict.fromkeys(name for name in cameras if name is not None))
    return Constraints(codes, times, which == "other", _window_table(windows, names, codes=codes, times=times))


def _window_table(
    windows: Sequence[TravelWindow], names: Sequence[str], *, codes: Int64Array, times: TrackTimes
) -> FloatArray:
    if not windows:
        return np.empty((0, 0, 2))
    number = {name: code for code, name in enumerate(names)}
    table = np.full((len(names), len(names), 2), np.nan)
    said: dict[tuple[str, str], TravelWindow] = {}
    for window in windows:
        pair = (window.camera_a, window.camera_b)
        for camera in pair:
            if camera not in number:
                hint = did_you_mean(camera, names)
                raise DataError(f"{window.source}: no track is of camera '{camera}'", hint=hint, file=window.source)
        if not window.min_s <= window.max_s:
            raise DataError(
                f"{window.source}: the shortest time {window.min_s:g} s is above the longest {window.max_s:g} s",
                hint="min_s comes before max_s",
                file=window.source,
            )
        earlier = said.setdefault(pair, window)
        if (earlier.min_s, earlier.max_s) != (window.min_s, window.max_s):
            raise DataError(
                f"{window.source}: from {pair[0]} to {pair[1]} it contradicts {earlier.source} "
                f"({earlier.min_s:g} to {earlier.max_s:g} s)",
                hint="keep one of the two",
                file=window.source,
            )
        table[number[pair[0]], number[pair[1]]] = window.min_s, window.max_s
        timeless = np.isin(codes, [number[camera] for camera in pair]) & np.isnan(times.start)
        if timeless.any():
            camera = names[codes[int(np.argmax(timeless))]]
            raise DataError(
                f"{window.source}: the tracks of camera '{camera}' have no time in seconds",
                hint=f"give the frame rate of {camera} in cameras.toml: [cameras.{camera}], then fps = 10",
                file=window.source,
            )
    return table
