"""Distances between latent representations as blocks of matrix products.

``MCD`` is one minus the cosine; a zero vector has cosine 0 to everything. ``MED`` is the Euclidean distance
by the Gram form ``|q|² + |r|² - 2 q·r``, which loses digits where q and r nearly coincide. Two things are
done against that: both sides are centred near the gallery's mean, and pairs that still cancel are computed
again from the differences of the rows as they came.
"""

from __future__ import annotations

import math
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
        rows: (n, D) float32, brought into the form that products need.
        squares: (n,) squared length of each of these rows.
        original: (n, D) float32, as they came.
    """

    rows: torch.Tensor
    squares: torch.Tensor
    original: torch.Tensor


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
        # The squares of very long or short rows are beyond float32; those of rows with peak 1 never are.
        peaks = torch.linalg.vector_norm(rows, ord=math.inf, dim=1, keepdim=True)
        unit = rows / torch.where(peaks > 0, peaks, 1.0)
        lengths = torch.linalg.vector_norm(unit, dim=1, keepdim=True)
        unit /= torch.where(lengths > 0, lengths, 1.0)
        return Side(unit, (lengths[:, 0] > 0).to(rows.dtype), rows)

    def between(self, query: Side, gallery: Side) -> torch.Tensor:
        """(Q, R) distances; rounding never takes one out of bounds."""
        return (1 - query.rows @ gallery.rows.T).clamp_(min=0, max=2)


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
        return Side(centred, centred.square().sum(dim=1), rows)

    def between(self, query: Side, gallery: Side) -> torch.Tensor:
        """(Q, R) distances, pairs that cancel computed from their differences."""
        scale = query.squares[:, None] + gallery.squares[None, :]
        squared = torch.addmm(scale, query.rows, gallery.rows.T, alpha=-2)
        cancelled = (squared < _CANCELLATION * scale).nonzero()
        for pairs in cancelled.split(_PAIRS):
            query_index, gallery_index = pairs.unbind(dim=1)
            # Centring rounds each row by itself, so the centred rows have lost these digits already.
            difference = query.original[query_index] - gallery.original[gallery_index]
            squared[query_index, gallery_index] = difference.square().sum(dim=1)
        return squared.clamp_(min=0).sqrt_()


def coarse_mean(rows: torch.Tensor) -> torch.Tensor:
    """The mean of (n, D) rows, rounded to a power of two of the size of their spread.

    It lies amid the data as the mean itself does, but has few digits: what is subtracted then leaves whole
    numbers whole, so that distances which are equal by their nature come out equal.
    """
    mean = rows.mean(dim=0)
    spread = float((rows - mean).square().mean().sqrt())
    if not math.isfinite(spread) or spread == 0:
        return mean
    step = 2.0 ** math.floor(math.log2(spread))
    return (mean / step).round() * step
