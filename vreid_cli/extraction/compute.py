"""The features of parts: images decoded ahead, batches that never cross a part, the forward pass."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch

from vreid_cli.data.records import Records
from vreid_cli.extraction.inference import Inference, Pending
from vreid_cli.extraction.loading import Batch, ImageDataset, load_batches
from vreid_cli.extraction.options import ExtractionOptions
from vreid_cli.extraction.parts import Part, PartResult
from vreid_cli.extraction.timings import Timings
from vreid_cli.extraction.work import LIMIT
from vreid_cli.runtime.devices import one_torch_thread
from vreid_cli.runtime.progress import progress
from vreid_cli.runtime.workers import choose_workers
from vreid_cli.store.features import Skipped


def compute_parts(parts: Sequence[Part], *, inference: Inference, options: ExtractionOptions) -> Iterator[PartResult]:
    """The features of each part, as soon as its last batch is done; what an engine maps.

    Args:
        parts: Parts of one listing.
        inference: Computes the LRs.
        options: Of these, how images are decoded.

    Raises:
        VreidError: The network, the device or a decoding process fails.
    """
    if not parts:
        return
    inference.prepare()
    records = Records.join([part.records for part in parts])
    cut = _cut_batches(parts, inference.config.batch_size)
    timings = Timings()
    loaded = _load(records, cut, inference, options=options, timings=timings)
    submitted = _look_ahead(_submit(loaded, inference, timings=timings), inference.ahead)
    recorded = {**inference.recorded(), LIMIT: str(options.max_pixels)}
    with progress(total=len(records), what="extracting", unit="img") as bar:
        for part, batches in zip(parts, cut, strict=True):
            first = batches[0][0]
            kept: list[int] = []
            features = [torch.empty(0, inference.dimension)]
            skipped: list[Skipped] = []
            bar.set_postfix_str(f"{inference.config.device}, batch {inference.batch_size}", refresh=False)
            for batch, pending in islice(submitted, len(batches)):
                skipped += [_skip(records, index, reason) for index, reason in batch.bad]
                if pending is not None:
                    with timings.on("compute"):
                        features.append(pending())
                kept += [index - first for index in batch.indices]
                bar.update(len(batch.indices) + len(batch.bad))
            stacked = torch.cat(features).numpy()
            yield PartResult(part, np.array(kept, dtype=np.int64), stacked, tuple(skipped), recorded, timings.take())


def _skip(records: Records, index: int, reason: str) -> Skipped:
    record = records[index]
    return Skipped(record.image_id, record.track_id, reason)


def _cut_batches(parts: Sequence[Part], batch_size: int) -> list[list[range]]:
    """For each part its batches of positions among all records."""
    cut = []
    start = 0
    for part in parts:
        end = start + len(part.records)
        cut.append([range(at, min(at + batch_size, end)) for at in range(start, end, batch_size)])
        start = end
    return cut


def _load(
    records: Records,
    cut: Sequence[Sequence[range]],
    inference: Inference,
    *,
    options: ExtractionOptions,
    timings: Timings,
) -> Iterator[Batch]:
    """The batches, with the time that they were waited for and that their decoding took."""
    device = inference.config.device.type
    timings.workers = choose_workers(options.workers, images=len(records), on_cpu=device == "cpu")
    loaded = load_batches(
        ImageDataset(records, inference.transform, max_pixels=options.max_pixels),
        [batch for batches in cut for batch in batches],
        workers=timings.workers,
        pin_memory=device == "cuda",
    )
    while True:
        # Where images are decoded in this process, torch's part in it is not worth waking its threads.
        with timings.on("wait"), one_torch_thread():
            batch = next(loaded, None)
        if batch is None:
            return
        timings.decode += batch.decode_seconds
        yield batch


def _submit(
    batches: Iterable[Batch], inference: Inference, *, timings: Timings
) -> Iterator[tuple[Batch, Pending | None]]:
    """Each batch with its LRs on their way; None where none of its images is good."""
    for batch in batches:
        if not batch.indices:
            yield batch, None
            continue
        with timings.on("compute"):
            pending = inference.submit(batch.pixels)
        yield batch, pending


def _look_ahead(items: Iterable[tuple[Batch, Pending | None]], count: int) -> Iterator[tuple[Batch, Pending | None]]:
    """The items in their order, each once ``count`` further ones have begun."""
    begun: deque[tuple[Batch, Pending | None]] = deque()
    for item in items:
        begun.append(item)
        if len(begun) > count:
            yield begun.popleft()
    yield from begun
