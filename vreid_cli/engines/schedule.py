"""Which worker does which part next, where workers may be lost and others may come."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Generic

from vreid_cli.engines.engine import P

#: A part that so many workers died of is not tried again.
MOST_DEATHS = 3
#: Parts with a home are in the order in which their results are needed. Nobody works farther ahead of the first that
#: is missing than this many rounds of all homes, or results would pile up.
_ROUNDS_AHEAD = 3


class Schedule(Generic[P]):
    """Parts that wait, parts that are worked on, and parts that are given up.

    Args:
        parts: All parts, in the order in which they are begun.
        home: What of a worker's state a part needs. A home belongs to the worker that took a part of it first; it is
            free again when that worker is lost, and goes to a worker without one where another has several.

    Attributes:
        given_up: Parts that several workers died of.

    Examples:
        >>> schedule = Schedule(["a", "b", "c"])
        >>> schedule.take("one"), schedule.take("two", most=2)
        (['a'], ['b', 'c'])
        >>> schedule.lose("two")
        >>> schedule.finish("one")
        >>> schedule.take("one", most=2)  # one of them may be why it was lost
        ['b']
    """

    def __init__(self, parts: Sequence[P], *, home: Callable[[P], Hashable] | None = None) -> None:
        self.given_up: list[P] = []
        self._parts = parts
        self._homes = [None if home is None else home(part) for part in parts]
        self._waiting: dict[Hashable, list[int]] = {}
        for index, name in enumerate(self._homes):
            self._waiting.setdefault(name, []).append(index)
        self._ahead = len(parts) if home is None else _ROUNDS_AHEAD * len(self._waiting)
        self._owner: dict[Hashable, Hashable] = {}
        self._taken: dict[Hashable, list[int]] = {}
        self._deaths: Counter[int] = Counter()
        self._alone: set[int] = set()

    @property
    def left(self) -> int:
        """Number of parts that wait or are worked on."""
        return sum(map(len, self._waiting.values())) + sum(map(len, self._taken.values()))

    def take(self, worker: Hashable, *, most: int = 1) -> list[P]:
        """Parts for a worker that has none now; empty where none is for it."""
        home = self._choose(worker)
        waiting = self._waiting.get(home, [])
        taken: list[int] = []
        while waiting and len(taken) < most and self._may_join(waiting[0], taken):
            taken.append(heapq.heappop(waiting))
        if taken:
            self._taken[worker] = taken
            if home is not None:
                self._owner[home] = worker
        return [self._parts[index] for index in taken]

    def finish(self, worker: Hashable) -> None:
        """What the worker took is done."""
        self._taken.pop(worker, None)

    def lose(self, worker: Hashable) -> None:
        """The worker is gone: what it took waits again, unless too many died of it, and so do its homes."""
        taken = self._taken.pop(worker, [])
        if len(taken) == 1:  # of several nobody knows which it was: each is tried alone
            self._deaths[taken[0]] += 1
        for index in taken:
            self._alone.add(index)
            if self._deaths[index] >= MOST_DEATHS:
                self.given_up.append(self._parts[index])
            else:
                heapq.heappush(self._waiting[self._homes[index]], index)
        self._owner = {home: owner for home, owner in self._owner.items() if owner != worker}

    def _may_join(self, index: int, taken: Sequence[int]) -> bool:
        return not taken or not self._alone & {index, taken[-1]}

    def _choose(self, worker: Hashable) -> Hashable:
        """The home whose first part comes first, among its own and those of nobody; else one of another's several."""
        limit = self._first_unfinished() + self._ahead
        heads = {home: heap[0] for home, heap in self._waiting.items() if heap and heap[0] < limit}
        owned = Counter(self._owner.values())
        free = {home: head for home, head in heads.items() if self._owner.get(home, worker) == worker}
        if not free and not owned[worker]:
            free = {home: head for home, head in heads.items() if owned[self._owner[home]] > 1}
        return min(free, key=lambda home: free[home], default=None)

    def _first_unfinished(self) -> int:
        waiting = (heap[0] for heap in self._waiting.values() if heap)
        return min([*waiting, *(index for taken in self._taken.values() for index in taken)], default=0)
