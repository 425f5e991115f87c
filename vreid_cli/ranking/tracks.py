"""Images gathered into what is ranked: single images, passages, or all images of a vehicle by one camera."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from vreid_cli.errors import DataError
from vreid_cli.types.arrays import Int64Array, TextArray, shared_codes, text_array
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.tracks import Items, Tracks, TrackUnit


def image_items(features: FeatureSet) -> Tracks:
    """Every image an item of its own.

    Raises:
        DataError: Two images bear the same name, which is all that a ranking knows of them.

    Examples:
        >>> features = FeatureSet.from_arrays(np.eye(2), track_id=["a", "b"], image_id=["1.jpg", "2.jpg"])
        >>> image_items(features).items.ids.tolist()
        ['1.jpg', '2.jpg']
    """
    if len(set(features.image_id)) < len(features):
        name, count = Counter(features.image_id).most_common(1)[0]
        raise DataError(
            f"{features.source}: {count} images are named {name}",
            hint="every image must have a name of its own for the tasks i2i and i2t",
            file=features.source,
        )
    rows = np.arange(len(features), dtype=np.int64)
    items = Items(features.image_id, features.vehicle_id, features.camera_id)
    return Tracks(items, rows, np.arange(len(features) + 1, dtype=np.int64))


def group_tracks(features: FeatureSet, unit: TrackUnit) -> Tracks:
    """Images gathered into tracks, in the order in which the tracks first appear.

    Raises:
        DataError: An image has no track (``passage``), or no vehicle or camera (``camera``); or the images
            of a track disagree about their vehicle or camera.

    Examples:
        >>> features = FeatureSet.from_arrays(np.eye(3), track_id=["b", "a", "b"])
        >>> tracks = group_tracks(features, "passage")
        >>> tracks.items.ids.tolist(), tracks.lengths.tolist()
        (['b', 'a'], [2, 1])
    """
    keys = features.track_id if unit == "passage" else _camera_keys(features)
    codes, _ = shared_codes(keys, keys[:0])
    if (codes < 0).any():
        raise DataError(
            f"{features.source}: image {features.image_id[int(np.argmax(codes < 0))]} has no track",
            hint="every image must name its track for the tasks t2t and i2t",
            file=features.source,
        )
    rows = np.argsort(codes, kind="stable").astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(codes))]).astype(np.int64)
    first_rows = rows[offsets[:-1]]
    items = Items(keys[first_rows], features.vehicle_id[first_rows], features.camera_id[first_rows])
    _check_labels(features, items, codes)
    return Tracks(items, rows, offsets)


def _camera_keys(features: FeatureSet) -> TextArray:
    keys = []
    for name, *labels in zip(features.image_id, features.vehicle_id, features.camera_id, strict=True):
        if None in labels:
            raise DataError(
                f"{features.source}: image {name} has no vehicle or no camera, so the track unit 'camera' is undefined",
                hint="use --track-unit passage, or name the labels with --label-pattern",
                file=features.source,
            )
        keys.append("_".join(labels))
    return text_array(keys)


def _check_labels(features: FeatureSet, items: Items, codes: Int64Array) -> None:
    for name, column, own in (
        ("vehicles", features.vehicle_id, items.vehicles),
        ("cameras", features.camera_id, items.cameras),
    ):
        differs = np.flatnonzero(own[codes] != column)
        if len(differs):
            row, track = differs[0], codes[differs[0]]
            raise DataError(
                f"{features.source}: track {items.ids[track]} holds images of several {name}: "
                f"{own[track]} and {column[row]}",
                hint="a track is one vehicle before one camera: check the labels",
                file=features.source,
            )


def query_tracks_in(gallery: FeatureSet, tracks: Tracks, query: FeatureSet) -> tuple[Tracks, list[str]]:
    """The gallery's tracks that hold a query image, whole (VeRi's track-to-track queries).

    Args:
        gallery: Features that the tracks belong to.
        tracks: Its tracks.
        query: The query images; the same image bears the same id and root in both.

    Returns:
        The tracks in gallery order, and the ids of query images that no track holds.

    Examples:
        >>> gallery = FeatureSet.from_arrays(np.eye(3), track_id=["a", "a", "b"], image_id=["1", "2", "3"])
        >>> query = FeatureSet.from_arrays(np.eye(3)[:2], track_id=[None, None], image_id=["2", "9"])
        >>> found, lost = query_tracks_in(gallery, group_tracks(gallery, "passage"), query)
        >>> found.items.ids.tolist(), lost
        (['a'], ['9'])
    """
    owner = _owner_of_images(gallery, tracks)
    images = _images(query)
    found = {owner[image] for image in images if image in owner}
    lost = [image_id for image, image_id in zip(images, query.image_id, strict=True) if image not in owner]
    return tracks.select(np.array(sorted(found), dtype=np.int64)), lost


def find_selves(
    query: FeatureSet, queries: Tracks, *, gallery: FeatureSet, items: Tracks
) -> dict[str, tuple[str, ...]]:
    """For each query, the gallery items that hold one of its own images.

    Identity is the image file, never an equal name: features without an image root have no self.

    Examples:
        >>> from dataclasses import replace
        >>> gallery = FeatureSet.from_arrays(np.eye(2), track_id=["a", "b"], image_id=["1", "2"])
        >>> gallery = replace(gallery, image_root="images")
        >>> query = gallery.select(np.array([0]))
        >>> tracks = group_tracks(gallery, "passage")
        >>> find_selves(query, image_items(query), gallery=gallery, items=tracks)
        {'1': ('a',)}
    """
    if query.image_root is None or gallery.image_root is None:
        return {}
    owner, images = _owner_of_images(gallery, items), _images(query)
    selves: dict[str, tuple[str, ...]] = {}
    for index, query_id in enumerate(queries.items.ids):
        rows = queries.rows[queries.offsets[index] : queries.offsets[index + 1]]
        held = sorted({owner[images[row]] for row in rows if images[row] in owner})
        if held:
            selves[query_id] = tuple(items.items.ids[held])
    return selves


def _images(features: FeatureSet) -> list[str]:
    """The file of each image: root and id together."""
    return [f"{features.image_root}/{image_id}" for image_id in features.image_id]


def _owner_of_images(features: FeatureSet, tracks: Tracks) -> Mapping[str, int]:
    images = _images(features)
    owners = np.repeat(np.arange(len(tracks)), tracks.lengths)
    return {images[row]: int(owner) for row, owner in zip(tracks.rows, owners, strict=True)}
