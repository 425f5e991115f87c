"""``vreid rank``: the run's features, :mod:`vreid_cli.ranking.rank`, and files for what it yields."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch

from vreid_cli.config import RankSettings, Settings
from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.engines.choose import open_engine
from vreid_cli.engines.engine import Engine
from vreid_cli.errors import DataError, StoreError, UsageError
from vreid_cli.evaluation.fusion import fuse
from vreid_cli.evaluation.recall import Recall, measure_recall
from vreid_cli.ranking.candidates import group_by_space
from vreid_cli.ranking.diagnostics import Diagnostics
from vreid_cli.ranking.metrics import DISTANCES, parse_metrics
from vreid_cli.ranking.planning import RankingJob, plan_ranking, sample_both_ways
from vreid_cli.ranking.rank import collect, rank_blocks
from vreid_cli.ranking.trials import split_trial
from vreid_cli.runtime.objects import as_path
from vreid_cli.runtime.progress import log, progress
from vreid_cli.store.formats import (
    RANKING_FORMATS,
    endings,
    read_features,
    read_ranking,
    read_ranking_facts,
    write_ranking,
)
from vreid_cli.store.image_index import ImageIndex
from vreid_cli.store.runs import owning_run, ranking_name
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.images import Split
from vreid_cli.types.rankings import RankingFacts
from vreid_cli.workflows.calibrations import CalibrationFinder
from vreid_cli.workflows.indexes import open_indexes
from vreid_cli.workflows.session import Report, RunChoice, Session

#: Lengths of lists that candidates are compared with the exact ranking by.
_RECALL = (10, 100)
#: What is settled once rankings are made.
_OF_RANKINGS = (
    *("metric", "definition", "cameras", "candidates", "check_recall", "top_k", "threshold", "min_probability"),
    *("no_match", "expected", "rerank"),
    *("query_features", "gallery_features", "calibration", "track_unit"),
)
_NOT_FUSED = ("runtime.engine", *(f"rank.{key}" for key in _OF_RANKINGS))


@dataclass(frozen=True)
class RankReport(Report):
    """What was ranked.

    Attributes:
        queries: Number of queries.
        gallery: Number of gallery items.
        facts: How each ranking was made, in the order of ``outputs``.
        run_dir: The run whose rankings they are; None where they lie elsewhere.
        run_option: What commands to come must say to find that run.
        fused: The rankings that it was made of, where it was made of rankings.
        recall: What candidates miss of the exact ranking by each metric, where that was checked.
    """

    queries: int = 0
    gallery: int = 0
    facts: tuple[RankingFacts, ...] = ()
    run_dir: Path | None = None
    run_option: str = ""
    fused: tuple[str, ...] = ()
    recall: Mapping[str, Recall] = field(default_factory=dict)


def choose_run(settings: Settings) -> RunChoice:
    """The run whose features are ranked; none where both sides come from elsewhere."""
    chosen = settings.rank
    elsewhere = chosen.query_features is not None or chosen.gallery_features is not None
    # Labels of a run's features were read by extract; only those of features from elsewhere are read here.
    return RunChoice(use_latest=_uses_run(chosen), free=("data.label_pattern",) if elsewhere else ())


def rank(session: Session) -> RankReport:
    """Rank the gallery for every query, by each metric that is asked for.

    Raises:
        VreidError: The features, metrics or options do not fit, or a file would be overwritten.
    """
    settings = session.settings
    chosen = settings.rank
    if chosen.fuse or chosen.rankings:
        return _fuse(session)
    _check_options(session)
    with open_engine(settings.runtime) as engine:
        return _rank(session, engine)


def _rank(session: Session, engine: Engine) -> RankReport:
    settings = session.settings
    chosen = settings.rank
    device = engine.device(settings.runtime.device)
    # What is left to do here, where others compute, takes no GPU.
    runtime = settings.runtime if engine.here else settings.runtime.model_copy(update={"device": "cpu"})
    workers = None if engine.here else engine
    finder = CalibrationFinder(chosen.calibration, session.run if _uses_run(chosen) else None)
    jobs = []
    for query, gallery in _sides(session):
        indexes = _open_indexes(session, gallery)
        jobs.append(plan_ranking(query, gallery, chosen, runtime=runtime, choose=finder, indexes=indexes))
    outputs = _output_paths(session, jobs)
    if not chosen.force:
        # All are looked at before the first is made.
        _refuse_others(outputs)
    paths = iter(outputs)
    found = []
    for job in jobs:
        own = {path: outputs[path] for path in itertools.islice(paths, len(job.metrics))}
        found += _write(job, own, force=chosen.force, workers=workers, device=device)
    warnings = tuple(dict.fromkeys([*finder.warnings, *_warn_of_gaps(session), *found]))
    for warning in warnings:
        log.warning("%s", warning)
    recall = _check_recall(session, jobs[0])
    if _uses_run(chosen):
        session.record()
    return RankReport(
        outputs=tuple(map(str, outputs)),
        warnings=warnings,
        queries=len(jobs[0].query),
        gallery=len(jobs[0].gallery),
        facts=tuple(outputs.values()),
        run_dir=session.run.path if session.run is not None and chosen.output is None else None,
        run_option=session.run_option,
        recall=recall,
    )


def _open_indexes(session: Session, gallery: FeatureSet) -> list[ImageIndex]:
    """What proposes candidates, for each metric; nothing where every item is ranked."""
    chosen = session.settings.rank
    if chosen.candidates is None:
        return []
    metrics = parse_metrics(chosen.metric, chosen.task, definition=chosen.definition)
    return open_indexes(session, gallery, list(group_by_space(metrics)))


def _check_recall(session: Session, job: RankingJob) -> dict[str, Recall]:
    """What candidates miss of the exact ranking, by metric, on some of the queries."""
    queries = session.settings.rank.check_recall
    if queries is None or not job.indexes:
        return {}
    exact, by_candidates = sample_both_ways(job, queries=queries, nearest=max(_RECALL), seed=session.settings.run.seed)
    one, other = collect(exact), collect(by_candidates)
    counting = session.settings.evaluate
    return {name: measure_recall(one[name], other[name], counting, nearest=_RECALL) for name in one}


def _fuse(session: Session) -> RankReport:
    """Make one ranking of several.

    Raises:
        VreidError: Rankings are missing, of different items or without labels, or options would have no effect.
    """
    settings, chosen = session.settings, session.settings.rank
    if not chosen.fuse:
        raise UsageError(f"{chosen.rankings[0]}: rank makes rankings of features", hint="add --fuse to fuse rankings")
    if len(chosen.rankings) < 2:
        raise UsageError("--fuse: which rankings?", hint="name two or more, as in vreid rank --fuse meanMCD50 RSCR")
    for key in _NOT_FUSED:
        if session.resolved.typed(key):
            raise UsageError(f"{session.resolved.name(key)}: --fuse takes rankings as they are made")
    paths = [path for name in chosen.rankings for path in _named_rankings(session, name)]
    rankings = [read_ranking(path, label_pattern=settings.data.label_pattern) for path in paths]
    fused = fuse(rankings, settings.calibrate, counting=settings.evaluate, seed=settings.run.seed).ranking
    output = chosen.output
    if output is None:
        run = owning_run(paths[0])
        if run is None:
            raise UsageError(f"{paths[0]} lies in no run: where should the ranking go?", hint="give --output FILE")
        output = run.rankings / f"{ranking_name(fused.facts)}.parquet"
    if output.exists() and not chosen.force:
        _refuse_another(output, fused.facts)
    with write_ranking(output, fused.facts, queries=fused.queries, gallery=fused.gallery) as write:
        for block in fused.blocks:
            write(block)
    session.record()
    return RankReport(
        outputs=(str(output),),
        queries=len(fused.queries),
        gallery=len(fused.gallery),
        facts=(fused.facts,),
        fused=tuple(map(str, paths)),
    )


def _named_rankings(session: Session, name: str) -> list[Path]:
    """A file, or the run's ranking by a metric; all of its task's for ``all``."""
    if as_path(name).suffix or as_path(name).exists():
        return [as_path(name)]
    task, found = session.settings.rank.task, []
    for metric in parse_metrics([name], task):
        path = session.need_run().rankings / f"{task}-{metric.name}.parquet"
        if not path.is_file():
            hint = f"make it with vreid rank{session.run_option} --task {task} --metric {metric.name}"
            raise StoreError(f"the run was not ranked by {metric.name}: there is no {path}", hint=hint, file=path)
        found.append(path)
    return found


def _uses_run(chosen: RankSettings) -> bool:
    if chosen.fuse:
        return any(not Path(name).suffix for name in chosen.rankings)
    return chosen.query_features is None or chosen.gallery_features is None


def _check_options(session: Session) -> None:
    """Refuse what was typed and would have no effect, or contradicts the rest."""
    resolved, chosen = session.resolved, session.settings.rank
    metrics = parse_metrics(chosen.metric, chosen.task, definition=chosen.definition)
    if chosen.task == "i2i" and resolved.typed("rank.track_unit"):
        raise UsageError("--track-unit: the task i2i compares single images", hint="leave it out, or use --task i2t")
    if session.settings.runtime.engine != "local" and (chosen.rerank or chosen.candidates is not None):
        what = "--rerank compares all with all" if chosen.rerank else "--candidates looks into an index"
        raise UsageError(f"{what}, on one machine", hint="leave out --engine")
    for key in ("k1", "k2", "lambda_value"):
        if resolved.typed(f"rank.{key}") and not chosen.rerank:
            raise UsageError(f"{resolved.name(f'rank.{key}')}: only --rerank uses it", hint="add --rerank")
    for name, distance in DISTANCES.items():
        for key in distance.options if name not in {metric.distance for metric in metrics} else ():
            if resolved.typed(f"rank.{key}"):
                raise UsageError(f"{resolved.name(f'rank.{key}')}: only {name} uses it", hint=f"add --metric {name}")
    _check_candidates(session)
    output, known = chosen.output, ", ".join(endings(RANKING_FORMATS, read=False))
    if output is None:
        if not _uses_run(chosen):
            raise UsageError(
                "--query-features and --gallery-features: where should the ranking go?",
                hint=f"give --output FILE with an ending of {known}, or a folder for several metrics",
            )
    elif (one := RANKING_FORMATS.get(output.suffix.lower())) is not None:
        if one.task not in (None, chosen.task):
            raise UsageError(
                f"--output {output}: {one.what} holds rankings of task {one.task}, not of {chosen.task}",
                hint=f"use --task {one.task}, or another ending of {known}",
            )
        if chosen.no_match and output.suffix.lower() == ".txt":
            raise UsageError(f"--no-match: {one.what} has no row for it", hint="use another ending, such as .parquet")
    elif output.suffix and not output.is_dir():
        hint = f"known: {known}, or a folder; make the folder first where its name has an ending"
        raise UsageError(f"--output {output}: unknown ending '{output.suffix}'", hint=hint)


def _check_candidates(session: Session) -> None:
    """Refuse candidates of what no index is of."""
    chosen = session.settings.rank
    if chosen.candidates is None:
        if chosen.check_recall is not None:
            raise UsageError("--check-recall: only rankings by candidates miss something", hint="add --candidates N")
        return
    if chosen.gallery_features is not None:
        hint = "leave one of them out: vreid index is of a run's gallery"
        raise UsageError("--candidates and --gallery-features: features from elsewhere have no index", hint=hint)
    if LAYOUTS[session.settings.data.dataset].protocol == "random-gallery" and chosen.query_features is None:
        hint = "leave --candidates out"
        raise UsageError("--candidates: the galleries of random trials have no index", hint=hint)


def _sides(session: Session) -> list[tuple[FeatureSet, FeatureSet]]:
    """Query and gallery of each trial; of a single one where the run's protocol has no random galleries."""
    resolved, chosen = session.resolved, session.settings.rank
    elsewhere = chosen.query_features is not None or chosen.gallery_features is not None
    if not elsewhere:
        # Which data set it is, only a run can say; without one there is nothing to rank either.
        session.need_run()
        dataset = session.settings.data.dataset
        if LAYOUTS[dataset].protocol == "random-gallery":
            if chosen.task != "i2i":
                raise UsageError(
                    f"--task {chosen.task}: {dataset} has single images and no tracks", hint="use --task i2i"
                )
            gallery = _read_side(session, "gallery")
            return [split_trial(gallery, seed=session.settings.run.seed, trial=n) for n in range(chosen.trials)]
    if resolved.typed("rank.trials"):
        raise UsageError(
            f"{resolved.name('rank.trials')}: only runs of data sets with random galleries have trials",
            hint="leave it out",
        )
    if not elsewhere and LAYOUTS[session.settings.data.dataset].protocol == "every-track":
        gallery = _read_side(session, "gallery")
        return [(gallery, gallery)]
    return [(_read_side(session, "query"), _read_side(session, "gallery"))]


