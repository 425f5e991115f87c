"""Pictures decoded ahead of the device by worker processes, in batches that never cross a part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, Dataset

from vreid_cli.data.decoding import BadPictureError, decode_rgb
from vreid_cli.models.transforms import Transform
from vreid_cli.runtime.workers import leave_interrupts_to_parent, worker_died
from vreid_cli.types import ImageRecord


@dataclass(frozen=True)
class Batch:
    """Decoded pictures and those that could not be decoded.

    Attributes:
        indices: Positions of the good pictures among all records.
        pixels: (B, 3, crop, crop) uint8.
        bad: Position and reason of each bad picture.
    """

    indices: list[int]
    pixels: torch.Tensor
    bad: list[tuple[int, str]]


class PictureDataset(Dataset[tuple[int, torch.Tensor | str]]):
    """Decodes and crops one picture at a time; a bad one yields its reason instead of pixels."""

    def __init__(self, records: Sequence[ImageRecord], transform: Transform, *, max_pixels: int) -> None:
        self._pictures = [(record.path, record.box) for record in records]
        self._transform = transform
        self._max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor | str]:
        path, box = self._pictures[index]
        try:
            picture = decode_rgb(path, max_pixels=self._max_pixels, box=box)
        except BadPictureError as error:
            return index, str(error)
        return index, self._transform.crop_uint8(picture)


def load_batches(
    dataset: PictureDataset, batches: Sequence[list[int]], *, workers: int, pin_memory: bool
) -> Iterator[Batch]:
    """The batches in their order, decoded by ``workers`` processes (0: in this one).

    Raises:
        VreidError: A worker process died.
    """
    loader: DataLoader[tuple[int, torch.Tensor | str]] = DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin_memory,
        worker_init_fn=leave_interrupts_to_parent,
        prefetch_factor=4 if workers else None,
    )
    try:
        yield from loader
    except RuntimeError as error:
        died = worker_died(error, kept="finished parts are kept")
        if died is None:
            raise
        raise died from None


def _collate(items: list[tuple[int, torch.Tensor | str]]) -> Batch:
    good = [(index, pixels) for index, pixels in items if isinstance(pixels, torch.Tensor)]
    bad = [(index, reason) for index, reason in items if isinstance(reason, str)]
    pixels = torch.stack([tensor for _, tensor in good]) if good else torch.empty(0, 3, 0, 0, dtype=torch.uint8)
    return Batch([index for index, _ in good], pixels, bad)
