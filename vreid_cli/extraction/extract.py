"""Extraction of one split: plan, compute what is missing, commit part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from vreid_cli.data.listing import Listing
from vreid_cli.errors import DataError, StoreError
from vreid_cli.extraction.forward import Extractor
from vreid_cli.extraction.loading import PictureDataset, choose_workers, load_batches
from vreid_cli.extraction.planning import PartPlan, make_plan, split_plan
from vreid_cli.models.transforms import Transform
from vreid_cli.runtime.progress import log, progress
from vreid_cli.store.features import FeatureStore, PartFacts, PlanRow, Skipped
from vreid_cli.types import Float32Array, ImageRecord


@dataclass(frozen=True)
class ExtractionOptions:
    """How to work through a split.

    Attributes:
        identity: What makes the features; stored with every part.
        recorded: Circumstances worth keeping.
        facts: Further facts for ``complete.json``.
        transform: Input of the network.
        part_images: Pictures a part, about.
        workers: Decoding processes, or ``auto``.
        max_pixels: Larger pictures are refused.
        strict: Stop at the first bad picture.
    """

    identity: Mapping[str, str]
    recorded: Mapping[str, str]
    facts: Mapping[str, str]
    transform: Transform
    part_images: int
    workers: int | str
    max_pixels: int
    strict: bool


@dataclass(frozen=True)
class SplitSummary:
    """What extraction of a split did.

    Attributes:
        images: Pictures with features.
        computed: Of these, how many were computed now.
        tracks: Tracks with features.
        skipped: Pictures without, and why.
        empty_tracks: Tracks none of whose pictures could be used.
    """

    images: int
    computed: int
    tracks: int
    skipped: tuple[Skipped, ...]
    empty_tracks: tuple[str, ...]


@dataclass(frozen=True)
class _PartResult:
    plan: PartPlan
    kept: list[int]
    features: Float32Array
    skipped: tuple[Skipped, ...]


def extract_split(
    store: FeatureStore, listing: Listing, *, extractor: Extractor, options: ExtractionOptions
) -> SplitSummary:
    """Bring a split's store up to date with the listing and mark it complete.

    Parts that are there and fit are left alone, byte for byte. The caller has checked that the store's
    identity is that of the extractor.

    Raises:
        DataError: With ``strict``, a bad picture; or no picture of the split can be used.
    """
    earlier = store.read_plan()
    facts = {part: store.read_facts(part) for part in store.part_numbers()}
    plan = make_plan(listing.records, earlier, part_images=options.part_images)
    parts = split_plan(listing.records, plan)
    missing, relabelled, stale = _compare(parts, facts)
    if missing or relabelled or stale or plan != earlier:
        # From here until the end the store is not what it says: nobody may rank from it.
        store.complete_path.unlink(missing_ok=True)
        _commit(store, plan, parts=(missing, relabelled, stale), extractor=extractor, options=options)
    _finish(store, listing, parts, facts=options.facts)
    computed = sum(len(part.records) for part in missing)
    return _summarise(store, parts, computed=computed)


def _compare(
    parts: Sequence[PartPlan], facts: Mapping[int, PartFacts | None]
) -> tuple[list[PartPlan], list[PartPlan], list[int]]:
    """Parts to compute, parts whose labels alone changed, and numbers of parts that no plan needs any more."""
    missing, relabelled = [], []
    for plan in parts:
        found = facts.get(plan.part)
        if found is None or found.pictures != plan.pictures:
            missing.append(plan)
        elif found.labels != plan.labels:
            relabelled.append(plan)
    wanted = {plan.part for plan in parts}
    return missing, relabelled, [part for part in facts if part not in wanted]


def _commit(
    store: FeatureStore,
    plan: Sequence[PlanRow],
    *,
    parts: tuple[list[PartPlan], list[PartPlan], list[int]],
    extractor: Extractor,
    options: ExtractionOptions,
) -> None:
    missing, relabelled, stale = parts
    store.write_plan(plan)
    for part in relabelled:
        _relabel(store, part)
    for result in _compute(missing, extractor, options=options):
        records = [result.plan.records[index] for index in result.kept]
        facts = PartFacts(options.identity, options.recorded, result.plan.pictures, result.plan.labels, result.skipped)
        store.write_part(result.plan.part, records, features=result.features, facts=facts)
    for part_number in stale:
        store.part_path(part_number).unlink()


def _relabel(store: FeatureStore, part: PartPlan) -> None:
    """Write a part's rows again with new labels, in their new order, without computing anything."""
    facts = store.read_facts(part.part)
    assert facts is not None  # _compare saw it
    image_ids, features = store.read_part(part.part)
    position = {image_id: index for index, image_id in enumerate(image_ids)}
    records = [record for record in part.records if record.image_id in position]
    rows = np.array([position[record.image_id] for record in records], dtype=np.int64)
    tracks = {record.image_id: record.track_id for record in part.records}
    skipped = tuple(Skipped(s.image_id, tracks[s.image_id], s.reason) for s in facts.skipped)
    renewed = PartFacts(facts.identity, facts.recorded, facts.pictures, part.labels, skipped)
    store.write_part(part.part, records, features=features[rows], facts=renewed)


