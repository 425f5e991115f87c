"""What a store lacks, and that part of it which needs no computing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vreid_cli.extraction.planning import PartPlan, locate_contents
from vreid_cli.store.features import FeatureStore, PartFacts, PartRows, Skipped
from vreid_cli.store.plan import Plan
from vreid_cli.types.arrays import Float32Array, Int32Array

#: Name in a part's ``recorded`` of the size beyond which images were refused.
LIMIT = "max_pixels"


@dataclass(frozen=True, eq=False)
class Lack:
    """What a store lacks.

    Attributes:
        compute: Parts with an image whose LR the store does not hold.
        rewrite: Parts made of rows that the store holds: labels changed, images moved or left.
        remove: Numbers of parts that the plan does not need any more.
        located: (N,) int32 in which part on disk the LR of each image of the plan lies; -1 where in none.
        facts: What the parts on disk say about themselves.
    """

    compute: list[PartPlan]
    rewrite: list[PartPlan]
    remove: list[int]
    located: Int32Array
    facts: Mapping[int, PartFacts]

    def __bool__(self) -> bool:
        return bool(self.compute or self.rewrite or self.remove)

    def skipped(self) -> Iterator[Skipped]:
        """Images that were skipped earlier and are not tried again now."""
        entries = [entry for facts in self.facts.values() for entry in facts.skipped]
        ids = {entry.image_id for entry in entries}
        rows = (row for part in self.compute if ids for row in part.records.label_rows())
        tried = {image_id for image_id, *_ in rows if image_id in ids}
        return (entry for entry in entries if entry.image_id not in tried)


@dataclass(frozen=True, eq=False)
class PartResult:
    """A part that can be written.

    Attributes:
        plan: Its plan.
        kept: Positions, among the plan's records, of the images that could be used.
        features: (len(kept), D) their LRs.
        skipped: The other images.
        recorded: Under which circumstances the LRs were computed.
    """

    plan: PartPlan
    kept: list[int]
    features: Float32Array
    skipped: tuple[Skipped, ...]
    recorded: Mapping[str, str]


def find_lack(
    store: FeatureStore, parts: Sequence[PartPlan], *, plan: Plan, others: Iterable[Plan], max_pixels: int
) -> Lack:
    """Compare the parts on disk with those that are wanted.

    Args:
        store: The store as it is.
        parts: The parts as they should be.
        plan: The plan that they follow.
        others: Earlier plans, that the parts on disk may have been made by.
        max_pixels: Larger images are refused.
    """
    numbers = store.part_numbers()
    facts = {part: found for part in numbers if (found := store.read_facts(part)) is not None}
    # What was too large under another limit may not be so under this one.
    settled = {
        part: found.contents
        for part, found in facts.items()
        if not found.skipped or found.recorded.get(LIMIT) == str(max_pixels)
    }
    located = locate_contents(plan, others, settled)
    compute, rewrite = [], []
    for part in parts:
        own = facts.get(part.part)
        if (located[part.rows] < 0).any():
            compute.append(part)
        elif own is None or (own.contents, own.labels) != (part.contents, part.labels):
            rewrite.append(part)
    wanted = {part.part for part in parts}
    return Lack(compute, rewrite, [part for part in numbers if part not in wanted], located, facts)


def renew(store: FeatureStore, lack: Lack) -> Iterator[PartResult]:
    """The parts that are to be rewritten, in their new order, from the rows that the store holds."""
    sources = sorted({int(number) for part in lack.rewrite for number in np.unique(lack.located[part.rows])})
    # All are opened before the first is replaced: an image may move from one part to another, and a
    # mapped file outlives its name.
    held = {number: store.read_part(number) for number in sources}
    reasons = {(number, entry.image_id): entry.reason for number in sources for entry in lack.facts[number].skipped}
    for part in lack.rewrite:
        yield _renew_part(part, lack, held=held, reasons=reasons)


def _renew_part(
    part: PartPlan, lack: Lack, *, held: Mapping[int, PartRows], reasons: Mapping[tuple[int, str], str]
) -> PartResult:
    origin = lack.located[part.rows].tolist()
    labels = [(image_id, track_id) for image_id, track_id, *_ in part.records.label_rows()]
    features = np.empty((len(labels), held[origin[0]].features.shape[1]), dtype=held[origin[0]].features.dtype)
    found = np.zeros(len(labels), dtype=np.bool_)
    for number in set(origin):
        own = [index for index, source in enumerate(origin) if source == number]
        rows = held[number].find([labels[index][0] for index in own])
        here = np.array(own)[rows >= 0]
        features[here] = held[number].features[rows[rows >= 0]]
        found[here] = True
    skipped = tuple(
        Skipped(*labels[index], reasons[origin[index], labels[index][0]]) for index in np.flatnonzero(~found)
    )
    kept = np.flatnonzero(found)
    return PartResult(part, kept.tolist(), features[kept], skipped, lack.facts[origin[0]].recorded)
