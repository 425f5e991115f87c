"""Sparse codes of query images in the images of a track, for many (image, track) problems at once.

Each problem is a Lasso: minimise ``½ |q - γ L|² + α |γ|₁`` over γ. With the Gram matrix ``G = L Lᵀ`` and the
products ``c = L q`` its size is that of the track, not that of the LR. A problem is attacked from two sides:
coordinate descent, which always gets nearer, and, from the signs that it has found, the exact solution of
the linear system that those signs imply, or the way there as far as the signs hold. Whichever has the lowest
objective goes on. Problems whose duality gap is small enough leave; the others go round again.

Arrays are laid out with the track's images first and the problems last, so that every step is one operation
over thousands of problems. Everything is float64: the gap of 1e-6 could not be told in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

#: Relative duality gap at which a problem is solved (``docs/definitions.md#rscr``).
GAP = 1e-6
#: The gap that is aimed at, and the rounding of the gap in parts of |q|²; where that is more, GAP will do.
_FINE_GAP, _ROUNDING = 1e-9, 1e-12
#: Sweeps of coordinate descent between attempts at the exact solution, in small tracks and in large ones. By
#: measurement: fewer find the signs too seldom, more cost more than they save.
_SWEEPS, _SWEEPS_LARGE = 8, 4
#: In large tracks, images for each attempt beyond three: there several codes become zero on the way.
_IMAGES_AN_ATTEMPT = 64
#: Rounds after which a problem is given up; none in any test or benchmark needed a hundredth of them.
_MOST_ROUNDS = 2000
#: Up to this many images linear systems are eliminated, and Grams applied, one scalar at a time over all problems; for
#: larger ones LAPACK, a matrix at a time, is faster. ``tests/benchmarks/rscr.py`` compares the two.
_SMALL = 12
#: What is added to the diagonals, in parts of the largest.
_RIDGE = 1e-12
#: Largest squared length of what the codes make of an image, in parts of the query's, that is believed.
_WILDEST = 1e6


@dataclass(frozen=True)
class SparseCodes:
    """Solutions of m problems.

    Attributes:
        codes: (n, m) float64, the γ of each problem.
        squared_residuals: (m,) float64, ``|q - γ L|²`` by the Gram form; loses digits where it is small.
        unsolved: How many problems were given up before their gap was small enough.
    """

    codes: torch.Tensor
    squared_residuals: torch.Tensor
    unsolved: int


def solve_codes(products: torch.Tensor, grams: torch.Tensor, squares: torch.Tensor, *, alpha: float) -> SparseCodes:
    """Solve m problems in tracks of n images each.

    Args:
        products: (n, m) float64, ``L q`` of each problem.
        grams: (n, n, m) float64, ``L Lᵀ`` of each problem.
        squares: (m,) float64, ``|q|²`` of each problem.
        alpha: Weight of the codes' absolute values, above 0.

    Returns:
        The codes, accurate to a relative duality gap of :data:`GAP`.

    Examples:
        >>> query, track = torch.tensor([3.0, 4.0]).double(), torch.tensor([[1.0, 0.0]]).double()
        >>> products, grams = track @ query[:, None], (track @ track.T)[..., None]
        >>> solved = solve_codes(products, grams, query.square().sum()[None], alpha=1.0)
        >>> solved.codes.tolist(), solved.squared_residuals.tolist()
        ([[2.0]], [17.0])
    """
    codes = torch.zeros_like(products)
    residuals = squares.clone()
    problem = torch.arange(products.shape[1], device=products.device)
    current = _solve_masked(grams, torch.ones_like(products), products)
    current = torch.where(_believable(current, grams, squares), current, 0.0)
    for round_number in range(_MOST_ROUNDS):
        if round_number:
            _descend(current, products, grams, alpha=alpha)
        attempts = 3 + len(products) // _IMAGES_AN_ATTEMPT if len(products) > _SMALL else 1
        # Few problems go round often; in those, many codes may have to become zero one after the other.
        attempts = max(attempts, min(round_number, len(products)))
        for _ in range(attempts):
            current, fitted = _improve(current, products, grams, squares, alpha=alpha)
        squared, solved = _judge(current, fitted, products, squares, alpha=alpha)
        codes[:, problem[solved]] = current[:, solved]
        residuals[problem[solved]] = squared[solved]
        left = ~solved
        if not bool(left.any()):
            return SparseCodes(codes, residuals.clamp_(min=0), 0)
        problem, products, squares = problem[left], products[:, left], squares[left]
        grams, current = grams[:, :, left], current[:, left]
    codes[:, problem], residuals[problem] = current, squared[left]
    return SparseCodes(codes, residuals.clamp_(min=0), len(problem))


def _descend(codes: torch.Tensor, products: torch.Tensor, grams: torch.Tensor, *, alpha: float) -> None:
    """A few sweeps of coordinate descent, in place."""
    count = len(codes)
    # An image that is zero has no use: its code stays zero.
    pivots = torch.where(_diagonal(grams) > 0, _diagonal(grams), torch.inf)
    for _ in range(_SWEEPS_LARGE if count > _SMALL else _SWEEPS):
        for k in range(count):
            rest = products[k] - (grams[k] * codes).sum(dim=0) + grams[k, k] * codes[k]
            codes[k] = torch.nn.functional.softshrink(rest, alpha) / pivots[k]


def _improve(
    codes: torch.Tensor, products: torch.Tensor, grams: torch.Tensor, squares: torch.Tensor, *, alpha: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The codes, or a better point towards the exact solution for their signs, each with ``G γ``.

    Such a point is the solution itself, or where the first code on the way there becomes zero: up to there the
    objective falls, beyond it the signs are no longer those that the solution is for.
    """
    signs = codes.sign()
    active = signs.abs()
    exact = _solve_masked(grams, active, active * (products - alpha * signs))
    crossing = torch.where(exact * codes < 0, codes / (codes - exact), torch.inf)
    part = crossing.amin(dim=0)
    halfway = torch.where(crossing == part, 0.0, codes + part.clamp(max=1) * (exact - codes))
    best, fitted = codes, _apply(grams, codes)
    lowest = _objective(best, fitted, products, squares, alpha=alpha)
    for point in (halfway, exact):
        applied = _apply(grams, point)
        objective = _objective(point, applied, products, squares, alpha=alpha)
        better = (objective < lowest) & _believable(point, grams, squares)
        best, fitted = torch.where(better, point, best), torch.where(better, applied, fitted)
        lowest = torch.where(better, objective, lowest)
    return best, fitted


