"""Distances between latent representations as blocks of matrix products.

``MCD`` is one minus the cosine; a zero vector has cosine 0 to everything. ``MED`` is the Euclidean distance
by the Gram form ``|q|² + |r|² - 2 q·r``, which loses digits where q and r nearly coincide. Two things are
done against that: both sides are centred on the gallery's mean, and pairs that still cancel are computed
again from their differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

#: Squared distances below this part of |q|² + |r|² are recomputed: the Gram form's error of about 3e-7 of
#: that sum would exceed 1e-5 relative there.
_CANCELLATION = 0.05
#: Pairs recomputed at a time, so that their differences stay in a few tens of megabytes.
_PAIRS = 4096


@dataclass(frozen=True)
class Side:
    """One side's images, ready for products.

    Attributes:
        rows: (n, D) float32.
        squares: (n,) squared length of each row.
    """

    rows: torch.Tensor
    squares: torch.Tensor


class ImageDistance(Protocol):
    """How two blocks of images are compared."""

    def prepare(self, rows: torch.Tensor) -> Side:
        """Bring (n, D) float32 rows into the form that :meth:`between` takes; the rows are not changed."""

    def between(self, query: Side, gallery: Side) -> torch.Tensor:
        """(Q, R) distances."""


class CosineDistance:
    """MCD's ``1 - cos(q, r)``, between 0 and 2."""

    def prepare(self, rows: torch.Tensor) -> Side:
        """Rows of unit length; zero rows stay zero."""
        squares = rows.square().sum(dim=1)
        lengths = squares.sqrt()
        safe = torch.where(lengths > 0, lengths, torch.ones_like(lengths))
        return Side(rows / safe[:, None], squares)

    def between(self, query: Side, gallery: Side) -> torch.Tensor:
        """(Q, R) distances; rounding never makes one negative."""
        return (1 - query.rows @ gallery.rows.T).clamp_(min=0)


class EuclideanDistance:
    """MED's ``|q - r|``.

    Args:
        centre: (D,) vector that is subtracted from both sides; any vector gives the same distances, one amid
            the data gives them with more digits.
    """

    def __init__(self, centre: torch.Tensor) -> None:
        self._centre = centre

    def prepare(self, rows: torch.Tensor) -> Side:
        """Centred rows and their squared lengths."""
        centred = rows - self._centre
        return Side(centred, centred.square().sum(dim=1))

    def between(self, query: Side, gallery: Side) -> torch.Tensor:
        """(Q, R) distances, pairs that cancel computed from their differences."""
        scale = query.squares[:, None] + gallery.squares[None, :]
        squared = torch.addmm(scale, query.rows, gallery.rows.T, alpha=-2)
        cancelled = (squared < _CANCELLATION * scale).nonzero()
        for pairs in cancelled.split(_PAIRS):
            query_index, gallery_index = pairs.unbind(dim=1)
            difference = query.rows[query_index] - gallery.rows[gallery_index]
            squared[query_index, gallery_index] = difference.square().sum(dim=1)
        return squared.clamp_(min=0).sqrt_()
