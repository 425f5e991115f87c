"""How features are extracted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vreid_cli.runtime.options import Precision
from vreid_cli.types.options import Auto, Options, Positive

BackendName = Literal["torch", "onnx"]


class ExtractionOptions(Options):
    """``[extract]``: how the network computes, batching, and what to do with bad images."""

    precision: Precision = "fp32"
    backend: Literal["auto", "torch", "onnx"] = "auto"
    batch_size: Auto | Positive = "auto"
    workers: Auto | Annotated[int, Field(ge=0, le=1024)] = "auto"
    part_images: Positive = 512
    max_pixels: Positive = 178_956_970
    restart: bool = False
    strict: bool = False
