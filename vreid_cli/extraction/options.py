"""How features are extracted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vreid_cli.runtime.options import Precision
from vreid_cli.types.options import Auto, Options, Positive

BackendName = Literal["torch", "onnx"]
#: torch.compile's own names; ``reduce-overhead`` records CUDA graphs on a GPU.
CompileMode = Literal["off", "default", "reduce-overhead", "max-autotune"]


class ExtractSettings(Options):
    """``[extract]``: how the network computes, batching, and what to do with bad images."""

    precision: Precision = "fp32"
    backend: Literal["auto", "torch", "onnx"] = "auto"
    compile: CompileMode = "off"
    batch_size: Auto | Positive = "auto"
    workers: Auto | Annotated[int, Field(ge=0, le=1024)] = "auto"
    decode: Literal["pil", "device"] = "pil"
    part_images: Positive = 512
    max_pixels: Positive = 178_956_970
    restart: bool = False
    strict: bool = False
