"""What a tracker wrote about one camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid_cli.types.arrays import Int64Array, TextArray, shared_codes


@dataclass(frozen=True, eq=False)
class TrackerBoxes:
    """Boxes of tracked vehicles in the frames of one camera, in the order in which they were written.

    Attributes:
        frame: (n,) int64 frame numbers, from 1.
        track: (n,) object, the tracker's own ids as text.
        box: (n, 4) float64 left, top, width, height in pixels.
        confidence: (n,) float64, NaN where the tracker does not say it.

    Examples:
        >>> ids = np.array(["7", "7"], dtype=object)
        >>> boxes = TrackerBoxes(np.array([3, 9]), ids, np.zeros((2, 4)), np.ones(2))
        >>> boxes.spans()
        {'7': (3, 9)}
    """

    frame: Int64Array
    track: TextArray
    box: NDArray[np.float64]
    confidence: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.frame)

    def select(self, rows: NDArray[np.generic]) -> TrackerBoxes:
        """The boxes at these positions, or where this mask is true."""
        return TrackerBoxes(*(column[rows] for column in vars(self).values()))

    def spans(self) -> dict[str, tuple[int, int]]:
        """First and last frame of each track."""
        codes, _ = shared_codes(self.track, self.track[:0])
        count = int(codes.max(initial=-1)) + 1
        first, last = np.full(count, np.iinfo(np.int64).max), np.full(count, -1, dtype=np.int64)
        np.minimum.at(first, codes, self.frame)
        np.maximum.at(last, codes, self.frame)
        names = dict(zip(codes.tolist(), self.track, strict=True))
        return {str(names[code]): (int(first[code]), int(last[code])) for code in range(count)}
