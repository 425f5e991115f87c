"""``vreid train``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from vreid_cli.cli.command import Command
from vreid_cli.cli.output import print_note
from vreid_cli.types.amounts import amount

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.train import TrainReport


def _results(report: TrainReport) -> dict[str, object]:
    return {
        "epochs": [asdict(epoch) for epoch in report.result.history],
        "vehicles": len(report.result.network.classes),
    }


def _render(report: TrainReport, console: Console) -> None:
    result = report.result
    last = result.history[-1]
    vehicles, images = amount(len(result.network.classes), "vehicle"), amount(result.images, "image")
    console.print(f"{vehicles} in {images}, {amount(last.epoch, 'epoch')}")
    console.print(f"loss {last.loss:.3f}, {100 * last.accuracy:.1f}% of the training images right")
    for name, epoch in (("best", result.best), ("last", last)):
        if epoch.scores is not None:
            console.print(
                f"held-out vehicles, {name} (epoch {epoch.epoch}): mAP {100 * epoch.scores.mean_ap:.1f}, "
                f"rank-1 {100 * epoch.scores.rank1:.1f} (image to image, MCD, rectangle, same camera dropped)"
            )
    for path in report.outputs:
        console.print(f"wrote {path}", soft_wrap=True)
    print_note(f"next: {report.next_command}", console)


COMMAND = Command(
    help="""Teach a network to tell vehicles apart, on the images of the split train.

    Needs the extra "train" (see the README). Writes to the run:
    checkpoints/last and best (.safetensors), log.csv and curves.png. What was
    finished survives Ctrl-C or a crash: --resume RUN goes on as if nothing had
    happened. Several GPUs: torchrun --nproc-per-node 4 --no-python vreid train …

    Examples:
      vreid train --data-dir VeRi --arch resnet18 --device cuda
      vreid train --recipe strong --arch resnet18 --held-out 0.1
      vreid train --dataset csv --data-dir cars.csv --recipe strong --weights random
      vreid train --resume runs/veri-resnet18-strong
    """,
    settings={
        "data": ("dataset", "data_dir", "label_pattern"),
        "model": ("arch", "weights"),
        "train": (
            *("recipe", "epochs", "batch_size", "learning_rate", "crop", "held_out"),
            *("resume", "restart", "precision", "tensorboard"),
        ),
        "runtime": ("device",),
        "extract": ("workers", "strict"),
    },
    wording={
        "model.weights": {
            "help": "What to start from: named weights, or a .pth, .pt or .safetensors file.",
            "shown": "imagenet",
        }
    },
    workflow="vreid_cli.workflows.train:train",
    resolve="vreid_cli.workflows.train:resolve_training",
    default_run="runs/<dataset>-<arch>-<recipe>",
    render=_render,
    to_json=_results,
)
