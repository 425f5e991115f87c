"""RSCR: how badly a track's images, sparsely combined, rebuild the query's images.

``RSCR(q, r) = |L_q - Γ L_r|`` (Frobenius), each row of Γ the sparse code of one query image. Definition:
``docs/definitions.md#rscr``; the sparse codes are :mod:`vreid_cli.ranking.sparse_coding`'s.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from vreid_cli.ranking.diagnostics import Diagnostics
from vreid_cli.ranking.engine import Block
from vreid_cli.ranking.options import RankingOptions
from vreid_cli.ranking.sparse_coding import solve_codes

FloatArray = NDArray[np.float64]

#: Problems solved at a time: their arrays then stay in the caches of a CPU.
_PROBLEMS = 1 << 15
#: Residuals below this part of |q| are computed from the vectors: the Gram form loses their digits.
_SMALL_RESIDUAL = 0.1
#: Numbers gathered at a time for that.
_GATHERED = 1 << 23


def reconstruction_residuals(
    query: Block, gallery: Block, *, options: RankingOptions
) -> tuple[torch.Tensor, Diagnostics]:
    """RSCR of every query item and every gallery item.

    Args:
        query: The query items.
        gallery: The gallery items.
        options: ``alpha`` is the weight of the codes' absolute values.

    Returns:
        (queries, items) float32, both in the order of their layouts; and counts of codes.
    """
    images, layout = query.side.original, gallery.layout
    squared = torch.empty(len(images), layout.count, dtype=torch.float64, device=images.device)
    diagnostics = Diagnostics()
    for group in layout.groups:
        tracks = group.view(gallery.side.original, dim=0)
        residuals, noticed = _squared_residuals(images, tracks, alpha=options.alpha)
        squared[:, group.first : group.first + group.count] = residuals
        diagnostics += noticed
    distances = torch.empty(query.layout.count, layout.count, device=images.device)
    for group in query.layout.groups:
        summed = group.view(squared, dim=0).sum(dim=0).sqrt()
        distances[group.first : group.first + group.count] = summed.to(torch.float32)
    return distances, diagnostics


def sparse_codes(query: FloatArray, gallery: FloatArray, *, alpha: float) -> tuple[FloatArray, FloatArray]:
    """Γ of one pair of tracks, and how far each query image is from what it rebuilds.

    Args:
        query: (N_q, D) images.
        gallery: (N_r, D) images.
        alpha: Weight of the codes' absolute values.

    Returns:
        (N_q, N_r) codes and (N_q,) residuals: RSCR is the root of the sum of their squares.

    Examples:
        >>> codes, residuals = sparse_codes(np.array([[3.0, 4.0]]), np.array([[1.0, 0.0]]), alpha=1.0)
        >>> codes.tolist(), (residuals**2).tolist()
        ([[2.0]], [17.0])
    """
    rows, images = torch.from_numpy(query), torch.from_numpy(gallery)
    products, grams = (images @ rows.T)[:, None], (images @ images.T)[None]
    solved = solve_codes(products, grams, rows.square().sum(dim=1), alpha=alpha)
    codes = solved.codes[:, 0].T
    return codes.numpy(), torch.linalg.vector_norm(rows - codes @ images, dim=1).numpy()


def _squared_residuals(query: torch.Tensor, images: torch.Tensor, *, alpha: float) -> tuple[torch.Tensor, Diagnostics]:
    """(Q, n) squared residuals of each query image in n tracks of L images each, given as (L, n, D)."""
    length, count, _ = images.shape
    # Rounded to float32, the Gram of images that are combinations of others could be indefinite, and the
    # objective without a minimum. Rounded products would make codes, and the gap they stop at, depend on
    # which images are multiplied together.
    exact = images.to(torch.float64)
    grams = torch.einsum("ktd,jtd->tkj", exact, exact)
    step = max(1, _PROBLEMS // (count * max(1, length // 8)))
    pieces, noticed = [], Diagnostics()
    for some in query.split(step):
        rows = some.to(torch.float64)
        squares = rows.square().sum(dim=1)
        products = (exact.flatten(0, 1) @ rows.T).unflatten(0, (length, count))
        solved = solve_codes(products, grams, squares, alpha=alpha)
        noticed += Diagnostics(nonzero_codes=int(solved.codes.count_nonzero()), unsolved_codes=solved.unsolved)
        residuals = solved.squared_residuals
        small = (residuals < _SMALL_RESIDUAL**2 * squares).nonzero()
        _recompute(residuals, small, codes=solved.codes, rows=rows, images=exact)
        pieces.append(residuals.T)
    return torch.cat(pieces), noticed


def _recompute(
    residuals: torch.Tensor, pairs: torch.Tensor, *, codes: torch.Tensor, rows: torch.Tensor, images: torch.Tensor
) -> None:
    """Replace, in place, (n, Q) residuals at (p, 2) pairs, given (L, n, Q) codes, (Q, D) rows, (L, n, D) images."""
    length, _, width = images.shape
    for some in pairs.split(max(1, _GATHERED // (length * width))):
        track, row = some.unbind(dim=1)
        rebuilt = torch.einsum("lp,lpd->pd", codes[:, track, row], images[:, track])
        residuals[track, row] = (rows[row] - rebuilt).square_().sum(dim=1)
