"""The layout ``aicity``: track 2 of the AI City Challenge (CityFlow-ReID), whose test labels are withheld.

Known from public loaders, not checked against the release.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vreid_cli.data.label_xml import Labels, read_label_xml
from vreid_cli.data.listing import DataFolders, Listing, examples, make_listing, require_folder
from vreid_cli.data.lists import main_folder, names_of_split, read_lines
from vreid_cli.errors import DataError
from vreid_cli.types.images import ImageRecord, Split

_FOLDERS: dict[Split, str] = {"query": "image_query", "gallery": "image_test", "train": "image_train"}
_NAME_LISTS: dict[Split, str] = {"query": "name_query.txt", "gallery": "name_test.txt", "train": "name_train.txt"}
_TRACK_LISTS: dict[Split, str] = {"gallery": "test_track.txt", "train": "train_track.txt"}
_LABELS = "train_label.xml"
_SHAPE = (
    "expected the challenge's track 2: image_query/, image_test/, image_train/ with names like 000001.jpg, "
    f"test_track.txt, train_track.txt and {_LABELS}"
)


def read_aicity(folders: DataFolders, split: Split) -> Listing:
    """List the images of a split; those that no listed track holds are tracks of their own.

    Raises:
        UsageError: No folder is named.
        DataError: A folder is missing or empty, or a list is not what it should be.
    """
    data_dir = main_folder(folders, dataset="aicity", shape=_SHAPE)
    images = require_folder(data_dir / _FOLDERS[split], hint=_SHAPE)
    warnings: list[str] = []
    names = names_of_split(images, data_dir / _NAME_LISTS[split], warnings)
    if not names:
        raise DataError(f"{images} holds no images", hint=_SHAPE, file=images)
    tracks = _read_tracks(data_dir / _TRACK_LISTS[split], names, warnings) if split in _TRACK_LISTS else {}
    labels = _labels_of(data_dir / _LABELS, names, warnings) if split == "train" else {}
    records = []
    for name in names:
        vehicle, camera = labels.get(name, (None, None))
        track = tracks.get(name, Path(name).stem)
        records.append(ImageRecord(name, images / name, track, vehicle, camera))
    return make_listing(records, images, warnings)


def _read_tracks(path: Path, names: Iterable[str], warnings: list[str]) -> dict[str, str]:
    """Track of each image; the list has no names of tracks, so the number of the line is one."""
    if not path.is_file():
        warnings.append(f"no {path.name} beside the images: each image is a track of its own")
        return {}
    tracks: dict[str, str] = {}
    repeated: list[str] = []
    for number, words in enumerate(read_lines(path), start=1):
        track = f"track{number:05d}"
        repeated += [name for name in words if tracks.setdefault(name, track) != track]
    known = set(names)
    strangers = sorted(set(tracks) - known)
    if len(strangers) == len(tracks):
        raise DataError(
            f"{path} names no image of the split; it begins with '{' '.join(strangers[:1])}'",
            hint="expected the names of a track's images on each line, with their endings",
            file=path,
        )
    if strangers:
        warnings.append(f"{len(strangers)} images in {path.name} are no images of the split: {examples(strangers)}")
    if repeated:
        warnings.append(
            f"{path.name} puts {len(repeated)} images into two tracks, the first counts: {examples(repeated)}"
        )
    lone = sorted(known - set(tracks))
    if lone:
        warnings.append(f"{len(lone)} images are in no listed track, each a track of its own: {examples(lone)}")
    return tracks


def _labels_of(path: Path, names: Iterable[str], warnings: list[str]) -> Labels:
    if not path.is_file():
        warnings.append(f"no {path.name} beside the images: the training images have no labels")
        return {}
    labels = read_label_xml(path)
    unlabelled = sorted(set(names) - set(labels))
    if unlabelled:
        warnings.append(f"{path.name} does not name {len(unlabelled)} images, unlabelled: {examples(unlabelled)}")
    return labels
