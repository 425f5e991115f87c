"""Extraction of one split: plan, compute what is missing, commit part by part."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar

import numpy as np
import torch

from vreid_cli.data.listing import Listing
from vreid_cli.data.records import Records
from vreid_cli.errors import DataError, StoreError
from vreid_cli.extraction.device_decoding import DecodingSummary, DeviceDecoder
from vreid_cli.extraction.effort import Effort
from vreid_cli.extraction.forward import Extractor, Pending
from vreid_cli.extraction.loading import Batch, ImageDataset, load_batches
from vreid_cli.extraction.planning import PartPlan, make_plan, split_plan
from vreid_cli.extraction.renewal import LIMIT, Lack, PartResult, find_lack, renew
from vreid_cli.models.transforms import Transform
from vreid_cli.runtime.arrow import release_memory
from vreid_cli.runtime.devices import one_torch_thread
from vreid_cli.runtime.progress import log, progress
from vreid_cli.runtime.workers import choose_workers
from vreid_cli.store.features import FeatureStore, PartFacts, Skipped
from vreid_cli.types.arrays import Float32Array
from vreid_cli.types.images import ImageRecord

T = TypeVar("T")


@dataclass(frozen=True)
class ExtractionOptions:
    """How to work through a split.

    Attributes:
        identity: What makes the features; stored with every part.
        recorded: Circumstances worth keeping.
        facts: Further facts for ``complete.json``.
        transform: Input of the network.
        part_images: Images a part, about.
        workers: Decoding processes, or ``auto``.
        max_pixels: Larger images are refused.
        strict: Stop at the first bad image.
        decode_on_device: Let the extractor's device decode JPEG files.
    """

    identity: Mapping[str, str]
    recorded: Mapping[str, str]
    facts: Mapping[str, str]
    transform: Transform
    part_images: int
    workers: int | str
    max_pixels: int
    strict: bool
    decode_on_device: bool = False


@dataclass(frozen=True)
class SplitSummary:
    """What extraction of a split did.

    Attributes:
        images: Images with features.
        computed: Of these, how many were computed now.
        tracks: Tracks with features.
        skipped: Images without, and why.
        empty_tracks: Tracks none of whose images could be used.
        effort: Where the time went.
        decoding: What the device decoded now; None where PIL decodes everything.
    """

    images: int
    computed: int
    tracks: int
    skipped: tuple[Skipped, ...]
    empty_tracks: tuple[str, ...]
    effort: Effort = field(default_factory=Effort, compare=False)
    decoding: DecodingSummary | None = field(default=None, compare=False)


def extract_split(
    store: FeatureStore, listing: Listing, *, extractor: Extractor, options: ExtractionOptions
) -> SplitSummary:
    """Bring a split's store up to date with the listing and mark it complete.

    Parts that are there and fit are left alone, byte for byte. The caller holds the run's lock and has
    checked that the store's identity is that of the extractor.

    Raises:
        DataError: With ``strict``, a bad image; or no image of the split can be used.
    """
    store.remove_leftovers()
    parts, lack, decoder = _begin(store, listing, extractor=extractor, options=options)
    # Decoding processes begin as copies of this one: what the plans took should not be in them.
    release_memory()
    effort = Effort()
    computed = _commit(store, lack, extractor=extractor, options=options, effort=effort, decoder=decoder)
    summary = _summarise(store, listing, parts, computed=computed, effort=effort)
    if decoder is not None:
        summary = replace(summary, decoding=decoder.summary())
        log.info("%s: %s", store.path.name, decoder.describe_routes())
    _finish(store, listing, summary, parts=len(parts), facts=options.facts)
    return summary


def _begin(
    store: FeatureStore, listing: Listing, *, extractor: Extractor, options: ExtractionOptions
) -> tuple[list[PartPlan], Lack, DeviceDecoder | None]:
    """The parts as they are to be, what the store lacks of them, and what decodes; the plan is written.

    The plans themselves, digests and all, are gone before anything is computed.
    """
    earlier, replaced = store.read_plan(), store.read_replaced_plan()
    plan = make_plan(listing.records, earlier, part_images=options.part_images)
    parts = split_plan(listing.records, plan)
    others = [other for other in (replaced, earlier) if other is not None]
    lack = find_lack(store, parts, plan=plan, others=others, max_pixels=options.max_pixels)
    if options.strict:
        _refuse_skipped(listing, lack)
    decoder = _open_decoder(listing, lack, extractor, options=options)
    if lack or plan != earlier:
        # From here until the end the store is not what it says: nobody may rank from it.
        store.complete_path.unlink(missing_ok=True)
        if lack and plan != earlier:
            # Interrupted, the next run must find what the parts that are left hold.
            store.keep_replaced_plan()
        store.write_plan(plan)
    return parts, lack, decoder


def _open_decoder(
    listing: Listing, lack: Lack, extractor: Extractor, *, options: ExtractionOptions
) -> DeviceDecoder | None:
    """What decodes on the device, after it was compared with PIL; None where it has nothing to do."""
    if not (options.decode_on_device and lack.compute):
        return None
    extractor.prepare()
    decoder = DeviceDecoder(extractor.device, options.transform, max_pixels=options.max_pixels)
    decoder.compare(listing.records, extractor.compute)
    return decoder


def _refuse_skipped(listing: Listing, lack: Lack) -> None:
    """An earlier run without ``strict`` may have skipped what this one must stop at."""
    for entry in lack.skipped():
        for row, (image_id, *_) in enumerate(listing.records.label_rows()):
            if image_id == entry.image_id:
                _skip(listing.records[row], entry.reason, strict=True)


def _commit(
    store: FeatureStore,
    lack: Lack,
    *,
    extractor: Extractor,
    options: ExtractionOptions,
    effort: Effort,
    decoder: DeviceDecoder | None,
) -> int:
    """Write the parts that are lacking, remove those that are not needed; the number of images computed."""
    for result in renew(store, lack):
        with effort.on("write"):
            _write(store, result, options)
    computed = 0
    for result in _compute(lack.compute, extractor, options=options, effort=effort, decoder=decoder):
        with effort.on("write"):
            _write(store, result, options)
        computed += len(result.kept)
    for number in lack.remove:
        store.part_path(number).unlink()
    return computed


def _write(store: FeatureStore, result: PartResult, options: ExtractionOptions) -> None:
    plan = result.plan
    facts = PartFacts(options.identity, result.recorded, plan.contents, plan.labels, result.skipped)
    records = list(plan.records.select(np.array(result.kept, dtype=np.int64)))
    store.write_part(plan.part, records, features=result.features, facts=facts)


def _compute(
    parts: Sequence[PartPlan],
    extractor: Extractor,
    *,
    options: ExtractionOptions,
    effort: Effort,
    decoder: DeviceDecoder | None,
) -> Iterator[PartResult]:
    """Features of each part as soon as its last batch is done."""
    if not parts:
        return
    records = Records.join([part.records for part in parts])
    extractor.prepare()
    cut = _cut_batches(parts, extractor.batch_size)
    loaded = _load(records, cut, extractor, options=options, effort=effort, decoder=decoder)
    submitted = _look_ahead(_submit(loaded, extractor, effort=effort), extractor.ahead)
    recorded = {**options.recorded, LIMIT: str(options.max_pixels), **(decoder.recorded() if decoder else {})}
    with progress(total=len(records), what="extracting", unit="img") as bar:
        for part, batches in zip(parts, cut, strict=True):
            first = batches[0][0]
            kept: list[int] = []
            features: list[torch.Tensor] = []
            skipped: list[Skipped] = []
            bar.set_postfix_str(f"{extractor.device}, batch {extractor.batch_size}", refresh=False)
            for batch, pending in islice(submitted, len(batches)):
                skipped += [_skip(records[index], reason, strict=options.strict) for index, reason in batch.bad]
                if pending is not None:
                    with effort.on("compute"):
                        features.append(pending())
                kept += [index - first for index in batch.indices]
                bar.update(len(batch.indices) + len(batch.bad))
            yield PartResult(part, kept, _stack(features, extractor.width), tuple(skipped), recorded)


def _submit(
    batches: Iterable[Batch], extractor: Extractor, *, effort: Effort
) -> Iterator[tuple[Batch, Pending | None]]:
    """Each batch with its LRs on their way; None where none of its images is good."""
    for batch in batches:
        if not batch.indices:
            yield batch, None
            continue
        with effort.on("compute"):
            pending = extractor.submit(batch.pixels)
        yield batch, pending


def _look_ahead(items: Iterable[T], count: int) -> Iterator[T]:
    """The items in their order, each once ``count`` further ones have been begun."""
    begun: deque[T] = deque()
    for item in items:
        begun.append(item)
        if len(begun) > count:
            yield begun.popleft()
    yield from begun


def _load(
    records: Sequence[ImageRecord],
    cut: Sequence[Sequence[range]],
    extractor: Extractor,
    *,
    options: ExtractionOptions,
    effort: Effort,
    decoder: DeviceDecoder | None,
) -> Iterator[Batch]:
    """The batches, with the time that they were waited for and that their decoding took."""
    device = extractor.device.type
    effort.workers = choose_workers(options.workers, images=len(records), on_cpu=device == "cpu")
    loaded = load_batches(
        ImageDataset(records, options.transform, max_pixels=options.max_pixels, leave_jpegs=decoder is not None),
        [batch for batches in cut for batch in batches],
        workers=effort.workers,
        pin_memory=device == "cuda",
    )
    while True:
        # Where images are decoded in this process, torch's part in it is not worth waking its threads.
        with effort.on("wait"), one_torch_thread():
            batch = next(loaded, None)
        if batch is None:
            return
        effort.decode += batch.decode_seconds
        if decoder is not None:
            with effort.on("decode_on_device"):
                batch = decoder.complete(batch)
        yield batch


def _cut_batches(parts: Sequence[PartPlan], batch_size: int) -> list[list[range]]:
    """For each part its batches of positions among all records; a batch never crosses a part."""
    cut = []
    start = 0
    for part in parts:
        end = start + len(part.records)
        cut.append([range(at, min(at + batch_size, end)) for at in range(start, end, batch_size)])
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
            hint="--strict stops at the first bad image; the parts that were finished are kept",
            file=record.path,
        )
    log.warning("skipped %s: %s", record.path, reason)
    return Skipped(record.image_id, record.track_id, reason)


def _finish(
    store: FeatureStore, listing: Listing, summary: SplitSummary, *, parts: int, facts: Mapping[str, str]
) -> None:
    """Mark the store complete.

    Raises:
        DataError: There is nothing in it.
    """
    if summary.images == 0:
        first = summary.skipped[0]
        raise DataError(
            f"none of the {len(summary.skipped)} images in {listing.image_root} can be used; "
            f"the first, {first.image_id}: {first.reason}",
            file=listing.image_root,
        )
    store.drop_replaced_plan()
    store.write_complete(
        summary.skipped,
        facts={
            "images": summary.images,
            "tracks": summary.tracks,
            "parts": parts,
            "skipped": len(summary.skipped),
            "image_root": str(listing.image_root),
            **facts,
        },
    )


def _summarise(
    store: FeatureStore, listing: Listing, parts: Sequence[PartPlan], *, computed: int, effort: Effort
) -> SplitSummary:
    skipped = [entry for part in parts for entry in _facts(store, part.part).skipped]
    gone = {entry.image_id for entry in skipped}
    records = listing.records
    tracks = records.codes("track_id")
    left = np.ones(len(records), dtype=np.bool_)
    if gone:
        left[:] = [image_id not in gone for image_id, *_ in records.label_rows()]
    filled = np.unique(tracks[left])
    names = records.labels("track_id").dictionary
    empty = sorted(names[int(code)].as_py() if code >= 0 else "" for code in np.setdiff1d(tracks, filled))
    images = len(records) - len(skipped)
    return SplitSummary(images, computed, len(filled), tuple(skipped), tuple(empty), effort)


def _facts(store: FeatureStore, part: int) -> PartFacts:
    facts = store.read_facts(part)
    if facts is None:
        path = store.part_path(part)
        raise StoreError(f"{path} was damaged or removed meanwhile", hint="run vreid extract again", file=path)
    return facts
