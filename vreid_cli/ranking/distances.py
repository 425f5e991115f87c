"""MED and MCD of image pairs from one matrix product.

``MED`` is the Euclidean distance by the Gram form ``|q|² + |r|² - 2 q·r``, ``MCD`` one minus the cosine; a
zero vector has cosine 0 to everything. Both come from the product of rows that are moved to lie around the
origin, because the Gram form loses digits where its terms are large beside their sum. Pairs that still cancel
are computed again from the differences of the rows as they came.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from vreid_cli.ranking.aggregation import SlotLayout, nearest_image
from vreid_cli.ranking.metrics import Distance
from vreid_cli.runtime.products import Product

#: Squared distances below this part of |q|² + |r|² are computed again. The product's error, at most 1.2e-6 of
#: |q| |r| on the paths that are accepted, is 6e-6 of the distance there, and the contract allows 1e-5.
_CANCELLATION = 0.1
#: Rows that moving made longer than this many times their length take the cosine from a product of their own:
#: the error of the shared one, in parts of their length, would be as many times larger squared.
_STRETCHED = 1.2
#: Pairs recomputed at a time, so that their differences stay in a few tens of megabytes.
_PAIRS = 4096
#: Lengths and peaks outside these are brought to about 1 first, or their squares would leave float32.
_SCALES = (2.0**-30, 2.0**30)


@dataclass(frozen=True)
class Frame:
    """How rows are moved before they are multiplied: ``(row - centre) * scale``.

    Attributes:
        centre: (D,) vector amid the data; any vector gives the same distances, this one with more digits.
        scale: A power of two, so that scaling rounds nothing.
    """

    centre: torch.Tensor
    scale: float


@dataclass(frozen=True)
class Side:
    """One side's images, ready for products.

    Attributes:
        original: (n, D) float32, as they came.
        moved: (n, D) float32, in the frame.
        squares: (n,) squared lengths of the moved rows.
        along: (n,) products of the moved rows with the scaled centre.
        inverse: (n,) one over the scaled length of each original row; 0 for a zero row.
        stretched: Whether moving made some row much longer than it was.
    """

    original: torch.Tensor
    moved: torch.Tensor
    squares: torch.Tensor
    along: torch.Tensor
    inverse: torch.Tensor
    stretched: bool

    @property
    def bytes(self) -> int:
        """What the arrays take."""
        tensors = (self.original, self.moved, self.squares, self.along, self.inverse)
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class Workspace:
    """Large arrays that are used again and again, because fresh memory costs more than the arithmetic."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._flat: dict[str, torch.Tensor] = {}

    def take(self, name: str, rows: int, columns: int) -> torch.Tensor:
        """A contiguous (rows, columns) float32 array whose contents are those of the last use of this name."""
        size = rows * columns
        if name not in self._flat or len(self._flat[name]) < size:
            self._flat[name] = torch.empty(size, device=self._device)
        return self._flat[name][:size].view(rows, columns)


