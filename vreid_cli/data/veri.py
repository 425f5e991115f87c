"""The layout ``veri``: VeRi-776 as it was released.

Folders ``image_train``, ``image_query`` and ``image_test``; names say vehicle, camera and frame. The list
files are optional; where they are there they decide, and what contradicts the images is reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from vreid_cli.data.label_xml import read_label_xml
from vreid_cli.data.listing import DataFolders, Listing, examples, make_listing, require_folder
from vreid_cli.data.lists import names_of_split, read_lines
from vreid_cli.errors import DataError, UsageError
from vreid_cli.types.images import ImageRecord, Split

NAME = re.compile(r"^(?P<vehicle>\d{4})_(?P<camera>c\d{3})_(?P<frame>\d{8})_\d\.jpg$")

_FOLDERS: dict[Split, str] = {"query": "image_query", "gallery": "image_test", "train": "image_train"}
_NAME_LISTS: dict[Split, str] = {"query": "name_query.txt", "gallery": "name_test.txt", "train": "name_train.txt"}
#: Query images lie in gallery tracks, so both splits read the same list of tracks.
_TRACK_LISTS: dict[Split, str] = {"query": "test_track.txt", "gallery": "test_track.txt", "train": "train_track.txt"}
#: Query images are test images too.
_LABEL_LISTS: dict[Split, str] = {"query": "test_label.xml", "gallery": "test_label.xml", "train": "train_label.xml"}
_SHAPE = (
    "expected VeRi-776 as released: image_query/, image_test/ and image_train/ with names like 0002_c002_00030600_0.jpg"
)


def read_veri(folders: DataFolders, split: Split) -> Listing:
    """List the images of a split with the passage that holds each.

    Query images are copies of gallery images of the same name, so both splits share one image root.

    Raises:
        DataError: A folder is missing or empty, or a list file is not what it should be.
        UsageError: The folders are named one by one.
    """
    if folders.query_dir is not None or folders.gallery_dir is not None:
        raise UsageError(
            "--query-dir and --gallery-dir: VeRi's folders have fixed names below --data-dir",
            hint="give --data-dir; for folders of your own add --dataset tracks",
        )
    data_dir = require_folder(folders.data_dir or Path("VeRi"), hint=f"name it with --data-dir. {_SHAPE}")
    folder = require_folder(data_dir / _FOLDERS[split], hint=_SHAPE)
    warnings: list[str] = []
    names = names_of_split(folder, data_dir / _NAME_LISTS[split], warnings)
    passages = _read_passages(data_dir / _TRACK_LISTS[split], split, warnings)
    if split != "query":  # the query's own images are but some of those that the tracks hold
        _report_absent(passages, names, data_dir / _TRACK_LISTS[split], warnings)
    records = _make_records(folder, names, passages, warnings)
    records = _with_listed_labels(records, data_dir / _LABEL_LISTS[split], warnings)
    if not records:
        raise DataError(f"{folder} holds no images with VeRi's names", hint=_SHAPE, file=folder)
    root = data_dir / _FOLDERS["gallery" if split == "query" else split]
    return make_listing(records, root, warnings, folder=folder)


def _read_passages(path: Path, split: Split, warnings: list[str]) -> dict[str, str]:
    """Track name of each image; empty where there is no list of tracks."""
    if not path.is_file():
        warnings.append(
            f"no {path.name} beside the images: passages are unknown, so all images of a vehicle "
            f"by one camera count as one {split} track"
        )
        return {}
    passages: dict[str, str] = {}
    repeated: list[str] = []
    for number, words in enumerate(read_lines(path), start=1):
        if words and (len(words) < 2 or NAME.match(words[0])):
            raise DataError(
                f"{path}, line {number}: expected a track name and then its images, found '{' '.join(words)[:80]}'",
                file=path,
            )
        repeated += [name for name in words[1:] if passages.setdefault(name, words[0]) != words[0]]
    if repeated:
        warnings.append(
            f"{path.name} puts {len(repeated)} images into two tracks, the first counts: {examples(repeated)}"
        )
    return passages


def _report_absent(passages: Iterable[str], names: Iterable[str], path: Path, warnings: list[str]) -> None:
    absent = sorted(set(passages) - set(names))
    if absent:
        warnings.append(f"{len(absent)} images in {path.name} are no images of the split: {examples(absent)}")


def _make_records(
    folder: Path, names: Iterable[str], passages: dict[str, str], warnings: list[str]
) -> list[ImageRecord]:
    records = []
    unnamed: list[str] = []
    trackless: list[str] = []
    misplaced: list[str] = []
    for name in names:
        match = NAME.match(name)
        if match is None:
            unnamed.append(name)
            continue
        vehicle, camera = match["vehicle"], match["camera"]
        track = passages.get(name)
        if track is None:
            track = f"{vehicle}_{camera}"
            trackless.append(name)
        elif not track.startswith(f"{vehicle}_{camera}"):
            misplaced.append(f"{name} in {track}")
        records.append(ImageRecord(name, folder / name, track, vehicle, camera, int(match["frame"])))
    if unnamed:
        warnings.append(f"{len(unnamed)} images have names that VeRi does not use, left out: {examples(unnamed)}")
    if misplaced:
        warnings.append(
            f"{len(misplaced)} images are listed in a track named after another vehicle or camera: "
            f"{examples(misplaced)}"
        )
    if passages and trackless:
        warnings.append(f"{len(trackless)} images are in no listed track: {examples(trackless)}")
    return records


def _with_listed_labels(records: list[ImageRecord], path: Path, warnings: list[str]) -> list[ImageRecord]:
    """The records with vehicle and camera as the label file says them; what names say otherwise is reported."""
    if not path.is_file():
        return records
    labels = read_label_xml(path)
    labelled = []
    differing: list[str] = []
    for record in records:
        vehicle, camera = labels.get(record.image_id, (None, None))
        relabelled = replace(record, vehicle_id=vehicle or record.vehicle_id, camera_id=camera or record.camera_id)
        if relabelled != record:
            differing.append(f"{record.image_id} is {relabelled.vehicle_id} by {relabelled.camera_id}")
        labelled.append(relabelled)
    if differing:
        warnings.append(
            f"{path.name} contradicts the names of {len(differing)} images, and was followed: {examples(differing)}"
        )
    return labelled
