"""``vreid evaluate``: rankings against ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vreid_cli.config import EvaluateSettings
from vreid_cli.errors import DataError, StoreError
from vreid_cli.evaluation.scores import Evaluation, score_queries, summarise
from vreid_cli.runtime.progress import log
from vreid_cli.store.atomic import write_json
from vreid_cli.store.feature_files import open_ranking
from vreid_cli.store.runs import RunDirectory
from vreid_cli.types import RankingFacts
from vreid_cli.workflows.session import MEANINGLESS, Report, Session, owning_run, rankings_in


@dataclass(frozen=True)
class EvaluatedRanking:
    """One ranking's scores, with all that must be said beside them.

    Attributes:
        path: The ranking.
        facts: How it was made.
        rules: How it was counted.
        scores: The numbers, as fractions.
    """

    path: Path
    facts: RankingFacts
    rules: EvaluateSettings
    scores: Evaluation

    def to_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints; None where a number is unknown or refused."""
        facts, scores = self.facts, self.scores
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
            "ap_rule": self.rules.ap,
            "same_camera": self.rules.same_camera,
            "mAP": scores.mean_ap,
            "mINP": scores.mean_inp,
            "cmc": {str(rank): value for rank, value in scores.cmc.items()},
            "valid_queries": scores.valid_queries,
            "total_queries": scores.total_queries,
            "positives": scores.positives,
            "junk": scores.junk,
            "gallery_size": facts.gallery_size,
            "weights": facts.weights,
            "alpha": facts.alpha,
            "rerank": dict(facts.rerank) if facts.rerank else None,
            "threshold": facts.threshold,
        }


@dataclass(frozen=True)
class EvaluateReport(Report):
    """Scores of each ranking, in the order given."""

    results: tuple[EvaluatedRanking, ...] = ()


def evaluate(session: Session) -> EvaluateReport:
    """Score the rankings that are named (a folder stands for those in it), or every ranking of the run.

    Raises:
        StoreError: A ranking is missing or damaged, or the run or a folder has none.
    """
    rules = session.settings.evaluate
    if rules.rankings:
        paths = [path for named in rules.rankings for path in (_rankings_of(named) if named.is_dir() else [named])]
    else:
        paths = _rankings_of(session.need_run().rankings)
    results = [_evaluate_one(session, path, rules) for path in paths]
    warnings = _all_warnings(results)
    outputs = [output for result in results if (output := _keep(result, warnings))]
    for warning in warnings:
        log.warning("%s", warning)
    if not rules.rankings:
        session.record()
    return EvaluateReport(outputs=tuple(outputs), warnings=tuple(warnings), results=tuple(results))


def _rankings_of(folder: Path) -> list[Path]:
    """The rankings in a folder, or in that of a run."""
    run = RunDirectory(folder)
    found = rankings_in(run.rankings if run.info_path.is_file() else folder)
    if not found:
        raise StoreError(f"there are no rankings in {folder}", hint="make one with vreid rank", file=folder)
    return found


def _evaluate_one(session: Session, path: Path, rules: EvaluateSettings) -> EvaluatedRanking:
    ranking = open_ranking(path, session.labels())
    try:
        scores = [score_queries(rows, same_camera=rules.same_camera, ap_rule=rules.ap) for rows in ranking.judged()]
    except DataError as error:
        raise DataError(f"{path}: {error.message}", hint=error.hint, file=path) from None
    return EvaluatedRanking(
        path=path,
        facts=ranking.facts,
        rules=rules,
        scores=summarise(
            scores,
            ranks=sorted(set(rules.ranks)),
            coverage=ranking.facts.coverage,
            query_count=ranking.facts.query_count,
        ),
    )


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
    about: dict[str, list[str]] = {}
    for result in results:
        for warning in _warnings(result):
            about.setdefault(warning, []).append(result.path.name)
    return [text if len(names) == len(results) else f"{', '.join(names)}: {text}" for text, names in about.items()]


def _warnings(result: EvaluatedRanking) -> list[str]:
    scores, facts = result.scores, result.facts
    warnings = [MEANINGLESS] if facts.meaningless else []
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
            "of vreid extract for pictures, of vreid rank for features from elsewhere."
        )
    if result.rules.same_camera == "drop" and result.scores.junk:
        return (
            "All that shows a query's vehicle was seen by the query's own camera and is left out as junk: "
            "check the camera labels, or count them with --same-camera keep."
        )
    if result.scores.junk:
        return "All that shows a query's vehicle is the query itself: is the gallery the same folder as the queries?"
    return "No gallery item has the vehicle of any query: check that both sides are labelled alike."
