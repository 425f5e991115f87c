"""From distances to ranked lists: sorting, ties, and what of each list is kept.

A distance and the place of its item among ties are packed into one whole number, the *key*: the bits of a
float32 that is not negative rise with its value. Keys are unique within a list, so any sort is stable, and
lists from different parts of the gallery merge without ambiguity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from vreid_cli.ranking.aggregation import runs
from vreid_cli.ranking.engine import Part, Queries
from vreid_cli.types.arrays import Float32Array, Int32Array, Int64Array, shared_codes
from vreid_cli.types.rankings import RankingBlock
from vreid_cli.types.tracks import Items

Indices = Int32Array | Int64Array

#: The key of what is not ranked: behind everything.
_NEVER = torch.iinfo(torch.int64).max
_LOW = 0xFFFFFFFF


@dataclass(frozen=True)
class Limits:
    """What of a ranked list is kept; every same-vehicle item is kept besides, at its true rank.

    Attributes:
        top_k: The nearest so many; None for all.
        threshold: Items no farther than this; None for all.
        other_cameras: Leave the items of the query's own camera out before ranks are counted.
    """

    top_k: int | None = None
    threshold: float | None = None
    other_cameras: bool = False


@dataclass(frozen=True)
class Pairs:
    """Pairs of a query and a gallery item of its vehicle.

    Attributes:
        query: (n,) int64, counted from the first query of the block, rising.
        item: (n,) int64 gallery position.
    """

    query: Int64Array
    item: Int64Array


class Listing:
    """Turns distances into keys, and keys into ranked lists.

    Args:
        queries: The queries with their labels.
        gallery: The gallery items with their labels.
        limits: What is kept.
        ties_by_name: Break ties by the item's name, as the authors' code does, not by gallery order.
    """

    def __init__(self, queries: Items, gallery: Items, *, limits: Limits, ties_by_name: bool) -> None:
        self.limits = limits
        self._vehicles = shared_codes(queries.vehicles, gallery.vehicles)
        self._cameras = shared_codes(queries.cameras, gallery.cameras)
        count = len(gallery)
        self._order = np.argsort(gallery.ids.astype(str), kind="stable") if ties_by_name else np.arange(count)
        self.place = np.argsort(self._order) if ties_by_name else self._order
        self._by_vehicle = np.argsort(self._vehicles[1], kind="stable")

    def keys(self, distances: torch.Tensor, queries: Queries, items: torch.Tensor) -> torch.Tensor:
        """(queries, n) int64 keys of (queries, n) distances to the items at these gallery positions."""
        keys = pack(distances, torch.from_numpy(self.place).to(items.device)[items])
        if self.limits.other_cameras:
            own, other = (torch.from_numpy(codes).to(items.device) for codes in self._cameras)
            seen = own[queries.first : queries.first + queries.count, None]
            keys.masked_fill_((seen == other[items]) & (seen >= 0), _NEVER)
        return keys

    def pairs(self, queries: Queries) -> Pairs:
        """Every pair of one of these queries and a ranked item of its vehicle."""
        own, other = self._vehicles
        wanted = own[queries.first : queries.first + queries.count]
        low, high = (np.searchsorted(other[self._by_vehicle], wanted, side=side) for side in ("left", "right"))
        counts = np.where(wanted >= 0, high - low, 0)
        query = np.repeat(np.arange(queries.count), counts)
        item = self._by_vehicle[np.arange(len(query)) + np.repeat(low - (np.cumsum(counts) - counts), counts)]
        if self.limits.other_cameras:
            seen, by = self._cameras[0][queries.first + query], self._cameras[1][item]
            ranked = (seen != by) | (seen < 0)
            query, item = query[ranked], item[ranked]
        return Pairs(query, item)

    def block(self, queries: Queries, query: Indices, rank: Indices, keys: Int64Array) -> RankingBlock:
        """The rows of a listing that are to be kept, one a key, in the order of query and rank."""
        ranked = keys != _NEVER
        if not ranked.all():
            query, rank, keys = query[ranked], rank[ranked], keys[ranked]
        distance, item = _distances_of(keys), self._order[keys & _LOW]
        limits = self.limits
        if limits.top_k is not None or limits.threshold is not None:
            near = np.ones(len(keys), dtype=bool)
            if limits.top_k is not None:
                near &= rank <= limits.top_k
            if limits.threshold is not None:
                near &= distance <= np.float32(limits.threshold)
            own = self._vehicles[0][queries.first + query]
            keep = near | ((own == self._vehicles[1][item]) & (own >= 0))
            query, rank, item, distance = query[keep], rank[keep], item[keep], distance[keep]
        return RankingBlock(
            (query + queries.first).astype(np.int32, copy=False),
            rank.astype(np.int32, copy=False),
            item.astype(np.int32),
            distance,
        )

    def whole(self, queries: Queries, keys: torch.Tensor) -> RankingBlock:
        """The lists of (queries, gallery) keys in any order; on the CPU the keys are sorted in place."""
        ordered = _sorted(keys)
        count, size = ordered.shape
        query, rank = np.arange(count, dtype=np.int32), np.arange(1, size + 1, dtype=np.int32)
        return self.block(queries, np.repeat(query, size), np.tile(rank, count), ordered.reshape(-1))


class RowLists:
    """Keeps the distances of a block of queries to the whole gallery, and sorts them in the end.

    Args:
        listing: What is kept of them.
        queries: The block.
        size: Number of gallery items.
    """

    def __init__(self, listing: Listing, queries: Queries, *, size: int) -> None:
        self._listing, self._queries, self._size = listing, queries, size
        self._rows: dict[str, torch.Tensor] = {}
        self._items: list[torch.Tensor] = []

    def add(self, part: Part) -> None:
        """Take the distances to some of the gallery."""
        start = sum(len(items) for items in self._items)
        self._items.append(part.items)
        for name, values in part.by_metric.items():
            rows = self._rows.setdefault(name, values.new_empty(len(values), self._size))
            rows[:, start : start + len(part.items)] = values

    def finish(self) -> dict[str, RankingBlock]:
        """The ranked lists by metric."""
        items = torch.cat(self._items)
        return {
            name: self._listing.whole(self._queries, self._listing.keys(rows, self._queries, items))
            for name, rows in self._rows.items()
        }


class MergedLists:
    """Keeps the nearest items of a block of queries while the gallery goes by, and counts ranks.

    The distances of same-vehicle items must be known beforehand, so that the items before them can be counted
    in one pass. They replace what the pass itself finds for these pairs: the two may differ by rounding.

    Args:
        listing: What is kept; ``top_k`` must be set.
        queries: The block.
        pairs: The pairs whose items are listed at whatever rank.
        known: Their distances by metric, (n,) on the device.
    """

    def __init__(self, listing: Listing, queries: Queries, *, pairs: Pairs, known: Mapping[str, torch.Tensor]) -> None:
        self._listing, self._queries, self._known = listing, queries, known
        self._pairs = pairs
        self._nearest: dict[str, torch.Tensor] = {}
        self._wanted = {name: self._table(values) for name, values in known.items()}
        self._before = {name: torch.zeros_like(table) for name, table in self._wanted.items()}

    def _table(self, distances: torch.Tensor) -> torch.Tensor:
        """(queries, most pairs of a query + 1) keys of the pairs, sorted, with ``_NEVER`` behind them."""
        query = torch.from_numpy(self._pairs.query).to(distances.device)
        counts = torch.bincount(query, minlength=self._queries.count)
        _, slot = runs(counts)
        table = torch.full((self._queries.count, int(counts.max()) + 1), _NEVER, device=query.device)
        place = torch.from_numpy(self._listing.place[self._pairs.item]).to(query.device)
        table[query, slot] = pack(distances, place)
        return table.sort(dim=1).values

    def add(self, part: Part) -> None:
        """Take the distances to some of the gallery, each item once."""
        query, column, which = columns_of(self._pairs, part.items)
        top_k = self._listing.limits.top_k
        assert top_k is not None
        for name, values in part.by_metric.items():
            values[query, column] = self._known[name][which]
            keys = self._listing.keys(values, self._queries, part.items)
            places = torch.searchsorted(self._wanted[name], keys, right=True)
            places.clamp_(max=self._before[name].shape[1] - 1)
            self._before[name].scatter_add_(1, places, torch.ones_like(places))
            if name in self._nearest:
                keys = torch.cat([self._nearest[name], keys], dim=1)
            self._nearest[name] = keys.topk(min(top_k, keys.shape[1]), dim=1, largest=False).values

    def finish(self) -> dict[str, RankingBlock]:
        """The ranked lists by metric."""
        return {name: self._merge(name) for name in self._nearest}

    def _merge(self, name: str) -> RankingBlock:
        near = _sorted(self._nearest[name])
        wanted = self._wanted[name][:, :-1].cpu().numpy()
        ranks = self._before[name].cumsum(dim=1)[:, :-1].cpu().numpy() + 1
        keys = np.concatenate([near, wanted], axis=1)
        rank = np.concatenate([np.broadcast_to(np.arange(1, near.shape[1] + 1), near.shape), ranks], axis=1)
        query = np.broadcast_to(np.arange(len(keys))[:, None], keys.shape)
        listed = keys != _NEVER
        rows = np.stack([query[listed], rank[listed], keys[listed]], axis=1)
        # A same-vehicle item among the nearest stands there twice, with one rank.
        rows = np.unique(rows, axis=0)
        return self._listing.block(self._queries, rows[:, 0], rows[:, 1], rows[:, 2])


def pack(distances: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """int64 keys that rise with the (…, n) distances, none negative, and among equal ones with the (n,) places."""
    # The absolute value turns -0.0, whose bits would make it the largest, into 0.
    return (distances.abs().view(torch.int32).to(torch.int64) << 32) | places


def unpack_items(keys: torch.Tensor) -> torch.Tensor:
    """The places that were packed."""
    return keys & _LOW


def columns_of(pairs: Pairs, items: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where some pairs stand among the columns of a part.

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


def _sorted(keys: torch.Tensor) -> Int64Array:
    # NumPy's sort of whole numbers is the fastest that a CPU offers; a GPU sorts before anything is copied.
    if keys.device.type != "cpu":
        return keys.sort(dim=1).values.cpu().numpy()
    array: Int64Array = keys.numpy()
    array.sort(axis=1)
    return array


def _distances_of(keys: Int64Array) -> Float32Array:
    distances: Float32Array = (keys >> 32).astype(np.int32).view(np.float32)
    return distances


def listed_bytes(distances: int) -> int:
    """What an item takes while so many of a query's distances to it are kept, and one is sorted and handed on."""
    return 4 * distances + 48
