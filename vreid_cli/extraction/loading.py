"""Images decoded ahead of the device by worker processes, in batches that never cross a part."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from vreid_cli.data.decoding import BadImageError, Jpeg, decode_rgb, read_jpeg
from vreid_cli.data.records import Records
from vreid_cli.models.transforms import Transform
from vreid_cli.runtime.workers import follow_parent, worker_died
from vreid_cli.types.images import Box, ImageRecord


@dataclass(frozen=True)
class Batch:
    """Decoded images and those that could not be decoded.

    Attributes:
        indices: Positions of the good images among all records.
        pixels: (B, 3, crop, crop) uint8; without those that wait.
        bad: Position and reason of each bad image.
        decode_seconds: CPU time that reading, decoding and cropping them took.
        waiting: Place in ``indices``, and file, of each JPEG that the device is still to decode.
    """

    indices: list[int]
    pixels: torch.Tensor
    bad: list[tuple[int, str]]
    decode_seconds: float = 0.0
    waiting: list[tuple[int, Jpeg]] = field(default_factory=list)

    def pin_memory(self) -> Batch:
        """The batch in memory that a GPU copies from by itself; torch's loader calls it."""
        return replace(self, pixels=self.pixels.pin_memory())


@dataclass(frozen=True)
class Decoded:
    """One image on its way into a batch.

    Attributes:
        index: Its position among all records.
        content: (3, crop, crop) uint8, or a file for the device to decode, or why there are no pixels.
        seconds: CPU time that it took.
    """

    index: int
    content: torch.Tensor | Jpeg | str
    seconds: float


class ImageDataset(Dataset[Decoded]):
    """Decodes and crops one image at a time; a bad one yields its reason instead of pixels.

    Args:
        records: The images.
        transform: What is cropped of them.
        max_pixels: Larger images are bad.
        leave_jpegs: Whether whole files that are plain JPEG are only read, for the device to decode.
    """

    def __init__(
        self, records: Sequence[ImageRecord], transform: Transform, *, max_pixels: int, leave_jpegs: bool = False
    ) -> None:
        self._records = records
        self._transform = transform
        self._max_pixels = max_pixels
        self._leave_jpegs = leave_jpegs

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Decoded:
        # CPU time, not the clock's: beside a busy network a worker waits for its turn.
        started = time.thread_time()
        content = self._decode(index)
        return Decoded(index, content, time.thread_time() - started)

    def _decode(self, index: int) -> torch.Tensor | Jpeg | str:
        path, box = self._place(index)
        try:
            jpeg = read_jpeg(path, max_pixels=self._max_pixels) if self._leave_jpegs and box is None else None
            if jpeg is not None:
                return jpeg
            image = decode_rgb(path, max_pixels=self._max_pixels, box=box)
        except BadImageError as error:
            return str(error)
        return self._transform.crop_uint8(image)

    def _place(self, index: int) -> tuple[Path, Box | None]:
        if isinstance(self._records, Records):
            return self._records.place(index)
        record = self._records[index]
        return record.path, record.box


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
    try:
        yield from loader
    except RuntimeError as error:
        died = worker_died(error, kept="finished parts are kept")
        if died is None:
            raise
        raise died from None


def _collate(items: list[Decoded]) -> Batch:
    good = [(item.index, item.content) for item in items if not isinstance(item.content, str)]
    bad = [(item.index, item.content) for item in items if isinstance(item.content, str)]
    pixels = stack_pixels([content for _, content in good if isinstance(content, torch.Tensor)])
    # Files travel as bytes: as tensors, each of them would hold a file descriptor open on its way.
    waiting = [(row, content) for row, (_, content) in enumerate(good) if isinstance(content, Jpeg)]
    return Batch([index for index, _ in good], pixels, bad, sum(item.seconds for item in items), waiting)


def stack_pixels(images: Sequence[torch.Tensor]) -> torch.Tensor:
    """Images (3, crop, crop) as one tensor (B, 3, crop, crop); of none, an empty one."""
    return torch.stack(list(images)) if images else torch.empty(0, 3, 0, 0, dtype=torch.uint8)
