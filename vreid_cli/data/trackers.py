"""The files that trackers write: one reader and one writer for each format, in one table.

Definition: docs/definitions.md#trackers-files.
"""

from __future__ import annotations

import bz2
import json
import math
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vreid_cli.data.listing import unreadable
from vreid_cli.errors import DataError, first_line
from vreid_cli.runtime.files import atomic_path, read_bytes, read_text, write_text
from vreid_cli.types.amounts import amount
from vreid_cli.types.arrays import text_array
from vreid_cli.types.tracker import TrackerBoxes

#: Width and height of the frames in pixels.
Size = tuple[int, int]
#: Frame, id, box, confidence.
BoxRow = tuple[int, str, tuple[float, ...], float]

_MOT_COLUMNS = 6
#: No video is so long; a larger number is damage.
_MOST_FRAMES = 1 << 31
#: Boxes as JSON are packed to a tenth or so; a file may unpack to this many times its size, and some.
_MOST_RATIO, _MOST_UNPACKED = 200, 16 << 20
_LABEL_FILE = re.compile(r"^(?P<stem>.*)_(?P<frame>\d+)\.txt$")


@dataclass(frozen=True)
class TrackerFormat:
    """A format of tracks.

    Attributes:
        what: What it is, in words.
        fits: Whether a path can be of this format, by its name.
        read: Boxes from a path and the frames' size.
        rewrite: Writes a path's tracks again to another path, with the ids that are given for its own.
    """

    what: str
    fits: Callable[[Path], bool]
    read: Callable[[Path, Size], TrackerBoxes]
    rewrite: Callable[[Path, Path, Mapping[str, int]], None]


# -- MOTChallenge's text -------------------------------------------------------------------------------------


def read_mot_text(path: Path, _: Size = (0, 0)) -> TrackerBoxes:
    """Lines ``frame, id, x, y, w, h[, confidence, …]``, frames from 1; a confidence of -1 is none.

    Detections without a track (id -1) are left out.

    Raises:
        DataError: A line is not of that form, or no line names a track.

    Examples:
        >>> path = Path("cars.txt")
        >>> _ = path.write_text("1,7,10,20,30,40,0.9,-1,-1,-1")
        >>> boxes = read_mot_text(path)
        >>> boxes.track.tolist(), boxes.box.tolist()
        (['7'], [[10.0, 20.0, 30.0, 40.0]])
    """
    rows: list[BoxRow] = []
    untracked = 0
    for line, cells in _mot_lines(path):
        try:
            row = _mot_row(cells)
        except ValueError as error:
            raise DataError(
                f"{path}, line {line}: {error}", hint="needed: frame, id, x, y, w, h, confidence, …", file=path
            ) from None
        if row[1].startswith("-"):
            untracked += 1
        else:
            rows.append(row)
    if untracked and not rows:
        hint = "name the tracker's file with --track-file, as in mtsc/*.txt"
        raise DataError(f"{path} holds detections without ids, no tracks", hint=hint, file=path)
    return _gather(rows)


def _mot_lines(path: Path) -> list[tuple[int, list[str]]]:
    try:
        lines = read_text(path, encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise unreadable(path, error) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text: {error}", file=path) from None
    split = [(number, line.split(",") if "," in line else line.split()) for number, line in enumerate(lines, start=1)]
    return [(number, cells) for number, cells in split if any(cell.strip() for cell in cells)]


def _mot_row(cells: Sequence[str]) -> BoxRow:
    if len(cells) < _MOT_COLUMNS:
        raise ValueError(f"{amount(len(cells), 'column')}, at least {_MOT_COLUMNS} are needed")
    frame, track = _frame(cells[0]), _whole("id", cells[1])
    box = tuple(_number(name, cell) for name, cell in zip("xywh", cells[2:_MOT_COLUMNS], strict=True))
    _check_size(box)
    confidence = _number("confidence", cells[6]) if len(cells) > _MOT_COLUMNS and cells[6].strip() else -1.0
    return frame, str(track), box, math.nan if confidence < 0 else confidence


def _frame(cell: str) -> int:
    frame = _whole("frame", cell)
    if not 1 <= frame < _MOST_FRAMES:
        raise ValueError(f"frame {frame}: frames are counted from 1")
    return frame


def _whole(name: str, cell: str) -> int:
    try:
        return int(cell)  # of any length: an id may have more digits than a float knows
    except ValueError:
        number = _number(name, cell)  # some trackers write 12.0
    if not number.is_integer():
        raise ValueError(f"{name} '{cell.strip()}' is no whole number")
    return int(number)


def _number(name: str, cell: object) -> float:
    try:
        number = float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} '{str(cell).strip()}' is no number")
    return number


