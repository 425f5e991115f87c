"""Two feature sets to rankings: the one function that notebooks and the command line share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from vreid_cli.errors import DataError, DeviceError
from vreid_cli.ranking.engine import DistanceEngine, QueryDistances
from vreid_cli.ranking.metrics import RSCR, Metric, parse_metrics
from vreid_cli.ranking.tracks import find_selves, group_tracks, image_items, query_tracks_in
from vreid_cli.runtime.devices import choose_device
from vreid_cli.runtime.memory import memory_budget
from vreid_cli.types import (
    Coverage,
    Definition,
    FeatureSet,
    Int64Array,
    Items,
    Ranking,
    RankingBlock,
    RankingFacts,
    Task,
    Tracks,
    TrackUnit,
    shared_codes,
)


@dataclass(frozen=True)
class RankingOptions:
    """What is compared with what, and what of it is listed.

    Attributes:
        task: ``t2t``, ``i2t`` or ``i2i``.
        metrics: Names, or ``all``.
        definition: ``paper`` or ``released``.
        track_unit: ``passage`` or ``camera``.
        cameras: ``all``, or ``other`` to leave out items of the query's own camera.
        top_k: List this many of the nearest, and every same-vehicle item; None for all.
        whole_tracks: Take the query tracks whole from the gallery (VeRi's track-to-track protocol).
        device: As ``--device``.
        memory_budget_mb: Mebibytes for working arrays, or ``auto``.
        alpha: RSCR's weight of the codes' absolute values, above 0.
    """

    task: Task = "t2t"
    metrics: tuple[str, ...] = ("meanMCD50",)
    definition: Definition = "paper"
    track_unit: TrackUnit = "passage"
    cameras: str = "all"
    top_k: int | None = None
    whole_tracks: bool = False
    device: str = "auto"
    memory_budget_mb: int | str = "auto"
    alpha: float = 1.0


class RankingPlan:
    """Both sides gathered and checked, before any distance is computed.

    Args:
        query: Features of the queries.
        gallery: Features of the gallery.
        options: What to do.

    Raises:
        UsageError: A metric is unknown, or the options contradict each other.
        DataError: The sides do not fit each other, one is empty, or labels that are needed are missing.
        DeviceError: The device is not there.
    """

    def __init__(self, query: FeatureSet, gallery: FeatureSet, options: RankingOptions) -> None:
        self.metrics: Sequence[Metric] = parse_metrics(options.metrics, options.task, definition=options.definition)
        _check_fit(query, gallery)
        self._options = options
        self._device = choose_device(options.device)
        if RSCR in self.metrics and self._device.type == "mps":
            raise DeviceError(f"RSCR needs float64, which {self._device} does not have", hint="use --device cpu")
        self._gallery = gallery
        unit = options.track_unit
        self._items = image_items(gallery) if options.task == "i2i" else group_tracks(gallery, unit)
        self._query, self._queries, self.lost_queries = _query_side(query, gallery, self._items, options=options)
        selves = find_selves(self._query, self._queries, gallery=gallery, items=self._items)
        self._facts = self._describe(query, selves)
        self.zero_vectors = 0
        self.notes: list[str] = []

    @property
    def queries(self) -> Items:
        """The queries with their labels."""
        return self._queries.items

    @property
    def gallery(self) -> Items:
        """The gallery items with their labels."""
        return self._items.items

    @property
    def meaningless(self) -> bool:
        """Whether the features come from random weights."""
        return self._facts.meaningless

    def facts(self, metric: Metric) -> RankingFacts:
        """How the ranking by this metric is made."""
        return replace(
            self._facts, metric=metric.name, alpha=self._options.alpha if metric.distance == RSCR.distance else None
        )

    def blocks(self, advance: Callable[[int], object] = lambda queries: None) -> Iterator[dict[str, RankingBlock]]:
        """Ranked lists by metric name, a block of queries at a time.

        Args:
            advance: Called with the number of queries that each block held.
        """
        engine = DistanceEngine(
            self._query,
            self._queries,
            gallery=self._gallery,
            items=self._items,
            metrics=self.metrics,
            definition=self._options.definition,
            alpha=self._options.alpha,
            device=self._device,
            budget=memory_budget(self._options.memory_budget_mb, self._device),
        )
        select = _Selection(self.queries, self.gallery, options=self._options)
        for distances in engine.run():
            yield {name: select.lists(distances.first, values) for name, values in distances.by_metric.items()}
            advance(_count(distances))
        self.zero_vectors = engine.zero_vectors
        self.notes = self._notes(engine)

    def _notes(self, engine: DistanceEngine) -> list[str]:
        """What is doubtful about the distances."""
        notes = []
        names = [metric.name for metric in self.metrics]
        if self.zero_vectors and any(metric.distance == "MCD" for metric in self.metrics):
            notes.append(f"{self.zero_vectors} images have a zero LR: their cosine distance to every image is 1")
        if RSCR.name in names and not engine.reconstruction.used:
            notes.append(
                f"RSCR with α = {self._options.alpha:g}: every code is zero, so the ranking says nothing; "
                "for LRs of small norm choose a smaller α (rank.alpha)"
            )
        if engine.reconstruction.unsolved:
            notes.append(f"RSCR: {engine.reconstruction.unsolved} sparse codes did not reach the wanted accuracy")
        return notes

    def _describe(self, query: FeatureSet, selves: Mapping[str, tuple[str, ...]]) -> RankingFacts:
        options = self._options
        return RankingFacts(
            dataset=self._gallery.dataset or query.dataset,
            task=options.task,
            definition=options.definition,
            track_unit=None if options.task == "i2i" else options.track_unit,
            query_source="gallery" if options.whole_tracks else "query",
            query_identity=query.identity,
            gallery_identity=self._gallery.identity,
            weights=self._gallery.weights or query.weights,
            coverage=self._coverage(),
            gallery_size=len(self._items),
            query_count=len(self._queries),
            cameras=options.cameras,
            top_k=options.top_k,
            selves=selves,
        )

    def _coverage(self) -> Coverage:
        if self._options.top_k is None or self._options.top_k >= len(self._items):
            return "full"
        labelled = _any_label(self.queries) and _any_label(self.gallery)
        return "positives" if labelled else "top-k"


def rank(query: FeatureSet, gallery: FeatureSet, options: RankingOptions | None = None) -> dict[str, Ranking]:
    """Rank the gallery for every query, in memory.

    Args:
        query: (N_q, D) features of the queries.
        gallery: (N_r, D) features of the gallery.
        options: What to do; by default meanMCD50 between tracks.

    Returns:
        A ranking for each metric, by the metric's name.

    Raises:
        VreidError: As :class:`RankingPlan` says.
    """
    plan = RankingPlan(query, gallery, options or RankingOptions())
    collected: dict[str, list[RankingBlock]] = {metric.name: [] for metric in plan.metrics}
    for blocks in plan.blocks():
        for name, block in blocks.items():
            collected[name].append(block)
    return {
        metric.name: Ranking(plan.facts(metric), plan.queries, plan.gallery, tuple(collected[metric.name]))
        for metric in plan.metrics
    }


def _query_side(
    query: FeatureSet, gallery: FeatureSet, items: Tracks, *, options: RankingOptions
) -> tuple[FeatureSet, Tracks, list[str]]:
    if options.task != "t2t":
        return query, image_items(query), []
    if not options.whole_tracks:
        return query, group_tracks(query, options.track_unit), []
    tracks, lost = query_tracks_in(gallery, items, query)
    if not len(tracks):
        raise DataError(
            f"none of the {len(query)} query pictures is in the gallery, so there is no query track",
            hint="VeRi's query tracks are gallery tracks that hold a query picture: check the query split",
            file=query.source,
        )
    return gallery, tracks, lost


def _check_fit(query: FeatureSet, gallery: FeatureSet) -> None:
    for name, features in (("query", query), ("gallery", gallery)):
        if not len(features):
            raise DataError(f"the {name} {features.source} holds no features", file=features.source)
        if not features.width:
            raise DataError(f"the features of the {name} {features.source} are 0 wide", file=features.source)
    if query.width != gallery.width:
        raise DataError(
            f"the query's features are {query.width} wide, the gallery's {gallery.width}",
            hint="both must come from the same network",
            file=query.source,
        )
    one, other = query.identity, gallery.identity
    if one is not None and other is not None and dict(one) != dict(other):
        field = next(key for key in (*one, *other) if one.get(key) != other.get(key))
        raise DataError(
            f"query and gallery were made differently: {field} is '{one.get(field)}' and '{other.get(field)}'",
            hint="extract both with the same architecture, weights and transform",
            file=query.source,
        )


def _any_label(items: Items) -> bool:
    return any(vehicle is not None for vehicle in items.vehicles)


def _count(distances: QueryDistances) -> int:
    return len(next(iter(distances.by_metric.values())))


class _Selection:
    """Sorts rows of distances and keeps what is to be listed."""

    def __init__(self, queries: Items, gallery: Items, *, options: RankingOptions) -> None:
        self._top_k = options.top_k
        self._other = options.cameras == "other"
        self._vehicles = shared_codes(queries.vehicles, gallery.vehicles)
        self._cameras = shared_codes(queries.cameras, gallery.cameras)
        # The authors' code breaks ties by the track's name; ours by gallery order.
        by_name = options.definition == "released"
        self._tie_order = np.argsort(gallery.ids.astype(str), kind="stable") if by_name else None

    def lists(self, first: int, distances: torch.Tensor) -> RankingBlock:
        """Ranked lists of the queries from ``first`` on: (queries, gallery) distances, nearest first."""
        gallery_index, ordered = self._sort(distances)
        count, size = ordered.shape
        query_index = np.repeat(np.arange(first, first + count, dtype=np.int64), size)
        ranks = np.tile(np.arange(1, size + 1, dtype=np.int32), count)
        flat = gallery_index.reshape(-1)
        if not self._other and (self._top_k is None or self._top_k >= size):
            return RankingBlock(query_index, ranks, flat, ordered.reshape(-1))
        return self._listed(RankingBlock(query_index, ranks, flat, ordered.reshape(-1)), first, size=size)

    def _sort(self, distances: torch.Tensor) -> tuple[Int64Array, np.ndarray]:
        if self._tie_order is None:
            ordered, index = distances.sort(dim=1, stable=True)
            return index.cpu().numpy(), ordered.cpu().numpy()
        ties = torch.from_numpy(self._tie_order).to(distances.device)
        ordered, index = distances[:, ties].sort(dim=1, stable=True)
        return ties[index].cpu().numpy(), ordered.cpu().numpy()

    def _listed(self, block: RankingBlock, first: int, *, size: int) -> RankingBlock:
        keep = np.ones(len(block.rank), dtype=bool)
        ranks = block.rank
        if self._other:
            own, other = self._cameras
            keep = (own[block.query_index] != other[block.gallery_index]) | (own[block.query_index] < 0)
            ranks = keep.reshape(-1, size).cumsum(axis=1, dtype=np.int32).reshape(-1)
        if self._top_k is not None:
            own, other = self._vehicles
            same = (own[block.query_index] == other[block.gallery_index]) & (own[block.query_index] >= 0)
            keep = keep & ((ranks <= self._top_k) | same)
        return RankingBlock(block.query_index[keep], ranks[keep], block.gallery_index[keep], block.distance[keep])
