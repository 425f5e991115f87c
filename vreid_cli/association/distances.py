"""Distances between tracks, the same in both directions, a strip of tracks against all later ones at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from vreid_cli.association.constraints import Constraints, IndexArray
from vreid_cli.association.linkage import SparsePairs
from vreid_cli.association.options import AssociationOptions
from vreid_cli.errors import DataError
from vreid_cli.ranking.candidates import CandidateFinder, ImageSearch, choose_indexes
from vreid_cli.ranking.diagnostics import Diagnostics, warnings_of
from vreid_cli.ranking.engine import DistanceEngine, ItemImages, Sides
from vreid_cli.ranking.metrics import Metric, parse_metrics
from vreid_cli.ranking.options import RankingOptions
from vreid_cli.ranking.tracks import group_tracks
from vreid_cli.runtime.devices import choose_device
from vreid_cli.runtime.memory import memory_budget
from vreid_cli.runtime.options import RuntimeOptions
from vreid_cli.types.arrays import Float32Array, Int64Array
from vreid_cli.types.features import MEANINGLESS, FeatureSet

#: Part of the memory budget that a strip of distances may take.
_STRIP = 1 / 8
#: Images that candidates are looked for of at a time.
_SEARCHED = 256
#: Bytes of a pair of a strip: both directions, their mean, and what chooses among them.
_PAIR_BYTES = 16


@dataclass(frozen=True, eq=False)
class DistanceStrip:
    """Symmetric distances of consecutive tracks to these and all later ones.

    Attributes:
        start: Position of the first of them.
        distance: (s, n − start) float32, of track ``start + i`` to track ``start + j``.
    """

    start: int
    distance: Float32Array

    def later(self) -> tuple[Int64Array, Int64Array, Float32Array]:
        """Every pair once: (m,) positions of the earlier track, of the later one, and their distances."""
        one, other = np.nonzero(np.arange(self.distance.shape[1]) > np.arange(len(self.distance))[:, None])
        return one + self.start, other + self.start, self.distance[one, other]


class TrackDistances:
    """Distances between all tracks of a feature set: the mean of both directions.

    Args:
        features: The features; every image names its track.
        options: The metric.
        runtime: Device and memory.

    Attributes:
        tracks: The tracks, in gallery order.

    Raises:
        DataError: There are no tracks, or the labels of a track contradict each other.

    Examples:
        >>> features = FeatureSet.from_arrays(np.array([[1.0, 0], [0, 1], [1, 1]]), track_id=["a", "a", "b"])
        >>> (strip,) = TrackDistances(features, AssociationOptions(metric="minMED")).strips()
        >>> strip.distance.tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """

    def __init__(
        self, features: FeatureSet, options: AssociationOptions, *, runtime: RuntimeOptions | None = None
    ) -> None:
        runtime = runtime or RuntimeOptions()
        if not len(features):
            raise DataError(f"{features.source} holds no features", file=features.source)
        device = choose_device(runtime.device)
        self.tracks = group_tracks(features, "passage")
        self._features, self._runtime = features, runtime
        self._images = ItemImages(features, self.tracks, device)
        self._budget = memory_budget(runtime.memory_budget_mb, device)
        self._metric: Metric = parse_metrics([options.metric], "t2t")[0]
        self._options = RankingOptions(metric=(options.metric,), alpha=options.alpha)
        self._diagnostics = Diagnostics()

    def strips(self, *, advance: Callable[[int], object] = lambda tracks: None) -> Iterator[DistanceStrip]:
        """The distances, strip by strip.

        Args:
            advance: Called with numbers of tracks that add up to all of them.

        Raises:
            DataError: A feature is not finite, or a distance too large for float32.
        """
        engine, count = self._prepare(), len(self.tracks)
        most = max(1, int(self._budget * _STRIP / (_PAIR_BYTES * count)))
        for some in self._images.cut(rows=engine.rows[0], most=most):
            own, later = np.arange(some.start, some.stop), np.arange(some.start, count)
            there, back = self._between(engine, own, later), self._between(engine, later, own)
            there += back.T
            there *= np.float32(0.5)
            yield DistanceStrip(some.start, there)
            advance(len(own))

    def between_candidates(
        self, index: ImageSearch, count: int, *, advance: Callable[[int], object] = lambda tracks: None
    ) -> Iterator[tuple[Int64Array, Int64Array, Float32Array]]:
        """The distances of each track to its nearest ones by an index, and to those that it is one of the nearest of.

        Args:
            index: Of the images of these features, by what is near for the metric.
            count: How many of the nearest.
            advance: Called with numbers of tracks that add up to all of them.

        Yields:
            (m,) positions of one track, of later ones, and their distances; every pair once.

        Raises:
            UsageError: The index is for another distance.
            DataError: It is of other features, a feature is not finite, or a distance too large for float32.
        """
        (chosen,) = choose_indexes([index], [self._metric], images=len(self._features)).values()
        # The nearest of all is the track itself.
        finder = CandidateFinder.make(chosen, self.tracks.items, self._images, count=count + 1, other_cameras=False)
        size, keys = len(self.tracks), []
        for some in self._images.cut(rows=_SEARCHED):
            for track, near in zip(some, finder.find(self._images, some), strict=True):
                keys.append(np.minimum(near, track) * size + np.maximum(near, track))
        one, other = np.divmod(np.unique(np.concatenate(keys)), size)
        one, other = one[one != other], other[one != other]
        engine, starts = self._prepare(), np.searchsorted(one, np.arange(size + 1))
        for track in range(size):
            later = other[starts[track] : starts[track + 1]]
            if len(later):
                own = np.array([track])
                there, back = self._between(engine, own, later)[0], self._between(engine, later, own)[:, 0]
                yield np.repeat(own, len(later)), later, (there + back) * np.float32(0.5)
            advance(1)

    def _prepare(self) -> DistanceEngine:
        images, product = self._images, self._runtime.product
        engine = Sides(images, images, (self._metric,), self._options, self._budget, product).plan().looked_over()
        self._diagnostics = Diagnostics(zero_vectors=engine.zero_vectors)
        return engine

    def warnings(self) -> tuple[str, ...]:
        """What is doubtful about the distances, once all strips are there."""
        found = warnings_of(self._diagnostics, self._metric, self._options)
        return (MEANINGLESS, *found) if self._features.meaningless else found

    def _between(self, engine: DistanceEngine, queries: Int64Array, items: Int64Array) -> Float32Array:
        """(len(queries), len(items)) directed distances of the tracks at these positions."""
        some = engine.restricted(items)
        some = replace(some, query=replace(some.query, items=some.query.items.select(queries)))
        found = np.empty((len(queries), len(items)), dtype=np.float32)
        for block in some.query_blocks(most=len(queries)):
            for part in some.against(block):
                values = part.by_metric[self._metric.name].cpu().numpy()
                found[block.positions.start : block.positions.stop, part.items.cpu().numpy()] = values
                self._diagnostics += part.diagnostics
        return found


def pairs_within(
    distances: TrackDistances,
    constraints: Constraints,
    *,
    reach: float,
    index: ImageSearch | None = None,
    candidates: int | None = None,
    advance: Callable[[int], object] = lambda tracks: None,
) -> SparsePairs:
    """The possible pairs of tracks that are no farther than the reach.

    Args:
        distances: Between all tracks.
        constraints: Which pairs are possible.
        reach: The largest distance that is kept.
        index: What proposes the tracks that each is compared with; without it all are.
        candidates: How many it proposes for each.
        advance: Called with numbers of tracks that add up to all of them.

    Examples:
        >>> from vreid_cli.association.constraints import make_constraints
        >>> from vreid_cli.types.identities import TrackTimes
        >>> features = FeatureSet.from_arrays(np.array([[0.0], [1.0], [3.0]]), track_id=["a", "b", "c"])
        >>> distances = TrackDistances(features, AssociationOptions(metric="minMED"))
        >>> constraints = make_constraints(distances.tracks.items.cameras, TrackTimes.unknown(3))
        >>> pairs = pairs_within(distances, constraints, reach=2.0)
        >>> list(zip(pairs.one.tolist(), pairs.other.tolist(), pairs.value.tolist()))
        [(0, 1, 1.0), (1, 2, 2.0)]
    """
    found: list[tuple[IndexArray, IndexArray, Float32Array]] = []
    if index is not None and candidates is not None:
        for track, later, distance in distances.between_candidates(index, candidates, advance=advance):
            kept = (distance <= reach) & constraints.possible(track, later)
            found.append((track[kept], later[kept], distance[kept]))
    else:
        for strip in distances.strips(advance=advance):
            row, column = np.nonzero(strip.distance <= reach)
            after = column > row
            row, column = row[after], column[after]
            kept = constraints.possible(row + strip.start, column + strip.start)
            row, column = row[kept], column[kept]
            found.append((row + strip.start, column + strip.start, strip.distance[row, column]))
    none = np.empty(0, dtype=np.int32)
    ones, others, values = zip(*found, (none, none, none.astype(np.float32)), strict=True)
    one, other = (np.concatenate([part.astype(np.int32) for part in side]) for side in (ones, others))
    return SparsePairs(len(distances.tracks), one, other, np.concatenate(values), reach)
