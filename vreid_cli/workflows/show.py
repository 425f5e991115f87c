"""``vreid show``: the nearest items of some queries, as a table or a contact sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vreid_cli.config import Settings
from vreid_cli.errors import StoreError
from vreid_cli.evaluation.nearest import nearest
from vreid_cli.reports.sheets.sheet import Sheet, check_ending
from vreid_cli.reports.show import choose_queries, explain_ranks
from vreid_cli.reports.show import show as make_sheet
from vreid_cli.runtime.progress import log
from vreid_cli.store.formats import read_ranking
from vreid_cli.store.runs import RunDirectory, owning_run, rankings_in
from vreid_cli.types.features import MEANINGLESS
from vreid_cli.types.rankings import RankedItem, Ranking, RankingFacts
from vreid_cli.workflows.session import Report, RunChoice, Session

_DEFAULT_RANKING = "t2t-meanMCD50.parquet"


@dataclass(frozen=True)
class ShowReport(Report):
    """The nearest items that were asked for.

    Attributes:
        ranking: Where they come from.
        facts: How that was made.
        notes: How it was made and what its ranks leave out, in words.
        nearest: By query id, in rank order, without self and junk.
        hidden: Queries that were not asked for by name and are not shown.
    """

    ranking: Path = Path()
    facts: RankingFacts = field(default_factory=RankingFacts)
    notes: str = ""
    nearest: Mapping[str, Sequence[RankedItem]] = field(default_factory=dict)
    hidden: int = 0


def choose_run(settings: Settings) -> RunChoice:
    """The run whose ranking is shown; none where a ranking is named that needs no images, or brings its run along."""
    named = settings.show.ranking
    if named is None:
        return RunChoice()
    needs_images = settings.show.output is not None and owning_run(named) is None
    # Parquet holds its labels; only those of the paper's JSON are read from names.
    return RunChoice(use_latest=needs_images, free=("data.label_pattern",))


def show(session: Session) -> ShowReport:
    """Look up the nearest items; with ``--output`` make a sheet of their images.

    Raises:
        VreidError: The ranking, a query or the images are not there.
    """
    chosen, same_camera = session.settings.show, session.settings.evaluate.same_camera
    if chosen.output is not None:
        check_ending(chosen.output)
    path = chosen.ranking or _find_ranking(session)
    ranking = read_ranking(path, label_pattern=session.settings.data.label_pattern)
    warnings: tuple[str, ...] = (MEANINGLESS,) if ranking.facts.meaningless else ()
    lists: Mapping[str, Sequence[RankedItem]]
    if chosen.output is None:
        queries = choose_queries(ranking, chosen.queries, most=chosen.max_queries)
        lists = nearest(ranking, queries, top=chosen.top, same_camera=same_camera)
    else:
        sheet = _make_sheet(session, ranking)
        sheet.save(chosen.output)
        lists, warnings = sheet.nearest, sheet.warnings
    for warning in warnings:
        log.warning("%s", warning)
    if chosen.ranking is None:
        session.record()
    return ShowReport(
        () if chosen.output is None else (str(chosen.output),),
        warnings=warnings,
        ranking=path,
        facts=ranking.facts,
        notes=explain_ranks(ranking.facts, same_camera),
        nearest=lists,
        hidden=0 if chosen.queries else len(ranking.queries) - len(lists),
    )


def _find_ranking(session: Session) -> Path:
    """The run's ranking of the default task and metric, else its only one."""
    run = session.need_run()
    found = rankings_in(run.rankings)
    default = run.rankings / _DEFAULT_RANKING
    if default in found or len(found) == 1:
        chosen = default if default in found else found[0]
        log.info("ranking: %s", chosen)
        return chosen
    if not found:
        raise StoreError(f"{run.path} has no rankings yet", hint="make one with vreid rank", file=run.rankings)
    names = ", ".join(str(path) for path in found)
    raise StoreError(f"{run.path} has several rankings", hint=f"choose one with --ranking: {names}", file=run.rankings)


def _make_sheet(session: Session, ranking: Ranking) -> Sheet:
    settings = session.settings
    run = _run_with_images(session, Path(ranking.source))
    gallery = run.features("gallery").read()
    query = None if ranking.facts.query_source == "gallery" else run.features("query").read()
    return make_sheet(
        ranking,
        settings.show.queries,
        gallery=gallery,
        query=query,
        options=settings.show,
        same_camera=settings.evaluate.same_camera,
    )


def _run_with_images(session: Session, path: Path) -> RunDirectory:
    """The run that a ranking lies in, else the one that is named."""
    run = owning_run(path)
    if run is None and session.run is None:
        raise StoreError(
            f"{path} lies in no run, and only a run knows where its images are",
            hint="name the run that holds them with --run-dir, or leave out --output for a table",
            file=path,
        )
    return run or session.need_run()
