"""How features are extracted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vreid_cli.runtime.options import InferencePrecision, Location
from vreid_cli.types.images import MAX_PIXELS
from vreid_cli.types.options import COMPUTING, Auto, Options, Positive, option

BackendName = Literal["torch", "onnx"]


class ExtractionOptions(Options):
    """``[extract]``: how the network computes, batching, and what to do with bad images.

    Examples:
        >>> ExtractionOptions(precision="bf16").batch_size
        'auto'
    """

    precision: InferencePrecision = option(
        "fp32", "Arithmetic of the forward pass; int8: on a CPU, by ONNX Runtime.", panel=COMPUTING
    )
    backend: Literal["auto", "torch", "onnx"] = option("auto", "What computes it; onnx: ONNX Runtime.", panel=COMPUTING)
    batch_size: Auto | Positive = option("auto", "Images a forward pass.", panel=COMPUTING)
    workers: Auto | Annotated[int, Field(ge=0, le=1024)] = option(
        "auto", "Processes that decode images ahead; 0: none.", panel=COMPUTING
    )
    part_images: Positive = option(512, "Images a part of the store.", panel=COMPUTING)
    max_pixels: Positive = option(MAX_PIXELS, "Larger images are skipped.", panel=COMPUTING)
    save_crops: Location | None = option(
        None,
        "Write each image as the network sees it before resizing, a folder per track.",
        metavar="DIR",
        panel=COMPUTING,
    )
    strict: bool = option(False, "Stop at the first bad image instead of skipping it.", panel=COMPUTING)
