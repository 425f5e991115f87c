"""``vreid rerun``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vreid_cli.cli.command import LATEST_RUN, Command
from vreid_cli.types.amounts import amount

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.rerun import RerunReport


def _json(report: RerunReport) -> dict[str, Any]:
    found = {"commands": report.commands, "same": report.same, "close": list(report.close), "but_for": report.close}
    return {**found, "run_dir": str(report.run_dir)}


def _render(report: RerunReport, console: Console) -> None:
    console.print(
        f"{amount(report.commands, 'command')} of {report.run_dir} run again, in {report.again}", soft_wrap=True
    )
    console.print(f"{amount(len(report.same), 'file is', 'files are')} the same, byte for byte")
    for harmless in sorted(set(report.close.values())):
        names = [name for name, one in report.close.items() if one == harmless]
        same = f"{amount(len(names), 'is', 'are')} the same but for {' and '.join(harmless)}"
        console.print(f"{same}: {', '.join(names)}", soft_wrap=True)


COMMAND = Command(
    help="""Run a run's history again, in another folder, and compare every file.

    Each command of history.jsonl is run once more, in the folder where it was
    run. The run itself stays as it is. A file is the same byte for byte, or but
    for rounding, paths and times, which is said; the first that differs otherwise
    is named, and the exit code is 1.

    Examples:
      vreid rerun runs/veri-densenet201-veri
      vreid rerun runs/demo --output /tmp/demo-again
    """,
    settings={"run": ("run_dir",), "rerun": ("output",)},
    wording={"run.run_dir": {"flag": "RUN", "shown": LATEST_RUN}},
    workflow="vreid_cli.workflows.rerun:rerun",
    choose_run="vreid_cli.workflows.rerun:choose_run",
    render=_render,
    to_json=_json,
)
