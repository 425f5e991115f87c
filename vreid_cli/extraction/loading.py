"""Images decoded ahead of the device by worker processes, in batches that never cross a part."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch.utils.data import DataLoader, Dataset

from vreid_cli.data.decoding import BadImageError, decode_rgb
from vreid_cli.data.records import Records
from vreid_cli.models.transforms import Transform
from vreid_cli.runtime.workers import explain_dead_workers, follow_parent

#: Position of an image among all records; its pixels (3, crop, crop) uint8 or why there are none; CPU seconds.
Decoded = tuple[int, "torch.Tensor | str", float]


@dataclass(frozen=True)
class Batch:
    """Decoded images and those that could not be decoded.

    Attributes:
        indices: Positions of the good images among all records.
        pixels: (B, 3, crop, crop) uint8.
        bad: Position and reason of each bad image.
        decode_seconds: CPU time that reading, decoding and cropping them took.
    """

    indices: list[int]
    pixels: torch.Tensor
    bad: list[tuple[int, str]]
    decode_seconds: float = 0.0

    def pin_memory(self) -> Batch:
        """The batch in memory that a GPU copies from faster; torch's loader calls it."""
        return replace(self, pixels=self.pixels.pin_memory())


class ImageDataset(Dataset[Decoded]):
    """Decodes and crops one image at a time; a bad one yields its reason instead of pixels.

    Args:
        records: The images.
        transform: What is cropped of them.
        max_pixels: Larger images are bad.
    """

    def __init__(self, records: Records, transform: Transform, *, max_pixels: int) -> None:
        self._records = records
        self._transform = transform
        self._max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Decoded:
        # CPU time, not the clock's: beside a busy network a worker waits for its turn.
        started = time.thread_time()
        path, box = self._records.place(index)
        content: torch.Tensor | str
        try:
            content = self._transform.crop_uint8(decode_rgb(path, max_pixels=self._max_pixels, box=box))
        except BadImageError as error:
            content = str(error)
        return index, content, time.thread_time() - started


def load_batches(
    dataset: ImageDataset, batches: Sequence[Sequence[int]], *, workers: int, pin_memory: bool
) -> Iterator[Batch]:
    """The batches in their order, decoded by ``workers`` processes (0: in this one).

    Raises:
        VreidError: A worker process died.
    """
    loader: DataLoader[Decoded] = DataLoader(
        dataset,
        batch_sampler=(list(batch) for batch in batches),
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin_memory,
        worker_init_fn=follow_parent,
        prefetch_factor=4 if workers else None,
    )
    with explain_dead_workers(kept="finished parts are kept"):
        yield from loader


def _collate(items: list[Decoded]) -> Batch:
    pixels = [content for _, content, _ in items if isinstance(content, torch.Tensor)]
    return Batch(
        [index for index, content, _ in items if isinstance(content, torch.Tensor)],
        torch.stack(pixels) if pixels else torch.empty(0, 3, 0, 0, dtype=torch.uint8),
        [(index, content) for index, content, _ in items if isinstance(content, str)],
        sum(seconds for _, _, seconds in items),
    )
