"""Tracks to identities: the function that notebooks and the command line share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from vreid_cli.association.confidence import silhouettes
from vreid_cli.association.constraints import make_constraints
from vreid_cli.association.distances import TrackDistances, pairs_within
from vreid_cli.association.linkage import agglomerate
from vreid_cli.association.links import Links, make_links
from vreid_cli.association.options import AssociationOptions
from vreid_cli.errors import DataError, UsageError, require_type
from vreid_cli.ranking.candidates import ImageSearch
from vreid_cli.ranking.metrics import DISTANCES, parse_metrics
from vreid_cli.runtime.options import RuntimeOptions
from vreid_cli.types.arrays import text_array
from vreid_cli.types.calibrations import Calibration
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.identities import Clock, Identities, TrackTimes, TravelWindow
from vreid_cli.types.rankings import RankingFacts, choose_fitting
from vreid_cli.types.tracks import Tracks

#: First and last frame of a track.
Span = tuple[int, int]


def associate(
    features: FeatureSet,
    options: AssociationOptions | None = None,
    *,
    calibration: Calibration | None = None,
    travel_times: Sequence[TravelWindow] = (),
    clocks: Mapping[str, Clock] | None = None,
    spans: Mapping[str, Span] | None = None,
    index: ImageSearch | None = None,
    runtime: RuntimeOptions | None = None,
    advance: Callable[[int], object] = lambda tracks: None,
) -> Identities:
    """Which tracks of all cameras are one vehicle.

    Tracks are as far apart as the metric says on average of both directions. With a calibration they are as far apart
    as this distance lacks evidence for one vehicle, and identities have a probability. The nearest are merged first, by
    average linkage, to the threshold. Two tracks of one camera that overlap in time are never one vehicle, nor are
    tracks that ``options.cameras`` or ``travel_times`` exclude.

    Args:
        features: (N, D) features whose images name their track and, where known, camera and frame.
        options: The metric, the threshold (which must be given without a calibration), and which cameras may see a
            vehicle again.
        calibration: From :func:`vreid_cli.calibrate`, for rankings between tracks by this metric.
        travel_times: How long vehicles take between cameras; other pairs of cameras are free.
        clocks: Frame rate and start of each camera; without them times are compared within a camera only.
        spans: First and last frame of tracks by name, where the images do not show them all.
        index: From :func:`vreid_cli.build_index` of the features; ``options.candidates`` needs it.
        runtime: Device and memory.
        advance: Called with numbers of tracks that add up to all of them.

    Returns:
        An identity for every track.

    Raises:
        UsageError: There is no threshold, no distance is near enough for the probability that is wanted, or no camera
            is known where cameras are to differ.
        DataError: The calibration is for other features or another metric, an image names no track, the labels of a
            track or the travel times contradict each other, or times that they need are unknown.

    Examples:
        >>> import vreid_cli as vreid
        >>> cars = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> features = vreid.FeatureSet.from_arrays(cars, track_id=["a", "b", "c"], camera_id=["1", "2", "2"])
        >>> vreid.associate(features, vreid.AssociationOptions(threshold=0.2)).identity.tolist()
        [1, 1, 2]
    """
    options = options or AssociationOptions()
    require_type(features, FeatureSet, name="features", hint="of an array: vreid.FeatureSet.from_arrays(array)")
    require_type(options, AssociationOptions, name="options", hint="as in vreid.AssociationOptions(threshold=0.15)")
    facts = ranking_facts(features, options)
    if calibration is not None:
        choose_fitting([calibration], [facts])
    if options.candidates is not None and index is None:
        raise UsageError("candidates: what proposes them?", hint="associate(…, index=build_index(features))")
    distances = TrackDistances(features, options, runtime=runtime)
    tracks = distances.tracks
    links = make_links(options, tracks=len(tracks), calibration=calibration)
    times = track_times(features, tracks, clocks=clocks or {}, spans=spans or {})
    constraints = make_constraints(tracks.items.cameras, times, which=options.cameras, windows=travel_times)
    near = pairs_within(
        distances,
        constraints,
        reach=links.farthest,
        index=index,
        candidates=options.candidates,
        advance=advance,
    )
    pairs = replace(near, value=links.cost(near.value), reach=links.reach)
    labels = agglomerate(pairs, threshold=links.threshold, possible=constraints.possible)
    return Identities(
        tracks=tracks.items,
        identity=(labels + 1).astype(np.int32),
        images=tracks.lengths,
        times=times,
        confidence=silhouettes(pairs, labels),
        probability=links.probabilities(pairs, labels),
        split=text_array([None] * len(tracks)),
        facts={
            "dataset": features.dataset,
            "metric": options.metric,
            **_limit_facts(options, links),
            "reach": options.reach,
            "cameras": options.cameras,
            "candidates": options.candidates,
            "travel_times": [[w.camera_a, w.camera_b, w.min_s, w.max_s] for w in travel_times],
            "weights": features.weights,
            "identity_of_features": None if features.identity is None else dict(features.identity),
        },
        warnings=(*features.warnings, *distances.warnings()),
        source=features.source,
    )


def ranking_facts(features: FeatureSet, options: AssociationOptions) -> RankingFacts:
    """What a calibration must be made for: rankings between tracks of these features by the metric."""
    (metric,) = parse_metrics([options.metric], "t2t")
    own = {name: getattr(options, name) for name in DISTANCES[metric.distance].options}
    return RankingFacts(
        dataset=features.dataset,
        task="t2t",
        track_unit="passage",
        definition="paper",
        metric=metric.name,
        gallery_identity=features.identity,
        **own,
    )


def _limit_facts(options: AssociationOptions, links: Links) -> dict[str, object]:
    """How near the tracks of one identity are."""
    if links.calibration is None:
        return {"threshold": options.threshold}
    fitted = links.calibration.fitted_on
    return {
        "threshold": options.threshold,
        "min_probability": links.min_probability,
        "prior": links.prior,
        "calibration": {"dataset": fitted.dataset, "vehicles": fitted.vehicles, "digest": fitted.digest},
        "calibration_source": links.calibration.source,
    }


def track_times(
    features: FeatureSet, tracks: Tracks, *, clocks: Mapping[str, Clock], spans: Mapping[str, Span]
) -> TrackTimes:
    """When each track was seen: by its span where that is given, else by the frames of its images.

    Raises:
        DataError: A span ends before it begins.

    Examples:
        >>> from vreid_cli.ranking.tracks import group_tracks
        >>> features = FeatureSet.from_arrays(np.eye(3), track_id=["a", "a", "b"], frame=[7, 3, -1])
        >>> times = track_times(features, group_tracks(features, "passage"), clocks={}, spans={"b": (1, 2)})
        >>> times.first.tolist(), times.last.tolist()
        ([3, 1], [7, 2])
    """
    first, last = np.full((2, len(tracks)), -1, dtype=np.int64)
    if features.frame is not None:
        frames = features.frame[tracks.rows]
        unknown = np.iinfo(np.int64).max
        first = np.minimum.reduceat(np.where(frames < 0, unknown, frames), tracks.offsets[:-1])
        first[first == unknown] = -1
        last = np.maximum.reduceat(frames, tracks.offsets[:-1])
    for position, name in enumerate(tracks.items.ids):
        if (span := spans.get(name)) is not None:
            if span[1] < span[0]:
                raise DataError(f"track {name} ends with frame {span[1]}, before it begins with {span[0]}")
            first[position], last[position] = span
    return TrackTimes.on_clocks(first, last, cameras=tracks.items.cameras, clocks=clocks)
