"""Which network with which weights, and how it is exported."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from vreid_cli.types.options import Options

Architecture = Literal["densenet201", "resnet18", "alexnet", "vgg16", "inception_v3"]


class ModelOptions(Options):
    """``[model]``: the network and its weights."""

    arch: Architecture = "densenet201"
    weights: str | None = None
    cache_dir: Path | None = None
    weights_url: str | None = None
    weights_blob: str | None = None
    download_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0


class ExportOptions(Options):
    """``[export]``: where features or the model go, and in which form."""

    output: Path | None = None
    format: Literal["json", "npz"] = "json"
    force: bool = False
