"""How a computation uses the machine, or several."""

from __future__ import annotations

from typing import Literal

from vreid_cli.types.options import COMPUTING, Auto, Options, Positive, option

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
#: Of a forward pass that nothing is learned by.
InferencePrecision = Literal["fp32", "tf32", "bf16", "fp16", "int8"]


class RuntimeOptions(Options):
    """``[runtime]``: who computes, the device, the memory that may be used, and what computes matrix products on a CPU.

    Examples:
        >>> RuntimeOptions(device="cpu").memory_budget_mb
        'auto'
    """

    device: str = option("auto", "Where to compute.", metavar="auto|cpu|cuda|cuda:N|mps", panel=COMPUTING)
    engine: Literal["local", "ray"] = option(
        "local", "Who computes: this machine, or the machines of a Ray cluster.", panel=COMPUTING
    )
    ray_address: str | None = option(
        None,
        "Where the Ray cluster is, as HOST:PORT.",
        shown="what RAY_ADDRESS names, else a Ray that runs on this machine, else one of its own",
        panel=COMPUTING,
    )
    ray_cores: Positive = option(4, "Cores of a Ray worker where the cluster has no GPUs.", panel=COMPUTING)
    memory_budget_mb: Auto | Positive = option("auto", "Memory that a computation may take, in MB.", panel=COMPUTING)
    product: Literal["auto", "torch", "numpy", "onednn"] = option(
        "auto", "What computes matrix products on a CPU; auto measures which is fastest.", panel=COMPUTING
    )
