"""``vreid rank``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from vreid_cli.cli.command import Command
from vreid_cli.runtime.objects import as_path

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.rank import RankReport


def _render(report: RankReport, console: Console) -> None:
    from vreid_cli.types.rankings import said_of

    facts = ", ".join(said_of(report.facts))
    console.print(f"{report.queries:,} queries against {report.gallery:,} gallery items: {facts}", soft_wrap=True)
    for one, path in zip(report.facts, report.outputs, strict=True):
        trial = f", trial {one.text('trial')}" if one.trial is not None else ""
        console.print(f"{one.metric_name}{trial}: {path}", soft_wrap=True)
    if report.facts[0].fusion:
        console.print(f"fused: {report.facts[0].text('fusion')}; weights cross-validated by vehicle", soft_wrap=True)
    if not report.outputs[0].lower().endswith(".txt"):  # a submission is for others to look at
        console.print(f"next: {_next_commands(report)}", soft_wrap=True)


def _next_commands(report: RankReport) -> str:
    """What to type to see the result: where it lies decides what must be said."""
    if report.fused:
        return f"vreid evaluate {shlex.join([*report.outputs, *report.fused])}, to see whether it helps"
    if report.run_dir is not None:
        run = f" --run-dir {shlex.quote(str(report.run_dir))}" if report.run_named else ""
        return f"vreid evaluate{run}, vreid show{run}"
    folder = shlex.quote(str(as_path(report.outputs[0]).parent if len(report.outputs) > 1 else report.outputs[0]))
    return f"vreid evaluate {folder}, vreid show --ranking {shlex.quote(report.outputs[0])}"


COMMAND = Command(
    help="""Rank the gallery for every query, by distances between latent representations.

    Works on the features that extract made, or on features of any origin.
    MED is the Euclidean distance of an image to the nearest image of a track,
    MCD one minus the cosine; meanMCD50 is the mean of the nearer half of them.

    Examples:
      vreid rank
      vreid rank --task i2t --metric MCD,MED
      vreid rank --fuse meanMCD50 RSCR
      vreid rank --query-features q.json --gallery-features g.npz -o r.json
    """,
    settings={
        "rank": (
            *(
                "rankings",
                "task",
                "metric",
                "definition",
                "cameras",
                "top_k",
                "threshold",
                "min_probability",
                "no_match",
                "rerank",
            ),
            *("query_features", "gallery_features", "fuse", "calibration", "output", "force", "track_unit"),
        ),
        "data": ("label_pattern",),
        "runtime": ("device", "engine"),
    },
    workflow="vreid_cli.workflows.rank:rank",
    choose_run="vreid_cli.workflows.rank:choose_run",
    render=_render,
)
