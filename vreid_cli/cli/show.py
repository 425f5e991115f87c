"""``vreid show``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from vreid_cli.cli.command import Command

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.show import ShowReport


def _results(report: ShowReport) -> dict[str, object]:
    lists = report.nearest.items()
    return {
        "ranking": str(report.ranking),
        "notes": report.notes,
        "queries": [{"query_id": query, "nearest": [asdict(item) for item in items]} for query, items in lists],
        "hidden_queries": report.hidden,
    }


def _render(report: ShowReport, console: Console) -> None:
    from vreid_cli.reports.tables import nearest_table

    if report.outputs:
        console.print(f"sheet: {report.outputs[0]}", soft_wrap=True)
    else:
        for query, items in report.nearest.items():
            console.print(nearest_table(query, items))
        console.print(f"{report.metric or 'unknown metric'}; {report.notes}", soft_wrap=True)
    if report.hidden:
        more = "query" if report.hidden == 1 else "queries"
        console.print(f"{report.hidden:,} more {more}: name them to see them, or --set show.max_queries=N")


COMMAND = Command(
    help="""Show the nearest tracks (or images) of some queries, as a table or as a sheet of images.

    In a sheet each query stands before its nearest, in the order of their ranks;
    where labels are known, frames and marks say which show its vehicle.

    Examples:
      vreid show
      vreid show 0002_c002_t0175 --top 10 --output sheet.png
      vreid show '0002_*' --ranking r.json
    """,
    settings={
        "show": ("queries", "ranking", "top", "output"),
        "evaluate": ("same_camera",),
        "data": ("label_pattern",),
    },
    workflow="vreid_cli.workflows.show:show",
    choose_run="vreid_cli.workflows.show:choose_run",
    render=_render,
    to_json=_results,
)
