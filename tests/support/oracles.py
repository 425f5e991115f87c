"""Brute-force oracles: the definitions as they are written, in plain loops and float64, without vreid's code."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso

Matrix = NDArray[np.floating]

#: What the contract allows against these oracles.
MED_RELATIVE = 1e-5
MCD_ABSOLUTE = 2e-6

#: Metric name -> distance between images, aggregation, whether only the smaller half is kept.
TRACK_METRICS: dict[str, tuple[str, str, bool]] = {
    "minMED": ("MED", "min", False),
    "meanMED": ("MED", "mean", False),
    "medMED": ("MED", "med", False),
    "meanMED50": ("MED", "mean", True),
    "medMED50": ("MED", "med", True),
    "minMCD": ("MCD", "min", False),
    "meanMCD": ("MCD", "mean", False),
    "medMCD": ("MCD", "med", False),
    "meanMCD50": ("MCD", "mean", True),
    "medMCD50": ("MCD", "med", True),
}


# -- distances -----------------------------------------------------------------------------------------------


def image_distance(one: Matrix, other: Matrix, distance: str) -> float:
    """MED or MCD between two images."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    if distance == "MED":
        return math.sqrt(float(((a - b) ** 2).sum()))
    lengths = math.sqrt(float((a * a).sum())) * math.sqrt(float((b * b).sum()))
    return 1.0 - (float((a * b).sum()) / lengths if lengths else 0.0)


def image_to_track(image: Matrix, track: Matrix, distance: str) -> float:
    """The distance to the track's nearest image."""
    return min(image_distance(image, other, distance) for other in track)


def aggregate(values: Sequence[float], how: str, *, half: bool) -> float:
    """Minimum, mean or median of all values, or of the floor(n / 2) + 1 smallest."""
    kept = sorted(values)[: math.floor(len(values) / 2) + 1] if half else list(values)
    return float({"min": np.min, "mean": np.mean, "med": np.median}[how](kept))


def paper_distance(query: Matrix, track: Matrix, metric: str) -> float:
    """Track to track, by the paper's formula."""
    distance, how, half = TRACK_METRICS[metric]
    return aggregate([image_to_track(image, track, distance) for image in query], how, half=half)


def released_distance(query: Matrix, track: Matrix, metric: str) -> float:
    """Track to track, as the authors' released code goes about it."""
    distance, how, half = TRACK_METRICS[metric]
    noted = []
    for gallery_image in track:
        running = math.inf
        for query_image in query:
            running = min(running, image_distance(query_image, gallery_image, distance))
            noted.append(running)
    return aggregate(noted, how, half=half)


def track_distance(query: Matrix, track: Matrix, metric: str, definition: str) -> float:
    """Track to track under either definition."""
    return (paper_distance if definition == "paper" else released_distance)(query, track, metric)


# -- RSCR -----------------------------------------------------------------------------------------------------


