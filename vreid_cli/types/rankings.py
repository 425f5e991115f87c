"""Ranked lists, and how they were made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from vreid_cli.types.arrays import Float32Array, Int32Array
from vreid_cli.types.features import RANDOM_WEIGHTS
from vreid_cli.types.tracks import Items, TrackUnit

Task = Literal["t2t", "i2t", "i2i"]


Definition = Literal["paper", "released"]


Coverage = Literal["full", "positives", "top-k"]


@dataclass(frozen=True)
class RankingFacts:
    """How a ranking was made; a fact that is not known is None.

    Attributes:
        dataset: Name of the data set's layout.
        task: ``t2t``, ``i2t`` or ``i2i``.
        metric: One of the paper's names, as ``meanMCD50``.
        definition: ``paper`` or ``released``.
        track_unit: ``passage`` or ``camera``.
        query_source: The split that the query items were taken from.
        query_identity: What made the query's features.
        gallery_identity: What made the gallery's features.
        weights: What the network's weights were called.
        coverage: ``full``: every gallery item is listed; ``positives``: at least every same-vehicle item,
            at its true rank; ``top-k``: the nearest only.
        gallery_size: Number of gallery items, listed or not.
        query_count: Number of queries, also those that list nothing.
        trial: Number of the random split into gallery and queries, from 0; None where nothing was split.
        trial_seed: The seed of that split.
        cameras: ``all``, or ``other`` where items of the query's own camera were never ranked.
        top_k: How many of the nearest are listed, where that was limited.
        threshold: Largest distance that is listed, where that was limited.
        alpha: RSCR's weight of the codes' absolute values.
        rerank: The numbers of k-reciprocal re-ranking, ``k1``, ``k2`` and ``lambda_value``, where that was done.
        query_lengths: Number of images of each query track.
        selves: For each query, the gallery items that are the query itself.
    """

    dataset: str | None = None
    task: Task | None = None
    metric: str | None = None
    definition: Definition | None = None
    track_unit: TrackUnit | None = None
    query_source: str | None = None
    query_identity: Mapping[str, str] | None = None
    gallery_identity: Mapping[str, str] | None = None
    weights: str | None = None
    coverage: Coverage = "full"
    gallery_size: int = 0
    query_count: int | None = None
    trial: int | None = None
    trial_seed: int | None = None
    cameras: str = "all"
    top_k: int | None = None
    threshold: float | None = None
    alpha: float | None = None
    rerank: Mapping[str, float] | None = None
    query_lengths: Mapping[str, int] = field(default_factory=dict)
    selves: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def listed(self) -> str | None:
        """What is listed, in words; None where that is every item."""
        if self.coverage == "full":
            return None
        nearest = [f"the {self.top_k:,} nearest"] if self.top_k is not None else []
        within = [f"what is no farther than {self.threshold:g}"] if self.threshold is not None else []
        limits = " of ".join([*nearest, *within]) or "some items"
        vehicle = " and the query's vehicle" if self.coverage == "positives" else ""
        return f"only {limits}{vehicle} listed"

    @property
    def recipe(self) -> tuple[str, ...]:
        """The numbers that belong to the metric, in words."""
        alpha = (f"α {self.alpha:g}",) if self.alpha is not None else ()
        numbers = " ".join(f"{name} {value:g}" for name, value in (self.rerank or {}).items())
        return (*alpha, *((f"re-ranked ({numbers})",) if self.rerank else ()))

    @property
    def meaningless(self) -> bool:
        """Whether random weights made the features, so that nothing follows from the ranking."""
        return self.weights == RANDOM_WEIGHTS


@dataclass(frozen=True, eq=False)
class RankingBlock:
    """Whole ranked lists of consecutive queries, one row a listed gallery item, nearest first.

    Attributes:
        query_index: (R,) int32 position of the query in the ranking, rising.
        rank: (R,) int32, 1-based, rising within a query; gaps where items are not listed.
        gallery_index: (R,) int32 position of the gallery item.
        distance: (R,) float32.
    """

    query_index: Int32Array
    rank: Int32Array
    gallery_index: Int32Array
    distance: Float32Array


@dataclass(frozen=True, eq=False)
class Ranking:
    """A whole ranking in memory: facts, the labelled items of both sides, and the ranked lists in blocks."""

    facts: RankingFacts
    queries: Items
    gallery: Items
    blocks: tuple[RankingBlock, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RankedItem:
    """One row of a ranking, for showing it."""

    query_id: str
    query_vehicle: str | None
    query_camera: str | None
    rank: int
    gallery_id: str
    gallery_vehicle: str | None
    gallery_camera: str | None
    distance: float
