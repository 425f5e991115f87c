"""The layout ``csv``: a table of one's own images, or of the boxes that a tracker found in its frames."""

from __future__ import annotations

import csv
import math
import os
import posixpath
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import pyarrow as pa

from vreid_cli.data.boxes import name_crop, parse_crop
from vreid_cli.data.listing import DataFolders, Listing, examples, finish_listing
from vreid_cli.data.records import RecordBuilder, label_row
from vreid_cli.errors import DataError, UsageError
from vreid_cli.types.arrays import Int64Array
from vreid_cli.types.images import Box, ImageRecord, Split

MANIFEST = "manifest.csv"

_BOX = ("x", "y", "w", "h")
_COLUMNS = ("path", "split", "track", "vehicle", "camera", "frame", *_BOX)
#: VeRi, and all who follow it, call the gallery "test".
_SPLITS: dict[str, Split] = {"query": "query", "gallery": "gallery", "test": "gallery", "train": "train"}
_SHAPE = (
    f"expected a CSV file, or a folder that holds {MANIFEST}, with a header: the column path and, where they are "
    f"known, {', '.join(_COLUMNS[1:])}"
)
_FRAME_DIGITS = 18


@dataclass(frozen=True)
class _Row:
    """A line of the manifest: its number, and its cells that are not empty."""

    line: int
    cells: Mapping[str, str]


def read_manifest(folders: DataFolders, split: Split) -> Listing:
    """List the rows of a split; a row without ``split`` is gallery, one without ``track`` a track of its own.

    Raises:
        UsageError: No manifest is named, or folders are named one by one.
        DataError: The manifest is missing, is no CSV, has a row that cannot be used, or none of the split.
    """
    path = _manifest(folders)
    warnings: list[str] = []
    columns, rows = _read_rows(path, warnings)
    if "split" not in columns and split != "gallery":
        raise DataError(
            f"{path} has no column 'split', so all its images are gallery and none is {split}",
            hint="add the column, each row query, gallery or train; or extract with --split gallery",
            file=path,
        )
    records = RecordBuilder()
    lines = array("q")
    for row in rows:
        own_split, record = _record(path, row)
        if own_split == split:
            records.add(label_row(record))
            lines.append(row.line)
    if not len(records):
        hint = f"give some rows the split {split}, or extract others with --split"
        raise DataError(f"{path} has no rows of the split {split}", hint=hint, file=path)
    first, repeated = _distinct(path, records.table(), lines)
    if repeated:
        warnings.append(f"{path.name}: {len(repeated)} rows repeat an earlier one and count once: {examples(repeated)}")
    return finish_listing(records, path.parent, warnings, crops=True, rows=first)


def _distinct(path: Path, table: pa.Table, lines: Sequence[int]) -> tuple[Int64Array, list[str]]:
    """Positions of the rows that name their image first, and the lines of the others.

    Raises:
        DataError: An image has other labels in another line.
    """
    codes = table.column("image_id").combine_chunks().dictionary_encode().indices.to_numpy()
    _, first = np.unique(codes, return_index=True)
    repeated = np.setdiff1d(np.arange(len(codes)), first)
    for position in repeated.tolist():
        earlier = int(first[codes[position]])
        one, other = (table.slice(place, 1).to_pylist() for place in (earlier, position))
        if one != other:
            raise DataError(
                f"{path}, line {lines[position]}: {one[0]['image_id']} is in line {lines[earlier]} already, "
                "with other labels",
                hint="keep one of the two",
                file=path,
            )
    return first.astype(np.int64, copy=False), [f"line {lines[position]}" for position in repeated]


def _manifest(folders: DataFolders) -> Path:
    if folders.query_dir is not None or folders.gallery_dir is not None:
        raise UsageError(
            "--query-dir and --gallery-dir: the manifest of --dataset csv says what is query and gallery",
            hint="give --data-dir, and the column split",
        )
    if folders.data_dir is None:
        raise UsageError("--dataset csv: where is the manifest?", hint=f"name it with --data-dir. {_SHAPE}")
    path = folders.data_dir / MANIFEST if folders.data_dir.is_dir() else folders.data_dir
    if not path.is_file():
        raise DataError(f"there is no manifest {path}", hint=f"check --data-dir. {_SHAPE}", file=path)
    return path


