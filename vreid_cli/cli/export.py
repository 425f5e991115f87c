"""``vreid export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vreid_cli.cli.execute import execute
from vreid_cli.cli.options import FILES, Common, Force, Options, TrackUnit, with_common

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.session import Report

app = typer.Typer(
    help="Write what a run holds in forms that other programs read.",
    epilog="Example: vreid export features --format npz",
    no_args_is_help=True,
)


@app.callback()
def _group() -> None:
    """Write what a run holds in forms that other programs read."""


@with_common
def features(
    common: Common,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="json|npz", help="The JSON of the paper's code, or NumPy arrays. \\[json]"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Folder to write to. \\[exports/ of the run]",
            rich_help_panel=FILES,
        ),
    ] = None,
    force: Force = None,
    track_unit: TrackUnit = None,
) -> None:
    """Write the features of the query tracks and of the gallery tracks, each to a file of its own.

    They are called feat_query and feat_test, as the authors call theirs; rank
    reads them by --query-features and --gallery-features. Of VeRi the query
    tracks are taken whole from the gallery, as in the task t2t.

    Examples:
      vreid export features
      vreid export features --format npz --output exported
    """
    from vreid_cli.workflows.export import export_features

    options: Options = {
        "export": {"format": form, "output": output, "force": force},
        "rank": {"track_unit": track_unit},
    }
    execute(common, options, workflow=export_features, render=_render)


app.command(name="features")(features)


def _render(report: Report, console: Console) -> None:
    for path in report.outputs:
        console.print(f"wrote {path}", soft_wrap=True)
