"""The layout ``veri-wild``: VERI-Wild, a folder a vehicle, lists of ``vehicle/image``, cameras in a table.

Known from public loaders, not checked against the release.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from vreid_cli.data.listing import DataFolders, Listing, examples, list_images, make_listing, require_folder
from vreid_cli.data.lists import (
    NO_PASSAGES,
    camera_track,
    choose_list,
    main_folder,
    read_table,
    report_missing,
    require_list,
    with_endings,
)
from vreid_cli.errors import DataError
from vreid_cli.types.images import ImageRecord, Split

_CAMERAS = "vehicle_info.txt"
_SHAPE = (
    "expected VERI-Wild: images/<vehicle>/<image>.jpg and train_test_split/ with test_<size>.txt, "
    f"test_<size>_query.txt (lines 'vehicle/image') and {_CAMERAS}"
)


def read_veri_wild(folders: DataFolders, split: Split) -> Listing:
    """List the images of a split; the gallery is the test list without the queries.

    Raises:
        UsageError: One of several test lists must be chosen, or no folder is named.
        DataError: A folder or list is missing, or is not what it should be.
    """
    data_dir = main_folder(folders, dataset="veri-wild", shape=_SHAPE)
    images = require_folder(data_dir / "images", hint=_SHAPE)
    lists = require_folder(data_dir / "train_test_split", hint=_SHAPE)
    warnings: list[str] = []
    path, names = _names(lists, split, folders.subset, warnings=warnings)
    _report_missing(images, names, path, warnings=warnings)
    cameras = _read_cameras(lists / _CAMERAS, names, warnings)
    return make_listing((_record(images, name, cameras.get(_key(name))) for name in names), images, warnings)


def _names(lists: Path, split: Split, subset: int | None, *, warnings: list[str]) -> tuple[Path, list[str]]:
    """The list of a split, and the images that it means."""
    if split == "train":
        path = require_list(lists / "train_list.txt", hint=_SHAPE)
        return path, _read_names(path, warnings)
    gallery = choose_list(lists, "test_{}.txt", subset=subset, dataset="veri-wild", warnings=warnings)
    query = require_list(gallery.with_name(f"{gallery.stem}_query.txt"), hint=_SHAPE)
    if split == "query":
        return query, _read_names(query, warnings)
    queries = set(_read_names(query, []))
    names = _read_names(gallery, warnings)
    kept = [name for name in names if name not in queries]
    if len(kept) < len(names):
        warnings.append(f"{len(names) - len(kept)} images of {gallery.name} are queries and not in the gallery")
    if not kept:
        raise DataError(f"{gallery} names nothing but the queries of {query.name}", hint=_SHAPE, file=gallery)
    return gallery, kept


def _read_names(path: Path, warnings: list[str]) -> list[str]:
    names = list(with_endings(read_table(path, columns="vehicle/image", warnings=warnings), path, warnings))
    for name in names:
        if len(parts := name.split("/")) != 2 or not all(parts):
            raise DataError(f"{path}: expected lines 'vehicle/image', found '{name}'", hint=_SHAPE, file=path)
    return names


def _report_missing(images: Path, names: Iterable[str], path: Path, *, warnings: list[str]) -> None:
    by_vehicle: dict[str, list[str]] = {}
    for name in names:
        by_vehicle.setdefault(name.partition("/")[0], []).append(name)
    present = [
        f"{vehicle}/{image}"
        for vehicle in by_vehicle
        if (images / vehicle).is_dir()
        for image in list_images(images / vehicle)
    ]
    listed = [name for own in by_vehicle.values() for name in own]
    report_missing(listed, present, listed_in=path.name, folder=images.name, warnings=warnings)


def _record(images: Path, name: str, camera: str | None) -> ImageRecord:
    vehicle = name.partition("/")[0]
    # Without a camera, a vehicle's images may be those of several: each is then a track of its own.
    track = name if camera is None else camera_track(vehicle, camera)
    return ImageRecord(name, images / name, track, vehicle, camera)


def _key(name: str) -> str:
    """An image as the table of cameras names it, with or without its ending."""
    return name.rpartition(".")[0]


def _read_cameras(path: Path, names: Collection[str], warnings: list[str]) -> dict[str, str]:
    """Camera of each image: the first two fields of ``id/image;Camera ID;Time;Model;Type;Color``."""
    if not path.is_file():
        warnings.append(
            f"no {path.name} beside the lists: cameras are unknown, so nothing is junk and each image is a track"
        )
        return {}
    wanted = {_key(name) for name in names}
    cameras: dict[str, str] = {}
    try:
        # Models and colours may be in whatever encoding; only the ASCII fields before them are used.
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                fields = [field.strip() for field in line.split(";")]
                if len(fields) < 2 and line.strip():
                    raise DataError(
                        f"{path}, line {number}: expected 'id/image;Camera ID;…', found '{line.strip()[:80]}'",
                        file=path,
                    )
                name = fields[0] if fields[0] in wanted else _key(fields[0])
                if name in wanted and fields[1]:
                    cameras[name] = fields[1]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", file=path) from None
    unknown = sorted(wanted - set(cameras))
    if unknown:
        warnings.append(
            f"{path.name} tells no camera of {len(unknown)} images, each a track of its own: {examples(unknown)}"
        )
    if cameras:
        warnings.append(NO_PASSAGES)
    return cameras
