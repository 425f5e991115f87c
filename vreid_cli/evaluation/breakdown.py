"""Scores of parts of a ranking: by pair of cameras, and by length of the query track."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vreid_cli.evaluation.judging import Kinds
from vreid_cli.evaluation.options import EvaluationOptions
from vreid_cli.evaluation.scores import MeanScores, QueryScores, score_lists, summarise
from vreid_cli.types.rankings import RankingBlock
from vreid_cli.types.tracks import Items

#: A camera of queries, and one of gallery items.
CameraPair = tuple[str, str]


class CameraPairs:
    """Collects the scores of each pair of cameras, block by block: all that other cameras saw is left out.

    Args:
        queries: The ranking's queries.
        gallery: Its gallery items.
        options: How to count.
    """

    def __init__(self, queries: Items, gallery: Items, options: EvaluationOptions) -> None:
        self._queries, self._gallery, self._options = queries, gallery, options
        self._camera_of = dict(zip(queries.ids, queries.cameras, strict=True))
        self._cameras = {camera: index for index, camera in enumerate(dict.fromkeys(gallery.cameras))}
        self._codes = np.array([self._cameras[camera] for camera in gallery.cameras], dtype=np.int64)
        self._found: dict[CameraPair, list[QueryScores]] = {}

    def add(self, block: RankingBlock, kinds: Kinds) -> None:
        """Take whole lists; where cameras are unknown there is nothing to take."""
        codes = self._codes[block.gallery_index]
        for camera, code in self._cameras.items():
            keep = codes == code
            if camera is None or not keep.any():
                continue
            scores = score_lists(_ranked_again(block.select(keep)), kinds[keep], self._queries, self._options)
            own = np.array([self._camera_of[name] for name in scores.query_ids], dtype=object)
            for other in {camera for camera in own[scores.positives > 0] if camera is not None}:
                chosen = (own == other) & (scores.positives > 0)
                self._found.setdefault((other, camera), []).append(scores.select(chosen))

    def summarise(self) -> dict[CameraPair, MeanScores]:
        """The scores of each pair that has a valid query, by the names of the cameras."""
        ranks = sorted(set(self._options.ranks))
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
