"""``vreid show``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vreid_cli.cli.execute import execute
from vreid_cli.cli.options import Common, LabelPattern, Options, SameCamera, with_common

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.show import ShowReport


@with_common
def command(
    common: Common,
    queries: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="QUERY",
            help="Queries by name; * and ? stand for anything. \\[the first eight]",
            show_default=False,
        ),
    ] = None,
    ranking: Annotated[
        Path | None,
        typer.Option(
            "--ranking",
            metavar="FILE",
            help="The ranking, .parquet or .json. \\[t2t meanMCD50 of the run, else its only one]",
        ),
    ] = None,
    top: Annotated[int | None, typer.Option("--top", metavar="N", min=1, help="How many of the nearest. \\[5]")] = None,
    same_camera: SameCamera = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE.png", help="Draw a contact sheet instead. \\[a table in the terminal]"
        ),
    ] = None,
    label_pattern: LabelPattern = None,
) -> None:
    """Show the nearest tracks (or images) of some queries, as a table or as a sheet of images.

    In a sheet each query stands before its nearest, in the order of their rank;
    where labels are known, a frame and a mark tell which show its vehicle.

    Examples:
      vreid show
      vreid show 0002_c002_t0175 --top 10 --output sheet.png
      vreid show '0002_*' --ranking r.json
    """
    from vreid_cli.store.runs import owning_run
    from vreid_cli.workflows.show import show

    options: Options = {
        "data": {"label_pattern": label_pattern},
        "evaluate": {"same_camera": same_camera},
        "show": {"queries": queries or None, "ranking": ranking, "top": top, "output": output},
    }
    # A ranking that lies in a run brings that run along.
    needs_run = ranking is None or (output is not None and owning_run(ranking) is None)
    execute(
        common,
        options,
        workflow=show,
        render=_render,
        extra_json=_nearest,
        use_latest=needs_run,
        # Parquet holds its labels; only those of the paper's JSON are read from names.
        free=("data.label_pattern",) if ranking is not None else (),
    )


def _nearest(report: ShowReport) -> dict[str, object]:
    nearest = report.nearest or {}
    return {
        "ranking": str(report.ranking),
        "notes": report.notes,
        "queries": [
            {"query_id": query, "nearest": [asdict(item) for item in items]} for query, items in nearest.items()
        ],
        "hidden_queries": report.hidden,
    }


def _render(report: ShowReport, console: Console) -> None:
    from vreid_cli.reports.tables import nearest_table

    if report.outputs:
        console.print(f"sheet: {report.outputs[0]}", soft_wrap=True)
    else:
        for query, items in (report.nearest or {}).items():
            console.print(nearest_table(query, items))
        console.print(f"{report.facts.metric or 'unknown metric'}; {report.notes}", soft_wrap=True)
    if report.hidden:
        more = "query" if report.hidden == 1 else "queries"
        console.print(f"{report.hidden:,} more {more}: name them to see them, or --set show.max_queries=N")
