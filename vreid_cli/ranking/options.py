"""How rankings are made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from vreid_cli.types.options import Options, Positive
from vreid_cli.types.rankings import Definition, Task
from vreid_cli.types.tracks import TrackUnit


class RankSettings(Options):
    """``[rank]``: what is compared with what, and by which metric."""

    task: Task = "t2t"
    metric: Annotated[tuple[str, ...], Field(min_length=1)] = ("meanMCD50",)
    definition: Definition = "paper"
    track_unit: TrackUnit = "passage"
    cameras: Literal["all", "other"] = "all"
    top_k: Positive | None = None
    threshold: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    rerank: bool = False
    draws: Positive = 10
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    k1: Positive = 20
    k2: Positive = 6
    lambda_value: Annotated[float, Field(ge=0, le=1)] = 0.3
    query_features: Path | None = None
    gallery_features: Path | None = None
    output: Path | None = None
    force: bool = False
