"""Training from labels alone: cross-entropy over the vehicles, with light augmentation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from vreid_cli.data.decoding import BadPictureError, decode_rgb
from vreid_cli.errors import DataError, UsageError
from vreid_cli.models.backbones import Network
from vreid_cli.models.transforms import Transform
from vreid_cli.runtime.devices import exact_float32
from vreid_cli.runtime.progress import progress


@dataclass(frozen=True)
class TrainingPlan:
    """How long and how hard to train.

    The learning rate rises over the first quarter of all steps and then falls to nothing (one cycle, cosine).

    Attributes:
        epochs: Passes over the pictures.
        batch_size: Pictures a step; a last batch of one picture is left out, which batch normalisation needs.
        learning_rate: Highest learning rate of AdamW.
        weight_decay: Of AdamW.
        label_smoothing: Share of the target that is spread over all classes.
        colour_jitter: Greatest relative change of each colour channel's gain, and of contrast.
        erase: Chance that a rectangle of a picture is painted over with grey.
        flip: Whether half of the pictures are mirrored.
    """

    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 5e-2
    label_smoothing: float = 0.1
    colour_jitter: float = 0.25
    erase: float = 0.4
    flip: bool = True

    def __post_init__(self) -> None:
        wrong = (
            ("epochs", self.epochs < 1, "at least 1"),
            ("batch_size", self.batch_size < 2, "at least 2"),
            ("learning_rate", not 0 < self.learning_rate < math.inf, "above 0"),
            ("weight_decay", not 0 <= self.weight_decay < math.inf, "0 or more"),
            ("label_smoothing", not 0 <= self.label_smoothing < 1, "from 0 to below 1"),
            ("colour_jitter", not 0 <= self.colour_jitter < 1, "from 0 to below 1"),
            ("erase", not 0 <= self.erase <= 1, "from 0 to 1"),
        )
        for name, is_wrong, allowed in wrong:
            if is_wrong:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be {allowed}")


@dataclass(frozen=True)
class EpochResult:
    """One pass over the pictures, as it went while learning (augmented pictures, changing weights).

    Attributes:
        epoch: Counted from 1.
        loss: Mean cross-entropy over the pictures.
        accuracy: Fraction of pictures whose vehicle had the highest score.
        learning_rate: Of the epoch's last step.
    """

    epoch: int
    loss: float
    accuracy: float
    learning_rate: float


@dataclass(frozen=True)
class TrainingResult:
    """All epochs in order."""

    epochs: tuple[EpochResult, ...]


def load_pictures(paths: Sequence[Path], transform: Transform, *, max_pixels: int) -> torch.Tensor:
    """Decode pictures and keep the square that :func:`train_classifier` cuts its crops from.

    Returns:
        (N, 3, S, S) uint8 with S = ``transform.resize``: short side resized to S, centre kept. Its own centre
        crop is what the network sees when it is used.

    Raises:
        DataError: A picture cannot be used.
    """
    square = Transform(transform.resize, transform.resize)
    pictures = torch.empty((len(paths), 3, square.crop, square.crop), dtype=torch.uint8)
    with progress(total=len(paths), what="reading", unit="img") as bar:
        for position, path in enumerate(paths):
            try:
                pictures[position] = square.crop_uint8(decode_rgb(path, max_pixels=max_pixels))
            except BadPictureError as error:
                raise DataError(f"{path} cannot be learned from: {error}", file=path) from None
            bar.update(1)
    return pictures


def train_classifier(
    network: Network,
    pictures: torch.Tensor,
    *,
    labels: torch.Tensor,
    transform: Transform,
    plan: TrainingPlan,
    seed: int,
    device: torch.device,
    on_epoch: Callable[[EpochResult], None],
) -> TrainingResult:
    """Teach a network with a head to tell the training vehicles apart.

    The same arguments give the same weights bit for bit on the CPU with the same number of threads. Torch's
    global random state is left as it was.

    Args:
        network: Changed in place; moved to the device and left there, in eval mode.
        pictures: (N, 3, H, W) uint8, with H and W at least ``transform.crop``; they stay where they are.
        labels: (N,) int64, the class of each picture, from 0.
        transform: Input of the network; crops of ``transform.crop`` pixels are cut at random.
        plan: How long and how hard.
        seed: Decides order, augmentation and dropout.
        device: Where to compute.
        on_epoch: Called after each epoch.

    Raises:
        DataError: The tensors do not fit each other, the network's classes or the crop.
        UsageError: The loss is no longer finite: the learning rate is too high.
        ValueError: The network has no head.
    """
    _check(network, pictures, labels=labels, transform=transform)
    network.to(device)
    batches = _count_batches(len(pictures), plan.batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, plan.learning_rate, total_steps=plan.epochs * batches, pct_start=0.25
    )
    lesson = _Lesson(network, optimizer, schedule, transform, plan, device)
    results = []
    try:
        for epoch in range(1, plan.epochs + 1):
            network.train()
            with _own_random_state(device, _mix(seed, 2 * epoch)), exact_float32():
                result = _run_epoch(lesson, pictures, labels=labels, epoch=epoch, seed=_mix(seed, 2 * epoch + 1))
            network.eval()  # the caller may want to validate
            results.append(result)
            on_epoch(result)
    finally:
        network.eval()
    return TrainingResult(tuple(results))


@dataclass(frozen=True)
class _Lesson:
    """What an epoch needs beside the pictures."""

    network: Network
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    transform: Transform
    plan: TrainingPlan
    device: torch.device


def _check(network: Network, pictures: torch.Tensor, *, labels: torch.Tensor, transform: Transform) -> None:
    """Refuse what cannot be learned from, before any weight is changed."""
    if network.head is None:
        raise ValueError("training needs a network with a classifier")
    if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[1] != 3:
        raise DataError(f"pictures are {pictures.dtype} {tuple(pictures.shape)}; (N, 3, H, W) uint8 is needed")
    if min(pictures.shape[2:]) < transform.crop:
        raise DataError(f"pictures of {tuple(pictures.shape[2:])} are smaller than the crop of {transform.crop}")
    if labels.shape != (len(pictures),) or labels.dtype != torch.int64:
        raise DataError(f"labels are {labels.dtype} {tuple(labels.shape)} for {len(pictures)} pictures")
    if len(pictures) < 2:
        raise DataError(f"{len(pictures)} pictures are too few to learn from")
    classes = network.head.out_features
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise DataError(f"labels from {int(labels.min())} to {int(labels.max())} for a network of {classes} classes")


def _count_batches(pictures: int, batch_size: int) -> int:
    """Number of batches of an epoch, without a last one of a single picture."""
    whole, rest = divmod(pictures, batch_size)
    return whole + (rest > 1)


def _mix(seed: int, number: int) -> int:
    """A seed of its own for each number, within what torch takes."""
    return (seed * 1_000_003 + number) % (1 << 63)


@contextmanager
def _own_random_state(device: torch.device, seed: int) -> Iterator[None]:
    """Seed torch's generators on the CPU and on this CUDA device, for dropout; put them back afterwards."""
    if device.type != "cuda":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
        return
    index = torch.cuda.current_device() if device.index is None else device.index
    with torch.random.fork_rng(devices=[index]), torch.cuda.device(index):
        torch.default_generator.manual_seed(seed)
        torch.cuda.manual_seed(seed)
        yield


