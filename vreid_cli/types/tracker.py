"""What a tracker wrote about one camera."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid_cli.types.arrays import Int64Array, TextArray, shared_codes

#: Overlap from which a box shows the vehicle of a ground-truth box, as MOTChallenge and AI City count.
MATCH_IOU = 0.5


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


def iou(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, m) intersection over union of boxes (n, 4) and (m, 4); 0 where both are empty.

    Examples:
        >>> iou(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 2, 2]])).round(3).tolist()
        [[0.333]]
    """
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum((one[:, :2] + one[:, 2:])[:, None], (other[:, :2] + other[:, 2:])[None])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    union = one[:, 2:].prod(axis=1)[:, None] + other[:, 2:].prod(axis=1)[None] - shared
    found: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return found


def boxes_by_frame(one: TrackerBoxes, other: TrackerBoxes) -> list[tuple[Int64Array, Int64Array]]:
    """Positions of the boxes of both in each frame that both have.

    Examples:
        >>> ids = np.array(["7", "8"], dtype=object)
        >>> boxes = TrackerBoxes(np.array([1, 4]), ids, np.zeros((2, 4)), np.ones(2))
        >>> [(one.tolist(), other.tolist()) for one, other in boxes_by_frame(boxes, boxes)]
        [([0], [0]), ([1], [1])]
    """

    def frames(boxes: TrackerBoxes) -> Mapping[int, Int64Array]:
        order = np.argsort(boxes.frame, kind="stable")
        numbers, starts = np.unique(boxes.frame[order], return_index=True)
        return dict(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True)) if len(order) else {}

    first, second = frames(one), frames(other)
    return [(rows, second[frame]) for frame, rows in first.items() if frame in second]