def _read_side(session: Session, split: Split) -> FeatureSet:
    chosen = session.settings.rank
    path = chosen.query_features if split == "query" else chosen.gallery_features
    if path is not None:
        return read_features(path, label_pattern=session.settings.data.label_pattern)
    return session.need_run().features(split).read()


def _write(
    job: RankingJob, outputs: Mapping[Path, RankingFacts], *, force: bool, workers: Engine | None, device: torch.device
) -> list[str]:
    """Rank, and write the lists by each metric to its path; returns the warnings."""
    diagnostics, listed = Diagnostics(), 0
    sides = {"queries": job.queries, "gallery": job.listed}
    with ExitStack() as stack:
        writers = {
            metric.name: stack.enter_context(write_ranking(path, facts, **sides))
            for metric, (path, facts) in zip(job.metrics, outputs.items(), strict=True)
        }
        pool = stack.enter_context(ThreadPoolExecutor())
        what = "ranking" if job.facts.trial is None else f"ranking trial {job.facts.trial}"
        unit = "items" if job.options.rerank else "queries"
        bar = stack.enter_context(progress(total=job.steps, what=what, unit=unit))
        writing: list[Future[None]] = []
        for ranked in rank_blocks(job, advance=bar.update, workers=workers, device=device):
            diagnostics += ranked.diagnostics
            listed += sum(len(block.rank) for block in ranked.by_metric.values())
            for one in writing:
                one.result()
            # Side by side, while the next block is ranked: Arrow lets other threads go on while it encodes.
            writing = [pool.submit(writers[name], block) for name, block in ranked.by_metric.items()]
        for one in writing:
            one.result()
        if not force:  # somebody else may have written meanwhile
            _refuse_others(outputs)
    empty = [] if listed else ["nothing is listed for any query: look at --cameras, --threshold and --min-probability"]
    return [*empty, *(warning for metric in job.metrics for warning in job.warnings_by(metric, diagnostics))]