def _check_size(box: Sequence[float]) -> None:
    if box[2] < 0 or box[3] < 0:
        raise ValueError(f"a box of negative size: w {box[2]:g}, h {box[3]:g}")


def _gather(rows: Sequence[BoxRow]) -> TrackerBoxes:
    frame, track, box, confidence = zip(*rows, strict=True) if rows else ((), (), np.empty((0, 4)), ())
    return TrackerBoxes(
        np.array(frame, dtype=np.int64),
        text_array(track),
        np.array(box, dtype=np.float64).reshape(-1, 4),
        np.array(confidence, dtype=np.float64),
    )


def _rewrite_mot(path: Path, output: Path, ids: Mapping[str, int]) -> None:
    lines = []
    for _, cells in _mot_lines(path):
        own = str(_whole("id", cells[1]))
        # A detection without a track stays one.
        lines.append(",".join([cells[0].strip(), str(ids.get(own, own)), *(cell.strip() for cell in cells[2:])]) + "\n")
    write_text(output, "".join(lines))


# -- Ultralytics' labels -------------------------------------------------------------------------------------


def read_ultralytics_labels(path: Path, size: Size) -> TrackerBoxes:
    """A folder of ``<name>_<frame>.txt``: class, centre and size as shares of the frame, confidence if saved, id last.

    Lines without an id (five columns) are detections without a track, and left out.

    Raises:
        DataError: A line is not of that form.

    Examples:
        >>> Path("labels").mkdir()
        >>> _ = Path("labels/vdo_3.txt").write_text("2 0.5 0.5 0.2 0.4 0.9 7")
        >>> read_ultralytics_labels(Path("labels"), (100, 50)).box.tolist()
        [[40.0, 15.0, 20.0, 20.0]]
    """
    rows: list[BoxRow] = []
    for file, frame in _label_files(path):
        for line, cells in _mot_lines(file):
            try:
                if len(cells) not in (5, 6, 7):
                    raise ValueError(amount(len(cells), "column"))
                if len(cells) > 5:
                    rows.append(_label_row(cells, frame, size=size))
            except ValueError as error:
                hint = "needed: class, x, y, w, h as shares of the frame, confidence (may be left out), id"
                raise DataError(f"{file}, line {line}: {error}", hint=hint, file=file) from None
    return _gather(rows)


def _label_files(path: Path) -> list[tuple[Path, int]]:
    found = [(file, match) for file in path.glob("*.txt") if (match := _LABEL_FILE.match(file.name))]
    stems = sorted({match["stem"] for _, match in found})
    if len(stems) > 1:
        hint = "keep one folder of labels for each camera"
        raise DataError(f"{path} holds labels of several videos: {', '.join(stems[:3])}", hint=hint, file=path)
    try:
        return sorted(((file, _frame(match["frame"])) for file, match in found), key=lambda one: one[1])
    except ValueError as error:
        raise DataError(f"{path}: {error}", hint="labels are named <video>_<frame>.txt", file=path) from None


def _label_row(cells: Sequence[str], frame: int, *, size: Size) -> BoxRow:
    x, y, width, height = (_number(name, cell) for name, cell in zip("xywh", cells[1:5], strict=True))
    confidence = _number("confidence", cells[5]) if len(cells) == 7 else math.nan
    box = ((x - width / 2) * size[0], (y - height / 2) * size[1], width * size[0], height * size[1])
    _check_size(box)
    # Shares have six digits: a hundredth of a pixel is all that they know.
    return frame, str(_whole("id", cells[-1])), tuple(round(number, 2) for number in box), confidence


def _rewrite_labels(path: Path, output: Path, ids: Mapping[str, int]) -> None:
    for file, _ in _label_files(path):
        lines = []
        for _, cells in _mot_lines(file):
            last = [str(ids[str(_whole("id", cells[-1]))])] if len(cells) > 5 else cells[-1:]
            lines.append(" ".join([*cells[:-1], *last]) + "\n")
        write_text(output / file.name, "".join(lines))


# -- OpenTrafficCam's .ottrk ---------------------------------------------------------------------------------


