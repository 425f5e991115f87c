"""What of a ranked list is an answer: items that are probable enough, or a row that says that there is none."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vreid_cli.errors import DataError
from vreid_cli.types.arrays import shared_codes, text_array
from vreid_cli.types.rankings import NO_MATCH, RankingBlock
from vreid_cli.types.tracks import Items


class AnswerRules:
    """Leaves out of ranked lists what is too far to be an answer.

    Args:
        queries: The queries with their labels.
        gallery: The gallery items with their labels.
        selves: For each query, the gallery items that are the query itself; they are no match.
        no_match: Whether only answers are listed, and a row of :data:`NO_MATCH` where there is none; else every item
            of the query's vehicle is listed too.
    """

    def __init__(
        self, queries: Items, gallery: Items, *, selves: Mapping[str, tuple[str, ...]], no_match: bool
    ) -> None:
        self._vehicles = shared_codes(queries.vehicles, gallery.vehicles)
        self._no_match, self._size = no_match, len(gallery)
        place = {name: position for position, name in enumerate(gallery.ids)} if no_match and selves else {}
        own = [
            query * self._size + place[item]
            for query, name in enumerate(queries.ids)
            for item in (selves.get(str(name), ()) if place else ())
            if item in place
        ]
        self._selves = np.array(sorted(own), dtype=np.int64)

    def __call__(self, block: RankingBlock, queries: range, *, farthest: float) -> RankingBlock:
        """The rows of a block that are listed.

        Args:
            block: Lists of these queries, by distance.
            queries: Positions of all queries of the block, also of those that list nothing.
            farthest: Largest distance of an answer.
        """
        near = block.distance <= np.float32(farthest)
        if not self._no_match:
            own = self._vehicles[0][block.query_index]
            return block.select(near | ((own == self._vehicles[1][block.gallery_index]) & (own >= 0)))
        found = block.select(near)
        pairs = found.query_index.astype(np.int64) * self._size + found.gallery_index
        answered = found.query_index[~np.isin(pairs, self._selves)]
        lacking = np.setdiff1d(np.array(queries, dtype=np.int32), answered)
        # The query itself may stand before it.
        last = np.zeros(len(queries), dtype=np.int32)
        last[found.query_index - queries.start] = found.rank
        rank = last[lacking - queries.start] + 1
        none = RankingBlock(
            query_index=lacking,
            rank=rank,
            gallery_index=np.full(len(lacking), self._size, dtype=np.int32),
            distance=np.full(len(lacking), np.inf, dtype=np.float32),
        )
        joined = RankingBlock.joined([found, none])
        order = np.lexsort((joined.rank, joined.query_index))
        return joined.select(order)


def with_no_match(gallery: Items) -> Items:
    """The gallery with one more item, which stands for none of it.

    Raises:
        DataError: An item has that very name.
    """
    if NO_MATCH in gallery.ids.tolist():
        raise DataError(f"a gallery item is called '{NO_MATCH}'", hint="leave out --no-match, or rename it")
    more = (text_array([label]) for label in (NO_MATCH, None, None))
    return Items(*(np.concatenate([column, one]) for column, one in zip(vars(gallery).values(), more, strict=True)))
