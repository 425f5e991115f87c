"""MED and MCD of image pairs from one matrix product.

``MED`` is the Euclidean distance by the Gram form ``|q|² + |r|² - 2 q·r``, ``MCD`` one minus the cosine; a
zero vector has cosine 0 to everything. The Gram form loses digits where its terms are large beside their sum,
and one minus the cosine where the cosine is near 1. So rows are moved to lie around the origin before they are
multiplied, and MCD is a sum of terms that are small where the rows lie near each other: half the squared
distance of the rows' directions, or, where MED's product is there already,

    ``|q| |r| MCD = ½ |q - r|² - ½ (|q| - |r|)²``.

Pairs that still cancel are computed again from the differences of the rows, or of their directions, as they
came. Nothing may depend on which images are compared together: blocks of any size give the same distances.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch

from vreid_cli.ranking.aggregation import SlotLayout, nearest_image
from vreid_cli.runtime.products import Product

#: Squared distances below this part of |q|² + |r|² are computed again, and so is the cosine's numerator below
#: half of it. The product's error, at most 1.2e-6 of |q| |r| on the paths that are accepted, is 3e-6 of MED
#: there; the contract allows 1e-5.
_CANCELLATION = 0.2
#: What two of the sums that choose an item's nearest image may differ by through rounding alone, in parts of
#: |q|² + |r|²: several times what the products' error makes of it.
_UNDECIDED = 1e-5
#: Products of fewer rows or columns than this take other ways through the libraries, and round differently.
_FEWEST = 64
#: Pairs looked at again at a time, and numbers of their differences: these then stay in the caches of a CPU.
_PAIRS, _NUMBERS = 4096, 1 << 18
#: Numbers of rows that are widened to float64 at a time, so that they stay in the caches of one core.
_WIDENED = 1 << 16
#: Rows of a sample that directions are looked at of.
_FEW_ROWS = 512
#: Part of the pairs that computing again may take longer for than a product of its own, for the cosine.
_REPEATED = 1 / 64
#: Lengths and peaks outside these are brought to about 1 first, or their squares would leave float32.
_SCALES = (2.0**-30, 2.0**30)


@dataclass(frozen=True)
class Origin:
    """How rows are moved before they are multiplied: ``(row - centre) * scale``, and their directions.

    Attributes:
        centre: (D,) vector amid the data; any vector gives the same distances, this one with more digits.
        scale: A power of two, so that scaling rounds nothing.
        direction: (D,) vector amid the rows of unit length.
        shared: Whether the product of moved rows keeps the digits of the cosine too.
    """

    centre: torch.Tensor
    scale: float
    direction: torch.Tensor
    shared: bool = True


@dataclass(frozen=True)
class Points:
    """Rows around the origin, ready for products.

    Attributes:
        rows: (n, D) float32.
        squares: (n,) their squared lengths, in :func:`_wide` numbers; infinite for what is no point.
    """

    rows: torch.Tensor
    squares: torch.Tensor


@dataclass(frozen=True)
class Side:
    """One side's images, and what of them the wanted distances need.

    Attributes:
        original: (n, D) float32, as they came.
        lengths: (n,) scaled lengths, in :func:`_wide` numbers; 0 for a zero row.
        moved: Around the origin, for MED.
        directions: The rows of unit length around theirs, where MCD has a product of its own.
    """

    original: torch.Tensor
    lengths: torch.Tensor
    moved: Points | None
    directions: Points | None


class _Arrays:
    """Large arrays that are used again and again, because fresh memory costs more than the arithmetic."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._flat: dict[str, torch.Tensor] = {}

    def get(self, name: str, rows: int, columns: int) -> torch.Tensor:
        """A contiguous (rows, columns) float32 array whose contents are those of the last use of this name."""
        size = rows * columns
        if name not in self._flat or len(self._flat[name]) < size:
            self._flat[name] = torch.empty(size, device=self._device)
        return self._flat[name][:size].view(rows, columns)


