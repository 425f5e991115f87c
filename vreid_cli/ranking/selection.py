"""From distances to ranked lists: sorting, ties, and what of each list is kept.

A distance and the place of its item among ties are packed into one whole number, the *key*: the bits of a float32
that is not negative rise with its value. Keys are unique within a list, so any sort is stable, and lists from
different parts of the gallery merge without ambiguity. Ties: ``docs/definitions.md#ties``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vreid_cli.ranking.aggregation import runs
from vreid_cli.ranking.diagnostics import Diagnostics
from vreid_cli.ranking.engine import Block, BlockDistances, DistanceEngine, Sides
from vreid_cli.runtime.threads import side_by_side
from vreid_cli.types.arrays import Float32Array, Int32Array, Int64Array, shared_codes
from vreid_cli.types.rankings import RankingBlock

#: The key of what is not ranked: behind everything.
_NEVER = torch.iinfo(torch.int64).max
_LOW = 0xFFFFFFFF
#: Keys that are sorted at a time, so that they stay in the cache of a core.
_CACHED = 1 << 17


@dataclass(frozen=True)
class RankedBlock:
    """Ranked lists of consecutive queries.

    Attributes:
        by_metric: Metric name to lists.
        diagnostics: What was noticed about these queries.
    """

    by_metric: Mapping[str, RankingBlock]
    diagnostics: Diagnostics


@dataclass(frozen=True)
class Pairs:
    """Pairs of a query and a gallery item of its vehicle.

    Attributes:
        query: (n,) int64, counted from the first query of the block, rising.
        item: (n,) int64 gallery position.
    """

    query: Int64Array
    item: Int64Array


class ListRules:
    """Turns distances into keys, and keys into ranked lists; every same-vehicle item is listed at its true rank.

    Args:
        sides: The queries and the gallery items with their labels. Of the options ``cameras``, ``top_k`` and
            ``threshold`` say what is listed. The definition ``released`` breaks ties by the item's name, as the
            authors' code does, not by gallery order.
    """

    def __init__(self, sides: Sides) -> None:
        queries, gallery, options = sides.query.items.items, sides.gallery.items.items, sides.options
        self.top_k = options.top_k
        self._farthest = np.float32(np.inf if options.threshold is None else options.threshold)
        self._other_cameras = options.cameras == "other"
        self._vehicles = shared_codes(queries.vehicles, gallery.vehicles)
        self._cameras = shared_codes(queries.cameras, gallery.cameras)
        self._order: Int32Array | None = None
        self.place = np.arange(len(gallery))
        if options.definition == "released":
            order = np.argsort(gallery.ids.astype(str), kind="stable")
            self._order, self.place = np.append(order, -1).astype(np.int32), np.argsort(order)
        self._by_vehicle = np.argsort(self._vehicles[1], kind="stable")

    def keys(self, distances: torch.Tensor, queries: range, items: torch.Tensor) -> torch.Tensor:
        """(queries, n) int64 keys of (queries, n) distances to the items at these gallery positions."""
        keys = pack(distances, torch.from_numpy(self.place).to(items.device)[items])
        if self._other_cameras:
            own, other = (torch.from_numpy(codes).to(items.device) for codes in self._cameras)
            seen = own[queries.start : queries.stop, None]
            keys.masked_fill_((seen == other[items]) & (seen >= 0), _NEVER)
        return keys

    def pairs(self, queries: range) -> Pairs:
        """Every pair of one of these queries and a ranked item of its vehicle."""
        own, other = self._vehicles
        wanted = own[queries.start : queries.stop]
        low, high = (np.searchsorted(other[self._by_vehicle], wanted, side=side) for side in ("left", "right"))
        counts = np.where(wanted >= 0, high - low, 0)
        query = np.repeat(np.arange(len(queries)), counts)
        item = self._by_vehicle[np.arange(len(query)) + np.repeat(low - (np.cumsum(counts) - counts), counts)]
        if self._other_cameras:
            seen, by = self._cameras[0][queries.start + query], self._cameras[1][item]
            ranked = (seen != by) | (seen < 0)
            query, item = query[ranked], item[ranked]
        return Pairs(query, item)

    def sort(self, distances: torch.Tensor, queries: range, items: torch.Tensor) -> tuple[Int32Array, Float32Array]:
        """(queries, n) items nearest first, and their distances; at the end -1 and NaN for what is not ranked."""
        keys = self.keys(distances, queries, items)
        if keys.device.type == "cpu":
            # NumPy's sort of whole numbers is the fastest that a CPU offers; a GPU sorts before anything is copied.
            keys.numpy().sort(axis=1)
        else:
            keys = keys.sort(dim=1).values.cpu()
        return self.items(keys.numpy()), unpack_distances(keys).numpy()

    def items(self, keys: Int64Array) -> Int32Array:
        """The items of keys; -1 for what is not ranked."""
        # The low halves; the last entry of the order stands for what is not ranked.
        places = keys.astype(np.int32)
        return places if self._order is None else self._order[places]

    def listed(self, block: RankingBlock) -> RankingBlock:
        """The rows that are to be listed."""
        if self._other_cameras:
            block = block.select(block.gallery_index >= 0)
        if self.top_k is None and self._farthest == np.inf:
            return block
        near = block.distance <= self._farthest
        if self.top_k is not None:
            near &= block.rank <= self.top_k
        own = self._vehicles[0][block.query_index]
        return block.select(near | ((own == self._vehicles[1][block.gallery_index]) & (own >= 0)))


def sort_whole(
    rules: ListRules, queries: range, parts: Iterable[BlockDistances], *, size: int, threads: int = 1
) -> RankedBlock:
    """Keep the distances of a block of queries to the whole gallery, and sort them in the end.

    Args:
        rules: What is listed of them.
        queries: Positions of the queries.
        parts: Their distances, each of the ``size`` gallery items once.
        size: Number of gallery items.
        threads: How many lists are sorted side by side.
    """
    rows: dict[str, torch.Tensor] = {}
    items: list[torch.Tensor] = []
    start, diagnostics = 0, Diagnostics()
    for part in parts:
        end = start + len(part.items)
        for name, values in part.by_metric.items():
            if len(part.items) == size:
                rows[name] = values
            else:
                rows.setdefault(name, values.new_empty(len(values), size))[:, start:end] = values
        items.append(part.items)
        start, diagnostics = end, diagnostics + part.diagnostics
    every, shape = torch.cat(items), (len(queries), size)
    lists = {name: (np.empty(shape, np.int32), np.empty(shape, np.float32)) for name in rows}

    def sort(task: tuple[str, slice]) -> None:
        name, some = task
        for column, values in zip(lists[name], rules.sort(rows[name][some], queries[some], every), strict=True):
            column[some] = values

    pieces = _pieces(*shape, device=every.device)
    deque(side_by_side(sort, [(name, some) for name in rows for some in pieces], threads=threads), maxlen=0)
    query = np.repeat(np.arange(queries.start, queries.stop, dtype=np.int32), size)
    rank = np.tile(np.arange(1, size + 1, dtype=np.int32), len(queries))
    blocks = {
        name: rules.listed(RankingBlock(query, rank, item.reshape(-1), distance.reshape(-1)))
        for name, (item, distance) in lists.items()
    }
    return RankedBlock(blocks, diagnostics)


def _pieces(rows: int, columns: int, *, device: torch.device) -> list[slice]:
    """Rows whose keys stay in the cache of a core; all of them on a GPU."""
    step = max(1, _CACHED // columns) if device.type == "cpu" else rows
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


@dataclass(frozen=True)
class Nearest:
    """What is kept of a block of queries while some of the gallery goes by.

    Attributes:
        keys: By metric, (queries, at most ``top_k``) keys of the nearest of these items.
        before: By metric, (queries, pairs + 1): of these items, how many lie between two pairs of the query.
        diagnostics: What was noticed.
    """

    keys: Mapping[str, torch.Tensor]
    before: Mapping[str, torch.Tensor]
    diagnostics: Diagnostics


def keep_nearest(
    rules: ListRules,
    queries: range,
    parts: Iterable[BlockDistances],
    *,
    pairs: Pairs,
    known: Mapping[str, torch.Tensor],
) -> Nearest:
    """Keep the nearest items of a block of queries while the gallery, or some of it, goes by, and count ranks.

    The distances of same-vehicle items must be known beforehand, so that the items before them can be counted in one
    pass. They replace what the pass itself finds for these pairs: the two may differ by rounding.

    Args:
        rules: What is listed; ``top_k`` must be set.
        queries: Positions of the queries.
        parts: Their distances, each gallery item once.
        pairs: The pairs whose items are listed at whatever rank.
        known: Their distances by metric, (n,) on the device.
    """
    assert rules.top_k is not None
    wanted = {name: _key_table(rules, queries, pairs, distances=values) for name, values in known.items()}
    before = {name: torch.zeros_like(table) for name, table in wanted.items()}
    nearest: dict[str, torch.Tensor] = {}
    diagnostics = Diagnostics()
    for part in parts:
        query, column, which = columns_of(pairs, part.items)
        for name, values in part.by_metric.items():
            values[query, column] = known[name][which]
            keys = rules.keys(values, queries, part.items)
            places = torch.searchsorted(wanted[name], keys, right=True)
            places.clamp_(max=before[name].shape[1] - 1)
            before[name].scatter_add_(1, places, torch.ones_like(places))
            nearest[name] = least(keys, nearest.get(name), rules.top_k)
        diagnostics += part.diagnostics
    return Nearest(nearest, before, diagnostics)


def merge_nearest(
    rules: ListRules, queries: range, kept: Sequence[Nearest], *, pairs: Pairs, known: Mapping[str, torch.Tensor]
) -> RankedBlock:
    """The lists of a block of queries, from what was kept of all parts of the gallery.

    Args:
        rules: What is listed.
        queries: Positions of the queries.
        kept: Of the parts, in any order.
        pairs: As for :func:`keep_nearest`.
        known: Likewise.
    """
    assert rules.top_k is not None
    lists, diagnostics = {}, Diagnostics()
    for name, distances in known.items():
        keys = torch.cat([some.keys[name] for some in kept if name in some.keys], dim=1)
        before = torch.stack([some.before[name] for some in kept]).sum(dim=0)
        wanted = _key_table(rules, queries, pairs, distances=distances)[:, :-1]
        lists[name] = _merge(rules, queries, least(keys, None, rules.top_k), wanted=wanted, before=before[:, :-1])
    for some in kept:
        diagnostics += some.diagnostics
    return RankedBlock(lists, diagnostics)


def _key_table(rules: ListRules, queries: range, pairs: Pairs, *, distances: torch.Tensor) -> torch.Tensor:
    """(queries, most pairs of a query + 1) keys of the pairs, sorted, with ``_NEVER`` behind them."""
    query = torch.from_numpy(pairs.query).to(distances.device)
    counts = torch.bincount(query, minlength=len(queries))
    _, slot = runs(counts)
    table = torch.full((len(queries), int(counts.max()) + 1), _NEVER, device=query.device)
    table[query, slot] = pack(distances, torch.from_numpy(rules.place[pairs.item]).to(query.device))
    return table.sort(dim=1).values


def _merge(
    rules: ListRules, queries: range, keys: torch.Tensor, *, wanted: torch.Tensor, before: torch.Tensor
) -> RankingBlock:
    """Lists of the nearest items, and of those that are wanted at the rank that follows from what is before them."""
    near = keys.sort(dim=1).values.cpu().numpy()
    ranks = before.cumsum(dim=1).cpu().numpy() + 1
    every = np.concatenate([near, wanted.cpu().numpy()], axis=1)
    rank = np.concatenate([np.broadcast_to(np.arange(1, near.shape[1] + 1), near.shape), ranks], axis=1)
    query = np.broadcast_to(np.arange(len(every))[:, None], every.shape)
    listed = every != _NEVER
    # A same-vehicle item among the nearest stands there twice, with one rank.
    rows = np.unique(np.stack([query[listed], rank[listed], every[listed]], axis=1), axis=0)
    query_index, places = ((rows[:, 0] + queries.start).astype(np.int32), rows[:, 1].astype(np.int32))
    distance = unpack_distances(torch.from_numpy(rows[:, 2])).numpy()
    return rules.listed(RankingBlock(query_index, places, rules.items(rows[:, 2]), distance))


def distances_of(engine: DistanceEngine, block: Block, pairs: Pairs) -> dict[str, torch.Tensor]:
    """(n,) distance of each of these pairs by metric, without the rest of the gallery."""
    items, device = np.unique(pairs.item), engine.gallery.device
    found = {metric.name: torch.empty(len(pairs.item), device=device) for metric in engine.metrics}
    if len(items):
        for part in engine.restricted(items).against(block):
            positions = torch.from_numpy(items).to(device)[part.items]
            query, column, which = columns_of(pairs, positions)
            for name, values in part.by_metric.items():
                found[name][which] = values[query, column]
    return found


def pack(distances: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """int64 keys that rise with the (…, n) distances, none negative, and among equal ones with the (n,) places.

    Examples:
        >>> keys = pack(torch.tensor([0.5, 0.1, 0.1]), torch.tensor([0, 2, 1]))
        >>> unpack_items(keys.sort().values).tolist()
        [1, 2, 0]
    """
    # The absolute value turns -0.0, whose bits would make it the largest, into 0.
    bits = distances.abs().view(torch.int32).to(torch.int64)
    return bits.bitwise_left_shift_(32).bitwise_or_(places)


def unpack_distances(keys: torch.Tensor) -> torch.Tensor:
    """The distances that were packed.

    Examples:
        >>> unpack_distances(pack(torch.tensor([0.5]), torch.tensor([7]))).tolist()
        [0.5]
    """
    return (keys >> 32).to(torch.int32).view(torch.float32)


def unpack_items(keys: torch.Tensor) -> torch.Tensor:
    """The places that were packed.

    Examples:
        >>> unpack_items(pack(torch.tensor([0.5]), torch.tensor([7]))).tolist()
        [7]
    """
    return keys & _LOW


def least(keys: torch.Tensor, before: torch.Tensor | None, count: int) -> torch.Tensor:
    """The ``count`` least of each row's keys and of those that were the least ``before``, rising."""
    if before is not None:
        keys = torch.cat([before, keys], dim=1)
    return keys.topk(min(count, keys.shape[1]), dim=1, largest=False).values


def columns_of(pairs: Pairs, items: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where some pairs stand among the columns of a block of distances.

    Args:
        pairs: Queries and gallery positions.
        items: (n,) gallery position of each column.

    Returns:
        Query, column, and index among the pairs, of those pairs whose item is there.
    """
    positions = items.cpu().numpy()
    order = np.argsort(positions)
    place = np.minimum(np.searchsorted(positions[order], pairs.item), len(positions) - 1)
    column = order[place]
    which = np.flatnonzero(positions[column] == pairs.item)
    one, two, three = (torch.from_numpy(a).to(items.device) for a in (pairs.query[which], column[which], which))
    return one, two, three
