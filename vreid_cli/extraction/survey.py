"""What a split's store holds of what it is to hold: looked at without computing, changing or repairing anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vreid_cli.errors import StoreError
from vreid_cli.extraction.planning import locate_contents
from vreid_cli.store.features import FeatureStore, PartFacts, PartSummary, Skipped
from vreid_cli.store.plan import Plan

#: ``damaged``: it says that it is complete, or where it stands, and that is not so or cannot be read.
State = Literal["complete", "unfinished", "damaged"]


@dataclass(frozen=True)
class Survey:
    """What a split's store holds.

    Attributes:
        state: Whether it can be ranked from.
        images: Images with features.
        tracks: Their tracks (passages).
        vehicles: Their vehicles, where labels are known.
        cameras: Their cameras, where labels are known.
        width: Numbers in a feature; None where there is none.
        parts: Parts that can be read.
        planned_images: Images of the plan; None where there is no plan.
        planned_parts: Parts of the plan; None where there is no plan.
        done_images: Of the planned images those that need no computing any more, skipped ones included.
        done_parts: Of the planned parts those that hold what the plan says.
        skipped: Images that could not be used.
        identity: What made the features; None where no part says it.
        recorded: Under which circumstances the first part was computed.
        size: Bytes of the parts.
        problems: What is damaged or contradicts itself.
    """

    state: State
    images: int
    tracks: int
    vehicles: int
    cameras: int
    width: int | None
    parts: int
    planned_images: int | None
    planned_parts: int | None
    done_images: int
    done_parts: int
    skipped: tuple[Skipped, ...]
    identity: Mapping[str, str] | None
    recorded: Mapping[str, str] | None
    size: int
    problems: tuple[str, ...]


def survey(store: FeatureStore) -> Survey:
    """Look at every file of a store; what is damaged is told, not raised."""
    problems: list[str] = []
    plan = _read_plan(store, problems)
    facts, summaries = _read_parts(store, problems)
    images = sum(summary.images for summary in summaries.values())
    if store.is_complete():
        problems += _contradictions(store, {"parts": len(summaries), "images": images})
    digests = {part: found.contents for part, found in facts.items() if part in summaries}
    located = np.array([], dtype=np.int32) if plan is None else locate_contents(plan, (), digests)
    done = located[located >= 0]
    widths = sorted({summary.width for summary in summaries.values()})
    if len(widths) > 1:
        problems.append(f"its parts differ in width: {', '.join(map(str, widths))}")
    first = next(iter(facts.values()), None)
    return Survey(
        state="complete" if store.is_complete() and not problems else "damaged" if problems else "unfinished",
        images=images,
        tracks=_count(summaries, "track_id"),
        vehicles=_count(summaries, "vehicle_id"),
        cameras=_count(summaries, "camera_id"),
        width=widths[0] if len(widths) == 1 else None,
        parts=len(summaries),
        planned_images=None if plan is None else len(plan),
        planned_parts=None if plan is None else len(np.unique(plan.parts)),
        done_images=len(done),
        done_parts=len(np.unique(done)),
        skipped=tuple(entry for found in facts.values() for entry in found.skipped),
        identity=None if first is None else first.identity,
        recorded=None if first is None else first.recorded,
        size=sum(store.part_path(part).stat().st_size for part in summaries),
        problems=tuple(problems),
    )


def _read_plan(store: FeatureStore, problems: list[str]) -> Plan | None:
    try:
        plan = store.read_plan()
    except StoreError as error:
        problems.append(f"{error.message}; {error.hint}")
        return None
    if plan is None and (store.is_complete() or store.part_numbers()):
        problems.append(f"{store.plan_path} is missing")
    return plan


def _read_parts(store: FeatureStore, problems: list[str]) -> tuple[dict[int, PartFacts], dict[int, PartSummary]]:
    """What the readable parts say about themselves, and what they hold."""
    facts: dict[int, PartFacts] = {}
    summaries: dict[int, PartSummary] = {}
    for part in store.part_numbers():
        try:
            summary = store.summarise_part(part)
        except StoreError as error:
            problems.append(error.message)
            continue
        found = store.read_facts(part)
        if found is None:
            problems.append(f"{store.part_path(part)} does not say what made it")
            continue
        facts[part], summaries[part] = found, summary
    return facts, summaries


def _contradictions(store: FeatureStore, found: Mapping[str, int]) -> Sequence[str]:
    try:
        facts = store.read_complete()
    except StoreError as error:
        return [error.message]
    return [
        f"complete.json says {facts[name]} {name}, {number} are there"
        for name, number in found.items()
        if facts.get(name, number) != number
    ]


def _count(summaries: Mapping[int, PartSummary], label: str) -> int:
    return len(set[str]().union(*(summary.labels[label] for summary in summaries.values())))
