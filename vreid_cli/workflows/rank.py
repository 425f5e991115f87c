"""``vreid rank``: features to rankings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from vreid_cli.config import RankSettings, Settings
from vreid_cli.errors import DataError, StoreError, UsageError
from vreid_cli.ranking.metrics import Metric, parse_metrics
from vreid_cli.ranking.rank import RankingOptions, RankingPlan
from vreid_cli.ranking.reranking import RerankOptions
from vreid_cli.ranking.trials import split_trial
from vreid_cli.runtime.progress import log, progress
from vreid_cli.store.formats import RANKING_FORMATS, endings, read_features, read_ranking_facts, write_ranking
from vreid_cli.types.features import MEANINGLESS, FeatureSet
from vreid_cli.types.images import Split
from vreid_cli.types.rankings import RankingFacts
from vreid_cli.workflows.session import DRAWN_DATASET, Report, RunChoice, Session


@dataclass(frozen=True)
class RankReport(Report):
    """What was ranked.

    Attributes:
        queries: Number of queries.
        gallery: Number of gallery items.
        facts: How each ranking was made, in the order of ``outputs``.
        run_dir: The run whose rankings they are; None where they lie elsewhere.
        run_named: Whether a person named that run, so that later commands may not find it by themselves.
    """

    queries: int = 0
    gallery: int = 0
    facts: tuple[RankingFacts, ...] = ()
    run_dir: Path | None = None
    run_named: bool = False


def choose_run(settings: Settings) -> RunChoice:
    """The run whose features are ranked; none where both sides come from elsewhere."""
    elsewhere = [path is not None for path in (settings.rank.query_features, settings.rank.gallery_features)]
    # Labels of a run's features were read by extract; only those of features from elsewhere are read here.
    return RunChoice(use_latest=not all(elsewhere), free=("data.label_pattern",) if any(elsewhere) else ())


def rank(session: Session) -> RankReport:
    """Rank the gallery for every query, by each metric that is asked for.

    Raises:
        VreidError: The features, metrics or options do not fit, or a file would be overwritten.
    """
    chosen = session.settings.rank
    _check_options(session)
    metrics = parse_metrics(_metric_names(session), chosen.task, definition=chosen.definition)
    jobs = _jobs(session, metrics)
    warnings: list[str] = []
    facts: list[RankingFacts] = []
    for query, gallery, job in _sides(session, jobs):
        plan = RankingPlan(query, gallery, _options(session, query))
        if not facts:
            _refuse_overwriting(jobs, plan, session=session)
        warnings += [*_warn_before(plan), *_warn_of_gaps(session), *_write(plan, job, rerank=chosen.rerank)]
        facts += [job.facts(plan, metric) for metric in job.outputs]
    warnings = list(dict.fromkeys(warnings))
    for warning in warnings:
        log.warning("%s", warning)
    if chosen.query_features is None or chosen.gallery_features is None:
        session.record()
    return RankReport(
        outputs=tuple(str(path) for job in jobs for path in job.outputs.values()),
        warnings=tuple(warnings),
        queries=len(plan.queries),
        gallery=len(plan.gallery),
        facts=tuple(facts),
        run_dir=session.run.path if session.run is not None and chosen.output is None else None,
        run_named=session.resolved.typed("run.run_dir"),
    )


@dataclass(frozen=True)
class _Job:
    """The rankings that share their queries and gallery.

    Attributes:
        outputs: Where the ranking by each metric goes.
        trial: Number of the trial that chooses queries and gallery; None where they are what was extracted.
        seed: Seed of the trials.
    """

    outputs: Mapping[Metric, Path]
    trial: int | None = None
    seed: int | None = None

    def facts(self, plan: RankingPlan, metric: Metric) -> RankingFacts:
        """How the ranking by this metric is made."""
        facts = plan.facts(metric)
        if self.trial is None:
            return facts
        return replace(facts, trial=self.trial, trial_seed=self.seed, query_source="gallery")


def _jobs(session: Session, metrics: Sequence[Metric]) -> list[_Job]:
    chosen = session.settings.rank
    if not _has_trials(session):
        return [_Job(_output_paths(session, metrics, trials=(None,))[None])]
    trials = range(chosen.trials)
    outputs = _output_paths(session, metrics, trials=trials)
    return [_Job(outputs[trial], trial, session.settings.run.seed) for trial in trials]


def _has_trials(session: Session) -> bool:
    """Whether each trial splits one set into gallery and queries, by the protocol of the run's data set."""
    chosen = session.settings.rank
    from_run = chosen.query_features is None and chosen.gallery_features is None
    return from_run and session.settings.data.dataset == DRAWN_DATASET


