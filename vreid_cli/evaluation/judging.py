"""What each listed item counts as: right, wrong, or left out. Nothing else decides that.

Source of the definitions: docs/definitions.md#junk-self-positive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid_cli.types.arrays import BoolArray, Int64Array, TextArray, shared_codes
from vreid_cli.types.tracks import Items
from vreid_cli.types.truth import GroundTruth, SameCamera

IndexArray = NDArray[np.signedinteger]


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What each of R pairs of a query and a gallery item counts as.

    Attributes:
        positive: (R,) shows the query's vehicle and counts.
        negative: (R,) shows another vehicle than the query's, which is known, and counts.
        left_out: (R,) junk or the query itself: taken out before ranks are counted.
        contradicted: (R,) ground truth says otherwise than the labels; None without ground truth.
        stated_good: (R,) ground truth calls it right; None without ground truth.
    """

    positive: BoolArray
    negative: BoolArray
    left_out: BoolArray
    contradicted: BoolArray | None = None
    stated_good: BoolArray | None = None

    def select(self, rows: BoolArray) -> Verdicts:
        """Those of some pairs, as far as counting needs them."""
        return Verdicts(self.positive[rows], self.negative[rows], self.left_out[rows])


class Judge:
    """Decides by the labels of both sides, or by a data set's own ground truth where it says something.

    Args:
        queries: The queries.
        gallery: The gallery items.
        selves: (S, 2) positions of a query, and of a gallery item that is the query itself.
        same_camera: ``drop`` leaves out junk (same vehicle, same camera); ``keep`` counts it as positive.
            The query itself is left out under both.
        truth: What the data set says; queries and items that it does not know keep what labels say.
    """

    def __init__(
        self,
        queries: Items,
        gallery: Items,
        *,
        selves: Int64Array,
        same_camera: SameCamera = "drop",
        truth: GroundTruth | None = None,
    ) -> None:
        self._vehicles = shared_codes(queries.vehicles, gallery.vehicles)
        self._cameras = shared_codes(queries.cameras, gallery.cameras)
        self._size = max(1, len(gallery))
        self._drop = same_camera == "drop"
        self._selves = _PairSet(selves[:, 0] * self._size + selves[:, 1], self._size)
        self._truth = None if truth is None else _TruthByPosition(truth, queries, gallery)

    def __call__(self, query: IndexArray, item: IndexArray) -> Verdicts:
        """Judge pairs: (R,) positions of the queries, rising, and of the gallery items."""
        vehicle, other = self._vehicles[0][query], self._vehicles[1][item]
        camera = self._cameras[0][query]
        same_vehicle: BoolArray = (vehicle == other) & (vehicle >= 0)
        same_camera: BoolArray = (camera == self._cameras[1][item]) & (camera >= 0)
        pairs = query.astype(np.int64) * self._size + item
        is_self = self._selves.contain(query, pairs)
        contradicted = stated_good = None
        if self._truth is not None:
            known = self._truth.know(query, item)
            good, junk = self._truth.good.contain(query, pairs), self._truth.junk.contain(query, pairs)
            labelled_junk = same_vehicle & same_camera
            # The query itself is left out anyway, whatever the lists say of it.
            contradicted = known & ~is_self & ((good != (same_vehicle & ~same_camera)) | (junk != labelled_junk))
            stated_good = good
            same_vehicle = np.where(known, good | junk, same_vehicle)
            same_camera = np.where(known, junk, same_camera)
        left_out: BoolArray = is_self | (same_vehicle & same_camera) if self._drop else is_self
        return Verdicts(
            positive=same_vehicle & ~left_out,
            negative=~same_vehicle & ~left_out & (vehicle >= 0),
            left_out=left_out,
            contradicted=contradicted,
            stated_good=stated_good,
        )

    def missing(self, listed: IndexArray, found: int) -> int:
        """Items that ground truth calls right and that the lists do not hold.

        Args:
            listed: Positions of the queries that have a list.
            found: How many listed items it calls right.
        """
        return 0 if self._truth is None else int(self._truth.stated[listed].sum()) - found


class _PairSet:
    """Pairs of positions, each ``query * size + item``."""

    def __init__(self, pairs: Int64Array, size: int) -> None:
        self._pairs, self._size = np.sort(pairs), size

    def contain(self, query: IndexArray, pairs: Int64Array) -> BoolArray:
        """(R,) whether each pair is one of them; the queries rise."""
        if not len(pairs):
            return np.zeros(0, dtype=bool)
        # Of few queries only few pairs can be meant: what is left is quick to look up.
        ends = np.array([int(query[0]), int(query[-1]) + 1], dtype=np.int64) * self._size
        low, high = np.searchsorted(self._pairs, ends)
        found: BoolArray = np.isin(pairs, self._pairs[low:high])
        return found


class _TruthByPosition:
    """Ground truth by the positions of queries and gallery items."""

    def __init__(self, truth: GroundTruth, queries: Items, gallery: Items) -> None:
        position = {name: index for index, name in enumerate(gallery.ids)}
        size = max(1, len(gallery))
        said = [name in truth.good and name in truth.junk for name in queries.ids]
        self._said = np.array(said, dtype=bool)
        self._about = np.fromiter((name in truth.gallery for name in gallery.ids), bool, len(gallery))

        def pairs(side: Mapping[str, frozenset[str]]) -> _PairSet:
            found = [
                query * size + position[item]
                for query in np.flatnonzero(self._said).tolist()
                for item in side[queries.ids[query]]
                if item in position
            ]
            return _PairSet(np.array(found, dtype=np.int64), size)

        self.good, self.junk = pairs(truth.good), pairs(truth.junk)
        #: How many items are right for each query, listed or not.
        self.stated = np.array(
            [
                len(truth.good[name] & truth.gallery) if known else 0
                for name, known in zip(queries.ids, said, strict=True)
            ],
            dtype=np.int64,
        )

    def know(self, query: IndexArray, item: IndexArray) -> BoolArray:
        """(R,) whether ground truth says something about each pair."""
        known: BoolArray = self._said[query] & self._about[item]
        return known


def self_positions(selves: Mapping[str, tuple[str, ...]], queries: Items, gallery: Items) -> Int64Array:
    """(S, 2) positions of each query and of the gallery items that are the query itself, as :class:`Judge` needs."""
    query_at, item_at = _positions(queries.ids), _positions(gallery.ids)
    pairs = [
        (query_at[query], item_at[item])
        for query, items in selves.items()
        for item in items
        if query in query_at and item in item_at
    ]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _positions(names: TextArray) -> dict[str, int]:
    return {name: index for index, name in enumerate(names)}
