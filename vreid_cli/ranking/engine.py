"""Blocks of queries against blocks of the gallery, within a memory budget, on any device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vreid_cli.errors import DataError
from vreid_cli.ranking.aggregation import (
    SlotLayout,
    aggregate_queries,
    aggregate_released,
    nearest_image,
    slot_layout,
)
from vreid_cli.ranking.distances import CosineDistance, EuclideanDistance, ImageDistance, coarse_mean
from vreid_cli.ranking.metrics import RSCR, Metric
from vreid_cli.ranking.rscr import ReconstructionResidual
from vreid_cli.ranking.twins import find_twins
from vreid_cli.runtime.devices import exact_float32
from vreid_cli.types import Definition, FeatureSet, Int64Array, Tracks

#: Gallery rows that the centre of MED is the mean of: enough to lie amid the data, few enough to be quick.
_CENTRE_ROWS = 4096
#: A block's product, its slot-major parts and the sort of the aggregation are alive together.
_COPIES = 6
#: What a listed item takes while a query's list is sorted and handed on.
_LISTED_BYTES = 64


@dataclass(frozen=True)
class _Block:
    """Consecutive items with their images on the device, slot-major."""

    first: int
    layout: SlotLayout
    rows: torch.Tensor


@dataclass(frozen=True)
class QueryDistances:
    """Distances of consecutive queries to the whole gallery.

    Attributes:
        first: Position of the first query.
        by_metric: Metric name to (queries, gallery items) float32 on the device.
    """

    first: int
    by_metric: Mapping[str, torch.Tensor]


class DistanceEngine:
    """Computes the distances of every query item to every gallery item.

    Args:
        query: Features of the queries.
        queries: Items of the query side.
        gallery: Features of the gallery.
        items: Items of the gallery side.
        metrics: What to compute; metrics of one distance share its products.
        definition: ``paper`` or ``released``.
        alpha: RSCR's weight of the codes' absolute values.
        device: Where to compute.
        budget: Bytes for working arrays.
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
    ) -> None:
        self._query, self._queries = query, queries
        self._gallery, self._items = gallery, items
        self._metrics = metrics
        self._definition = definition
        self.reconstruction = ReconstructionResidual(alpha)
        self._device = device
        self._budget = budget
        # By the set itself: two sets in memory may have the same name, and one may be both sides.
        self._zeros: dict[int, set[int]] = {}
        self._checksums = np.zeros(len(items.rows), dtype=np.float32)

    @property
    def zero_vectors(self) -> int:
        """Images of either side whose LR is zero, among those looked at so far."""
        return sum(len(rows) for rows in self._zeros.values())

    def run(self) -> Iterator[QueryDistances]:
        """The distances, a block of queries at a time.

        Raises:
            DataError: A feature is not finite, or too large for float32.
        """
        distances: dict[str, ImageDistance] = {
            name: self._distance(name)
            for name in dict.fromkeys(m.distance for m in self._metrics)
            if name != RSCR.distance
        }
        twins: tuple[Int64Array, Int64Array] | None = None
        for block in self._blocks(self._query, self._queries, most_items=self._most_queries()):
            results = self._against_gallery(block, distances)
            # The first pass over the gallery leaves its checksums.
            twins = twins or find_twins(self._gallery.matrix, self._items, checksums=self._checksums)
            self._settle(results, twins)
            yield QueryDistances(block.first, results)

    def _settle(self, results: Mapping[str, torch.Tensor], twins: tuple[Int64Array, Int64Array]) -> None:
        """Give equal items the very same distances, and make sure that all are numbers."""
        later, first = (torch.from_numpy(positions).to(self._device) for positions in twins)
        for name, values in results.items():
            # A product rounds equal columns differently, by their place in a block; ties would be lost.
            values[:, later] = values[:, first]
            if not bool(torch.isfinite(values).all()):
                raise DataError(
                    f"{self._gallery.source}: distances by {name} are beyond float32's range",
                    hint="the features are too large: scale both sides down",
                    file=self._gallery.source,
                )

    def _against_gallery(self, block: _Block, distances: Mapping[str, ImageDistance]) -> dict[str, torch.Tensor]:
        shape = (block.layout.count, len(self._items))
        results = {metric.name: torch.empty(shape, device=self._device) for metric in self._metrics}
        with torch.inference_mode(), exact_float32():
            prepared = {name: distance.prepare(block.rows) for name, distance in distances.items()}
            for gallery_block in self._blocks(self._gallery, self._items, most_items=len(self._items)):
                columns = slice(gallery_block.first, gallery_block.first + gallery_block.layout.count)
                images = self._items.offsets[gallery_block.first] + gallery_block.layout.order
                self._checksums[images] = gallery_block.rows.sum(dim=1).cpu().numpy()
                for name, distance in distances.items():
                    values = distance.between(prepared[name], distance.prepare(gallery_block.rows))
                    for metric, aggregated in self._aggregate(name, values, block, gallery_block):
                        results[metric][:, columns] = aggregated
                if RSCR.name in results:
                    results[RSCR.name][:, columns] = self.reconstruction.between(
                        block.rows, block.layout, gallery=gallery_block.rows, items=gallery_block.layout
                    )
        return results

    def _aggregate(
        self, distance: str, values: torch.Tensor, block: _Block, gallery_block: _Block
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Each metric of this distance with its (queries, items) block."""
        metrics = [metric for metric in self._metrics if metric.distance == distance]
        if self._definition == "released":
            for metric in metrics:
                assert metric.aggregation is not None
                yield (
                    metric.name,
                    aggregate_released(values, block.layout, gallery_block.layout, aggregation=metric.aggregation),
                )
            return
        nearest = nearest_image(values, gallery_block.layout)
        for metric in metrics:
            yield metric.name, aggregate_queries(nearest, block.layout, metric.aggregation or "min")

    def _blocks(self, features: FeatureSet, tracks: Tracks, *, most_items: int) -> Iterator[_Block]:
        """Whole items, as many as the budget has room for, at least one."""
        first = 0
        while first < len(tracks):
            limit = tracks.offsets[first] + self._block_rows()
            end = int(np.searchsorted(tracks.offsets, limit, side="right")) - 1
            end = max(first + 1, min(end, first + most_items))
            layout = slot_layout(tracks.lengths[first:end], self._device)
            owned = tracks.rows[tracks.offsets[first] : tracks.offsets[end]][layout.order]
            yield _Block(first, layout, self._fetch(features, owned))
            first = end

    def _fetch(self, features: FeatureSet, rows: Int64Array) -> torch.Tensor:
        tensor = torch.from_numpy(features.matrix.take(rows)).to(self._device)
        peaks = torch.linalg.vector_norm(tensor, ord=torch.inf, dim=1)
        if not bool(torch.isfinite(peaks).all()):
            row = rows[int((~torch.isfinite(peaks)).nonzero()[0, 0])]
            raise DataError(
                f"{features.source}: the feature of image {features.image_id[row]} is not finite",
                hint="extract it again, or remove the image",
                file=features.source,
            )
        zeros = (peaks == 0).nonzero()[:, 0].tolist()
        self._zeros.setdefault(id(features), set()).update(int(rows[index]) for index in zeros)
        return tensor

    def _distance(self, name: str) -> ImageDistance:
        if name == "MCD":
            return CosineDistance()
        count = len(self._items.rows)
        sample = np.unique(np.linspace(0, count - 1, min(count, _CENTRE_ROWS)).astype(np.int64))
        return EuclideanDistance(coarse_mean(self._fetch(self._gallery, self._items.rows[sample])))

    def _block_rows(self) -> int:
        """Images a block, so that a square of distances fits the budget."""
        return max(64, int((self._budget / (4 * _COPIES)) ** 0.5))

    def _most_queries(self) -> int:
        """Queries a block, so that their results, which are as long as the gallery, fit the budget."""
        per_query = len(self._items) * (_LISTED_BYTES + 4 * len(self._metrics))
        return max(1, self._budget // per_query)
