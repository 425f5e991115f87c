"""Which items of a large gallery can be among the nearest of few queries: the others need no exact distance.

A bound that the distance of two images is never below takes one plain product and the images' lengths. The
items that are near by these bounds are compared exactly; what may be nearer than the farthest of them is the shortlist.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from vreid_cli.ranking.aggregation import SlotLayout, nearest_image, slot_layout
from vreid_cli.ranking.distances import ProductDistances, Side
from vreid_cli.ranking.engine import Block, DistanceEngine, ItemImages
from vreid_cli.ranking.selection import ListRules, least
from vreid_cli.runtime.products import TORCH
from vreid_cli.types.arrays import Int64Array

#: Query images up to which bounds take less time than exact distances.
_FEW_IMAGES = 64
#: Images whose bounds are computed at a time, and numbers of them that stay in the cache of a core meanwhile.
_IMAGES, _NUMBERS = 1 << 15, 1 << 16
#: float32's rounding, in parts of a number.
_ROUNDING = 2.0**-24
#: What exact distances may be off by: MED's square in parts of |q|² + |r|², MCD; several times the contract's limits.
_EXACT = 1e-4
#: Lengths that float32 squares keep; of others nothing is known, so that the bound is 0.
_LENGTHS = (2.0**-30, 2.0**50)


@dataclass(frozen=True)
class Glance(Side):
    """A gallery's images as :class:`LowerBounds` needs them.

    Attributes:
        products: (Q, n) with the query images.
    """

    products: torch.Tensor


class LowerBounds(ProductDistances):
    """What takes the place of an engine's products, so that its distances are lower bounds of the real ones.

    The product of n numbers in float32, added in any order, is off by at most n + 8 roundings of |q| |r|, a squared
    length by as many of itself (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). Aggregates rise
    with each distance, so that of bounds is a bound.
    """

    def read(self, gallery: ItemImages, positions: range, *, images: torch.Tensor) -> Block:
        """Gallery items with their products with (Q, D) query images.

        Raises:
            DataError: A feature is not finite.
        """
        start, end = gallery.items.offsets[[positions.start, positions.stop]]
        layout = slot_layout(gallery.items.lengths[positions.start : positions.stop])
        products, lengths = images.new_empty(len(images), end - start), images.new_empty(end - start)
        step = max(1, _NUMBERS // images.shape[1]) if images.device.type == "cpu" else end - start
        for first in range(0, end - start, step):
            some = slice(first, min(first + step, end - start))
            rows = gallery.features.matrix.take(gallery.items.rows[start:end][some])
            piece = torch.from_numpy(rows).to(images.device)
            torch.mm(images, piece.T, out=products[:, some])
            torch.linalg.vector_norm(piece, dim=1, out=lengths[some])
        usual = bool((torch.isfinite(lengths) & (lengths > 0)).all())
        order = torch.from_numpy(layout.order).to(images.device)
        side = Glance(images[:0], lengths[order], None, None, products[:, order])
        return Block(positions, layout, side, 0 if usual else gallery.read(positions)[2])

    def nearest(self, query: Side, gallery: Side, items: SlotLayout) -> Iterator[tuple[str, torch.Tensor]]:
        """Each distance's name with its (Q, items) lower bounds."""
        assert isinstance(gallery, Glance)
        lengths, other = torch.linalg.vector_norm(query.original, dim=1)[:, None], gallery.lengths
        unknown, unknown_other = (~((n > _LENGTHS[0]) & (n < _LENGTHS[1])) for n in (lengths, other))
        slack = 4 * (query.original.shape[1] + 16) * _ROUNDING + _EXACT
        for name in self.names:
            if name == "MED":
                keys = torch.add(other.square() * (1 - slack), gallery.products, alpha=-2)
            else:
                keys = gallery.products / -other
            nearest = keys.masked_fill_(unknown_other, -torch.inf).new_empty(len(keys), items.count)
            nearest_image(keys, items, out=nearest)
            if name == "MED":
                nearest.add_(lengths.square() * (1 - slack)).clamp_(min=0).sqrt_()
            else:
                nearest.div_(lengths).add_(1 - slack).clamp_(min=0)
            yield name, nearest.masked_fill_(unknown, 0.0)


def can_be_short(engine: DistanceEngine, rules: ListRules) -> bool:
    """Whether few queries want the nearest of the gallery alone, by distances that have bounds."""
    wanted, images = rules.top_k, len(engine.query.items.rows)
    bounded = all(metric.distance in engine.products.names for metric in engine.metrics)
    return wanted is not None and wanted < len(engine.gallery) and images <= _FEW_IMAGES and bounded


def shortlists(engine: DistanceEngine, rules: ListRules, query: Block) -> tuple[list[Int64Array], int]:
    """For each query the items that can be among its ``top_k`` nearest, and all as near as one of its vehicle.

    Args:
        engine: Compares these queries; by distances from products alone.
        rules: What is listed; ``top_k`` must be set.
        query: The queries.

    Returns:
        Rising positions in the gallery for each query, and how many of the gallery's images are zero.

    Raises:
        DataError: A feature is not finite.
    """
    assert rules.top_k is not None
    products = LowerBounds(engine.products.names, product=TORCH, origin=engine.products.origin)
    # The steps are so short that two threads would wait for each other longer than they work.
    scan = replace(engine, products=products, rows=(engine.rows[0], _IMAGES), threads=1)
    bounds, zero_vectors = scan.compare(
        query, lambda positions: products.read(engine.gallery, positions, images=query.side.original)
    )
    pairs, count = rules.pairs(query.positions), len(query.positions)
    # By metric and query: as many items as are wanted, and those of the query's vehicle, if they are to be ranked.
    likely = {}
    for name, values in bounds.by_metric.items():
        for place in range(count):
            keys = rules.keys(values[place, None], query.positions[place : place + 1], bounds.items)
            near = rules.items(least(keys, None, rules.top_k)[0].cpu().numpy())
            likely[name, place] = np.union1d(near[near >= 0], pairs.item[pairs.query == place])
    some, device = np.unique(np.concatenate(list(likely.values()))), bounds.items.device
    found = [np.empty(0, dtype=np.int64)] * count
    if len(some):
        exact, _ = engine.restricted(some).look_and_compare(query)
        column = exact.items.argsort()
        for (name, place), own in likely.items():
            if len(own):
                columns = column[torch.from_numpy(np.searchsorted(some, own)).to(device)]
                farthest = exact.by_metric[name][place, columns].max()
                near = bounds.items[bounds.by_metric[name][place] <= farthest].cpu().numpy()
                found[place] = np.union1d(found[place], near)
    return found, zero_vectors
