"""RSCR: how badly a track's images, sparsely combined, rebuild the query's images.

``RSCR(q, r) = |L_q - Γ L_r|`` (Frobenius), each row of Γ the sparse code of one query image. Source: DESIGN
section 6; the sparse codes are :mod:`vreid_cli.ranking.sparse_coding`'s.
"""

from __future__ import annotations

import torch

from vreid_cli.ranking.aggregation import SlotLayout
from vreid_cli.ranking.sparse_coding import solve_codes

#: Problems solved at a time: their arrays then stay in the caches of a CPU.
_PROBLEMS = 1 << 15
#: Residuals below this part of |q| are computed from the vectors: the Gram form loses their digits.
_SMALL_RESIDUAL = 0.1
#: Numbers gathered at a time for that.
_GATHERED = 1 << 23


class ReconstructionResidual:
    """Computes RSCR for blocks of items, and counts what is worth a warning.

    Args:
        alpha: Weight of the codes' absolute values.

    Attributes:
        used: Whether any code was not zero.
        unsolved: Problems whose duality gap did not become small enough.
    """

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha
        self.used = False
        self.unsolved = 0

    def between(
        self, query: torch.Tensor, queries: SlotLayout, *, gallery: torch.Tensor, items: SlotLayout
    ) -> torch.Tensor:
        """Distances of every query item to every gallery item.

        Args:
            query: (Q, D) float32 query images, slot-major.
            queries: Their layout.
            gallery: (R, D) float32 gallery images, slot-major.
            items: Their layout.

        Returns:
            (queries, items) float32, both in the order of their layouts.
        """
        squared = torch.empty(len(query), items.count, dtype=torch.float64, device=query.device)
        for group in items.groups:
            images = group.view(gallery, dim=0)
            squared[:, group.first : group.first + group.count] = self._squared_residuals(query, images)
        distances = torch.empty(queries.count, items.count, device=query.device)
        for group in queries.groups:
            residuals = group.view(squared, dim=0).sum(dim=0).sqrt()
            distances[group.first : group.first + group.count] = residuals.to(torch.float32)
        return distances

    def _squared_residuals(self, query: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """(Q, n) squared residuals of each query image in n tracks of L images each, given as (L, n, D)."""
        length, count, _ = images.shape
        # Rounded to float32, the Gram of images that are combinations of others could be indefinite, and the
        # objective without a minimum. Rounded products would make codes, and the gap they stop at, depend on
        # which images are multiplied together.
        exact = images.to(torch.float64)
        grams = torch.einsum("knd,jnd->kjn", exact, exact)
        step = max(1, _PROBLEMS // (count * max(1, length // 8)))
        pieces = []
        for some in query.split(step):
            rows = some.to(torch.float64)
            squares = rows.square().sum(dim=1)
            # (L, rows, n): the products of one slot's images lie together.
            products = (rows @ exact.flatten(0, 1).T).unflatten(1, (length, count)).movedim(1, 0)
            solved = solve_codes(
                products.flatten(1),
                grams[:, :, None, :].expand(-1, -1, len(rows), -1).flatten(2),
                squares[:, None].expand(-1, count).reshape(-1),
                alpha=self._alpha,
            )
            self.unsolved += solved.unsolved
            self.used = self.used or bool(solved.codes.any())
            residuals = solved.squared_residuals.unflatten(0, (len(rows), count))
            small = (residuals < _SMALL_RESIDUAL**2 * squares[:, None]).nonzero()
            codes = solved.codes.unflatten(1, (len(rows), count))
            _recompute(residuals, small, codes=codes, rows=rows, images=exact)
            pieces.append(residuals)
        return torch.cat(pieces)


def _recompute(
    residuals: torch.Tensor, pairs: torch.Tensor, *, codes: torch.Tensor, rows: torch.Tensor, images: torch.Tensor
) -> None:
    """Replace, in place, squared residuals of (image, track) pairs by those of the vectors themselves.

    Args:
        residuals: (Q, n).
        pairs: (p, 2) positions in it.
        codes: (L, Q, n).
        rows: (Q, D) query images.
        images: (L, n, D) images of the tracks.
    """
    length, _, width = images.shape
    for some in pairs.split(max(1, _GATHERED // (length * width))):
        row, track = some.unbind(dim=1)
        rebuilt = torch.einsum("lp,lpd->pd", codes[:, row, track], images[:, track])
        residuals[row, track] = (rows[row] - rebuilt).square_().sum(dim=1)
