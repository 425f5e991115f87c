"""Images decoded ahead of the device by worker processes, in batches that never cross a part."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset

from vreid_cli.data.decoding import BadImageError, cut_part, decode_rgb
from vreid_cli.data.listing import leads_outside
from vreid_cli.data.records import Records
from vreid_cli.data.video import read_frames
from vreid_cli.errors import DataError
from vreid_cli.models.transforms import Transform
from vreid_cli.runtime.files import atomic_path
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


@dataclass(frozen=True)
class Preparation:
    """What is made of images before the network sees them.

    Attributes:
        records: The images.
        transform: What is cropped of them.
        max_pixels: Larger images are bad.
        save_to: Each image is written below this folder, ``<track>/<frame>.png``; None for nowhere.
    """

    records: Records
    transform: Transform
    max_pixels: int
    save_to: Path | None = None

    def decode(self, index: int) -> torch.Tensor | str:
        """The pixels of an image that lies in a file of its own, or in a frame that does; or why there are none."""
        path, box = self.records.place(index)
        try:
            return self._finish(index, decode_rgb(path, max_pixels=self.max_pixels, box=box))
        except BadImageError as error:
            return str(error)

    def cut(self, index: int, frame: Image.Image | str) -> torch.Tensor | str:
        """The pixels of an image in a frame that is decoded, or why there are none."""
        if isinstance(frame, str):
            return frame
        try:
            return self._finish(index, cut_part(frame, self.records.place(index)[1], max_pixels=self.max_pixels))
        except BadImageError as error:
            return str(error)

    def _finish(self, index: int, image: Image.Image) -> torch.Tensor:
        if self.save_to is not None:
            record = self.records[index]
            name = record.path.stem if record.frame is None else f"{record.frame:06d}"
            track = record.track_id or "no track"
            # What a list calls a track may be anything; it must not lead out of the folder.
            folder = self.save_to / (track.replace("/", "_") if leads_outside(track) else track)
            with atomic_path(folder / f"{name}.png") as temporary:
                image.save(temporary)
        return self.transform.crop_uint8(image)


class ImageDataset(Dataset[Decoded]):
    """Decodes and crops one image at a time; a bad one yields its reason instead of pixels.

    Args:
        preparation: The images, and what is made of them.
    """

    def __init__(self, preparation: Preparation) -> None:
        self._preparation = preparation

    def __len__(self) -> int:
        return len(self._preparation.records)

    def __getitem__(self, index: int) -> Decoded:
        # CPU time, not the clock's: beside a busy network a worker waits for its turn.
        started = time.thread_time()
        content = self._preparation.decode(index)
        return index, content, time.thread_time() - started


class VideoDataset(IterableDataset[Batch]):
    """Batches of images in videos, each of which is decoded once, front to back.

    What is decoded before its batch has its turn is kept, cropped and resized: little, where batches follow the videos.

    Args:
        preparation: The images, and what is made of them.
        batches: Positions of the images of each batch.
    """

    def __init__(self, preparation: Preparation, batches: Sequence[Sequence[int]]) -> None:
        self._preparation = preparation
        self._batches = batches

    def __iter__(self) -> Iterator[Batch]:
        waiting: dict[int, torch.Tensor | str] = {}
        todo = deque(self._batches)
        started = time.thread_time()
        for decoded in self._contents():
            waiting |= decoded
            while todo and all(index in waiting for index in todo[0]):
                items = [(index, waiting.pop(index), 0.0) for index in todo.popleft()]
                now = time.thread_time()
                yield replace(_collate(items), decode_seconds=now - started)
                started = time.thread_time()

    def _contents(self) -> Iterator[dict[int, torch.Tensor | str]]:
        """What is decoded of one frame after the other, video by video as the batches need them."""
        records = self._preparation.records
        videos: dict[Path, dict[int, list[int]]] = {}
        for batch in self._batches:
            for index in batch:
                # An image file beside videos has no number of a frame.
                number = records.video_frame(index) or 0
                videos.setdefault(records.place(index)[0], {}).setdefault(number, []).append(index)
        for path, frames in videos.items():
            if 0 in frames:
                yield {index: self._preparation.decode(index) for index in frames[0]}
                continue
            try:
                for number, frame in read_frames(path, sorted(frames)):
                    yield {index: self._preparation.cut(index, frame) for index in frames.pop(number)}
            except DataError as error:
                yield {index: error.message for indices in frames.values() for index in indices}


def sample_pixels(preparation: Preparation, *, count: int, seed: int) -> torch.Tensor:
    """Pixels (N, 3, H, W) uint8 of ``count`` images chosen at random, or of all, in random order, without bad ones."""
    rng = np.random.default_rng(seed)
    # In the order of the records, in which videos are read.
    chosen = np.sort(rng.permutation(len(preparation.records))[:count])
    batches = load_batches(preparation, [[int(index)] for index in chosen], workers=0, pin_memory=False)
    pixels = torch.cat([batch.pixels for batch in batches if batch.indices] or [torch.empty(0, 3, 1, 1).byte()])
    return pixels[torch.from_numpy(rng.permutation(len(pixels)))]


def load_batches(
    preparation: Preparation, batches: Sequence[Sequence[int]], *, workers: int, pin_memory: bool
) -> Iterator[Batch]:
    """The batches in their order, decoded by ``workers`` processes (0: in this one).

    A video is decoded in one pass, so one process does it, with threads of the decoder.

    Raises:
        VreidError: A worker process died.
    """
    in_videos = preparation.records.reading_order() is not None
    order: dict[str, Any] = {"batch_sampler": (list(batch) for batch in batches), "collate_fn": _collate}
    dataset: Dataset[Any] = VideoDataset(preparation, batches) if in_videos else ImageDataset(preparation)
    loader: DataLoader[Any] = DataLoader(
        dataset,
        num_workers=min(workers, 1) if in_videos else workers,
        pin_memory=pin_memory,
        worker_init_fn=follow_parent,
        prefetch_factor=4 if workers else None,
        **({"batch_size": None} if in_videos else order),
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
