"""The layout ``veri-wild``: VERI-Wild, a folder a vehicle, lists of ``vehicle/image``, cameras in a table.

Known from public loaders, not checked against the release.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from vreid_cli.data.listing import DataFolders, Listing, ListingBuilder, require_folder, unreadable
from vreid_cli.data.lists import NO_PASSAGES, SHOWN, camera_track, choose_list, read_table
from vreid_cli.errors import DataError
from vreid_cli.runtime.files import refuse_huge
from vreid_cli.types.images import Split


def read_veri_wild(folders: DataFolders, split: Split) -> Listing:
    """List the images of a split; the gallery is the test list without the queries.

    Raises:
        UsageError: No folder is named, or one of several test lists must be chosen.
        DataError: A folder or list is missing, or is not what it should be.
    """
    root = require_folder(folders.root)
    images = require_folder(root / "images")
    lists = require_folder(root / "train_test_split")
    listing = ListingBuilder()
    names = _read_split(lists, images, split, subset=folders.subset, listing=listing)
    cameras = _read_cameras(lists / "vehicle_info.txt", names, listing)
    for name in names:
        vehicle, camera = name.partition("/")[0], cameras.get(_stem(name))
        # Without a camera, a vehicle's images may be those of several: each is then a track of its own.
        track = name if camera is None else camera_track(vehicle, camera)
        listing.add(name, track, vehicle_id=vehicle, camera_id=camera)
    return listing.finish(images)


def _read_split(lists: Path, images: Path, split: Split, *, subset: int | None, listing: ListingBuilder) -> list[str]:
    if split == "train":
        return _read_names(lists / "train_list.txt", images, listing)
    gallery = choose_list(lists, "test_{}.txt", subset=subset, listing=listing)
    query = gallery.with_name(f"{gallery.stem}_query.txt")
    if split == "query":
        return _read_names(query, images, listing)
    queries = set(_read_names(query, images, ListingBuilder()))  # whose warnings belong to the other split
    names = _read_names(gallery, images, listing)
    listing.warn_of(
        [name for name in names if name in queries], "image", f"of {gallery.name} among the queries, left out"
    )
    kept = [name for name in names if name not in queries]
    if not kept:
        raise DataError(f"{gallery} names nothing but the queries of {query.name}", file=gallery)
    return kept


def _read_names(path: Path, images: Path, listing: ListingBuilder) -> list[str]:
    names = list(read_table(path, images, columns="vehicle/image", listing=listing))
    for name in names:
        if len(parts := name.split("/")) != 2 or not all(parts):
            raise DataError(f"{path}: expected lines 'vehicle/image', found '{name}'", file=path)
    return names


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _read_cameras(path: Path, names: Collection[str], listing: ListingBuilder) -> dict[str, str]:
    """Camera by the image's name without its ending: the first two fields of ``id/image;Camera ID;Time;…``."""
    if not path.is_file():
        listing.warnings.append(
            f"no {path.name} beside the lists: cameras are unknown, so nothing is junk and each image is a track"
        )
        return {}
    wanted = {_stem(name) for name in names}
    cameras: dict[str, str] = {}
    contradictory: list[str] = []
    try:
        refuse_huge(path)
        # Models and colours may be in whatever encoding; only the ASCII fields before them are used.
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                fields = [field.strip() for field in line.split(";")]
                if len(fields) < 2 and line.strip():
                    found = line.strip()[:SHOWN]
                    raise DataError(
                        f"{path}, line {number}: expected 'id/image;Camera ID;…', found '{found}'", file=path
                    )
                name = fields[0] if fields[0] in wanted else _stem(fields[0])
                if name in wanted and fields[1] and cameras.setdefault(name, fields[1]) != fields[1]:
                    contradictory.append(f"{name} (line {number})")
    except OSError as error:
        raise unreadable(path, error) from None
    listing.warn_of(contradictory, "image", f"with two cameras in {path.name}, the first counts")
    listing.warn_of(sorted(wanted - set(cameras)), "image", f"without a camera in {path.name}, each a track of its own")
    if cameras:
        listing.warnings.append(NO_PASSAGES)
    return cameras
