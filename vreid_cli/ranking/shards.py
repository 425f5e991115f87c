"""A ranking whose gallery is divided among workers: the lists of one machine.

A *shard* is some consecutive blocks of the gallery, and a worker compares queries with them as one machine does: both
cut the same blocks, around the same origin. The lists are merged here. Ties need nothing else, since they are broken
by the items' places in the whole gallery, and equal items take the distances of the first of them wherever they lie.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch

from vreid_cli.ranking.diagnostics import Diagnostics
from vreid_cli.ranking.distances import Origin, choose_origin
from vreid_cli.ranking.duplicates import Duplicates, find_duplicates
from vreid_cli.ranking.engine import Block, BlockDistances, DistanceEngine, GalleryLook, Sides
from vreid_cli.ranking.selection import (
    ListRules,
    Nearest,
    RankedBlock,
    columns_of,
    keep_nearest,
    merge_nearest,
    sort_whole,
)
from vreid_cli.types.arrays import Int64Array

#: Shards for each worker: one that joins later can take some over.
_SHARDS_EACH = 2


class Workers(Protocol):
    """Those who do the work; an engine of ``vreid_cli.engines`` is one."""

    @property
    def width(self) -> int:
        """How many of them there are."""

    def map(
        self,
        work: Callable[[Sequence[ShardTask]], Iterator[Any]],
        parts: Sequence[ShardTask],
        *,
        home: Callable[[ShardTask], int],
    ) -> Iterator[Any]:
        """Results of the parts, in any order; parts of one home go to the same worker, as far as possible."""


@dataclass(frozen=True)
class ShardTask:
    """A first look at a shard; others are more.

    Attributes:
        shard: Number of the shard.
        queries: Positions of the queries that are compared with it.
    """

    shard: int
    queries: range = range(0)

    def __str__(self) -> str:
        return f"shard {self.shard} of the gallery"

    def run(self, shard: DistanceEngine, seen: GalleryLook, rules: ListRules) -> object:
        """What a worker does with the shard."""
        return seen.checksums, seen.zero_vectors


@dataclass(frozen=True)
class Compare(ShardTask):
    """Some queries against a shard.

    Attributes:
        repeated: (2, n) gallery items that equal an earlier one, and that one.
    """

    repeated: Int64Array = field(kw_only=True)

    def __str__(self) -> str:
        return f"queries {self.queries.start} to {self.queries.stop - 1} against shard {self.shard} of the gallery"

    def run(self, shard: DistanceEngine, seen: GalleryLook, rules: ListRules) -> object:
        """The distances to all items."""
        shard = self._with_duplicates(shard)
        block = shard.block(self.queries, *shard.query.read(self.queries))
        return _joined(shard, block), block.zero_vectors

    def _with_duplicates(self, shard: DistanceEngine) -> DistanceEngine:
        first = np.arange(len(shard.gallery))
        first[self.repeated[0]] = self.repeated[1]
        return replace(shard, duplicates=Duplicates(first))


@dataclass(frozen=True)
class LookUp(Compare):
    """Some queries against some items of a shard.

    Attributes:
        items: (n,) int64 their positions in the gallery, rising.
    """

    items: Int64Array = field(kw_only=True)

    def run(self, shard: DistanceEngine, seen: GalleryLook, rules: ListRules) -> object:
        """The distances to these items."""
        shard = self._with_duplicates(shard)
        block = shard.block(self.queries, *shard.query.read(self.queries))
        found = _joined(shard.restricted(self.items), block)
        return replace(found, items=torch.from_numpy(self.items)[found.items])


@dataclass(frozen=True)
class FindNearest(Compare):
    """Some queries against a shard, of which the nearest items are kept.

    Attributes:
        known: By metric, (n,) distances of the pairs that are listed at whatever rank.
    """

    known: Mapping[str, torch.Tensor] = field(kw_only=True)

    def run(self, shard: DistanceEngine, seen: GalleryLook, rules: ListRules) -> object:
        """The nearest items, and how many lie before each pair."""
        shard = self._with_duplicates(shard)
        block = shard.block(self.queries, *shard.query.read(self.queries))
        known = {name: values.to(shard.gallery.device) for name, values in self.known.items()}
        pairs = rules.pairs(self.queries)
        kept = keep_nearest(rules, self.queries, shard.against(block), pairs=pairs, known=known)
        keys, before = ({name: table.cpu() for name, table in one.items()} for one in (kept.keys, kept.before))
        return Nearest(keys, before, kept.diagnostics), block.zero_vectors


class ShardWork:
    """What workers do; each keeps the shards that it was asked about.

    Args:
        sides: Queries and gallery.
        origin: How rows are moved before they are multiplied.
        shards: The blocks of each shard.
        device: Where to compute.
    """

    def __init__(
        self, sides: Sides, *, origin: Origin, shards: Sequence[tuple[range, ...]], device: torch.device
    ) -> None:
        self._sides = sides
        self._origin = origin
        self._shards = shards
        self._device = device
        self._known: dict[int, tuple[DistanceEngine, GalleryLook]] = {}

    def __call__(self, tasks: Sequence[ShardTask]) -> Iterator[tuple[tuple[int, range], Any]]:
        """Each task's shard and queries, with what was found."""
        for task in tasks:
            engine, seen = self._shard(task.shard)
            yield (task.shard, task.queries), task.run(engine, seen, self._rules)

    @cached_property
    def _rules(self) -> ListRules:
        return ListRules(self._sides)

    def _shard(self, number: int) -> tuple[DistanceEngine, GalleryLook]:
        if number not in self._known:
            origin, device = self._origin, self._device
            origin = replace(origin, centre=origin.centre.to(device), direction=origin.direction.to(device))
            engine = self._sides.on(device).plan(origin)
            engine = replace(engine, shard=self._shards[number])
            seen = engine.look()
            self._known[number] = replace(engine, kept=seen.kept), seen
        return self._known[number]


