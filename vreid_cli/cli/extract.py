"""``vreid extract``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vreid_cli.cli.command import Command
from vreid_cli.cli.output import print_note
from vreid_cli.types.amounts import amount

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.extract import ExtractReport


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
            for split, summary in report.splits.items()
        },
    }


def _rate(report: ExtractReport) -> str:
    """How fast it went, and where the time went."""
    summaries = list(report.splits.values())
    computed = sum(summary.computed for summary in summaries)
    elapsed = sum(summary.elapsed for summary in summaries)
    timings = sum((summary.timings for summary in summaries[1:]), summaries[0].timings)
    by = amount(timings.workers, "worker") if timings.workers else "the same process"
    return (
        f"{computed / elapsed:.1f} images per second: {timings.wait:.1f} s waiting for images, "
        f"{timings.compute:.1f} s computing, {timings.write:.1f} s writing "
        f"({timings.decode:.1f} s of decoding in {by}); {report.seconds:.1f} s in all"
    )


def _render(report: ExtractReport, console: Console) -> None:
    for split, summary in report.splits.items():
        console.print(
            f"{split}: {amount(summary.images, 'image')} in {amount(summary.tracks, 'track')}"
            + (f", {amount(len(summary.skipped), 'image')} skipped" if summary.skipped else "")
            + (f", {summary.computed:,} computed now" if summary.computed else ", nothing to compute")
        )
    if any(summary.computed for summary in report.splits.values()):
        print_note(_rate(report), console)
    for split, summary in report.splits.items():
        if summary.skipped:
            console.print(f"skipped: see {report.run_dir / 'features' / split / 'skipped.csv'}", soft_wrap=True)
    console.print(f"run: {report.run_dir}", soft_wrap=True)
    print_note(f"next: {report.next_command}", console)
    if report.one_side:
        print_note("or:   vreid associate", console)


COMMAND = Command(
    help="""Turn images into latent representations (features), kept in a run directory.

    The layout tracks is a folder of images per track, below DIR/query and
    DIR/gallery (or DIR/test). The layout csv is a table with a column path and,
    where they are known, split, track, vehicle, camera, frame and a box x, y,
    w, h. The layout mot is a folder per camera, with a video or frames beside
    what a tracker wrote. The others are data sets as they were released.
    The same command again goes on where it was interrupted, or adds what is
    new; an image that has not changed is never computed twice.

    Examples:
      vreid extract --data-dir VeRi --device cuda
      vreid extract --dataset tracks --data-dir my_tracks
      vreid extract --dataset tracks --query-dir cam1 --gallery-dir cam2
      vreid extract --dataset csv --data-dir boxes.csv --weights vehicle-reid-0001
      vreid extract --dataset mot --data-dir scene
      vreid extract --dataset vehicleid --data-dir VehicleID --subset 800
    """,
    settings={
        "data": (
            *("dataset", "data_dir", "query_dir", "gallery_dir", "subset", "splits", "label_pattern"),
            *("track_file", "per_track", "min_size", "min_confidence"),
        ),
        "model": ("arch", "weights"),
        "runtime": ("device", "engine"),
        "extract": ("precision", "backend", "batch_size", "workers", "save_crops", "restart", "strict"),
    },
    workflow="vreid_cli.workflows.extract:extract",
    choose_run="vreid_cli.workflows.inputs:extraction_run",
    check="vreid_cli.workflows.inputs:look_for_data",
    default_run="runs/<dataset>-<arch>-<weights>",
    prepare="vreid_cli.runtime.arrow:share_memory",
    render=_render,
    to_json=_splits,
)
