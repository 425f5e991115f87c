"""k-reciprocal re-ranking: items are near if the items around them are the same.

Queries and gallery together are the *pool*. Each item of the pool is described by a sparse code over the pool:
which items are among its k-reciprocal neighbours, and how near. The Jaccard distance of two codes, mixed with
the distance itself, is the new distance. Source: Zhong, Zheng, Cao, Li, Re-ranking Person Re-identification
with k-reciprocal Encoding, CVPR 2017 (arXiv 1701.08398); as in their code, distances are squared and divided
by the largest of each row. Definition: ``docs/definitions.md#re-ranking``. Two things differ from the paper:

- Nothing is as large as the pool squared: distances go by once, in blocks, and only those of the nearest are kept.
- A distance between tracks need not be symmetric. That of row i and column j is always from i to j.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from vreid_cli.ranking.aggregation import runs
from vreid_cli.ranking.engine import BlockDistances, DistanceEngine, ItemImages
from vreid_cli.ranking.options import RankingOptions
from vreid_cli.ranking.selection import Pairs, distances_of, least, pack, unpack_distances, unpack_items
from vreid_cli.types.arrays import Float32Array, Int64Array, Labels, text_array
from vreid_cli.types.features import FeatureMatrix, FeatureSet
from vreid_cli.types.tracks import Items, Tracks

#: Pairs handled at a time, so that their index arrays stay in a few tens of megabytes.
_PAIRS = 1 << 21
#: Neighbours that are kept of each item, in parts of those that describe it. Neighbours of neighbours describe it,
#: too, and nearly all of them are among so many; the distances of the others are computed again.
_KEPT = 4


@dataclass(frozen=True)
class SparseRows:
    """A sparse (n, n) matrix of numbers above 0, row by row.

    Attributes:
        starts: (n + 1,) int64: row i holds the entries from ``starts[i]`` to ``starts[i + 1]``.
        columns: (m,) int64, rising within a row.
        values: (m,) float32.
    """

    starts: torch.Tensor
    columns: torch.Tensor
    values: torch.Tensor

    @property
    def lengths(self) -> torch.Tensor:
        """(n,) number of entries of each row."""
        return self.starts[1:] - self.starts[:-1]

    def entries(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """All entries of these rows: for each the index of its row among ``rows``, and its own index."""
        owner, within = runs(self.lengths[rows])
        return owner, self.starts[rows][owner] + within

    def transposed(self, *, first: int) -> SparseRows:
        """The columns as rows, with only the rows from ``first`` on as columns, counted from there."""
        count = len(self.starts) - 1
        row, _ = runs(self.lengths)
        kept = row >= first
        return sparse_rows(self.columns[kept], row[kept] - first, self.values[kept], count=count)


def sparse_rows(row: torch.Tensor, column: torch.Tensor, value: torch.Tensor, *, count: int) -> SparseRows:
    """A matrix of ``count`` rows from its entries, each (m,); no two may have the same place."""
    order = torch.argsort(row * (int(column.max()) + 1 if len(column) else 1) + column)
    starts = torch.zeros(count + 1, dtype=torch.int64, device=row.device)
    torch.cumsum(torch.bincount(row, minlength=count), 0, out=starts[1:])
    return SparseRows(starts, column[order], value[order])


def reciprocal_pairs(nearest: torch.Tensor, k1: int) -> torch.Tensor:
    """Whose neighbourhood describes whom.

    Args:
        nearest: (n, k) int64 nearest items of each, nearest first, k at least ``min(n, k1 + 1)``.
        k1: Neighbours that are asked, beside the first.

    Returns:
        (m,) int64 rising, ``i * n + j`` for each j in the expanded k-reciprocal neighbourhood of i.
    """
    count = len(nearest)
    own = _reciprocal(nearest[:, : k1 + 1], count)
    half = _reciprocal(nearest[:, : round(k1 / 2) + 1], count)
    half_counts = torch.bincount(half // count, minlength=count)
    half_starts = half_counts.cumsum(0) - half_counts
    found = [own]
    for pairs in own.split(max(1, _PAIRS // (round(k1 / 2) + 1))):
        item, candidate = pairs // count, pairs % count
        lengths = half_counts[candidate]
        owner, within = runs(lengths)
        member = item[owner] * count + half[half_starts[candidate][owner] + within] % count
        shared = torch.bincount(owner, weights=_contained(member, own).to(torch.float32), minlength=len(pairs))
        # In whole numbers, or two thirds would depend on rounding.
        accepted = 3 * shared.round().to(torch.int64) > 2 * lengths
        found.append(member[accepted[owner]].unique())
    every: torch.Tensor = torch.cat(found).unique()
    return every


def _reciprocal(nearest: torch.Tensor, count: int) -> torch.Tensor:
    """(m,) int64 rising, ``i * count + j`` where each is among the other's nearest."""
    item = torch.arange(count, device=nearest.device)[:, None]
    forward = (item * count + nearest).reshape(-1).sort().values
    backward = (nearest * count + item).reshape(-1)
    return backward[_contained(backward, forward)].sort().values


