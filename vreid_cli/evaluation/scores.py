"""Average precision, CMC and mINP from ranked lists.

Only the ranks of the positives matter, counted without junk and self, so a list may leave out other items
as long as the ranks are true. Source of the definitions: DESIGN section 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid_cli.errors import DataError
from vreid_cli.types.arrays import BoolArray, Int64Array, TextArray
from vreid_cli.types.rankings import Coverage
from vreid_cli.types.truth import ApRule, JudgedRows, SameCamera, WithoutPositive

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class QueryScores:
    """Scores of n queries.

    Attributes:
        query_ids: (n,) the queries.
        vehicles: (n,) the query's vehicle; None where unknown.
        average_precision: (n,) between 0 and 1; NaN without a positive.
        inverse_penalty: (n,) positives over the rank of the last one (INP); NaN without a positive.
        first_positive: (n,) rank of the nearest positive; 0 without one.
        positives: (n,) items of the same vehicle that count.
        junk: (n,) items left out, self included.
        listed: (n,) items that count, positive or not, down to the first rank that the list leaves out.
    """

    query_ids: TextArray
    vehicles: TextArray
    average_precision: FloatArray
    inverse_penalty: FloatArray
    first_positive: Int64Array
    positives: Int64Array
    junk: Int64Array
    listed: Int64Array

    @property
    def labelled(self) -> BoolArray:
        """(n,) whether the query's vehicle is known."""
        return np.array([vehicle is not None for vehicle in self.vehicles], dtype=bool)

    def select(self, chosen: BoolArray) -> QueryScores:
        """Some of the queries."""
        return QueryScores(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})


@dataclass(frozen=True)
class Evaluation:
    """Means over the valid queries, as fractions; None where nothing can be said.

    Attributes:
        mean_ap: mAP.
        mean_inp: mINP.
        cmc: CMC at each rank.
        valid_queries: Queries with at least one positive.
        total_queries: All queries.
        unlabelled_queries: Queries whose vehicle is unknown.
        positives: Positives of all queries.
        junk: Items left out of all queries, self included.
    """

    mean_ap: float | None
    mean_inp: float | None
    cmc: Mapping[int, float | None]
    valid_queries: int
    total_queries: int
    unlabelled_queries: int
    positives: int
    junk: int


def score_queries(rows: JudgedRows, *, same_camera: SameCamera, ap_rule: ApRule) -> QueryScores:
    """Score every query of some ranked lists.

    Args:
        rows: Ranked lists; all positives of a query must be among its rows for AP and INP to be exact.
        same_camera: ``drop`` leaves out junk (same vehicle, same camera); ``keep`` counts it as positive.
            The query itself is left out under both.
        ap_rule: ``rectangle`` or ``trapezoid``.

    Raises:
        DataError: Ranks do not rise from 1 within a query.
    """
    count = len(rows.query_ids)
    _check_order(rows)
    removed = rows.is_self | (rows.same_vehicle & rows.same_camera) if same_camera == "drop" else rows.is_self
    starts = np.searchsorted(rows.query, np.arange(count + 1))
    positive = np.flatnonzero(rows.same_vehicle & ~removed)
    query = rows.query[positive].astype(np.int64)
    total_removed = np.concatenate([[0], np.cumsum(removed)])
    rank = rows.rank[positive] - (total_removed[positive] - total_removed[starts[query]])
    positives = np.bincount(query, minlength=count)
    ordinal = np.arange(len(query)) - (np.cumsum(positives) - positives)[query] + 1
    gains = _precision_gains(ordinal, rank, ap_rule=ap_rule)
    first, last = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    first[query[::-1]] = rank[::-1]
    last[query] = rank
    with np.errstate(invalid="ignore", divide="ignore"):
        average_precision = np.bincount(query, weights=gains, minlength=count) / positives
        inverse_penalty = positives / last
    valid = positives > 0
    return QueryScores(
        query_ids=rows.query_ids,
        vehicles=rows.vehicles,
        average_precision=np.where(valid, average_precision, np.nan),
        inverse_penalty=np.where(valid, inverse_penalty, np.nan),
        first_positive=first,
        positives=positives,
        junk=np.diff(total_removed[starts]),
        listed=_unbroken(rows, starts, removed=removed),
    )


