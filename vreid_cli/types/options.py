"""Option classes: what a stage can be told, validated once when it is made.

A stage owns its class (``ranking/options.py`` holds ``RankingOptions``), the settings of :mod:`vreid_cli.config` are
made of these classes, and the command line derives its options from their fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

Auto = Literal["auto"]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class Options(BaseModel):
    """What a stage can be told: frozen, strict (``true`` is no number), closed to unknown names.

    Raises:
        pydantic.ValidationError: A value is not allowed; the message names the field and what is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def option(
    default: Any, help_text: str, *, flag: str | None = None, metavar: str | None = None, panel: str | None = None
) -> Any:
    """A field of an :class:`Options` class with what the command line says of it.

    Args:
        default: Its value where nothing is said.
        help_text: One sentence for ``--help`` and for readers of the class.
        flag: The option's name; by default ``--`` and the field's name with hyphens.
        metavar: How the value is shown; by default derived from the field's type.
        panel: The help panel that the option stands in.
    """
    return Field(default, description=help_text, json_schema_extra={"flag": flag, "metavar": metavar, "panel": panel})


def choice(table: Mapping[str, object]) -> AfterValidator:
    """Restrict a text to the keys of a table, as they are when a value is validated.

    Examples:
        >>> from pydantic import TypeAdapter
        >>> TypeAdapter(Annotated[str, choice({"a": 1, "b": 2})]).validate_python("b")
        'b'
    """

    def check(name: str) -> str:
        if name not in table:
            expected = " or ".join(filter(None, [", ".join(map(repr, list(table)[:-1])), repr(list(table)[-1])]))
            # The kind and context of pydantic's own error for a Literal.
            raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})
        return name

    return AfterValidator(check)
