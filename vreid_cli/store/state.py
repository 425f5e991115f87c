"""What a split's store holds of what it is to hold: read without computing, changing or repairing anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vreid_cli.errors import StoreError
from vreid_cli.store.features import FeatureStore
from vreid_cli.store.parts import CHANGED, Skipped, StoredPart
from vreid_cli.store.plan import Plan

#: ``damaged``: it says that it is complete, or where it stands, and that is not so or cannot be read.
State = Literal["complete", "unfinished", "damaged"]


@dataclass(frozen=True)
class StoreState:
    """What a split's store holds.

    Attributes:
        state: Whether it can be ranked from.
        images: Images with features.
        tracks: Their tracks (passages).
        vehicles: Their vehicles, where labels are known.
        cameras: Their cameras, where labels are known.
        dimension: Length of a feature; None where there is none.
        parts: Parts that can be read.
        planned_images: Images of the plan; None where there is no plan.
        planned_parts: Parts of the plan; None where there is no plan.
        done_images: Of the planned images those that need no computing any more, skipped ones included.
        done_parts: Of the planned parts those that hold what the plan says.
        skipped: Images that could not be used.
        identity: What made the features; None where no part says it.
        recorded: What the first part was computed with (batch, threads, versions).
        size: Bytes of the parts.
        problems: What is damaged or contradicts itself.
    """

    state: State
    images: int
    tracks: int
    vehicles: int
    cameras: int
    dimension: int | None
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


def read_state(store: FeatureStore, *, verify: bool = False) -> StoreState:
    """Look at every file of a store; what is damaged is a problem of the state, not an error.

    Args:
        store: The store.
        verify: Whether to compare all rows with their checksums, however long that takes.
    """
    problems: list[str] = []
    plan = _read_plan(store, problems)
    parts = _read_parts(store, problems)
    images = sum(map(len, parts.values()))
    if store.is_complete():
        problems += _contradictions(store, {"parts": len(parts), "images": images})
    changed = store.changed_parts(only_if_cheap=not verify)
    problems += [
        f"{store.part_path(number)} is damaged: {CHANGED}; {store.remedy(number)}"
        for number in changed
        if number in parts
    ]
    digests = {number: part.facts.contents for number, part in parts.items() if number not in changed}
    located = np.array([], dtype=np.int32) if plan is None else plan.locate(digests)
    done = located[located >= 0]
    dimensions = sorted({part.dimension for part in parts.values()})
    if len(dimensions) > 1:
        problems.append(f"its parts differ in dimension: {', '.join(map(str, dimensions))}")
    first = next(iter(parts.values()), None)
    return StoreState(
        state="complete" if store.is_complete() and not problems else "damaged" if problems else "unfinished",
        images=images,
        tracks=_count(parts, "track_id"),
        vehicles=_count(parts, "vehicle_id"),
        cameras=_count(parts, "camera_id"),
        dimension=dimensions[0] if len(dimensions) == 1 else None,
        parts=len(parts),
        planned_images=None if plan is None else len(plan),
        planned_parts=None if plan is None else len(np.unique(plan.parts)),
        done_images=len(done),
        done_parts=len(np.unique(done)),
        skipped=tuple(entry for part in parts.values() for entry in part.facts.skipped),
        identity=None if first is None else first.facts.identity,
        recorded=None if first is None else first.facts.recorded,
        size=sum(store.part_path(number).stat().st_size for number in parts),
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


def _read_parts(store: FeatureStore, problems: list[str]) -> dict[int, StoredPart]:
    parts: dict[int, StoredPart] = {}
    for number in store.part_numbers():
        try:
            parts[number] = store.read_part(number)
        except StoreError as error:
            problems.append(f"{error.message}; {error.hint}")
    return parts


def _contradictions(store: FeatureStore, found: Mapping[str, int]) -> Sequence[str]:
    try:
        facts = store.read_complete()
    except StoreError as error:
        return [error.message]
    return [
        f"its {name} are not as many as complete.json says: {number}, not {facts[name]}"
        for name, number in found.items()
        if facts.get(name, number) != number
    ]


def _count(parts: Mapping[int, StoredPart], label: str) -> int:
    return len(set[str]().union(*(part.distinct(label) for part in parts.values())))
