"""The layout ``aicity``: track 2 of the AI City Challenge (CityFlow-ReID), whose test labels are withheld.

Known from public loaders, not checked against the release.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from vreid_cli.data.label_xml import read_label_xml
from vreid_cli.data.listing import DataFolders, Listing, ListingBuilder, require_folder
from vreid_cli.data.lists import read_names, read_track_list
from vreid_cli.errors import DataError
from vreid_cli.types.images import Split

#: What files and folders call the splits.
_NAMES: dict[Split, str] = {"query": "query", "gallery": "test", "train": "train"}


def read_aicity(folders: DataFolders, split: Split) -> Listing:
    """List the images of a split; those that no listed track holds are tracks of their own.

    Raises:
        UsageError: No folder is named.
        DataError: A folder is missing or empty, or a list is not what it should be.
    """
    root, own = require_folder(folders.root), _NAMES[split]
    images = require_folder(root / f"image_{own}")
    listing = ListingBuilder()
    names = read_names(root / f"name_{own}.txt", images, listing=listing)
    tracks = {} if split == "query" else _read_tracks(root / f"{own}_track.txt", names, listing)
    labels = _read_labels(root / "train_label.xml", names, listing) if split == "train" else {}
    for name in names:
        vehicle, camera = labels.get(name, (None, None))
        listing.add(name, tracks.get(name, Path(name).stem), vehicle_id=vehicle, camera_id=camera)
    return listing.finish(images)


def _read_tracks(path: Path, names: Collection[str], listing: ListingBuilder) -> dict[str, str]:
    if not path.is_file():
        listing.warnings.append(f"no {path.name} beside the images: each image is a track of its own")
        return {}
    tracks = read_track_list(path, named=False, listing=listing)
    if tracks and tracks.keys().isdisjoint(names):
        raise DataError(
            f"{path} names no image of the split; it begins with '{min(tracks)}'",
            hint="expected the names of a track's images on each line, with their endings",
            file=path,
        )
    listing.warn_of(sorted(set(tracks) - set(names)), "image", f"in {path.name} and not in the split")
    lone = sorted(set(names) - set(tracks))
    listing.warn_of(lone, "image", "in no listed track, each a track of its own")
    return tracks


def _read_labels(
    path: Path, names: Collection[str], listing: ListingBuilder
) -> dict[str, tuple[str | None, str | None]]:
    if not path.is_file():
        listing.warnings.append(f"no {path.name} beside the images: the training images have no labels")
        return {}
    labels = read_label_xml(path, listing)
    listing.warn_of(sorted(set(names) - set(labels)), "image", f"not in {path.name}, unlabelled")
    return labels
