"""Why two items are as far apart as they are: the distances between their images, and which of them decide.

The ranking computes millions of pairs and keeps one number of each. Here one pair is computed again, in float64 and
by the definitions as they are written. Definitions: ``docs/definitions.md#why-a-match``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid_cli.ranking.metrics import AGGREGATIONS, DISTANCES, Metric
from vreid_cli.types.arrays import Float32Array, Int64Array
from vreid_cli.types.lazy import load
from vreid_cli.types.rankings import Definition

FloatArray = NDArray[np.float64]

#: Numbers that a sum over kept distances spells out before it is cut.
_SPELLED = 12


@dataclass(frozen=True, eq=False)
class PairDistances:
    """One pair of items, image by image.

    Attributes:
        metric: What the pair is compared by.
        cells: (N_q, N_r) what stands between each query image and each gallery image.
        shows: What a cell is: the name of a distance, or ``code``.
        counts: (N_q, N_r) how often each cell is counted: the value is the mean of the cells, each counted so often.
            All 0 where no single images decide, as for a distance between whole tracks.
        value: The metric's value; None where only whole tracks have one.
        spelled: The value as it comes from the cells that decide, in words.
    """

    metric: Metric
    cells: FloatArray
    shows: str
    counts: Int64Array
    value: float | None
    spelled: str

    def decisive(self, side: int) -> Int64Array:
        """Positions of the query's (side 0) or the gallery item's (side 1) images that decide."""
        return np.flatnonzero(self.counts.any(axis=1 - side))


def explain_pair(
    query: Float32Array,
    gallery: Float32Array,
    metric: Metric,
    *,
    definition: Definition = "paper",
    alpha: float = 1.0,
) -> PairDistances:
    """Compute one pair as the definitions say, and keep what decides.

    Args:
        query: (N_q, D) features of the query's images.
        gallery: (N_r, D) features of the gallery item's images.
        metric: What to compare by.
        definition: ``paper`` or ``released``.
        alpha: RSCR's weight of the codes' absolute values.

    Examples:
        >>> query, gallery = np.array([[0.0, 0], [3, 4]]), np.array([[0.0, 1], [3, 0]])
        >>> pair = explain_pair(query, gallery, Metric("meanMED", "MED", "mean"))
        >>> pair.cells.round(2).tolist(), pair.counts.tolist()
        ([[1.0, 3.0], [4.24, 4.0]], [[1, 0], [0, 1]])
        >>> pair.spelled
        'meanMED = (1.0000 + 4.0000) / 2 = 2.5000'
    """
    one, other = query.astype(np.float64), gallery.astype(np.float64)
    nothing = np.zeros((len(one), len(other)), dtype=np.int64)
    if DISTANCES[metric.distance].between == "tracks":
        explain = DISTANCES[metric.distance].explain
        if explain is None:
            said = f"{metric.name} is a distance between whole tracks: no single images decide it"
            return PairDistances(metric, image_distances(one, other, "MED"), "MED", nothing, None, said)
        codes, residuals = load(explain)(one, other, alpha=alpha)
        value = float(np.sqrt(np.square(residuals).sum()))
        said = f"{metric.name} = {_root_of_squares(residuals)} = {number(value)}"
        return PairDistances(metric, codes, "code", nothing, value, said)
    cells = image_distances(one, other, metric.distance)
    counts = _counts(cells, metric.aggregation or "min", released=definition == "released")
    value = float((counts * cells).sum() / counts.sum())
    return PairDistances(metric, cells, metric.distance, counts, value, _spell(metric, cells, counts, value=value))


def image_distances(query: FloatArray, gallery: FloatArray, distance: str) -> FloatArray:
    """(N_q, N_r) distances of (N_q, D) and (N_r, D) images, by a name in the table of distances.

    Examples:
        >>> image_distances(np.array([[0.0, 2], [0, 0]]), np.array([[3.0, 0], [0, 1]]), "MCD").tolist()
        [[1.0, 0.0], [1.0, 1.0]]
    """
    function = DISTANCES[distance].function
    if function is not None and DISTANCES[distance].between == "images":
        import torch  # reports of other things than pairs need not wait for it

        tensors = (torch.from_numpy(side.astype(np.float32)) for side in (query, gallery))
        found: FloatArray = load(function)(*tensors).double().numpy()
        return found
    if distance == "MCD":
        query, gallery = (_directions(side) for side in (query, gallery))
    # Row by row: the differences of two long tracks would fill the memory.
    squares: FloatArray = np.array([np.square(gallery - row).sum(axis=1) for row in query])
    if distance != "MCD":
        squares **= 0.5
        return squares
    # Half the squared distance of two directions is one minus their cosine, without the digits that 1 - cos loses.
    squares /= 2
    squares[(query == 0).all(axis=1)] = 1.0
    squares[:, (gallery == 0).all(axis=1)] = 1.0
    return squares


def thin_pair(pair: PairDistances, most: int) -> tuple[Int64Array, Int64Array]:
    """Positions of at most ``most`` images of each side: first those that decide, then others, evenly.

    Examples:
        >>> pair = explain_pair(np.eye(9)[:7], np.eye(9)[6:], Metric("minMCD", "MCD", "min"))
        >>> [side.tolist() for side in thin_pair(pair, 3)]
        [[0, 5, 6], [0, 1, 2]]
    """
    kept = []
    for side, count in enumerate(pair.cells.shape):
        first = _evenly(pair.decisive(side), most)
        rest = np.setdiff1d(np.arange(count), first)
        kept.append(np.sort(np.concatenate([first, _evenly(rest, most - len(first))])))
    return kept[0], kept[1]


def number(value: float) -> str:
    """A distance with four decimals, or of large ones two, as everything that shows a pair writes it.

    Examples:
        >>> number(0.35736), number(46.111)
        ('0.3574', '46.11')
    """
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def _evenly(positions: Int64Array, most: int) -> Int64Array:
    if len(positions) <= most:
        return positions
    return positions[np.linspace(0, len(positions) - 1, max(0, most)).astype(np.int64)]


def _directions(rows: FloatArray) -> FloatArray:
    # Of very large or small numbers the squares are beyond the range: the largest is brought to 1 first.
    peaks = np.abs(rows).max(axis=1, keepdims=True, initial=0)
    scaled = np.divide(rows, peaks, out=np.zeros_like(rows), where=peaks > 0)
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    unit: FloatArray = np.divide(scaled, lengths, out=scaled, where=lengths > 0)
    return unit


def _counts(cells: FloatArray, aggregation: str, *, released: bool) -> Int64Array:
    """(N_q, N_r) how often each cell is among the values whose mean the aggregate is."""
    height, width = cells.shape
    if released:
        # Of each gallery image in order, the cell of the running minimum at every step over the query's images.
        lower = np.ones(cells.shape, dtype=bool)
        lower[1:] = cells[1:] < np.minimum.accumulate(cells, axis=0)[:-1]
        rows = np.maximum.accumulate(np.where(lower, np.arange(height)[:, None], 0), axis=0)
        noted = (rows * width + np.arange(width)).T.ravel()
    else:
        noted = np.arange(height) * width + cells.argmin(axis=1)
    places = list(AGGREGATIONS[aggregation](len(noted)))
    kept = noted[np.argsort(cells.ravel()[noted], kind="stable")[places]]
    return np.bincount(kept, minlength=cells.size).reshape(cells.shape).astype(np.int64)


def _spell(metric: Metric, cells: FloatArray, counts: Int64Array, *, value: float) -> str:
    rows, columns = np.nonzero(counts)
    if len(rows) == 1:
        where = f"query image {rows[0] + 1} and gallery image {columns[0] + 1}"
        return f"{metric.name} = {number(value)}, between {where}"
    order = np.argsort(cells[rows, columns], kind="stable")
    kept = zip(cells[rows, columns][order], counts[rows, columns][order], strict=True)
    terms = [number(cell) if times == 1 else f"{times} × {number(cell)}" for cell, times in kept]
    return f"{metric.name} = ({_sum(terms)}) / {counts.sum()} = {number(value)}"


def _root_of_squares(residuals: FloatArray) -> str:
    return f"sqrt({_sum([f'{number(residual)}^2' for residual in residuals])})"


def _sum(terms: list[str]) -> str:
    """The terms with plus signs between them; of many the first and the last."""
    if len(terms) > _SPELLED:
        half = _SPELLED // 2
        terms = [*terms[:half], f"… {len(terms) - 2 * half} more …", *terms[-half:]]
    return " + ".join(terms)
