"""How a computation uses the machine."""

from __future__ import annotations

from typing import Literal

from vreid_cli.types.options import Auto, Options, Positive

Precision = Literal["fp32", "tf32", "bf16", "fp16"]


class RuntimeOptions(Options):
    """``[runtime]``: the device, the memory that may be used, and what computes matrix products on a CPU."""

    device: str = "auto"
    memory_budget_mb: Auto | Positive = "auto"
    product: Literal["auto", "torch", "numpy", "onednn"] = "auto"