def _output_paths(session: Session, jobs: Sequence[RankingJob]) -> dict[Path, RankingFacts]:
    """Where each ranking goes: job by job, and metric by metric."""
    output = session.settings.rank.output
    facts = [job.facts_by(metric) for job in jobs for metric in job.metrics]
    if output is not None and output.suffix.lower() in RANKING_FORMATS:
        for count, what in ((len(jobs[0].metrics), "metrics"), (len(jobs), "trials")):
            if count > 1:
                hint = "give a name without an ending" + (", or --set rank.trials=1" if what == "trials" else "")
                raise UsageError(f"--output {output}: {count} {what} need a folder", hint=hint)
        return {output: facts[0]}
    folder = output if output is not None else session.need_run().rankings
    return {folder / f"{ranking_name(one)}.parquet": one for one in facts}


def _warn_of_gaps(session: Session) -> list[str]:
    """A submission tells its queries apart by their line alone, so one that is missing spoils all that follow."""
    chosen = session.settings.rank
    if chosen.output is None or chosen.output.suffix.lower() != ".txt" or chosen.query_features is not None:
        return []
    skipped = session.need_run().features("query").read_complete().get("skipped", 0)
    if not skipped:
        return []
    return [
        f"query images that extract skipped ({skipped}) have no line in {chosen.output}: "
        "the lines after them do not stand where the challenge expects them"
    ]


def _refuse_others(outputs: Mapping[Path, RankingFacts]) -> None:
    for path, facts in outputs.items():
        if path.exists():
            _refuse_another(path, facts)


def _refuse_another(path: Path, facts: RankingFacts) -> None:
    """An existing file may be replaced by one of the same recipe only."""
    if path.suffix.lower() not in endings(RANKING_FORMATS, read=True):
        why = ", and does not say how it was made"
    else:
        try:
            difference = read_ranking_facts(path).difference(facts)
        except (StoreError, DataError):
            difference = "it is no readable ranking"
        if difference is None:
            return
        why = f" and was made otherwise: {difference}"
    hint = "use --force to replace it, or --output to keep both"
    raise StoreError(f"{path} is there already{why}", hint=hint, file=path)
