"""Images gathered into what is ranked: single images, passages, or all images of a vehicle by one camera."""

from __future__ import annotations

from collections import Counter

import numpy as np

from vreid_cli.errors import DataError
from vreid_cli.types.arrays import Int64Array, Labels
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
    items = Items(features.image_id.texts, features.vehicle_id.texts, features.camera_id.texts)
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
    if (keys.codes < 0).any():
        raise DataError(
            f"{features.source}: image {features.image_id[int(np.argmax(keys.codes < 0))]} has no track",
            hint="every image must name its track for the tasks t2t and i2t; use --task i2i for single images",
            file=features.source,
        )
    # By their codes first, then by their first rows.
    rows = np.argsort(keys.codes, kind="stable").astype(np.int64)
    starts = np.flatnonzero(np.diff(keys.codes[rows], prepend=-1))
    first_rows = rows[starts]
    items = Items(*(column[first_rows].texts for column in (keys, features.vehicle_id, features.camera_id)))
    tracks = Tracks(items, rows, np.append(starts, len(rows))).select(np.argsort(first_rows))
    _check_labels(features, tracks)
    return tracks


def _camera_keys(features: FeatureSet) -> Labels:
    vehicles, cameras = features.vehicle_id, features.camera_id
    absent = (vehicles.codes < 0) | (cameras.codes < 0)
    if absent.any():
        name = features.image_id[int(np.argmax(absent))]
        raise DataError(
            f"{features.source}: image {name} has no vehicle or no camera, so the track unit 'camera' is undefined",
            hint="use --track-unit passage, or name the labels with --label-pattern",
            file=features.source,
        )
    pairs = vehicles.codes.astype(np.int64) * len(cameras.names) + cameras.codes
    _, first, pair = np.unique(pairs, return_index=True, return_inverse=True)
    names = [f"{vehicle}_{camera}" for vehicle, camera in zip(vehicles[first], cameras[first], strict=True)]
    keys: Labels = Labels.of(names)[pair]
    return keys


def _check_labels(features: FeatureSet, tracks: Tracks) -> None:
    first_rows = np.repeat(tracks.rows[tracks.offsets[:-1]], tracks.lengths)
    for name, column in (("vehicles", features.vehicle_id), ("cameras", features.camera_id)):
        differs = np.flatnonzero(column.codes[first_rows] != column.codes[tracks.rows])
        if len(differs):
            first, row = first_rows[differs[0]], tracks.rows[differs[0]]
            track = tracks.items.ids[np.searchsorted(tracks.offsets, differs[0], side="right") - 1]
            raise DataError(
                f"{features.source}: track {track} holds images of several {name}: {column[first]} and {column[row]}",
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
    owner = _owners(query, gallery, tracks)
    lost = query.image_id[owner < 0].tolist()
    return tracks.select(np.unique(owner[owner >= 0])), lost


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
    owner = _owners(query, gallery, items)[queries.rows]
    pairs = np.stack([np.repeat(np.arange(len(queries)), queries.lengths), owner], axis=1)[owner >= 0]
    selves: dict[str, tuple[str, ...]] = {}
    for index, held in np.unique(pairs, axis=0):
        name = queries.items.ids[index]
        selves[name] = (*selves.get(name, ()), items.items.ids[held])
    return selves


def _owners(query: FeatureSet, gallery: FeatureSet, tracks: Tracks) -> Int64Array:
    """(len(query),) int64 gallery track that holds the file of each query image; -1 for none."""
    folder = f"{gallery.image_root}/"
    files = (f"{query.image_root}/{name}" for name in query.image_id)
    wanted = Labels.of([file.removeprefix(folder) if file.startswith(folder) else None for file in files])
    which = gallery.image_id.find(wanted.names)[tracks.rows]
    owner = np.full(len(wanted.names) + 1, -1, dtype=np.int64)  # the last stands for files that lie elsewhere
    held = which >= 0
    owner[which[held]] = np.repeat(np.arange(len(tracks)), tracks.lengths)[held]
    found: Int64Array = owner[wanted.codes]
    return found
