"""The plan: which image belongs to which part, and whether its file is still what it was."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from stat import S_ISREG

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vreid_cli.data.decoding import MAX_BYTES, is_image
from vreid_cli.data.records import Records
from vreid_cli.runtime.objects import ObjectPath, as_path
from vreid_cli.runtime.progress import progress
from vreid_cli.store.plan import PLAN_SCHEMA, Plan
from vreid_cli.types.arrays import BoolArray, Int32Array, Int64Array

_HASH_THREADS = 8
#: Files handed to the threads at a time: each that waits for its turn takes memory.
_AT_ONCE = 1024
#: Characters of a digest.
_DIGEST = 64
#: Bytes of text that an array with offsets of 32 bits can hold.
_MOST_TEXT = 2**31 - 1


def make_plan(records: Records, earlier: Plan | None, *, part_images: int) -> Plan:
    """Look at every file and give every track to a part.

    An image whose size and time are as before is not read; any other is hashed. Tracks stay in the part
    that they were in; new tracks open new parts.

    Args:
        records: Images in gallery order.
        earlier: Plan of the run before, if there was one.
        part_images: A new part is closed once it holds this many images and its vehicle's camera ends.
    """
    before = Plan() if earlier is None else earlier
    image_ids = as_utf8(records.image_ids())
    rows = before.find(image_ids)
    names, owner = records.files()
    size, mtime = (column[owner] for column in _stat_all(records, names))
    columns = {
        "image_id": image_ids,
        "track_id": as_utf8(records.labels("track_id").dictionary_decode()),
        "size": size,
        "mtime": mtime,
        "sha256": _digests(records, names, owner, before=before, rows=_unchanged(before, rows, size=size, mtime=mtime)),
        "part": _assign_parts(records, before, rows, part_images=part_images),
    }
    return Plan(pa.table(columns, schema=PLAN_SCHEMA))


def assign_parts(records: Records, *, part_images: int) -> Int32Array:
    """(N,) int32 number of the part of each record, as :func:`make_plan` chooses it where nothing was there."""
    nowhere = np.full(len(records), -1, dtype=np.int64)
    return _assign_parts(records, Plan(), nowhere, part_images=part_images)


def as_utf8(column: pa.Array, *, most: int = _MOST_TEXT) -> pa.ChunkedArray:
    """Text with offsets of 64 bits as text with offsets of 32 bits, in as many chunks as it takes."""
    if column.nbytes <= most:
        return pa.chunked_array([column.cast(pa.utf8())])
    half = len(column) // 2
    # Taken, not sliced: a slice keeps its place in the long text.
    halves = (column.take(pa.array(np.arange(*ends))) for ends in ((0, half), (half, len(column))))
    return pa.chunked_array([chunk for part in halves for chunk in as_utf8(part, most=most).chunks])


def _texts(column: pa.Array) -> Iterator[str]:
    """Its values, a block of them as objects at a time."""
    for start in range(0, len(column), _AT_ONCE):
        yield from column.slice(start, _AT_ONCE).to_pylist()


def _stat_all(records: Records, names: pa.Array) -> tuple[Int64Array, Int64Array]:
    """(F,) bytes and (F,) time of change, in nanoseconds, of the files of these names; -1 where there is none."""
    stats, known = np.empty((2, len(names)), dtype=np.int64), records.stats_below()
    for position, name in enumerate(_texts(names)):
        stats[:, position] = known.get(name) or _stat(records.locate(name))
    return stats[0], stats[1]


def _stat(path: str) -> tuple[int, int]:
    try:
        if isinstance(there := as_path(path) if "://" in path else None, ObjectPath):
            return there.size_and_stamp()
        stat = os.stat(path)  # noqa: PTH116  see Records.locate
    except OSError:
        # Decoding says later what is wrong with it, as for any other bad image.
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def _unchanged(before: Plan, rows: Int64Array, *, size: Int64Array, mtime: Int64Array) -> Int64Array:
    """The rows of a plan, or -1 where size or time of the file differ from what they say."""
    # A file that could not be read has no digest; whether it can be read now, its size and time do not say.
    readable = pc.not_equal(before.table.column("sha256"), "").to_numpy()
    known = np.flatnonzero(rows >= 0)
    old = rows[known]
    same = readable[old]
    for name, column in (("size", size), ("mtime", mtime)):
        same &= before.numbers(name)[old] == column[known]
    unchanged = np.full(len(rows), -1, dtype=np.int64)
    unchanged[known[same]] = old[same]
    return unchanged


def _digests(
    records: Records, names: pa.Array, owner: Int32Array, *, before: Plan, rows: Int64Array
) -> pa.ChunkedArray:
    """Digest of each image's file: the earlier one, or a new one where ``rows`` is -1.

    Many crops may lie in one frame: it is read once.
    """
    files = np.unique(owner[rows < 0])
    fresh = _hash_all((as_path(records.locate(name)) for name in _texts(_pick(names, files))), len(files))
    origin = np.where(rows < 0, np.searchsorted(files, owner), len(files) + rows)
    chunks = [chunk for chunk in (*as_utf8(fresh).chunks, *before.table.column("sha256").chunks) if len(chunk)]
    return _pick(pa.chunked_array(chunks, pa.utf8()), origin)


def _pick(column: pa.Array | pa.ChunkedArray, positions: Int32Array | Int64Array) -> pa.Array | pa.ChunkedArray:
    """Values at these positions; the column itself where these are all in their order, which copies nothing."""
    if np.array_equal(positions, np.arange(len(column))):
        return column
    return column.take(pa.array(positions))


def _hash_all(paths: Iterator[Path], count: int) -> pa.LargeStringArray:
    """Digests of so many files."""
    # Filled in place: strings on their way into an array would take three times its size.
    text, ends = bytearray(count * _DIGEST), np.zeros(count + 1, dtype=np.int64)
    if count:
        with ThreadPoolExecutor(_HASH_THREADS) as pool, progress(total=count, what="looking", unit="files") as bar:
            place, end = 0, 0
            while some := list(islice(paths, _AT_ONCE)):
                for digest in pool.map(_hash_file, some):
                    text[end : end + len(digest)] = digest.encode()
                    place, end = place + 1, end + len(digest)
                    ends[place] = end
                    bar.update()
    return pa.LargeStringArray.from_buffers(count, pa.py_buffer(ends), pa.py_buffer(text))


def _hash_file(path: Path) -> str:
    try:
        if not isinstance(path, ObjectPath) and not _is_readable(path.stat(), path.name):
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _is_readable(stat: os.stat_result, name: str) -> bool:
    """Whether it makes sense to read a file: decoding refuses what is none, and what no image can be."""
    return S_ISREG(stat.st_mode) and (stat.st_size <= MAX_BYTES or not is_image(name))


def stamps_now(records: Records) -> Int64Array:
    """(2, N) int64 size and time that the file of each image has now, as a plan keeps them."""
    names, owner = records.files()
    return np.stack(_stat_all(records, names))[:, owner]


def changed_files(records: Records, plan: Plan, rows: Int64Array) -> BoolArray:
    """(N,) whether the file of each image is another than the plan says in these rows: by its digest, if not its time.

    Copies of a data set on several machines may differ in their times.
    """
    names, owner = records.files()
    other = np.unique(owner[(stamps_now(records) != plan.stamps()[:, rows]).any(axis=0)])
    found = {int(file): _hash_file(as_path(records.locate(names[int(file)].as_py()))) for file in other}
    said = plan.table.column("sha256").take(pa.array(rows)).to_pylist()
    return np.array([found.get(int(file), digest) != digest for file, digest in zip(owner, said, strict=True)])


def _assign_parts(records: Records, before: Plan, rows: Int64Array, *, part_images: int) -> Int32Array:
    """(N,) int32 a part for each record, whole tracks only; ``rows`` says where the plan before has it, or -1."""
    track, vehicle, camera = (records.codes(name) for name in ("track_id", "vehicle_id", "camera_id"))
    nowhere = np.iinfo(np.int32).max
    # The last place is that of code -1, the images without a track.
    track_part = np.full(int(track.max(initial=-1)) + 2, nowhere, dtype=np.int32)
    known = rows >= 0
    np.minimum.at(track_part, track[known], before.parts[rows[known]])
    current = int(before.parts.max(initial=-1)) + 1
    held = 0
    group: tuple[int, ...] | None = None
    # Tracks that are side by side in a video come into one part: what is decoded waits less for the rest of its part.
    order = records.reading_order()
    rising = slice(None) if order is None else order
    for own_track, own_vehicle, own_camera in zip(track[rising], vehicle[rising], camera[rising], strict=True):
        if track_part[own_track] == nowhere:
            # All passages of a vehicle before one camera stay together: they are one track in the unit "camera".
            labelled = own_vehicle >= 0 and own_camera >= 0 and order is None
            own_group = (own_vehicle, own_camera) if labelled else (own_track,)
            if held >= part_images and own_group != group:
                current, held = current + 1, 0
            group = own_group
            track_part[own_track] = current
        if track_part[own_track] == current:
            held += 1
    return track_part[track]
