"""What every reader takes and gives: folders in, a sorted listing of images out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vreid_cli.data.decoding import is_image
from vreid_cli.data.records import LabelRow, RecordBuilder, Records, label_row
from vreid_cli.errors import DataError
from vreid_cli.types.arrays import Int64Array
from vreid_cli.types.images import ImageRecord

_EXAMPLES = 3


@dataclass(frozen=True)
class DataFolders:
    """Where a data set lies.

    Attributes:
        data_dir: Its main folder.
        query_dir: The query's folder, where it is named on its own.
        gallery_dir: The gallery's folder, where it is named on its own.
        label_pattern: Regular expression for labels in names; None for VeRi's naming.
        subset: Which of the test lists to take, by its size, where a layout has several; None for the only one.
    """

    data_dir: Path | None = None
    query_dir: Path | None = None
    gallery_dir: Path | None = None
    label_pattern: str | None = None
    subset: int | None = None


@dataclass(frozen=True)
class Listing:
    """The images of one split.

    Attributes:
        records: In gallery order (see :meth:`ImageRecord.sort_key`).
        image_root: Image ids are relative to this folder.
        warnings: What is doubtful, in words for the user.
    """

    records: Records
    image_root: Path
    warnings: tuple[str, ...] = ()


def make_listing(
    records: Iterable[ImageRecord], image_root: Path, warnings: Sequence[str] = (), *, folder: Path | None = None
) -> Listing:
    """Sort the records and note the folder they belong to.

    Args:
        records: The images, which lie in ``folder`` under their ids.
        image_root: Where the images of these ids belong.
        warnings: What is doubtful.
        folder: Where they are read from, where that is another folder.

    Raises:
        DataError: As :func:`finish_listing`.
    """
    builder = RecordBuilder()
    builder.extend(map(label_row, records))
    return finish_listing(builder, image_root, warnings, folder=folder)


def finish_listing(
    builder: RecordBuilder,
    image_root: Path,
    warnings: Sequence[str] = (),
    *,
    folder: Path | None = None,
    crops: bool = False,
    rows: Int64Array | None = None,
) -> Listing:
    """The same for records that were gathered one by one: many of them take no memory as objects.

    Images whose names are no valid text (some old archives unpack to such) cannot be listed in any file
    that vreid writes; they are left out with a warning.

    Raises:
        DataError: No other images are there.
    """
    told = list(warnings)
    if builder.unnamed:
        bad = [ascii(image_id) for image_id, *_ in sorted(builder.unnamed, key=_sort_key)]
        told.append(f"{len(bad)} images have names that are not valid UTF-8, left out: {examples(bad)}")
    if not len(builder):
        raise DataError(f"{image_root} holds no image whose name is valid UTF-8", file=image_root)
    records = builder.build(folder or image_root, crops=crops, rows=rows)
    return Listing(records, image_root.resolve(), tuple(told))


def _sort_key(row: LabelRow) -> tuple[object, ...]:
    return ImageRecord(row[0], Path(), *row[1:]).sort_key()


def require_folder(folder: Path, *, hint: str) -> Path:
    """The folder itself, if it is one.

    Raises:
        DataError: It is missing or is no folder.
    """
    if not folder.exists():
        raise DataError(f"there is no folder {folder}", hint=hint, file=folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder", hint=hint, file=folder)
    return folder


def list_images(folder: Path) -> list[str]:
    """Names of the images that lie directly in a folder, sorted.

    Raises:
        DataError: The folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if is_image(entry.name) and entry.is_file())
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}", file=folder) from None


def examples(names: Sequence[str]) -> str:
    """The first few names, and how many more there are: ``a, b, c and 7 more``."""
    more = f" and {len(names) - _EXAMPLES} more" if len(names) > _EXAMPLES else ""
    return ", ".join(names[:_EXAMPLES]) + more