class ShardedGallery:
    """The gallery in shards, ready to be compared with; the other side of :class:`ShardWork`.

    Args:
        sides: Queries and gallery.
        workers: Those who hold the shards.
        device: Where they compute.

    Attributes:
        zero_vectors: Images of the gallery that are zero.

    Raises:
        DataError: A feature of the gallery, or of a sample of the queries, is not finite.
    """

    def __init__(self, sides: Sides, *, workers: Workers, device: torch.device) -> None:
        self._sides = sides
        self._rules = ListRules(sides)
        self._workers = workers
        origin = choose_origin(sides.gallery.sample(), sides.query.sample())
        self._outline = replace(sides, product="torch").plan(origin)
        shards = _divide(self._outline, _SHARDS_EACH * workers.width)
        self._count = len(shards)
        self._work = ShardWork(sides, origin=origin, shards=shards, device=device)
        looks = dict(self._map([ShardTask(number) for number in range(len(shards))]))
        found = [looks[number, range(0)] for number in range(len(shards))]
        self.zero_vectors = sum(zeros for _, zeros in found)
        sums = np.concatenate([checksums for checksums, _ in found])
        first = find_duplicates(sides.gallery.features.matrix, sides.gallery.items, checksums=sums).first
        later = np.flatnonzero(first != np.arange(len(first)))
        self._repeated = np.stack([later, first[later]])
        starts = np.array([blocks[0].start for blocks in shards])
        #: The shard that compares each item: that of the first one like it.
        self._shard_of = np.searchsorted(starts, first, side="right") - 1

    def whole(self, *, most: int) -> Iterator[tuple[range, RankedBlock, int]]:
        """All queries in blocks of at most so many: positions, lists from all distances, zero images among them."""
        blocks = [(queries, shard) for queries in self._queries(most) for shard in range(self._count)]
        tasks = [Compare(shard, queries, repeated=self._repeated) for queries, shard in blocks]
        for queries, found in self._by_block(tasks):
            ranked = sort_whole(self._rules, queries, [part for part, _ in found], size=len(self._sides.gallery))
            yield queries, ranked, found[0][1]

    def nearest(self) -> Iterator[tuple[range, RankedBlock, int]]:
        """All queries in blocks: positions, lists of the nearest and of pairs at whatever rank, zero images."""
        rules, most = self._rules, len(self._sides.query)
        known = self._look_up(most)
        blocks = [(queries, shard) for queries in self._queries(most) for shard in range(self._count)]
        tasks = [FindNearest(shard, some, repeated=self._repeated, known=known[some]) for some, shard in blocks]
        for queries, found in self._by_block(tasks):
            kept, pairs = [part for part, _ in found], rules.pairs(queries)
            ranked = merge_nearest(rules, queries, kept, pairs=pairs, known=known[queries])
            yield queries, ranked, found[0][1]

    def _look_up(self, most: int) -> dict[range, dict[str, torch.Tensor]]:
        """By block of queries and metric, the distances of all pairs that are listed at whatever rank."""
        pairs = {queries: self._rules.pairs(queries) for queries in self._queries(most)}
        names = [metric.name for metric in self._sides.metrics]
        known = {queries: {name: torch.empty(len(some.item)) for name in names} for queries, some in pairs.items()}
        tasks = []
        for queries, some in pairs.items():
            items = np.unique(some.item)
            owner = self._shard_of[items]
            shards = {int(shard): items[owner == shard] for shard in np.unique(owner)}
            tasks += [LookUp(shard, queries, repeated=self._repeated, items=own) for shard, own in shards.items()]
        for (_, queries), found in self._map(tasks):
            query, column, which = columns_of(pairs[queries], found.items)
            for name, values in found.by_metric.items():
                known[queries][name][which] = values[query, column]
        return known

    def _queries(self, most: int) -> Iterator[range]:
        return self._outline.query.cut(rows=self._outline.rows[0], most=most)

    def _map(self, tasks: Sequence[ShardTask]) -> Iterator[tuple[tuple[int, range], Any]]:
        return self._workers.map(self._work, tasks, home=lambda task: task.shard)

    def _by_block(self, tasks: Sequence[ShardTask]) -> Iterator[tuple[range, list[Any]]]:
        """Block by block of queries, in their order, what was found in all shards."""
        waiting = deque(dict.fromkeys(task.queries for task in tasks))
        found: dict[range, list[Any]] = {queries: [] for queries in waiting}
        for (_, queries), result in self._map(tasks):
            found[queries].append(result)
            while waiting and len(found[waiting[0]]) == self._count:
                queries = waiting.popleft()
                yield queries, found.pop(queries)


def _divide(engine: DistanceEngine, most: int) -> list[tuple[range, ...]]:
    """The blocks of an engine in shards of about as many images each."""
    offsets = engine.gallery.items.offsets
    ends = np.array([offsets[block.stop] for block in engine.blocks])
    number = (ends - 1) * most // ends[-1]
    return [tuple(engine.blocks[index] for index in np.flatnonzero(number == one)) for one in np.unique(number)]


def _joined(shard: DistanceEngine, queries: Block) -> BlockDistances:
    """Distances of a block of queries to all items of a shard, on the CPU."""
    # Where all items equal others before them, there is nothing.
    parts = [BlockDistances(torch.empty(0, dtype=torch.int64), {}, Diagnostics()), *shard.against(queries)]
    nothing = torch.empty(len(queries.positions), 0)
    by_metric = {
        metric.name: torch.cat([part.by_metric.get(metric.name, nothing).cpu() for part in parts], dim=1)
        for metric in shard.metrics
    }
    items = torch.cat([part.items.cpu() for part in parts])
    return BlockDistances(items, by_metric, sum((part.diagnostics for part in parts), Diagnostics()))
