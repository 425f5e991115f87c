"""``vreid evaluate``: rankings against ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid_cli.config import Settings
from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.errors import DataError, StoreError
from vreid_cli.evaluation.assess import Assessment, Rules, assess
from vreid_cli.evaluation.scores import Evaluation
from vreid_cli.evaluation.thresholds import OperatingPoint
from vreid_cli.evaluation.truth import StatedTruth, truth_of_tracks
from vreid_cli.evaluation.uncertainty import Comparison, Interval, compare, over_trials
from vreid_cli.ranking.metrics import METRIC_ORDER
from vreid_cli.ranking.tracks import group_tracks
from vreid_cli.reports.names import enumerate_some, ranking_names
from vreid_cli.reports.plots import ErrorFigures, RankingFigures, check_plot_path, draw_evaluation
from vreid_cli.runtime.files import write_json
from vreid_cli.runtime.progress import log, progress
from vreid_cli.store.feature_files import open_ranking
from vreid_cli.store.query_scores import check_table_path, write_query_scores
from vreid_cli.store.runs import RunDirectory, owning_run, rankings_in
from vreid_cli.types.features import MEANINGLESS
from vreid_cli.types.rankings import RankingFacts
from vreid_cli.workflows.session import Report, RunChoice, Session, read_info

#: How far the CMC curve of a plot goes.
PLOTTED_RANKS = 50
#: How many rankings a plot shows: all that one network has of the paper's two tasks. Of more no name can be read.
PLOTTED_RANKINGS = 14


@dataclass(frozen=True, eq=False)
class EvaluatedRanking:
    """One ranking's scores, with all that must be said beside them.

    Attributes:
        path: The ranking.
        facts: How it was made.
        rules: How it was counted.
        found: The numbers, as fractions.
        truth: What decided what is right: ``labels``, or the data set's own files.
        warnings: What is doubtful about the ground truth.
    """

    path: Path
    facts: RankingFacts
    rules: Rules
    found: Assessment
    truth: str = "labels"
    warnings: tuple[str, ...] = ()

    @property
    def scores(self) -> Evaluation:
        """The means."""
        return self.found.scores

    def to_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints; None where a number is unknown or refused."""
        facts, scores = self.facts, self.scores
        identity = _identity(facts)
        return {
            "ranking": str(self.path),
            "dataset": facts.dataset,
            "task": facts.task,
            "metric": facts.metric,
            "definition": facts.definition,
            "track_unit": facts.track_unit,
            "query_source": facts.query_source,
            "coverage": facts.coverage,
            "cameras": facts.cameras,
            "ap_rule": self.rules.ap_rule,
            "same_camera": self.rules.same_camera,
            "without_positive": self.rules.without_positive,
            "ground_truth": self.truth,
            **_means(scores),
            "valid_queries": scores.valid_queries,
            "total_queries": scores.total_queries,
            "positives": scores.positives,
            "junk": scores.junk,
            "gallery_size": facts.gallery_size,
            "architecture": (identity or {}).get("architecture"),
            "identity": dict(identity) if identity else None,
            "weights": facts.weights,
            "alpha": facts.alpha,
            "rerank": dict(facts.rerank) if facts.rerank else None,
            "threshold": facts.threshold,
            "trial": facts.trial,
            "trial_seed": facts.trial_seed,
            "intervals": self._intervals(),
            "same_vehicle_errors": self._errors(),
            "by_camera": self._by_camera(),
            "by_length": self._by_length(),
        }

    def _intervals(self) -> dict[str, Any]:
        found = self.found.intervals
        return {
            "level": 0.95,
            "draws": self.rules.draws,
            "seed": self.rules.seed,
            "vehicles": found.vehicles,
            "mAP": _ends(found.mean_ap),
            "mINP": _ends(found.mean_inp),
            "cmc": {str(rank): _ends(interval) for rank, interval in found.cmc.items()},
        }

    def _errors(self) -> dict[str, Any] | None:
        curve = self.found.curve
        if curve is None:
            return None
        equal = curve.equal_error()
        return {
            "positive_pairs": curve.positives,
            "negative_pairs": curve.negatives,
            "equal_error_rate": equal.miss_rate,
            "equal_error_threshold": equal.threshold,
            "at_false_match_rate": {f"{rate:g}": _point(point) for rate, point in curve.points().items()},
        }

    def _by_camera(self) -> list[dict[str, Any]] | None:
        pairs = self.found.camera_pairs
        if pairs is None:
            return None
        return [
            {
                "query_camera": p.query,
                "gallery_camera": p.gallery,
                **_means(p.scores),
                "queries": p.scores.valid_queries,
            }
            for p in pairs
        ]

    def _by_length(self) -> list[dict[str, Any]] | None:
        lengths = self.found.lengths
        if lengths is None:
            return None
        return [{"images": n, **_means(s), "queries": s.valid_queries} for n, s in lengths.items()]


