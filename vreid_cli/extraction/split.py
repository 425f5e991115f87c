"""Extraction of one split into its store: listing, plan, what is missing, engine, commit part by part."""

from __future__ import annotations

import functools
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from vreid_cli.data.listing import Listing, examples
from vreid_cli.data.records import Records
from vreid_cli.engines.engine import Engine
from vreid_cli.engines.local import LocalEngine
from vreid_cli.errors import DataError, StoreError
from vreid_cli.extraction.compute import compute_parts, refuse_image, skip_image
from vreid_cli.extraction.inference import Inference
from vreid_cli.extraction.options import ExtractionOptions
from vreid_cli.extraction.parts import Part, PartResult, digest_stamps, planned_parts
from vreid_cli.extraction.planning import changed_files, make_plan, stamps_now
from vreid_cli.extraction.timings import Timings
from vreid_cli.extraction.work import WorkPlan, plan_work, rewrite_parts
from vreid_cli.runtime.arrow import release_memory
from vreid_cli.runtime.progress import progress
from vreid_cli.store.features import FeatureStore
from vreid_cli.store.parts import Skipped
from vreid_cli.types.amounts import amount


@dataclass(frozen=True)
class SplitSummary:
    """What extraction of a split did.

    Attributes:
        images: Images with features.
        computed: Of these, how many were computed now.
        tracks: Tracks with features.
        skipped: Images without, and why.
        warnings: What is doubtful about the features.
        timings: Where the time of this process, and of an engine's workers, went.
        elapsed: Seconds that computing took.
    """

    images: int
    computed: int
    tracks: int
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]
    timings: Timings = field(default_factory=Timings, compare=False)
    elapsed: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Committed:
    """A part that was computed and is in the store: how many images it has, and where the time went."""

    images: int
    timings: Timings


def extract_split(
    store: FeatureStore,
    listing: Listing,
    *,
    inference: Inference,
    options: ExtractionOptions,
    facts: Mapping[str, object],
    engine: Engine | None = None,
) -> SplitSummary:
    """Bring a split's store up to date with the listing and mark it complete.

    Parts that are there and fit are left alone, byte for byte. The caller holds the run's lock and has
    checked that the store's identity is that of the inference.

    Args:
        store: The store.
        listing: The images.
        inference: Computes the LRs.
        options: How to decode, and how large parts are.
        facts: Further facts for ``complete.json``.
        engine: Maps the computing over parts; None for this process.

    Raises:
        DataError: With ``strict``, a bad image; or no image of the split can be used.
        PartsLostError: The engine could not do all parts; the others are in the store.
    """
    engine = engine or LocalEngine()
    store.remove_leftovers()
    parts, work = _begin(store, listing, options=options)
    # Decoding processes begin as copies of this one: what the plans took should not be in them.
    release_memory()
    timings = Timings()
    for result in rewrite_parts(store, work):
        _write(store, result, inference, timings)
    started = time.monotonic()
    commit = functools.partial(commit_parts, store=store, inference=inference, options=options)
    for done in _map(engine, commit, work.compute, store=store):
        timings += done.timings
    elapsed = time.monotonic() - started
    store.remove_leftovers()
    for number in work.remove:
        store.part_path(number).unlink()
    lacking = {part.number: tuple(_stored_skipped(store, part.number)) for part in parts}
    computed = sum(len(part.records) - len(lacking[part.number]) for part in work.compute)
    skipped = tuple(entry for some in lacking.values() for entry in some)
    check_any_left(listing, skipped)
    tracks, warnings = look_at_tracks(listing, skipped)
    images = len(listing.records) - len(skipped)
    store.drop_replaced_plan()
    counts = {"images": images, "tracks": tracks, "parts": len(parts), "skipped": len(skipped)}
    store.write_complete(skipped, facts={**counts, "image_root": str(listing.image_root), **facts})
    return SplitSummary(images, computed, tracks, skipped, warnings, timings, elapsed)


def _map(
    engine: Engine,
    commit: Callable[[Sequence[Part]], Iterator[Committed]],
    parts: Sequence[Part],
    *,
    store: FeatureStore,
) -> Iterator[Committed]:
    """Let the engine commit the parts; one bar for all, where it does not show its own."""
    before = {part.number: store.stamp(part.number) for part in parts}

    def is_done(part: Part) -> bool:
        return store.stamp(part.number) not in (None, before[part.number])

    if engine.here:
        yield from engine.map(commit, parts, is_done=is_done)
        return
    with progress(total=sum(len(part.records) for part in parts), what="extracting", unit="img") as bar:
        for done in engine.map(commit, parts, is_done=is_done):
            bar.update(done.images)
            yield done


def commit_parts(
    parts: Sequence[Part], *, store: FeatureStore, inference: Inference, options: ExtractionOptions
) -> Iterator[Committed]:
    """Compute parts and write each into the store; what an engine maps, wherever the store can be seen.

    Raises:
        StoreError: The store's folder is not there.
        DataError: That of the images is not; or with ``strict``, a bad image.
    """
    if not parts:
        return
    hint = "every machine must see the run directory and the images under the same paths"
    if not store.plan_path.is_file():
        raise StoreError(f"{platform.node()} does not see {store.path}", hint=hint, file=store.path)
    folder = parts[0].records.folder
    if not folder.is_dir():
        raise DataError(f"{platform.node()} does not see {folder}", hint=hint, file=folder)
    for result in compute_parts(parts, inference=inference, options=options):
        timings = Timings()
        _write(store, _leave_out_changed(store, result, strict=options.strict), inference, timings)
        yield Committed(len(result.part.records), result.timings + timings)


