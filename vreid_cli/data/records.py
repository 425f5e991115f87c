"""The images of a split in columns: a record is made when it is asked for, and costs no memory until then."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa

from vreid_cli.data.boxes import parse_crop, parse_place
from vreid_cli.data.video import is_video
from vreid_cli.runtime.objects import ObjectPath, as_path, join
from vreid_cli.types.arrays import Int32Array, Int64Array
from vreid_cli.types.images import Box, ImageRecord

#: Image id, track, vehicle, camera, frame.
LabelRow = tuple[str, str | None, str | None, str | None, int | None]

#: Offsets of 64 bits: the names of many million images are more than 2 GB of text.
_TEXT = pa.large_utf8()
#: The columns of a :data:`LabelRow`.
SCHEMA = pa.schema(
    [*((name, _TEXT) for name in ("image_id", "track_id", "vehicle_id", "camera_id")), ("frame", pa.int64())]
)
#: Records that are objects at a time, while columns are filled or gone through.
BLOCK = 1024


class Records(Sequence[ImageRecord]):
    """Images of one split, each record made when it is asked for.

    A million objects with names and paths take over half a gigabyte, these columns a tenth of that. A process
    that is forked reads them where they are; objects it would copy, page by page, by counting references.

    Args:
        columns: Columns ``image_id``, ``track_id``, ``vehicle_id``, ``camera_id`` (the last three
            dictionary-encoded) and ``frame``.
        folder: The image files lie where their names say, relative to this folder.
        crops: Whether the names of crops end in their box.
        rows: (N,) int64 positions in the columns; None for all of them.
    """

    def __init__(
        self, columns: pa.RecordBatch, folder: Path, *, crops: bool = False, rows: Int64Array | None = None
    ) -> None:
        self._columns = columns
        self._arrays = columns.columns  # a list that Arrow would make again for each record
        self._folder = folder
        self._crops = crops
        self._rows = rows

    def __reduce__(self) -> tuple[object, ...]:
        """Another process gets these records alone, wherever it works."""
        rows = np.arange(len(self)) if self._rows is None else self._rows
        columns = [_compact(column) for column in self._columns.take(pa.array(rows)).columns]
        return _remake, (columns, str(self._folder.absolute()), self._crops)

    def __len__(self) -> int:
        return int(self._columns.num_rows) if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, index: int) -> ImageRecord: ...

    @overload
    def __getitem__(self, index: slice) -> Records: ...

    def __getitem__(self, index: int | slice) -> ImageRecord | Records:
        if isinstance(index, slice):
            return self.select(np.arange(len(self), dtype=np.int64)[index])
        row = self._row(index)
        return self._record(*(column[row].as_py() for column in self._arrays))

    def __iter__(self) -> Iterator[ImageRecord]:
        return (self._record(*row) for row in self.label_rows())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # compared by value, as other sequences that are no tuples

    @property
    def folder(self) -> Path:
        """The folder that the image files are relative to."""
        return self._folder

    def place(self, index: int) -> tuple[Path, Box | None]:
        """Where the file of an image lies, and its box: what decoding needs, in a fraction of a record's time."""
        return self._place(self._arrays[0][self._row(index)].as_py())

    def video_frame(self, index: int) -> int | None:
        """The number of an image's frame in its video; None where it lies in an image file."""
        return parse_place(self._arrays[0][self._row(index)].as_py())[1] if self._crops else None

    def reading_order(self) -> Int64Array | None:
        """(N,) int64 positions of the images, track by track as they begin in their video; None without videos."""
        if not self._crops or not len(self):
            return None
        names, files = self.files()
        if not any(map(is_video, names.to_pylist())):
            return None
        tracks = self.codes("track_id")
        first = np.full((2, int(tracks.max(initial=-1)) + 2), np.iinfo(np.int64).max)
        np.minimum.at(first[0], tracks, files)
        np.minimum.at(first[1], tracks, self._take("frame").fill_null(0).to_numpy(zero_copy_only=False))
        order: Int64Array = np.lexsort((np.arange(len(self)), tracks, first[1][tracks], first[0][tracks])).astype(
            np.int64
        )
        return order

    def stats_below(self) -> Mapping[str, tuple[int, int]]:
        """Bytes and stamp of all files by name, where an object store tells them at once; else empty."""
        return self._folder.files_below() if isinstance(self._folder, ObjectPath) else {}

    def label_rows(self) -> Iterator[LabelRow]:
        """Image id, track, vehicle, camera and frame of each."""
        for start in range(0, len(self), BLOCK):
            block = self._block(start)
            yield from zip(*(column.to_pylist() for column in block.columns), strict=True)

    def select(self, rows: Int64Array) -> Records:
        """The records at these positions, in this order; the columns are shared."""
        own = rows if self._rows is None else self._rows[rows]
        return Records(self._columns, self._folder, crops=self._crops, rows=own)

    @classmethod
    def join(cls, several: Sequence[Records]) -> Records:
        """Selections of the same records, one after the other."""
        first = several[0]
        positions = [np.arange(len(one), dtype=np.int64) if one._rows is None else one._rows for one in several]
        return cls(first._columns, first._folder, crops=first._crops, rows=np.concatenate(positions))

    def image_ids(self) -> pa.Array:
        """The ids, as text of Arrow (large_utf8)."""
        return self._take("image_id")

    def labels(self, name: str) -> pa.DictionaryArray:
        """A label of each, dictionary-encoded: ``track_id``, ``vehicle_id`` or ``camera_id``."""
        return self._take(name)

    def codes(self, name: str) -> Int32Array:
        """(N,) int32: the same number for the same label, -1 where it is absent."""
        codes: Int32Array = self.labels(name).indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return codes

    def files(self) -> tuple[pa.Array, Int32Array]:
        """The name of each image file, once, and (N,) int32 which of them holds each image.

        Many crops may lie in one frame.
        """
        if not self._crops:
            return self.image_ids(), np.arange(len(self), dtype=np.int32)
        names = pa.chunked_array(
            [
                pa.array([parse_crop(name)[0] for name in self._block(start).column(0).to_pylist()], _TEXT)
                for start in range(0, len(self), BLOCK)
            ],
            _TEXT,
        )
        encoded = names.combine_chunks().dictionary_encode()
        return encoded.dictionary, encoded.indices.to_numpy()

    def locate(self, name: str) -> str:
        """Where the file of this name lies.

        Not as a Path: Python keeps a table of the parts of all paths, which a million short-lived ones make grow.
        """
        return name if "://" in name else os.path.join(str(self._folder), name)  # noqa: PTH118

    def _take(self, name: str) -> pa.Array:
        column = self._columns.column(name)
        return column if self._rows is None else column.take(pa.array(self._rows))

    def _block(self, start: int) -> pa.RecordBatch:
        if self._rows is None:
            return self._columns.slice(start, BLOCK)
        return self._columns.take(pa.array(self._rows[start : start + BLOCK]))

    def _record(
        self, image_id: str, track_id: str | None, vehicle_id: str | None, camera_id: str | None, frame: int | None
    ) -> ImageRecord:
        path, box = self._place(image_id)
        return ImageRecord(image_id, path, track_id, vehicle_id, camera_id, frame, box)

    def _place(self, image_id: str) -> tuple[Path, Box | None]:
        name, box = parse_crop(image_id) if self._crops else (image_id, None)
        return join(self._folder, name), box

    def _row(self, index: int) -> int:
        row = range(len(self))[index]
        return row if self._rows is None else int(self._rows[row])


def _compact(column: pa.Array) -> pa.Array:
    """The column without the labels that none of its rows has."""
    return column.dictionary_decode().dictionary_encode() if pa.types.is_dictionary(column.type) else column


def _remake(columns: list[pa.Array], folder: str, crops: bool) -> Records:
    return Records(pa.record_batch(columns, names=SCHEMA.names), as_path(folder), crops=crops)
