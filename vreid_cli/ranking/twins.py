"""Gallery items made of the very same images."""

from __future__ import annotations

import hashlib

import numpy as np

from vreid_cli.types import FeatureMatrix, Float32Array, Int64Array, Tracks


def find_twins(matrix: FeatureMatrix, items: Tracks, *, checksums: Float32Array) -> tuple[Int64Array, Int64Array]:
    """Items whose features are, row by row and bit by bit, those of an earlier item.

    Args:
        matrix: (N, D) features that the items' rows lie in.
        items: The n items.
        checksums: (len(items.rows),) a number for each row of each item that is equal where the features are.
            Only items whose checksums agree are read.

    Returns:
        Positions of such items, and for each that of the first item like it.
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
    return later, earlier
