"""The batches of an epoch: all images in random order, or P vehicles with K images each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vreid_cli.errors import DataError, UsageError
from vreid_cli.training.options import TrainingOptions
from vreid_cli.types.amounts import amount

Labels = NDArray[np.int64]


def random_source(seed: int, *numbers: int) -> np.random.Generator:
    """A random generator of its own for each seed and place (epoch, image, …), the same on every machine.

    Examples:
        >>> int(random_source(7, 1).integers(100)) == int(random_source(7, 1).integers(100))
        True
    """
    return np.random.default_rng([seed, *numbers])


def check_batches(classes: Sequence[str], labels: Labels, *, options: TrainingOptions, processes: int) -> None:
    """Refuse batches that cannot be filled.

    Args:
        classes: Names of the vehicles.
        labels: (N,) class of each image.
        options: Size of a batch, images of each vehicle in it, forward passes that it is divided into.
        processes: Processes that a forward pass is divided between.

    Raises:
        UsageError: The numbers do not divide.
        DataError: There are too few vehicles or images.
    """
    batch_size, per_vehicle, passes = options.batch_size, options.per_vehicle, options.accumulate
    pieces = passes * processes
    if len(classes) < 2:
        raise DataError(f"images of {amount(len(classes), 'vehicle')} to learn from; at least two are needed")
    if batch_size % pieces or batch_size < 2 * pieces:
        raise UsageError(
            f"train.batch_size {batch_size} cannot be divided into {amount(pieces, 'equal piece')} of two images or "
            f"more ({amount(processes, 'process')} x {amount(passes, 'pass')}, train.accumulate)",
            hint=f"choose a multiple of {pieces} that is at least {2 * pieces}",
        )
    if not per_vehicle:
        if len(labels) < 2 * pieces:
            raise DataError(
                f"{amount(len(labels), 'image')} cannot fill {amount(pieces, 'piece')} of a batch with two each"
            )
        return
    vehicles, unit = batch_size // per_vehicle, per_vehicle * passes
    if batch_size % unit or vehicles < 2 * passes:
        raise UsageError(
            f"train.batch_size {batch_size} is not two vehicles or more with {amount(per_vehicle, 'image')} each "
            f"(train.per_vehicle) for each of {amount(passes, 'forward pass')}",
            hint=f"choose a multiple of {unit} that is at least {2 * unit}",
        )
    if vehicles > len(classes):
        raise UsageError(
            f"a batch of {amount(vehicles, 'vehicle')} x {amount(per_vehicle, 'image')}: there are {len(classes)}",
            hint=f"choose a --batch-size of at most {len(classes) // passes * unit}",
        )
    counts = np.bincount(labels, minlength=len(classes))
    if lonely := [name for name, count in zip(classes, counts, strict=True) if count < 2]:
        raise DataError(
            f"a batch needs two images of each of its vehicles, and {len(lonely)} of {len(classes)} have one: "
            + ", ".join(lonely[:5]),
            hint="leave them out, give them more images, or use --set train.per_vehicle=0 --set train.triplet=0",
        )


def plan_epoch(
    labels: Labels, *, batch_size: int, per_vehicle: int, pieces: int, random: np.random.Generator
) -> list[NDArray[np.int64]]:
    """The batches of one epoch, each the positions of its images.

    Args:
        labels: (N,) class of each image.
        batch_size: Images a batch; a smaller rest is kept where it divides into pieces of two or more.
        per_vehicle: K: each batch then holds K images, one after the other, of batch_size / K vehicles.
        pieces: Each batch is a multiple of this.
        random: The only source of random numbers.

    Examples:
        >>> labels = np.array([0, 0, 1, 1, 2, 2])
        >>> batches = plan_epoch(labels, batch_size=4, per_vehicle=2, pieces=1, random=random_source(0))
        >>> sorted(labels[batches[0]].tolist()) in ([0, 0, 1, 1], [0, 0, 2, 2], [1, 1, 2, 2])
        True
    """
    if per_vehicle:
        return _by_vehicle(labels, vehicles=batch_size // per_vehicle, per_vehicle=per_vehicle, random=random)
    order = random.permutation(len(labels))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    batches = [batch[: len(batch) // pieces * pieces] for batch in batches]
    return [batch for batch in batches if len(batch) >= 2 * pieces]


def _by_vehicle(
    labels: Labels, *, vehicles: int, per_vehicle: int, random: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Every image about once: its vehicle's images are dealt in hands of K, and a batch takes a hand of P vehicles."""
    # Vehicles with more hands left are more likely to be chosen, so that all run out together. The hands left at the
    # end belong to fewer than P vehicles and are not used.
    of_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])
    hands = [_deal(rows, per_vehicle, random) for rows in of_class]
    left = np.array([len(hand) for hand in hands], dtype=np.float64)
    batches = []
    while np.count_nonzero(left) >= vehicles:
        chosen = random.choice(len(hands), vehicles, replace=False, p=left / left.sum())
        left[chosen] -= 1
        batches.append(np.concatenate([hands[vehicle].pop() for vehicle in chosen]))
    return batches


def _deal(rows: Labels, size: int, random: np.random.Generator) -> list[Labels]:
    """The images of a vehicle in random order, in hands of this size; others of its images fill the last one."""
    dealt = random.permutation(rows)
    missing = -len(rows) % size
    # First images that the last hand does not hold yet. Of a vehicle with fewer than K images some are in it
    # twice; augmentation makes them differ.
    others = dealt[: len(rows) // size * size]
    fillers = [random.permutation(others), *(random.permutation(rows) for _ in range(-(-missing // len(rows))))]
    filled = np.concatenate([dealt, *fillers])[: len(rows) + missing]
    return np.split(filled, len(filled) // size)
