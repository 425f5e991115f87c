"""Parts: what each is to hold, and what it holds once it can be written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from vreid_cli.data.records import Records
from vreid_cli.extraction.planning import assign_parts
from vreid_cli.extraction.timings import Timings
from vreid_cli.runtime.objects import ObjectPath
from vreid_cli.store.parts import PartFacts, Skipped
from vreid_cli.store.plan import Plan, digest_rows, group
from vreid_cli.types.amounts import amount
from vreid_cli.types.arrays import Float32Array, Int64Array
from vreid_cli.types.images import ImageRecord


@dataclass(frozen=True, eq=False)
class Part:
    """What one part is to hold: whole tracks, in gallery order.

    Attributes:
        number: Its number.
        rows: (N,) int64 positions of its images in the listing.
        records: Its images.
        contents: Digest over ids and file contents of its images, whatever their order; empty where no store asks.
        labels: Digest over ids and labels in order; likewise.
        stamp: Digest over size and time of their files when they were planned; empty where nobody looked, and for
            object stores, which give a whole object or none and take as long to say its size.
    """

    number: int
    rows: Int64Array
    records: Records
    contents: str = ""
    labels: str = ""
    stamp: str = ""

    def __str__(self) -> str:
        first, last = self.records[0].path, self.records[len(self.records) - 1].path
        return f"part {self.number} ({amount(len(self.records), 'image')}, {first} to {last})"


@dataclass(frozen=True, eq=False)
class PartResult:
    """What a part holds.

    Attributes:
        part: What it is to hold.
        kept: (M,) int64 positions, among the part's records, of the images that could be used.
        features: (M, D) their LRs.
        skipped: The other images.
        recorded: Batch, threads, versions and the like that the LRs were computed with.
        timings: Where the time went.
    """

    part: Part
    kept: Int64Array
    features: Float32Array
    skipped: tuple[Skipped, ...]
    recorded: Mapping[str, str]
    timings: Timings = field(default_factory=Timings)

    def facts(self, identity: Mapping[str, str]) -> PartFacts:
        """What the part says about itself in a store."""
        return PartFacts(identity, self.recorded, self.part.contents, self.part.labels, self.skipped)

    def records(self) -> list[ImageRecord]:
        """The records of the images that could be used."""
        return list(self.part.records.select(self.kept))


def digest_stamps(stamps: Int64Array) -> str:
    """SHA-256 over (2, N) sizes and times."""
    return hashlib.sha256(stamps.tobytes()).hexdigest()


def planned_parts(records: Records, plan: Plan) -> list[Part]:
    """The parts of a plan, by number, each with the digests that say whether it must be made."""
    stamps = plan.stamps()
    local = not isinstance(records.folder, ObjectPath)
    parts = []
    for number, rows in plan.members():
        own, stamp = records.select(rows), digest_stamps(stamps[:, rows]) if local else ""
        parts.append(Part(number, rows, own, plan.contents(rows), digest_rows(own.label_rows()), stamp))
    return parts


def first_parts(records: Records, *, part_images: int) -> list[Part]:
    """The parts that these records make where nothing is kept: no file is looked at."""
    return [
        Part(number, rows, records.select(rows))
        for number, rows in group(assign_parts(records, part_images=part_images))
    ]
