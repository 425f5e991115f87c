"""What every reader takes and gives: folders in, the images of a split in gallery order out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from vreid_cli.data.decoding import is_image
from vreid_cli.data.records import BLOCK, SCHEMA, LabelRow, Records
from vreid_cli.errors import DataError, UsageError
from vreid_cli.runtime.arrow import gallery_order
from vreid_cli.runtime.files import real_path
from vreid_cli.runtime.objects import ObjectPath
from vreid_cli.types.amounts import amount
from vreid_cli.types.arrays import Int64Array
from vreid_cli.types.features import QueryProtocol
from vreid_cli.types.images import ImageRecord

_EXAMPLES = 3


@dataclass(frozen=True)
class Thinning:
    """Which boxes of a tracker's tracks are used.

    Attributes:
        per_track: Most images of a track.
        choose: ``even``: evenly from its first to its last; ``largest``: the largest boxes.
        min_size: Fewest pixels of both width and height.
        min_confidence: Least confidence; boxes without one are kept.
    """

    per_track: int = 16
    choose: Literal["even", "largest"] = "even"
    min_size: float = 16.0
    min_confidence: float = 0.0


@dataclass(frozen=True)
class DataFolders:
    """Where a data set lies.

    Attributes:
        data_dir: Its main folder.
        query_dir: The folder of the queries, where it is named on its own.
        gallery_dir: The folder of the gallery, where it is named on its own.
        label_pattern: Regular expression for labels in names; None for VeRi's naming.
        subset: Which of the test lists to take, by its size, where a layout has several; None for the only one.
        track_file: A tracker's file below the folder of each camera; None for the only one.
        thinning: Which of a tracker's boxes are used.
    """

    data_dir: Path | None = None
    query_dir: Path | None = None
    gallery_dir: Path | None = None
    label_pattern: str | None = None
    subset: int | None = None
    track_file: str | None = None
    thinning: Thinning = Thinning()

    @property
    def root(self) -> Path:
        """The main folder.

        Raises:
            UsageError: None is named.
        """
        if self.data_dir is None:
            raise UsageError("--data-dir: where is the data set?")
        return self.data_dir


@dataclass(frozen=True)
class Listing:
    """The images of one split.

    Attributes:
        records: In gallery order (see :meth:`ImageRecord.sort_key`).
        image_root: Image ids are relative to this folder.
        warnings: What the reader found doubtful, a sentence each.
        dataset: Name of the layout; None where the images belong to none.
        protocol: How that layout says that queries and gallery come about.
    """

    records: Records
    image_root: Path
    warnings: tuple[str, ...] = ()
    dataset: str | None = None
    protocol: QueryProtocol = "separate"


class ListingBuilder:
    """Takes the images of a split in any order, and the warnings about them.

    Args:
        anywhere: Whether images may lie outside the folder that their names are relative to.

    Images go into columns as they come: as objects, a million of them would take over half a gigabyte.

    Attributes:
        warnings: What is doubtful, a sentence each.

    Examples:
        >>> from pathlib import Path
        >>> builder = ListingBuilder()
        >>> builder.add("b.jpg", "t1", vehicle_id="0002")
        >>> builder.add("a.jpg", "t1", vehicle_id="0002")
        >>> builder.warn_of(["c.jpg", "d.jpg"], "image", "in no list")
        >>> listing = builder.finish(Path("images"))
        >>> [record.image_id for record in listing.records]
        ['a.jpg', 'b.jpg']
        >>> listing.warnings
        ('2 images in no list: c.jpg, d.jpg',)
    """

    def __init__(self, *, anywhere: bool = False) -> None:
        self.warnings: list[str] = []
        self._anywhere = anywhere
        self._unnamed: list[str] = []
        self._outside: list[str] = []
        self._pending: list[LabelRow] = []
        self._batches: list[pa.RecordBatch] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(
        self,
        image_id: str,
        track_id: str | None,
        *,
        vehicle_id: str | None = None,
        camera_id: str | None = None,
        frame: int | None = None,
    ) -> None:
        """Add an image; where it lies, and its box, follow from its id."""
        self._count += 1
        if not _is_text(image_id):
            self._unnamed.append(ascii(image_id))
            return
        if not self._anywhere and leads_outside(image_id):
            self._outside.append(image_id)
            return
        self._pending.append((image_id, track_id, vehicle_id, camera_id, frame))
        if len(self._pending) == BLOCK:
            self._flush()

    def warn_of(self, names: Sequence[str], noun: str, text: str) -> None:
        """Add the warning ``<count> <noun> <text>: <first names>``; none where there are no names."""
        if names:
            self.warnings.append(f"{amount(len(names), noun)} {text}: {examples(names)}")

    def table(self) -> pa.Table:
        """The images in the order in which they came, in columns of plain text."""
        self._flush()
        return pa.Table.from_batches(self._batches, SCHEMA)

    def finish(
        self, image_root: Path, *, folder: Path | None = None, crops: bool = False, rows: Int64Array | None = None
    ) -> Listing:
        """The listing in gallery order; the builder is empty then.

        Images whose names are not valid text (some old archives unpack to such) can stand in no file that vreid
        writes; they are left out with a warning, and so are names of a list that lead out of the data set's folder.

        Args:
            image_root: Where the images of these ids belong.
            folder: Where they are read from, where that is another folder.
            crops: Whether the ids of crops end in their box.
            rows: (M,) int64, which of the images to keep; None for all of them.

        Raises:
            DataError: There is no image.
        """
        self.warn_of(sorted(self._unnamed), "image", "with a name that is not valid UTF-8, left out")
        self.warn_of(sorted(self._outside), "name", f"leading out of {image_root}, left out")
        table = self.table() if rows is None else self.table().take(pa.array(rows))
        self._batches, self._count = [], 0
        if not len(table):
            what = "image whose name is valid UTF-8" if self._unnamed else "images"
            what = "image that a list may name" if self._outside else what
            raise DataError(f"{image_root} holds no {what}", file=image_root)
        records = Records(_in_gallery_order(table), folder or image_root, crops=crops)
        return Listing(records, real_path(image_root), tuple(self.warnings))

    def _flush(self) -> None:
        if self._pending:
            columns = zip(*self._pending, strict=True)
            arrays = [pa.array(column, kind) for column, kind in zip(columns, SCHEMA.types, strict=True)]
            self._batches.append(pa.record_batch(arrays, schema=SCHEMA))
            self._pending = []


def make_listing(records: Iterable[ImageRecord], image_root: Path, warnings: Sequence[str] = ()) -> Listing:
    """A listing of these images, which lie in ``image_root`` under their ids.

    Raises:
        DataError: There is no image.

    Examples:
        >>> from pathlib import Path
        >>> listing = make_listing([ImageRecord("a.jpg", Path("images/a.jpg"), "t1")], Path("images"))
        >>> listing.records[0].track_id
        't1'
    """
    builder = ListingBuilder(anywhere=True)
    builder.warnings += warnings
    crops = False
    for record in records:
        crops = crops or record.box is not None
        builder.add(
            record.image_id,
            record.track_id,
            vehicle_id=record.vehicle_id,
            camera_id=record.camera_id,
            frame=record.frame,
        )
    return builder.finish(image_root, crops=crops)


def require_folder(folder: Path) -> Path:
    """The folder itself, if it is one.

    Raises:
        DataError: It is missing or is no folder.
    """
    if not folder.exists():
        raise DataError(f"there is no folder {folder}", file=folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder", file=folder)
    return folder


def list_images(folder: Path) -> list[str]:
    """Names of the images that lie directly in a folder, sorted.

    Raises:
        DataError: The folder cannot be read.
    """
    try:
        if isinstance(folder, ObjectPath):
            return sorted(name for name in folder.file_names() if is_image(name))
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if is_image(entry.name) and entry.is_file())
    except OSError as error:
        raise unreadable(folder, error) from None


def walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Each folder from the top, with the names of its folders and files; links are followed.

    Folders that are taken out of the first list are left out, as with :func:`os.walk`.

    Raises:
        DataError: A folder cannot be read.
    """
    if isinstance(root, ObjectPath):
        yield from root.walk_below()
        return

    # Left to itself, os.walk would pass over a folder without permission as if it were empty.
    def refuse(error: OSError) -> None:
        raise unreadable(error.filename, error)

    for folder, below, files in os.walk(root, followlinks=True, onerror=refuse):
        yield Path(folder), below, files


