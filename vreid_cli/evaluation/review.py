"""Scores by what a person marked: pairs without a mark are left out, and ranks count marked items only.

Source of the definitions: docs/definitions.md#reviewed-pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from vreid_cli.errors import DataError
from vreid_cli.evaluation.judging import RIGHT, WRONG, Judge, PairSet, left_out
from vreid_cli.evaluation.options import EvaluationOptions
from vreid_cli.evaluation.scores import QueryScores, score_lists
from vreid_cli.types.amounts import amount
from vreid_cli.types.arrays import TextArray, text_array
from vreid_cli.types.rankings import Ranking, RankingBlock
from vreid_cli.types.truth import ReviewedPairs


def score_review(
    ranking: Ranking, review: ReviewedPairs, options: EvaluationOptions
) -> tuple[QueryScores, tuple[str, ...]]:
    """Score every query that has a mark, by its marked items alone.

    Args:
        ranking: The ranking.
        review: The marks.
        options: How to count; what is left out by labels stays left out.

    Returns:
        The scores, whose vehicles are the labels or else what the marks join; and what has to be said.

    Raises:
        DataError: No marked pair is in the ranking, or none that counts is marked as the same vehicle.
    """
    same, other = (PairSet(_positions(ranking, review, wanted), len(ranking.gallery)) for wanted in (True, False))
    queries = replace(ranking.queries, vehicles=_vehicles(ranking, review))
    judge, scores, listed, counted, right = Judge(ranking), [], 0, 0, 0
    for block in ranking.blocks:
        is_same = same.contain(block.query_index, block.gallery_index)
        marked = is_same | other.contain(block.query_index, block.gallery_index)
        counts = marked & ~left_out(judge(block.query_index, block.gallery_index), options.same_camera)
        listed, counted, right = listed + marked.sum(), counted + counts.sum(), right + (is_same & counts).sum()
        if counts.any():
            kinds = np.where(is_same[counts], RIGHT, WRONG).astype(np.int8)
            scores.append(score_lists(_renumbered(block.select(counts)), kinds, queries, options))
    if not listed:
        message = f"of {amount(len(review.marks), 'pair')} that {review.source} marks none is in {ranking.source}"
        hint = "it is a review of another ranking: its queries and gallery items have other names"
        raise DataError(message, hint=hint, file=review.source)
    if not right:
        message = (
            f"{review.source} marks no pair of {ranking.source} that counts as 'same': there is nothing to average"
        )
        raise DataError(message, hint="mark right matches, too", file=review.source)
    return QueryScores.joined(scores), tuple(_notes(review, listed=int(listed), counted=int(counted)))


def _notes(review: ReviewedPairs, *, listed: int, counted: int) -> list[str]:
    unsure = f", {review.unsure:,} of them marked unsure" if review.unsure else ""
    notes = [
        f"scored by {amount(counted, 'pair')} that {review.source} marks: all others are left out{unsure}, "
        "and ranks count marked items only"
    ]
    if listed < len(review.marks):
        notes.append(f"{amount(len(review.marks) - listed, 'pair')} marked by {review.source} and not listed")
    if counted < listed:
        notes.append(f"{amount(listed - counted, 'marked pair')} of junk or the query itself, left out all the same")
    return notes


def _positions(ranking: Ranking, review: ReviewedPairs, wanted: bool) -> list[tuple[int, int]]:
    query_at, item_at = ({name: i for i, name in enumerate(side.ids)} for side in (ranking.queries, ranking.gallery))
    return [
        (query_at[query], item_at[item])
        for (query, item), mark in review.marks.items()
        if mark is wanted and query in query_at and item in item_at
    ]


def _renumbered(block: RankingBlock) -> RankingBlock:
    """The same rows, whose ranks go up by one from 1 within a query."""
    starts = np.flatnonzero(np.diff(block.query_index, prepend=-1))
    lengths = np.diff(starts, append=len(block.rank))
    rank = np.arange(len(block.rank)) - np.repeat(starts, lengths) + 1
    return replace(block, rank=rank.astype(np.int32))


def _vehicles(ranking: Ranking, review: ReviewedPairs) -> TextArray:
    """The queries' vehicles: their labels, else a name for all queries that marks join, directly or by way of items.

    Queries of one vehicle succeed and fail together, so intervals need to know them.
    """
    root: dict[tuple[str, str], tuple[str, str]] = {}

    def find(node: tuple[str, str]) -> tuple[str, str]:
        while root.setdefault(node, node) != node:
            root[node] = root[root[node]]
            node = root[node]
        return node

    for (query, item), same in review.marks.items():
        if same:
            root[find(("query", query))] = find(("item", item))
    labels: Mapping[str, str | None] = dict(zip(ranking.queries.ids, ranking.queries.vehicles, strict=True))
    return text_array([labels[name] or "=".join(find(("query", name))) for name in ranking.queries.ids])
