"""Which vehicles are learned, and which are held out to validate on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vreid_cli.errors import DataError, UsageError
from vreid_cli.training.batches import Labels
from vreid_cli.types.amounts import amount
from vreid_cli.types.images import ImageRecord


@dataclass(frozen=True)
class Vehicles:
    """Labelled images, divided by vehicle.

    Attributes:
        learned: Images of the vehicles to learn.
        held_out: Images of the others.
        unlabelled: Number of images whose vehicle is unknown.
    """

    learned: tuple[ImageRecord, ...]
    held_out: tuple[ImageRecord, ...]
    unlabelled: int


def divide(records: Sequence[ImageRecord], *, held_out: float) -> Vehicles:
    """Hold out the vehicles whose names have the smallest SHA-256: the same ones for any seed and machine.

    Args:
        records: Images of the training split.
        held_out: A share of the vehicles below 1, rounded up to at least two; or their number.

    Raises:
        UsageError: The number is not whole.
        DataError: No image is labelled, or too few vehicles would be left.
    """
    names = sorted({record.vehicle_id for record in records if record.vehicle_id is not None})
    if not names:
        raise DataError(
            "no training image says which vehicle it shows, so there is nothing to learn",
            hint="give the labels: the layout's lists, a column vehicle, or --label-pattern",
        )
    if held_out >= 1 and not float(held_out).is_integer():
        raise UsageError(f"--held-out {held_out:g}: needs a share below 1, or a whole number of vehicles")
    # One vehicle alone could not be mistaken for another.
    count = max(2, math.ceil(held_out * len(names))) if 0 < held_out < 1 else int(held_out)
    if count and (count < 2 or len(names) - count < 2):
        raise DataError(
            f"{count} of {amount(len(names), 'vehicle')} would be held out: at least two must be, and two be left to "
            "learn",
            hint="choose another --held-out, or 0 for none",
        )
    chosen = set(sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:count])
    labelled = [record for record in records if record.vehicle_id is not None]
    return Vehicles(
        learned=tuple(record for record in labelled if record.vehicle_id not in chosen),
        held_out=tuple(record for record in labelled if record.vehicle_id in chosen),
        unlabelled=len(records) - len(labelled),
    )


def check_held_out(records: Sequence[ImageRecord]) -> None:
    """Refuse vehicles to validate on of which none is seen twice, by two cameras where cameras are known.

    Raises:
        DataError: There are such images, and no validation could find anything in them.
    """
    seen: dict[str | None, list[str | None]] = {}
    for record in records:
        seen.setdefault(record.vehicle_id, []).append(record.camera_id)
    if seen and not any(len(found) > 1 and (None in found or len(set(found)) > 1) for found in seen.values()):
        raise DataError(
            "no vehicle that would be held out is seen by two cameras, so validation would have nothing to find",
            hint="choose another --held-out, or 0 for none",
        )


def number_vehicles(records: Iterable[ImageRecord]) -> tuple[list[str], Labels]:
    """The vehicles by name, and the class of each image: (N,) int64.

    Examples:
        >>> from pathlib import Path
        >>> number_vehicles([ImageRecord(f"{name}.jpg", Path(), vehicle_id=name) for name in "bab"])
        (['a', 'b'], array([1, 0, 1]))
    """
    classes, labels = np.unique([record.vehicle_id or "" for record in records], return_inverse=True)
    return classes.tolist(), labels.astype(np.int64)


def fingerprint(records: Iterable[ImageRecord]) -> str:
    """SHA-256 over names, labels and file sizes: it differs if images are added, changed or renamed."""
    digest = hashlib.sha256()
    for record in records:
        size = record.path.stat().st_size if record.path.is_file() else -1
        digest.update(f"{record.image_id}\t{record.vehicle_id}\t{record.camera_id}\t{size}\n".encode())
    return digest.hexdigest()