def _check_order(rows: JudgedRows) -> None:
    before = np.concatenate([[0], rows.rank[:-1]])
    before[1:][rows.query[1:] != rows.query[:-1]] = 0
    wrong = np.flatnonzero(rows.rank <= before[: len(rows.rank)])
    if len(wrong):
        name = rows.query_ids[rows.query[wrong[0]]]
        raise DataError(f"the ranks of query {name} do not rise from 1", hint="make the ranking again with vreid rank")


def _unbroken(rows: JudgedRows, starts: Int64Array, *, removed: BoolArray) -> Int64Array:
    """Items that count before the first gap of each list: as far as it is known what stands at a rank."""
    # Ranks rise, so a rank that equals its place in the list has no gap before it.
    in_place = rows.rank == np.arange(len(rows.rank)) - starts[rows.query] + 1
    return np.bincount(rows.query[in_place & ~removed], minlength=len(rows.query_ids))


def _precision_gains(ordinal: Int64Array, rank: Int64Array, *, ap_rule: ApRule) -> FloatArray:
    """What each positive adds to the sum whose mean is AP: the i-th positive, at its counted rank."""
    precision: FloatArray = ordinal / rank
    if ap_rule == "rectangle":
        return precision
    # The precision just before this rank, where one positive less had been seen; 1 before the first rank.
    before = np.where(rank > 1, (ordinal - 1) / np.maximum(rank - 1, 1), 1.0)
    gains: FloatArray = (before + precision) / 2
    return gains


def join_scores(blocks: Sequence[QueryScores]) -> QueryScores:
    """The scores of several blocks of queries as one."""
    names = [field.name for field in fields(QueryScores)]
    if not blocks:
        nothing: NDArray[Any] = np.empty(0)
        return QueryScores(**dict.fromkeys(names, nothing))
    return QueryScores(**{name: np.concatenate([getattr(block, name) for block in blocks]) for name in names})


def summarise(
    scores: QueryScores | Sequence[QueryScores],
    *,
    ranks: Sequence[int],
    coverage: Coverage,
    query_count: int | None = None,
    without_positive: WithoutPositive = "skip",
) -> Evaluation:
    """Means over the valid queries.

    Args:
        scores: Queries of one ranking, or blocks of them.
        ranks: Ranks at which CMC is wanted.
        coverage: With ``top-k`` mAP and mINP are refused (None), and CMC beyond the shortest list; every
            labelled query then counts as valid, because its positives may be beyond the list's end.
        query_count: Number of queries, where some may list nothing; None for those of the blocks.
        without_positive: ``skip`` averages over the queries that have a positive; ``zero`` counts labelled
            queries without one as 0.
    """
    joined = scores if isinstance(scores, QueryScores) else join_scores(scores)
    partial = coverage == "top-k"
    valid = joined.labelled if partial else joined.positives > 0
    counted = joined.labelled if without_positive == "zero" else valid
    safe_rank = int(joined.listed[valid].min(initial=np.iinfo(np.int64).max)) if partial else None
    return Evaluation(
        mean_ap=None if partial else _mean(np.nan_to_num(joined.average_precision[counted])),
        mean_inp=None if partial else _mean(np.nan_to_num(joined.inverse_penalty[counted])),
        cmc={rank: _cmc(joined.first_positive[counted], rank, safe_rank=safe_rank) for rank in ranks},
        valid_queries=int(valid.sum()),
        # A query whose whole gallery was left out lists nothing and is in no block.
        total_queries=max(len(valid), query_count or 0),
        unlabelled_queries=int((~joined.labelled).sum()),
        positives=int(joined.positives.sum()),
        junk=int(joined.junk.sum()),
    )


def _mean(values: NDArray[Any]) -> float | None:
    return float(np.mean(values.astype(np.float64))) if len(values) else None


def _cmc(first_positive: NDArray[Any], rank: int, *, safe_rank: int | None) -> float | None:
    if safe_rank is not None and rank > safe_rank:
        return None
    hits = (first_positive > 0) & (first_positive <= rank)
    return _mean(hits)
