"""The layout ``csv``: a table of one's own images, or of the boxes that a tracker found in its frames."""

from __future__ import annotations

import csv
import math
import os
import posixpath
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from vreid_cli.data.boxes import name_crop, parse_crop
from vreid_cli.data.listing import DataFolders, Listing, ListingBuilder, unreadable
from vreid_cli.data.lists import SHOWN
from vreid_cli.errors import DataError
from vreid_cli.runtime.files import refuse_huge
from vreid_cli.runtime.objects import ObjectPath, as_path
from vreid_cli.types.amounts import amount
from vreid_cli.types.arrays import Int64Array
from vreid_cli.types.images import Box, Split
from vreid_cli.types.labels import parse_frame

MANIFEST = "manifest.csv"

_BOX = ("x", "y", "w", "h")
_COLUMNS = ("path", "split", "track", "vehicle", "camera", "frame", *_BOX)
#: VeRi, and all who follow it, call the gallery "test".
_SPLITS: dict[str, Split] = {"query": "query", "gallery": "gallery", "test": "gallery", "train": "train"}


def read_manifest(folders: DataFolders, split: Split) -> Listing:
    """List the rows of a split; a row without ``split`` is gallery, one without ``track`` a track of its own.

    Raises:
        UsageError: No manifest is named.
        DataError: The manifest is missing, is no CSV, has a row that cannot be used, or none of the split.

    Examples:
        >>> path = Path("boxes.csv")
        >>> _ = path.write_text("path,track,camera,x,y,w,h" + chr(10) + "frames/1.jpg,7,c1,10,20,30,40")
        >>> record = read_manifest(DataFolders(path), "gallery").records[0]
        >>> record.image_id, record.track_id, record.box
        ('frames/1.jpg#xywh=10,20,30,40', '7', (10.0, 20.0, 30.0, 40.0))
    """
    path = folders.root / MANIFEST if folders.root.is_dir() else folders.root
    if not path.is_file():
        raise DataError(f"there is no manifest {path}", file=path)
    listing = ListingBuilder(anywhere=True)
    lines = array("q")  # of the images that are listed
    outside: list[str] = []
    below = _absolute(path.parent)
    for line, cells in _read_rows(path, split, listing):
        try:
            own_split, image_id, frame = _parse(cells, below)
        except ValueError as error:
            hint = "correct the line or take it out"
            raise DataError(f"{path}, line {line}: {error}", hint=hint, file=path) from None
        if own_split == split:
            vehicle, camera = cells.get("vehicle"), cells.get("camera")
            listing.add(image_id, cells.get("track", image_id), vehicle_id=vehicle, camera_id=camera, frame=frame)
            lines.append(line)
            if image_id.startswith(("../", "/")) or "://" in image_id:
                outside.append(image_id)
    if not len(listing):
        others = "" if split == "train" else ", or extract others with --split"
        hint = f"give some rows the split {split}{others}"
        raise DataError(f"{path} has no rows of the split {split}", hint=hint, file=path)
    first, repeated = _distinct(path, listing.table(), lines)
    listing.warn_of(outside, "image", f"of {path.name} outside its folder")
    listing.warn_of(repeated, "row", f"of {path.name} like an earlier one, each counts once")
    return listing.finish(path.parent, crops=True, rows=first)


def _read_rows(path: Path, split: Split, listing: ListingBuilder) -> Iterator[tuple[int, dict[str, str]]]:
    """The line in which each row ends, and its cells that are not empty."""
    try:
        refuse_huge(path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            columns = [name.strip() for name in next(reader, [])]
            _check_columns(path, columns, split, listing=listing)
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) > len(columns):
                    found, wanted = amount(len(cells), "cell"), amount(len(columns), "column")
                    raise DataError(
                        f"{path}, line {reader.line_num}: {found}, but {wanted}",
                        hint="put cells that hold commas into quotes",
                        file=path,
                    )
                # Trailing cells may be left out, as spreadsheets do.
                filled = {name: cell.strip() for name, cell in zip(columns, cells, strict=False)}
                yield reader.line_num, {name: filled[name] for name in _COLUMNS if filled.get(name)}
    except OSError as error:
        raise unreadable(path, error) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}", hint="save it as CSV in UTF-8", file=path) from None
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: no valid CSV: {error}", file=path) from None


def _check_columns(path: Path, columns: Sequence[str], split: Split, *, listing: ListingBuilder) -> None:
    if "path" not in columns:
        found = f"its first line is '{', '.join(columns)[:SHOWN]}'" if columns else "it is empty"
        other = next((mark for mark in ";\t|" if len(columns) == 1 and mark in columns[0]), None)
        hint = None if other is None else f"its cells are separated by {other!r}: save it with commas"
        raise DataError(f"{path} has no column 'path': {found}", hint=hint, file=path)
    twice = [name for name in _COLUMNS if columns.count(name) > 1]
    if twice:
        raise DataError(f"{path} has two columns '{twice[0]}'", hint="keep one of the two", file=path)
    if "split" not in columns and split != "gallery":
        raise DataError(
            f"{path} has no column 'split', so all its images are gallery and none is {split}",
            hint="add the column, each row query, gallery or train; or extract with --split gallery",
            file=path,
        )
    unknown = [name for name in columns if name and name not in _COLUMNS]
    if unknown:
        text = f"{path.name}: unknown columns, ignored: {', '.join(unknown)} (known: {', '.join(_COLUMNS)})"
        listing.warnings.append(text)


def _absolute(folder: Path) -> str:
    """The folder in the form in which a path below it may be given."""
    if isinstance(folder, ObjectPath):
        return str(folder)
    return Path(os.path.abspath(folder)).as_posix()  # noqa: PTH100  resolve() would follow links in the names


def _parse(cells: Mapping[str, str], below: str) -> tuple[Split, str, int | None]:
    """The split, image id and frame of a row.

    Raises:
        ValueError: A cell is not what it should be.
    """
    if "path" not in cells:
        raise ValueError("has no path")
    if "\0" in cells["path"]:
        raise ValueError("its path holds a NUL byte")
    split = cells.get("split", "gallery")
    if split.lower() not in _SPLITS:
        raise ValueError(f"split '{split}' is none of {', '.join(_SPLITS)}")
    # One name for each file, relative to the manifest where it lies below it.
    given = cells["path"]
    image = str(as_path(given)) if "://" in given else posixpath.normpath(given.replace(os.sep, "/"))
    image = image.removeprefix(f"{below}/")
    if parse_crop(image)[1] is not None:
        raise ValueError(f"path '{image}' ends in a box; put the box into the columns {', '.join(_BOX)}")
    box = _parse_box(cells)
    frame = parse_frame(cells.get("frame", ""))
    if frame is None and "frame" in cells:
        raise ValueError(f"frame '{cells['frame']}' is no whole number")
    return _SPLITS[split.lower()], image if box is None else name_crop(image, box), frame


def _parse_box(cells: Mapping[str, str]) -> Box | None:
    given = [name for name in _BOX if name in cells]
    if not given:
        return None
    if len(given) < len(_BOX):
        missing = ", ".join(name for name in _BOX if name not in given)
        raise ValueError(f"half a box: {', '.join(given)} without {missing}")
    x, y, width, height = (_parse_number(name, cells[name]) for name in _BOX)
    if width <= 0 or height <= 0:
        raise ValueError(f"an empty box: w {cells['w']}, h {cells['h']}")
    return x, y, width, height


def _parse_number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} '{text}' is no number")
    return number


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
