"""``vreid export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vreid_cli.cli.execute import execute
from vreid_cli.cli.options import FILES, Arch, Common, Force, Options, TrackUnit, Weights, with_common

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.export_model import ModelReport
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


@with_common
def model(
    common: Common,
    arch: Arch = None,
    weights: Weights = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.onnx",
            help="File to write. \\[<arch>-<weights>.onnx in exports/ of the run; of no run: here]",
            rich_help_panel=FILES,
        ),
    ] = None,
    force: Force = None,
) -> None:
    """Write the network that makes the features as an ONNX file, for other programs to run.

    The run says which network it is, unless --weights names one. The file takes
    normalised images (N, 3, S, S) and gives their features (N, D); what the
    normalisation is stands in its metadata. It appears only once ONNX Runtime
    has computed from it what torch computes. Needs the extra onnx.

    Examples:
      vreid export model
      vreid export model --arch resnet18 --weights imagenet -o resnet18.onnx
    """
    from vreid_cli.workflows.export_model import export_model

    options: Options = {
        "model": {"arch": arch, "weights": weights},
        "export": {"output": output, "force": force},
    }
    # Weights that are named need no run, as other input files need none.
    use_latest = weights is None
    execute(common, options, workflow=export_model, render=_render_model, extra_json=_model_json, use_latest=use_latest)


app.command(name="features")(features)
app.command(name="model")(model)


def _render(report: Report, console: Console) -> None:
    for path in report.outputs:
        console.print(f"wrote {path}", soft_wrap=True)


def _render_model(report: ModelReport, console: Console) -> None:
    _render(report, console)
    console.print(
        f"{report.architecture}, weights {report.weights}: images (N, 3, {report.side}, {report.side}) "
        f"to latent (N, {report.width})"
    )
    errors = ", ".join(f"{error:.1e} at batch {batch}" for batch, error in report.parity.items())
    console.print(f"compared with torch: relative error {errors}; {report.seconds:.1f} s in all")


def _model_json(report: ModelReport) -> dict[str, Any]:
    return {
        "architecture": report.architecture,
        "weights": report.weights,
        "weights_digest": report.weights_digest,
        "parity": {str(batch): error for batch, error in report.parity.items()},
    }
