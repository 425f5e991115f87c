"""What is ranked: images gathered into items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vreid_cli.types.arrays import Int64Array, TextArray

TrackUnit = Literal["passage", "camera"]


@dataclass(frozen=True, eq=False)
class Items:
    """What is ranked or ranks: images or tracks with their labels, each (n,) dtype object."""

    ids: TextArray
    vehicles: TextArray
    cameras: TextArray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Tracks:
    """Images of a feature set gathered into items: item i owns ``rows[offsets[i]:offsets[i + 1]]``.

    Attributes:
        items: The n items with their labels, in gallery order.
        rows: Positions in the feature set, items one after the other (int64).
        offsets: (n + 1,) int64, rising.
    """

    items: Items
    rows: Int64Array
    offsets: Int64Array

    def __len__(self) -> int:
        return len(self.items)

    @property
    def lengths(self) -> Int64Array:
        """(n,) number of images of each item."""
        return np.diff(self.offsets)

    def select(self, positions: Int64Array) -> Tracks:
        """The items at these positions, in this order."""
        lengths = self.lengths[positions]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        starts = np.repeat(self.offsets[positions] - offsets[:-1], lengths)
        rows = self.rows[np.arange(offsets[-1], dtype=np.int64) + starts]
        items = Items(*(column[positions] for column in vars(self.items).values()))
        return Tracks(items=items, rows=rows, offsets=offsets)
