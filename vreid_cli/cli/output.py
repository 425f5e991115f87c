"""What goes to stdout: tables for people, one JSON object for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.config import Resolved

#: Wide enough for every table where the output is no terminal, whose width would be a guess.
_WIDTH_OF_NO_TERMINAL = 200


def make_console() -> Console:
    """A console on stdout for tables."""
    from rich.console import Console

    class Pipe(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would end the program with an error

    # Names of tracks and files are shown as they are: a [b] or :car: in them is no markup.
    console = Pipe(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_OF_NO_TERMINAL
    return console


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout; escaped where stdout could not hold a letter of it."""
    value = {"schema": 1, **value}
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