@dataclass(frozen=True)
class ComparedRanking:
    """One ranking against the one that all are compared with.

    Attributes:
        path: The ranking.
        metric: Its metric.
        against: The other.
        found: The difference of mAP; None where they share no valid query, or mAP is refused.
    """

    path: Path
    metric: str | None
    against: Path
    found: Comparison | None

    def to_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        found = self.found
        return {
            "ranking": str(self.path),
            "against": str(self.against),
            "difference": found.difference if found else None,
            "interval": _ends(found.interval) if found else None,
            "p_value": found.p_value if found else None,
            "queries": found.queries if found else 0,
            "vehicles": found.vehicles if found else 0,
        }


@dataclass(frozen=True)
class TrialScores:
    """One network and metric over the trials of a protocol.

    Attributes:
        facts: How the first was ranked, which is how all were, but for the trial.
        scores: The means of each trial.
    """

    facts: RankingFacts
    scores: tuple[Evaluation, ...]

    def to_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        facts, ranks = self.facts, list(self.scores[0].cmc)
        return {
            "metric": facts.metric,
            "alpha": facts.alpha,
            "rerank": dict(facts.rerank) if facts.rerank else None,
            "architecture": (_identity(facts) or {}).get("architecture"),
            "weights": facts.weights,
            "trial_seed": facts.trial_seed,
            "trials": len(self.scores),
            "mAP": _spread([scores.mean_ap for scores in self.scores]),
            "mINP": _spread([scores.mean_inp for scores in self.scores]),
            "cmc": {str(rank): _spread([scores.cmc[rank] for scores in self.scores]) for rank in ranks},
        }


def _identity(facts: RankingFacts) -> Mapping[str, str] | None:
    """What made the features."""
    return facts.gallery_identity or facts.query_identity


def _spread(values: Sequence[float | None]) -> dict[str, float | None] | None:
    found = over_trials(values)
    return None if found is None else {"mean": found.mean, "deviation": found.deviation}


def _means(scores: Evaluation) -> dict[str, Any]:
    return {
        "mAP": scores.mean_ap,
        "mINP": scores.mean_inp,
        "cmc": {str(rank): value for rank, value in scores.cmc.items()},
    }


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


def _point(point: OperatingPoint | None) -> dict[str, float] | None:
    return None if point is None else {"threshold": point.threshold, "miss_rate": point.miss_rate}


@dataclass(frozen=True, eq=False)
class EvaluateReport(Report):
    """Scores of each ranking, in the order given.

    Attributes:
        results: The scores.
        extras: The table and the plot that were asked for; they are among the outputs too.
        comparisons: Every other ranking against one of them.
        trials: Means over trials, where the protocol has them.
        metrics: All metrics that were found, in the order in which the paper has them.
    """

    results: tuple[EvaluatedRanking, ...] = ()
    extras: tuple[str, ...] = ()
    comparisons: tuple[ComparedRanking, ...] = ()
    trials: tuple[TrialScores, ...] = ()
    metrics: tuple[str, ...] = ()


def choose_run(settings: Settings) -> RunChoice:
    """The run whose rankings are scored; none where rankings are named."""
    named = bool(settings.evaluate.rankings)
    # Parquet holds its labels; only those of the paper's JSON are read from names.
    return RunChoice(use_latest=not named, free=("data.label_pattern",) if named else ())


