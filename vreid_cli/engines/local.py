"""The engine that works in this process."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence

import torch

from vreid_cli.engines.engine import P, R
from vreid_cli.runtime.devices import choose_device


class LocalEngine:
    """Works through all parts in this process, in their order.

    Example:
        >>> list(LocalEngine().map(lambda parts: (part + 1 for part in parts), [1, 2, 3]))
        [2, 3, 4]
    """

    here = True

    @property
    def width(self) -> int:
        """See :class:`vreid_cli.engines.engine.Engine`."""
        return 1

    def device(self, name: str) -> torch.device:
        """See :class:`vreid_cli.engines.engine.Engine`."""
        return choose_device(name)

    def map(
        self,
        work: Callable[[Sequence[P]], Iterator[R]],
        parts: Sequence[P],
        *,
        home: Callable[[P], Hashable] | None = None,
        is_done: Callable[[P], bool] | None = None,
    ) -> Iterator[R]:
        """See :class:`vreid_cli.engines.engine.Engine`."""
        return work(parts)
