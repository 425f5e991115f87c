"""How a computation uses the machine, or several, and where files may lie."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import PlainSerializer, PlainValidator
from pydantic_core import PydanticCustomError, PydanticKnownError

from vreid_cli.runtime.objects import ObjectPath, as_path
from vreid_cli.types.options import COMPUTING, Auto, Options, Positive, option


def _read_path(value: Any) -> Path:
    if not isinstance(value, (str, Path)):
        raise PydanticKnownError("string_type")
    return as_path(value)


def _read_local_path(value: Any) -> Path:
    path = _read_path(value)
    if isinstance(path, ObjectPath):
        raise PydanticCustomError("local_path", "a path of this machine")
    return path


#: Fields of options: a file or folder, wherever it lies; and one that other libraries open, on this machine.
Location = Annotated[Path, PlainValidator(_read_path), PlainSerializer(str, when_used="json")]
LocalPath = Annotated[Path, PlainValidator(_read_local_path), PlainSerializer(str, when_used="json")]
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
