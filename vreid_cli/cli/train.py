"""``vreid train``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vreid_cli.cli.execute import execute
from vreid_cli.cli.options import (
    COMPUTE,
    FLAG,
    NETWORK,
    Arch,
    Common,
    DataDir,
    Dataset,
    Device,
    LabelPattern,
    Options,
    Precision,
    Strict,
    Workers,
    auto_or_number,
    with_common,
)

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.train import TrainReport

_RECIPE = "Recipe"


@functools.partial(with_common, default_run="runs/<dataset>-<arch>-<recipe>")
def command(
    common: Common,
    dataset: Dataset = None,
    data_dir: DataDir = None,
    label_pattern: LabelPattern = None,
    arch: Arch = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="imagenet|veri|random|FILE",
            help="What to start from: ImageNet's weights, those of the paper's authors, nothing, or a .pth, .pt or "
            ".safetensors file. \\[imagenet]",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="paper|strong",
            help="How to learn: as the paper, or as today's strong baselines do. Every number of it is in the preset "
            "recipe-paper or recipe-strong, and can be changed by --set train.…. \\[paper]",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", metavar="N", min=1, help="Passes over the images.", rich_help_panel=_RECIPE),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", metavar="N", min=2, help="Images a step, over all GPUs.", rich_help_panel=_RECIPE),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option("--learning-rate", metavar="X", help="Highest learning rate.", rich_help_panel=_RECIPE),
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(
            "--crop",
            metavar="auto|N",
            parser=auto_or_number,
            help="Side of the network's input in pixels. \\[the network's own, 224 or 299]",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option(
            "--held-out",
            metavar="SHARE|N",
            min=0,
            help="Training vehicles to leave out and validate on: a share, or their number.",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    precision: Precision = None,
    device: Device = None,
    workers: Workers = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            metavar="RUN",
            help="Go on with the training of this run, after its last finished epoch; all settings are its own.",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    restart: Annotated[
        bool | None,
        typer.Option(
            "--restart", metavar=FLAG, help="Throw away an earlier training in the folder.", rich_help_panel=_RECIPE
        ),
    ] = None,
    strict: Strict = None,
    tensorboard: Annotated[
        bool | None,
        typer.Option("--tensorboard", metavar=FLAG, help="Write TensorBoard's files too.", rich_help_panel=COMPUTE),
    ] = None,
) -> None:
    """Teach a network to tell vehicles apart, on the images of the split train.

    Needs the extra "train" (see the README). Writes to the run:
    checkpoints/last and best (.safetensors), log.csv and curves.png. What was
    finished survives Ctrl-C or a crash: --resume RUN goes on as if nothing had
    happened. Several GPUs: torchrun --nproc-per-node 4 --no-python vreid train …

    Examples:
      vreid train --data-dir VeRi --arch resnet18 --device cuda
      vreid train --recipe strong --arch resnet18 --held-out 0.1
      vreid train --dataset csv --data-dir cars.csv --recipe strong --weights random
      vreid train --resume runs/veri-resnet18-strong
    """
    from vreid_cli.workflows.train import settle_training, train

    options: Options = {
        "data": {"dataset": dataset, "data_dir": data_dir, "label_pattern": label_pattern},
        "model": {"arch": arch, "weights": weights},
        "runtime": {"device": device},
        "extract": {"workers": workers, "strict": strict},
        "train": {
            "recipe": recipe,
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "crop": crop,
            "held_out": held_out,
            "precision": precision,
            "resume": resume,
            "restart": restart,
            "tensorboard": tensorboard,
        },
    }
    execute(common, options, workflow=train, render=_render, extra_json=_results, settle=settle_training)


def _results(report: TrainReport) -> dict[str, object]:
    from dataclasses import asdict

    return {"epochs": [asdict(result) for result in report.history], "vehicles": report.vehicles}


def _render(report: TrainReport, console: Console) -> None:
    last = report.history[-1]
    console.print(f"{report.vehicles:,} vehicles in {report.images:,} images, {last.epoch} epochs")
    console.print(f"loss {last.loss:.3f}, {100 * last.accuracy:.1f}% of the training images right")
    for name, epoch, scores in (("best", *report.best), ("last", last.epoch, last.scores)):
        if scores is not None:
            console.print(
                f"held-out vehicles, {name} (epoch {epoch}): mAP {100 * scores.mean_ap:.1f}, "
                f"rank-1 {100 * scores.rank1:.1f} (image to image, MCD, rectangle, same camera dropped)"
            )
    for path in report.outputs:
        console.print(f"wrote {path}", soft_wrap=True)
    console.print(f"next: {report.next_command}", soft_wrap=True)
