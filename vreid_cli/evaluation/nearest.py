"""The nearest items of some queries, for showing them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vreid_cli.evaluation.judging import KIND_NAMES, SELF, Judge, Kinds, TruthJudge, left_out
from vreid_cli.types.arrays import Int64Array
from vreid_cli.types.rankings import RankedItem, Ranking, RankingBlock
from vreid_cli.types.truth import GroundTruth, SameCamera


@dataclass(frozen=True, slots=True)
class JudgedItem:
    """A row of a ranking with what it is to its query.

    Attributes:
        item: The row; its rank is counted without what is left out, and means nothing for what is.
        kind: ``right``, ``wrong``, ``unknown``, ``junk`` or ``self``.
        left_out: Whether it is left out before ranks are counted.
    """

    item: RankedItem
    kind: str
    left_out: bool


def nearest(
    ranking: Ranking, queries: Sequence[str], *, top: int, same_camera: SameCamera = "drop"
) -> dict[str, list[RankedItem]]:
    """The nearest items of some queries, without the query itself and (under ``drop``) junk.

    Args:
        ranking: In memory or from a file.
        queries: Their names, in the order that is wanted.
        top: How many of the nearest.
        same_camera: ``drop`` or ``keep``, as for scores.

    Returns:
        By query, in rank order; ranks are counted without what was left out. Nothing for an unknown query.

    Examples:
        >>> import numpy as np
        >>> import vreid_cli as vreid
        >>> tracks = vreid.FeatureSet.from_arrays(np.array([[0.0, 1], [1, 1], [1, 0]]), track_id=["a", "b", "c"])
        >>> ranking = vreid.rank(tracks, tracks)["meanMCD50"]
        >>> [(item.rank, item.gallery_id) for item in nearest(ranking, ["a"], top=2)["a"]]
        [(1, 'a'), (2, 'b')]
    """
    judged = judge_nearest(ranking, queries, top=top, same_camera=same_camera)
    return {query: [one.item for one in items if not one.left_out] for query, items in judged.items()}


def judge_nearest(
    ranking: Ranking,
    queries: Sequence[str],
    *,
    top: int,
    same_camera: SameCamera = "drop",
    truth: GroundTruth | None = None,
) -> dict[str, list[JudgedItem]]:
    """The nearest items of some queries, and the junk that lies among them; never the query itself.

    Args:
        ranking: In memory or from a file.
        queries: Their names, in the order that is wanted.
        top: How many of the nearest; junk does not count.
        same_camera: Under ``keep`` there is no junk.
        truth: What the data set itself says; without it labels decide.

    Returns:
        By query, in rank order. Nothing for an unknown query.
    """
    found: dict[str, list[JudgedItem]] = {query: [] for query in queries}
    wanted = np.flatnonzero(np.isin(ranking.queries.ids.astype(str), list(queries)))
    judge, by_truth = Judge(ranking), None if truth is None else TruthJudge(truth, ranking)
    for block in ranking.blocks:
        if not len(wanted) or block.query_index[0] > wanted[-1]:
            break
        here = wanted[np.isin(wanted, block.query_index)]
        starts, ends = (np.searchsorted(block.query_index, here, side=side) for side in ("left", "right"))
        for query, start, end in zip(here.tolist(), starts, ends, strict=True):
            own = block.select(slice(start, end))
            kinds = judge(own.query_index, own.gallery_index)
            if by_truth is not None:
                kinds, _ = by_truth(kinds, own.query_index, own.gallery_index)
            counted = np.flatnonzero(~left_out(kinds, same_camera))[:top]
            last = counted[-1] + 1 if len(counted) == top else len(kinds)
            rows = np.flatnonzero(kinds[:last] != SELF)
            found[ranking.queries.ids[query]] = _judged(ranking, own, rows, kinds=kinds, same_camera=same_camera)
    return found


def find_match(ranking: Ranking, query: str, item: str, *, same_camera: SameCamera = "drop") -> JudgedItem | None:
    """One gallery item in the list of one query; None where it is not listed.

    Examples:
        >>> import numpy as np
        >>> import vreid_cli as vreid
        >>> tracks = vreid.FeatureSet.from_arrays(np.array([[0.0, 1], [1, 1], [1, 0]]), track_id=["a", "b", "c"])
        >>> ranking = vreid.rank(tracks, tracks, vreid.RankingOptions(metric="minMED"))["minMED"]
        >>> found = find_match(ranking, "a", "b")
        >>> found.item.rank, found.item.distance, found.kind
        (2, 1.0, 'unknown')
    """
    index = np.flatnonzero(ranking.queries.ids.astype(str) == query)
    place = np.flatnonzero(ranking.gallery.ids.astype(str) == item)
    if not len(index) or not len(place):
        return None
    judge = Judge(ranking)
    for block in ranking.blocks:
        start, end = (np.searchsorted(block.query_index, index[0], side=side) for side in ("left", "right"))
        own = block.select(slice(int(start), int(end)))
        rows = np.flatnonzero(own.gallery_index == place[0])
        if len(rows):
            kinds = judge(own.query_index, own.gallery_index)
            return _judged(ranking, own, rows[:1], kinds=kinds, same_camera=same_camera)[0]
    return None


def _judged(
    ranking: Ranking, own: RankingBlock, rows: Int64Array, *, kinds: Kinds, same_camera: SameCamera
) -> list[JudgedItem]:
    """Rows of one query's list."""
    queries, gallery = ranking.queries, ranking.gallery
    out = left_out(kinds, same_camera)
    gone = np.cumsum(out)
    judged = []
    for row in rows.tolist():
        query, item = own.query_index[row], own.gallery_index[row]
        sure = ranking.facts.probability(own.distance[row : row + 1])
        shown = RankedItem(
            query_id=queries.ids[query],
            query_vehicle=queries.vehicles[query],
            query_camera=queries.cameras[query],
            rank=int(own.rank[row]) - int(gone[row]),
            gallery_id=gallery.ids[item],
            gallery_vehicle=gallery.vehicles[item],
            gallery_camera=gallery.cameras[item],
            distance=float(own.distance[row]),
            probability=None if sure is None or np.isnan(sure[0]) else float(sure[0]),
        )
        judged.append(JudgedItem(shown, KIND_NAMES[kinds[row]], bool(out[row])))
    return judged