def _compute(parts: Sequence[PartPlan], extractor: Extractor, *, options: ExtractionOptions) -> Iterator[_PartResult]:
    """Features of each part as soon as its last batch is done."""
    records = [record for part in parts for record in part.records]
    if not records:
        return
    cut = _cut_batches(parts, extractor.batch_size)
    loaded = load_batches(
        PictureDataset(records, options.transform, max_pixels=options.max_pixels),
        [batch for batches in cut for batch in batches],
        workers=choose_workers(options.workers, pictures=len(records), on_cpu=extractor.device.type == "cpu"),
        pin_memory=extractor.device.type == "cuda",
    )
    with progress(total=len(records), what="extracting", unit="img") as bar:
        for part, batches in zip(parts, cut, strict=True):
            first = batches[0][0]
            kept: list[int] = []
            features: list[torch.Tensor] = []
            skipped: list[Skipped] = []
            for batch in islice(loaded, len(batches)):
                skipped += [_skip(records[index], reason, strict=options.strict) for index, reason in batch.bad]
                if batch.indices:
                    features.append(extractor.compute(batch.pixels))
                kept += [index - first for index in batch.indices]
                bar.update(len(batch.indices) + len(batch.bad))
            yield _PartResult(part, kept, _stack(features, extractor.width), tuple(skipped))


def _cut_batches(parts: Sequence[PartPlan], batch_size: int) -> list[list[list[int]]]:
    """For each part its batches of positions among all records; a batch never crosses a part."""
    cut = []
    start = 0
    for part in parts:
        end = start + len(part.records)
        cut.append([list(range(at, min(at + batch_size, end))) for at in range(start, end, batch_size)])
        start = end
    return cut


def _stack(features: Sequence[torch.Tensor], width: int) -> Float32Array:
    stacked = torch.cat(list(features)) if features else torch.empty(0, width)
    array: Float32Array = stacked.numpy()
    return array


def _skip(record: ImageRecord, reason: str, *, strict: bool) -> Skipped:
    if strict:
        raise DataError(
            f"{record.path}: {reason}",
            hint="--strict stops at the first bad picture; the parts that were finished are kept",
            file=record.path,
        )
    log.warning("skipped %s: %s", record.path, reason)
    return Skipped(record.image_id, record.track_id, reason)


def _finish(store: FeatureStore, listing: Listing, parts: Sequence[PartPlan], *, facts: Mapping[str, str]) -> None:
    """Count what the parts hold and mark the store complete."""
    summary = _summarise(store, parts, computed=0)
    if summary.images == 0:
        first = summary.skipped[0]
        raise DataError(
            f"none of the {len(summary.skipped)} pictures in {listing.picture_root} can be used; "
            f"the first, {first.image_id}: {first.reason}",
            file=listing.picture_root,
        )
    store.write_complete(
        summary.skipped,
        facts={
            "images": summary.images,
            "tracks": summary.tracks,
            "parts": len(parts),
            "skipped": len(summary.skipped),
            "picture_root": str(listing.picture_root),
            **facts,
        },
    )


def _summarise(store: FeatureStore, parts: Sequence[PartPlan], *, computed: int) -> SplitSummary:
    skipped = [entry for part in parts for entry in _facts(store, part.part).skipped]
    gone = {entry.image_id for entry in skipped}
    planned = [record for part in parts for record in part.records]
    filled = {record.track_id for record in planned if record.image_id not in gone}
    empty = sorted({record.track_id or "" for record in planned} - {track or "" for track in filled})
    images = len(planned) - len(skipped)
    return SplitSummary(images, computed, len(filled), tuple(skipped), tuple(empty))


def _facts(store: FeatureStore, part: int) -> PartFacts:
    facts = store.read_facts(part)
    if facts is None:
        path = store.part_path(part)
        raise StoreError(f"{path} was damaged or removed meanwhile", hint="run vreid extract again", file=path)
    return facts
