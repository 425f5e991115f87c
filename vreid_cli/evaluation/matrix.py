"""Scores straight from a matrix of distances, without sorting its rows.

Only the ranks of the query's own vehicle matter, and a rank is a count. Distances are counted in narrow bins;
only in the bins that hold an item of the query's vehicle does order matter, and only there is sorted.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid_cli.errors import DataError
from vreid_cli.evaluation.evaluate import Evaluation, evaluate
from vreid_cli.evaluation.options import EvaluationOptions
from vreid_cli.types.arrays import BoolArray, Int64Array, TextArray, as_matrix, shared_codes, text_array
from vreid_cli.types.rankings import Ranking, RankingBlock, RankingFacts
from vreid_cli.types.tracks import Items

#: Bins a row: more are slower to add up, fewer leave more to sort.
_BINS = 2048
#: Distances at a time: the arrays of a block stay in the caches, and the system does not take them back each time.
_BLOCK = 1 << 18


def evaluate_distances(
    distances: ArrayLike,
    *,
    query_vehicles: Sequence[str | None],
    gallery_vehicles: Sequence[str | None],
    query_cameras: Sequence[str | None] | None = None,
    gallery_cameras: Sequence[str | None] | None = None,
    selves: Sequence[int] | None = None,
    options: EvaluationOptions | None = None,
    seed: int = 0,
) -> Evaluation:
    """Score a matrix of distances of any origin. Ties are broken by gallery order.

    Args:
        distances: (Q, G), smaller is nearer; no NaN.
        query_vehicles: (Q,) identities, None where unknown.
        gallery_vehicles: (G,) identities.
        query_cameras: (Q,) cameras; left out: unknown, so nothing is junk.
        gallery_cameras: (G,) cameras.
        selves: (Q,) gallery position of the query itself, -1 where it is not there.
        options: How to count; there are no scores of thresholds and parts.
        seed: Of the resamples.

    Returns:
        mAP, mINP and CMC as fractions over the valid queries, with the counts behind them.

    Raises:
        DataError: The distances are no matrix of numbers, the shapes do not fit each other, or a distance is NaN.

    Examples:
        >>> found = evaluate_distances(
        ...     np.array([[0.3, 0.1, 0.2], [0.1, 0.2, 0.3]]),
        ...     query_vehicles=["a", "b"],
        ...     gallery_vehicles=["a", "b", "a"],
        ... )
        >>> found.mean_ap, found.cmc[1]
        (0.5416666666666666, 0.0)
    """
    matrix = as_matrix(distances, name="distances")
    queries = _items(query_vehicles, query_cameras)
    gallery = _items(gallery_vehicles, gallery_cameras)
    own = np.asarray(selves if selves is not None else np.full(len(queries), -1), dtype=np.int64)
    expected = {"query": (queries, len(own)), "gallery": (gallery, len(gallery))}
    for axis, (side, (items, positions)) in enumerate(expected.items()):
        sizes = (len(items.vehicles), len(items.cameras), positions)
        if any(size != matrix.shape[axis] for size in sizes):
            lines = ("rows", "columns")[axis]
            raise DataError(f"{matrix.shape[axis]} {lines} of distances for labels of {sizes} {side} items")
    candidates = _Candidates(queries.vehicles, gallery.vehicles, own)
    step = max(1, _BLOCK // max(1, len(gallery)))

    def rank(start: int) -> RankingBlock:
        return _list_candidates(matrix[start : start + step], start, candidates)

    there = {str(query): (str(item),) for query, item in enumerate(own) if item >= 0}
    facts = RankingFacts(coverage="positives", gallery_size=len(gallery), query_count=len(queries), selves=there)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        blocks = pool.map(rank, range(0, len(queries), step))
        return evaluate(Ranking(facts, queries, gallery, blocks), options, seed=seed)


def _items(vehicles: Sequence[str | None], cameras: Sequence[str | None] | None) -> Items:
    names = text_array([str(position) for position in range(len(vehicles))])
    return Items(names, text_array(vehicles), text_array(cameras if cameras is not None else [None] * len(vehicles)))


def _list_candidates(block: NDArray[np.floating], start: int, candidates: _Candidates) -> RankingBlock:
    """The items of each query's vehicle, and the query itself, at their true ranks."""
    query, item = candidates.of(start, len(block))
    rank = _ranks(block, query, item)
    order = np.lexsort((rank, query))
    query, item, rank = query[order], item[order], rank[order]
    near = block[query, item].astype(np.float32)
    return RankingBlock((start + query).astype(np.int32), rank.astype(np.int32), item.astype(np.int32), near)


