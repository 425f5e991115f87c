"""k-reciprocal re-ranking: items are near if the items around them are the same.

Queries and gallery together are the *pool*. Each item of the pool is described by a sparse code over the pool:
which items are among its k-reciprocal neighbours, and how near. The Jaccard distance of two codes, mixed with
the distance itself, is the new distance. Source: Zhong, Zheng, Cao, Li, Re-ranking Person Re-identification
with k-reciprocal Encoding, CVPR 2017 (arXiv 1701.08398); as in their code, distances are squared and divided
by the largest of each row. Two things differ from it:

- Nothing is as large as the pool squared: distances go by in blocks, and only neighbours and codes are kept.
- A distance between tracks need not be symmetric. That of row i and column j is always from i to j.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from vreid_cli.ranking.aggregation import runs
from vreid_cli.ranking.engine import DistanceEngine, Part, Queries
from vreid_cli.ranking.selection import Pairs, columns_of, pack, unpack_items
from vreid_cli.types.arrays import Float32Array, Int64Array, TextArray, text_array
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.tracks import Items, Tracks

#: Pairs handled at a time, so that their index arrays stay in a few tens of megabytes.
_PAIRS = 1 << 21


@dataclass(frozen=True)
class RerankOptions:
    """The three numbers of k-reciprocal re-ranking.

    Attributes:
        k1: How many neighbours are asked whether they know the item too.
        k2: Over how many of the nearest, itself among them, a code is averaged.
        lambda_value: Weight of the distance itself; the Jaccard distance has the rest.
    """

    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3


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
    pairs: torch.Tensor = backward[_contained(backward, forward)].sort().values
    return pairs


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


def jaccard(codes: SparseRows, columns: SparseRows, rows: torch.Tensor, *, width: int) -> torch.Tensor:
    """Jaccard distances ``1 - Σ min / Σ max`` of some rows' codes to others'.

    Args:
        codes: (n, n) codes.
        columns: The codes transposed, holding only the ``width`` items that are compared with.
        rows: (r,) int64 rows to compare.
        width: Number of items that are compared with.

    Returns:
        (r, width) float32.
    """
    shared = torch.zeros(len(rows) * width, device=rows.device)
    owner, entry = codes.entries(rows)
    lengths = columns.lengths[codes.columns[entry]]
    # A few rows' overlaps at a time: there may be hundreds of thousands for each.
    for few in _groups(lengths, _PAIRS):
        which, other = columns.entries(codes.columns[entry[few]])
        overlap = torch.minimum(codes.values[entry[few]][which], columns.values[other])
        shared.index_add_(0, owner[few][which] * width + columns.columns[other], overlap)
    shared = shared.view(len(rows), width)
    return 1 - shared / (2 - shared)


def _groups(lengths: torch.Tensor, limit: int) -> list[slice]:
    """Consecutive entries whose lengths add up to about the limit."""
    total = lengths.cumsum(0)
    if not len(total):
        return []
    marks = torch.arange(0, int(total[-1]) + limit, limit, device=total.device)[1:]
    ends = torch.searchsorted(total, marks, right=True).clamp_(min=1).unique().tolist()
    ends = [*(end for end in ends if end < len(total)), len(total)]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False) if end > start]


class Reranker:
    """Re-ranks the distances of queries to a gallery, by every metric of an engine at once.

    Args:
        pool: Engine of the pool against itself: the queries first, then the gallery.
        queries: How many of the pool are queries.
        options: The numbers of re-ranking.
        most: How many items may be compared with the pool at a time.
        advance: Called with numbers of items, which add up to twice the pool.
    """

    def __init__(
        self,
        pool: DistanceEngine,
        *,
        queries: int,
        size: int,
        options: RerankOptions,
        advance: Callable[[int], object],
    ) -> None:
        self._options, self._queries, self._size = options, queries, size
        nearest, self._peaks = self._find_nearest(pool, advance)
        pairs = {name: reciprocal_pairs(neighbours, options.k1) for name, neighbours in nearest.items()}
        distances = self._find_distances(pool, pairs, advance)
        self._codes = {name: encode(pairs[name], distances[name], nearest[name], k2=options.k2) for name in nearest}
        self._columns = {name: codes.transposed(first=queries) for name, codes in self._codes.items()}

    def distances(self, block: Queries, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Jaccard distances of these queries to the gallery, (count, gallery), and their rows' peaks, (count, 1)."""
        rows = torch.arange(block.first, block.first + block.count, device=self._peaks[name].device)
        codes = self._codes[name]
        return jaccard(codes, self._columns[name], rows, width=self._size - self._queries), self._peaks[name][
            rows, None
        ]

    def mix(self, part: Part, prepared: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> Part:
        """A part's distances re-ranked, with what :meth:`distances` gave for its queries."""
        weight = self._options.lambda_value
        return Part(
            part.items,
            {
                name: (1 - weight) * prepared[name][0].index_select(1, part.items)
                + weight * _normalised(values, prepared[name][1])
                for name, values in part.by_metric.items()
            },
        )

    def _find_nearest(
        self, pool: DistanceEngine, advance: Callable[[int], object]
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """(n, k1 + 1) nearest of each item and (n,) largest distance of each, by metric."""
        # Codes are averaged over the k2 nearest, and the neighbourhoods need the first k1 + 1.
        wanted = min(self._size, max(self._options.k1 + 1, self._options.k2))
        nearest: dict[str, list[torch.Tensor]] = {}
        peaks: dict[str, list[torch.Tensor]] = {}
        for block in pool.query_blocks(most=self._size):
            best: dict[str, torch.Tensor] = {}
            peak: dict[str, torch.Tensor] = {}
            for part in pool.against(block):
                for name, values in part.by_metric.items():
                    keys = pack(values, part.items)
                    keys = torch.cat([best[name], keys], dim=1) if name in best else keys
                    best[name] = keys.topk(min(wanted, keys.shape[1]), dim=1, largest=False).values
                    largest = values.amax(dim=1)
                    peak[name] = torch.maximum(peak[name], largest) if name in peak else largest
            for name, keys in best.items():
                nearest.setdefault(name, []).append(unpack_items(keys))
                peaks.setdefault(name, []).append(peak[name])
            advance(block.count)
        return (
            {name: torch.cat(blocks) for name, blocks in nearest.items()},
            {name: torch.cat(blocks) for name, blocks in peaks.items()},
        )

    def _find_distances(
        self, pool: DistanceEngine, pairs: Mapping[str, torch.Tensor], advance: Callable[[int], object]
    ) -> dict[str, torch.Tensor]:
        """(m,) squared, normalised distance of each pair, by metric."""
        found = {name: torch.empty(len(each), device=each.device) for name, each in pairs.items()}
        for block in pool.query_blocks(most=self._size):
            limits = torch.tensor([block.first, block.first + block.count]) * self._size
            here = {name: torch.searchsorted(each, limits.to(each.device)).tolist() for name, each in pairs.items()}
            for part in pool.against(block):
                for name, values in part.by_metric.items():
                    low, high = here[name]
                    mine = pairs[name][low:high].cpu().numpy()
                    query, column, which = columns_of(
                        Pairs(mine // self._size - block.first, mine % self._size), part.items
                    )
                    peak = self._peaks[name][block.first + query]
                    found[name][low + which] = _normalised(values[query, column], peak)
            advance(block.count)
        return found


def _normalised(distances: torch.Tensor, peaks: torch.Tensor) -> torch.Tensor:
    """Squared distances in parts of the largest of the row; 0 where all are 0."""
    return (distances / torch.where(peaks > 0, peaks, math.inf)).square()


class _StackedMatrix:
    """Two feature matrices of one width, one after the other."""

    def __init__(self, first: FeatureSet, second: FeatureSet) -> None:
        self._first, self._second = first.matrix, second.matrix

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows N and width D."""
        return self._first.shape[0] + self._second.shape[0], self._first.shape[1]

    def take(self, rows: Int64Array) -> Float32Array:
        """The rows at these positions, in this order."""
        count, width = self._first.shape
        taken = np.empty((len(rows), width), dtype=np.float32)
        mine = rows < count
        taken[mine] = self._first.take(rows[mine])
        taken[~mine] = self._second.take(rows[~mine] - count)
        return taken


def pool_of(query: FeatureSet, queries: Tracks, *, gallery: FeatureSet, items: Tracks) -> tuple[FeatureSet, Tracks]:
    """Queries and gallery as one feature set and its items, the queries first."""

    def join(name: str) -> TextArray:
        return text_array([*getattr(query, name), *getattr(gallery, name)])

    features = FeatureSet(
        matrix=_StackedMatrix(query, gallery),
        image_id=join("image_id"),
        track_id=join("track_id"),
        vehicle_id=join("vehicle_id"),
        camera_id=join("camera_id"),
        source=f"{query.source} and {gallery.source}",
    )
    labels = (
        text_array([*getattr(queries.items, name), *getattr(items.items, name)])
        for name in ("ids", "vehicles", "cameras")
    )
    rows = np.concatenate([queries.rows, items.rows + len(query)])
    offsets = np.concatenate([queries.offsets, items.offsets[1:] + queries.offsets[-1]])
    return features, Tracks(Items(*labels), rows, offsets)