def _read_rows(path: Path, warnings: list[str]) -> tuple[list[str], Iterator[_Row]]:
    """The names of the columns, and the rows, which are read as they are gone through."""
    lines = _read_lines(path)
    columns = [name.strip() for name in next(lines, (0, []))[1]]
    _check_columns(path, columns, warnings)
    filled = ((number, cells) for number, cells in lines if any(cell.strip() for cell in cells))
    return columns, (_row(path, number, columns, cells=cells) for number, cells in filled)


def _read_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The cells of each row, and the number of the line in which it ends."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            for cells in reader:
                yield reader.line_num, cells
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", file=path) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}", hint="save it as CSV in UTF-8", file=path) from None
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: no valid CSV: {error}", file=path) from None


def _check_columns(path: Path, columns: list[str], warnings: list[str]) -> None:
    if "path" not in columns:
        found = f"its first line is '{', '.join(columns)[:80]}'" if columns else "it is empty"
        raise DataError(f"{path} has no column 'path': {found}", hint=_SHAPE, file=path)
    twice = sorted({name for name in columns if name in _COLUMNS and columns.count(name) > 1})
    if twice:
        raise DataError(f"{path} has two columns '{twice[0]}'", hint="keep one of the two", file=path)
    unknown = [name for name in columns if name and name not in _COLUMNS]
    if unknown:
        warnings.append(f"{path.name}: unknown columns, ignored: {', '.join(unknown)} (known: {', '.join(_COLUMNS)})")


def _row(path: Path, line: int, columns: list[str], *, cells: list[str]) -> _Row:
    if len(cells) > len(columns):
        raise DataError(
            f"{path}, line {line}: {len(cells)} cells, but {len(columns)} columns",
            hint="put cells that hold commas into quotes",
            file=path,
        )
    # Trailing cells may be left out, as spreadsheets do.
    filled = ((name, cell.strip()) for name, cell in zip(columns, cells, strict=False) if name in _COLUMNS)
    return _Row(line, {name: cell for name, cell in filled if cell})


def _record(path: Path, row: _Row) -> tuple[Split, ImageRecord]:
    cells = row.cells
    if "path" not in cells:
        raise _wrong(path, row, "has no path")
    split = _SPLITS.get(cells.get("split", "gallery").lower())
    if split is None:
        raise _wrong(path, row, f"split '{cells['split']}' is none of {', '.join(_SPLITS)}")
    image = _image_name(cells["path"], path.parent)
    if parse_crop(image)[1] is not None:
        raise _wrong(path, row, f"path '{image}' ends in a box; put the box into the columns {', '.join(_BOX)}")
    box = _box(path, row)
    image_id = image if box is None else name_crop(image, box)
    return split, ImageRecord(
        image_id=image_id,
        path=path.parent / image,
        track_id=cells.get("track", image_id),
        vehicle_id=cells.get("vehicle"),
        camera_id=cells.get("camera"),
        frame=_frame(path, row),
        box=box,
    )


def _image_name(name: str, folder: Path) -> str:
    """One name for each file, relative to the manifest where it lies below it."""
    given = PurePath(posixpath.normpath(PurePath(name).as_posix()))
    below = Path(os.path.abspath(folder))  # noqa: PTH100  resolve() would follow links that the names go through
    return given.relative_to(below).as_posix() if given.is_relative_to(below) else given.as_posix()


def _box(path: Path, row: _Row) -> Box | None:
    given = [name for name in _BOX if name in row.cells]
    if not given:
        return None
    if len(given) < len(_BOX):
        missing = ", ".join(name for name in _BOX if name not in given)
        raise _wrong(path, row, f"half a box: {', '.join(given)} without {missing}")
    x, y, width, height = (_number(path, row, name) for name in _BOX)
    if width <= 0 or height <= 0:
        raise _wrong(path, row, f"an empty box: w {row.cells['w']}, h {row.cells['h']}")
    return x, y, width, height


def _number(path: Path, row: _Row, name: str) -> float:
    try:
        number = float(row.cells[name])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _wrong(path, row, f"{name} '{row.cells[name]}' is no number")
    return number


def _frame(path: Path, row: _Row) -> int | None:
    frame = row.cells.get("frame")
    if frame is None:
        return None
    # Longer numbers would not fit the 64 bits that a store gives them.
    if not (frame.isascii() and frame.isdecimal() and len(frame) <= _FRAME_DIGITS):
        raise _wrong(path, row, f"frame '{frame}' is no whole number")
    return int(frame)


def _wrong(path: Path, row: _Row, what: str) -> DataError:
    return DataError(f"{path}, line {row.line}: {what}", hint="mend the line or take it out", file=path)
