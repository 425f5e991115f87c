"""Scores of parts of a ranking: by pair of cameras, and by length of the query track."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vreid_cli.evaluation.judging import Verdicts
from vreid_cli.evaluation.scores import MeanScores, QueryScores, score_lists, summarise
from vreid_cli.types.arrays import shared_codes
from vreid_cli.types.rankings import RankingBlock
from vreid_cli.types.tracks import Items
from vreid_cli.types.truth import ApRule

#: A camera of queries, and one of gallery items.
CameraPair = tuple[str, str]


class CameraPairs:
    """Collects the scores of each pair of cameras, block by block: all that other cameras saw is left out.

    Args:
        queries: The ranking's queries.
        gallery: Its gallery items.
        ap_rule: As for the whole.
    """

    def __init__(self, queries: Items, gallery: Items, *, ap_rule: ApRule) -> None:
        self._queries, self._gallery, self._ap_rule = queries, gallery, ap_rule
        self._codes = shared_codes(queries.cameras, gallery.cameras)
        self._names = {
            int(code): str(name)
            for names, codes in zip((queries.cameras, gallery.cameras), self._codes, strict=True)
            for name, code in zip(names, codes, strict=True)
            if name is not None
        }
        self._position = {name: index for index, name in enumerate(queries.ids)}
        self._found: dict[CameraPair, list[QueryScores]] = {}

    def add(self, block: RankingBlock, verdicts: Verdicts) -> None:
        """Take whole lists; where cameras are unknown there is nothing to take."""
        camera = self._codes[1][block.gallery_index]
        for code in np.unique(camera[camera >= 0]).tolist():
            keep = camera == code
            part = _ranked_again(block.select(keep))
            scores = score_lists(part, verdicts.select(keep), self._queries, ap_rule=self._ap_rule)
            own = self._codes[0][[self._position[name] for name in scores.query_ids]]
            for other in np.unique(own[(own >= 0) & (scores.positives > 0)]).tolist():
                chosen = (own == other) & (scores.positives > 0)
                self._found.setdefault((self._names[other], self._names[code]), []).append(scores.select(chosen))

    def summarise(self, ranks: Sequence[int]) -> dict[CameraPair, MeanScores]:
        """The scores of each pair that has a valid query, by the names of the cameras."""
        return {pair: summarise(QueryScores.joined(self._found[pair]), ranks=ranks) for pair in sorted(self._found)}


def _ranked_again(block: RankingBlock) -> RankingBlock:
    """Lists of which only some rows are left, with ranks from 1 without gaps."""
    starts = np.flatnonzero(np.diff(block.query_index, prepend=-1))
    first = np.repeat(starts, np.diff(starts, append=len(block.rank)))
    rank = (np.arange(len(block.rank)) - first + 1).astype(np.int32)
    return RankingBlock(block.query_index, rank, block.gallery_index, block.distance)


def score_lengths(scores: QueryScores, lengths: Mapping[str, int], *, ranks: Sequence[int]) -> dict[int, MeanScores]:
    """Scores of the queries of each length that has a valid one; queries of unknown length are left out.

    Args:
        scores: Queries of one ranking.
        lengths: Number of images of each query track.
        ranks: Ranks at which CMC is wanted.
    """
    own = np.array([lengths.get(query, 0) for query in scores.query_ids])
    valid = scores.positives > 0
    return {
        int(length): summarise(scores.select(own == length), ranks=ranks)
        for length in np.unique(own[valid & (own > 0)])
    }
