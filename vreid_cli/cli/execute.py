"""From parsed options to a printed report: the same steps for every command."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from vreid_cli.cli.options import Common, Options, given, typed_command

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.config import Layer, Resolved
    from vreid_cli.workflows.session import Report, Session

    R = TypeVar("R", bound=Report)

    class Settle(Protocol):
        """From layers to a session."""

        def __call__(self, layers: Sequence[Layer], *, command: Sequence[str]) -> Session:
            """Settle the settings of a command as it was typed."""


#: Wide enough for every table where the output is no terminal, whose width would be a guess.
_WIDTH_OF_NO_TERMINAL = 200


def execute(
    common: Common,
    options: Options,
    *,
    workflow: Callable[[Session], R | None],
    render: Callable[[R, Console], None],
    extra_json: Callable[[R], dict[str, Any]] | None = None,
    use_latest: bool = True,
    free: Sequence[str] = (),
    settle: Settle | None = None,
) -> None:
    """Settle the settings, run one workflow, print its report.

    Args:
        common: The options that every command takes.
        options: The command's own, ``{section: {key: value}}``; None is what was not given.
        workflow: What the command does; None where another process tells what was done.
        render: Prints the report for people.
        extra_json: Further keys of ``--json``, or all of them where it gives ``results``.
        use_latest: Without ``--run-dir``, work on the run that ``runs/latest`` names.
        free: Settings that may differ from those of the run.
        settle: Settles the settings of a command that has rules of its own for it.
    """
    # Imported here, so that --help needs none of it.
    from vreid_cli.runtime.progress import set_up_logging
    from vreid_cli.workflows import session as sessions

    set_up_logging(quiet=common.quiet, verbose=common.verbose)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the terminal has no letters for is no reason to lose a result.
        sys.stdout.reconfigure(errors="backslashreplace")
    overrides = given(**options, run={"run_dir": common.run_dir, "seed": common.seed})
    layers = sessions.collect_layers(overrides, config=common.config, assignments=common.assignments)
    if settle is None:
        session = sessions.settle(layers, command=typed_command(), use_latest=use_latest, free=free)
    else:
        session = settle(layers, command=typed_command())
    if common.show_config:
        _print_config(session.resolved, as_json=common.json)
        return
    report = workflow(session)
    if report is None:
        return
    if common.json:
        print_json(_report_json(report, extra_json(report) if extra_json else {}))
        return
    render(report, make_console())


def make_console() -> Console:
    """A console on stdout for tables."""
    from rich.console import Console

    # Names of tracks and files are shown as they are: a [b] or :car: in them is no markup.
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_OF_NO_TERMINAL
    return console


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on stdout; escaped where stdout could not hold a letter of it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, allow_nan=False, indent=2)
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # The reader has seen enough, as head does; nothing more may be written, not even when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report_json(report: Report, extra: dict[str, Any]) -> dict[str, Any]:
    if "results" in extra:
        return {"schema": 1, **extra}
    common = {"outputs": list(report.outputs), "skipped": list(report.skipped), "warnings": list(report.warnings)}
    return {"schema": 1, **common, **extra}


def _print_config(resolved: Resolved, *, as_json: bool) -> None:
    from vreid_cli.config import to_toml

    if not as_json:
        print(to_toml(resolved))
        return
    settings = resolved.settings.model_dump(mode="json")
    sources = {
        f"{section}.{key}": resolved.source(f"{section}.{key}") for section in settings for key in settings[section]
    }
    print_json({"schema": 1, "config": settings, "sources": sources})
