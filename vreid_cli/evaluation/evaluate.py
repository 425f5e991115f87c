"""Rankings against ground truth: scores, how sure they are, and what is doubtful."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vreid_cli.errors import DataError, require_type
from vreid_cli.evaluation.breakdown import CameraPair, CameraPairs, score_lengths
from vreid_cli.evaluation.calibrate import judge_probabilities
from vreid_cli.evaluation.judging import Judge, TruthJudge
from vreid_cli.evaluation.open_set import OpenSet, SearchCollector, chosen_threshold, measure_open_set
from vreid_cli.evaluation.options import EvaluationOptions
from vreid_cli.evaluation.pairs import PairCollector
from vreid_cli.evaluation.reliability import Reliability
from vreid_cli.evaluation.review import score_review
from vreid_cli.evaluation.scores import (
    MeanScores,
    QueryScores,
    averaged,
    counted_queries,
    score_lists,
    summarise,
)
from vreid_cli.evaluation.thresholds import ErrorCurve, PairCounter
from vreid_cli.evaluation.uncertainty import Interval, mean_intervals
from vreid_cli.types.amounts import amount
from vreid_cli.types.features import MEANINGLESS
from vreid_cli.types.rankings import Ranking, RankingBlock, RankingFacts
from vreid_cli.types.truth import GroundTruth, ReviewedPairs

#: What decides what is right, where a data set states no ground truth.
LABELS = "labels"
_EXAMPLES = 3


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation(MeanScores):
    """One ranking's scores, how sure they are, and all that has to be said beside them.

    Attributes:
        facts: How the ranking was made.
        options: How it was counted.
        seed: Of the resamples.
        queries: What the means are the means of, query by query.
        intervals: How sure the means are.
        curve: Errors of a threshold on the distance; None where lists are cut or labels are missing.
        reliability: Whether probabilities are what they say; None where there are none, or lists are cut.
        open_set: How well it knows whether the query's vehicle is there; None where every labelled query is mated, or
            lists are cut.
        camera_pairs: Scores of each pair of cameras; None if not wanted, or lists are cut.
        lengths: Scores of each length of query tracks; None if not wanted or unknown.
        ground_truth: What decided what is right: ``labels``, or the data set's own files.
        warnings: What is doubtful.
    """

    facts: RankingFacts
    options: EvaluationOptions
    seed: int
    queries: QueryScores
    intervals: Intervals
    curve: ErrorCurve | None = None
    reliability: Reliability | None = None
    open_set: OpenSet | None = None
    camera_pairs: Mapping[CameraPair, MeanScores] | None = None
    lengths: Mapping[int, MeanScores] | None = None
    ground_truth: str = LABELS
    warnings: tuple[str, ...] = ()


def evaluate(
    ranking: Ranking,
    options: EvaluationOptions | None = None,
    *,
    truth: GroundTruth | ReviewedPairs | None = None,
    seed: int = 0,
) -> Evaluation:
    """Score a ranking.

    Args:
        ranking: From :func:`vreid_cli.rank` or :func:`vreid_cli.read_ranking`. Its lists are read once, in blocks.
        options: How to count; by default without junk, mean precision at the positives, ranks 1, 5, 10 and 20.
        truth: What the data set itself says, or what a person marked (:func:`vreid_cli.read_review`); without it
            labels decide.
        seed: Of the resamples; the same seed gives the same intervals.

    Returns:
        mAP, mINP and CMC as fractions over the valid queries, with the counts behind them.

    Raises:
        DataError: Ranks do not rise from 1 within a query.

    Examples:
        >>> import numpy as np
        >>> import vreid_cli as vreid
        >>> labels = {"track_id": ["a", "b", "c"], "vehicle_id": ["1", "2", "1"], "camera_id": ["x", "x", "y"]}
        >>> gallery = vreid.FeatureSet.from_arrays(np.array([[1.0, 0], [0, 1], [1, 1]]), **labels)
        >>> found = vreid.evaluate(vreid.rank(gallery, gallery)["meanMCD50"])
        >>> found.mean_ap, found.valid_queries, found.total_queries
        (1.0, 2, 3)
    """
    options = options or EvaluationOptions()
    require_type(
        ranking, Ranking, name="ranking", hint="from vreid.rank or vreid.read_ranking; a matrix: evaluate_distances"
    )
    require_type(options, EvaluationOptions, name="options", hint='as in vreid.EvaluationOptions(ap="trapezoid")')
    facts = ranking.facts
    if isinstance(truth, ReviewedPairs):
        return _evaluate_review(ranking, options, truth, seed=seed)
    judge = Judge(ranking)
    by_truth = None if truth is None else TruthJudge(truth, ranking)
    whole = facts.coverage == "full"
    pairs, cameras = PairCounter(options), CameraPairs(ranking.queries, ranking.gallery, options)
    if options.split_open is not None and not whole:
        raise DataError(
            f"--split-open: {ranking.source} does not list every item, so what would be the nearest is not known",
            hint="rank without --top-k, --threshold and --min-probability",
            file=ranking.source,
        )
    chosen, search = chosen_threshold(facts, options), SearchCollector(ranking, options, seed=seed)
    sure = whole and facts.calibration is not None
    collector = PairCollector(options, pairs=len(ranking.queries) * len(ranking.gallery), seed=seed)
    side = collector.side(ranking)
    scores, contradictions, missing = [], [], 0
    for block in ranking.blocks:
        kinds = judge(block.query_index, block.gallery_index)
        if by_truth is not None:
            labelled = kinds
            kinds, lacking = by_truth(labelled, block.query_index, block.gallery_index)
            missing += lacking
            contradictions.append(block.select(kinds != labelled))
        try:
            scores.append(score_lists(block, kinds, ranking.queries, options))
        except DataError as error:
            raise DataError(f"{ranking.source}: {error.message}", hint=error.hint, file=ranking.source) from None
        if whole:
            pairs.add(block.distance, kinds)
            search.add(block, kinds)
        if sure:
            side.add(block, kinds)
        if whole and "camera" in options.by:
            cameras.add(block, kinds)
    doubts = () if truth is None else _doubts(truth.source, ranking, contradictions, missing=missing)
    queries = QueryScores.joined(scores)
    return replace(
        conclude(queries, facts, options, total=len(ranking.queries), seed=seed, doubts=doubts),
        curve=pairs.curve() if whole else None,
        open_set=_open_set(search, chosen, options, seed=seed) if whole else None,
        reliability=judge_probabilities(collector.pairs(), facts, resamples=options.resamples, seed=seed)
        if sure
        else None,
        camera_pairs=cameras.summarise() if whole and "camera" in options.by else None,
        ground_truth=truth.source if truth is not None else LABELS,
    )


def _evaluate_review(ranking: Ranking, options: EvaluationOptions, review: ReviewedPairs, *, seed: int) -> Evaluation:
    queries, notes = score_review(ranking, review, options)
    # Whatever the lists leave out: every marked item that counts is among them.
    told = replace(ranking.facts, coverage="positives")
    found = conclude(queries, told, options, total=len(ranking.queries), seed=seed, doubts=notes)
    return replace(found, facts=ranking.facts, ground_truth=review.source)


def _open_set(
    search: SearchCollector, chosen: tuple[float, float | None] | None, options: EvaluationOptions, *, seed: int
) -> OpenSet | None:
    """None where every query's vehicle is there and nobody asks what if it were not."""
    searches = search.searches()
    asked = options.split_open is not None or options.threshold is not None or options.min_probability is not None
    if not len(searches.vehicles) or (searches.mated.all() and not asked):
        return None
    return measure_open_set(searches, held_out=search.held_out, chosen=chosen, resamples=options.resamples, seed=seed)


