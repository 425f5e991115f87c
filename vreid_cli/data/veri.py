"""The layout ``veri``: VeRi-776 as it was released.

Folders ``image_train``, ``image_query`` and ``image_test``; names say vehicle, camera and frame. The list
files are optional; where they are there they decide, and what contradicts the images is reported.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from vreid_cli.data.label_xml import read_label_xml
from vreid_cli.data.listing import DataFolders, Listing, ListingBuilder, require_folder
from vreid_cli.data.lists import camera_track, read_names, read_track_list
from vreid_cli.errors import DataError
from vreid_cli.types.images import Split

_NAME = re.compile(r"^(?P<vehicle>\d{4})_(?P<camera>c\d{3})_(?P<frame>\d{8})_\d\.jpg$")

#: What files and folders call the splits.
_NAMES: dict[Split, str] = {"query": "query", "gallery": "test", "train": "train"}


def read_veri(folders: DataFolders, split: Split) -> Listing:
    """List the images of a split with the passage that holds each.

    Query images are copies of gallery images of the same name, so both splits share one image root, one list of
    tracks and one file of labels.

    Raises:
        UsageError: No folder is named.
        DataError: A folder is missing or empty, or a list file is not what it should be.
    """
    root = require_folder(folders.root)
    images = require_folder(root / f"image_{_NAMES[split]}")
    source = "train" if split == "train" else "test"
    listing = ListingBuilder()
    names = read_names(root / f"name_{_NAMES[split]}.txt", images, listing=listing)
    tracks = _read_tracks(root / f"{source}_track.txt", names, split, listing=listing)
    _add_images(names, tracks, root / f"{source}_label.xml", listing=listing)
    if not len(listing):
        raise DataError(f"{images} holds no images with VeRi's names", file=images)
    return listing.finish(root / f"image_{source}", folder=images)


def _read_tracks(path: Path, names: Collection[str], split: Split, *, listing: ListingBuilder) -> dict[str, str]:
    if not path.is_file():
        listing.warnings.append(
            f"no {path.name} beside the images: passages are unknown, so all images of a vehicle "
            f"by one camera count as one {split} track"
        )
        return {}
    tracks = read_track_list(path, named=True, listing=listing)
    if split != "query":  # the query's own images are but some of those that the tracks hold
        listing.warn_of(sorted(set(tracks) - set(names)), "image", f"in {path.name} and not in the split")
    return tracks


def _add_images(names: Collection[str], tracks: dict[str, str], path: Path, *, listing: ListingBuilder) -> None:
    """Add the images with the labels of their names, or of the label file where that says otherwise."""
    labels = read_label_xml(path, listing) if path.is_file() else {}
    unnamed: list[str] = []
    trackless: list[str] = []
    misplaced: list[str] = []
    differing: list[str] = []
    for name in names:
        match = _NAME.match(name)
        if match is None:
            unnamed.append(name)
            continue
        in_name = match["vehicle"], match["camera"]
        track = tracks.get(name)
        if track is None:
            track = camera_track(*in_name)
            trackless.append(name)
        elif not track.startswith(camera_track(*in_name)):
            misplaced.append(f"{name} in {track}")
        vehicle, camera = (own or said for own, said in zip(labels.get(name, in_name), in_name, strict=True))
        if (vehicle, camera) != in_name:
            differing.append(f"{name} is {vehicle} by {camera}")
        listing.add(name, track, vehicle_id=vehicle, camera_id=camera, frame=int(match["frame"]))
    listing.warn_of(unnamed, "image", "with a name that VeRi does not use, left out")
    listing.warn_of(misplaced, "image", "in a track named after another vehicle or camera")
    if tracks:
        listing.warn_of(trackless, "image", "in no listed track")
    listing.warn_of(differing, "image", f"with other labels in {path.name} than by name, the file counts")
