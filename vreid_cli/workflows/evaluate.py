"""``vreid evaluate``: rankings against ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vreid_cli.config import EvaluateSettings
from vreid_cli.errors import StoreError
from vreid_cli.evaluation.scores import Evaluation, score_queries, summarise
from vreid_cli.runtime.progress import log
from vreid_cli.store.atomic import write_json
from vreid_cli.store.feature_files import open_ranking
from vreid_cli.store.runs import RunDirectory
from vreid_cli.types import RankingFacts
from vreid_cli.workflows.session import MEANINGLESS, Report, Session


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
        }


@dataclass(frozen=True)
class EvaluateReport(Report):
    """Scores of each ranking, in the order given."""

    results: tuple[EvaluatedRanking, ...] = ()


def evaluate(session: Session) -> EvaluateReport:
    """Score the rankings that are named, or every ranking of the run.

    Raises:
        StoreError: A ranking is missing or damaged, or the run has none.
    """
    rules = session.settings.evaluate
    results = []
    outputs = []
    warnings = []
    for path in rules.rankings or _rankings_of(session.need_run()):
        result = _evaluate_one(session, path, rules)
        results.append(result)
        warnings += _warnings(result)
        if run := _owning_run(path):
            output = run.evaluations / f"{path.stem}.json"
            write_json(output, {"schema": 1, "results": [result.to_json()]})
            outputs.append(str(output))
    for warning in warnings:
        log.warning("%s", warning)
    if not rules.rankings:
        session.record()
    return EvaluateReport(outputs=tuple(outputs), warnings=tuple(warnings), results=tuple(results))


def _evaluate_one(session: Session, path: Path, rules: EvaluateSettings) -> EvaluatedRanking:
    ranking = open_ranking(path, session.labels())
    scores = [score_queries(rows, same_camera=rules.same_camera, ap_rule=rules.ap) for rows in ranking.judged()]
    return EvaluatedRanking(
        path=path,
        facts=ranking.facts,
        rules=rules,
        scores=summarise(scores, ranks=sorted(set(rules.ranks)), coverage=ranking.facts.coverage),
    )


def _rankings_of(run: RunDirectory) -> Sequence[Path]:
    paths = sorted(path for path in run.rankings.glob("*") if path.suffix in (".parquet", ".json"))
    if not paths:
        raise StoreError(f"{run.path} has no rankings yet", hint="make one with vreid rank", file=run.rankings)
    return paths


def _owning_run(path: Path) -> RunDirectory | None:
    """The run in whose folder of rankings this file lies."""
    run = RunDirectory(path.resolve().parent.parent)
    if path.resolve().parent != run.rankings or not run.info_path.is_file():
        return None
    # The path as it was given reads better in messages than the resolved one.
    return RunDirectory(path.parent.parent)


def _warnings(result: EvaluatedRanking) -> list[str]:
    scores, name = result.scores, result.path.name
    warnings = []
    if result.facts.meaningless:
        warnings.append(f"{name}: {MEANINGLESS}")
    if scores.unlabelled_queries:
        warnings.append(f"{name}: {scores.unlabelled_queries} of {scores.total_queries} queries have no vehicle label")
    if not scores.valid_queries:
        warnings.append(f"{name}: no query has a positive, so there is nothing to average. {_why_invalid(result)}")
    if result.facts.coverage == "top-k":
        warnings.append(
            f"{name} lists only the nearest items: mAP and mINP would not be exact and are refused, "
            "as is CMC beyond the shortest list"
        )
    return warnings


def _why_invalid(result: EvaluatedRanking) -> str:
    if result.scores.unlabelled_queries == result.scores.total_queries:
        return "The queries are unlabelled: name vehicle and camera with --label-pattern when extracting or ranking."
    if result.rules.same_camera == "drop" and result.scores.junk:
        return (
            "Every picture of a query's vehicle has the query's own camera and is left out as junk: "
            "check the camera labels, or count them with --same-camera keep."
        )
    return "No gallery item has the vehicle of any query: check that both sides are labelled alike."
