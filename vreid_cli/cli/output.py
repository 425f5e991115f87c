"""What goes to stdout: tables for people, one JSON object for programs."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vreid_cli.types.escaping import for_terminal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    from vreid_cli.config import Resolved

#: Wide enough for every table where the output is no terminal, whose width would be a guess.
_WIDTH_OF_NO_TERMINAL = 200
#: Wider than any table, to ask how much room one needs.
_WIDE = 10_000
_INTERRUPTED = 130


def make_console() -> Console:
    """A console on stdout for tables."""
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    class Output(Console):
        def print(self, *objects: Any, **how: Any) -> None:
            for table in objects:
                roomy = self.options.update(width=_WIDE)
                if isinstance(table, Table) and Measurement.get(self, roomy, table).minimum > self.width:
                    for column in table.columns:  # a number that is cut off is no result
                        column.no_wrap, column.overflow = False, "fold"
            super().print(*objects, **how)

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            # A segment with control codes is the program's own; what a name holds of them is text.
            for part in super().render(renderable, options):
                yield part if part.control else part._replace(text=for_terminal(part.text))

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would end the program with an error

    # Names of tracks and files are shown as they are: a [b] or :car: in them is no markup.
    console = Output(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_OF_NO_TERMINAL
    return console


def print_note(text: str, console: Console) -> None:
    """What to do next, or how quick it was: nothing of the result, so ``--quiet`` leaves it out."""
    from vreid_cli.runtime.progress import log

    if log.isEnabledFor(logging.INFO):
        console.print(text, soft_wrap=True)


def say_interrupted(*, as_json: bool) -> int:
    """Tell that somebody stopped the program.

    Returns:
        The exit code.
    """
    kept = "what was finished is kept, the same command goes on from there"
    if as_json:
        print_json({"error": {"message": "interrupted", "hint": kept, "file": None}})
    print(f"interrupted; {kept}", file=sys.stderr)
    return _INTERRUPTED


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout; escaped where stdout could not hold a letter of it."""
    value = {"schema": 1, **value}
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2)
    text = re.sub("[\x7f-\x9f]", lambda found: f"\\u00{ord(found[0]):02x}", text)  # JSON allows these, terminals act
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, allow_nan=False, indent=2)
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # The reader has seen enough, as head does; nothing more may be written, not even when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_config(resolved: Resolved, *, as_json: bool) -> None:
    """The settings, and where each came from."""
    from vreid_cli.config import SECTIONS, to_toml

    if not as_json:
        print(to_toml(resolved))
        return
    settings = resolved.settings.model_dump(mode="json")
    names = [f"{section}.{key}" for section, options in SECTIONS.items() for key in options.model_fields]
    names = [name for name in names if name not in SECTIONS]
    print_json({"config": settings, "sources": {name: resolved.source(name) for name in names}})
