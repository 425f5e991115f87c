"""``vreid show``: the nearest items of some queries, as a table or a contact sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vreid_cli.config import Settings
from vreid_cli.errors import StoreError
from vreid_cli.evaluation.nearest import nearest
from vreid_cli.reports.sheets.sheet import check_ending
from vreid_cli.reports.show import choose_queries, explain_ranks
from vreid_cli.reports.show import show as make_sheet
from vreid_cli.runtime.progress import log
from vreid_cli.store.formats import read_ranking
from vreid_cli.store.runs import RunDirectory, owning_run, rankings_in
from vreid_cli.types.features import MEANINGLESS
from vreid_cli.types.rankings import RankedItem
from vreid_cli.workflows.calibrations import with_probabilities
from vreid_cli.workflows.session import Report, RunChoice, Session

_DEFAULT_RANKING = "t2t-meanMCD50.parquet"


@dataclass(frozen=True, kw_only=True)
class ShowReport(Report):
    """The nearest items that were asked for.

    Attributes:
        ranking: Where they come from.
        metric: By which metric they are the nearest.
        notes: How they were ranked and what the ranks leave out, in words.
        nearest: By query id, in rank order, without self and junk.
        hidden: Queries that were not asked for by name and are not shown.
    """

    ranking: Path
    metric: str | None
    notes: str
    nearest: Mapping[str, Sequence[RankedItem]]
    hidden: int


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
    ranking = with_probabilities(path, read_ranking(path, label_pattern=session.settings.data.label_pattern))
    facts = ranking.facts
    lists: Mapping[str, Sequence[RankedItem]]
    if chosen.output is None:
        queries = choose_queries(ranking, chosen.queries, most=chosen.max_queries)
        lists = nearest(ranking, queries, top=chosen.top, same_camera=same_camera)
        warnings: tuple[str, ...] = (MEANINGLESS,) if facts.meaningless else ()
    else:
        run = _run_with_images(session, path)
        sides = {"gallery": run.features("gallery").read()}
        if facts.query_source != "gallery":
            sides["query"] = run.features("query").read()
        sheet = make_sheet(ranking, chosen.queries, **sides, options=chosen, same_camera=same_camera)
        sheet.save(chosen.output)
        lists, warnings = sheet.nearest, sheet.warnings
    for warning in warnings:
        log.warning("%s", warning)
    if chosen.ranking is None:
        session.record()
    return ShowReport(
        outputs=() if chosen.output is None else (str(chosen.output),),
        warnings=warnings,
        ranking=path,
        metric=facts.metric_name,
        notes=explain_ranks(facts, same_camera),
        nearest=lists,
        hidden=0 if chosen.queries else len(ranking.queries) - len(lists),
    )


def _find_ranking(session: Session) -> Path:
    """The run's ranking of the default task and metric, else its only one."""
    run = session.need_run()
    found = rankings_in(run.rankings)
    default = run.rankings / _DEFAULT_RANKING
    chosen = default if default in found else found[0] if len(found) == 1 else None
    if chosen is not None:
        log.info("ranking: %s", chosen)
        return chosen
    if not found:
        raise StoreError(f"{run.path} has no rankings yet", hint="make one with vreid rank", file=run.rankings)
    names = ", ".join(str(path) for path in found)
    raise StoreError(f"{run.path} has several rankings", hint=f"choose one with --ranking: {names}", file=run.rankings)


def _run_with_images(session: Session, path: Path) -> RunDirectory:
    """The run that a ranking lies in, else the one that is named."""
    run = owning_run(path)
    if run is None and session.run is None:
        hint = "name the run that holds them with --run-dir, or leave out --output for a table"
        raise StoreError(f"{path} lies in no run, and only a run knows where its images are", hint=hint, file=path)
    return run or session.need_run()
