"""The plan: which image belongs to which part, and whether its file is still what it was."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vreid_cli.data.records import Records
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


@dataclass(frozen=True, eq=False)
class PartPlan:
    """One part to be: its records in gallery order, and two digests that say whether it must be made.

    Attributes:
        part: Its number.
        rows: (N,) int64 positions of its images in the plan.
        records: Its images.
        contents: Digest over ids and contents of its images, whatever their order.
        labels: Digest over ids and labels in order.
    """

    part: int
    rows: Int64Array
    records: Records
    contents: str
    labels: str


def make_plan(records: Records, earlier: Plan | None, *, part_images: int) -> Plan:
    """Look at every file and give every track to a part.

    An image whose size and time are as before is not read; any other is hashed. Tracks stay in the part
    that they were in; new tracks open new parts.

    Args:
        records: Images in gallery order.
        earlier: Plan of the run before, if there was one.
        part_images: A new part is closed once it holds this many images and its vehicle's camera ends.
    """
    before = Plan.of([]) if earlier is None else earlier
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


def split_plan(records: Records, plan: Plan) -> list[PartPlan]:
    """The parts of a plan, by number, each with its digests."""
    parts = []
    for part, rows in plan.members():
        own = records.select(rows)
        parts.append(PartPlan(part, rows, own, _digest(sorted(plan.contents(rows))), _digest(own.label_rows())))
    return parts


def locate_contents(plan: Plan, others: Iterable[Plan], digests: Mapping[int, str]) -> Int32Array:
    """(N,) int32 part on disk in which the LR of each image of a plan lies; -1 where it lies in none.

    A plan is believed about a part only as far as the part confirms it: after an interruption the plan is
    new already and some parts are still old.

    Args:
        plan: The plan whose images are looked for.
        others: Other plans that the parts may have been made by; what the later ones say counts.
        digests: For each part on disk, the digest over its images that it was written with.
    """
    located = np.full(len(plan), -1, dtype=np.int32)
    for other in (*others, plan):
        confirmed = _confirmed(other, digests)
        if not confirmed.any():
            continue
        rows = np.arange(len(plan), dtype=np.int64) if other is plan else other.find(plan.table.column("image_id"))
        here = np.flatnonzero(rows >= 0)
        here = here[confirmed[rows[here]]]
        if other is not plan:
            here = here[_same_digest(plan, other, rows=here, other_rows=rows[here])]
        located[here] = other.parts[rows[here]]
    return located


def as_utf8(column: pa.Array, *, most: int = _MOST_TEXT) -> pa.ChunkedArray:
    """Text with offsets of 64 bits as text with offsets of 32 bits, in as many chunks as it takes."""
    if column.nbytes <= most:
        return pa.chunked_array([column.cast(pa.utf8())])
    half = len(column) // 2
    # Taken, not sliced: a slice keeps its place in the long text.
    halves = (column.take(pa.array(np.arange(*ends))) for ends in ((0, half), (half, len(column))))
    return pa.chunked_array([chunk for part in halves for chunk in as_utf8(part, most=most).chunks])


def _confirmed(plan: Plan, digests: Mapping[int, str]) -> BoolArray:
    """(N,) whether the part that holds an image was written with the images that the plan says."""
    confirmed = np.zeros(len(plan), dtype=np.bool_)
    for part, rows in plan.members() if digests else ():
        confirmed[rows] = part in digests and digests[part] == _digest(sorted(plan.contents(rows)))
    return confirmed


def _same_digest(one: Plan, other: Plan, *, rows: Int64Array, other_rows: Int64Array) -> BoolArray:
    here, there = (
        plan.table.column("sha256").take(pa.array(positions)) for plan, positions in ((one, rows), (other, other_rows))
    )
    same: BoolArray = pc.equal(here, there).to_numpy()
    return same


def _digest(rows: Iterable[tuple[object, ...]]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr(row).encode())
    return digest.hexdigest()


def _texts(column: pa.Array) -> Iterator[str]:
    """Its values, a block of them as objects at a time."""
    for start in range(0, len(column), _AT_ONCE):
        yield from column.slice(start, _AT_ONCE).to_pylist()


def _stat_all(records: Records, names: pa.Array) -> tuple[Int64Array, Int64Array]:
    """(F,) bytes and (F,) time of change, in nanoseconds, of the files of these names; -1 where there is none."""
    stats = np.empty((2, len(names)), dtype=np.int64)
    for position, name in enumerate(_texts(names)):
        stats[:, position] = _stat(records.locate(name))
    return stats[0], stats[1]


def _stat(path: str) -> tuple[int, int]:
    try:
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
        same &= before.table.column(name).to_numpy()[old] == column[known]
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
    fresh = _hash_all((Path(records.locate(name)) for name in _texts(_pick(names, files))), len(files))
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
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


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
    for own_track, own_vehicle, own_camera in zip(track, vehicle, camera, strict=True):
        if track_part[own_track] == nowhere:
            # All passages of a vehicle before one camera stay together: they are one track in the unit "camera".
            labelled = own_vehicle >= 0 and own_camera >= 0
            own_group = (own_vehicle, own_camera) if labelled else (own_track,)
            if held >= part_images and own_group != group:
                current, held = current + 1, 0
            group = own_group
            track_part[own_track] = current
        if track_part[own_track] == current:
            held += 1
    return track_part[track]
