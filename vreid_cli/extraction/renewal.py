"""What a store lacks, and that part of it which needs no computing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vreid_cli.extraction.planning import Content, PartPlan, locate_contents
from vreid_cli.store.features import FeatureStore, PartFacts, PlanRow, Skipped
from vreid_cli.types import Float32Array

#: Name in a part's ``recorded`` of the size beyond which pictures were refused.
LIMIT = "max_pixels"


@dataclass(frozen=True)
class Lack:
    """What a store lacks.

    Attributes:
        compute: Parts with a picture whose LR the store does not hold.
        rewrite: Parts made of rows that the store holds: labels changed, pictures moved or left.
        remove: Numbers of parts that the plan does not need any more.
        located: In which part on disk the LR of each picture lies.
        facts: What the parts on disk say about themselves.
    """

    compute: list[PartPlan]
    rewrite: list[PartPlan]
    remove: list[int]
    located: Mapping[Content, int]
    facts: Mapping[int, PartFacts]

    def __bool__(self) -> bool:
        return bool(self.compute or self.rewrite or self.remove)

    def skipped(self) -> Iterator[Skipped]:
        """Pictures that were skipped earlier and are not tried again now."""
        tried = {record.image_id for part in self.compute for record in part.records}
        for facts in self.facts.values():
            yield from (entry for entry in facts.skipped if entry.image_id not in tried)


@dataclass(frozen=True)
class PartResult:
    """A part that can be written.

    Attributes:
        plan: Its plan.
        kept: Positions, among the plan's records, of the pictures that could be used.
        features: (len(kept), D) their LRs.
        skipped: The other pictures.
        recorded: Under which circumstances the LRs were computed.
    """

    plan: PartPlan
    kept: list[int]
    features: Float32Array
    skipped: tuple[Skipped, ...]
    recorded: Mapping[str, str]


def find_lack(
    store: FeatureStore, parts: Sequence[PartPlan], *, plans: Iterable[Sequence[PlanRow]], max_pixels: int
) -> Lack:
    """Compare the parts on disk with those that are wanted.

    Args:
        store: The store as it is.
        parts: The parts as they should be.
        plans: Plans that the parts on disk may have been made by.
        max_pixels: Larger pictures are refused.
    """
    numbers = store.part_numbers()
    facts = {part: found for part in numbers if (found := store.read_facts(part)) is not None}
    # What was too large under another limit may not be so under this one.
    settled = {
        part: found.pictures
        for part, found in facts.items()
        if not found.skipped or found.recorded.get(LIMIT) == str(max_pixels)
    }
    located = locate_contents(plans, settled)
    compute, rewrite = [], []
    for part in parts:
        own = facts.get(part.part)
        if any(content not in located for content in part.contents):
            compute.append(part)
        elif own is None or (own.pictures, own.labels) != (part.pictures, part.labels):
            rewrite.append(part)
    wanted = {part.part for part in parts}
    return Lack(compute, rewrite, [part for part in numbers if part not in wanted], located, facts)


def renew(store: FeatureStore, lack: Lack) -> Iterator[PartResult]:
    """The parts that are to be rewritten, in their new order, from the rows that the store holds."""
    origins = [[lack.located[content] for content in part.contents] for part in lack.rewrite]
    sources = sorted({number for origin in origins for number in origin})
    # All are opened before the first is replaced: a picture may move from one part to another, and a
    # mapped file outlives its name.
    held = {number: store.read_part(number) for number in sources}
    rows = {number: {image_id: row for row, image_id in enumerate(ids)} for number, (ids, _) in held.items()}
    reasons = {(number, entry.image_id): entry.reason for number in sources for entry in lack.facts[number].skipped}
    for part, origin in zip(lack.rewrite, origins, strict=True):
        kept: list[int] = []
        features: list[Float32Array] = []
        skipped: list[Skipped] = []
        for index, (record, number) in enumerate(zip(part.records, origin, strict=True)):
            row = rows[number].get(record.image_id)
            if row is None:
                skipped.append(Skipped(record.image_id, record.track_id, reasons[number, record.image_id]))
            else:
                kept.append(index)
                features.append(held[number][1][row])
        stacked = np.stack(features) if features else held[origin[0]][1][:0]
        yield PartResult(part, kept, stacked, tuple(skipped), lack.facts[origin[0]].recorded)
