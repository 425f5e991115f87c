"""What extraction asks of whoever runs it: work mapped over parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

P = TypeVar("P")
R = TypeVar("R")


class Engine(Protocol):
    """Maps work over parts, on this machine or on many."""

    def map(self, work: Callable[[Sequence[P]], Iterator[R]], parts: Sequence[P]) -> Iterator[R]:
        """Results of the parts, in any order, each as soon as it is there.

        Args:
            work: Takes some of the parts and gives one result for each. An engine may call it several times,
                each time with parts of its own.
            parts: All of them.
        """
