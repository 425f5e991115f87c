"""Two feature sets to rankings: the one function that notebooks and the command line share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import get_args

import numpy as np
import torch

from vreid_cli.errors import DataError, DeviceError, UsageError
from vreid_cli.ranking.engine import DistanceEngine, Queries
from vreid_cli.ranking.metrics import RSCR, Metric, parse_metrics
from vreid_cli.ranking.reranking import Reranker, RerankOptions, pool_of
from vreid_cli.ranking.selection import Limits, Listing, MergedLists, RowLists, columns_of, listed_bytes
from vreid_cli.ranking.tracks import find_selves, group_tracks, image_items, query_tracks_in
from vreid_cli.runtime.devices import choose_device
from vreid_cli.runtime.memory import memory_budget
from vreid_cli.runtime.products import PATHS
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.rankings import Coverage, Definition, Ranking, RankingBlock, RankingFacts, Task
from vreid_cli.types.tracks import Items, Tracks, TrackUnit

#: Part of the memory budget that the lists of a block of queries may take.
_LISTS = 1 / 4
#: With fewer queries at a time than this, reading the gallery again for each block costs more than merging.
_FEW_QUERIES = 256


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
        threshold: List what is no farther than this, and every same-vehicle item; None for all.
        whole_tracks: Take the query tracks whole from the gallery (VeRi's track-to-track protocol).
        device: As ``--device``.
        memory_budget_mb: Mebibytes for working arrays, or ``auto``.
        alpha: RSCR's weight of the codes' absolute values, above 0.
        rerank: Re-rank by k-reciprocal neighbours with these numbers; None for the distances themselves.
        product: Path of the matrix products, a key of :data:`vreid_cli.runtime.products.PATHS`, or ``auto``.
    """

    task: Task = "t2t"
    metrics: tuple[str, ...] = ("meanMCD50",)
    definition: Definition = "paper"
    track_unit: TrackUnit = "passage"
    cameras: str = "all"
    top_k: int | None = None
    threshold: float | None = None
    whole_tracks: bool = False
    device: str = "auto"
    memory_budget_mb: int | str = "auto"
    alpha: float = 1.0
    rerank: RerankOptions | None = None
    product: str = "auto"


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
        _check_options(options)
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
    def steps(self) -> int:
        """What the calls of ``advance`` add up to: re-ranking looks at queries and gallery twice before."""
        pool = len(self._queries) + len(self._items) if self._options.rerank else 0
        return len(self._queries) + 2 * pool

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
            advance: Called with numbers that add up to :attr:`steps`.
        """
        budget = memory_budget(self._options.memory_budget_mb, self._device)
        engine = self._engine(self._query, self._queries, gallery=self._gallery, items=self._items, budget=budget)
        reranker = self._reranker(budget, advance)
        limits = Limits(self._options.top_k, self._options.threshold, self._options.cameras == "other")
        by_name = self._options.definition == "released"
        listing = Listing(self.queries, self.gallery, limits=limits, ties_by_name=by_name)
        most, merge = self._block_size(engine, budget)
        for queries in engine.query_blocks(most=most):
            lists = self._merged(engine, listing, queries) if merge else self._rows(listing, queries)
            names = [metric.name for metric in self.metrics]
            around = {name: reranker.distances(queries, name) for name in names} if reranker else {}
            for part in engine.against(queries):
                lists.add(reranker.mix(part, around) if reranker else part)
            yield lists.finish()
            advance(queries.count)
        self.zero_vectors = engine.findings.zero_vectors
        self.notes = self._notes(engine)

    def _engine(
        self, query: FeatureSet, queries: Tracks, *, gallery: FeatureSet, items: Tracks, budget: int
    ) -> DistanceEngine:
        return DistanceEngine(
            query,
            queries,
            gallery=gallery,
            items=items,
            metrics=self.metrics,
            definition=self._options.definition,
            alpha=self._options.alpha,
            device=self._device,
            budget=budget,
            product=self._options.product,
        )

    def _reranker(self, budget: int, advance: Callable[[int], object]) -> Reranker | None:
        if self._options.rerank is None:
            return None
        pool, items = pool_of(self._query, self._queries, gallery=self._gallery, items=self._items)
        return Reranker(
            self._engine(pool, items, gallery=pool, items=items, budget=budget),
            queries=len(self._queries),
            size=len(items),
            options=self._options.rerank,
            advance=advance,
        )

    def _block_size(self, engine: DistanceEngine, budget: int) -> tuple[int, bool]:
        """Queries that may be compared at a time, and whether their lists are merged while the gallery goes by."""
        saved = 4 * len(self.metrics) * engine.saved_columns()
        # Re-ranking keeps a second distance for each.
        each = listed_bytes(len(self.metrics) * (2 if self._options.rerank else 1))
        most = int(budget * _LISTS / (len(self._items) * each + saved))
        limited = self._options.top_k is not None and self._options.top_k < len(self._items)
        if limited and not self._options.rerank and most < min(_FEW_QUERIES, len(self._queries)):
            return max(1, int(budget * _LISTS / saved)) if saved else len(self._queries), True
        return max(1, most), False

    def _rows(self, listing: Listing, queries: Queries) -> RowLists:
        return RowLists(listing, queries, size=len(self._items))

    def _merged(self, engine: DistanceEngine, listing: Listing, queries: Queries) -> MergedLists:
        pairs = listing.pairs(queries)
        items = np.unique(pairs.item)
        known = {
            metric.name: torch.empty(len(pairs.item), dtype=torch.float32, device=self._device)
            for metric in self.metrics
        }
        if len(items):
            for part in engine.restricted(items).against(queries):
                positions = torch.from_numpy(items).to(self._device)[part.items]
                query, column, which = columns_of(pairs, positions)
                for name, values in part.by_metric.items():
                    known[name][which] = values[query, column]
        return MergedLists(listing, queries, pairs=pairs, known=known)

    def _notes(self, engine: DistanceEngine) -> list[str]:
        """What is doubtful about the distances."""
        notes = []
        names = [metric.name for metric in self.metrics]
        if self.zero_vectors and any(metric.distance == "MCD" for metric in self.metrics):
            notes.append(f"{self.zero_vectors} images have a zero LR: their cosine distance to every image is 1")
        if RSCR.name in names and not engine.findings.reconstruction.used:
            notes.append(
                f"RSCR with α = {self._options.alpha:g}: every code is zero, so the ranking says nothing; "
                "for LRs of small norm choose a smaller α (rank.alpha)"
            )
        if engine.findings.reconstruction.unsolved:
            notes.append(
                f"RSCR: {engine.findings.reconstruction.unsolved} sparse codes did not reach the wanted accuracy"
            )
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
            threshold=options.threshold,
            rerank=asdict(options.rerank) if options.rerank else None,
            query_lengths=self._lengths(),
            selves=selves,
        )

    def _lengths(self) -> dict[str, int]:
        if self._options.task != "t2t":
            return {}
        return {str(name): int(length) for name, length in zip(self.queries.ids, self._queries.lengths, strict=True)}

    def _coverage(self) -> Coverage:
        options = self._options
        if options.threshold is None and (options.top_k is None or options.top_k >= len(self._items)):
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
            f"none of the {len(query)} query images is in the gallery, so there is no query track",
            hint="VeRi's query tracks are gallery tracks that hold a query image: check the query split",
            file=query.source,
        )
    return gallery, tracks, lost


def _check_options(options: RankingOptions) -> None:
    """The command line checks its options by itself; a notebook may say anything."""
    rerank = options.rerank or RerankOptions()
    rules: dict[str, tuple[object, bool]] = {
        "task": (options.task, options.task in get_args(Task)),
        "definition": (options.definition, options.definition in get_args(Definition)),
        "track_unit": (options.track_unit, options.track_unit in get_args(TrackUnit)),
        "cameras": (options.cameras, options.cameras in ("all", "other")),
        "metrics": (options.metrics, len(options.metrics) > 0),
        "top_k": (options.top_k, options.top_k is None or options.top_k >= 1),
        "threshold": (options.threshold, options.threshold is None or 0 <= options.threshold < math.inf),
        "alpha": (options.alpha, 0 < options.alpha < math.inf),
        "product": (options.product, options.product in ("auto", *PATHS)),
        "rerank": (rerank, rerank.k1 >= 1 and rerank.k2 >= 1 and 0 <= rerank.lambda_value <= 1),
    }
    for name, (value, allowed) in rules.items():
        if not allowed:
            raise UsageError(
                f"RankingOptions: {name} cannot be {value!r}",
                hint="help(vreid_cli.RankingOptions) tells what is allowed",
            )


def _check_fit(query: FeatureSet, gallery: FeatureSet) -> None:
    for name, features in (("query", query), ("gallery", gallery)):
        if not len(features):
            raise DataError(f"the {name} {features.source} holds no features", file=features.source)
        if not features.dimension:
            raise DataError(f"the features of the {name} {features.source} are 0 wide", file=features.source)
    if query.dimension != gallery.dimension:
        raise DataError(
            f"the query's features are {query.dimension} wide, the gallery's {gallery.dimension}",
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
