"""Option classes: what a stage can be told, validated once when it is made.

A stage owns its class (``ranking/options.py`` holds ``RankingOptions``), the settings of :mod:`vreid_cli.config` are
made of these classes, and the command line derives its options from their fields.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

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
