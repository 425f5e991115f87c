"""The layout ``tracks``: one's own images, a folder a track."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from vreid_cli.data.decoding import is_image
from vreid_cli.data.listing import DataFolders, Listing, examples, finish_listing, list_images, require_folder
from vreid_cli.data.records import LabelRow, RecordBuilder
from vreid_cli.errors import DataError, UsageError
from vreid_cli.types.images import Split
from vreid_cli.types.labels import LabelPattern, NameLabels

_PREFIXES: dict[Split, tuple[str, ...]] = {"query": ("query",), "gallery": ("gallery", "test"), "train": ("train",)}
_SHAPE = "expected a folder per track, each holding its images: FOLDER/<track>/<image>.jpg"


def read_tracks(folders: DataFolders, split: Split) -> Listing:
    """List the tracks of a split: each folder that holds images is a track, named by its relative path.

    Labels are read from the name of the track's folder, else from the image's name.

    Raises:
        DataError: The folder is missing, ambiguous, or holds no track.
    """
    root = _split_folder(folders, split)
    pattern = LabelPattern.compile(folders.label_pattern)
    records = RecordBuilder()
    empty: list[str] = []
    loose = list_images(root)
    for folder, names in _walk(root):
        track_id = folder.relative_to(root).as_posix()
        if not names:
            empty.append(track_id)
        labels = pattern.read(folder.name)
        records.extend(_row(name, track_id, labels, pattern=pattern) for name in names)
    if not len(records) and not records.unnamed:
        found = f"only images outside any track folder ({examples(loose)})" if loose else "no images"
        raise DataError(f"{root} holds {found}", hint=_SHAPE, file=root)
    warnings = []
    if loose:
        warnings.append(f"{len(loose)} images in {root} lie outside any track folder, left out: {examples(loose)}")
    if empty:
        warnings.append(f"{len(empty)} track folders of {root} hold no image: {examples(empty)}")
    return finish_listing(records, root, warnings)


def _row(name: str, track_id: str, labels: NameLabels, *, pattern: LabelPattern) -> LabelRow:
    own = pattern.read(name)
    if labels.vehicle_id is None:
        labels = own
    return f"{track_id}/{name}", track_id, labels.vehicle_id, labels.camera_id, own.frame


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each leaf or image-holding folder below ``root`` with its images; links followed, once each."""
    seen: set[str] = set()
    for folder, below, files in os.walk(root, followlinks=True, onerror=_refuse_folder):
        real = os.path.realpath(folder)
        below[:] = sorted(name for name in below if not name.startswith("."))
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        names = sorted(name for name in files if is_image(name))
        if Path(folder) != root and (names or not below):
            yield Path(folder), names


def _refuse_folder(error: OSError) -> None:
    # Left to itself, os.walk would pass over a folder without permission as if it were empty.
    raise DataError(f"{error.filename} cannot be read: {error.strerror}", file=error.filename)


def _split_folder(folders: DataFolders, split: Split) -> Path:
    named = {"query": folders.query_dir, "gallery": folders.gallery_dir, "train": None}[split]
    if named is not None:
        return require_folder(named, hint=f"check --{split}-dir")
    # Training tracks have no option of their own.
    by_option = "" if split == "train" else f", or name their folder with --{split}-dir"
    if folders.data_dir is None:
        raise UsageError(
            f"--dataset tracks: where are the {split} tracks?",
            hint=f"give --data-dir DIR that holds {_names(split)}{by_option}",
        )
    data_dir = require_folder(folders.data_dir, hint="check --data-dir")
    found = sorted(
        path for path in data_dir.iterdir() if path.is_dir() and path.name.lower().startswith(_PREFIXES[split])
    )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        hint = f"name the right one with --{split}-dir" if split != "train" else "keep one of them"
        raise DataError(f"{data_dir} holds several folders for the {split} tracks: {names}", hint=hint, file=data_dir)
    if not found:
        raise DataError(
            f"{data_dir} holds no folder {_names(split)}",
            hint=f"put the {split} tracks there{by_option}. {_SHAPE}",
            file=data_dir,
        )
    return found[0]


def _names(split: Split) -> str:
    return " or ".join(f"{prefix}*/" for prefix in _PREFIXES[split])
