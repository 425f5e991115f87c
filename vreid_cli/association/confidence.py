"""How clearly each track belongs to its identity."""

from __future__ import annotations

import numpy as np

from vreid_cli.association.linkage import PairTable, SparsePairs
from vreid_cli.types.arrays import Int32Array
from vreid_cli.types.identities import FloatArray


def silhouettes(pairs: SparsePairs, labels: Int32Array) -> FloatArray:
    """The silhouette of each item (Rousseeuw 1987), with values up to the reach.

    (b − a) / max(a, b): a is the mean value to the other items of its cluster, b the smallest mean value to another
    cluster; a pair that is impossible or not known counts as the reach.

    Args:
        pairs: The possible pairs within reach.
        labels: (n,) int32 cluster of each item, from 0.

    Returns:
        (n,) float64 between -1 and 1; NaN for an item that is alone.

    Examples:
        >>> ends = np.array([[0, 1], [1, 2]], dtype=np.int32)
        >>> near = SparsePairs(3, ends[:, 0], ends[:, 1], np.array([0.25, 0.5], dtype=np.float32), reach=1.0)
        >>> silhouettes(near, np.array([0, 0, 1], dtype=np.int32)).tolist()
        [0.75, 0.5, nan]
    """
    table, size = PairTable(pairs), np.bincount(labels, minlength=1)
    found = np.full(pairs.count, np.nan)
    for item in np.flatnonzero(size[labels] > 1).tolist():
        near = table.of(item)
        cluster, place = np.unique(labels[near.cluster], return_inverse=True)
        total, known = np.bincount(place, weights=near.total), np.bincount(place)
        own, others = labels[item], size[cluster] - (cluster == labels[item])
        mean = (total + pairs.reach * (others - known)) / others
        inside = float(mean[cluster == own][0]) if own in cluster else pairs.reach
        outside = float(mean[cluster != own].min(initial=pairs.reach))
        largest = max(inside, outside)
        found[item] = (outside - inside) / largest if largest else 0.0
    return found
