"""The layout ``tracks``: one's own images, a folder a track."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vreid_cli.data.decoding import is_image
from vreid_cli.data.listing import (
    DataFolders,
    Listing,
    ListingBuilder,
    examples,
    list_images,
    require_folder,
    walk,
)
from vreid_cli.errors import DataError, UsageError
from vreid_cli.types.images import Split
from vreid_cli.types.labels import LabelPattern

_PREFIXES: dict[Split, tuple[str, ...]] = {"query": ("query",), "gallery": ("gallery", "test"), "train": ("train",)}


def read_tracks(folders: DataFolders, split: Split) -> Listing:
    """List the tracks of a split: each folder that holds images is a track, named by its relative path.

    Labels are read from the name of the track's folder, else from the image's name.

    Raises:
        UsageError: No folder is named, or the label pattern is no valid expression.
        DataError: The folder is missing, ambiguous, or holds no track.

    Examples:
        >>> folder = Path("mine/query/0002_c003")
        >>> folder.mkdir(parents=True)
        >>> (folder / "1.jpg").touch()
        >>> record = read_tracks(DataFolders(Path("mine")), "query").records[0]
        >>> record.image_id, record.track_id, record.vehicle_id, record.camera_id
        ('0002_c003/1.jpg', '0002_c003', '0002', 'c003')
    """
    root = _split_folder(folders, split)
    pattern = LabelPattern.compile(folders.label_pattern)
    listing = ListingBuilder()
    loose = list_images(root)
    empty: list[str] = []
    for folder, names in _walk(root):
        track = folder.relative_to(root).as_posix()
        if not names:
            empty.append(track)
        in_folder = pattern.read(folder.name)
        for name in names:
            own = pattern.read(name)
            labels = own if in_folder.vehicle_id is None else in_folder
            listing.add(
                f"{track}/{name}",
                track,
                vehicle_id=labels.vehicle_id,
                camera_id=labels.camera_id,
                frame=own.frame,
            )
    if loose and not len(listing):
        raise DataError(f"{root} holds only images outside any track folder ({examples(loose)})", file=root)
    listing.warn_of(loose, "image", f"in {root} outside any track folder, left out")
    listing.warn_of(empty, "track folder", f"of {root} without an image")
    return listing.finish(root)


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each leaf or image-holding folder below ``root`` with its images; links followed, once each."""
    seen: set[str] = set()
    for folder, below, files in walk(root):
        real = str(folder.resolve())
        below[:] = sorted(name for name in below if not name.startswith("."))
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        names = sorted(name for name in files if is_image(name))
        if folder != root and (names or not below):
            yield folder, names


def _split_folder(folders: DataFolders, split: Split) -> Path:
    named = {"query": folders.query_dir, "gallery": folders.gallery_dir, "train": None}[split]
    if named is not None:
        return require_folder(named)
    # Training tracks have no option of their own.
    by_option = "" if split == "train" else f", or name their folder with --{split}-dir"
    names = " or ".join(f"{prefix}*/" for prefix in _PREFIXES[split])
    if folders.data_dir is None:
        hint = f"give --data-dir DIR that holds {names}{by_option}"
        raise UsageError(f"--data-dir: where are the {split} tracks?", hint=hint)
    data_dir = require_folder(folders.data_dir)
    found = sorted(
        path for path in data_dir.iterdir() if path.is_dir() and path.name.lower().startswith(_PREFIXES[split])
    )
    if len(found) > 1:
        several = ", ".join(path.name for path in found)
        raise DataError(
            f"{data_dir} holds several folders for the {split} tracks: {several}",
            hint=f"keep one of them{by_option}",
            file=data_dir,
        )
    if not found:
        alone = "" if split == "train" else ", or extract one side alone with --split"
        hint = f"put the {split} tracks there{by_option}{alone}"
        raise DataError(f"{data_dir} holds no folder {names}", hint=hint, file=data_dir)
    return found[0]
