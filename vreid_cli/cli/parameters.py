"""Options of a command, derived from the fields of the settings: name, value, default in words, panel and help."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer
from annotated_types import Ge

from vreid_cli.config import option_names, section_fields
from vreid_cli.errors import UsageError
from vreid_cli.types.options import Choice, Presentation, presentation_of

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from vreid_cli.cli.command import Wording

_METAVARS: dict[type, str] = {int: "N", float: "X", Path: "PATH", str: "TEXT"}


@dataclass(frozen=True)
class SettingParameter:
    """A setting as an option or argument of a command.

    Attributes:
        section: The section that the setting stands in.
        key: Its key.
        wording: What the help of this command says instead of the field; None to say what the field does.
    """

    section: str
    key: str
    wording: Wording | None = None

    @property
    def name(self) -> str:
        """How the command's function calls the parameter."""
        return self._names[0].strip("-").replace("-", "_").lower()

    @property
    def flag(self) -> str:
        """How it is typed: ``--task``."""
        return self._names[0]

    def declare(self) -> inspect.Parameter:
        """The parameter as Typer reads it; its default is always None, for "not given"."""
        given: Any = bool if self._is_flag else list[str] if self._is_list else Path if self._is_path else str
        metavar, text = self._metavar(), self._help()
        declared: Any
        if self._is_argument:
            declared = typer.Argument(metavar=metavar, help=text, show_default=False)
        else:
            declared = typer.Option(*self._names, metavar=metavar, help=text, rich_help_panel=self._presentation.panel)
        annotation = Annotated[given | None, declared]
        return inspect.Parameter(self.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)

    def read(self, given: Any) -> Any:
        """The value of what was typed. Text that is no such value stays text: the settings refuse it by its name.

        Raises:
            UsageError: A list was given that names nothing.
        """
        if isinstance(given, Path):
            return str(given)
        if isinstance(given, str):
            return self._number(given)
        if not isinstance(given, Sequence) or self._is_argument:
            return given or None  # an argument that is left out is an empty list
        parts = [part.strip() for value in given for part in value.split(",") if part.strip()]
        if given and not parts:
            hint = f"leave {self.flag} out for its default"
            raise UsageError(f"{self.flag} '{','.join(given)}' names nothing", hint=hint)
        return [self._number(part) for part in parts] or None

    @property
    def _field(self) -> FieldInfo:
        return section_fields(self.section)[self.key]

    @property
    def _presentation(self) -> Presentation:
        own = presentation_of(self._field)
        return self.wording.over(own) if self.wording else own

    @property
    def _names(self) -> list[str]:
        flag = self._presentation.flag
        return flag.split() if flag else option_names(self.section, self.key)

    @property
    def _alternatives(self) -> list[str | type]:
        return list(_alternatives(self._field.annotation, self._field.metadata))

    @property
    def _is_argument(self) -> bool:
        return not self.flag.startswith("-")

    @property
    def _is_flag(self) -> bool:
        return self._field.annotation is bool

    @property
    def _is_list(self) -> bool:
        return get_origin(self._field.annotation) is tuple

    @property
    def _is_path(self) -> bool:
        return Path in self._alternatives

    def _number(self, text: str) -> int | float | str:
        if int in self._alternatives and re.fullmatch(r"-?\d+", text, flags=re.ASCII):
            return int(text)
        if float in self._alternatives:
            try:
                return float(text)
            except ValueError:
                return text
        return text

    def _metavar(self) -> str:
        if self._is_flag:
            return ""  # without it the help would show a type
        if self._is_argument:
            return self.flag
        if self._presentation.metavar is not None:
            return self._presentation.metavar
        metavar = "|".join(one if isinstance(one, str) else _METAVARS[one] for one in self._alternatives)
        return f"{metavar},…" if self._is_list else metavar

    def _help(self) -> str:
        text = (self.wording and self.wording.help) or str(self._field.description)
        bounds = [mark.ge for mark in self._field.metadata if isinstance(mark, Ge)]
        least = [f"at least {bound}" for bound in bounds if bound not in (0, 1)]
        told = "; ".join(filter(None, [self._default_in_words(), *least]))
        text = f"{text} [{told}]" if told else text
        return text.replace("[", "\\[")  # else rich takes it for a style

    def _default_in_words(self) -> str:
        if self._presentation.shown is not None:
            return self._presentation.shown
        default = self._field.default
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
