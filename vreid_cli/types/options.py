"""Option classes: the choices that a stage offers, validated once when they are made.

A stage owns its class (``ranking/options.py`` holds ``RankingOptions``). The settings of :mod:`vreid_cli.config`
consist of these classes, and the command line derives its options from their fields.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationInfo, field_validator
from pydantic_core import CoreSchema, PydanticKnownError
from pydantic_core.core_schema import no_info_after_validator_function

Auto = Literal["auto"]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
#: Between 0 and 1, neither of which anything that was measured can have.
Probability = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, eq=False)
class Choice:
    """Marks a text as a name in a table, whose entries are looked up when a value is validated.

    ``Annotated[str, Choice(BACKBONES)]`` is to a table what ``Literal`` is to names that are written out.
    """

    table: Collection[str]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The text's own schema, and then the look-up."""
        return no_info_after_validator_function(self._check, handler(source))

    def _check(self, name: str) -> str:
        if name not in self.table:
            *others, last = [f"'{entry}'" for entry in self.table]
            expected = f"{', '.join(others)} or {last}" if others else last
            raise PydanticKnownError("literal_error", {"expected": expected})
        return name


#: Help panels of the command line.
DATA, NETWORK, FILES, COMPUTING, COMMON = "Data", "Network", "Files", "Computing", "Every command"


@dataclass(frozen=True)
class Presentation:
    """How the command line shows a field: what :func:`option` was given."""

    help: str
    flag: str
    metavar: str | None = None
    panel: str | None = None
    shown: str | None = None
    offered: Sequence[str] = ()

    @property
    def names(self) -> list[str]:
        """The option's names, or an argument's."""
        return self.flag.split()


class Options(BaseModel):
    """The choices of a stage: frozen, strict (``true`` is no number), closed to unknown names.

    In Python a list or a single value stands for a tuple as well.

    Raises:
        pydantic.ValidationError: A value is not allowed; the message names the field and what is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @field_validator("*", mode="before")
    @classmethod
    def _accept_python_values(cls, value: Any, info: ValidationInfo) -> Any:
        wanted = cls.model_fields[str(info.field_name)].annotation
        several = get_origin(wanted) is tuple
        if isinstance(value, list) and any(get_origin(kind) is tuple for kind in (wanted, *get_args(wanted))):
            value = tuple(value)  # a list of JSON, too: here it is one of Python's already
        if info.mode == "json":
            return value
        return (value,) if several and not isinstance(value, tuple) else value

    @classmethod
    def presentation(cls, key: str) -> Presentation:
        """How the command line shows a field."""
        field = cls.model_fields[key]
        extra: Any = field.json_schema_extra
        flag = extra["flag"] or f"--{key.replace('_', '-')}"
        return Presentation(**{**extra, "help": field.description, "flag": flag})


def option(
    default: Any,
    text: str,
    *,
    flag: str | None = None,
    metavar: str | None = None,
    panel: str | None = None,
    shown: str | None = None,
    offered: Sequence[str] = (),
) -> Any:
    """A field of an :class:`Options` class, and how the command line shows it.

    Args:
        default: Its value where none is given.
        text: One sentence for ``--help`` and for readers of the class.
        flag: The option's names, separated by spaces (``--output -o``), or an argument's, without hyphens; by default
            ``--`` and the field's name with hyphens.
        metavar: How the value is shown; by default derived from the field's type.
        panel: The help panel; by default the first one.
        shown: The default in words, "" for none; by default the value.
        offered: Values that a shell offers; by default derived from the field's type.
    """
    extra: Any = {"flag": flag, "metavar": metavar, "panel": panel, "shown": shown, "offered": offered}
    return Field(default, description=text, json_schema_extra=extra)
