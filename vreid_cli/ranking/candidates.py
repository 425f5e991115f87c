"""Rankings of those gallery items alone that an index proposes for each query, by the exact metric."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from vreid_cli.errors import DataError, UsageError
from vreid_cli.ranking.diagnostics import Diagnostics
from vreid_cli.ranking.duplicates import Duplicates
from vreid_cli.ranking.engine import BlockDistances, DistanceEngine, ItemImages
from vreid_cli.ranking.metrics import DISTANCES, Metric
from vreid_cli.ranking.reranking import encode_pool, join_sides, rerank
from vreid_cli.ranking.selection import ListRules, RankedBlock, sort_whole
from vreid_cli.types.amounts import amount
from vreid_cli.types.arrays import Float32Array, Int64Array, shared_codes
from vreid_cli.types.index import Geometry
from vreid_cli.types.rankings import RankingBlock
from vreid_cli.types.tracks import Items

#: Query images that are searched for at a time.
_SEARCHED = 256


class ImageSearch(Protocol):
    """Finds images of the gallery that are near; an :class:`~vreid_cli.store.image_index.ImageIndex` is one."""

    @property
    def distance(self) -> Geometry:
        """What is near."""

    def __len__(self) -> int:
        """Number N of images."""

    def search(self, images: Float32Array, count: int) -> tuple[Float32Array, Int64Array]:
        """The nearest images to each of (Q, D) images; all of them where ``count`` is N.

        Returns:
            (Q, count) distances, rising, and rows of the gallery's features; -1 where no more were found.
        """


@dataclass(frozen=True)
class CandidateFinder:
    """Proposes gallery items for queries: those that hold the images nearest to any of the query's.

    Attributes:
        search: Finds images.
        gallery: The gallery items.
        count: How many to propose for each query.
        owner: (N,) item that each row of the gallery's features belongs to.
        cameras: Codes of the queries' and the items' cameras, where items of the query's own are never ranked.
    """

    search: ImageSearch
    gallery: ItemImages
    count: int
    owner: Int64Array
    cameras: tuple[Int64Array, Int64Array] | None

    @classmethod
    def make(
        cls, search: ImageSearch, queries: Items, gallery: ItemImages, *, count: int, other_cameras: bool
    ) -> CandidateFinder:
        """A finder for these queries."""
        items = gallery.items
        owner = np.empty(len(items.rows), dtype=np.int64)
        owner[items.rows] = np.repeat(np.arange(len(items)), items.lengths)
        cameras = shared_codes(queries.cameras, items.items.cameras) if other_cameras else None
        return cls(search, gallery, count, owner, cameras)

    def find(self, query: ItemImages, positions: range) -> list[Int64Array]:
        """For each of these queries, rising positions of the items that are proposed, ``count`` or all there are."""
        offsets = query.items.offsets[positions.start : positions.stop + 1]
        images = query.features.matrix.take(query.items.rows[offsets[0] : offsets[-1]])
        places = np.split(np.arange(len(images)), offsets[1:-1] - offsets[0])
        found: dict[int, Int64Array] = {}
        # Several of the nearest images may be of one item, so more images than items are asked for.
        hits = min(-(-self.count * len(self.owner) // len(self.gallery)), len(self.search))
        while lacking := [place for place in range(len(positions)) if place not in found]:
            rows = np.concatenate([places[place] for place in lacking])
            distances, nearest = self.search.search(images[rows], hits)
            start = 0
            for place in lacking:
                some = slice(start, start + len(places[place]))
                items, apart = self._nearest(distances[some], nearest[some], positions[place])
                # What was not found is no nearer than the last that was.
                near = np.count_nonzero(apart <= distances[some, -1].min())
                if near >= self.count or hits >= len(self.search):
                    found[place] = np.sort(items[: self.count])
                start = some.stop
            hits = min(2 * hits, len(self.search))
        return [found[place] for place in range(len(positions))]

    def _nearest(self, distances: Float32Array, rows: Int64Array, query: int) -> tuple[Int64Array, Float32Array]:
        """The items of some images that were found, by the nearest image of each, and how near; ties by position."""
        known = rows >= 0
        items, distance = self.owner[rows[known]], distances[known]
        if self.cameras is not None:
            own = self.cameras[0][query]
            ranked = (self.cameras[1][items] != own) | (own < 0)
            items, distance = items[ranked], distance[ranked]
        by_item = np.lexsort((distance, items))
        items, distance = items[by_item], distance[by_item]
        first = np.flatnonzero(np.diff(items, prepend=-1))
        nearest = first[np.lexsort((items[first], distance[first]))]
        return items[nearest], distance[nearest]


def candidate_blocks(
    query: ItemImages, engines: Sequence[tuple[CandidateFinder, DistanceEngine]], rules: ListRules
) -> Iterator[tuple[range, RankedBlock]]:
    """Ranked lists of the candidates of each query, some queries at a time.

    Args:
        query: The queries.
        engines: For each space that metrics are of, what proposes items, and what compares the query with them.
        rules: What is listed of them.

    Yields:
        Consecutive queries, and their lists by metric.
    """
    for positions in query.cut(rows=_SEARCHED):
        found = [(engine, finder.find(query, positions)) for finder, engine in engines]
        yield positions, rank_items(found, rules, positions)


def rank_items(
    found: Sequence[tuple[DistanceEngine, Sequence[Int64Array]]], rules: ListRules, positions: range
) -> RankedBlock:
    """Lists of some items for each of the queries at these positions.

    Args:
        found: Each engine's gallery positions for each query.
        rules: What is listed of them.
        positions: Of the queries.
    """
    lists: dict[str, list[RankingBlock]] = {}
    noticed = Diagnostics()
    for engine, items in found:
        for place, some in zip(positions, items, strict=True):
            ranked = _rank_one(engine, rules, place, items=some)
            noticed += ranked.diagnostics
            for name, block in ranked.by_metric.items():
                lists.setdefault(name, []).append(block)
    return RankedBlock({name: RankingBlock.joined(each) for name, each in lists.items()}, noticed)


def group_by_space(metrics: Sequence[Metric]) -> Mapping[Geometry, tuple[Metric, ...]]:
    """The metrics by where candidates for their nearest are looked for."""
    spaces = dict.fromkeys(DISTANCES[metric.distance].space for metric in metrics)
    return {space: tuple(m for m in metrics if DISTANCES[m.distance].space == space) for space in spaces}


def choose_indexes(
    indexes: Sequence[ImageSearch], metrics: Sequence[Metric], *, images: int
) -> dict[Geometry, ImageSearch]:
    """The index of each space that candidates for these metrics are looked for in.

    Args:
        indexes: Those that there are.
        metrics: The metrics.
        images: Number of images that an index must hold.

    Raises:
        UsageError: One is missing.
        DataError: One is of another gallery.
    """
    known, chosen = {index.distance: index for index in indexes}, {}
    for space in group_by_space(metrics):
        if space not in known:
            hint = f"vreid index --distance {space}; in Python build_index(features, IndexOptions(distance='{space}'))"
            raise UsageError(f"--candidates: there is no index for the {space} distance", hint=hint)
        if len(known[space]) != images:
            message = f"the index holds {amount(len(known[space]), 'image')}, the gallery {images:,}"
            raise DataError(message, hint="index this gallery: vreid index")
        chosen[space] = known[space]
    return chosen


def _reranked(engine: DistanceEngine, place: int, parts: Iterable[BlockDistances]) -> Iterator[BlockDistances]:
    """The distances of one query to all items of the engine, re-ranked in the pool of these."""
    query = replace(engine.query, items=engine.query.items.select(np.array([place])))
    pool = join_sides(_alone(query), _alone(engine.gallery))
    codes = encode_pool(
        replace(engine, query=pool, gallery=pool).looked_over(),
        queries=1,
        options=engine.options,
        advance=lambda items: None,
    )
    weight = engine.options.lambda_value
    return rerank(range(1), parts, pool=codes, size=len(engine.gallery), weight=weight)


def _alone(side: ItemImages) -> ItemImages:
    """The same items, with features that hold nothing else."""
    rows = np.arange(len(side.items.rows))
    return replace(side, features=side.features.select(side.items.rows), items=replace(side.items, rows=rows))


def _rank_one(engine: DistanceEngine, rules: ListRules, place: int, *, items: Int64Array) -> RankedBlock:
    """The list of one query: these gallery items."""
    positions = range(place, place + 1)
    if not len(items):
        none = np.empty(0, dtype=np.int32)
        nothing = RankingBlock(none, none, none, np.empty(0, dtype=np.float32))
        return RankedBlock({metric.name: nothing for metric in engine.metrics}, Diagnostics())
    gallery = replace(engine.gallery, items=engine.gallery.items.select(items))
    some = replace(engine, gallery=gallery, duplicates=Duplicates(np.arange(len(items))))
    block = some.block(positions, *some.query.read(positions))
    every = torch.from_numpy(items).to(gallery.device)
    parts: Iterable[BlockDistances] = [some.look_and_compare(block)[0]]
    if engine.options.rerank:
        parts = _reranked(some, place, parts)
    parts = (replace(part, items=every[part.items]) for part in parts)
    ranked = sort_whole(rules, positions, parts, size=len(items))
    zeros = Diagnostics(zero_vectors=block.zero_vectors)
    return RankedBlock(ranked.by_metric, ranked.diagnostics + zeros)
