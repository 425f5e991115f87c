"""``vreid associate``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from vreid_cli.cli.command import Command
from vreid_cli.cli.output import print_note

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.associate import AssociateReport


def _results(report: AssociateReport) -> dict[str, object]:
    from vreid_cli.reports.identities import identities_json

    return {
        "identities": report.identities.count,
        "tracks": len(report.identities),
        "threshold": report.identities.facts["threshold"],
        "min_probability": report.identities.facts.get("min_probability"),
        "calibration": report.identities.facts.get("calibration_source"),
        "miss_rate": None if report.chosen is None else report.chosen.miss_rate,
        "seen_once": report.traffic.once,
        "vehicles": identities_json(report.identities),
    }


def _render(report: AssociateReport, console: Console) -> None:
    from vreid_cli.reports.identities import hops_table, summary

    console.print(summary(report.identities), soft_wrap=True)
    if report.traffic.hops.any():
        console.print(hops_table(report.traffic))
    for path in report.outputs:
        console.print(f"written: {path}", soft_wrap=True)
    file = report.run_option if report.in_run else f" {shlex.quote(str(report.path))}"
    show = f"{report.run_option} --identities" if report.in_run else f" --ranking {shlex.quote(str(report.path))}"
    print_note(f"next: vreid evaluate{file} (where vehicles are known), vreid show{show}", console)


COMMAND = Command(
    help="""Find which tracks are one vehicle, across all cameras.

    Tracks are merged by average linkage of their distances, up to a threshold:
    given, or chosen by labelled tracks. Where a calibration fits the features
    (vreid calibrate; the network small brings one), distances count by the
    evidence that they are, tracks are merged while it is at least as probable
    as --min-probability that they are one vehicle, and each identity has a
    probability. Two tracks of one camera that overlap in time are never one
    vehicle; --travel-times excludes further pairs.
    Also written: where vehicles go from camera to camera, and how long it takes.

    Examples:
      vreid associate
      vreid associate --threshold 0.15
      vreid associate --labelled runs/mine/features/train --cameras other
      vreid associate --threshold 0.15 --travel-times ways.csv --plot ways.png
      vreid associate --threshold 0.15 --candidates 100
      vreid associate a.npz b.npz --threshold 0.2 -o cars.parquet
    """,
    settings={
        "associate": (
            *(
                "features",
                "metric",
                "threshold",
                "min_probability",
                "false_match_rate",
                "labelled",
                "cameras",
                "candidates",
            ),
            *("travel_times", "clocks", "calibration", "output", "plot", "force"),
        ),
        "data": ("label_pattern",),
        "runtime": ("device",),
    },
    workflow="vreid_cli.workflows.associate:associate",
    choose_run="vreid_cli.workflows.associate:choose_run",
    render=_render,
    to_json=_results,
)