def read_ottrk(path: Path, _: Size = (0, 0)) -> TrackerBoxes:
    """OTVision's tracks: JSON in bzip2. Up to version 1.0 of its detections, x and y are the centre of a box.

    Raises:
        DataError: The file is no .ottrk, or a detection lacks something.

    Examples:
        >>> seen = {"frame": 4, "track-id": 7, "x": 1, "y": 2, "w": 3, "h": 4, "confidence": 0.5}
        >>> content = {"metadata": {"otdet_version": "1.2"}, "data": {"detections": [seen]}}
        >>> _ = Path("c1.ottrk").write_bytes(bz2.compress(json.dumps(content).encode()))
        >>> read_ottrk(Path("c1.ottrk")).frame.tolist()
        [4]
    """
    content, detections = _load_ottrk(path)
    metadata = content.get("metadata")
    version = str(metadata.get("otdet_version", "1.2")) if isinstance(metadata, Mapping) else "1.2"
    try:
        centred = tuple(int(part) for part in version.split(".")[:2]) <= (1, 0)
    except ValueError:
        raise DataError(f"{path}: otdet_version '{version}' is no version", file=path) from None
    rows: list[BoxRow] = []
    for number, one in enumerate(detections, start=1):
        try:
            frame, track = _frame(str(one["frame"])), _whole("track-id", str(one["track-id"]))
            x, y, width, height = (_number(key, one[key]) for key in "xywh")
            _check_size((x, y, width, height))
            confidence = _number("confidence", one.get("confidence", 1.0))
        except KeyError as error:
            raise DataError(f"{path}: detection {number} has no {error}", file=path) from None
        except (TypeError, AttributeError, ValueError) as error:
            raise DataError(f"{path}: detection {number}: {error}", file=path) from None
        shift = (width / 2, height / 2) if centred else (0.0, 0.0)
        rows.append((frame, str(track), (x - shift[0], y - shift[1], width, height), confidence))
    return _gather(rows)


def _load_ottrk(path: Path) -> tuple[dict[str, Any], list[Any]]:
    try:
        content = json.loads(_unpack(read_bytes(path)))
        detections = content["data"]["detections"]
        if not isinstance(detections, list):
            raise ValueError("its detections are no list")
    except (OSError, ValueError, KeyError, TypeError, EOFError, zlib.error, RecursionError) as error:
        raise DataError(
            f"{path} is no .ottrk (JSON in bzip2 with data, detections): {first_line(error)}", file=path
        ) from None
    return content, detections


def _unpack(packed: bytes) -> bytes:
    """What bzip2 packed; a file that unpacks to far more than tracks ever do is refused before it fills the memory.

    Raises:
        ValueError: It does.
    """
    most = _MOST_UNPACKED + _MOST_RATIO * len(packed)
    unpacked = b""
    while packed and len(unpacked) <= most:
        decompressor = bz2.BZ2Decompressor()
        unpacked += decompressor.decompress(packed, most + 1 - len(unpacked))
        if not decompressor.eof and len(unpacked) <= most:
            raise EOFError("it is cut short")
        packed = decompressor.unused_data
    if len(unpacked) > most:
        raise ValueError(f"it unpacks to more than {most:,} bytes")
    return unpacked


def _rewrite_ottrk(path: Path, output: Path, ids: Mapping[str, int]) -> None:
    content, detections = _load_ottrk(path)
    for one in detections:
        one["track-id"] = ids[str(_whole("track-id", str(one["track-id"])))]
    with atomic_path(output) as temporary:
        temporary.write_bytes(bz2.compress(json.dumps(content).encode()))


# -- the table -----------------------------------------------------------------------------------------------

#: Looked through in this order.
TRACKER_FORMATS: dict[str, TrackerFormat] = {
    "ottrk": TrackerFormat(
        "OpenTrafficCam's .ottrk", lambda path: path.suffix.lower() == ".ottrk", read_ottrk, _rewrite_ottrk
    ),
    "ultralytics": TrackerFormat(
        "a folder of Ultralytics' labels",
        lambda path: path.is_dir() and any(_LABEL_FILE.match(file.name) for file in path.glob("*.txt")),
        read_ultralytics_labels,
        _rewrite_labels,
    ),
    "mot": TrackerFormat(
        "MOTChallenge's text",
        lambda path: path.suffix.lower() == ".txt" and path.is_file(),
        read_mot_text,
        _rewrite_mot,
    ),
}


def tracker_format(path: Path) -> TrackerFormat | None:
    """The format of a file or folder of tracks, by its name; None where it is none.

    Examples:
        >>> tracker_format(Path("cars.ottrk")).what
        "OpenTrafficCam's .ottrk"
    """
    return next((one for one in TRACKER_FORMATS.values() if one.fits(path)), None)
