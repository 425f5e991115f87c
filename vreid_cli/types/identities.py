"""Tracks that are one vehicle: identities across cameras, and when each track was seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid_cli.types.arrays import Int32Array, Int64Array
from vreid_cli.types.tracks import Items

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class TravelWindow:
    """How long a vehicle takes from one camera to another.

    The time goes from the last frame before ``camera_a`` to the first before ``camera_b``. A negative one means that
    both see the vehicle at once, or that it drives the other way.

    Attributes:
        camera_a: Where it comes from.
        camera_b: Where it goes.
        min_s: The shortest time, in seconds.
        max_s: The longest.
        source: Where that is said, for messages.

    Examples:
        >>> TravelWindow("c001", "c002", 5.0, 60.0).source
        'memory'
    """

    camera_a: str
    camera_b: str
    min_s: float
    max_s: float
    source: str = "memory"


@dataclass(frozen=True)
class Clock:
    """How frame numbers of a camera become seconds that are the same for all cameras.

    Attributes:
        fps: Frames per second.
        start: The time of frame 1, in seconds.

    Examples:
        >>> float(Clock(fps=10.0, start=5.0).seconds(np.array([11]))[0])
        6.0
    """

    fps: float
    start: float = 0.0

    def seconds(self, frames: Int64Array) -> FloatArray:
        """(n,) seconds of frame numbers (n,)."""
        found: FloatArray = self.start + (frames - 1) / self.fps
        return found


@dataclass(frozen=True, eq=False)
class TrackTimes:
    """When each of n tracks was seen.

    Attributes:
        first: (n,) int64 first frame, -1 where unknown.
        last: (n,) int64 last frame, -1 where unknown.
        start: (n,) float64 seconds of the first frame on the clock of all cameras, NaN where unknown.
        end: (n,) float64 the same of the last.

    Examples:
        >>> TrackTimes.unknown(2).first.tolist()
        [-1, -1]
    """

    first: Int64Array
    last: Int64Array
    start: FloatArray
    end: FloatArray

    @classmethod
    def unknown(cls, count: int) -> TrackTimes:
        """Times of tracks of which nobody knows when they were seen."""
        frames = np.full(count, -1, dtype=np.int64)
        return cls(frames, frames, np.full(count, np.nan), np.full(count, np.nan))

    @classmethod
    def on_clocks(cls, first: Int64Array, last: Int64Array, *, cameras: Any, clocks: Mapping[str, Clock]) -> TrackTimes:
        """Times from frames, where the clocks of the cameras are known.

        Args:
            first: (n,) first frame of each track, -1 where unknown.
            last: (n,) last frame.
            cameras: (n,) camera of each track, or None.
            clocks: By camera.

        Examples:
            >>> frames = np.array([1, 21])
            >>> times = TrackTimes.on_clocks(frames, frames + 10, cameras=["a", "b"], clocks={"a": Clock(10.0)})
            >>> times.end.tolist()
            [1.0, nan]
        """
        start, end = np.full((2, len(first)), np.nan)
        names = np.asarray(cameras, dtype=object)
        for camera, clock in clocks.items():
            own = (names == camera) & (first >= 0)
            start[own], end[own] = clock.seconds(first[own]), clock.seconds(last[own])
        return cls(first, last, start, end)


@dataclass(frozen=True, eq=False)
class Identities:
    """Which of n tracks are one vehicle.

    Attributes:
        tracks: The tracks with the labels that they brought along.
        identity: (n,) int32 number of the vehicle that each track shows, from 1, in the order of the tracks.
        images: (n,) int64 how many images of each track were compared.
        times: When they were seen.
        confidence: (n,) float64 between -1 and 1, how much nearer a track is to the rest of its identity than to the
            nearest other one; NaN for an identity of one track.
        probability: (n,) float64 probability that two tracks of the identity are one vehicle, on average over its
            pairs; NaN for an identity of one track, and where no calibration was used.
        split: (n,) object, the split of the run that holds each track, or None.
        facts: How they were found, by name.
        warnings: What is doubtful about them.
        source: Where they come from, for messages.

    Examples:
        >>> from vreid_cli.types.arrays import text_array
        >>> column = text_array(["a", "b", "c"])
        >>> times = TrackTimes.unknown(3)
        >>> tracks, ones = Items(column, column, column), np.ones(3, np.int64)
        >>> found = Identities(tracks, np.array([1, 2, 1]), ones, times, *np.zeros((2, 3)), column)
        >>> len(found), found.count
        (3, 2)
    """

    tracks: Items
    identity: Int32Array
    images: Int64Array
    times: TrackTimes
    confidence: FloatArray
    probability: FloatArray
    split: Any
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    source: str | Path = "memory"

    def __len__(self) -> int:
        return len(self.identity)

    @property
    def count(self) -> int:
        """Number of vehicles."""
        return len(np.unique(self.identity))
