"""The engine that works in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from vreid_cli.engines.engine import P, R


class LocalEngine:
    """Works through all parts in this process, in their order.

    Example:
        >>> list(LocalEngine().map(lambda parts: (part + 1 for part in parts), [1, 2, 3]))
        [2, 3, 4]
    """

    def map(self, work: Callable[[Sequence[P]], Iterator[R]], parts: Sequence[P]) -> Iterator[R]:
        """See :class:`vreid_cli.engines.engine.Engine`."""
        return work(parts)
