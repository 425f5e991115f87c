"""``vreid export features`` and ``vreid export model``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vreid_cli.cli.command import Command
from vreid_cli.cli.output import print_note

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.export_model import ModelReport
    from vreid_cli.workflows.session import Report


def _render(report: Report, console: Console) -> None:
    for path in report.outputs:
        console.print(f"wrote {path}", soft_wrap=True)


def _render_model(report: ModelReport, console: Console) -> None:
    _render(report, console)
    network, (height, width) = report.network, report.network.transform.size
    console.print(
        f"{network.architecture}, weights {network.weights}: images (N, 3, {height}, {width}) "
        f"to latent (N, {network.dimension})"
    )
    if not report.parity:
        print_note(f"use it by --weights {report.outputs[0]}", console)
        return
    errors = ", ".join(f"{error:.1e} at batch {batch}" for batch, error in report.parity.items())
    console.print(f"compared with torch: relative error {errors}; {report.seconds:.1f} s in all")


def _model_json(report: ModelReport) -> dict[str, Any]:
    return {
        "architecture": report.network.architecture,
        "weights": report.network.weights,
        "weights_digest": report.network.digest,
        "parity": {str(batch): error for batch, error in report.parity.items()},
    }


FEATURES = Command(
    help="""Write the features of the query tracks and of the gallery tracks, each to a file of its own.

    They are called feat_query and feat_test, as the authors call theirs; rank
    reads them by --query-features and --gallery-features. Of VeRi the query
    tracks are taken whole from the gallery, as in the task t2t.

    Examples:
      vreid export features
      vreid export features --format npz --output exported
      vreid export features --format lancedb
    """,
    settings={"export": ("format", "output", "force"), "rank": ("track_unit",)},
    wording={"export.output": {"help": "Folder to write to.", "metavar": "DIR"}},
    workflow="vreid_cli.workflows.export:export_features",
    render=_render,
)

MODEL = Command(
    help="""Write the network that makes the features as an ONNX file, or as a folder for the Hugging Face hub.

    The run says which network it is, unless --weights names one. The file takes
    normalised images (N, 3, S, S) and gives their features (N, D); what the
    normalisation is stands in its metadata. It appears only once ONNX Runtime
    has computed from it what torch computes. Needs the extra onnx.
    With --to-hub-folder it is model.safetensors, config.json and a model card.

    Examples:
      vreid export model
      vreid export model --arch resnet18 --weights imagenet -o resnet18.onnx
      vreid export model --to-hub-folder my_network
    """,
    settings={"model": ("arch", "weights"), "export": ("output", "to_hub_folder", "half", "force")},
    wording={
        "export.output": {
            "help": "File to write.",
            "metavar": "FILE.onnx",
            "shown": "<arch>-<weights>.onnx in exports/ of the run; of no run: here",
        }
    },
    workflow="vreid_cli.workflows.export_model:export_model",
    choose_run="vreid_cli.workflows.export_model:choose_run",
    render=_render_model,
    to_json=_model_json,
)