def _run_epoch(lesson: _Lesson, pictures: torch.Tensor, *, labels: torch.Tensor, epoch: int, seed: int) -> EpochResult:
    """One pass in a random order."""
    plan, generator = lesson.plan, torch.Generator().manual_seed(seed)
    order = torch.randperm(len(pictures), generator=generator)
    # Summed on the device: asking for each loss would make a GPU wait for the CPU at every step.
    totals = torch.zeros(2, device=lesson.device)
    seen, rate = 0, 0.0
    for start in range(0, _count_batches(len(pictures), plan.batch_size) * plan.batch_size, plan.batch_size):
        rows = order[start : start + plan.batch_size]
        batch = augment(pictures[rows], lesson.transform.crop, plan=plan, generator=generator)
        targets = labels[rows].to(lesson.device)
        scores = lesson.network(lesson.transform.normalise(batch.to(lesson.device)))
        loss = nn.functional.cross_entropy(scores, targets, label_smoothing=plan.label_smoothing)
        lesson.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        lesson.optimizer.step()
        rate = float(lesson.schedule.get_last_lr()[0])
        lesson.schedule.step()
        correct = (scores.detach().argmax(1) == targets).sum()
        totals += torch.stack([loss.detach() * len(rows), correct.to(loss.dtype)])
        seen += len(rows)
    loss_sum, correct_sum = totals.tolist()
    if not math.isfinite(loss_sum):
        raise UsageError(
            f"training diverged in epoch {epoch}: the loss is not finite",
            hint=f"choose a learning rate below {plan.learning_rate:g}",
        )
    return EpochResult(epoch, loss=loss_sum / seen, accuracy=correct_sum / seen, learning_rate=rate)


def augment(pictures: torch.Tensor, crop: int, *, plan: TrainingPlan, generator: torch.Generator) -> torch.Tensor:
    """Cut a random crop from each picture, mirror half of them, change the light, paint over a part.

    Args:
        pictures: (B, 3, H, W) uint8 on the CPU.
        crop: Side of the crops in pixels.
        plan: How much is changed.
        generator: The only source of chance.

    Returns:
        (B, 3, crop, crop) uint8.
    """
    count, _, height, width = pictures.shape

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    tops = (uniform(count) * (height - crop + 1)).long().tolist()
    lefts = (uniform(count) * (width - crop + 1)).long().tolist()
    cut = torch.stack(
        [
            picture[:, top : top + crop, left : left + crop]
            for picture, top, left in zip(pictures, tops, lefts, strict=True)
        ]
    ).to(torch.float32)
    if plan.flip:
        mirrored = (uniform(count) < 0.5).view(-1, 1, 1, 1)
        cut = torch.where(mirrored, cut.flip(3), cut)
    gain = 1 + plan.colour_jitter * (2 * uniform(count, 3, 1, 1) - 1)
    contrast = 1 + plan.colour_jitter * (2 * uniform(count, 1, 1, 1) - 1)
    middle = cut.mean(dim=(1, 2, 3), keepdim=True)
    cut = ((cut - middle) * contrast + middle) * gain
    boxes = _boxes(crop, uniform(count, 4)) & (uniform(count) < plan.erase).view(-1, 1, 1)
    cut = torch.where(boxes.unsqueeze(1), 255 * uniform(count, 1, 1, 1), cut)
    return cut.clamp_(0, 255).to(torch.uint8)


def _boxes(side: int, numbers: torch.Tensor) -> torch.Tensor:
    """Rectangles of an eighth to under a half of the side each way, from (B, 4) numbers in [0, 1): (B, side, side)."""
    place = torch.arange(side).unsqueeze(0)
    spans = []
    for start, length in ((numbers[:, 0:1], numbers[:, 1:2]), (numbers[:, 2:3], numbers[:, 3:4])):
        extent = side * (0.125 + 0.3 * length)
        first = start * (side - extent)
        spans.append((place >= first) & (place < first + extent))
    return spans[0].unsqueeze(2) & spans[1].unsqueeze(1)
