"""``vreid calibrate``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from vreid_cli.cli.command import Command
from vreid_cli.cli.output import print_note

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.calibrate import CalibrateReport


def _results(report: CalibrateReport) -> dict[str, object]:
    from vreid_cli.reports.probabilities import calibration_json

    return {"calibrations": [calibration_json(path, one) for path, one in report.fitted.items()]}


def _render(report: CalibrateReport, console: Console) -> None:
    from vreid_cli.reports.probabilities import calibration_table, reliability_table

    console.print(calibration_table(report.fitted))
    if len(report.fitted) == 1:
        (one,) = report.fitted.values()
        console.print(reliability_table(str(one.calibration.metric), one.reliability))
    for path in report.outputs:
        console.print(f"written: {path}", soft_wrap=True)
    if not report.in_run:
        print_note(f"next: vreid rank --calibration {shlex.quote(report.outputs[0])}", console)
        return
    run = report.run_option
    print_note(f"next: vreid rank{run} --force --min-probability 0.9, vreid show{run}, vreid evaluate{run}", console)


COMMAND = Command(
    help="""Fit the probability of the same vehicle to the distances of labelled rankings.

    From then on rank, show and evaluate print probabilities wherever features,
    task, metric and definition are those of the fit. The reliability that is
    printed is cross-validated: each vehicle's probabilities come from others.
    Rankings of one task and metric are pooled, each other makes a calibration
    of its own. At least 10 vehicles that two cameras saw are needed.

    Examples:
      vreid calibrate
      vreid calibrate --method logistic
      vreid calibrate labelled.parquet --output mine.json
    """,
    settings={
        "calibrate": ("rankings", "method", "network", "output"),
        "evaluate": ("same_camera",),
        "data": ("label_pattern",),
    },
    workflow="vreid_cli.workflows.calibrate:calibrate",
    choose_run="vreid_cli.workflows.calibrate:choose_run",
    render=_render,
    to_json=_results,
)