def _believable(codes: torch.Tensor, grams: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
    """Where codes are small enough that the objective, of terms as large as their squares, keeps its digits."""
    believable: torch.Tensor = (_diagonal(grams) * codes.square()).sum(dim=0) <= _WILDEST * squares
    return believable


def _diagonal(grams: torch.Tensor) -> torch.Tensor:
    """(n, m) squared length of each image."""
    return grams.diagonal(dim1=0, dim2=1).T


def _judge(
    codes: torch.Tensor, fitted: torch.Tensor, products: torch.Tensor, squares: torch.Tensor, *, alpha: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared residual of each problem, and whether its duality gap is small enough.

    The dual point is the residual, scaled down until no image correlates with it by more than alpha.
    """
    size = codes.abs().sum(dim=0)
    along = squares - (codes * products).sum(dim=0)
    squared = along - (codes * (products - fitted)).sum(dim=0)
    strongest = (products - fitted).abs().amax(dim=0)
    scale = (alpha / strongest).clamp_(max=1)
    primal = squared / 2 + alpha * size
    dual = scale * along - scale.square() * squared / 2
    # The gap bounds the error of the residual only as its root, so it is made smaller where rounding allows.
    floor = torch.minimum(GAP * primal.abs(), _ROUNDING * squares)
    return squared, primal - dual <= torch.maximum(floor, _FINE_GAP * primal.abs())


def _objective(
    codes: torch.Tensor, fitted: torch.Tensor, products: torch.Tensor, squares: torch.Tensor, *, alpha: float
) -> torch.Tensor:
    squared = squares + (codes * (fitted - 2 * products)).sum(dim=0)
    return squared / 2 + alpha * codes.abs().sum(dim=0)


def _apply(grams: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """``G γ`` of each problem."""
    if len(codes) > _SMALL:
        return torch.einsum("kjm,jm->km", grams, codes)
    applied = grams[:, 0] * codes[0]
    for j in range(1, len(codes)):
        applied.addcmul_(grams[:, j], codes[j])
    return applied


def _solve_masked(grams: torch.Tensor, active: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """(n, m) solutions of the systems of images that are active, 1 and not 0; the others, right sides too, are 0."""
    # Images that are combinations of others make the system singular. A little on the diagonal leaves its
    # solution finite, and far along the direction in which such images stand in for each other.
    ridge = _RIDGE * _diagonal(grams).amax(dim=0)
    if len(active) <= _SMALL:
        return _eliminate(grams, active, right, ridge=ridge)
    masked = (grams * active[:, None] * active[None, :]).movedim(2, 0)
    factor, failed = torch.linalg.cholesky_ex(masked + torch.diag_embed((1 - active + ridge).T))
    solution = torch.cholesky_solve(right.T.unsqueeze(2), factor).squeeze(2).T
    return torch.where(failed == 0, solution, 0.0)


def _eliminate(grams: torch.Tensor, active: torch.Tensor, right: torch.Tensor, *, ridge: torch.Tensor) -> torch.Tensor:
    """LDLᵀ elimination, a scalar at a time over all problems."""
    count = len(active)
    lower: list[list[torch.Tensor]] = []
    pivots: list[torch.Tensor] = []
    forward: list[torch.Tensor] = []
    for i in range(count):
        scaled: list[torch.Tensor] = []
        for j in range(i):
            entry = grams[i, j] * active[i] * active[j]
            for k in range(j):
                entry.addcmul_(scaled[k], lower[j][k], value=-1)
            scaled.append(entry)
        lower.append([entry / pivots[j] for j, entry in enumerate(scaled)])
        pivot = torch.where(active[i] > 0, grams[i, i] + ridge, torch.ones_like(active[i]))
        value = right[i].clone()
        for j in range(i):
            pivot.addcmul_(scaled[j], lower[i][j], value=-1)
            value.addcmul_(lower[i][j], forward[j], value=-1)
        pivots.append(pivot)
        forward.append(value)
    solution = torch.empty_like(right)
    for i in reversed(range(count)):
        value = forward[i] / pivots[i]
        for j in range(i + 1, count):
            value.addcmul_(lower[j][i], solution[j], value=-1)
        solution[i] = value
    return solution
