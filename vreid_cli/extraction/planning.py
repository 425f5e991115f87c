"""The plan: which picture belongs to which part, and whether its file is still what it was."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vreid_cli.runtime.progress import progress
from vreid_cli.store.features import PlanRow
from vreid_cli.types import ImageRecord

_HASH_THREADS = 8
#: Files handed to the threads at a time: each that waits for its turn takes memory.
_HASH_AT_ONCE = 1024

#: Id of a picture and digest of its content: as long as both are the same, so is its LR.
Content = tuple[str, str]


@dataclass(frozen=True)
class PartPlan:
    """One part to be: its records in gallery order, and two digests that say whether it must be made.

    Attributes:
        part: Its number.
        records: Its pictures.
        contents: Id and digest of the content of each picture.
        pictures: Digest over ``contents``, whatever their order.
        labels: Digest over ids and labels in order.
    """

    part: int
    records: tuple[ImageRecord, ...]
    contents: tuple[Content, ...]
    pictures: str
    labels: str


def make_plan(records: Sequence[ImageRecord], earlier: Sequence[PlanRow] | None, *, part_images: int) -> list[PlanRow]:
    """Look at every file and give every track to a part.

    A picture whose size and time are as before is not read; any other is hashed. Tracks stay in the part
    that they were in; new tracks open new parts.

    Args:
        records: Pictures in gallery order.
        earlier: Plan of the run before, if there was one.
        part_images: A new part is closed once it holds this many pictures and its vehicle's camera ends.
    """
    before = {row.image_id: row for row in earlier or ()}
    stats = [_stat(record.path) for record in records]
    stale = [
        index
        for index, (record, stat) in enumerate(zip(records, stats, strict=True))
        if not _unchanged(before.get(record.image_id), stat)
    ]
    # Many crops may lie in one frame: it is read once.
    digests = _hash_all(list(dict.fromkeys(records[index].path for index in stale)))
    changed = set(stale)
    parts = _assign_parts(records, before, part_images=part_images)
    plan = []
    for index, (record, (size, mtime)) in enumerate(zip(records, stats, strict=True)):
        sha256 = digests[record.path] if index in changed else before[record.image_id].sha256
        plan.append(PlanRow(record.image_id, record.track_id, size, mtime, sha256, parts[index]))
    return plan


def split_plan(records: Sequence[ImageRecord], plan: Sequence[PlanRow]) -> list[PartPlan]:
    """The parts of a plan, by number, each with its digests."""
    members: dict[int, list[int]] = {}
    for index, row in enumerate(plan):
        members.setdefault(row.part, []).append(index)
    return [
        PartPlan(
            part=part,
            records=tuple(records[index] for index in indices),
            contents=(contents := tuple((plan[index].image_id, plan[index].sha256) for index in indices)),
            pictures=_digest(sorted(contents)),
            labels=_digest(_label_row(records[index]) for index in indices),
        )
        for part, indices in sorted(members.items())
    ]


def locate_contents(plans: Iterable[Sequence[PlanRow]], digests: Mapping[int, str]) -> dict[Content, int]:
    """In which part on disk each picture's LR lies.

    A plan is believed about a part only as far as the part confirms it: after an interruption the plan is
    new already and some parts are still old.

    Args:
        plans: Plans that the parts may have been made by.
        digests: For each part on disk, the digest over its pictures that it was written with.
    """
    found: dict[Content, int] = {}
    for plan in plans:
        members: dict[int, list[Content]] = {}
        for row in plan:
            members.setdefault(row.part, []).append((row.image_id, row.sha256))
        for part, contents in members.items():
            if digests.get(part) == _digest(sorted(contents)):
                found.update(dict.fromkeys(contents, part))
    return found


def _label_row(record: ImageRecord) -> tuple[object, ...]:
    return (record.image_id, record.track_id, record.vehicle_id, record.camera_id, record.frame)


def _digest(rows: Iterable[tuple[object, ...]]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr(row).encode())
    return digest.hexdigest()


def _stat(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        # Decoding says later what is wrong with it, as for any other bad picture.
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def _unchanged(before: PlanRow | None, stat: tuple[int, int]) -> bool:
    # A file that could not be read has no digest; whether it can be read now, its size and time do not say.
    return before is not None and before.sha256 != "" and (before.size, before.mtime) == stat


def _hash_all(paths: Sequence[Path]) -> dict[Path, str]:
    if not paths:
        return {}
    with ThreadPoolExecutor(_HASH_THREADS) as pool, progress(total=len(paths), what="looking", unit="files") as bar:
        digests = {}
        for start in range(0, len(paths), _HASH_AT_ONCE):
            some = paths[start : start + _HASH_AT_ONCE]
            for path, digest in zip(some, pool.map(_hash_file, some), strict=True):
                digests[path] = digest
                bar.update()
    return digests


def _hash_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _assign_parts(records: Sequence[ImageRecord], before: Mapping[str, PlanRow], *, part_images: int) -> list[int]:
    """A part for each record, whole tracks only."""
    track_part: dict[str | None, int] = {}
    for record in records:
        row = before.get(record.image_id)
        if row is not None:
            track_part[record.track_id] = min(row.part, track_part.get(record.track_id, row.part))
    current = max((row.part for row in before.values()), default=-1) + 1
    held = 0
    group: tuple[object, ...] | None = None
    parts = []
    for record in records:
        if record.track_id not in track_part:
            # All passages of a vehicle before one camera stay together: they are one track in the unit "camera".
            own_group = _group(record)
            if held >= part_images and own_group != group:
                current, held = current + 1, 0
            group = own_group
            track_part[record.track_id] = current
        if track_part[record.track_id] == current:
            held += 1
        parts.append(track_part[record.track_id])
    return parts


def _group(record: ImageRecord) -> tuple[object, ...]:
    if record.vehicle_id is None or record.camera_id is None:
        return (record.track_id,)
    return (record.vehicle_id, record.camera_id)
