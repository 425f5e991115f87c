"""``vreid info``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vreid_cli.cli.execute import execute
from vreid_cli.cli.options import Common, with_common
from vreid_cli.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.info import InfoReport


@with_common
def command(
    common: Common,
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN", help="The run directory. \\[the run that extract last worked on]", show_default=False
        ),
    ] = None,
) -> None:
    """Tell what is in a run, how it was made, and whether it is complete.

    Shows its data, network and versions; for each split what is extracted and
    what is left to do; its rankings with their scores, its training, and the
    last commands. What is damaged is told in its row. Nothing is changed.

    Examples:
      vreid info
      vreid info runs/veri-densenet201-veri
      vreid info --json
    """
    from vreid_cli.workflows.info import info, settle_info

    if run is not None and common.run_dir not in (None, run):
        raise UsageError(f"RUN {run} and --run-dir {common.run_dir}: which one?", hint="name one of them")
    common = replace(common, run_dir=run or common.run_dir)
    execute(common, {}, workflow=info, render=_render, extra_json=_json, settle=settle_info)


def _json(report: InfoReport) -> dict[str, Any]:
    from vreid_cli.reports.overview import overview_json

    return overview_json(report.run)


def _render(report: InfoReport, console: Console) -> None:
    from rich.table import Table

    from vreid_cli.reports.overview import print_overview

    for piece in print_overview(report.run):
        # Lines are not broken where a path or a command is to be copied from them.
        console.print(piece, soft_wrap=not isinstance(piece, Table))