def conclude(
    queries: QueryScores,
    facts: RankingFacts,
    options: EvaluationOptions,
    *,
    total: int,
    seed: int,
    doubts: tuple[str, ...] = (),
) -> Evaluation:
    """From the scores of the queries that have a list to the evaluation of a ranking of ``total`` queries.

    What its lists cover, by its facts, decides what can be said. ``doubts`` are warnings about ground truth.
    """
    ranks = sorted(set(options.ranks))
    means = summarise(
        queries,
        ranks=ranks,
        coverage=facts.coverage,
        # A query whose whole gallery was left out lists nothing.
        total=max(total, facts.query_count or 0),
        without_positive=options.without_positive,
    )
    lengths = None
    if "length" in options.by and facts.query_lengths and facts.coverage != "top-k":
        lengths = score_lengths(queries, facts.query_lengths, ranks=ranks)
    return Evaluation(
        **vars(means),
        facts=facts,
        options=options,
        seed=seed,
        queries=queries,
        intervals=_intervals(queries, means, facts, options=options, seed=seed),
        lengths=lengths,
        warnings=(*((MEANINGLESS,) if facts.meaningless else ()), *doubts, *_warnings(means, facts, options)),
    )


def _intervals(
    queries: QueryScores, means: MeanScores, facts: RankingFacts, *, options: EvaluationOptions, seed: int
) -> Intervals:
    counted = counted_queries(queries, coverage=facts.coverage, without_positive=options.without_positive)
    values = averaged(counted, list(means.cmc)).T
    found = mean_intervals(values, counted.vehicles, resamples=options.resamples, seed=seed)
    of = [means.mean_ap, means.mean_inp, *means.cmc.values()]
    mean_ap, mean_inp, *hits = (None if mean is None else one for one, mean in zip(found, of, strict=True))
    return Intervals(len(set(counted.vehicles)), mean_ap, mean_inp, cmc=dict(zip(means.cmc, hits, strict=True)))


