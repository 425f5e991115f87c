"""Average-linkage agglomeration of sparse pairs, some of which can never be one cluster.

Definition: docs/definitions.md#identities. It is the "generic" algorithm of Müllner (Modern hierarchical,
agglomerative clustering algorithms, 2011): each cluster keeps a lower bound of its distance to the nearest, which is
looked up again only when it comes first. Clusters' pairs are kept in arrays whose numbers of clusters may be old: they
are brought up to date where they are read.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix

from vreid_cli.types.arrays import BoolArray, Float32Array, Int32Array, Int64Array
from vreid_cli.types.identities import FloatArray

#: Whether pairs of items, by their positions (m,) and (m,), may be one cluster: (m,) bool.
Possible = Callable[[Int64Array, Int64Array], BoolArray]


@dataclass(frozen=True, eq=False)
class SparsePairs:
    """Those pairs of n items that are within reach, each once and possible.

    Attributes:
        count: The number n of items.
        one: (m,) int32 position of the first item.
        other: (m,) int32 position of the second.
        value: (m,) float32 how far apart they are.
        reach: How far apart all other possible pairs count as; no value is above it.
    """

    count: int
    one: Int32Array
    other: Int32Array
    value: Float32Array
    reach: float


@dataclass(frozen=True, eq=False)
class Neighbours:
    """What a cluster knows of others: their numbers (k,), sums (k,) of the known values, counts (k,) of these."""

    cluster: Int32Array
    total: FloatArray
    known: Int64Array


class PairTable:
    """The pairs of each item with all others, as slices of three arrays.

    Args:
        pairs: The pairs.
    """

    def __init__(self, pairs: SparsePairs) -> None:
        rows, columns = (np.concatenate(ends) for ends in ((pairs.one, pairs.other), (pairs.other, pairs.one)))
        table = coo_matrix((np.concatenate([pairs.value] * 2), (rows, columns)), shape=(pairs.count, pairs.count))
        sparse = table.tocsr()
        self._starts, self._others, self._values = sparse.indptr, sparse.indices, sparse.data

    def of(self, item: int) -> Neighbours:
        """The pairs of an item."""
        some = slice(self._starts[item], self._starts[item + 1])
        others = self._others[some].astype(np.int32, copy=False)
        return Neighbours(others, self._values[some].astype(np.float64), np.ones(len(others), dtype=np.int64))


def agglomerate(pairs: SparsePairs, *, threshold: float, possible: Possible) -> Int32Array:
    """Merge the two nearest clusters again and again, as long as they are no farther apart than the threshold.

    Clusters are as far apart as their pairs of items on average, each counted at most as ``pairs.reach``. Two clusters
    with an impossible pair are never merged. Of equally near ones those come first whose clusters are older: items by
    their position, then merged ones in the order of merging.

    Args:
        pairs: The possible pairs within reach.
        threshold: Largest distance of clusters that are merged; below ``pairs.reach``.
        possible: Whether pairs of items may be one cluster.

    Returns:
        (n,) int32 number of each item's cluster, from 0, in the order of the items.

    Examples:
        >>> ends = np.array([[0, 1], [1, 2]], dtype=np.int32)
        >>> near = SparsePairs(3, ends[:, 0], ends[:, 1], np.array([0.1, 0.2], dtype=np.float32), reach=1.0)
        >>> agglomerate(near, threshold=0.5, possible=lambda one, other: np.ones(len(one), dtype=bool)).tolist()
        [0, 0, 1]
    """
    return _Agglomeration(pairs, threshold, possible).run()


class _Agglomeration:
    """The state of one agglomeration: clusters are numbered, items first, then each that is merged."""

    def __init__(self, pairs: SparsePairs, threshold: float, possible: Possible) -> None:
        self._reach, self._threshold, self._possible = pairs.reach, threshold, possible
        self._count = pairs.count
        self._table = PairTable(pairs)
        self._members: dict[int, Int64Array] = {k: np.array([k], dtype=np.int64) for k in range(pairs.count)}
        self._size = np.ones(2 * max(pairs.count, 1), dtype=np.int64)
        # Where each cluster went; a root is its own.
        self._parent = np.arange(2 * max(pairs.count, 1), dtype=np.int32)
        self._neighbours: dict[int, Neighbours] = {}
        self._heap: list[tuple[float, int, int, int]] = []

    def run(self) -> Int32Array:
        """Merge until nothing is near enough."""
        for item in range(self._count):
            self._look_up(item)
        created = self._count
        while self._heap:
            _, low, high, owner = heapq.heappop(self._heap)
            if owner not in self._members:
                continue
            if low not in self._members or high not in self._members:
                self._look_up(owner)
            elif not self._may_merge(low, high):
                self._exclude(owner, low + high - owner)
                self._look_up(owner)
            else:
                self._merge(low, high, into=created)
                created += 1
        return self._labels()

    def _look_up(self, owner: int) -> None:
        """Bring the owner's neighbours up to date, and note the nearest if it is near enough."""
        found = self._current(owner)
        if owner >= self._count or owner in self._neighbours:
            self._neighbours[owner] = found  # what an item knows beyond the table is little: it is not kept twice
        pairs = self._size[owner] * self._size[found.cluster]
        value = (found.total + self._reach * (pairs - found.known)) / pairs
        near = np.flatnonzero(value <= self._threshold)
        if len(near):
            # Numbers of clusters rise, so the first of equal ones is the one that is older.
            best = near[np.argmin(value[near])]
            cluster = int(found.cluster[best])
            heapq.heappush(self._heap, (float(value[best]), min(owner, cluster), max(owner, cluster), owner))

    def _current(self, owner: int) -> Neighbours:
        """The owner's neighbours by the numbers that they have now, rising."""
        old = self._neighbours.get(owner) or self._table.of(owner)
        roots = self._parent[old.cluster]
        while not np.array_equal(roots, further := self._parent[roots]):
            roots = further
        cluster, place = np.unique(roots, return_inverse=True)
        total = np.bincount(place, weights=old.total, minlength=len(cluster))
        known = np.bincount(place, weights=old.known, minlength=len(cluster)).astype(np.int64)
        others = cluster != owner
        return Neighbours(cluster[others], total[others], known[others])

    def _may_merge(self, one: int, other: int) -> bool:
        first, second = self._members[one], self._members[other]
        return bool(self._possible(np.repeat(first, len(second)), np.tile(second, len(first))).all())

    def _exclude(self, owner: int, other: int) -> None:
        """Put a cluster out of the owner's reach for ever: what either becomes can never be merged."""
        found = self._neighbours.setdefault(owner, self._current(owner))
        found.total[np.searchsorted(found.cluster, other)] = np.inf

    def _merge(self, one: int, other: int, *, into: int) -> None:
        first, second = (self._current(cluster) for cluster in (one, other))
        self._parent[[one, other]] = into
        self._size[into] = self._size[one] + self._size[other]
        self._members[into] = np.concatenate([self._members.pop(one), self._members.pop(other)])
        for cluster in (one, other):
            self._neighbours.pop(cluster, None)
        columns = zip(vars(first).values(), vars(second).values(), strict=True)
        self._neighbours[into] = Neighbours(*(np.concatenate(both) for both in columns))
        self._look_up(into)

    def _labels(self) -> Int32Array:
        labels = np.empty(self._count, dtype=np.int32)
        for number, members in enumerate(sorted(self._members.values(), key=lambda items: int(items.min()))):
            labels[members] = number
        return labels
