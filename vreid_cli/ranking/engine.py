"""Blocks of queries against blocks of the gallery, within a memory budget, on any device.

The way of a distance: :meth:`Sides.plan` makes a :class:`DistanceEngine`, which reads the gallery once to know which
items are equal (``looked_over``); its ``query_blocks`` are compared with ``against``, a block of the gallery at a time,
several side by side. What two blocks give depends on nothing but these two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol, TypeVar

import numpy as np
import torch

from vreid_cli.errors import DataError
from vreid_cli.ranking.aggregation import SlotLayout, aggregate_tracks, nearest_image, slot_layout
from vreid_cli.ranking.diagnostics import Diagnostics
from vreid_cli.ranking.distances import Origin, ProductDistances, Side, choose_origin
from vreid_cli.ranking.duplicates import Duplicates, checksums, find_duplicates
from vreid_cli.ranking.metrics import DISTANCES, Metric
from vreid_cli.ranking.options import RankingOptions
from vreid_cli.runtime.products import choose_product
from vreid_cli.runtime.threads import one_thread, side_by_side, threads_for
from vreid_cli.types.arrays import Int64Array
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.lazy import load
from vreid_cli.types.tracks import Tracks

#: Rows of a side that the origin is chosen by: enough to lie amid the data, few enough to be quick.
_SAMPLE_ROWS = 4096
#: Part of the memory budget that the gallery may take, if it is kept; and parts at least, of which one block's products
#: may take one, and so may its images. Blocks are small because memory that the system hands out again for every block
#: costs more than what is done with it.
_KEPT, _PARTS = 1 / 2, 16
#: Images a block, at least: smaller products waste the machine.
_FEWEST_ROWS = 64

Result = TypeVar("Result")


@dataclass(frozen=True)
class Block:
    """Consecutive items with their images on the device, slot-major.

    Attributes:
        positions: Of the items.
        layout: Of their images.
        side: The images; ``side.original`` holds them as they came, (R, D) float32.
        zero_vectors: How many of them are zero.
    """

    positions: range
    layout: SlotLayout
    side: Side
    zero_vectors: int


class TrackDistance(Protocol):
    """A distance between whole tracks, as :class:`~vreid_cli.ranking.metrics.Distance` names one."""

    def __call__(self, query: Block, gallery: Block, *, options: RankingOptions) -> tuple[torch.Tensor, Diagnostics]:
        """(queries, items) float32 distances, both in the order of the blocks' layouts, and what was noticed."""


@dataclass(frozen=True)
class BlockDistances:
    """Distances of a block of queries to some of the gallery.

    Attributes:
        items: (n,) int64 positions of the gallery items on the device, in any order.
        by_metric: Metric name to (queries, n) float32 on the device.
        diagnostics: What was noticed on the way.
    """

    items: torch.Tensor
    by_metric: Mapping[str, torch.Tensor]
    diagnostics: Diagnostics


@dataclass(frozen=True)
class ItemImages:
    """Items, and where their images come from.

    Attributes:
        features: Holds the images.
        items: The items.
        device: Where the images go.
    """

    features: FeatureSet
    items: Tracks
    device: torch.device

    def __len__(self) -> int:
        return len(self.items)

    def cut(self, *, rows: int, most: int | None = None) -> Iterator[range]:
        """Whole items of about this many images together, at least one and at most so many."""
        offsets, first = self.items.offsets, 0
        while first < len(self):
            end = int(np.searchsorted(offsets, offsets[first] + rows, side="right")) - 1
            end = max(first + 1, min(end, first + (most or len(self))))
            yield range(first, end)
            first = end

    def read(self, positions: range) -> tuple[SlotLayout, torch.Tensor, int]:
        """Layout and slot-major images of consecutive items, and how many images are zero.

        Raises:
            DataError: A feature is not finite.
        """
        layout = slot_layout(self.items.lengths[positions.start : positions.stop])
        start, end = self.items.offsets[[positions.start, positions.stop]]
        return layout, *self._fetch(self.items.rows[start:end][layout.order])

    def sample(self) -> torch.Tensor:
        """Images from all over the items."""
        count = len(self.items.rows)
        chosen = np.unique(np.linspace(0, count - 1, min(count, _SAMPLE_ROWS)).astype(np.int64))
        return self._fetch(self.items.rows[chosen])[0]

    def _fetch(self, rows: Int64Array) -> tuple[torch.Tensor, int]:
        tensor = torch.from_numpy(self.features.matrix.take(rows)).to(self.device)
        lengths = torch.linalg.vector_norm(tensor, dim=1)
        if bool((torch.isfinite(lengths) & (lengths > 0)).all()):
            return tensor, 0
        # Of very large or small numbers the squares are beyond float32: only the largest number tells.
        peaks = torch.linalg.vector_norm(tensor, ord=torch.inf, dim=1)
        if not bool(torch.isfinite(peaks).all()):
            row = rows[int((~torch.isfinite(peaks)).nonzero()[0, 0])]
            raise DataError(
                f"{self.features.source}: the feature of image {self.features.image_id[row]} is not finite",
                hint="extract it again, or remove the image",
                file=self.features.source,
            )
        return tensor, int((peaks == 0).sum())


