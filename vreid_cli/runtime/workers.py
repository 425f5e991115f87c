"""Processes that prepare images ahead of the device."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vreid_cli.errors import VreidError

#: Below this many images, starting worker processes takes longer than they save.
_WORTH_WORKERS = 64
_MOST_WORKERS = 16
_FEW_CORES = 4
#: PR_SET_PDEATHSIG of Linux' prctl.
_DIE_WITH_PARENT = 1


def choose_workers(requested: int | str, *, images: int, on_cpu: bool, training: bool = False) -> int:
    """Number of decoding processes; ``auto`` leaves the cores to a network that runs on them.

    Args:
        requested: A number, or ``auto``.
        images: How many are to be decoded.
        on_cpu: Whether the network runs on the CPU.
        training: Whether it learns, which takes longer for an image, as augmentation does.
    """
    if isinstance(requested, int):
        return requested
    if images < _WORTH_WORKERS:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not on_cpu:
        return min(_MOST_WORKERS, cores)
    # A forward pass on the CPU takes many times as long as decoding: one process keeps ahead of eight cores. On few
    # cores it holds up the network, whose threads wait for each other, by more than decoding between batches takes.
    return 0 if cores < _FEW_CORES and not training else max(1, cores // 8)


def follow_parent(_worker: int) -> None:
    """Start a worker so that only the parent reports Ctrl-C, and that it dies as soon as the parent does.

    Ctrl-C reaches the whole process group. A worker that outlived a killed parent would hold the run's lock,
    which it inherited: the same command, typed again at once, would be refused.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":  # elsewhere workers inherit nothing
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


@contextmanager
def explain_dead_workers(*, kept: str) -> Iterator[None]:
    """Tell that a worker process is gone while a loader is read.

    Args:
        kept: What is not lost.

    Raises:
        VreidError: One is gone.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):  # an error inside a living worker is a bug: let it show
            raise
        raise VreidError(
            f"a process that decodes images died: {str(error).splitlines()[0]}",
            hint=f"use --workers 0 to decode in the main process; {kept}",
        ) from None
    except VreidError as error:
        if "DataLoader worker process" not in error.message:
            raise
        # torch puts the worker's traceback before what the error says there.
        message = error.message.splitlines()[-1].partition(": ")[2]
        raise type(error)(message, hint=f"run the same command again; {kept}") from None
