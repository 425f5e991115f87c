"""From labelled distances to the logarithm of a likelihood ratio, isotonic or logistic.

Source of the definitions: docs/definitions.md#calibration.
Both take distances that rise, and give ratios that do not depend on how many pairs of each kind there are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vreid_cli.types.arrays import BoolArray
from vreid_cli.types.calibrations import sigmoid

FloatArray = NDArray[np.float64]
#: Knots and their log-likelihood ratios.
Knots = tuple[FloatArray, FloatArray]
_STEPS = 100
_TOLERANCE = 1e-10


def fit_isotonic(distance: FloatArray, same: BoolArray, weight: FloatArray) -> Knots:
    """Pool adjacent violators: the likeliest ratio at each distance of all that never rise with it.

    One pair of different vehicles nearer than all, and one of the same vehicle farther than all, are added: no number
    of pairs makes certain (Laplace's rule).

    Args:
        distance: (n,) rising.
        same: (n,) whether a pair is of the same vehicle.
        weight: (n,) how many pairs each stands for; 0 for none.

    Returns:
        (k,) knots, two for each block of equal ratios or one where it is a single distance, and (k,) log-likelihood
        ratios.

    Examples:
        >>> same = np.array([True, True, False, True, False, False])
        >>> knots, ratios = fit_isotonic(np.arange(6.0), same, np.ones(6))
        >>> knots.tolist(), ratios.round(3).tolist()
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [0.693, 0.693, 0.0, 0.0, -0.693, -0.693])
    """
    used = weight > 0
    distance, same, weight = distance[used], same[used], weight[used]
    starts = np.flatnonzero(np.diff(distance, prepend=-np.inf) > 0)
    counts = np.stack([np.add.reduceat(np.where(same == kind, weight, 0.0), starts) for kind in (True, False)], axis=1)
    ends = np.append(starts[1:], len(distance)) - 1
    counts[0, 1] += 1
    counts[-1, 0] += 1
    first, last, pooled = _merge_runs(distance[starts], distance[ends], counts)
    blocks: list[list[float]] = []
    for low, high, (a, b) in zip(first.tolist(), last.tolist(), pooled.tolist(), strict=True):
        blocks.append([low, high, a, b])
        # A share that is no smaller than the one before belongs to its block.
        while len(blocks) > 1 and blocks[-2][2] * blocks[-1][3] <= blocks[-1][2] * blocks[-2][3]:
            _, end, more_a, more_b = blocks.pop()
            blocks[-1][1] = end
            blocks[-1][2] += more_a
            blocks[-1][3] += more_b
    total = pooled.sum(axis=0)
    knots, ratios = [], []
    for low, high, a, b in blocks:
        ratio = float(np.log(a / b) - np.log(total[0] / total[1]))
        for knot in dict.fromkeys((low, high)):
            knots.append(knot)
            ratios.append(ratio)
    return np.array(knots), np.array(ratios)


def _merge_runs(first: FloatArray, last: FloatArray, counts: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Neighbours of one kind alone as one: they are of one block in the end, and pooling them singly is slow."""
    kind = np.where(counts[:, 1] == 0, 1, np.where(counts[:, 0] == 0, -1, 0))
    begins = np.flatnonzero((kind == 0) | (kind != np.concatenate([[2], kind[:-1]])))
    ends = np.append(begins[1:], len(kind)) - 1
    return first[begins], last[ends], np.add.reduceat(counts, begins, axis=0)


def fit_logistic(distance: FloatArray, same: BoolArray, weight: FloatArray) -> Knots:
    """Platt's logistic regression on the distance, by Newton's method.

    Args:
        distance: (n,) rising, not all equal.
        same: (n,) whether a pair is of the same vehicle.
        weight: (n,) how many pairs each stands for; 0 for none.

    Returns:
        Two knots, the nearest and the farthest distance, and their log-likelihood ratios: between them it is linear.

    Examples:
        >>> same = np.array([True, True, False, True, False, False])
        >>> knots, ratios = fit_logistic(np.arange(6.0), same, np.ones(6))
        >>> knots.tolist(), bool(ratios[0] > 0 > ratios[1])
        ([0.0, 5.0], True)
    """
    used = weight > 0
    distance, same, weight = distance[used], same[used], weight[used]
    totals = np.array([weight[same].sum(), weight[~same].sum()])
    # Platt's targets: with 0 and 1, distances that part both kinds without error would have no finite answer.
    target = np.where(same, (totals[0] + 1) / (totals[0] + 2), 1 / (totals[1] + 2))
    ends = np.array([distance[0], distance[-1]])
    middle, spread = ends.mean(), np.ptp(ends) / 2
    columns = np.stack([np.ones_like(distance), (distance - middle) / spread])
    offset = float(np.log(totals[0] / totals[1]))
    factors = maximise_likelihood(columns, target, weight, start=np.array([offset, 0.0]))
    return ends, factors[0] - offset + factors[1] * (ends - middle) / spread


def maximise_likelihood(
    columns: FloatArray, target: FloatArray, weight: FloatArray, *, start: FloatArray, ridge: float = 1e-9
) -> FloatArray:
    """Logistic regression by damped Newton steps.

    Args:
        columns: (m, n) the regressors.
        target: (n,) between 0 and 1.
        weight: (n,) of each row.
        start: (m,) where to begin.
        ridge: Holds back factors that nothing determines.

    Returns:
        (m,) factors.
    """

    def loss(factors: FloatArray) -> float:
        odds = factors @ columns
        # ln(1 + exp(x)) - t x, without overflow.
        each = np.maximum(odds, 0) + np.log1p(np.exp(-np.abs(odds))) - target * odds
        return float(weight @ each) + ridge * float(factors @ factors) / 2

    factors, current = start.astype(np.float64), loss(start)
    for _ in range(_STEPS):
        found = sigmoid(factors @ columns)
        slope = columns @ (weight * (found - target)) + ridge * factors
        bend = (columns * (weight * found * (1 - found))) @ columns.T + ridge * np.eye(len(factors))
        step, size = np.linalg.solve(bend, slope), 1.0
        while (then := loss(factors - size * step)) > current and size > _TOLERANCE:
            size /= 2
        gain, current = current - then, min(current, then)
        factors = factors - size * step if gain > 0 else factors
        if gain <= _TOLERANCE * max(1.0, abs(current)):
            break
    return factors