@dataclass(frozen=True)
class Sides:
    """Queries and gallery, and how they are compared.

    Attributes:
        query: The queries.
        gallery: The gallery.
        metrics: What to compute; all share one pass over the products.
        options: How.
        budget: Bytes for working arrays.
        product: Path of the matrix products, a key of :data:`vreid_cli.runtime.products.PATHS`, or ``auto``.
    """

    query: ItemImages
    gallery: ItemImages
    metrics: tuple[Metric, ...]
    options: RankingOptions
    budget: int
    product: str

    def on(self, device: torch.device) -> Sides:
        """The same, to be compared on another device."""
        return replace(self, query=replace(self.query, device=device), gallery=replace(self.gallery, device=device))

    def plan(self, origin: Origin | None = None) -> DistanceEngine:
        """An engine that knows a sample of both sides, but not yet which gallery items are equal.

        Args:
            origin: Amid samples of both sides, where they were looked at before.

        Raises:
            DataError: A feature of the samples is not finite.
        """
        query, gallery = self.query, self.gallery
        distances = {metric.distance for metric in self.metrics}
        wanted = [name for name in distances if DISTANCES[name].between == "images" and not DISTANCES[name].function]
        size = float(len(query.items.rows)) * len(gallery.items.rows) * gallery.features.dimension
        with one_thread():
            origin = origin or choose_origin(gallery.sample(), query.sample())
        product = choose_product(query.device, multiplications=size if wanted else 0, name=self.product)
        products = ProductDistances(wanted, product=product, origin=origin)
        threads = threads_for(query.device)
        image_bytes, room = 4 * products.arrays * gallery.features.dimension, self.budget / max(_PARTS, 4 * threads)
        return DistanceEngine(
            **{field.name: getattr(self, field.name) for field in fields(Sides)},
            products=products,
            rows=_block_rows(len(query.items.rows), image_bytes, room=room),
            room=int(self.budget * _KEPT),
            threads=threads,
            duplicates=Duplicates(np.arange(len(gallery))),
        )


@dataclass(frozen=True)
class GalleryLook:
    """What a first look at an engine's blocks found.

    Attributes:
        checksums: (n,) int64 of their images, in the order of the items' rows.
        zero_vectors: How many of the images are zero.
        kept: The blocks, if they fit on the device.
    """

    checksums: Int64Array
    zero_vectors: int
    kept: tuple[Block, ...]


