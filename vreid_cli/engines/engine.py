"""What the stages ask of whoever runs them: work mapped over parts."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import torch

P = TypeVar("P")
R = TypeVar("R")


class Engine(Protocol):
    """Maps work over parts, on this machine or on many.

    Attributes:
        here: Whether the work is done in this process, so that it shows its own progress.
    """

    here: bool

    @property
    def width(self) -> int:
        """How many parts are worked on at a time."""

    def device(self, name: str) -> torch.device:
        """Where work computes that was asked for by ``--device``.

        Raises:
            UsageError: The name is unknown, or means nothing to this engine.
            DeviceError: The device is not there.
        """

    def map(
        self,
        work: Callable[[Sequence[P]], Iterator[R]],
        parts: Sequence[P],
        *,
        home: Callable[[P], Hashable] | None = None,
        is_done: Callable[[P], bool] | None = None,
    ) -> Iterator[R]:
        """Results of the parts, in any order, each as soon as it is there.

        Args:
            work: Takes some of the parts and gives one result for each. An engine may call it several times,
                each time with parts of its own, and copies of it in several places.
            parts: All of them; ``str(part)`` names one in messages.
            home: What of the work's state a part needs: parts of one home go to the same copy, as far as possible.
            is_done: Whether what a part is to become is there, whoever did it; the engine of several processes asks it.
        """
