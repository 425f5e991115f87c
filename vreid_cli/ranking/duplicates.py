"""Gallery items made of the very same images.

A matrix product rounds equal columns differently, by their place in a block, and ties would be lost. So items
that are equal bit by bit are found beforehand, and the later ones get the distances of the first.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from vreid_cli.types.arrays import Int32Array, Int64Array
from vreid_cli.types.features import FeatureMatrix
from vreid_cli.types.tracks import Tracks


class Twins:
    """Which gallery items are equal to an earlier one.

    Args:
        later: (n,) int64 positions of such items, rising.
        first: (n,) int64 position of the first item like each.
    """

    def __init__(self, later: Int64Array, first: Int64Array) -> None:
        self._later, self._first = later, first
        self._originals = np.unique(first)

    @property
    def saved(self) -> int:
        """Columns that :meth:`equalise` keeps."""
        return len(self._originals)

    def equalise(
        self, name: str, values: torch.Tensor, start: int, items: Int64Array, *, saved: dict[str, torch.Tensor]
    ) -> None:
        """Give equal items the very same distances, in place.

        Args:
            name: What the distances are by.
            values: (queries, n) distances to consecutive items.
            start: Position of the first of them.
            items: (n,) position of each column's item, counted from ``start``.
            saved: What earlier blocks of the gallery left; the blocks must come in gallery order.
        """
        if not len(self._later):
            return
        column = torch.from_numpy(np.argsort(items)).to(values.device)
        kept = saved.setdefault(name, values.new_empty(len(values), self.saved))
        here, slots = self._within(self._originals, start, len(items))
        kept[:, slots] = values[:, column[here]]
        here, slots = self._within(self._later, start, len(items))
        source = torch.from_numpy(np.searchsorted(self._originals, self._first))[slots]
        values[:, column[here]] = kept[:, source.to(values.device)]

    @staticmethod
    def _within(positions: Int64Array, start: int, count: int) -> tuple[Int64Array, slice]:
        """Those of some rising positions that lie in a block, counted from its start, and where they stand."""
        low, high = np.searchsorted(positions, [start, start + count])
        return positions[low:high] - start, slice(int(low), int(high))


def checksums(rows: torch.Tensor) -> torch.Tensor:
    """(n,) int32, equal where (n, D) float32 rows are equal bit by bit: whole numbers add up in any order."""
    # They overflow, and come back from the other end: that too is the same in any order.
    sums: torch.Tensor = rows.view(torch.int32).sum(dim=1, dtype=torch.int32)
    return sums


def find_twins(matrix: FeatureMatrix, items: Tracks, *, checksums: Int32Array) -> Twins:
    """Items whose features are, row by row and bit by bit, those of an earlier item.

    Args:
        matrix: (N, D) features that the items' rows lie in.
        items: The n items.
        checksums: (len(items.rows),) a number for each row of each item that is equal where the features are.
            Only items whose checksums agree are read.
    """
    # The first image of each will do: what is alike by chance is told apart below.
    _, kind, count = np.unique(checksums[items.offsets[:-1]], return_inverse=True, return_counts=True)
    seen: dict[bytes, int] = {}
    twins = []
    for item in np.flatnonzero(count[kind] > 1):
        rows = items.rows[items.offsets[item] : items.offsets[item + 1]]
        first = seen.setdefault(hashlib.blake2b(matrix.take(rows).tobytes()).digest(), int(item))
        if first != item:
            twins.append((int(item), first))
    later, earlier = np.array(twins, dtype=np.int64).reshape(-1, 2).T
    return Twins(later, earlier)