def _doubts(source: str, ranking: Ranking, contradictions: Sequence[RankingBlock], *, missing: int) -> tuple[str, ...]:
    """Where ground truth and labels, or ground truth and lists, do not agree."""
    found = []
    count = sum(len(block.rank) for block in contradictions)
    if count:
        rows = [pair for block in contradictions for pair in zip(block.query_index, block.gallery_index, strict=True)]
        examples = [f"{ranking.queries.ids[query]} and {ranking.gallery.ids[item]}" for query, item in rows[:_EXAMPLES]]
        found.append(
            f"{source} contradict the labels about {amount(count, 'pair')}, and were followed: {', '.join(examples)}"
        )
    if missing:
        found.append(
            f"not listed, and left out of the scores: {amount(missing, 'item')} that {source} call right; "
            "rank without --top-k, --threshold and --cameras other"
        )
    return tuple(found)


def _warnings(means: MeanScores, facts: RankingFacts, options: EvaluationOptions) -> tuple[str, ...]:
    warnings = []
    if not means.valid_queries:
        warnings.append(f"no query has a positive, so there is nothing to average. {_why_invalid(means, options)}")
    elif means.unlabelled_queries:
        queries = amount(means.total_queries, "query has", "queries have")
        warnings.append(f"{means.unlabelled_queries:,} of {queries} no vehicle label")
    if facts.coverage == "top-k":
        warnings.append(
            "only the nearest items are listed: mAP and mINP would not be exact and are refused, "
            "as is CMC beyond the shortest list"
        )
    if facts.candidates is not None:
        warnings.append(
            f"each query was compared with {amount(facts.candidates, 'candidate')} of an index: CMC is an estimate, "
            "and vreid rank --candidates with --check-recall says how good"
        )
    if facts.cameras == "other" and options.same_camera == "keep":
        warnings.append("what the query's own camera saw was never ranked, so --same-camera keep cannot count it")
    return tuple(warnings)


def _why_invalid(means: MeanScores, options: EvaluationOptions) -> str:
    if means.unlabelled_queries == means.total_queries:
        return (
            "The queries are unlabelled. If their names hold vehicle and camera, describe them with --label-pattern: "
            "of vreid extract for images, of vreid rank for features from elsewhere."
        )
    if options.same_camera == "drop" and means.junk:
        return (
            "All that shows a query's vehicle was seen by the query's own camera and is left out as junk: "
            "check the camera labels, or count them with --same-camera keep."
        )
    if means.junk:
        return "All that shows a query's vehicle is the query itself: is the gallery the same folder as the queries?"
    return "No gallery item has the vehicle of any query: check that both sides are labelled alike."
