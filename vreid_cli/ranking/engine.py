"""Blocks of queries against blocks of the gallery, within a memory budget, on any device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from vreid_cli.errors import DataError
from vreid_cli.ranking.aggregation import SlotLayout, aggregate_queries, aggregate_released, slot_layout
from vreid_cli.ranking.distances import ImageDistances, Side, Workspace, frame_for
from vreid_cli.ranking.duplicates import Twins, checksums, find_twins
from vreid_cli.ranking.metrics import RSCR, Aggregation, Distance, Metric
from vreid_cli.ranking.rscr import ReconstructionResidual
from vreid_cli.runtime.devices import exact_float32
from vreid_cli.runtime.products import choose_product
from vreid_cli.types.arrays import Int64Array
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.rankings import Definition
from vreid_cli.types.tracks import Tracks

#: Rows of a side that the frame is chosen by: enough to lie amid the data, few enough to be quick.
_FRAME_ROWS = 4096
#: Parts of the memory budget: one block's products; the gallery, if it is kept; one block of it. Blocks are
#: small because memory that the system hands out anew for every block costs more than what is done with it.
_PRODUCTS, _KEPT, _BLOCK = 1 / 16, 1 / 2, 1 / 16
#: Images a block, at least: smaller products waste the machine.
_FEWEST_ROWS = 64


@dataclass(frozen=True)
class Queries:
    """Consecutive queries that are compared with the gallery together.

    Attributes:
        first: Position of the first.
        count: Their number.
    """

    first: int
    count: int


@dataclass(frozen=True)
class Part:
    """Distances of a block of queries to some of the gallery.

    Attributes:
        items: (n,) int64 positions of the gallery items on the device, in any order.
        by_metric: Metric name to (queries, n) float32 on the device.
    """

    items: torch.Tensor
    by_metric: Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class _Block:
    """Consecutive items with their images on the device, slot-major."""

    first: int
    layout: SlotLayout
    side: Side


@dataclass
class Findings:
    """What was noticed about the images on the way.

    Attributes:
        zeros: Images whose LR is zero: of each feature set, by its identity in memory, the rows.
        reconstruction: Counts of RSCR.
    """

    reconstruction: ReconstructionResidual
    zeros: dict[int, set[int]] = field(default_factory=dict)

    @property
    def zero_vectors(self) -> int:
        """Images of either side whose LR is zero."""
        return sum(len(rows) for rows in self.zeros.values())


class DistanceEngine:
    """Computes the distances of every query item to every gallery item.

    Args:
        query: Features of the queries.
        queries: Items of the query side.
        gallery: Features of the gallery.
        items: Items of the gallery side.
        metrics: What to compute; all share one pass over the products.
        definition: ``paper`` or ``released``.
        alpha: RSCR's weight of the codes' absolute values.
        device: Where to compute.
        budget: Bytes for working arrays.
        product: Path of the matrix products, or ``auto``.
    """

    def __init__(
        self,
        query: FeatureSet,
        queries: Tracks,
        *,
        gallery: FeatureSet,
        items: Tracks,
        metrics: Sequence[Metric],
        definition: Definition,
        alpha: float,
        device: torch.device,
        budget: int,
        product: str = "auto",
    ) -> None:
        self._query, self._queries = query, queries
        self._gallery, self._items = gallery, items
        self._metrics = metrics
        self._definition = definition
        self._device = device
        self._budget = budget
        self.findings = Findings(ReconstructionResidual(alpha))
        names: tuple[Distance, ...] = ("MED", "MCD")
        wanted = [name for name in names if any(metric.distance == name for metric in metrics)]
        size = float(len(queries.rows)) * len(items.rows) * gallery.dimension
        self._images = ImageDistances(
            wanted,
            product=choose_product(device, multiplications=size if wanted else 0, name=product),
            frame=frame_for(self._sample(gallery, items), self._sample(query, queries)),
            workspace=Workspace(device),
        )
        self._kept: list[_Block] = []
        self._twins: Twins | None = None

    def restricted(self, positions: Int64Array) -> DistanceEngine:
        """An engine for the gallery items at these positions alone."""
        other = object.__new__(DistanceEngine)
        other.__dict__ |= self.__dict__
        other._items = self._items.select(positions)
        other._kept, other._twins = [], None
        return other

    def query_blocks(self, *, most: int) -> Iterator[Queries]:
        """The queries in blocks of at most this many.

        Raises:
            DataError: A feature of the gallery is not finite.
        """
        self._survey()
        for first, end in self._cut(self._queries, rows=self._query_rows(), most=most):
            yield Queries(first, end - first)

    def against(self, queries: Queries) -> Iterator[Part]:
        """Distances of these queries to all gallery items, part by part.

        Raises:
            DataError: A feature is not finite, or a distance too large for float32.
        """
        self._survey()
        saved: dict[str, torch.Tensor] = {}
        block = self._block(self._query, self._queries, queries.first, queries.first + queries.count)
        for gallery_block in self._gallery_blocks():
            # No context manager may span the yield: it would hold in the caller's code too.
            with exact_float32():
                results = self._compare(block, gallery_block)
            assert self._twins is not None
            for name, values in results.items():
                self._twins.equalise(name, values, gallery_block.first, gallery_block.layout.items, saved=saved)
                self._check(name, values)
            positions = torch.from_numpy(gallery_block.first + gallery_block.layout.items).to(self._device)
            yield Part(positions, results)

    def saved_columns(self) -> int:
        """Columns of distances that are kept for a block of queries beside those that it is given."""
        self._survey()
        assert self._twins is not None
        return self._twins.saved

    def _check(self, name: str, values: torch.Tensor) -> None:
        if not bool(torch.isfinite(values).all()):
            raise DataError(
                f"{self._gallery.source}: distances by {name} are beyond float32's range",
                hint="the features are too large: scale both sides down",
                file=self._gallery.source,
            )

    def _compare(self, block: _Block, gallery: _Block) -> dict[str, torch.Tensor]:
        """(queries, items) distances by metric: queries in their order, items in that of the block's layout."""
        released = self._definition == "released"
        items = gallery.layout.single_images() if released else gallery.layout
        results: dict[str, torch.Tensor] = {}
        for distance, values in self._images.nearest(block.side, gallery.side, items):
            metrics = {m.aggregation or "min": m.name for m in self._metrics if m.distance == distance}
            wanted: tuple[Aggregation, ...] = tuple(metrics)
            aggregated = (
                aggregate_released(values, block.layout, gallery.layout, aggregations=wanted)
                if released
                else aggregate_queries(values, block.layout, wanted)
            )
            results |= {metrics[name]: result for name, result in aggregated.items()}
        if RSCR in self._metrics:
            results[RSCR.name] = self.findings.reconstruction.between(
                block.side.original, block.layout, gallery=gallery.side.original, items=gallery.layout
            )
        back = torch.from_numpy(np.argsort(block.layout.items)).to(self._device)
        return {metric.name: results[metric.name].index_select(0, back) for metric in self._metrics}

    def _survey(self) -> None:
        """Look at the whole gallery once, and keep it on the device if it fits."""
        if self._twins is not None:
            return
        fits = 4 * self._images.arrays * len(self._items.rows) * self._gallery.dimension <= self._budget * _KEPT
        sums = np.empty(len(self._items.rows), dtype=np.int32)
        for first, end in self._cut_gallery():
            layout, rows = self._read(self._gallery, self._items, first, end)
            sums[self._items.offsets[first] + layout.order] = checksums(rows).cpu().numpy()
            if fits:
                with exact_float32():
                    self._kept.append(_Block(first, layout, self._images.prepare(rows)))
        self._twins = find_twins(self._gallery.matrix, self._items, checksums=sums)

    def _gallery_blocks(self) -> Iterator[_Block]:
        if self._kept:
            yield from self._kept
            return
        for first, end in self._cut_gallery():
            yield self._block(self._gallery, self._items, first, end)

    def _cut_gallery(self) -> Iterator[tuple[int, int]]:
        return self._cut(self._items, rows=self._gallery_rows(), most=len(self._items))

    def _cut(self, tracks: Tracks, *, rows: int, most: int) -> Iterator[tuple[int, int]]:
        """Whole items of about this many rows together, at least one and at most so many."""
        first = 0
        while first < len(tracks):
            end = int(np.searchsorted(tracks.offsets, tracks.offsets[first] + rows, side="right")) - 1
            end = max(first + 1, min(end, first + most))
            yield first, end
            first = end

    def _block(self, features: FeatureSet, tracks: Tracks, first: int, end: int) -> _Block:
        layout, rows = self._read(features, tracks, first, end)
        with exact_float32():
            return _Block(first, layout, self._images.prepare(rows))

    def _read(self, features: FeatureSet, tracks: Tracks, first: int, end: int) -> tuple[SlotLayout, torch.Tensor]:
        """Layout and slot-major images of consecutive items."""
        layout = slot_layout(tracks.lengths[first:end])
        rows = tracks.rows[tracks.offsets[first] : tracks.offsets[end]][layout.order]
        return layout, self._fetch(features, rows)

    def _fetch(self, features: FeatureSet, rows: Int64Array) -> torch.Tensor:
        tensor = torch.from_numpy(features.matrix.take(rows)).to(self._device)
        lengths = torch.linalg.vector_norm(tensor, dim=1)
        if bool((torch.isfinite(lengths) & (lengths > 0)).all()):
            return tensor
        # Of very large or small numbers the squares are beyond float32: only the largest number tells.
        peaks = torch.linalg.vector_norm(tensor, ord=torch.inf, dim=1)
        if not bool(torch.isfinite(peaks).all()):
            row = rows[int((~torch.isfinite(peaks)).nonzero()[0, 0])]
            raise DataError(
                f"{features.source}: the feature of image {features.image_id[row]} is not finite",
                hint="extract it again, or remove the image",
                file=features.source,
            )
        zeros = (peaks == 0).nonzero()[:, 0].tolist()
        # By the set itself: two sets in memory may have the same name, and one may be both sides.
        self.findings.zeros.setdefault(id(features), set()).update(int(rows[index]) for index in zeros)
        return tensor

    def _sample(self, features: FeatureSet, tracks: Tracks) -> torch.Tensor:
        """Rows from all over one side."""
        count = len(tracks.rows)
        sample = np.unique(np.linspace(0, count - 1, min(count, _FRAME_ROWS)).astype(np.int64))
        return self._fetch(features, tracks.rows[sample])

    def _query_rows(self) -> int:
        """Query images a block: half as many as gallery images, so that the products fit their part."""
        return max(_FEWEST_ROWS, int((self._budget * _PRODUCTS / 8) ** 0.5))

    def _gallery_rows(self) -> int:
        """Gallery images a block, so that the products and the images themselves fit their parts."""
        across = min(self._query_rows(), max(1, len(self._queries.rows)))
        by_products = self._budget * _PRODUCTS / (4 * across)
        by_images = self._budget * _BLOCK / (4 * self._images.arrays * self._gallery.dimension)
        return max(_FEWEST_ROWS, int(min(by_products, by_images)))
