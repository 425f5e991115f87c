"""Average precision, CMC and mINP from ranked lists.

Only the ranks of the positives matter, counted without junk and self, so a list may leave out other items
as long as the ranks are true. Source of the definitions: docs/definitions.md#average-precision and #cmc-and-minp.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid_cli.errors import DataError
from vreid_cli.evaluation.judging import Kinds, left_out, positive
from vreid_cli.evaluation.options import EvaluationOptions
from vreid_cli.types.arrays import BoolArray, Int64Array, TextArray
from vreid_cli.types.rankings import Coverage, RankingBlock
from vreid_cli.types.tracks import Items
from vreid_cli.types.truth import ApRule, WithoutPositive

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
        return QueryScores(*(column[chosen] for column in vars(self).values()))

    @classmethod
    def joined(cls, blocks: Iterable[QueryScores]) -> QueryScores:
        """The scores of several blocks of queries as one."""
        nothing: list[NDArray[Any]] = [np.empty(0)] * len(fields(cls))
        parts = list(blocks) or [cls(*nothing)]
        return cls(*map(np.concatenate, zip(*(vars(part).values() for part in parts), strict=True)))


@dataclass(frozen=True, kw_only=True)
class MeanScores:
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


def score_lists(block: RankingBlock, kinds: Kinds, queries: Items, options: EvaluationOptions) -> QueryScores:
    """Score every query of some ranked lists.

    Args:
        block: The lists; all positives of a query must be among them for AP and INP to be exact.
        kinds: (R,) what each of their rows is.
        queries: The ranking's queries.
        options: How to count.

    Raises:
        DataError: Ranks do not rise from 1 within a query.
    """
    out = left_out(kinds, options.same_camera)
    starts = np.flatnonzero(np.diff(block.query_index, prepend=-1))
    who, count = block.query_index[starts], len(starts)
    lengths = np.diff(starts, append=len(block.rank))
    own = np.repeat(np.arange(count), lengths)
    _check_order(block.rank, starts, queries.ids[who])
    rows = np.flatnonzero(positive(kinds, options.same_camera))
    query = own[rows]
    removed = np.concatenate([[0], np.cumsum(out)])
    rank = block.rank[rows] - (removed[rows] - removed[starts[query]])
    positives = np.bincount(query, minlength=count)
    ordinal = np.arange(len(query)) - (np.cumsum(positives) - positives)[query] + 1
    first, last = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    first[query[::-1]] = rank[::-1]
    last[query] = rank
    # Ranks rise, so a rank that equals its place in the list has no gap before it.
    in_place = block.rank == np.arange(len(own)) - starts[own] + 1
    with np.errstate(invalid="ignore", divide="ignore"):
        gains = np.bincount(query, weights=_precision_gains(ordinal, rank, options.ap), minlength=count)
        return QueryScores(
            query_ids=queries.ids[who],
            vehicles=queries.vehicles[who],
            average_precision=np.where(positives > 0, gains / positives, np.nan),
            inverse_penalty=np.where(positives > 0, positives / last, np.nan),
            first_positive=first,
            positives=positives,
            junk=removed[starts + lengths] - removed[starts],
            listed=np.bincount(own[in_place & ~out], minlength=count),
        )


def _check_order(rank: NDArray[np.signedinteger], starts: Int64Array, names: TextArray) -> None:
    before = np.concatenate([[0], rank[:-1]])
    before[starts] = 0
    wrong = np.flatnonzero(rank <= before[: len(rank)])
    if len(wrong):
        name = names[np.searchsorted(starts, wrong[0], side="right") - 1]
        raise DataError(f"the ranks of query {name} do not rise from 1", hint="make the ranking again with vreid rank")


def _precision_gains(ordinal: Int64Array, rank: Int64Array, ap_rule: ApRule) -> FloatArray:
    """What each positive adds to the sum whose mean is AP: the i-th positive, at its counted rank."""
    precision: FloatArray = ordinal / rank
    if ap_rule == "rectangle":
        return precision
    # The precision just before this rank, where one positive less had been seen; 1 before the first rank.
    before = np.where(rank > 1, (ordinal - 1) / np.maximum(rank - 1, 1), 1.0)
    gains: FloatArray = (before + precision) / 2
    return gains


def counted_queries(
    scores: QueryScores, *, coverage: Coverage = "full", without_positive: WithoutPositive = "skip"
) -> QueryScores:
    """The queries that the means are over."""
    # Where lists are cut, the positives of a labelled query may be beyond their end.
    labels_decide = coverage == "top-k" or without_positive == "zero"
    return scores.select(scores.labelled if labels_decide else scores.positives > 0)


def averaged(scores: QueryScores, ranks: Sequence[int]) -> FloatArray:
    """(2 + ranks, n) what the means are of: AP, INP, and whether a positive is found down to each rank."""
    first = scores.first_positive
    hits = [(first > 0) & (first <= rank) for rank in ranks]
    precision, penalty = np.nan_to_num(scores.average_precision), np.nan_to_num(scores.inverse_penalty)
    return np.array([precision, penalty, *hits], dtype=np.float64)


def summarise(
    scores: QueryScores,
    *,
    ranks: Sequence[int],
    coverage: Coverage = "full",
    total: int = 0,
    without_positive: WithoutPositive = "skip",
) -> MeanScores:
    """Means over the valid queries.

    Args:
        scores: Queries of one ranking.
        ranks: Ranks at which CMC is wanted.
        coverage: With ``top-k`` mAP and mINP are refused (None), and CMC beyond the shortest list; every
            labelled query then counts as valid, because its positives may be beyond the list's end.
        total: Number of queries, where some may list nothing and have no scores.
        without_positive: ``skip`` averages over the queries that have a positive; ``zero`` counts labelled
            queries without one as 0.
    """
    partial = coverage == "top-k"
    valid = scores.labelled if partial else scores.positives > 0
    counted = counted_queries(scores, coverage=coverage, without_positive=without_positive)
    means: list[float | None] = [None] * (2 + len(ranks))
    if len(counted.query_ids):
        means = averaged(counted, ranks).mean(axis=1).tolist()
    if partial:
        safe_rank = scores.listed[valid].min(initial=np.iinfo(np.int64).max)
        hits = zip(ranks, means[2:], strict=True)
        means = [None, None, *(mean if rank <= safe_rank else None for rank, mean in hits)]
    return MeanScores(
        mean_ap=means[0],
        mean_inp=means[1],
        cmc=dict(zip(ranks, means[2:], strict=True)),
        valid_queries=int(valid.sum()),
        total_queries=max(len(valid), total),
        unlabelled_queries=int((~scores.labelled).sum()),
        positives=int(scores.positives.sum()),
        junk=int(scores.junk.sum()),
    )