def _sides(session: Session, jobs: Sequence[_Job]) -> Iterator[tuple[FeatureSet, FeatureSet, _Job]]:
    """Query and gallery of each job, one job at a time."""
    if not _has_trials(session):
        query, gallery = (_read_side(session, split) for split in ("query", "gallery"))
        yield query, gallery, jobs[0]
        return
    images = _read_side(session, "gallery")
    for job in jobs:
        assert job.trial is not None
        assert job.seed is not None
        yield *split_trial(images, seed=job.seed, trial=job.trial), job


def _write(plan: RankingPlan, job: _Job, *, rerank: bool) -> list[str]:
    """Rank and write; what is doubtful about the result."""
    with ExitStack() as stack:
        writers = {
            metric.name: stack.enter_context(
                write_ranking(path, job.facts(plan, metric), queries=plan.queries, gallery=plan.gallery)
            )
            for metric, path in job.outputs.items()
        }
        what = "ranking" if job.trial is None else f"ranking trial {job.trial}"
        bar = stack.enter_context(progress(total=plan.steps, what=what, unit="items" if rerank else "queries"))
        for blocks in plan.blocks(bar.update):
            for name, block in blocks.items():
                writers[name].append(block)
    return plan.notes


def _check_options(session: Session) -> None:
    """Refuse what was typed and would have no effect, or contradicts the rest."""
    resolved, chosen = session.resolved, session.settings.rank
    if chosen.task == "i2i" and resolved.typed("rank.track_unit"):
        raise UsageError("--track-unit: the task i2i compares single images", hint="leave it out, or use --task i2t")
    for key in ("k1", "k2", "lambda_value"):
        if resolved.typed(f"rank.{key}") and not chosen.rerank:
            raise UsageError(f"{resolved.name(f'rank.{key}')}: only --rerank uses it", hint="add --rerank")
    if _has_trials(session):
        # Which data set it is, only a run can say; without one there is nothing to rank either.
        session.need_run()
        if chosen.task != "i2i":
            raise UsageError(
                f"--task {chosen.task}: {DRAWN_DATASET} has single images and no tracks", hint="use --task i2i"
            )
    elif resolved.typed("rank.trials"):
        raise UsageError(
            f"{resolved.name('rank.trials')}: only runs of {DRAWN_DATASET} have trials", hint="leave it out"
        )
    only = None if chosen.output is None else RANKING_FORMATS.get(chosen.output.suffix.lower())
    if only is not None and only.task not in (None, chosen.task):
        raise UsageError(
            f"--output {chosen.output}: {only.what} holds rankings of task {only.task}, not of {chosen.task}",
            hint=f"use --task {only.task}, or another ending: {', '.join(endings(RANKING_FORMATS, read=True))}",
        )


def ranking_name(metric: str, settings: RankSettings, *, trial: int | None = None) -> str:
    """``<task>-<metric>[-released][-camera][-rerank][-trial00]``: a ranking's file name in a run, without ending."""
    parts = [settings.task, metric]
    if settings.definition == "released":
        parts.append("released")
    if settings.track_unit == "camera" and settings.task != "i2i":
        parts.append("camera")
    if settings.rerank:
        parts.append("rerank")
    if trial is not None:
        parts.append(f"trial{trial:02d}")
    return "-".join(parts)


