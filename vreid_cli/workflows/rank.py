"""``vreid rank``: features to rankings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol

from vreid_cli.config import RankSettings
from vreid_cli.errors import DataError, StoreError, UsageError
from vreid_cli.ranking.metrics import Metric, parse_metrics
from vreid_cli.ranking.rank import RankingOptions, RankingPlan
from vreid_cli.ranking.reranking import RerankOptions
from vreid_cli.runtime.progress import log, progress
from vreid_cli.store.feature_files import open_ranking, read_feature_file
from vreid_cli.store.paper_json import JsonRankingWriter
from vreid_cli.store.rankings import write_ranking
from vreid_cli.types import FeatureSet, Items, RankingBlock, RankingFacts, Split
from vreid_cli.workflows.session import MEANINGLESS, Report, Session


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


class _Writer(Protocol):
    def append(self, block: RankingBlock) -> None: ...


def rank(session: Session) -> RankReport:
    """Rank the gallery for every query, by each metric that is asked for.

    Raises:
        VreidError: The features, metrics or options do not fit, or a file would be overwritten.
    """
    chosen = session.settings.rank
    _check_options(session)
    metrics = parse_metrics(_metric_names(session), chosen.task, definition=chosen.definition)
    outputs = _output_paths(session, metrics)
    query, gallery = (_read_side(session, split) for split in ("query", "gallery"))
    plan = RankingPlan(query, gallery, _options(session, query))
    warnings = _warn_before(plan)
    for metric, path in outputs.items():
        _refuse_overwriting(path, plan.facts(metric), session=session)
    with ExitStack() as stack:
        writers = {
            metric.name: stack.enter_context(_open_writer(path, plan, metric)) for metric, path in outputs.items()
        }
        bar = stack.enter_context(
            progress(total=plan.steps, what="ranking", unit="items" if chosen.rerank else "queries")
        )
        for blocks in plan.blocks(bar.update):
            for name, block in blocks.items():
                writers[name].append(block)
    warnings += plan.notes
    for warning in warnings:
        log.warning("%s", warning)
    if chosen.query_features is None or chosen.gallery_features is None:
        session.record()
    return RankReport(
        outputs=tuple(str(path) for path in outputs.values()),
        warnings=tuple(warnings),
        queries=len(plan.queries),
        gallery=len(plan.gallery),
        facts=tuple(plan.facts(metric) for metric in outputs),
        run_dir=session.run.path if session.run is not None and chosen.output is None else None,
        run_named=session.resolved.typed("run.run_dir"),
    )


def _check_options(session: Session) -> None:
    """Refuse what was typed and would have no effect."""
    resolved, chosen = session.resolved, session.settings.rank
    if chosen.task == "i2i" and resolved.typed("rank.track_unit"):
        raise UsageError("--track-unit: the task i2i compares single images", hint="leave it out, or use --task i2t")
    for key in ("k1", "k2", "lambda_value"):
        if resolved.typed(f"rank.{key}") and not chosen.rerank:
            raise UsageError(f"{resolved.name(f'rank.{key}')}: only --rerank uses it", hint="add --rerank")


def ranking_name(metric: str, settings: RankSettings) -> str:
    """``<task>-<metric>[-released][-camera][-rerank]``: the file name of a ranking in a run, without its ending."""
    parts = [settings.task, metric]
    if settings.definition == "released":
        parts.append("released")
    if settings.track_unit == "camera" and settings.task != "i2i":
        parts.append("camera")
    if settings.rerank:
        parts.append("rerank")
    return "-".join(parts)


def _output_paths(session: Session, metrics: Sequence[Metric]) -> dict[Metric, Path]:
    chosen = session.settings.rank
    output = chosen.output
    if output is not None and output.suffix.lower() in (".parquet", ".json"):
        if len(metrics) > 1:
            raise UsageError(
                f"--output {output}: {len(metrics)} metrics need a folder", hint="give a name without an ending"
            )
        return {metrics[0]: output}
    if output is None:
        if chosen.query_features is not None and chosen.gallery_features is not None:
            raise UsageError(
                "--query-features and --gallery-features: where should the ranking go?",
                hint="give --output FILE.parquet or FILE.json, or a folder for several metrics",
            )
        output = session.need_run().rankings
    elif output.suffix and not output.is_dir():
        hint = "known: .parquet, .json, or a folder; make the folder first where its name has an ending"
        raise UsageError(f"--output {output}: unknown ending '{output.suffix}'", hint=hint)
    return {metric: output / f"{ranking_name(metric.name, chosen)}.parquet" for metric in metrics}


def _read_side(session: Session, split: Split) -> FeatureSet:
    chosen = session.settings.rank
    path = chosen.query_features if split == "query" else chosen.gallery_features
    if path is not None:
        return read_feature_file(path, session.labels())
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
        # VeRi's query pictures lie in gallery tracks; what is looked for there is the whole track.
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
        warnings.append(f"{len(plan.lost_queries)} query pictures are in no gallery track and were left out: {first}")
    if plan.meaningless:
        warnings.append(MEANINGLESS)
    return warnings


def _refuse_overwriting(path: Path, facts: RankingFacts, *, session: Session) -> None:
    """An existing file may be replaced by one of the same recipe, or with ``--force``."""
    if not path.exists() or session.settings.rank.force:
        return
    try:
        difference = _difference(open_ranking(path, session.labels()).facts, facts)
    except (StoreError, DataError):
        difference = "it is no readable ranking"
    if difference:
        raise StoreError(
            f"{path} is there already and was made otherwise: {difference}",
            hint="use --force to replace it, or --output to keep both",
            file=path,
        )


def _difference(found: RankingFacts, wanted: RankingFacts) -> str | None:
    """The first fact by which two recipes differ, in words; None if there is none."""
    for field in fields(RankingFacts):
        there, here = getattr(found, field.name), getattr(wanted, field.name)
        if field.name in ("selves", "query_lengths") or there == here:
            continue
        name = field.name.replace("_", " ")
        # Identities are long tables of digests: that they differ says enough.
        short = all(isinstance(value, str | int | float | None) for value in (there, here))
        return f"its {name} is {_or_none(there)}, not {_or_none(here)}" if short else f"its {name} is another"
    return None


def _or_none(value: object) -> str:
    return "none" if value is None else str(value)


@contextmanager
def _open_writer(path: Path, plan: RankingPlan, metric: Metric) -> Iterator[_Writer]:
    facts = plan.facts(metric)
    queries: Items = plan.queries
    if path.suffix.lower() == ".json":
        writer = JsonRankingWriter(facts, queries, plan.gallery)
        yield writer
        writer.write(path)
        return
    with write_ranking(path, facts, queries=queries, gallery=plan.gallery) as parquet:
        yield parquet
