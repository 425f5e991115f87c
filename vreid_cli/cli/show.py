"""``vreid show``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vreid_cli.cli.execute import execute
from vreid_cli.cli.options import Common, LabelPattern, Options, with_common

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.show import ShowReport


@with_common
def command(
    common: Common,
    queries: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[QUERY]...",
            help="Queries by name; * and ? stand for anything. \\[the first eight]",
            show_default=False,
        ),
    ] = None,
    ranking: Annotated[
        Path | None, typer.Option("--ranking", help="The ranking. \\[t2t meanMCD50 of the run, else its only one]")
    ] = None,
    top: Annotated[int | None, typer.Option("--top", min=1, help="How many of the nearest. \\[5]")] = None,
    same_camera: Annotated[
        str | None,
        typer.Option(
            "--same-camera",
            metavar="drop|keep",
            help="Leave out the query's vehicle by the query's own camera, as evaluate does, or show it. \\[drop]",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Draw a contact sheet: FILE.png. \\[a table in the terminal]"),
    ] = None,
    label_pattern: LabelPattern = None,
) -> None:
    """Show the nearest tracks (or images) of some queries, as a table or as a sheet of pictures.

    Examples:
      vreid show

      vreid show 0002_c002_t0175 --top 10 --output sheet.png

      vreid show '0002_*' --ranking runs/latest-run/rankings/t2t-minMED.parquet
    """
    from vreid_cli.workflows.show import show

    options: Options = {
        "data": {"label_pattern": label_pattern},
        "evaluate": {"same_camera": same_camera},
        "show": {"queries": queries or None, "ranking": ranking, "top": top, "output": output},
    }
    needs_run = ranking is None or output is not None
    execute(
        common,
        options,
        workflow=show,
        render=_render,
        extra_json=_nearest,
        use_latest=needs_run,
        free=("data.label_pattern",),
    )


def _nearest(report: ShowReport) -> dict[str, object]:
    nearest = report.nearest or {}
    return {
        "queries": [
            {"query_id": query, "nearest": [asdict(item) for item in items]} for query, items in nearest.items()
        ]
    }


def _render(report: ShowReport, console: Console) -> None:
    from vreid_cli.reports.tables import nearest_table

    if report.outputs:
        console.print(f"sheet: {report.outputs[0]}", highlight=False, soft_wrap=True)
    else:
        for query, items in (report.nearest or {}).items():
            console.print(nearest_table(query, items))
        console.print(f"{report.facts.metric or 'unknown metric'}; {report.notes}", highlight=False)
    if report.hidden:
        console.print(f"{report.hidden:,} more queries: name them to see them, as in vreid show NAME", highlight=False)