def residual_norm(query: Matrix, track: Matrix, alpha: float) -> float:
    """The definition: each query image's Lasso on its own, then the Frobenius norm of what is left."""
    residuals = []
    for image in query.astype(np.float64):
        lasso = Lasso(alpha=alpha / image.size, fit_intercept=False, tol=1e-10, max_iter=1_000_000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            code = lasso.fit(track.astype(np.float64).T, image).coef_
        residuals.append(image - code @ track)
    return float(np.linalg.norm(residuals))


# -- evaluation ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One gallery item of a query's list, nearest first."""

    same_vehicle: bool
    same_camera: bool
    is_self: bool

    def left_out(self, same_camera: str) -> bool:
        return self.is_self or (same_camera == "drop" and self.same_vehicle and self.same_camera)


def counted(entries: Sequence[Entry], same_camera: str) -> list[bool]:
    """For each item that counts, nearest first: whether it is a positive."""
    return [entry.same_vehicle for entry in entries if not entry.left_out(same_camera)]


def rectangle_ap(positive: Sequence[bool]) -> float:
    """Mean of the precisions at the positives."""
    hits, total = 0, 0.0
    for rank, hit in enumerate(positive, start=1):
        if hit:
            hits += 1
            total += hits / rank
    return total / hits


def market_ap(entries: Sequence[Entry], same_camera: str) -> float:
    """Market-1501's compute_AP, walked as it is written: good and junk index, old and new recall and precision."""
    junk = {n for n, entry in enumerate(entries) if entry.left_out(same_camera)}
    good = {n for n, entry in enumerate(entries) if entry.same_vehicle} - junk
    old_recall, old_precision, total = 0.0, 1.0, 0.0
    intersection, place = 0, 0
    for n in range(len(entries)):
        if n in junk:
            continue
        if n in good:
            intersection += 1
        recall, precision = intersection / len(good), intersection / (place + 1)
        total += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision = recall, precision
        place += 1
    return total


@dataclass(frozen=True)
class Scores:
    """Means over the valid queries; None without one."""

    mean_ap: float | None
    mean_inp: float | None
    cmc: dict[int, float | None]
    valid: int
    positives: int
    junk: int


def evaluate(lists: Sequence[Sequence[Entry]], *, same_camera: str, ap_rule: str, ranks: Sequence[int]) -> Scores:
    """Walk every query's whole list; items of an unlabelled query are never of the same vehicle."""
    precisions, penalties, firsts = [], [], []
    for entries in lists:
        positive = counted(entries, same_camera)
        if not any(positive):
            continue
        precisions.append(rectangle_ap(positive) if ap_rule == "rectangle" else market_ap(entries, same_camera))
        found = [rank for rank, hit in enumerate(positive, start=1) if hit]
        penalties.append(len(found) / found[-1])
        firsts.append(found[0])

    def mean(values: Sequence[float]) -> float | None:
        return sum(values) / len(values) if values else None

    return Scores(
        mean_ap=mean(precisions),
        mean_inp=mean(penalties),
        cmc={k: mean([float(first <= k) for first in firsts]) for k in ranks},
        valid=len(firsts),
        positives=sum(sum(counted(entries, same_camera)) for entries in lists),
        junk=sum(entry.left_out(same_camera) for entries in lists for entry in entries),
    )


# -- re-ranking ----------------------------------------------------------------------------------------------


def rerank(distances: Matrix, queries: int, *, k1: int, k2: int, lambda_value: float) -> Matrix:
    """k-reciprocal encoding as its paper goes about it, all in dense matrices and sets.

    Args:
        distances: (n, n) between all items, the queries first.
        queries: How many of them are queries.

    Returns:
        (queries, n - queries) new distances.
    """
    n = len(distances)
    squared = distances.astype(np.float64) ** 2
    normal = squared / squared.max(axis=1, keepdims=True)
    order = np.argsort(distances, axis=1, kind="stable")

    def reciprocal(i: int, k: int) -> set[int]:
        return {int(j) for j in order[i, : k + 1] if i in order[j, : k + 1]}

    codes = np.zeros((n, n))
    for i in range(n):
        neighbours = reciprocal(i, k1)
        expanded = set(neighbours)
        for j in neighbours:
            others = reciprocal(j, round(k1 / 2))
            if len(others & neighbours) > 2 / 3 * len(others):
                expanded |= others
        members = sorted(expanded)
        weights = np.exp(-normal[i, members])
        codes[i, members] = weights / weights.sum()
    if k2 > 1:
        codes = np.stack([codes[order[i, :k2]].mean(axis=0) for i in range(n)])
    final = np.empty((queries, n - queries))
    for i in range(queries):
        for j in range(queries, n):
            low, high = np.minimum(codes[i], codes[j]).sum(), np.maximum(codes[i], codes[j]).sum()
            final[i, j - queries] = (1 - lambda_value) * (1 - low / high) + lambda_value * normal[i, j]
    return final
