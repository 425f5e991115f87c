"""What each listed item is to its query: right, wrong, junk or the query itself. Nothing else decides that.

Source of the definitions: docs/definitions.md#junk-self-positive.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vreid_cli.types.arrays import BoolArray, Int64Array, shared_codes
from vreid_cli.types.rankings import Ranking
from vreid_cli.types.tracks import Items
from vreid_cli.types.truth import GroundTruth, SameCamera

IndexArray = NDArray[np.signedinteger]
#: What a pair of a query and a gallery item is, one number a pair.
Kinds = NDArray[np.int8]
#: Of another vehicle, or of a query whose vehicle is unknown; of the query's vehicle, by another camera or by the
#: query's own; the query itself.
WRONG, UNKNOWN, RIGHT, JUNK, SELF = range(5)


def left_out(kinds: Kinds, same_camera: SameCamera) -> BoolArray:
    """(R,) what is taken out before ranks are counted: the query itself and, under ``drop``, junk."""
    out: BoolArray = kinds >= (JUNK if same_camera == "drop" else SELF)
    return out


def positive(kinds: Kinds, same_camera: SameCamera) -> BoolArray:
    """(R,) what shows the query's vehicle and counts."""
    found: BoolArray = (kinds == RIGHT) | ((kinds == JUNK) & (same_camera == "keep"))
    return found


class Judge:
    """Decides by the labels of both sides.

    Args:
        queries: The queries.
        gallery: The gallery items.
        selves: (S, 2) positions of a query, and of a gallery item that is the query itself.

    Examples:
        >>> from vreid_cli.types.arrays import text_array
        >>> query, gallery = (Items(*map(text_array, columns)) for columns in (["q", "1", "x"], ["abc", "112", "xyy"]))
        >>> Judge(query, gallery, selves=np.empty((0, 2)))(np.array([0, 0, 0]), np.array([0, 1, 2])).tolist()
        [3, 2, 0]
    """

    def __init__(self, queries: Items, gallery: Items, *, selves: Int64Array) -> None:
        self._vehicles = shared_codes(queries.vehicles, gallery.vehicles)
        self._cameras = shared_codes(queries.cameras, gallery.cameras)
        self._selves = PairSet(selves, len(gallery))

    @classmethod
    def of(cls, ranking: Ranking) -> Judge:
        """The judge of a ranking, by its labels and by the selves that its facts name."""
        query_at, item_at = (
            {name: i for i, name in enumerate(side.ids)} for side in (ranking.queries, ranking.gallery)
        )
        pairs = [
            (query_at[query], item_at[item])
            for query, items in ranking.facts.selves.items()
            for item in items
            if query in query_at and item in item_at
        ]
        return cls(ranking.queries, ranking.gallery, selves=np.array(pairs, dtype=np.int64).reshape(-1, 2))

    def __call__(self, query: IndexArray, item: IndexArray) -> Kinds:
        """The kind of each pair: (R,) positions of the queries, rising, and of the gallery items."""
        vehicle, camera = self._vehicles[0][query], self._cameras[0][query]
        kinds = np.where(vehicle < 0, np.int8(UNKNOWN), np.int8(WRONG))
        same = (vehicle == self._vehicles[1][item]) & (vehicle >= 0)
        kinds[same] = RIGHT
        kinds[same & (camera == self._cameras[1][item]) & (camera >= 0)] = JUNK
        kinds[self._selves.contain(query, item)] = SELF
        return kinds


class TruthJudge:
    """Decides by a data set's own ground truth; queries and items that it does not know keep what labels say.

    Args:
        truth: What the data set says.
        queries: The queries.
        gallery: The gallery items.
    """

    def __init__(self, truth: GroundTruth, queries: Items, gallery: Items) -> None:
        self._said = np.array([name in truth.good and name in truth.junk for name in queries.ids], dtype=bool)
        self._about = np.array([name in truth.gallery for name in gallery.ids], dtype=bool)
        known = {query: queries.ids[query] for query in np.flatnonzero(self._said).tolist()}
        position = {name: index for index, name in enumerate(gallery.ids)}

        def pairs(side: Mapping[str, frozenset[str]]) -> PairSet:
            found = [(q, position[item]) for q, name in known.items() for item in side[name] if item in position]
            return PairSet(np.array(found, dtype=np.int64).reshape(-1, 2), len(gallery))

        self._good, self._junk = pairs(truth.good), pairs(truth.junk)
        self._stated = np.zeros(len(queries), dtype=np.int64)
        self._stated[list(known)] = [len(truth.good[name] & truth.gallery) for name in known.values()]

    def __call__(self, kinds: Kinds, query: IndexArray, item: IndexArray) -> tuple[Kinds, int]:
        """The kinds of pairs after ground truth, and how many items it calls right that are not among them.

        Args:
            kinds: (R,) what labels say of whole lists.
            query: (R,) positions of the queries, rising.
            item: (R,) positions of the gallery items.
        """
        good, junk = self._good.contain(query, item), self._junk.contain(query, item)
        stated = np.select([junk, good, kinds == UNKNOWN], [JUNK, RIGHT, UNKNOWN], WRONG).astype(np.int8)
        # The query itself is left out anyway, whatever the files say of it.
        known = self._said[query] & self._about[item] & (kinds != SELF)
        missing = int(self._stated[np.unique(query)].sum()) - int(good.sum())
        return np.where(known, stated, kinds), missing


class PairSet:
    """A set of pairs of a query and a gallery item, by their positions."""

    def __init__(self, pairs: Int64Array, size: int) -> None:
        self._pairs, self._size = np.sort(pairs[:, 0] * size + pairs[:, 1]), size

    def contain(self, query: IndexArray, item: IndexArray) -> BoolArray:
        """(R,) whether each pair is among them; the queries rise."""
        if not len(query):
            return np.zeros(0, dtype=bool)
        # Of few queries only few pairs can be meant: what is left is quick to look up.
        ends = np.array([int(query[0]), int(query[-1]) + 1], dtype=np.int64) * self._size
        low, high = np.searchsorted(self._pairs, ends)
        found: BoolArray = np.isin(query.astype(np.int64) * self._size + item, self._pairs[low:high])
        return found
