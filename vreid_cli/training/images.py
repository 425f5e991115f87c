"""Training images: looked at once, kept in memory where they fit, changed at random by worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from vreid_cli.data.decoding import BadImageError, decode_rgb
from vreid_cli.errors import DataError
from vreid_cli.models.transforms import Transform
from vreid_cli.runtime.progress import progress
from vreid_cli.runtime.workers import follow_parent, worker_died
from vreid_cli.training.augmentation import augment
from vreid_cli.training.batches import random_source
from vreid_cli.training.options import TrainingOptions
from vreid_cli.types.images import ImageRecord

#: Position of each image, and its place in the epoch, which decides how it is changed.
Piece = Sequence[tuple[int, int]]


class Images(Protocol):
    """Images as training takes its crops from them."""

    def __len__(self) -> int:
        """How many."""

    def __getitem__(self, position: int) -> torch.Tensor:
        """(3, S, S) uint8: short side resized to S, centre kept."""


class ImagesInMemory:
    """All images in one (N, 3, S, S) uint8 array."""

    def __init__(self, pixels: torch.Tensor) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, position: int) -> torch.Tensor:
        return self.pixels[position]


class ImageFiles:
    """Images that are decoded each time they are asked for."""

    def __init__(self, records: Sequence[ImageRecord], square: Transform, *, max_pixels: int) -> None:
        self._images = [(record.path, record.box) for record in records]
        self._square = square
        self._max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, position: int) -> torch.Tensor:
        try:
            return self.read(position)
        except BadImageError as error:
            raise BadImageError(f"{self._images[position][0]}: {error}") from None

    def read(self, position: int) -> torch.Tensor:
        """The same, with an error that tells the reason alone."""
        path, box = self._images[position]
        return self._square.crop_uint8(decode_rgb(path, max_pixels=self._max_pixels, box=box))


@dataclass(frozen=True)
class ReadImages:
    """Images that can be learned from.

    Attributes:
        records: Those of the good images, in order.
        images: The same images' pixels.
        bad: Position among all that were given, and reason, of each that cannot be used.
    """

    records: tuple[ImageRecord, ...]
    images: Images
    bad: tuple[tuple[int, str], ...]


class _Squares(Dataset[torch.Tensor | str]):
    """Pixels of each image, or the reason why there are none."""

    def __init__(self, files: ImageFiles) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, position: int) -> torch.Tensor | str:
        try:
            return self._files.read(position)
        except BadImageError as error:
            return str(error)


def read_images(
    records: Sequence[ImageRecord], transform: Transform, *, max_pixels: int, memory: int, workers: int
) -> ReadImages:
    """Decode every image once, to know which are bad, and keep them where they fit.

    The square that is kept has the side ``transform.resize``: short side resized to it, centre kept. Its own
    centre crop is what the network sees when it is used.

    Args:
        records: The images.
        transform: Input of the network.
        max_pixels: Larger files are bad.
        memory: Bytes that the pixels may take; where they would take more, they are decoded anew in each epoch.
        workers: Processes that decode; 0 for none.
    """
    side = transform.resize
    files = ImageFiles(records, Transform(side, side), max_pixels=max_pixels)
    fit = len(records) * 3 * side * side <= memory
    pixels = torch.empty((len(records) if fit else 0, 3, side, side), dtype=torch.uint8)
    good: list[int] = []
    bad: list[tuple[int, str]] = []
    loader = DataLoader(
        _Squares(files),
        batch_size=None,
        num_workers=workers,
        worker_init_fn=follow_parent,
        generator=torch.Generator(),  # or it would draw from torch's global state
    )
    with progress(total=len(records), what="reading", unit="img") as bar:
        for position, read in enumerate(loader):
            if isinstance(read, str):
                bad.append((position, read))
            else:
                if fit:
                    pixels[len(good)] = read
                good.append(position)
            bar.update()
    kept = tuple(records[position] for position in good)
    if fit:
        return ReadImages(kept, ImagesInMemory(pixels[: len(good)]), tuple(bad))
    return ReadImages(kept, ImageFiles(kept, Transform(side, side), max_pixels=max_pixels), tuple(bad))


class _Lessons(Dataset[tuple[torch.Tensor, torch.Tensor] | str]):
    """Pieces of batches, each image changed by chance of its own; or the reason why there is none."""

    def __init__(
        self,
        images: Images,
        pieces: Sequence[Piece],
        *,
        crop: int,
        recipe: TrainingOptions,
        seed: tuple[int, ...],
    ) -> None:
        self._images = images
        self._pieces = pieces
        self._crop = crop
        self._recipe = recipe
        self._seed = seed

    def __len__(self) -> int:
        return len(self._pieces)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor] | str:
        try:
            return self._prepare(index)
        except BadImageError as error:
            return str(error)

    def _prepare(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        rows = [position for position, _ in self._pieces[index]]
        changed = [
            augment(
                self._images[position],
                self._crop,
                recipe=self._recipe,
                random=random_source(*self._seed, place),
            )
            for position, place in self._pieces[index]
        ]
        return torch.stack(changed), torch.tensor(rows)


def load_lessons(
    images: Images,
    pieces: Sequence[Piece],
    *,
    transform: Transform,
    recipe: TrainingOptions,
    seed: tuple[int, ...],
    workers: int,
    pin_memory: bool,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The pieces of an epoch's batches in their order: pixels (B, 3, crop, crop) uint8, and positions (B,).

    Args:
        images: Where the pixels come from.
        pieces: What each is made of.
        transform: Input of the network.
        recipe: How much is changed.
        seed: Of the training and of the epoch; with the place it decides how an image is changed.
        workers: Processes that do it ahead; 0 for none. Their number changes nothing.
        pin_memory: Whether the pixels are copied to a GPU.

    Raises:
        DataError: An image could be read before and cannot any more.
        VreidError: A worker process died.
    """
    lessons = _Lessons(images, pieces, crop=transform.crop, recipe=recipe, seed=seed)
    loader = DataLoader(
        lessons,
        batch_size=None,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=follow_parent,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),  # or it would draw from torch's global state
    )
    try:
        for lesson in loader:
            if isinstance(lesson, str):
                raise DataError(
                    f"an image cannot be read any more: {lesson}",
                    hint="bring it back, then go on from the last finished epoch with --resume",
                )
            yield lesson
    except RuntimeError as error:
        died = worker_died(error, kept="--resume goes on from the last finished epoch")
        if died is None:
            raise
        raise died from None