class _Candidates:
    """The gallery items whose rank can matter to a query: those of its vehicle, and the query itself."""

    def __init__(self, vehicles: TextArray, gallery_vehicles: TextArray, selves: Int64Array) -> None:
        self._own, self._others = shared_codes(vehicles, gallery_vehicles)
        self._by_vehicle = np.argsort(self._others, kind="stable")
        self._ordered = self._others[self._by_vehicle]
        self._selves = selves

    def of(self, start: int, count: int) -> tuple[Int64Array, Int64Array]:
        """Positions of queries from ``start`` on, counted from it, and of the items of each."""
        own = self._own[start : start + count]
        low, high = np.searchsorted(self._ordered, own), np.searchsorted(self._ordered, own, side="right")
        counts = np.where(own >= 0, high - low, 0)
        query = np.repeat(np.arange(count), counts)
        item = self._by_vehicle[np.arange(len(query)) + np.repeat(low - (np.cumsum(counts) - counts), counts)]
        selves = self._selves[start : start + count]
        apart = np.flatnonzero((selves >= 0) & ((own < 0) | (self._others[selves] != own)))
        return np.concatenate([query, apart]), np.concatenate([item, selves[apart]])


def _ranks(block: NDArray[np.floating], query: Int64Array, item: Int64Array) -> Int64Array:
    """1-based rank of each pair's item among all of its row, ties by position."""
    rows, size = block.shape
    low, high = float(block.min(initial=np.inf)), float(block.max(initial=-np.inf))
    if np.isnan(low) or np.isnan(high):
        raise DataError("the distances hold NaN, which has no place in an order")
    bins = _bins(block, low, high)
    bins += np.arange(rows)[:, None] * _BINS
    flat = bins.reshape(-1)
    counts = np.bincount(flat, minlength=rows * _BINS)
    touched: BoolArray = np.zeros(rows * _BINS, dtype=bool)
    touched[bins[query, item]] = True
    # Only what shares a bin with a wanted item must be put in order.
    near = np.flatnonzero(touched[flat])
    near_bins = flat[near]
    order = np.lexsort((block.reshape(-1)[near], near_bins))
    # What is near comes bin by bin, whole bins only, and each bin starts after all that is in those before.
    starts = np.where(touched, np.cumsum(counts) - counts, 0)
    first = np.where(touched, np.cumsum(np.where(touched, counts, 0)) - counts, 0)
    in_order = near_bins[order]
    rank = np.empty(len(near), dtype=np.int64)
    rank[order] = starts[in_order] + np.arange(len(near)) - first[in_order]
    place = np.searchsorted(near, query * size + item)
    ranks: Int64Array = rank[place] - query * size + 1
    return ranks


def _bins(block: NDArray[np.floating], low: float, high: float) -> Int64Array:
    """Bins that rise with the distance: rounding may move a value to the next, but never past another."""
    wide = block.astype(np.result_type(block, np.float32), copy=False)
    scale = (_BINS - 1) / span if (span := high - low) > 0 else np.inf
    if not (np.isfinite(span) and np.isfinite(wide.dtype.type(scale))):
        return np.zeros(block.shape, dtype=np.int64)
    scaled = (wide - wide.dtype.type(low)) * wide.dtype.type(scale)
    bins: Int64Array = np.clip(scaled, 0, _BINS - 1).astype(np.int64)
    return bins
