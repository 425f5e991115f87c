"""Choosing the device, and keeping its arithmetic at full float32 precision."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from vreid_cli.errors import DeviceError, UsageError
from vreid_cli.types.amounts import amount

#: What autocast computes in, by name of the precision; the others compute in float32.
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """The device that ``--device`` names; ``auto`` takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        UsageError: The name is not ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        DeviceError: The device is not there. Nothing falls back in silence to the CPU.
    """
    mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    kind, colon, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (colon and not (kind == "cuda" and index.isdecimal())):
        raise UsageError(f"--device {name}: unknown device", hint="known: auto, cpu, cuda, cuda:N, mps")
    if kind == "cuda":
        _require_cuda(int(index) if index else None)
    if kind == "mps" and not mps:
        raise DeviceError("--device mps: this machine or this build of torch has no MPS", hint="try --device cpu")
    return torch.device(name)


def _require_cuda(index: int | None) -> None:
    if not torch.cuda.is_available():
        built = torch.version.cuda is not None
        reason = "no usable NVIDIA GPU or driver was found" if built else "this build of torch has no CUDA"
        raise DeviceError(
            f"--device cuda: {reason}", hint="use --device cpu (or auto), or install a driver or a CUDA build of torch"
        )
    count = torch.cuda.device_count()
    if index is not None and index >= count:
        raise DeviceError(
            f"--device cuda:{index}: {amount(count, 'CUDA device is', 'CUDA devices are')} there, numbered from 0"
        )


@contextmanager
def float32_products(*, tf32: bool) -> Iterator[None]:
    """Float32 products and convolutions at full precision, or rounded to TF32 where the device has it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Please use the new API settings to control TF32")  # torch 2.9 alone
        matmul, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = cudnn


def check_precision(precision: str, device: torch.device, *, name: str = "--precision") -> None:
    """Refuse arithmetic that the device does not have.

    Args:
        precision: ``fp32``, ``tf32``, ``bf16``, ``fp16`` or ``int8``.
        device: Where to compute.
        name: What messages call the setting.

    Raises:
        UsageError: It has no such arithmetic.
    """
    if precision == "tf32" and device.type != "cuda":
        raise UsageError(f"{name} tf32: {device} has no such arithmetic", hint="fp32 or bf16 work everywhere")
    if precision == "int8" and device.type != "cpu":
        raise UsageError(f"{name} int8: it is for a CPU, not for {device}", hint=f"use fp16 or bf16 on {device.type}")


@contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Forward passes at this precision: ``fp32``, ``tf32``, or by torch's autocast ``bf16`` or ``fp16``."""
    dtype = AUTOCAST.get(precision)
    with float32_products(tf32=precision == "tf32"), torch.autocast(device.type, dtype, enabled=dtype is not None):
        yield


def exact_float32() -> AbstractContextManager[None]:
    """Float32 products and convolutions without TF32 or bfloat16, so that every device gives the same numbers."""
    return float32_products(tf32=False)


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let torch compute on the calling thread alone.

    After a parallel operation its threads go on turning for a while, waiting for the next; beside the threads of
    another library they take the cores away from it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
