"""The features of parts: images decoded ahead, batches that never cross a part, the forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from vreid_cli.data.records import Records
from vreid_cli.errors import DataError
from vreid_cli.extraction.inference import Inference
from vreid_cli.extraction.loading import Preparation, load_batches
from vreid_cli.extraction.options import ExtractionOptions
from vreid_cli.extraction.parts import Part, PartResult
from vreid_cli.extraction.timings import Timings
from vreid_cli.extraction.work import LIMIT
from vreid_cli.runtime.devices import one_torch_thread
from vreid_cli.runtime.progress import log, progress
from vreid_cli.runtime.workers import choose_workers
from vreid_cli.store.parts import Skipped
from vreid_cli.types.images import ImageRecord


def compute_parts(parts: Sequence[Part], *, inference: Inference, options: ExtractionOptions) -> Iterator[PartResult]:
    """The features of each part, as soon as its last batch is done; what an engine maps.

    Args:
        parts: Parts of one listing.
        inference: Computes the LRs.
        options: Of these, how images are decoded, and whether a bad one is skipped.

    Raises:
        DataError: With ``strict``, an image cannot be used.
        VreidError: The network, the device or a decoding process fails.
    """
    if not parts:
        return
    inference.prepare()
    device, size = inference.config.device.type, inference.config.batch_size
    records = Records.join([part.records for part in parts])
    ends = np.cumsum([len(part.records) for part in parts]).tolist()
    starts = [0, *ends[:-1]]
    cut = [
        [range(at, min(at + size, end)) for at in range(start, end, size)]
        for start, end in zip(starts, ends, strict=True)
    ]
    timings = Timings(workers=choose_workers(options.workers, images=len(records), on_cpu=device == "cpu"))
    loaded = load_batches(
        Preparation(records, inference.transform, options.max_pixels, options.save_crops),
        [batch for batches in cut for batch in batches],
        workers=timings.workers,
        pin_memory=device == "cuda",
    )
    recorded = {**inference.recorded(), LIMIT: str(options.max_pixels)}
    with progress(total=len(records), what="extracting", unit="img") as bar:
        for part, start, batches in zip(parts, starts, cut, strict=True):
            kept: list[int] = []
            features = [torch.empty(0, inference.dimension)]
            skipped: list[Skipped] = []
            bar.set_postfix_str(f"{inference.config.device}, batch {inference.batch_size}", refresh=False)
            for _ in batches:
                # Where images are decoded in this process, torch's part in it is not worth waking its threads.
                with timings.on("wait"), one_torch_thread():
                    batch = next(loaded)
                timings.decode += batch.decode_seconds
                skipped += [skip_image(records[index], reason, strict=options.strict) for index, reason in batch.bad]
                if batch.indices:
                    with timings.on("compute"):
                        features.append(inference.compute(batch.pixels))
                kept += [index - start for index in batch.indices]
                bar.update(len(batch.indices) + len(batch.bad))
            rows = np.array(kept, dtype=np.int64)
            yield PartResult(part, rows, torch.cat(features).numpy(), tuple(skipped), recorded, timings.take())


def refuse_image(path: Path, reason: str) -> DataError:
    """The error of an image that ``strict`` does not let pass."""
    hint = "--strict stops at the first bad image; the parts that were finished are kept"
    return DataError(f"{path}: {reason}", hint=hint, file=path)


def skip_image(record: ImageRecord, reason: str, *, strict: bool) -> Skipped:
    """Leave an image out, in words.

    Raises:
        DataError: With ``strict``.
    """
    if strict:
        raise refuse_image(record.path, reason)
    log.warning("skipped %s: %s", record.path, reason)
    return Skipped(record.image_id, record.track_id, reason)
