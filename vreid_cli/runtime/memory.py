"""Memory budgets of computations."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_MEBIBYTE = 2**20
#: More does not make blocks of matrix products faster; less starves them.
_AUTO_LIMITS = (64 * _MEBIBYTE, 512 * _MEBIBYTE)


def memory_budget(requested_mb: int | str, device: torch.device) -> int:
    """Bytes for the working arrays of one computation; ``auto`` is an eighth of the free memory, within limits.

    Examples:
        >>> import torch
        >>> memory_budget(100, torch.device("cpu"))
        104857600
        >>> 64 * 2**20 <= memory_budget("auto", torch.device("cpu")) <= 512 * 2**20
        True
    """
    if isinstance(requested_mb, int):
        return requested_mb * _MEBIBYTE
    free = _free_on_gpu(device) if device.type == "cuda" else free_memory()
    smallest, largest = _AUTO_LIMITS
    if device.type == "cuda":
        largest *= 8
    return max(smallest, min(largest, free // 8))


def _free_on_gpu(device: torch.device) -> int:
    import torch  # settings are read without it, and files of settings ask for the free memory

    return torch.cuda.mem_get_info(device)[0]


def free_memory() -> int:
    """Free bytes of the machine's memory; pages that only cache files count as free."""
    # After an extraction such pages are nearly all of the memory.
    with suppress(OSError, ValueError, IndexError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not every system knows
        return 4096 * _MEBIBYTE
