"""What each listed item is to its query: right, wrong, junk or the query itself. Nothing else decides that.

Source of the definitions: docs/definitions.md#junk-self-positive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vreid_cli.types.arrays import BoolArray, shared_codes
from vreid_cli.types.rankings import Ranking
from vreid_cli.types.truth import GroundTruth, SameCamera

IndexArray = NDArray[np.signedinteger]
#: What a pair of a query and a gallery item is, one number a pair.
Kinds = NDArray[np.int8]
#: Of another vehicle, or of a query whose vehicle is unknown; of the query's vehicle, by another camera or by the
#: query's own; the query itself.
WRONG, UNKNOWN, RIGHT, JUNK, SELF = range(5)
#: Their names, for those who show them.
KIND_NAMES = ("wrong", "unknown", "right", "junk", "self")


def left_out(kinds: Kinds, same_camera: SameCamera) -> BoolArray:
    """(R,) what is taken out before ranks are counted: the query itself and, under ``drop``, junk."""
    out: BoolArray = kinds >= (JUNK if same_camera == "drop" else SELF)
    return out


def positive(kinds: Kinds, same_camera: SameCamera) -> BoolArray:
    """(R,) what shows the query's vehicle and counts."""
    found: BoolArray = (kinds == RIGHT) | ((kinds == JUNK) & (same_camera == "keep"))
    return found


class Judge:
    """Decides by the labels of both sides of a ranking, and by the selves that its facts name.

    Examples:
        >>> from vreid_cli.types.arrays import text_array
        >>> from vreid_cli.types.rankings import RankingFacts
        >>> from vreid_cli.types.tracks import Items
        >>> query, gallery = (Items(*map(text_array, columns)) for columns in (["q", "1", "x"], ["abc", "112", "xyy"]))
        >>> ranking = Ranking(RankingFacts(), query, gallery, blocks=())
        >>> Judge(ranking)(np.array([0, 0, 0]), np.array([0, 1, 2])).tolist()
        [3, 2, 0]
    """

    def __init__(self, ranking: Ranking) -> None:
        queries, gallery = ranking.queries, ranking.gallery
        self._vehicles = shared_codes(queries.vehicles, gallery.vehicles)
        self._cameras = shared_codes(queries.cameras, gallery.cameras)
        query_at, item_at = ({name: i for i, name in enumerate(side.ids)} for side in (queries, gallery))
        selves = [
            (query_at[query], item_at[item])
            for query, items in ranking.facts.selves.items()
            for item in items
            if query in query_at and item in item_at
        ]
        self._selves = PairSet(selves, len(gallery))

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
        ranking: What is judged.
    """

    def __init__(self, truth: GroundTruth, ranking: Ranking) -> None:
        queries, gallery = ranking.queries, ranking.gallery
        self._said = np.array([name in truth.good and name in truth.junk for name in queries.ids], dtype=bool)
        self._about = np.array([name in truth.gallery for name in gallery.ids], dtype=bool)
        known = {query: queries.ids[query] for query in np.flatnonzero(self._said).tolist()}
        position = {name: index for index, name in enumerate(gallery.ids)}

        def pairs(side: Mapping[str, frozenset[str]]) -> PairSet:
            found = [(q, position[item]) for q, name in known.items() for item in side[name] if item in position]
            return PairSet(found, len(gallery))

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

    def __init__(self, pairs: Sequence[tuple[int, int]], size: int) -> None:
        self._pairs, self._size = np.array(sorted(query * size + item for query, item in pairs), dtype=np.int64), size

    def contain(self, query: IndexArray, item: IndexArray) -> BoolArray:
        """(R,) whether each pair is among them; the queries rise."""
        if not len(query):
            return np.zeros(0, dtype=bool)
        # Of few queries only few pairs can be meant: what is left is quick to look up.
        ends = np.array([int(query[0]), int(query[-1]) + 1], dtype=np.int64) * self._size
        low, high = np.searchsorted(self._pairs, ends)
        found: BoolArray = np.isin(query.astype(np.int64) * self._size + item, self._pairs[low:high])
        return found
