"""Scores straight from a matrix of distances, without sorting its rows.

Only the ranks of the query's own vehicle matter, and a rank is a count. Distances are counted in narrow bins;
only in the bins that hold an item of the query's vehicle does order matter, and only there is sorted.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid_cli.errors import DataError
from vreid_cli.evaluation.scores import Evaluation, QueryScores, score_queries, summarise
from vreid_cli.types.arrays import BoolArray, Int64Array, TextArray, shared_codes, text_array
from vreid_cli.types.truth import ApRule, JudgedRows, SameCamera

#: Bins a row: more are slower to add up, fewer leave more to sort.
_BINS = 2048
#: Distances at a time: the arrays of a block stay in the caches, and the system does not take them back each time.
_BLOCK = 1 << 18


@dataclass(frozen=True)
class _Labels:
    """Labels of both sides as numbers, -1 where unknown, and the gallery ordered by vehicle."""

    vehicles: tuple[Int64Array, Int64Array]
    cameras: tuple[Int64Array, Int64Array]
    by_vehicle: Int64Array
    selves: Int64Array


def evaluate_distances(
    distances: NDArray[np.floating],
    *,
    query_vehicles: Sequence[str | None],
    gallery_vehicles: Sequence[str | None],
    query_cameras: Sequence[str | None] | None = None,
    gallery_cameras: Sequence[str | None] | None = None,
    selves: Sequence[int] | None = None,
    same_camera: SameCamera = "drop",
    ap_rule: ApRule = "rectangle",
    ranks: Sequence[int] = (1, 5, 10, 20),
) -> Evaluation:
    """Score a matrix of distances of any origin. Ties are broken by gallery order.

    Args:
        distances: (Q, G), smaller is nearer; no NaN.
        query_vehicles: (Q,) identities, None where unknown.
        gallery_vehicles: (G,) identities.
        query_cameras: (Q,) cameras; left out: unknown, so nothing is junk.
        gallery_cameras: (G,) cameras.
        selves: (Q,) gallery position of the query itself, -1 where it is not there.
        same_camera: ``drop`` leaves out items of the query's vehicle by the query's camera; ``keep`` counts them.
        ap_rule: ``rectangle`` or ``trapezoid``.
        ranks: Ranks at which CMC is wanted.

    Returns:
        mAP, mINP and CMC as fractions over the valid queries, with the counts behind them.

    Raises:
        DataError: The shapes do not fit each other, or a distance is NaN.
    """
    queries, items = (text_array(list(names)) for names in (query_vehicles, gallery_vehicles))
    unknown = [None] * max(distances.shape)
    cameras = [
        text_array(list(given) if given is not None else unknown[: len(side)])
        for given, side in ((query_cameras, queries), (gallery_cameras, items))
    ]
    own = np.asarray(selves if selves is not None else np.full(len(queries), -1), dtype=np.int64)
    expected = {"query": (len(queries), len(cameras[0]), len(own)), "gallery": (len(items), len(cameras[1]))}
    for axis, (side, sizes) in enumerate(expected.items()):
        if any(size != distances.shape[axis] for size in sizes):
            raise DataError(f"{distances.shape[axis]} rows of distances for labels of {sizes} {side} items")
    vehicles = shared_codes(queries, items)
    labels = _Labels(vehicles, shared_codes(*cameras), np.argsort(vehicles[1], kind="stable"), own)

    def score(start: int) -> QueryScores:
        rows = _judge_block(distances[start : start + step], start, labels, queries)
        return score_queries(rows, same_camera=same_camera, ap_rule=ap_rule)

    step = max(1, _BLOCK // max(1, len(items)))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        scores = list(pool.map(score, range(0, len(queries), step)))
    return summarise(scores, ranks=ranks, coverage="positives", query_count=len(queries))


def _judge_block(block: NDArray[np.floating], start: int, labels: _Labels, names: TextArray) -> JudgedRows:
    """The items of each query's vehicle, and the query itself, at their true ranks."""
    query, item = _pairs(labels, start, len(block))
    rank = _ranks(block, query, item)
    order = np.lexsort((rank, query))
    query, item, rank = query[order], item[order], rank[order]
    own, others = labels.vehicles[0][start + query], labels.vehicles[1][item]
    seen, by = labels.cameras[0][start + query], labels.cameras[1][item]
    return JudgedRows(
        query_ids=text_array([str(start + i) for i in range(len(block))]),
        vehicles=names[start : start + len(block)],
        query=query.astype(np.int32),
        rank=rank.astype(np.int32),
        same_vehicle=(own == others) & (own >= 0),
        same_camera=(seen == by) & (seen >= 0),
        is_self=labels.selves[start + query] == item,
    )


def _pairs(labels: _Labels, start: int, count: int) -> tuple[Int64Array, Int64Array]:
    """Each query of the block with the items of its vehicle, and with itself where it has another label."""
    own = labels.vehicles[0][start : start + count]
    ordered = labels.vehicles[1][labels.by_vehicle]
    low, high = np.searchsorted(ordered, own), np.searchsorted(ordered, own, side="right")
    counts = np.where(own >= 0, high - low, 0)
    query = np.repeat(np.arange(count), counts)
    item = labels.by_vehicle[np.arange(len(query)) + np.repeat(low - (np.cumsum(counts) - counts), counts)]
    selves = labels.selves[start : start + count]
    apart = np.flatnonzero((selves >= 0) & ((own < 0) | (labels.vehicles[1][selves] != own)))
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
