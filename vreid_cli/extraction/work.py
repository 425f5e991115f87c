"""What a store needs to become what its plan says, and that part of it which takes no computing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vreid_cli.extraction.parts import Part, PartResult
from vreid_cli.runtime.files import refuse_folder
from vreid_cli.runtime.progress import log
from vreid_cli.store.features import FeatureStore
from vreid_cli.store.parts import PartFacts, Skipped, StoredPart
from vreid_cli.store.plan import Plan
from vreid_cli.types.arrays import Int32Array

#: Name in a part's ``recorded`` of the size beyond which images were refused.
LIMIT = "max_pixels"


@dataclass(frozen=True, eq=False)
class WorkPlan:
    """What has to be computed, rewritten and removed.

    Attributes:
        compute: Parts with an image whose LR the store does not hold.
        rewrite: Parts made of rows that the store holds: labels changed, images moved or left.
        remove: Numbers of parts that the plan does not need any more.
        located: (N,) int32 in which part on disk the LR of each image of the plan lies; -1 where in none.
        facts: What the parts on disk say about themselves.
    """

    compute: list[Part]
    rewrite: list[Part]
    remove: list[int]
    located: Int32Array
    facts: Mapping[int, PartFacts]

    def __bool__(self) -> bool:
        return bool(self.compute or self.rewrite or self.remove)

    def still_skipped(self) -> Iterator[Skipped]:
        """Images that were skipped earlier and are not tried again now."""
        entries = [entry for facts in self.facts.values() for entry in facts.skipped]
        ids = {entry.image_id for entry in entries}
        rows = (row for part in self.compute if ids for row in part.records.label_rows())
        tried = {image_id for image_id, *_ in rows if image_id in ids}
        return (entry for entry in entries if entry.image_id not in tried)


def plan_work(
    store: FeatureStore, parts: Sequence[Part], *, plan: Plan, others: Iterable[Plan], max_pixels: int
) -> WorkPlan:
    """Compare the parts on disk with those that are wanted.

    Args:
        store: The store as it is.
        parts: The parts as they should be.
        plan: The plan that they follow.
        others: Earlier plans, that the parts on disk may have been made by.
        max_pixels: Larger images are refused.

    Raises:
        StoreError: A folder lies where a part belongs.
    """
    numbers, changed = store.part_numbers(), set(store.changed_parts(only_if_cheap=True))
    for number in numbers:
        refuse_folder(store.part_path(number))
    known = {number: store.read_facts(number) for number in numbers if number not in changed}
    facts = {number: found for number, found in known.items() if found is not None}
    for number in sorted(changed):
        log.warning("%s has changed since it was written; it is made again", store.part_path(number))
    # What was too large under another limit may not be so under this one.
    digests = {
        number: found.contents
        for number, found in facts.items()
        if not found.skipped or found.recorded.get(LIMIT) == str(max_pixels)
    }
    located = plan.locate(digests, others=others)
    compute, rewrite = [], []
    for part in parts:
        own = facts.get(part.number)
        if (located[part.rows] < 0).any():
            compute.append(part)
        elif own is None or (own.contents, own.labels) != (part.contents, part.labels):
            rewrite.append(part)
    wanted = {part.number for part in parts}
    return WorkPlan(compute, rewrite, [number for number in numbers if number not in wanted], located, facts)


def rewrite_parts(store: FeatureStore, work: WorkPlan) -> Iterator[PartResult]:
    """The parts that are to be rewritten, in their new order, from the rows that the store holds."""
    sources = {int(number) for part in work.rewrite for number in np.unique(work.located[part.rows])}
    # All are opened before the first is replaced: an image may move from one part to another, and a
    # mapped file outlives its name.
    held = {number: store.read_part(number) for number in sorted(sources)}
    for part in work.rewrite:
        yield _rewrite(part, work.located[part.rows], held=held)


def _rewrite(part: Part, origin: Int32Array, *, held: Mapping[int, StoredPart]) -> PartResult:
    ids = np.array([image_id for image_id, *_ in part.records.label_rows()], dtype=object)
    tracks = [track_id for _, track_id, *_ in part.records.label_rows()]
    first = held[int(origin[0])]
    features = np.empty((len(ids), first.dimension), dtype=first.features.dtype)
    found = np.zeros(len(ids), dtype=np.bool_)
    skipped: dict[int, Skipped] = {}
    for number in np.unique(origin):
        source = held[int(number)]
        own = np.flatnonzero(origin == number)
        rows = source.find(ids[own])
        here = own[rows >= 0]
        features[here] = source.features[rows[rows >= 0]]
        found[here] = True
        reasons = {entry.image_id: entry.reason for entry in source.facts.skipped}
        skipped |= {int(row): Skipped(ids[row], tracks[row], reasons[ids[row]]) for row in own[rows < 0]}
    kept = np.flatnonzero(found)
    return PartResult(part, kept, features[kept], tuple(skipped[row] for row in sorted(skipped)), first.facts.recorded)