def evaluate(session: Session) -> EvaluateReport:
    """Score the rankings that are named (a folder stands for those in it), or every ranking of the run.

    Raises:
        VreidError: A ranking is missing or damaged, the run or a folder has none, or what is asked for
            cannot be written.
    """
    chosen = session.settings.evaluate
    rules = _rules(session)
    if chosen.per_query is not None:
        check_table_path(chosen.per_query)
    if chosen.plot is not None:
        check_plot_path(chosen.plot)
    paths = _named_rankings(chosen.rankings) if chosen.rankings else _rankings_of(session.need_run().rankings)
    results = []
    with progress(total=len(paths), what="evaluating", unit="rankings") as bar:
        for path in paths:
            results.append(_evaluate_one(session, path, rules))
            bar.update(1)
    warnings = _all_warnings(results)
    # The first file of a folder was named by nobody: its name is merely the first of the alphabet.
    comparisons = _compare(results, rules, named=bool(chosen.rankings) and not chosen.rankings[0].is_dir())
    outputs = [output for result in results if (output := _keep(result, warnings))]
    extras = _write_extras(session, results, warnings=warnings)
    for warning in warnings:
        log.warning("%s", warning)
    if not chosen.rankings:
        session.record()
    return EvaluateReport(
        outputs=(*outputs, *extras),
        warnings=tuple(warnings),
        results=tuple(results),
        extras=tuple(extras),
        comparisons=tuple(comparisons),
        trials=tuple(_by_trial(results)),
        metrics=_metrics(results),
    )


def _metrics(results: Sequence[EvaluatedRanking]) -> tuple[str, ...]:
    """The metrics that were found; such as the paper does not know come last."""
    found = dict.fromkeys(result.facts.metric for result in results if result.facts.metric is not None)
    return (*(name for name in METRIC_ORDER if name in found), *(name for name in found if name not in METRIC_ORDER))


def _by_trial(results: Sequence[EvaluatedRanking]) -> list[TrialScores]:
    """The trials that differ in nothing else together."""
    groups: dict[str, list[EvaluatedRanking]] = {}
    for result in results:
        if result.facts.trial is not None:
            # How many queries and items a trial has may change with it, and who is who does.
            facts = replace(result.facts, trial=None, gallery_size=0, query_count=None, query_lengths={}, selves={})
            groups.setdefault(repr(facts), []).append(result)
    return [TrialScores(group[0].facts, tuple(one.scores for one in group)) for group in groups.values()]


def _rules(session: Session) -> Rules:
    chosen = session.settings.evaluate
    return Rules(
        same_camera=chosen.same_camera,
        ap_rule=chosen.ap,
        ranks=sorted(set(chosen.ranks)),
        without_positive=chosen.without_positive,
        draws=chosen.resamples,
        seed=session.settings.run.seed,
        by_camera="camera" in chosen.by,
        by_length="length" in chosen.by,
    )


def _write_extras(session: Session, results: Sequence[EvaluatedRanking], *, warnings: list[str]) -> list[str]:
    """The table of queries and the plot, where they are asked for."""
    chosen = session.settings.evaluate
    if chosen.per_query is not None:
        write_query_scores(chosen.per_query, _query_columns(results))
    if chosen.plot is not None:
        names = ranking_names([result.to_json() for result in results])
        best = sorted(results, key=lambda result: -(result.scores.mean_ap or 0))[:PLOTTED_RANKINGS]
        plotted = [result for result in results if result in best]
        if len(plotted) < len(results):
            warnings.append(
                f"{chosen.plot} shows the {len(plotted)} best of {len(results)} rankings: name those to show"
            )
        draw_evaluation(chosen.plot, [_figures(result, names[str(result.path)]) for result in plotted])
    return [str(path) for path in (chosen.per_query, chosen.plot) if path is not None]


