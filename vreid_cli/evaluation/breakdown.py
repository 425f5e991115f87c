"""Scores of parts of a ranking: by pair of cameras, and by length of the query track."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vreid_cli.evaluation.scores import Evaluation, QueryScores, score_queries, summarise
from vreid_cli.types.truth import ApRule, JudgedRows, SameCamera


@dataclass(frozen=True)
class CameraPair:
    """Queries of one camera against what another saw, all others left out."""

    query: str
    gallery: str
    scores: Evaluation


class CameraPairs:
    """Collects the scores of each pair of cameras, block by block.

    Args:
        same_camera: As for the whole.
        ap_rule: As for the whole.
    """

    def __init__(self, *, same_camera: SameCamera, ap_rule: ApRule) -> None:
        self._same_camera, self._ap_rule = same_camera, ap_rule
        self._found: dict[tuple[str, str], list[QueryScores]] = {}

    def add(self, rows: JudgedRows) -> None:
        """Take whole lists; where cameras are unknown there is nothing to take."""
        if rows.cameras is None or rows.gallery_cameras is None:
            return
        for camera in sorted({camera for camera in rows.gallery_cameras if camera is not None}):
            part = seen_by(rows, camera)
            scores = score_queries(part, same_camera=self._same_camera, ap_rule=self._ap_rule)
            for own in sorted({camera for camera in rows.cameras if camera is not None}):
                chosen = (rows.cameras == own) & (scores.positives > 0)
                if chosen.any():
                    self._found.setdefault((own, camera), []).append(scores.select(chosen))

    def summarise(self, ranks: Sequence[int]) -> list[CameraPair]:
        """One for each pair that has a valid query, by name."""
        return [
            CameraPair(own, camera, summarise(scores, ranks=ranks, coverage="full"))
            for (own, camera), scores in sorted(self._found.items())
        ]


def seen_by(rows: JudgedRows, camera: str) -> JudgedRows:
    """Whole lists with only what one camera saw, ranked anew."""
    assert rows.gallery_cameras is not None
    keep = rows.gallery_cameras == camera
    query = rows.query[keep]
    starts = np.searchsorted(query, np.arange(len(rows.query_ids)))
    return replace(
        rows,
        query=query,
        rank=(np.arange(len(query)) - starts[query] + 1).astype(np.int32),
        same_vehicle=rows.same_vehicle[keep],
        same_camera=rows.same_camera[keep],
        is_self=rows.is_self[keep],
        distance=None if rows.distance is None else rows.distance[keep],
        gallery_cameras=rows.gallery_cameras[keep],
    )


def by_track_length(scores: QueryScores, lengths: Mapping[str, int], *, ranks: Sequence[int]) -> dict[int, Evaluation]:
    """Scores of the queries of each length that has a valid one; lengths of queries that are unknown are left out."""
    own = np.array([lengths.get(query, 0) for query in scores.query_ids])
    valid = scores.positives > 0
    return {
        int(length): summarise(scores.select(own == length), ranks=ranks, coverage="full")
        for length in np.unique(own[valid & (own > 0)])
    }
