"""Parts of a work side by side, each on a thread that computes alone.

Libraries that divide every operation among threads let these wait for each other after each one, awake: beside the
threads of another library, or of another program, they take the cores away from those who work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController

from vreid_cli.runtime.devices import one_torch_thread

Part = TypeVar("Part")
Result = TypeVar("Result")


def threads_for(device: torch.device) -> int:
    """How many parts are computed side by side: as many as torch has threads on a CPU; a GPU does one after another."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def side_by_side(work: Callable[[Part], Result], parts: Sequence[Part], *, threads: int) -> Iterator[Result]:
    """The results of the parts, in their order; an error of one is raised in its place.

    Args:
        work: Takes a part.
        parts: All of them.
        threads: How many are worked on at a time; one more may be done and wait.

    Examples:
        >>> list(side_by_side(abs, [-1, 2, -3], threads=2))
        [1, 2, 3]
    """
    if min(threads, len(parts)) <= 1:
        yield from map(work, parts)
        return
    waiting: deque[Future[Result]] = deque()
    with one_thread(), ThreadPoolExecutor(threads) as pool:
        try:
            for part in parts:
                waiting.append(pool.submit(work, part))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch, and NumPy's matrix products, compute on the thread that calls them alone."""
    with one_torch_thread(), _blas().limit(limits=1, user_api="blas"):
        yield


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()