def _leave_out_changed(store: FeatureStore, result: PartResult, *, strict: bool) -> PartResult:
    """Without the images whose files are others now than when they were planned: nobody knows which was read.

    Raises:
        DataError: With ``strict``, there is one.
        StoreError: The plan is gone.
    """
    part = result.part
    if not part.stamp or digest_stamps(stamps_now(part.records)) == part.stamp:
        return result
    plan = store.read_plan()
    if plan is None:
        hint = "run vreid extract again"
        raise StoreError(f"{store.plan_path} was removed meanwhile", hint=hint, file=store.plan_path)
    changed = changed_files(part.records, plan, part.rows)[result.kept]
    why = "the file changed while it was read"
    skipped = tuple(skip_image(part.records[int(row)], why, strict=strict) for row in result.kept[changed])
    return replace(
        result,
        kept=result.kept[~changed],
        features=result.features[~changed],
        skipped=(*result.skipped, *skipped),
    )


def commit_share(
    store: FeatureStore, listing: Listing, numbers: Sequence[int], *, inference: Inference, options: ExtractionOptions
) -> Iterator[Committed]:
    """Compute some parts of a plan that another process wrote, and write each into the store.

    Args:
        store: The store.
        listing: The images; the same that the plan was made of.
        numbers: The parts.
        inference: Computes the LRs.
        options: How to decode.

    Raises:
        StoreError: The images are not those of the plan.
    """
    plan = store.read_plan()
    if plan is None or len(plan) != len(listing.records):
        hint = "run the same command again"
        raise StoreError(f"{listing.image_root} changed while it was read", hint=hint, file=listing.image_root)
    parts = {part.number: part for part in planned_parts(listing.records, plan)}
    yield from commit_parts([parts[number] for number in numbers], store=store, inference=inference, options=options)


def check_any_left(listing: Listing, skipped: Sequence[Skipped]) -> None:
    """Refuse a listing none of whose images can be used.

    Raises:
        DataError: It is one.
    """
    if len(skipped) == len(listing.records):
        raise DataError(
            f"of {amount(len(skipped), 'image')} in {listing.image_root} none can be used; "
            f"the first, {skipped[0].image_id}: {skipped[0].reason}",
            file=listing.image_root,
        )


def look_at_tracks(listing: Listing, skipped: Sequence[Skipped]) -> tuple[int, tuple[str, ...]]:
    """The number of tracks with features, and the warnings: the listing's, images and tracks left out."""
    warnings = list(listing.warnings)
    records = listing.records
    tracks = records.codes("track_id")
    left = np.ones(len(records), dtype=np.bool_)
    if skipped:
        gone = {entry.image_id for entry in skipped}
        left[:] = [image_id not in gone for image_id, *_ in records.label_rows()]
        named = examples([f"{entry.image_id} ({entry.reason})" for entry in skipped])
        warnings.append(f"{amount(len(skipped), 'image')} in {listing.image_root} cannot be used, left out: {named}")
    filled = np.unique(tracks[left])
    names = records.labels("track_id").dictionary
    empty = sorted(names[int(code)].as_py() for code in np.setdiff1d(tracks, filled) if code >= 0)
    if empty:
        warnings.append(f"tracks of {listing.image_root} without a readable image, left out: {examples(empty)}")
    return len(filled), tuple(warnings)


def _begin(store: FeatureStore, listing: Listing, *, options: ExtractionOptions) -> tuple[list[Part], WorkPlan]:
    """The parts as they are to be, and the work that leads there; the plan is written.

    The plans themselves, digests and all, are gone before anything is computed.
    """
    earlier, replaced = store.read_plan(), store.read_replaced_plan()
    plan = make_plan(listing.records, earlier, part_images=options.part_images)
    parts = planned_parts(listing.records, plan)
    others = [other for other in (replaced, earlier) if other is not None]
    work = plan_work(store, parts, plan=plan, others=others, max_pixels=options.max_pixels)
    if options.strict:
        _refuse_skipped(listing.records, work)
    if work or plan != earlier:
        # From here until the end the store is not what it says: nobody may rank from it.
        store.complete_path.unlink(missing_ok=True)
        if work and plan != earlier:
            # Interrupted, the next run must find what the parts that are left hold.
            store.keep_replaced_plan()
        store.write_plan(plan)
    return parts, work


def _refuse_skipped(records: Records, work: WorkPlan) -> None:
    """An earlier run without ``strict`` may have skipped what this one must stop at."""
    skipped = {entry.image_id: entry.reason for entry in work.still_skipped()}
    ids = (image_id for image_id, *_ in records.label_rows()) if skipped else ()
    for row, image_id in enumerate(ids):
        if image_id in skipped:
            raise refuse_image(records[row].path, skipped[image_id])


def _write(store: FeatureStore, result: PartResult, inference: Inference, timings: Timings) -> None:
    with timings.on("write"):
        facts = result.facts(inference.identity)
        store.write_part(result.part.number, result.records(), features=result.features, facts=facts)


def _stored_skipped(store: FeatureStore, number: int) -> Iterator[Skipped]:
    facts = store.read_facts(number)
    if facts is None:
        path = store.part_path(number)
        raise StoreError(f"{path} was damaged or removed meanwhile", hint="run vreid extract again", file=path)
    yield from facts.skipped