def _figures(result: EvaluatedRanking, name: str) -> RankingFigures:
    found = result.found
    first = found.queries.first_positive[found.queries.positives > 0]
    # Of cut lists nothing is known beyond their shortest.
    known = len(first) and result.facts.coverage != "top-k"
    cmc = [np.mean(first <= rank) for rank in range(1, PLOTTED_RANKS + 1)] if known else []
    curve, interval = found.curve, found.intervals.mean_ap
    errors = None
    if curve is not None:
        equal = curve.equal_error()
        errors = ErrorFigures(
            thresholds=curve.thresholds,
            false_match_rate=curve.false_match_rate,
            miss_rate=curve.miss_rate,
            same=curve.positive_counts,
            different=curve.negative_counts,
            equal_threshold=equal.threshold,
            equal_rate=equal.miss_rate,
        )
    ends = (interval.low, interval.high) if interval else None
    return RankingFigures(name, np.array(cmc, dtype=np.float64), found.scores.mean_ap, ends, errors)


def _query_columns(results: Sequence[EvaluatedRanking]) -> Mapping[str, NDArray[np.generic]]:
    def column(name: str) -> NDArray[np.generic]:
        return np.concatenate([getattr(result.found.queries, name) for result in results])

    names = [np.full(len(result.found.queries.query_ids), str(result.path), dtype=object) for result in results]
    refused = np.concatenate(
        [np.full(len(name), r.facts.coverage == "top-k") for name, r in zip(names, results, strict=True)]
    )
    first = np.concatenate([result.found.queries.first_positive for result in results])
    return {
        "ranking": np.concatenate(names),
        "query_id": column("query_ids"),
        "vehicle": column("vehicles"),
        "average_precision": np.where(refused, np.nan, column("average_precision")),
        "inverse_penalty": np.where(refused, np.nan, column("inverse_penalty")),
        "first_positive": np.where(first > 0, first, np.nan),
        "positives": column("positives"),
        "junk": column("junk"),
    }


def _compare(results: Sequence[EvaluatedRanking], rules: Rules, *, named: bool) -> list[ComparedRanking]:
    """Every ranking against the first of its task that was named, else against the best."""
    # Only the same queries can be paired, so a comparison between tasks would say nothing.
    groups: dict[tuple[str | None, str | None, str | None], list[EvaluatedRanking]] = {}
    for result in results:
        facts = result.facts
        # Draws have other queries each: what differs between two of them is luck, not the metric.
        if facts.trial is not None:
            continue
        unit = facts.track_unit if facts.task == "t2t" else None
        groups.setdefault((facts.dataset, facts.task, unit), []).append(result)
    return [compared for group in groups.values() for compared in _compare_group(group, rules, named=named)]


def _compare_group(results: Sequence[EvaluatedRanking], rules: Rules, *, named: bool) -> list[ComparedRanking]:
    exact = [result for result in results if result.scores.mean_ap is not None]
    if len(results) < 2 or not exact:
        return []
    against = results[0] if named else max(exact, key=lambda result: result.scores.mean_ap or 0)
    if against.facts.coverage == "top-k":
        return []
    return [
        ComparedRanking(
            result.path,
            result.facts.metric,
            against.path,
            None
            if result.facts.coverage == "top-k"
            else compare(result.found.queries, against.found.queries, draws=rules.draws, seed=rules.seed),
        )
        for result in results
        if result is not against
    ]


def _named_rankings(named: Sequence[Path]) -> list[Path]:
    """The rankings that are named, and those in folders that are; one that is meant twice comes once, as the first."""
    found: dict[Path, Path] = {}
    for path in named:
        for ranking in _rankings_of(path) if path.is_dir() else [path]:
            found.setdefault(ranking.resolve(), ranking)
    return list(found.values())


def _rankings_of(folder: Path) -> list[Path]:
    """The rankings in a folder, or in that of a run."""
    run = RunDirectory(folder)
    found = rankings_in(run.rankings if run.info_path.is_file() else folder)
    if not found:
        raise StoreError(f"there are no rankings in {folder}", hint="make one with vreid rank", file=folder)
    return found


