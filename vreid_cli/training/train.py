"""The library's training: labelled images to a network that tells vehicles apart, unknown ones too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.data.listing import DataFolders
from vreid_cli.errors import DataError, UsageError
from vreid_cli.models.network import Network
from vreid_cli.models.transforms import Transform
from vreid_cli.models.weights import AnyNetwork, LoadedNetwork, require_torch_network, with_classifier
from vreid_cli.runtime.memory import free_memory
from vreid_cli.runtime.objects import as_path
from vreid_cli.runtime.workers import choose_workers
from vreid_cli.training.batches import Labels, check_batches
from vreid_cli.training.distributed import Executor, choose_executor
from vreid_cli.training.images import ReadImages, TrainingSet, decode_images
from vreid_cli.training.options import TrainingOptions
from vreid_cli.training.state import EpochResult, TrainingState, best_epoch
from vreid_cli.training.trainer import Trainer, Validate, Watch
from vreid_cli.training.vehicles import check_held_out, divide, number_vehicles
from vreid_cli.types.amounts import amount
from vreid_cli.types.images import MAX_PIXELS, ImageRecord

#: Part of the free memory that pixels may take.
_PIXELS_SHARE = 0.25
_MOST_NAMED = 5


@dataclass(frozen=True)
class TrainingResult:
    """A trained network.

    Attributes:
        network: The network with the classifier of the vehicles that it learned, after the last epoch.
        history: The epochs.
        images: Number of images that it learned from.
        skipped: Images that could not be used, and why.
        warnings: What is doubtful about the images.
    """

    network: LoadedNetwork
    history: tuple[EpochResult, ...]
    images: int
    skipped: tuple[tuple[ImageRecord, str], ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def best(self) -> EpochResult:
        """The first epoch of the highest mAP on held-out vehicles; the last epoch without validation."""
        return best_epoch(self.history)


def train(
    images: Sequence[ImageRecord] | str | Path,
    options: TrainingOptions | None = None,
    *,
    network: AnyNetwork,
    seed: int = 0,
    device: str | Executor = "auto",
    workers: int | str = "auto",
    max_pixels: int = MAX_PIXELS,
    strict: bool = False,
    validate: Validate | None = None,
    watch: Watch | None = None,
    resume: TrainingState | None = None,
) -> TrainingResult:
    """Train a network to tell vehicles apart.

    Args:
        images: Labelled images; or a folder with a folder for each track, named by vehicle (``0002_c002…``).
        options: How it learns; None for the defaults.
        network: The weights to start from; not changed.
        seed: Decides the new classifier's weights, order, augmentation and dropout.
        device: As ``--device``, or the executor of this process.
        workers: Processes that decode and augment; ``auto`` or a number.
        max_pixels: Larger images are bad.
        strict: Whether to stop at a bad image instead of skipping it.
        validate: Scores the network on the held-out vehicles of ``options.held_out``; None for no scores.
        watch: Called before the first epoch and after each one, on the first process.
        resume: A state of the same training to continue from.

    Raises:
        UsageError: The options contradict each other, the images or the device; or the loss diverges.
        DataError: The images are missing or bad, or show too few vehicles.
        WeightsError: The state is of another network.

    Examples:
        >>> import numpy as np
        >>> from PIL import Image
        >>> from vreid_cli.models.weights import load_network
        >>> for vehicle in ("0001", "0002"):
        ...     folder = Path("cars", "train", f"{vehicle}_c001")
        ...     folder.mkdir(parents=True)
        ...     for k in range(2):
        ...         Image.fromarray(np.full((40, 40, 3), 50 * k, np.uint8)).save(folder / f"{k}.png")
        >>> start = load_network("random", arch="resnet18")
        >>> result = train("cars", TrainingOptions(epochs=1, batch_size=4, crop=32), network=start, device="cpu")
        >>> result.network.classes
        ('0001', '0002')
        >>> len(result.history), result.images
        (1, 4)
    """
    options, start = options or TrainingOptions(), require_torch_network(network, needed_by="training")
    executor = choose_executor(device) if isinstance(device, str) else device
    if isinstance(images, (str, Path)):
        images = LAYOUTS["tracks"].read(DataFolders(as_path(images)), "train").records
    vehicles = divide(images, held_out=options.held_out)
    check_held_out(vehicles.held_out)
    classes, labels = number_vehicles(vehicles.learned)
    check_batches(classes, labels, options=options, processes=executor.world)
    trained = with_classifier(start, classes, neck=options.neck, seed=seed)
    transform = choose_input(start.transform, options)
    _check_input(trained, transform)

    def read(records: Sequence[ImageRecord]) -> ReadImages:
        # Nothing else needs the cores yet.
        decoders = choose_workers(workers, images=len(records), on_cpu=False)
        memory = int(free_memory() * _PIXELS_SHARE / executor.world)
        return decode_images(records, transform=transform, max_pixels=max_pixels, memory=memory, workers=decoders)

    learned = read(vehicles.learned)
    validates = validate is not None and executor.rank == 0 and vehicles.held_out
    held_out = read(vehicles.held_out) if validates else None
    skipped = learned.bad + (held_out.bad if held_out else ())
    labels = _check_read(learned, classes, skipped=skipped, strict=strict)
    check_batches(classes, labels, options=options, processes=executor.world)
    on_cpu = executor.device.type == "cpu"
    data = TrainingSet(
        learned.images,
        labels,
        tuple(classes),
        transform,
        workers=choose_workers(workers, images=len(labels), on_cpu=on_cpu, training=True),
        held_out=held_out,
        warnings=tuple(_warn(vehicles.unlabelled, skipped)),
    )
    trainer = Trainer(trained, data, options=options, executor=executor, seed=seed)
    if resume is not None:
        trainer.restore(resume)
    trainer.run(validate=validate, watch=watch)
    return TrainingResult(trainer.result(), tuple(trainer.history), len(labels), skipped, data.warnings)


def choose_input(own: Transform, options: TrainingOptions) -> Transform:
    """The input that the options ask for; what they leave open is in proportion to the network's own.

    Raises:
        UsageError: The crop is larger than the image.

    Examples:
        >>> choose_input(Transform(256, 224), TrainingOptions(crop=112)).resize
        128
        >>> choose_input(Transform(256, 224), TrainingOptions(resize="squash")).size
        (224, 224)
    """
    crop = options.crop if isinstance(options.crop, int) else None
    if options.resize == "squash" or (options.resize == "auto" and own.resize is None):
        return replace(own, resize=None, crop=crop or own.crop)
    margin = 1.0 if own.resize is None else own.resize / min(own.size)
    if isinstance(options.resize, int):
        resize, crop = options.resize, crop or max(1, round(options.resize / margin))
    elif crop is None:
        return own
    else:
        resize = round(crop * margin)
    if crop > resize:
        raise UsageError(f"train.crop {crop} is larger than train.resize {resize}", hint="as in resize 256, crop 224")
    return replace(own, resize=resize, crop=crop)


def _check_input(network: Network, transform: Transform) -> None:
    """Refuse images of a size that the network does not take."""
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, 3, *transform.size))
    except (RuntimeError, AssertionError):  # torchvision's and timm's way to say so
        backbone = network.backbone
        raise UsageError(
            f"train.crop {transform.crop} is no input for {backbone.name}",
            hint=f"its own is {backbone.transform.crop}",
        ) from None


def _check_read(
    learned: ReadImages, classes: Sequence[str], *, skipped: Sequence[tuple[ImageRecord, str]], strict: bool
) -> Labels:
    """The labels of the images that can be decoded; refuses bad images that cannot be skipped."""
    if skipped and strict:
        record, reason = skipped[0]
        raise DataError(f"{record.path} cannot be learned from: {reason}", hint="leave out --strict", file=record.path)
    known, labels = number_vehicles(learned.records)
    if lost := sorted(set(classes) - set(known)):
        raise DataError(
            f"vehicles without a readable image: {', '.join(lost[:_MOST_NAMED])}",
            hint="repair the images, or leave the vehicles out",
        )
    return labels


def _warn(unlabelled: int, skipped: Sequence[tuple[ImageRecord, str]]) -> Iterator[str]:
    if unlabelled:
        yield f"{amount(unlabelled, 'training image')} without a vehicle label, left out"
    for record, reason in skipped[:_MOST_NAMED]:
        yield f"{record.image_id}: {reason}; skipped"
    if len(skipped) > _MOST_NAMED:
        yield f"{amount(len(skipped) - _MOST_NAMED, 'more image')} cannot be used; skipped"