@dataclass(frozen=True)
class DistanceEngine(Sides):
    """Sides that are ready to be compared; made by :meth:`Sides.plan`.

    Attributes:
        products: Computes MED and MCD, as far as they are wanted.
        rows: Images in a block of queries and in a block of the gallery.
        room: Bytes that the gallery's blocks may take, if they are kept.
        duplicates: Gallery items that are equal.
        kept: The gallery's blocks, if they fit on the device; else empty, and they are read each time.
        zero_vectors: Images of the gallery that are zero.
        threads: How many blocks are compared side by side.
        shard: Positions of the gallery's blocks that are compared, where others compare the rest; None for all.
    """

    products: ProductDistances
    rows: tuple[int, int]
    room: int
    threads: int
    duplicates: Duplicates
    kept: tuple[Block, ...] = ()
    zero_vectors: int = 0
    shard: tuple[range, ...] | None = None

    @property
    def blocks(self) -> tuple[range, ...]:
        """Positions of the gallery's blocks."""
        return tuple(self.gallery.cut(rows=self.rows[1])) if self.shard is None else self.shard

    def restricted(self, positions: Int64Array) -> DistanceEngine:
        """An engine for the gallery items at these positions alone."""
        gallery = replace(self.gallery, items=self.gallery.items.select(positions))
        return replace(self, gallery=gallery, duplicates=self.duplicates.select(positions), kept=(), shard=None)

    def looked_over(self) -> DistanceEngine:
        """The engine once it has looked at the whole gallery, and kept it on the device if it fits.

        Raises:
            DataError: A feature of the gallery is not finite.
        """
        seen = self.look()
        duplicates = find_duplicates(self.gallery.features.matrix, self.gallery.items, checksums=seen.checksums)
        return replace(self, duplicates=duplicates, kept=seen.kept, zero_vectors=seen.zero_vectors)

    def look(self) -> GalleryLook:
        """Read all blocks once.

        Raises:
            DataError: A feature is not finite.
        """
        images = np.diff(self.gallery.items.offsets[[self.blocks[0].start, self.blocks[-1].stop]])[0]
        if self.products.arrays * 4 * self.gallery.features.dimension * images > self.room:
            return self._look(lambda *read: None)[0]
        seen, kept = self._look(self.block)
        return replace(seen, kept=kept)

    def look_and_compare(self, query: Block) -> tuple[BlockDistances, int]:
        """Distances of these queries to the whole gallery, each image of which is read once; and how many are zero.

        Raises:
            DataError: A feature is not finite, or a distance too large for float32.
        """

        def compare(positions: range, layout: SlotLayout, images: torch.Tensor, zeros: int) -> list[BlockDistances]:
            return list(self._to_items(query, self.block(positions, layout, images, zeros)))

        with self.products.allowed():
            seen, found = self._look(compare)
        all_parts = self._joined(found)
        # What equals an earlier item takes its distances.
        first = find_duplicates(self.gallery.features.matrix, self.gallery.items, checksums=seen.checksums).first
        later = np.flatnonzero(first != np.arange(len(first)))
        column = all_parts.items.argsort()
        to, source = (column[torch.from_numpy(some).to(column.device)] for some in (later, first[later]))
        for values in all_parts.by_metric.values():
            values[:, to] = values[:, source]
        return all_parts, seen.zero_vectors

    def compare(self, query: Block, read: Callable[[range], Block]) -> tuple[BlockDistances, int]:
        """Distances of these queries to the whole gallery, and how many of its images are zero.

        Equal items may get different distances.

        Args:
            query: The queries.
            read: Gives the block at these positions.

        Raises:
            DataError: A distance is too large for float32.
        """

        def compare(positions: range) -> tuple[int, list[BlockDistances]]:
            block = read(positions)
            return block.zero_vectors, list(self._to_items(query, block))

        with self.products.allowed():
            zeros, found = zip(*side_by_side(compare, self.blocks, threads=self.threads), strict=True)
        return self._joined(found), sum(zeros)

    def _joined(self, found: Sequence[list[BlockDistances]]) -> BlockDistances:
        """The distances to the items of all blocks; ``found`` has none of them then."""
        items = torch.cat([part.items for each in found for part in each])
        diagnostics = sum((part.diagnostics for each in found for part in each), Diagnostics())
        values = [dict(part.by_metric) for each in found for part in each]
        for each in found:
            each.clear()
        # Taken out one by one, so that few are there twice.
        by_metric = {m.name: torch.cat([some.pop(m.name) for some in values], dim=1) for m in self.metrics}
        return BlockDistances(items, by_metric, diagnostics)

    def _look(
        self, use: Callable[[range, SlotLayout, torch.Tensor, int], Result]
    ) -> tuple[GalleryLook, tuple[Result, ...]]:
        """Read all blocks once, and use each as :meth:`block` does."""
        blocks, offsets = self.blocks, self.gallery.items.offsets
        first = offsets[blocks[0].start]
        sums = np.empty(offsets[blocks[-1].stop] - first, dtype=np.int64)

        def look(positions: range) -> tuple[int, Result]:
            layout, images, zeros = self.gallery.read(positions)
            sums[offsets[positions.start] - first + layout.order] = checksums(images).cpu().numpy()
            return zeros, use(positions, layout, images, zeros)

        zeros, used = zip(*side_by_side(look, blocks, threads=self.threads), strict=True)
        return GalleryLook(sums, sum(zeros), ()), used

    def query_blocks(self, *, most: int) -> Iterator[Block]:
        """The queries in blocks of at most this many.

        Raises:
            DataError: A feature is not finite.
        """

        # While one block is compared, the next one is brought near.
        def read(positions: range) -> Block:
            return self.block(positions, *self.query.read(positions))

        blocks = list(self.query.cut(rows=self.rows[0], most=most))
        yield from side_by_side(read, blocks, threads=min(2, self.threads))

    def block(self, positions: range, layout: SlotLayout, images: torch.Tensor, zero_vectors: int) -> Block:
        """A block from what was read at these positions."""
        return Block(positions, layout, self.products.prepare(images), zero_vectors)

    def against(self, query: Block) -> Iterator[BlockDistances]:
        """Distances of these queries to the gallery items of all blocks and to those equal to one, part by part.

        Raises:
            DataError: A distance is too large for float32.
        """

        def compare(part: Block | range) -> list[BlockDistances]:
            block = part if isinstance(part, Block) else self.block(part, *self.gallery.read(part))
            return list(self._to_items(query, block))

        gallery: Sequence[Block | range] = self.kept or self.blocks
        with self.products.allowed():
            for parts in side_by_side(compare, gallery, threads=self.threads):
                yield from parts

    def _to_items(self, query: Block, gallery: Block) -> Iterator[BlockDistances]:
        """Distances to the items of a block, and to those equal to one, in parts."""
        by_metric, diagnostics = self._between(query, gallery)
        for name, values in by_metric.items():
            if not bool(torch.isfinite(values).all()):
                source = self._larger_side().features.source
                raise DataError(
                    f"{source}: distances by {name} are beyond float32's range",
                    hint="the features are too large: scale both sides down",
                    file=source,
                )
        for items, column in self._columns(gallery):
            some = by_metric
            if column is not None:
                some = {name: values.index_select(1, column) for name, values in by_metric.items()}
            yield BlockDistances(items, some, diagnostics)
            diagnostics = Diagnostics()

    def _larger_side(self) -> ItemImages:
        """The side with the largest number, as far as a sample tells."""
        return max((self.query, self.gallery), key=lambda side: float(side.sample().abs().max()))

    def _columns(self, block: Block) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        """Gallery items that take the block's distances, and the column of each; None for all as they come."""
        device = self.gallery.device
        own = np.arange(block.positions.start, block.positions.stop)
        # An item like an earlier one takes that one's, wherever it stands itself.
        items = self.duplicates.of(block.positions.start, block.positions.stop)
        if np.array_equal(items, own):
            yield torch.from_numpy(own[block.layout.items]).to(device), None
            return
        column = np.argsort(block.layout.items)[self.duplicates.first[items] - block.positions.start]
        for start in range(0, len(items), len(own)):
            some = slice(start, start + len(own))
            yield torch.from_numpy(items[some]).to(device), torch.from_numpy(column[some]).to(device)

    def _between(self, query: Block, gallery: Block) -> tuple[dict[str, torch.Tensor], Diagnostics]:
        """(queries, items) distances by metric: queries in their order, items in that of the block's layout."""
        found: dict[str, torch.Tensor] = {}
        diagnostics = Diagnostics()
        released = self.options.definition == "released"
        layout = gallery.layout
        singles = slot_layout(np.ones(len(layout.order) if released else layout.count, dtype=np.int64))
        nearest, columns = (singles, layout) if released else (layout, singles)
        for distance, values in self._between_images(query.side, gallery.side, nearest):
            metrics = {m.aggregation or "min": m.name for m in self.metrics if m.distance == distance}
            aggregated = aggregate_tracks(values, query.layout, columns, metrics, running=released)
            found |= {metrics[name]: result for name, result in aggregated.items()}
        for metric in self.metrics:
            if DISTANCES[metric.distance].between == "tracks":
                function: TrackDistance = load(str(DISTANCES[metric.distance].function))
                found[metric.name], noticed = function(query, gallery, options=self.options)
                diagnostics += noticed
        order = torch.from_numpy(np.argsort(query.layout.items)).to(self.query.device)
        return {metric.name: found[metric.name].index_select(0, order) for metric in self.metrics}, diagnostics

    def _between_images(self, query: Side, gallery: Side, items: SlotLayout) -> Iterator[tuple[str, torch.Tensor]]:
        """Each distance's name with its (Q, items) values, to each item's nearest image; valid until the next."""
        yield from self.products.nearest(query, gallery, items)
        for name in dict.fromkeys(metric.distance for metric in self.metrics):
            function = DISTANCES[name].function
            if DISTANCES[name].between == "images" and function is not None:
                values = load(function)(query.original, gallery.original)
                yield name, nearest_image(values, items, out=values.new_empty(len(values), items.count))


def _block_rows(queries: int, image_bytes: int, *, room: float) -> tuple[int, int]:
    """Images in a block of queries and in a block of the gallery, whose products fit the room, as its images do."""
    # Half as many query images as gallery images.
    most = max(_FEWEST_ROWS, int((room / 8) ** 0.5))
    by_products = room / (4 * min(most, max(1, queries)))
    by_images = room / image_bytes
    return most, max(_FEWEST_ROWS, int(min(by_products, by_images)))