def _contained(values: torch.Tensor, rising: torch.Tensor) -> torch.Tensor:
    """Which of the values are among others that rise."""
    place = torch.searchsorted(rising, values).clamp_(max=max(0, len(rising) - 1))
    return rising[place] == values


def encode(pairs: torch.Tensor, distances: torch.Tensor, nearest: torch.Tensor, *, k2: int) -> SparseRows:
    """Codes of all items: Gaussian weights of the neighbourhood, averaged over the ``k2`` nearest.

    Args:
        pairs: (m,) as :func:`reciprocal_pairs` returns them.
        distances: (m,) float32, squared and divided by the largest of the row.
        nearest: (n, k) int64, nearest first.
        k2: Over how many of the nearest a code is averaged; 1 for none.

    Returns:
        (n, n), each row adding up to 1.
    """
    count = len(nearest)
    row, column = pairs // count, pairs % count
    weights = torch.exp(-distances)
    totals = torch.zeros(count, device=weights.device).index_add_(0, row, weights)
    codes = sparse_rows(row, column, weights / totals[row], count=count)
    if k2 <= 1:
        return codes
    around = nearest[:, :k2]
    pieces = []
    step = max(1, _PAIRS // max(1, around.shape[1] * len(codes.columns) // count))
    for start in range(0, count, step):
        group = around[start : start + step]
        owner, entry = codes.entries(group.reshape(-1))
        place = (start + owner // group.shape[1]) * count + codes.columns[entry]
        places, which = place.unique(return_inverse=True)
        value = torch.zeros(len(places), device=weights.device).index_add_(0, which, codes.values[entry])
        pieces.append((places, value / group.shape[1]))
    places, values = (torch.cat(column) for column in zip(*pieces, strict=True))
    return sparse_rows(places // count, places % count, values, count=count)


def jaccard(codes: SparseRows, columns: SparseRows, rows: range, *, width: int) -> torch.Tensor:
    """Jaccard distances ``1 - Σ min / Σ max`` of some rows' codes to others'.

    Args:
        codes: (n, n) codes.
        columns: The codes transposed, holding only the ``width`` items that are compared with.
        rows: The r rows to compare.
        width: Number of items that are compared with.

    Returns:
        (r, width) float32.
    """
    device = codes.values.device
    shared = torch.zeros(len(rows) * width, device=device)
    owner, entry = codes.entries(torch.arange(rows.start, rows.stop, device=device))
    lengths = columns.lengths[codes.columns[entry]]
    # A few rows' overlaps at a time: there may be hundreds of thousands for each.
    sizes = torch.unique_consecutive(lengths.cumsum(0) // _PAIRS, return_counts=True)[1].tolist()
    for row, few in zip(owner.split(sizes), entry.split(sizes), strict=True):
        which, other = columns.entries(codes.columns[few])
        overlap = torch.minimum(codes.values[few][which], columns.values[other])
        shared.index_add_(0, row[which] * width + columns.columns[other], overlap)
    shared = shared.view(len(rows), width)
    return 1 - shared / (2 - shared)


@dataclass(frozen=True)
class PoolCodes:
    """What re-ranking knows of the pool by one metric.

    Attributes:
        codes: (n, n) code of each item, the queries first.
        columns: The codes transposed, of the gallery items alone.
        peaks: (n,) largest distance from each item.
    """

    codes: SparseRows
    columns: SparseRows
    peaks: torch.Tensor


def encode_pool(
    pool: DistanceEngine, *, queries: int, options: RankingOptions, advance: Callable[[int], object]
) -> dict[str, PoolCodes]:
    """Compare the pool with itself, and encode its items by every metric of the engine.

    Args:
        pool: The pool against itself: the queries first, then the gallery.
        queries: How many of the pool are queries.
        options: ``k1`` and ``k2``.
        advance: Called with numbers of items, which add up to the pool.
    """
    # Codes are averaged over the k2 nearest, and the neighbourhoods need the first k1 + 1.
    wanted = max(options.k1 + 1, options.k2)
    kept, peaks = _find_nearest(pool, min(len(pool.gallery), _KEPT * wanted), advance=advance)
    nearest = {name: unpack_items(keys[:, :wanted]) for name, keys in kept.items()}
    pairs = {name: reciprocal_pairs(neighbours, options.k1) for name, neighbours in nearest.items()}
    distances = _find_distances(pool, pairs, kept=kept)
    found = {}
    for name in nearest:
        normalised = _normalised(distances[name], peaks[name][pairs[name] // len(pool.gallery)])
        codes = encode(pairs[name], normalised, nearest[name], k2=options.k2)
        found[name] = PoolCodes(codes, codes.transposed(first=queries), peaks[name])
    return found


def rerank(
    queries: range, parts: Iterable[BlockDistances], *, pool: Mapping[str, PoolCodes], size: int, weight: float
) -> Iterator[BlockDistances]:
    """The distances of a block of queries, part by part, mixed with their Jaccard distances.

    Args:
        queries: Positions of the queries.
        parts: Their distances.
        pool: By metric, as :func:`encode_pool` gives it.
        size: Number of gallery items.
        weight: Of the distance itself; the Jaccard distance has the rest.
    """
    here = slice(queries.start, queries.stop)
    around = {name: jaccard(known.codes, known.columns, queries, width=size) for name, known in pool.items()}
    for part in parts:
        mixed = {
            name: (1 - weight) * around[name].index_select(1, part.items)
            + weight * _normalised(values, pool[name].peaks[here, None])
            for name, values in part.by_metric.items()
        }
        yield replace(part, by_metric=mixed)


def _find_nearest(
    pool: DistanceEngine, count: int, *, advance: Callable[[int], object]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """(n, count) keys of the nearest of each item, rising, and (n,) largest distance of each, by metric."""
    size, device = len(pool.gallery), pool.gallery.device
    nearest = {m.name: torch.empty(size, count, dtype=torch.int64, device=device) for m in pool.metrics}
    peaks = {m.name: torch.zeros(size, device=device) for m in pool.metrics}
    for block in pool.query_blocks(most=size):
        here = slice(block.positions.start, block.positions.stop)
        best: dict[str, torch.Tensor] = {}
        for part in pool.against(block):
            for name, values in part.by_metric.items():
                best[name] = least(pack(values, part.items), best.get(name), count)
                peaks[name][here] = torch.maximum(peaks[name][here], values.amax(dim=1))
        for name, keys in best.items():
            nearest[name][here] = keys
        advance(len(block.positions))
    return nearest, peaks


def _find_distances(
    pool: DistanceEngine, pairs: Mapping[str, torch.Tensor], *, kept: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """(m,) distance of each pair by metric: of the nearest as they were kept, the others computed again."""
    found = {name: _look_up(each, kept[name]) for name, each in pairs.items()}
    lacking = {name: values.isnan().nonzero().squeeze(1) for name, values in found.items()}
    every = torch.cat([pairs[name][places] for name, places in lacking.items()]).unique()
    computed = _compute(pool, every.cpu().numpy())
    for name, places in lacking.items():
        found[name][places] = computed[name][torch.searchsorted(every, pairs[name][places])]
    return found


def _look_up(pairs: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """(m,) distances of rising pairs among the (n, k) keys of each item's nearest; NaN for those that are not there."""
    size, width = kept.shape
    found = []
    for start in range(0, size, max(1, _PAIRS // width)):
        keys = kept[start : start + max(1, _PAIRS // width)]
        item = torch.arange(start, start + len(keys), device=keys.device)[:, None]
        known, order = (item * size + unpack_items(keys)).reshape(-1).sort()
        ends = torch.tensor([start, start + len(keys)], device=keys.device) * size
        low, high = torch.searchsorted(pairs, ends).tolist()
        some = pairs[low:high]
        place = torch.searchsorted(known, some).clamp_(max=len(known) - 1)
        values = unpack_distances(keys.reshape(-1)[order[place]])
        found.append(torch.where(known[place] == some, values, math.nan))
    return torch.cat(found)


def _compute(pool: DistanceEngine, pairs: Int64Array) -> dict[str, torch.Tensor]:
    """(m,) distance of each of these rising pairs, ``i * n + j``, by metric."""
    size = len(pool.gallery)
    items, query = np.unique(pairs // size, return_inverse=True)
    engine = replace(pool, query=replace(pool.query, items=pool.query.items.select(items)))
    found = {metric.name: torch.empty(len(pairs), device=pool.gallery.device) for metric in pool.metrics}
    for block in engine.query_blocks(most=size):
        first, last = np.searchsorted(query, [block.positions.start, block.positions.stop])
        some = Pairs(query[first:last] - block.positions.start, pairs[first:last] % size)
        for name, values in distances_of(engine, block, some).items():
            found[name][first:last] = values
    return found


def _normalised(distances: torch.Tensor, peaks: torch.Tensor) -> torch.Tensor:
    """Squared distances in parts of the largest of the row; 0 where all are 0."""
    return (distances / torch.where(peaks > 0, peaks, math.inf)).square()


@dataclass(frozen=True)
class _StackedMatrix:
    """Two feature matrices of one dimension, one after the other."""

    first: FeatureMatrix
    second: FeatureMatrix

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows N and dimension D."""
        return self.first.shape[0] + self.second.shape[0], self.first.shape[1]

    def take(self, rows: Int64Array) -> Float32Array:
        """The rows at these positions, in this order."""
        count, dimension = self.first.shape
        taken = np.empty((len(rows), dimension), dtype=np.float32)
        mine = rows < count
        taken[mine] = self.first.take(rows[mine])
        taken[~mine] = self.second.take(rows[~mine] - count)
        return taken


def join_sides(query: ItemImages, gallery: ItemImages) -> ItemImages:
    """Queries and gallery as one set of items, the queries first; labels play no part."""
    one, other = query.features, gallery.features
    matrix, source = _StackedMatrix(one.matrix, other.matrix), f"{one.source} and {other.source}"
    names = Labels.of(np.concatenate([one.image_id, other.image_id]))
    absent = Labels.of([None] * len(names))
    features = FeatureSet(matrix, names, absent, absent, absent, source=source)
    first, second = query.items, gallery.items
    rows = np.concatenate([first.rows, second.rows + len(one)])
    offsets = np.concatenate([first.offsets, second.offsets[1:] + first.offsets[-1]])
    nameless = text_array([None] * (len(first) + len(second)))
    return ItemImages(features, Tracks(Items(nameless, nameless, nameless), rows, offsets), query.device)
