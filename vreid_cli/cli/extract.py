"""``vreid extract``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vreid_cli.cli.execute import execute
from vreid_cli.cli.options import (
    COMPUTE,
    DATA,
    FLAG,
    Arch,
    Common,
    DataDir,
    Dataset,
    Device,
    LabelPattern,
    Options,
    Precision,
    Strict,
    Weights,
    Workers,
    auto_or_number,
    split_list,
    with_common,
)

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.extract import ExtractReport


@functools.partial(with_common, default_run="runs/<dataset>-<arch>-<weights>")
def command(
    common: Common,
    dataset: Dataset = None,
    data_dir: DataDir = None,
    query_dir: Annotated[
        Path | None,
        typer.Option(
            "--query-dir", metavar="DIR", help="Folder of the query tracks, of --dataset tracks.", rich_help_panel=DATA
        ),
    ] = None,
    gallery_dir: Annotated[
        Path | None,
        typer.Option(
            "--gallery-dir",
            "--test-dir",
            metavar="DIR",
            help="Folder of the gallery tracks, of --dataset tracks.",
            rich_help_panel=DATA,
        ),
    ] = None,
    subset: Annotated[
        int | None,
        typer.Option(
            "--subset",
            metavar="N",
            min=1,
            help="Which test list, by its size: 800, 1600, … of vehicleid, 3000, … of veri-wild. \\[the only one]",
            rich_help_panel=DATA,
        ),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(
            "--split", metavar="query|gallery|train", help="What to extract. \\[query,gallery]", rich_help_panel=DATA
        ),
    ] = None,
    label_pattern: LabelPattern = None,
    arch: Arch = None,
    weights: Weights = None,
    device: Device = None,
    precision: Precision = None,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend",
            metavar="auto|torch|onnx",
            help="What computes it; onnx: ONNX Runtime. \\[auto]",
            rich_help_panel=COMPUTE,
        ),
    ] = None,
    batch_size: Annotated[
        str | None,
        typer.Option(
            "--batch-size",
            metavar="auto|N",
            parser=auto_or_number,
            help="Images a forward pass. \\[auto]",
            rich_help_panel=COMPUTE,
        ),
    ] = None,
    workers: Workers = None,
    restart: Annotated[
        bool | None,
        typer.Option(
            "--restart",
            metavar=FLAG,
            help="Throw away the features that are there and make them anew.",
            rich_help_panel=COMPUTE,
        ),
    ] = None,
    strict: Strict = None,
) -> None:
    """Turn images into latent representations (features), kept in a run directory.

    The layout tracks is a folder of images per track, below DIR/query and
    DIR/gallery (or DIR/test). The layout csv is a table with a column path and,
    where they are known, split, track, vehicle, camera, frame and a box x, y,
    w, h. The others are data sets as they were released.
    The same command again goes on where it was interrupted, or adds what is
    new; an image that has not changed is never computed twice.

    Examples:
      vreid extract --data-dir VeRi --device cuda
      vreid extract --dataset tracks --data-dir my_tracks --weights imagenet
      vreid extract --dataset tracks --query-dir cam1 --gallery-dir cam2
      vreid extract --dataset csv --data-dir boxes.csv --weights imagenet
      vreid extract --dataset vehicleid --data-dir VehicleID --subset 800
    """
    from vreid_cli.runtime.arrow import share_memory

    share_memory()
    from vreid_cli.workflows.extract import FREE_SETTINGS, extract

    splits = split_list(split, option="--split")
    options: Options = {
        "data": {
            "dataset": dataset,
            "data_dir": data_dir,
            "query_dir": query_dir,
            "gallery_dir": gallery_dir,
            "subset": subset,
            "splits": None if splits is None else ["gallery" if name == "test" else name for name in splits],
            "label_pattern": label_pattern,
        },
        "model": {"arch": arch, "weights": weights},
        "runtime": {"device": device},
        "extract": {
            "precision": precision,
            "backend": backend,
            "batch_size": batch_size,
            "workers": workers,
            "restart": restart,
            "strict": strict,
        },
    }
    # Features that are made anew may be those of another data set.
    free = (*FREE_SETTINGS, "data.dataset", "data.subset") if restart else FREE_SETTINGS
    execute(common, options, workflow=extract, render=_render, extra_json=_splits, use_latest=False, free=free)


def _splits(report: ExtractReport) -> dict[str, object]:
    return {
        "run_dir": str(report.run_dir),
        "seconds": report.seconds,
        "splits": {
            split: {
                "images": summary.images,
                "computed": summary.computed,
                "tracks": summary.tracks,
                "skipped": len(summary.skipped),
                "workers": summary.timings.workers,
                "seconds": {name: getattr(summary.timings, name) for name in ("wait", "compute", "write", "decode")},
            }
            for split, summary in (report.splits or {}).items()
        },
    }


def _rate(report: ExtractReport) -> str:
    """How fast it went, and where the time went."""
    summaries = list((report.splits or {}).values())
    computed = sum(summary.computed for summary in summaries)
    timings = sum((summary.timings for summary in summaries[1:]), summaries[0].timings)
    by = f"{timings.workers} worker{'s' if timings.workers > 1 else ''}" if timings.workers else "the same process"
    return (
        f"{computed / timings.main:.1f} images per second: {timings.wait:.1f} s waiting for images, "
        f"{timings.compute:.1f} s computing, {timings.write:.1f} s writing "
        f"({timings.decode:.1f} s of decoding in {by}); {report.seconds:.1f} s in all"
    )


def _render(report: ExtractReport, console: Console) -> None:
    for split, summary in (report.splits or {}).items():
        console.print(
            f"{split}: {summary.images:,} images in {summary.tracks:,} tracks"
            + (f", {len(summary.skipped):,} images skipped" if summary.skipped else "")
            + (f", {summary.computed:,} computed now" if summary.computed else ", nothing to compute")
        )
    if any(summary.computed for summary in (report.splits or {}).values()):
        console.print(_rate(report), soft_wrap=True)
    for split, summary in (report.splits or {}).items():
        if summary.skipped:
            console.print(f"skipped: see {report.run_dir / 'features' / split / 'skipped.csv'}", soft_wrap=True)
    console.print(f"run: {report.run_dir}", soft_wrap=True)
    console.print(f"next: {report.next_command}")