def unreadable(path: Path | str, error: OSError) -> DataError:
    """What the system says against reading a file or folder, as an error for the user."""
    if isinstance(error, FileNotFoundError):
        return DataError(f"there is no file {path}", hint="check the path", file=path)
    hint = "check that it is whole and may be read"
    return DataError(f"{path} cannot be read: {error.strerror}", hint=hint, file=path)


def examples(names: Sequence[str]) -> str:
    """The first few names, and how many more there are.

    Examples:
        >>> examples(["a", "b", "c", "d", "e"])
        'a, b, c and 2 more'
    """
    more = f" and {len(names) - _EXAMPLES} more" if len(names) > _EXAMPLES else ""
    return ", ".join(names[:_EXAMPLES]) + more


def _in_gallery_order(table: pa.Table) -> pa.RecordBatch:
    """The rows in gallery order; labels encoded."""
    order = pa.array(gallery_order(table))
    columns: dict[str, Any] = {name: table.column(name).take(order).combine_chunks() for name in table.column_names}
    labels = {name: columns[name].dictionary_encode() for name in ("track_id", "vehicle_id", "camera_id")}
    return pa.record_batch({**columns, **labels})


def leads_outside(name: str) -> bool:
    """Whether a name that a list gives leads out of the folder that it is relative to.

    Examples:
        >>> leads_outside("a/../../b.jpg"), leads_outside("/b.jpg"), leads_outside("a/..b.jpg")
        (True, True, False)
    """
    return "://" in name or os.path.isabs(name) or os.path.normpath(name).split("/")[0] == ".."  # noqa: PTH117  quick


def _is_text(name: str) -> bool:
    if "\0" in name:
        return False
    # Python keeps undecodable bytes of a file name as lone surrogates, which no encoding takes.
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
