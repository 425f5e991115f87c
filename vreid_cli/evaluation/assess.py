"""Everything that is said of one ranking, in one pass over its lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vreid_cli.evaluation.breakdown import CameraPair, CameraPairs, by_track_length
from vreid_cli.evaluation.scores import Evaluation, QueryScores, join_scores, score_queries, summarise
from vreid_cli.evaluation.thresholds import ErrorCurve, PairCounter
from vreid_cli.evaluation.uncertainty import Interval, mean_intervals
from vreid_cli.types.rankings import RankingFacts
from vreid_cli.types.truth import ApRule, JudgedRows, SameCamera, WithoutPositive


@dataclass(frozen=True)
class Rules:
    """How rankings are counted, and what is wanted beside the means.

    Attributes:
        same_camera: ``drop`` or ``keep``.
        ap_rule: ``rectangle`` or ``trapezoid``.
        ranks: Ranks at which CMC is wanted.
        without_positive: ``skip`` or ``zero``.
        draws: How often vehicles are drawn again for intervals and comparisons.
        seed: Of these draws.
        by_camera: Whether scores of camera pairs are wanted.
        by_length: Whether scores of track lengths are wanted.
    """

    same_camera: SameCamera = "drop"
    ap_rule: ApRule = "rectangle"
    ranks: Sequence[int] = (1, 5, 10, 20)
    without_positive: WithoutPositive = "skip"
    draws: int = 2000
    seed: int = 0
    by_camera: bool = False
    by_length: bool = False


@dataclass(frozen=True)
class Intervals:
    """95% intervals of the means; None where there is no mean or a single vehicle.

    Attributes:
        vehicles: How many vehicles the averaged queries show.
        mean_ap: Of mAP.
        mean_inp: Of mINP.
        cmc: Of CMC at each rank.
    """

    vehicles: int
    mean_ap: Interval | None
    mean_inp: Interval | None
    cmc: Mapping[int, Interval | None]


@dataclass(frozen=True, eq=False)
class Assessment:
    """One ranking's scores, and how sure they are.

    Attributes:
        scores: The means.
        queries: What they are the means of, query by query.
        intervals: How sure the means are.
        curve: Errors of a threshold on the distance; None where lists are cut or labels are missing.
        camera_pairs: Scores of each pair of cameras; None if not wanted, or lists are cut.
        lengths: Scores of each length of query tracks; None if not wanted or unknown.
    """

    scores: Evaluation
    queries: QueryScores
    intervals: Intervals
    curve: ErrorCurve | None
    camera_pairs: Sequence[CameraPair] | None
    lengths: Mapping[int, Evaluation] | None


def assess(blocks: Iterable[JudgedRows], facts: RankingFacts, rules: Rules) -> Assessment:
    """Score ranked lists.

    Args:
        blocks: The lists, some queries at a time.
        facts: How the ranking was made: what its lists cover decides what can be said.
        rules: How to count.

    Raises:
        DataError: Ranks do not rise from 1 within a query.
    """
    whole = facts.coverage == "full"
    pairs = PairCounter(rules.same_camera)
    cameras = CameraPairs(same_camera=rules.same_camera, ap_rule=rules.ap_rule)
    scores = []
    for rows in blocks:
        scores.append(score_queries(rows, same_camera=rules.same_camera, ap_rule=rules.ap_rule))
        if whole:
            pairs.add(rows)
        if whole and rules.by_camera:
            cameras.add(rows)
    queries = join_scores(scores)
    summary = summarise(
        queries,
        ranks=rules.ranks,
        coverage=facts.coverage,
        query_count=facts.query_count,
        without_positive=rules.without_positive,
    )
    lengths = by_track_length(queries, facts.query_lengths, ranks=rules.ranks) if facts.query_lengths else None
    return Assessment(
        scores=summary,
        queries=queries,
        intervals=_intervals(queries, summary, facts, rules),
        curve=pairs.curve() if whole else None,
        camera_pairs=cameras.summarise(rules.ranks) if whole and rules.by_camera else None,
        lengths=lengths if rules.by_length and facts.coverage != "top-k" else None,
    )


def _intervals(queries: QueryScores, summary: Evaluation, facts: RankingFacts, rules: Rules) -> Intervals:
    everything = facts.coverage == "top-k" or rules.without_positive == "zero"
    counted = queries.labelled if everything else queries.positives > 0
    chosen = queries.select(counted)
    first = chosen.first_positive
    columns = [np.nan_to_num(chosen.average_precision), np.nan_to_num(chosen.inverse_penalty)]
    columns += [((first > 0) & (first <= rank)).astype(np.float64) for rank in rules.ranks]
    values = np.stack(columns, axis=1).astype(np.float64)
    found = mean_intervals(values, chosen.vehicles, draws=rules.draws, seed=rules.seed)
    told = [summary.mean_ap, summary.mean_inp, *(summary.cmc[rank] for rank in rules.ranks)]
    known = [interval if mean is not None else None for interval, mean in zip(found, told, strict=True)]
    return Intervals(
        vehicles=len(set(chosen.vehicles)),
        mean_ap=known[0],
        mean_inp=known[1],
        cmc=dict(zip(rules.ranks, known[2:], strict=True)),
    )
