"""What a ranking by candidates misses of the exact one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vreid_cli.evaluation.evaluate import evaluate
from vreid_cli.evaluation.options import EvaluationOptions
from vreid_cli.types.arrays import Int64Array, shared_codes
from vreid_cli.types.rankings import Ranking, RankingBlock


@dataclass(frozen=True)
class Recall:
    """A ranking by candidates beside the exact one of the same queries.

    Attributes:
        queries: Number of queries.
        recall: For each k, the share of the k nearest items that are among the first k of the candidates.
        exact_map: mAP of the exact ranking; None where no query has a positive that is known.
        candidate_map: mAP where the positives that are no candidates stand last of the gallery.
    """

    queries: int
    recall: dict[int, float]
    exact_map: float | None
    candidate_map: float | None


def measure_recall(
    exact: Ranking, found: Ranking, options: EvaluationOptions | None = None, *, nearest: Sequence[int] = (10, 100)
) -> Recall:
    """Compare a ranking by candidates with the exact one.

    Args:
        exact: Lists at least so many of the nearest, and where labels are known every item of the query's vehicle.
        found: By candidates, of the same queries and gallery.
        options: How mAP is counted.
        nearest: Each k that recall is wanted for.

    Examples:
        >>> from vreid_cli.types.rankings import RankingFacts
        >>> from vreid_cli.types.tracks import Items
        >>> from vreid_cli.types.arrays import text_array
        >>> query, gallery = (Items(*(text_array(names),) * 3) for names in (["q"], ["a", "b", "c"]))
        >>> def ranking(items):
        ...     rank, distance = np.arange(1, len(items) + 1, dtype=np.int32), np.arange(len(items), dtype=np.float32)
        ...     block = RankingBlock(np.zeros(len(items), np.int32), rank, np.array(items, np.int32), distance)
        ...     return Ranking(RankingFacts(gallery_size=3), query, gallery, (block,))
        >>> measure_recall(ranking([0, 2, 1]), ranking([0, 1]), nearest=[2]).recall
        {2: 0.5}
    """
    one, other = (RankingBlock.joined(ranking.blocks) for ranking in (exact, found))
    size = len(exact.gallery)
    recall = {}
    for count in nearest:
        wanted, there = (_pairs(rows.select(rows.rank <= count), size) for rows in (one, other))
        recall[count] = float(np.isin(wanted, there).mean()) if len(wanted) else 1.0
    scores = evaluate(exact, options)
    loss = evaluate(_with_missing(exact, found, one=one, other=other), options) if scores.valid_queries else None
    return Recall(
        queries=len(exact.queries),
        recall=recall,
        exact_map=scores.mean_ap if scores.valid_queries else None,
        candidate_map=None if loss is None else loss.mean_ap,
    )


def _pairs(rows: RankingBlock, size: int) -> Int64Array:
    pairs: Int64Array = rows.query_index.astype(np.int64) * size + rows.gallery_index
    return pairs


def _with_missing(exact: Ranking, found: Ranking, *, one: RankingBlock, other: RankingBlock) -> Ranking:
    """The ranking by candidates, with the items of the query's vehicle that are none at the end of the gallery."""
    size = len(exact.gallery)
    queries, items = shared_codes(exact.queries.vehicles, exact.gallery.vehicles)
    own = (queries[one.query_index] == items[one.gallery_index]) & (queries[one.query_index] >= 0)
    missing = one.select(own & ~np.isin(_pairs(one, size), _pairs(other, size)))
    _, first, count = np.unique(missing.query_index, return_index=True, return_counts=True)
    place = np.arange(len(missing.rank)) - np.repeat(first, count)
    missing = replace(missing, rank=(size - np.repeat(count, count) + place + 1).astype(np.int32))
    rows = RankingBlock.joined([other, missing])
    rows = rows.select(np.lexsort((rows.rank, rows.query_index)))
    return replace(found, facts=replace(found.facts, coverage="positives"), blocks=(rows,))
