"""Training images: decoded once, kept in memory where they fit, augmented by worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from vreid_cli.data.decoding import BadImageError, decode_rgb
from vreid_cli.errors import DataError
from vreid_cli.models.transforms import Transform
from vreid_cli.runtime.progress import progress
from vreid_cli.runtime.workers import explain_dead_workers, follow_parent
from vreid_cli.training.augmentation import augment
from vreid_cli.training.batches import Labels, random_source
from vreid_cli.training.options import TrainingOptions
from vreid_cli.types.images import ImageRecord

#: Position of each image, and its place in the epoch, which decides how it is augmented.
Piece = Sequence[tuple[int, int]]


class ImageFiles:
    """Images (3, H, W) uint8 that are decoded each time they are used: what crops are cut from."""

    def __init__(self, records: Sequence[ImageRecord], transform: Transform, *, max_pixels: int) -> None:
        self._images = [(record.path, record.box) for record in records]
        self._whole = transform.whole()
        self._max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, position: int) -> torch.Tensor:
        path, box = self._images[position]
        try:
            return self._whole.crop_uint8(decode_rgb(path, max_pixels=self._max_pixels, box=box))
        except BadImageError as error:
            raise BadImageError(f"{path}: {error}") from None


#: The same images as files, or in memory as one (N, 3, H, W) uint8 tensor.
Images = torch.Tensor | ImageFiles


@dataclass(frozen=True)
class ReadImages:
    """Images that can be decoded.

    Attributes:
        records: What is known of each.
        images: Their pixels, in the same order.
        bad: The images that cannot be decoded, and why.
    """

    records: tuple[ImageRecord, ...]
    images: Images
    bad: tuple[tuple[ImageRecord, str], ...] = ()


@dataclass(frozen=True)
class TrainingSet:
    """What a network learns from.

    Attributes:
        images: N images that crops are cut from.
        labels: (N,) int64, the class of each.
        classes: Names of the vehicles, in the order of their numbers.
        transform: Input of the network.
        workers: Processes that prepare images; 0 for none.
        held_out: Images of vehicles that are not learned, to validate on; None for no validation.
        warnings: What is doubtful about the images.
    """

    images: Images
    labels: Labels
    classes: tuple[str, ...]
    transform: Transform
    workers: int = 0
    held_out: ReadImages | None = None
    warnings: tuple[str, ...] = ()


class _Made(Dataset[torch.Tensor | str]):
    """Tensors by number; for a bad image the reason instead, since an exception would end the loader."""

    def __init__(self, make: Callable[[int], torch.Tensor], size: int) -> None:
        self._make, self._size = make, size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> torch.Tensor | str:
        try:
            return self._make(index)
        except BadImageError as error:
            return str(error)


def _load(make: Callable[[int], torch.Tensor], size: int, *, workers: int, pin_memory: bool = False) -> Any:
    return DataLoader(
        _Made(make, size),
        batch_size=None,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=follow_parent,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),  # without one it uses torch's global random state
    )


def decode_images(
    records: Sequence[ImageRecord], *, transform: Transform, max_pixels: int, memory: int, workers: int
) -> ReadImages:
    """Decode every image once, to find the bad ones, and keep the pixels if they fit.

    Args:
        records: The images.
        transform: Input of the network: the centre crop of each image that is kept.
        max_pixels: Larger files are bad.
        memory: Bytes that the pixels may take; otherwise each epoch decodes them again.
        workers: Processes that decode; 0 for none.
    """
    files = ImageFiles(records, transform, max_pixels=max_pixels)
    height, width = transform.whole().size
    fit = len(records) * 3 * height * width <= memory
    pixels = torch.empty((len(records) if fit else 0, 3, height, width), dtype=torch.uint8)
    good: list[ImageRecord] = []
    bad: list[tuple[ImageRecord, str]] = []
    loader = _load(files.__getitem__, len(files), workers=workers)
    with progress(total=len(records), what="reading", unit="img") as bar:
        for record, read in zip(records, loader, strict=True):
            if isinstance(read, str):
                bad.append((record, read.removeprefix(f"{record.path}: ")))
            else:
                if fit:
                    pixels[len(good)] = read
                good.append(record)
            bar.update()
    images: Images = pixels[: len(good)] if fit else ImageFiles(good, transform, max_pixels=max_pixels)
    return ReadImages(tuple(good), images, tuple(bad))


def _augment_piece(
    data: TrainingSet, pieces: Sequence[Piece], options: TrainingOptions, seed: tuple[int, ...], index: int
) -> torch.Tensor:
    images, size = data.images, data.transform.size
    return torch.stack(
        [augment(images[k], size, options=options, random=random_source(*seed, place)) for k, place in pieces[index]]
    )


def load_pieces(
    data: TrainingSet,
    pieces: Sequence[Piece],
    *,
    options: TrainingOptions,
    seed: tuple[int, ...],
    pin_memory: bool = False,
) -> Iterator[torch.Tensor]:
    """The pieces of an epoch's batches in their order, (B, 3, H, W) uint8.

    Args:
        data: The training set; its number of workers changes nothing but the time.
        pieces: The images of each piece.
        options: How images are augmented.
        seed: Of the training and of the epoch; with an image's place it decides how that image is augmented.
        pin_memory: Whether the pixels are copied to a GPU.

    Raises:
        DataError: An image can no longer be read.
        VreidError: A worker process died.
    """
    make = partial(_augment_piece, data, pieces, options, seed)
    loader = _load(make, len(pieces), workers=data.workers, pin_memory=pin_memory)
    with explain_dead_workers(kept="--resume goes on from the last finished epoch"):
        for piece in loader:
            if isinstance(piece, str):
                raise DataError(
                    f"an image can no longer be read: {piece}",
                    hint="bring it back, then go on from the last finished epoch with --resume",
                )
            yield piece
