"""Options of a command, derived from the fields of the settings: name, value, default in words, panel and help."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from annotated_types import Ge

from vreid_cli.config import section_class
from vreid_cli.errors import UsageError
from vreid_cli.types.options import Choice

_METAVARS: dict[type, str] = {int: "N", float: "X", Path: "PATH", str: "TEXT"}


class SettingParameter:
    """A setting as an option or argument of a command.

    Args:
        section: The section that the setting stands in.
        key: Its key.
        wording: What the help of this command says instead of the field: values of a
            :class:`~vreid_cli.types.options.Presentation` by name.
    """

    def __init__(self, section: str, key: str, wording: Mapping[str, str] | None = None) -> None:
        options = section_class(section)
        self.section, self.key = section, key
        self._field = options.model_fields[key]
        self._shown = replace(options.presentation(key), **(wording or {}))
        self.flag = self._shown.names[0]
        self.name = self.flag.strip("-").replace("-", "_").lower()
        self._is_argument = not self.flag.startswith("-")
        self._is_list = get_origin(self._field.annotation) is tuple
        self._values = list(_alternatives(self._field.annotation, self._field.metadata))
        self._offered = self._shown.offered or [value for value in self._values if isinstance(value, str)]

    def declare(self) -> inspect.Parameter:
        """The parameter as Typer reads it; its default is always None, for "not given"."""
        kind: Any = list[str] if self._is_list else bool if bool in self._values else str
        declared: Any
        if self._is_argument:
            declared = typer.Argument(metavar=self.flag, help=self._help(), show_default=False)
        else:
            names, panel = self._shown.names, self._shown.panel
            declared = typer.Option(
                *names,
                metavar=self._metavar(),
                help=self._help(),
                rich_help_panel=panel,
                autocompletion=self._complete if self._offered else None,
            )
        annotation = Annotated[kind | None, declared]
        return inspect.Parameter(self.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)

    def read(self, given: Any) -> Any:
        """The value of what was typed. Text that is no such value stays text: the settings refuse it by its name.

        Raises:
            UsageError: What was given names nothing.
        """
        if given == "" and not self._is_argument:  # "$FOLDER" of a shell where FOLDER is unset
            raise UsageError(f"{self.flag} '' names nothing", hint=f"leave {self.flag} out for its default")
        if isinstance(given, str):
            return self._number(given)
        if not isinstance(given, Sequence) or self._is_argument:
            return given or None  # an argument that is left out is an empty list
        parts = [part.strip() for value in given for part in value.split(",") if part.strip()]
        if given and not parts:
            hint = f"leave {self.flag} out for its default"
            raise UsageError(f"{self.flag} '{','.join(given)}' names nothing", hint=hint)
        return [self._number(part) for part in parts] or None

    def _number(self, text: str) -> int | float | str:
        if int in self._values and re.fullmatch(r"-?\d+", text, flags=re.ASCII):
            return int(text)
        try:
            return float(text) if float in self._values else text
        except ValueError:
            return text

    def _complete(self, incomplete: str) -> list[str]:
        """The values that a shell offers for what was typed so far."""
        return [value for value in self._offered if value.startswith(incomplete)]

    def _metavar(self) -> str:
        if bool in self._values:
            return ""  # a flag; without this the help would show a type
        values = "|".join(value if isinstance(value, str) else _METAVARS[value] for value in self._values)
        return self._shown.metavar or (f"{values},…" if self._is_list else values)

    def _help(self) -> str:
        bounds = [mark.ge for mark in self._field.metadata if isinstance(mark, Ge)]
        notes = [self._default_in_words(), *(f"at least {bound}" for bound in bounds if bound not in (0, 1))]
        note = "; ".join(filter(None, notes))
        text = f"{self._shown.help} [{note}]" if note else self._shown.help
        return text.replace("[", "\\[")  # else rich takes it for a style

    def _default_in_words(self) -> str:
        default = self._field.default
        if self._shown.shown is not None:
            return self._shown.shown
        if default is None or default is False:
            return ""
        return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _alternatives(annotation: Any, marks: Sequence[Any] = ()) -> Iterator[str | type]:
    """What a value, or an entry of a tuple, can be: ``auto`` and ``int`` for ``Literal["auto"] | Positive``."""
    origin, parts = get_origin(annotation), get_args(annotation)
    tables = [mark.table for mark in marks if isinstance(mark, Choice)]
    if tables:
        yield from tables[0]
    elif origin is Annotated:
        yield from _alternatives(parts[0], parts[1:])
    elif origin is Literal:
        yield from map(str, parts)
    elif origin in (Union, UnionType, tuple):
        for part in parts:
            yield from _alternatives(part)
    elif annotation not in (NoneType, Ellipsis):
        yield annotation