def _output_paths(
    session: Session, metrics: Sequence[Metric], *, trials: Sequence[int | None]
) -> dict[int | None, dict[Metric, Path]]:
    """Where the ranking of each trial by each metric goes."""
    chosen = session.settings.rank
    output, known = chosen.output, ", ".join(endings(RANKING_FORMATS, read=False))
    if output is not None and output.suffix.lower() in RANKING_FORMATS:
        for count, what in ((len(metrics), "metrics"), (len(trials), "trials")):
            if count > 1:
                hint = "give a name without an ending" + (", or --set rank.trials=1" if what == "trials" else "")
                raise UsageError(f"--output {output}: {count} {what} need a folder", hint=hint)
        return {trials[0]: {metrics[0]: output}}
    if output is None:
        if chosen.query_features is not None and chosen.gallery_features is not None:
            raise UsageError(
                "--query-features and --gallery-features: where should the ranking go?",
                hint=f"give --output FILE with an ending of {known}, or a folder for several metrics",
            )
        output = session.need_run().rankings
    elif output.suffix and not output.is_dir():
        hint = f"known: {known}, or a folder; make the folder first where its name has an ending"
        raise UsageError(f"--output {output}: unknown ending '{output.suffix}'", hint=hint)
    return {
        trial: {metric: output / f"{ranking_name(metric.name, chosen, trial=trial)}.parquet" for metric in metrics}
        for trial in trials
    }


def _read_side(session: Session, split: Split) -> FeatureSet:
    chosen = session.settings.rank
    path = chosen.query_features if split == "query" else chosen.gallery_features
    if path is not None:
        return read_features(path, label_pattern=session.settings.data.label_pattern)
    return session.need_run().features(split).read()


def _metric_names(session: Session) -> tuple[str, ...]:
    """The metrics that were asked for; the default between tracks has no meaning for single images."""
    chosen = session.settings.rank
    if chosen.task != "t2t" and not session.resolved.given("rank.metric"):
        return ("MCD",)
    return chosen.metric


def _options(session: Session, query: FeatureSet) -> RankingOptions:
    settings = session.settings
    chosen = settings.rank
    return RankingOptions(
        task=chosen.task,
        metrics=_metric_names(session),
        definition=chosen.definition,
        track_unit=chosen.track_unit,
        cameras=chosen.cameras,
        top_k=chosen.top_k,
        threshold=chosen.threshold,
        # VeRi's query images lie in gallery tracks; what is looked for there is the whole track.
        whole_tracks=chosen.task == "t2t" and query.dataset == "veri",
        device=settings.runtime.device,
        memory_budget_mb=settings.runtime.memory_budget_mb,
        alpha=chosen.alpha,
        rerank=RerankOptions(chosen.k1, chosen.k2, chosen.lambda_value) if chosen.rerank else None,
        product=settings.runtime.product,
    )


def _warn_before(plan: RankingPlan) -> list[str]:
    warnings = []
    if plan.lost_queries:
        first = ", ".join(plan.lost_queries[:3])
        warnings.append(f"{len(plan.lost_queries)} query images are in no gallery track and were left out: {first}")
    if plan.meaningless:
        warnings.append(MEANINGLESS)
    return warnings


def _warn_of_gaps(session: Session) -> list[str]:
    """A submission tells its queries apart by their line alone, so one that is missing spoils all that follow."""
    chosen = session.settings.rank
    if chosen.output is None or chosen.output.suffix.lower() != ".txt" or chosen.query_features is not None:
        return []
    skipped = session.need_run().features("query").read_complete().get("skipped", 0)
    if not skipped:
        return []
    return [
        f"extract skipped {skipped} query images, which have no line in {chosen.output}: "
        "the lines after them do not stand where the challenge expects them"
    ]


def _refuse_overwriting(jobs: Sequence[_Job], plan: RankingPlan, *, session: Session) -> None:
    """An existing file may be replaced by one of the same recipe, or with ``--force``.

    All are looked at before the first is made: trials differ in nothing that a plan knows but their number.
    """
    if session.settings.rank.force:
        return
    for job in jobs:
        for metric, path in job.outputs.items():
            if path.exists():
                _refuse_another(path, job.facts(plan, metric))


def _refuse_another(path: Path, facts: RankingFacts) -> None:
    if path.suffix.lower() not in endings(RANKING_FORMATS, read=True):
        message = f"{path} is there already, and does not say how it was made"
        raise StoreError(message, hint="use --force to replace it, or --output to keep both", file=path)
    try:
        difference = read_ranking_facts(path).difference(facts)
    except (StoreError, DataError):
        difference = "it is no readable ranking"
    if difference:
        raise StoreError(
            f"{path} is there already and was made otherwise: {difference}",
            hint="use --force to replace it, or --output to keep both",
            file=path,
        )