def _evaluate_one(session: Session, path: Path, rules: Rules) -> EvaluatedRanking:
    ranking = open_ranking(path, session.labels())
    stated = _stated_truth(session, path, ranking.facts)
    try:
        rows = ranking.judged(with_ids=stated is not None)
        found = assess(map(stated.judge, rows) if stated else rows, ranking.facts, rules)
    except DataError as error:
        raise DataError(f"{path}: {error.message}", hint=error.hint, file=path) from None
    return EvaluatedRanking(
        path=path,
        facts=ranking.facts,
        rules=rules,
        found=found,
        truth=stated.source if stated else "labels",
        warnings=stated.warnings if stated else (),
    )


def _stated_truth(session: Session, path: Path, facts: RankingFacts) -> StatedTruth | None:
    """The data set's own ground truth, where its layout has one and the run's data folder has its files."""
    run, layout = owning_run(path), LAYOUTS.get(facts.dataset or "")
    if layout is None or facts.task is None or run is None:
        return None
    data_dir = read_info(run).get("data_dir")
    truth = layout.read_truth(Path(data_dir)) if data_dir and Path(data_dir).is_dir() else None
    if truth is None or facts.task == "i2i":
        return None if truth is None else StatedTruth(truth)
    if not run.features("gallery").is_complete():
        return None  # which images a track holds is not known any more: labels decide
    gallery = run.features("gallery").read()
    tracks = group_tracks(gallery, facts.track_unit or "passage")
    names = np.repeat(tracks.items.ids, tracks.lengths)
    track_of = {str(gallery.image_id[row]): str(name) for row, name in zip(tracks.rows, names, strict=True)}
    return StatedTruth(truth_of_tracks(truth, track_of, query_tracks=facts.task == "t2t"))


def _keep(result: EvaluatedRanking, warnings: list[str]) -> str | None:
    """Write the scores beside the rankings of the run; that they cannot be written is no reason not to tell them."""
    run = owning_run(result.path)
    if run is None:
        return None
    output = run.evaluations / f"{result.path.stem}.json"
    try:
        write_json(output, {"schema": 1, "results": [result.to_json()]})
    except StoreError as error:
        warnings.append(error.message)
        return None
    return str(output)


def _all_warnings(results: Sequence[EvaluatedRanking]) -> list[str]:
    """What is doubtful, each once, with the rankings that it is about unless that is all of them."""
    about: dict[str, list[Path]] = {}
    for result in results:
        for warning in _warnings(result):
            about.setdefault(warning, []).append(result.path)
    names = [result.path.name for result in results]
    return [
        text
        if len(paths) == len(results)
        # Rankings of several runs have the same names.
        else f"{enumerate_some(str(path) if names.count(path.name) > 1 else path.name for path in paths)}: {text}"
        for text, paths in about.items()
    ]


def _warnings(result: EvaluatedRanking) -> list[str]:
    scores, facts = result.scores, result.facts
    warnings = [*([MEANINGLESS] if facts.meaningless else []), *result.warnings]
    if not scores.valid_queries:
        warnings.append(f"no query has a positive, so there is nothing to average. {_why_invalid(result)}")
    elif scores.unlabelled_queries:
        warnings.append(f"{scores.unlabelled_queries} of {scores.total_queries} queries have no vehicle label")
    if facts.coverage == "top-k":
        warnings.append(
            "only the nearest items are listed: mAP and mINP would not be exact and are refused, "
            "as is CMC beyond the shortest list"
        )
    if facts.cameras == "other" and result.rules.same_camera == "keep":
        warnings.append("what the query's own camera saw was never ranked, so --same-camera keep cannot count it")
    return warnings


def _why_invalid(result: EvaluatedRanking) -> str:
    if result.scores.unlabelled_queries == result.scores.total_queries:
        return (
            "The queries are unlabelled: if their names tell vehicle and camera, say how with --label-pattern, "
            "of vreid extract for images, of vreid rank for features from elsewhere."
        )
    if result.rules.same_camera == "drop" and result.scores.junk:
        return (
            "All that shows a query's vehicle was seen by the query's own camera and is left out as junk: "
            "check the camera labels, or count them with --same-camera keep."
        )
    if result.scores.junk:
        return "All that shows a query's vehicle is the query itself: is the gallery the same folder as the queries?"
    return "No gallery item has the vehicle of any query: check that both sides are labelled alike."