class ImageDistances:
    """Computes the distances of query images to the nearest image of each gallery item.

    Args:
        names: ``MED``, ``MCD`` or both.
        product: What computes matrix products.
        frame: How rows are moved.
        workspace: Where the large arrays lie.
    """

    def __init__(self, names: Sequence[Distance], *, product: Product, frame: Frame, workspace: Workspace) -> None:
        self._names = names
        self._product = product
        self._centre = frame.centre * frame.scale
        self._frame = frame
        self._workspace = workspace

    def prepare(self, rows: torch.Tensor) -> Side:
        """Bring (n, D) float32 rows into the frame; they are not changed."""
        frame = self._frame
        moved = rows - frame.centre
        scaled = rows
        if frame.scale != 1:
            moved *= frame.scale
            scaled = rows * frame.scale
        lengths = torch.linalg.vector_norm(scaled, dim=1)
        # The sum, not the square of a rounded length: between whole numbers it is exact.
        squares = moved.square().sum(dim=1)
        stretched = (squares > _STRETCHED**2 * lengths.square()) | ~_tame(lengths)
        if bool(stretched.any()):
            # A row of zeros has the cosine 0 to everything, however far it was moved.
            stretched &= torch.linalg.vector_norm(rows, ord=math.inf, dim=1) > 0
        return Side(
            original=rows,
            moved=moved,
            squares=squares,
            along=torch.mv(moved, self._centre),
            inverse=torch.where(lengths > 0, 1 / lengths, 0.0),
            stretched=bool(stretched.any()),
        )

    def nearest(self, query: Side, gallery: Side, items: SlotLayout) -> Iterator[tuple[Distance, torch.Tensor]]:
        """Each distance's name with its (Q, items) values; they are valid until the next one is asked for.

        Args:
            query: (Q, D) images.
            gallery: (R, D) images, slot-major.
            items: Layout of the gallery images; the items come in its order.
        """
        shape = len(query.moved), len(gallery.moved)
        shared = "MED" in self._names or not (query.stretched or gallery.stretched)
        products = self._workspace.take("products", *shape)
        if shared:
            self._product(query.moved, gallery.moved, out=products)
        # MED comes first: the cosine's arithmetic overwrites the products.
        if "MED" in self._names:
            yield "MED", self._euclidean(products, query, gallery, items=items)
        if "MCD" in self._names:
            yield "MCD", self._cosine(products, query, gallery, items=items)

    def _euclidean(self, products: torch.Tensor, query: Side, gallery: Side, *, items: SlotLayout) -> torch.Tensor:
        keys = self._workspace.take("keys", *products.shape)
        # |q|² is the same for all images of an item: it can wait until the nearest one is known.
        torch.add(gallery.squares, products, alpha=-2, out=keys)
        nearest = self._workspace.take("nearest", len(products), items.count)
        nearest_image(keys, items, out=nearest)
        nearest += query.squares[:, None]
        longest = torch.empty(1, items.count, device=products.device)
        nearest_image(-gallery.squares[None, :], items, out=longest)
        # If any image of an item cancels, its nearest one is below this bound too.
        bound = (query.squares[:, None] - longest) * _CANCELLATION
        self._recompute(nearest, (nearest < bound).nonzero(), query=query, gallery=gallery, items=items)
        nearest.clamp_(min=0).sqrt_()
        return nearest if self._frame.scale == 1 else nearest.div_(self._frame.scale)

    def _recompute(
        self, nearest: torch.Tensor, pairs: torch.Tensor, *, query: Side, gallery: Side, items: SlotLayout
    ) -> None:
        """Squared distances of these (query image, item) pairs from the differences of the rows, in place."""
        # Moving rounds each row by itself, so the moved rows have lost these digits already.
        for chunk in pairs.split(_PAIRS):
            image, item = chunk.unbind(dim=1)
            rows, owner = items.rows_of(item)
            squared = nearest.new_full((len(chunk),), math.inf)
            for row, mine in zip(rows.split(_PAIRS), owner.split(_PAIRS), strict=True):
                difference = query.original[image[mine]] - gallery.original[row]
                squares = difference.mul_(self._frame.scale).square_().sum(dim=1)
                squared.scatter_reduce_(0, mine, squares, "amin")
            nearest[image, item] = squared

    def _cosine(self, products: torch.Tensor, query: Side, gallery: Side, *, items: SlotLayout) -> torch.Tensor:
        # What is nearest has the largest cosine, so its negative is looked for.
        keys = self._workspace.take("keys", *products.shape)
        if query.stretched or gallery.stretched:
            self._product(_unit(query.original), _unit(gallery.original).neg_(), out=keys)
            factor = None
        else:
            # q·r from the moved rows: (q - c)·(r - c) + (q - c)·c + r·c.
            products += query.along[:, None]
            shift = -(gallery.along + self._centre.square().sum()) * gallery.inverse
            torch.addcmul(shift, products, -gallery.inverse, out=keys)
            factor = query.inverse[:, None]
        nearest = self._workspace.take("nearest", len(products), items.count)
        nearest_image(keys, items, out=nearest)
        if factor is not None:
            nearest *= factor
        return nearest.add_(1).clamp_(min=0, max=2)


def _tame(values: torch.Tensor) -> torch.Tensor:
    """Where squares, and products of two, stay well inside float32."""
    return (values > _SCALES[0]) & (values < _SCALES[1])


def _unit(rows: torch.Tensor) -> torch.Tensor:
    """Rows of unit length; zero rows stay zero."""
    # The squares of very long or short rows are beyond float32; those of rows with peak 1 never are.
    peaks = torch.linalg.vector_norm(rows, ord=math.inf, dim=1, keepdim=True)
    unit = rows / torch.where(peaks > 0, peaks, 1.0)
    lengths = torch.linalg.vector_norm(unit, dim=1, keepdim=True)
    return unit.div_(torch.where(lengths > 0, lengths, 1.0))


def choose_frame(rows: torch.Tensor) -> Frame:
    """A frame for data of which (n, D) rows are a sample.

    The centre is their mean rounded to a power of two of the size of their spread. It lies amid the data as
    the mean itself does, but has few digits: what is subtracted then leaves whole numbers whole, so that
    distances which are equal by their nature come out equal.
    """
    # Brought to a peak of 1 first: squares of very large or small numbers are beyond float32.
    peak = float(torch.linalg.vector_norm(rows, ord=math.inf))
    unit = 2.0 ** max(-126, min(126, -math.frexp(peak)[1]))
    scaled = rows * unit
    mean = scaled.mean(dim=0)
    spread = float((scaled - mean).square().mean().sqrt())
    if spread:
        step = 2.0 ** math.floor(math.log2(spread))
        mean = (mean / step).round() * step
    return Frame(mean / unit, 1.0 if _SCALES[0] < peak < _SCALES[1] else unit)