class ProductDistances:
    """Computes the distances of query images to the nearest image of each gallery item.

    Args:
        names: ``MED``, ``MCD`` or both.
        product: What computes matrix products.
        origin: How rows are moved.
    """

    def __init__(self, names: Collection[str], *, product: Product, origin: Origin) -> None:
        self.names = names
        self.origin = origin
        self._product = product
        self._middle = float(torch.linalg.vector_norm(origin.centre * origin.scale))
        self._idle: list[_Arrays] = []
        # Alone, the cosine is quicker and keeps more digits by a product of directions.
        self._by_directions = "MCD" in names and not ("MED" in names and origin.shared)

    @property
    def arrays(self) -> int:
        """Numbers kept for each number of an image: as it came, and as each product needs it."""
        return 1 + ("MED" in self.names) + self._by_directions

    def prepare(self, rows: torch.Tensor) -> Side:
        """Bring (n, D) float32 rows to the origin; they are not changed."""
        lengths = _lengths(rows, self.origin.scale)
        moved = _move(rows, self.origin) if "MED" in self.names else None
        directions = _directions(rows, lengths, self.origin) if self._by_directions else None
        return Side(rows, lengths, moved, directions)

    def nearest(self, query: Side, gallery: Side, items: SlotLayout) -> Iterator[tuple[str, torch.Tensor]]:
        """Each distance's name with its (Q, items) values; they are valid until the next one is asked for.

        Args:
            query: (Q, D) images.
            gallery: (R, D) images, slot-major.
            items: Layout of the gallery images; the items come in its order.
        """
        # As many threads, as many sets of arrays; they come back when the last distances were taken.
        try:
            arrays = self._idle.pop()  # a look before it would let another thread take the last ones in between
        except IndexError:
            arrays = _Arrays(self.origin.centre.device)
        pairs = _ImagePairs(query, gallery, items, self.origin.scale, arrays)
        if query.moved and gallery.moved:
            products = self._multiply(query.moved, gallery.moved, arrays)
            nearest = self._squared(products, query.moved, gallery.moved, pairs=pairs, exact=pairs.squared)
            nearest.clamp_(min=0).sqrt_()
            yield "MED", nearest if self.origin.scale == 1 else nearest.div_(self.origin.scale)
            if "MCD" in self.names and not self._by_directions:
                yield "MCD", pairs.with_zeros(self._cosine(products, query.moved, gallery.moved, pairs=pairs))
        if query.directions and gallery.directions:
            products = self._multiply(query.directions, gallery.directions, arrays)
            nearest = self._squared(products, query.directions, gallery.directions, pairs=pairs, exact=pairs.angular)
            yield "MCD", pairs.with_zeros(nearest.div_(2))
        self._idle.append(arrays)

    def allowed(self) -> AbstractContextManager[None]:
        """Where :meth:`nearest` may be called: torch's arithmetic is that of the product."""
        return self._product.allowed()

    def _multiply(self, query: Points, gallery: Points, arrays: _Arrays) -> torch.Tensor:
        """(Q, R) products, each the same whatever else is multiplied with it."""
        rows, columns = (_filled_up(side.rows) for side in (query, gallery))
        products = arrays.get("products", len(rows), len(columns))
        return self._product(rows, columns, out=products)[: len(query.rows), : len(gallery.rows)]

    def _squared(
        self,
        products: torch.Tensor,
        query: Points,
        gallery: Points,
        *,
        pairs: _ImagePairs,
        exact: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """(Q, items) squared distances to the nearest point of each item; ``exact`` computes what cancels."""
        # |q|² is the same for all images of an item: it can wait until the nearest one is known.
        keys = pairs.arrays.get("keys", *products.shape)
        torch.add(gallery.squares.to(keys.dtype), products, alpha=-2, out=keys)
        nearest = nearest_image(keys, pairs.items, out=pairs.arrays.get("nearest", len(keys), pairs.items.count))
        own = query.squares.to(keys.dtype)[:, None]
        # If any image of an item cancels, its nearest one is below this bound too.
        largest = pairs.largest(gallery.squares.where(gallery.squares.isfinite(), 0.0))
        reach = _Reach(own, torch.ones_like(largest), largest)
        places, values = pairs.repeat(keys, nearest, lacking=1, reach=reach, exact=exact)
        nearest += own
        nearest[places] = values
        return nearest

    def _cosine(self, products: torch.Tensor, query: Points, gallery: Points, *, pairs: _ImagePairs) -> torch.Tensor:
        """(Q, items) MCD from the products of the moved rows."""
        length, other = pairs.query.lengths, pairs.gallery.lengths
        # |q| and |r| are small against their difference from the centre's length, and all terms like it:
        # |q| |r| MCD = ½ (|q|² - δq²) + ½ (|r|² - δr²) - (q·r - δq δr), by the rows and lengths as moved.
        excess, excess_other = length - self._middle, other - self._middle
        half, half_other = (query.squares - excess**2) / 2, (gallery.squares - excess_other**2) / 2
        inverse, inverse_other = _inverse(length), _inverse(other)
        # The keys are half a squared distance, over |r|.
        factor, rest = pairs.largest(inverse_other) / 2, pairs.largest(gallery.squares * inverse_other) / 2
        columns = (excess, half, inverse, query.squares)
        excess, half, inverse, squares = (values.to(products.dtype)[:, None] for values in columns)
        rows = (excess_other, half_other * inverse_other, -inverse_other)
        excess_other, half_other, inverse_other = (values.to(products.dtype) for values in rows)
        keys = pairs.arrays.get("keys", *products.shape)
        nearest = pairs.arrays.get("nearest", len(keys), pairs.items.count)
        for some in _pieces(keys):
            torch.addcmul(products[some], excess[some], excess_other, value=-1, out=keys[some]).sub_(half[some])
            torch.addcmul(half_other, keys[some], inverse_other, out=keys[some])
            keys[some].masked_fill_(other == 0, math.inf)
            nearest_image(keys[some], pairs.items, out=nearest[some])
        reach = _Reach(squares, factor, rest)
        places, values = pairs.repeat(keys, nearest, lacking=0, reach=reach, exact=pairs.angular)
        nearest *= inverse
        nearest[places] = values / 2
        return nearest


@dataclass(frozen=True)
class _Reach:
    """What |q|² + |r|² is at most for a query image and the images of an item: ``squares * factor + rest``.

    Attributes:
        squares: (Q, 1) float32.
        factor: (1, items) float32.
        rest: (1, items) float32.
    """

    squares: torch.Tensor
    factor: torch.Tensor
    rest: torch.Tensor

    def at(self, image: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """(p,) for some pairs."""
        return self.squares[image, 0] * self.factor[0, item] + self.rest[0, item]


@dataclass(frozen=True)
class _ImagePairs:
    """Two sides' images that are compared, and what is computed pair by pair."""

    query: Side
    gallery: Side
    items: SlotLayout
    scale: float
    arrays: _Arrays

    def largest(self, values: torch.Tensor) -> torch.Tensor:
        """(1, items) float32: the largest of (R,) values over each item's images."""
        columns = -values.to(torch.float32)[None, :]
        return -nearest_image(columns, self.items, out=columns.new_empty(1, self.items.count))

    def repeat(
        self,
        keys: torch.Tensor,
        nearest: torch.Tensor,
        *,
        lacking: int,
        reach: _Reach,
        exact: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Compute again, pair by pair, what lies so near that its digits are lost.

        Args:
            keys: (Q, R) values that rise with the distance.
            nearest: (Q, items) the least of them for each item.
            lacking: How often ``reach.squares`` must be added to make them squared distances, or multiples of these.
            reach: What |q|² + |r|² is at most for each item, as the same multiples.
            exact: From the (p,) query and gallery rows of pairs to their (p,) squared distances.

        Returns:
            Query image and item of each pair, and their (p,) squared distances.
        """
        factor, rest = _CANCELLATION * reach.factor - lacking, _CANCELLATION * reach.rest
        found = [torch.empty(0, 2, dtype=torch.int64, device=nearest.device)]
        for some in _pieces(nearest):
            # What is no number is computed again too.
            near = ~(nearest[some] >= torch.addcmul(rest, reach.squares[some], factor))
            found.append(near.nonzero().add_(torch.tensor([some.start, 0], device=near.device)))
        places, values = torch.cat(found), []
        for chunk in places.split(_PAIRS):
            image, item = chunk.unbind(dim=1)
            rows, owner = self.items.rows_of(item)
            least = (nearest[image, item] + _UNDECIDED * reach.at(image, item))[owner]
            # Only images that could be the item's nearest.
            able = (~(keys[image[owner], rows] > least)).nonzero()[:, 0]
            squared = nearest.new_full((len(item),), math.inf)
            step = max(1, _NUMBERS // self.query.original.shape[1])
            for some in able.split(step):
                mine = owner[some]
                squares = exact(image[mine], rows[some])
                squared.scatter_reduce_(0, mine, squares.to(squared.dtype), "amin")
            values.append(squared)
        return places.unbind(dim=1), torch.cat([nearest.new_empty(0), *values])

    def squared(self, image: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        """Squared distances of (p,) query and gallery rows, in the origin's scale."""
        # Moving rounds each row by itself, so the moved rows have lost these digits already.
        difference = self.query.original[image] - self.gallery.original[row]
        return difference.mul_(self.scale).square_().sum(dim=1)

    def angular(self, image: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        """Squared distances of the directions of (p,) query and gallery rows; 2 is twice MCD's 1."""
        inverse = _inverse(self.query.lengths)[image, None] * self.scale
        other = _inverse(self.gallery.lengths)[row, None] * self.scale
        difference = self.query.original[image].to(inverse.dtype).mul_(inverse)
        difference -= self.gallery.original[row].to(other.dtype).mul_(other)
        squares = difference.square_().sum(dim=1)
        return squares.where((inverse * other)[:, 0] > 0, 2.0)

    def with_zeros(self, nearest: torch.Tensor) -> torch.Tensor:
        """(Q, items) MCD with a distance of 1 between a zero row and anything, in place."""
        nearest.clamp_(min=0, max=2)
        zeros = self.gallery.lengths == 0
        if bool(zeros.any()):
            nearest.clamp_(max=2 - self.largest(zeros))
        if bool((own := self.query.lengths == 0).any()):
            nearest.masked_fill_(own[:, None], 1.0)
        return nearest


def _pieces(array: torch.Tensor) -> Iterator[slice]:
    """Rows of a (Q, n) array that stay in the cache of a core; all of them on a GPU."""
    step = max(1, _NUMBERS // array.shape[1]) if array.device.type == "cpu" else max(1, len(array))
    return (slice(start, min(start + step, len(array))) for start in range(0, len(array), step))


def _wide(device: torch.device) -> torch.dtype:
    """Where lengths are computed: float64, which one kind of device does not have."""
    return torch.float32 if device.type == "mps" else torch.float64


def _inverse(lengths: torch.Tensor) -> torch.Tensor:
    """One over each; 0 for 0."""
    return torch.where(lengths > 0, 1 / lengths, 0.0)


def _filled_up(rows: torch.Tensor) -> torch.Tensor:
    """At least so many rows that a product takes the way of large ones; what is added is zero."""
    lacking = _FEWEST - len(rows)
    return torch.nn.functional.pad(rows, (0, 0, 0, lacking)) if lacking > 0 else rows


def _move(rows: torch.Tensor, origin: Origin) -> Points:
    moved = rows - origin.centre
    if origin.scale != 1:
        moved *= origin.scale
    squares = rows.new_empty(len(rows), dtype=_wide(rows.device))
    for part in _chunks(rows):
        # The sum, not the square of a rounded length: between whole numbers it is exact.
        torch.sum(moved[part].to(squares.dtype).square_(), dim=1, out=squares[part])
    return Points(moved, squares)


def _lengths(rows: torch.Tensor, scale: float) -> torch.Tensor:
    wide = _wide(rows.device)
    if wide == torch.float32 and scale != 1:
        rows, scale = rows * scale, 1.0
    lengths = rows.new_empty(len(rows), dtype=wide)
    for part in _chunks(rows):
        torch.linalg.vector_norm(rows[part].to(wide), dim=1, out=lengths[part])
    return lengths * scale


def _chunks(rows: torch.Tensor) -> Iterator[slice]:
    """Consecutive rows to widen at a time; all of them on a GPU."""
    step = max(1, _WIDENED // rows.shape[1]) if rows.device.type == "cpu" else max(1, len(rows))
    return (slice(start, start + step) for start in range(0, len(rows), step))


def _directions(rows: torch.Tensor, lengths: torch.Tensor, origin: Origin) -> Points:
    """The rows of unit length around the origin's direction; zero rows are no points."""
    inverse, middle = _inverse(lengths), origin.direction.to(lengths.dtype)
    moved, squares = torch.empty_like(rows), torch.empty_like(lengths)
    for part in _chunks(rows):
        # Rounded before they are moved, directions that are nearly equal would lose what they differ by.
        wide = rows[part].to(lengths.dtype).mul_(inverse[part, None] * origin.scale).sub_(middle)
        moved[part] = wide
        torch.linalg.vector_norm(wide, dim=1, out=squares[part])
    return Points(moved, squares.square_().masked_fill_(lengths == 0, math.inf))


def choose_origin(gallery: torch.Tensor, queries: torch.Tensor) -> Origin:
    """An origin for data of which these (n, D) gallery and (m, D) query rows are samples."""
    centre, scale = _centre(gallery)
    # Enough for a direction amid the others; all rows in float64 would take as long as a block's arithmetic.
    gallery, queries = (rows[:: -(-len(rows) // _FEW_ROWS)] for rows in (gallery, queries))
    lengths = _lengths(gallery, scale)
    unit = (gallery.to(lengths.dtype) * (_inverse(lengths)[:, None] * scale)).to(gallery.dtype)
    origin = Origin(centre, scale, _centre(unit)[0])
    return replace(origin, shared=_keeps_the_cosine(origin, gallery, queries))


def _keeps_the_cosine(origin: Origin, gallery: torch.Tensor, queries: torch.Tensor) -> bool:
    """Whether few cosines cancel by the moved rows that do not cancel by the directions.

    Many do where rows differ in length more than in direction, or where one side is far longer.
    """
    count = min(len(gallery), len(queries))
    # Both sides are often in the order of their vehicles: pairs of one place would be near ones.
    sides = queries[:count], gallery[:count].roll(count // 2, dims=0)
    moved = sum(_move(side, origin).squares for side in sides)
    one, other = (_lengths(side, origin.scale) for side in sides)
    first, second = (_directions(side, n, origin) for side, n in zip(sides, (one, other), strict=True))
    apart = (first.rows - second.rows).square().sum(dim=1)
    lost = apart * one * other < _CANCELLATION * moved
    lost_anyway = apart < _CANCELLATION * (first.squares + second.squares)
    return float(lost.double().mean() - lost_anyway.double().mean()) <= _REPEATED


def _centre(rows: torch.Tensor) -> tuple[torch.Tensor, float]:
    """A centre and a scale for data of which (n, D) rows are a sample.

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
    return mean / unit, 1.0 if _SCALES[0] < peak < _SCALES[1] else unit
