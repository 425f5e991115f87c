"""How rankings are counted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from vreid_cli.types.options import Options, Positive
from vreid_cli.types.truth import ApRule, SameCamera, WithoutPositive


class EvaluateSettings(Options):
    """``[evaluate]``: the rules of counting."""

    rankings: tuple[Path, ...] = ()
    same_camera: SameCamera = "drop"
    ap: ApRule = "rectangle"
    ranks: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 5, 10, 20)
    without_positive: WithoutPositive = "skip"
    draws: Annotated[int, Field(ge=100)] = 2000
    by: tuple[Literal["camera", "length"], ...] = ()
    per_query: Path | None = None
    plot: Path | None = None
