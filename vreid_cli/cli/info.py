"""``vreid info``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vreid_cli.cli.command import LATEST_RUN, Command

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.info import InfoReport


def _json(report: InfoReport) -> dict[str, Any]:
    from vreid_cli.reports.overview import overview_json

    return overview_json(report.run)


def _render(report: InfoReport, console: Console) -> None:
    from rich.table import Table

    from vreid_cli.reports.overview import print_overview

    for piece in print_overview(report.run):
        # Lines are not broken where a path or a command is to be copied from them.
        console.print(piece, soft_wrap=not isinstance(piece, Table))


COMMAND = Command(
    help="""Show what is in a run, how it was made, and whether it is complete.

    Prints its data, network and versions; for each split what is extracted and
    what is left to do; its rankings with their scores, its training, and the
    last commands. Says what is damaged, and changes nothing.

    Examples:
      vreid info
      vreid info runs/veri-densenet201-veri
      vreid info --verify
      vreid info --json
    """,
    settings={"run": ("run_dir",), "info": ("verify",)},
    wording={"run.run_dir": {"flag": "RUN", "shown": LATEST_RUN}},
    workflow="vreid_cli.workflows.info:info",
    choose_run="vreid_cli.workflows.info:choose_run",
    render=_render,
    to_json=_json,
)
