"""``vreid extract``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vreid_cli.cli.execute import execute
from vreid_cli.cli.options import (
    Common,
    DataDir,
    Device,
    LabelPattern,
    Options,
    auto_or_number,
    split_list,
    with_common,
)

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.extract import ExtractReport

_DATA, _MODEL, _COMPUTE = "Data", "Network", "Computing"


@with_common
def command(
    common: Common,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset", metavar="veri|tracks", help="Layout of the data set. \\[veri]", rich_help_panel=_DATA
        ),
    ] = None,
    data_dir: DataDir = None,
    query_dir: Annotated[
        Path | None, typer.Option("--query-dir", help="Folder of the query tracks.", rich_help_panel=_DATA)
    ] = None,
    gallery_dir: Annotated[
        Path | None,
        typer.Option("--gallery-dir", "--test-dir", help="Folder of the gallery tracks.", rich_help_panel=_DATA),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(
            "--split", metavar="query|gallery|train", help="What to extract. \\[query,gallery]", rich_help_panel=_DATA
        ),
    ] = None,
    label_pattern: LabelPattern = None,
    arch: Annotated[
        str | None,
        typer.Option(
            "--arch",
            metavar="densenet201|resnet18|alexnet|vgg16|inception_v3",
            help="The network. \\[densenet201]",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="veri|imagenet|random|FILE",
            help="Its weights: those of the paper's authors, ImageNet's, untrained, or a .pth, .pt or .safetensors "
            "file. \\[veri]",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    device: Device = None,
    batch_size: Annotated[
        str | None,
        typer.Option(
            "--batch-size",
            metavar="auto|N",
            parser=auto_or_number,
            help="Pictures a forward pass. \\[auto]",
            rich_help_panel=_COMPUTE,
        ),
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option(
            "--workers",
            metavar="auto|N",
            parser=auto_or_number,
            help="Processes that decode pictures ahead; 0: none. \\[auto]",
            rich_help_panel=_COMPUTE,
        ),
    ] = None,
    restart: Annotated[
        bool | None, typer.Option("--restart", help="Make the features anew.", rich_help_panel=_COMPUTE)
    ] = None,
    strict: Annotated[
        bool | None,
        typer.Option(
            "--strict", help="Stop at the first bad picture instead of skipping it.", rich_help_panel=_COMPUTE
        ),
    ] = None,
) -> None:
    """Turn pictures into latent representations (features), kept in a run directory.

    An interrupted extraction goes on where it stopped when the same command is given again; pictures that
    have not changed are never computed twice.

    Examples:
      vreid extract --data-dir VeRi --device cuda

      vreid extract --dataset tracks --data-dir my_tracks      (my_tracks/query/<track>/*.jpg, my_tracks/gallery/…)

      vreid extract --dataset tracks --query-dir cam1 --gallery-dir cam2 --weights imagenet
    """
    from vreid_cli.workflows.extract import FREE_SETTINGS, extract

    splits = split_list(split)
    options: Options = {
        "data": {
            "dataset": dataset,
            "data_dir": data_dir,
            "query_dir": query_dir,
            "gallery_dir": gallery_dir,
            "splits": None if splits is None else ["gallery" if name == "test" else name for name in splits],
            "label_pattern": label_pattern,
        },
        "model": {"arch": arch, "weights": weights},
        "runtime": {"device": device},
        "extract": {"batch_size": batch_size, "workers": workers, "restart": restart, "strict": strict},
    }
    execute(common, options, workflow=extract, render=_render, use_latest=False, free=FREE_SETTINGS)


def _render(report: ExtractReport, console: Console) -> None:
    for split, summary in (report.splits or {}).items():
        console.print(
            f"{split}: {summary.images:,} images in {summary.tracks:,} tracks"
            + (f", {len(summary.skipped):,} pictures skipped" if summary.skipped else "")
            + (f", {summary.computed:,} computed now" if summary.computed else ", nothing to compute")
        )
    computed = sum(summary.computed for summary in (report.splits or {}).values())
    if computed:
        console.print(f"{computed / report.seconds:.1f} images per second, {report.seconds:.1f} s in all")
    console.print(f"run: {report.run_dir}", highlight=False)
    console.print("next: vreid rank", highlight=False)
