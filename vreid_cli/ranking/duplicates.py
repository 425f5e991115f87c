"""Gallery items made of the very same images.

A matrix product rounds equal columns differently, by their place in a block, and ties would be lost. So items that
are equal bit by bit are found beforehand, and all of them take the distances of the first.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch

from vreid_cli.types.arrays import Int64Array
from vreid_cli.types.features import FeatureMatrix
from vreid_cli.types.tracks import Tracks


@dataclass(frozen=True, eq=False)
class Duplicates:
    """The first item equal to each.

    Attributes:
        first: (n,) int64: item i is equal to item ``first[i]``, and to none before that.
    """

    first: Int64Array

    def of(self, start: int, end: int) -> Int64Array:
        """(m,) int64 items equal to a first one in ``start .. end - 1``, themselves among them, by that one."""
        members = np.flatnonzero((self.first >= start) & (self.first < end))
        return members[np.argsort(self.first[members], kind="stable")]

    def select(self, positions: Int64Array) -> Duplicates:
        """Those among the items at these rising positions, counted within them."""
        _, earliest, kind = np.unique(self.first[positions], return_index=True, return_inverse=True)
        return Duplicates(earliest[kind].astype(np.int64))


def checksums(rows: torch.Tensor) -> torch.Tensor:
    """(n,) int64, equal where (n, D) float32 rows are equal bit by bit: whole numbers add up in any order.

    Examples:
        >>> first, second, third = checksums(torch.tensor([[1.0, 2.0], [1.0, 2.0], [2.0, 2.0]])).tolist()
        >>> first == second, first == third
        (True, False)
    """
    # They overflow, and come back from the other end: that too is the same in any order. One sum would not tell a
    # million rows apart: of numbers that were float16 the low 13 bits are zero.
    high, low = (half.sum(dim=1, dtype=torch.int32).long() for half in rows.view(torch.int32).tensor_split(2, dim=1))
    return (high << 32) + low


def find_duplicates(matrix: FeatureMatrix, items: Tracks, *, checksums: Int64Array) -> Duplicates:
    """Items whose features are, row by row and bit by bit, those of an earlier item.

    Args:
        matrix: (N, D) features that the items' rows lie in.
        items: The n items.
        checksums: (len(items.rows),) a number for each row of each item that is equal where the features are.
            Only items whose checksums agree are read.
    """
    # Chance agreement is excluded below.
    sums = np.add.reduceat(checksums, items.offsets[:-1])
    _, kind, count = np.unique(sums, return_inverse=True, return_counts=True)
    first = np.arange(len(items), dtype=np.int64)
    seen: dict[bytes, int] = {}
    for item in np.flatnonzero(count[kind] > 1).tolist():
        rows = items.rows[items.offsets[item] : items.offsets[item + 1]]
        first[item] = seen.setdefault(hashlib.blake2b(matrix.take(rows).tobytes()).digest(), item)
    return Duplicates(first)
