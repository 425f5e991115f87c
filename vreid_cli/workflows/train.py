"""``vreid train``: images of known vehicles to a network that tells vehicles apart, unknown ones too."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vreid_cli import __version__
from vreid_cli.config import Layer, Settings, find_config, read_layer, resolve
from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.data.listing import Listing
from vreid_cli.data.options import DataOptions
from vreid_cli.errors import DataError, StoreError, UsageError, VreidError
from vreid_cli.models.network import Network
from vreid_cli.models.sources import SOURCES
from vreid_cli.models.transforms import Transform
from vreid_cli.models.weights import LoadedNetwork, load_network, with_classifier
from vreid_cli.runtime.extras import require_extra
from vreid_cli.runtime.memory import free_memory
from vreid_cli.runtime.progress import log
from vreid_cli.runtime.workers import choose_workers
from vreid_cli.store.runs import BEST, CURVES, LAST, LOG, RUNS_FOLDER, STATE, RunDirectory
from vreid_cli.training.batches import Labels, check_batches
from vreid_cli.training.distributed import Executor, choose_executor
from vreid_cli.training.images import ReadImages, read_images
from vreid_cli.training.state import EpochResult, Scores, best_epoch, read_state, read_state_facts
from vreid_cli.training.train import Learner, Lessons, Validate
from vreid_cli.training.vehicles import Vehicles, divide, fingerprint, number_vehicles
from vreid_cli.types.images import ImageRecord, Split
from vreid_cli.workflows.inputs import absolute, data_folders
from vreid_cli.workflows.network import settle_architecture
from vreid_cli.workflows.session import Report, Session, check_contradictions
from vreid_cli.workflows.training_files import TrainingFiles
from vreid_cli.workflows.validation import Validation

#: What must be the same for a training to go on: the rest is how fast it goes, or where from it is watched.
_SAVED = {
    "run": ("seed",),
    "data": ("dataset", "data_dir", "query_dir", "gallery_dir", "subset", "label_pattern"),
    "model": ("arch", "weights"),
    "extract": ("max_pixels",),
}
_UNSAVED = ("tensorboard", "resume", "restart")
_FREE = ("data.data_dir", "data.query_dir", "data.gallery_dir")
#: Part of the free memory that pixels may take.
_PIXELS_SHARE = 0.25
_MOST_NAMED = 5


@dataclass(frozen=True)
class TrainReport(Report):
    """What was trained.

    Attributes:
        run_dir: The run.
        checkpoint: The last state of the network.
        vehicles: Number of vehicles that were learned.
        images: Number of their images.
        history: All epochs.
        next_command: What to type next.
    """

    run_dir: Path = Path()
    checkpoint: Path = Path()
    vehicles: int = 0
    images: int = 0
    history: tuple[EpochResult, ...] = ()
    next_command: str = "vreid extract"

    @property
    def best(self) -> tuple[int, Scores | None]:
        """The best epoch, and its scores."""
        best = best_epoch(self.history)
        return best, next(result.scores for result in self.history if result.epoch == best)


def resolve_training(layers: Sequence[Layer], *, command: Sequence[str]) -> Session:
    """Resolve the settings: those of the recipe below the person's; where a training goes on, that training's.

    Raises:
        StoreError: There is no training to go on with, or a setting contradicts it.
    """
    first = resolve(layers).settings
    if first.train.resume is None:
        recipe = read_layer(find_config(f"recipe-{first.train.recipe}"))
        resolved = resolve([recipe, *layers])
        session = settle_architecture(Session(resolved, command=tuple(command)))
        run_dir = first.run.run_dir or default_run_dir(session.settings)
        return replace(session, run=RunDirectory(run_dir))
    if first.run.run_dir not in (None, first.train.resume):
        raise UsageError(
            f"--run-dir {first.run.run_dir} and --resume {first.train.resume}: a training goes on where it is",
            hint="leave --run-dir out",
        )
    if first.train.restart:
        raise UsageError("--resume and --restart exclude each other", hint="choose one")
    run = RunDirectory(first.train.resume)
    path = run.checkpoints / STATE
    saved = Layer(str(path), read_state_facts(path)["settings"])
    resolved = resolve([saved, *layers])
    check_contradictions(resolved, saved, run=run, free=_FREE)
    return Session(resolved, run, tuple(command))


def default_run_dir(settings: Settings) -> Path:
    """``runs/<dataset>-<arch>-<recipe>``."""
    return RUNS_FOLDER / f"{settings.data.dataset}-{settings.model.arch}-{settings.train.recipe}"


def train(session: Session) -> TrainReport | None:
    """Teach a network to tell the training vehicles apart.

    Returns:
        What was done; None where another process of the same training tells it.

    Raises:
        VreidError: Data, weights or device are not there or do not fit; what finished epochs gave is kept.
    """
    require_extra("train", ["matplotlib"], needed_by="vreid train")
    with closing(choose_executor(session.settings.runtime.device)) as executor:
        if executor.rank:
            log.setLevel(logging.ERROR)  # the first process speaks
        run = session.need_folder()
        with ExitStack() as stack:
            if executor.rank == 0:
                stack.enter_context(run.locked())
            earlier = _earlier_training(run, session.settings)
            lesson = _prepare(session, executor)
            executor.wait()
            if executor.rank == 0:
                # Not before everything else is known to be right.
                for path in earlier:
                    path.unlink()
            learner, notes = _make_learner(run, lesson, executor=executor)
            _say_what_is_learned(lesson, learner, session.settings.train.recipe)
            for note in notes:
                log.warning("%s", note)
            with _telling_how_to_go_on(run), _files(run, lesson, learner) as files:
                learner.learn(lesson.lessons, validate=lesson.validate, on_epoch=files.on_epoch)
        if executor.rank:
            return None
        run.append_history(session.command, version=__version__, exit_code=0)
        return _report(run, lesson, learner, notes=notes)


@dataclass(frozen=True)
class _Lesson:
    """All that a training begins with.

    Attributes:
        settings: The settings, whose batches fit the vehicles.
        lessons: Images and labels.
        classes: Names of the vehicles.
        trainable: Network and transform.
        vehicles: How the images were divided.
        bad: Images that cannot be used, and why.
        fingerprint: Of all images.
        warnings: What is doubtful about them.
        validate: Looks for the vehicles that were held out; None where none were.
    """

    settings: Settings
    lessons: Lessons
    classes: list[str]
    trainable: LoadedNetwork
    network: Network
    vehicles: Vehicles
    bad: tuple[tuple[ImageRecord, str], ...]
    fingerprint: str
    warnings: tuple[str, ...] = ()
    validate: Validate | None = None


def _prepare(session: Session, executor: Executor) -> _Lesson:
    settings = session.settings
    listing = LAYOUTS[settings.data.dataset].read(data_folders(settings), "train")
    vehicles = divide(listing.records, held_out=settings.train.held_out)
    _refuse_what_cannot_be_found(vehicles.held_out)
    _refuse_known_vehicles(settings, {record.vehicle_id or "" for record in vehicles.learned})
    classes, labels = number_vehicles(vehicles.learned)
    settings = _fit_batches(session, vehicles=len(classes))
    _check_batches(classes, labels, settings, executor=executor)
    trainable, network = _load(settings, classes)
    learned = _read(vehicles.learned, trainable.transform, settings, executor=executor)
    held_out = None
    if vehicles.held_out and executor.rank == 0:  # which alone validates
        held_out = _read(vehicles.held_out, trainable.transform, settings, executor=executor)
    bad = [*_name_bad(vehicles.learned, learned), *_name_bad(vehicles.held_out, held_out)]
    if bad and settings.extract.strict:
        record, reason = bad[0]
        raise DataError(f"{record.path} cannot be learned from: {reason}", hint="leave out --strict", file=record.path)
    if learned.bad:
        known, labels = number_vehicles(learned.records)
        if known != classes:
            lost = ", ".join(sorted(set(classes) - set(known))[:_MOST_NAMED])
            raise DataError(f"vehicles without a readable image: {lost}", hint="mend them, or leave them out")
        _check_batches(classes, labels, settings, executor=executor)
    workers = choose_workers(
        settings.extract.workers, images=len(labels), on_cpu=executor.device.type == "cpu", training=True
    )
    return _Lesson(
        settings=settings,
        lessons=Lessons(learned.images, labels, trainable.transform, workers),
        classes=classes,
        trainable=trainable,
        network=network,
        vehicles=vehicles,
        bad=tuple(bad),
        fingerprint=fingerprint(listing.records),
        warnings=tuple(_doubts(listing, vehicles, bad)),
        validate=None
        if held_out is None
        else Validation(held_out, trainable.transform, settings.runtime, executor.device),
    )


def _check_batches(classes: list[str], labels: Labels, settings: Settings, *, executor: Executor) -> None:
    recipe = settings.train
    check_batches(
        classes,
        labels,
        batch_size=recipe.batch_size,
        per_vehicle=recipe.per_vehicle,
        passes=recipe.accumulate,
        processes=executor.world,
    )


def _fit_batches(session: Session, *, vehicles: int) -> Settings:
    """Settings whose batches hold no more vehicles than there are, unless a person chose their size."""
    settings, sources = session.settings, session.resolved.sources
    recipe = settings.train
    of_the_recipe = str(find_config(f"recipe-{recipe.recipe}"))
    if not recipe.per_vehicle or recipe.batch_size // recipe.per_vehicle <= vehicles:
        return settings
    if any(sources.get(f"train.{key}") != of_the_recipe for key in ("batch_size", "per_vehicle", "accumulate")):
        return settings
    size = max(2, vehicles) * recipe.per_vehicle
    log.info("%d vehicles: batches of %d images instead of the recipe's %d", vehicles, size, recipe.batch_size)
    return settings.model_copy(update={"train": recipe.model_copy(update={"batch_size": size})})


def _refuse_what_cannot_be_found(held_out: Sequence[ImageRecord]) -> None:
    """Refuse to hold out vehicles of which none is seen twice, by two cameras where cameras are known."""
    seen: dict[str | None, list[ImageRecord]] = {}
    for record in held_out:
        seen.setdefault(record.vehicle_id, []).append(record)
    for records in seen.values():
        cameras = {record.camera_id for record in records}
        if len(records) > 1 and (len(cameras) > 1 or None in cameras):
            return
    if held_out:
        raise DataError(
            "no vehicle that would be held out is seen by two cameras, so validation would have nothing to find",
            hint="choose another --held-out, or 0 for none",
        )


def _load(settings: Settings, classes: list[str]) -> tuple[LoadedNetwork, Network]:
    seed = settings.run.seed
    loaded = load_network(_weights_name(settings), arch=settings.model.arch, seed=seed, downloads=settings.model)
    network = with_classifier(loaded, classes, neck=settings.train.neck, seed=seed)
    return replace(loaded, transform=_check_input(network, choose_input(loaded.transform, settings))), network


def _weights_name(settings: Settings) -> str:
    return "imagenet" if settings.model.weights is None else settings.model.weights


def choose_input(own: Transform, settings: Settings) -> Transform:
    """The input that the recipe asks for; what it leaves open is in proportion to the network's own.

    Raises:
        UsageError: The crop is larger than the image.
    """
    resize, crop = settings.train.resize, settings.train.crop
    if resize == "auto":
        resize = own.resize if crop == "auto" else round(int(crop) * own.resize / own.crop)
    if crop == "auto":
        crop = max(1, round(int(resize) * own.crop / own.resize))
    if int(crop) > int(resize):
        raise UsageError(f"train.crop {crop} is larger than train.resize {resize}", hint="as in resize 256, crop 224")
    return replace(own, resize=int(resize), crop=int(crop))


def _check_input(network: Network, transform: Transform) -> Transform:
    """The transform, if the network can be used on such images at all."""
    network.eval()
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 3, transform.crop, transform.crop))
    except RuntimeError:
        name = network.backbone.name
        raise UsageError(
            f"train.crop {transform.crop} is too small for {name}", hint=f"its own is {network.backbone.transform.crop}"
        ) from None
    return transform


def _read(
    records: Sequence[ImageRecord], transform: Transform, settings: Settings, *, executor: Executor
) -> ReadImages:
    return read_images(
        records,
        transform,
        max_pixels=settings.extract.max_pixels,
        memory=int(free_memory() * _PIXELS_SHARE / executor.world),
        # Nothing else needs the cores yet.
        workers=choose_workers(settings.extract.workers, images=len(records), on_cpu=False),
    )


def _name_bad(records: Sequence[ImageRecord], read: ReadImages | None) -> list[tuple[ImageRecord, str]]:
    return [] if read is None else [(records[position], reason) for position, reason in read.bad]


def _doubts(listing: Listing, vehicles: Vehicles, bad: Sequence[tuple[ImageRecord, str]]) -> Iterator[str]:
    yield from listing.warnings
    if vehicles.unlabelled:
        yield f"{vehicles.unlabelled} training images have no vehicle label and were left out"
    for record, reason in bad[:_MOST_NAMED]:
        yield f"{record.image_id}: {reason}; skipped"
    if len(bad) > _MOST_NAMED:
        yield f"{len(bad) - _MOST_NAMED} more images cannot be used and were skipped"


def _refuse_known_vehicles(settings: Settings, learned: set[str]) -> None:
    """Scores on vehicles that were learned would say nothing: refuse them while it is early."""
    splits: tuple[Split, ...] = ("query", "gallery")
    for split in splits:
        try:
            listing = LAYOUTS[settings.data.dataset].read(data_folders(settings), split)
        except VreidError as error:
            log.debug("%s: not compared with the vehicles that are learned: %s", split, error.message)
            continue
        both = sorted({str(record.vehicle_id) for record in listing.records if record.vehicle_id in learned})
        if both:
            named = ", ".join(both[:_MOST_NAMED])
            raise DataError(
                f"{len(both)} vehicles are in the splits train and {split}: {named}",
                hint="a vehicle is either learned or looked for, else its scores mean nothing: take it out of one",
                file=listing.image_root,
            )


def _earlier_training(run: RunDirectory, settings: Settings) -> list[Path]:
    """Files of an earlier training that this one is to replace.

    Raises:
        StoreError: There are some, and nobody asked to replace them.
    """
    if settings.train.resume is not None:
        return []
    there = [path for path in run.checkpoints.glob("*") if path.is_file() and not path.name.startswith(".")]
    if there and not settings.train.restart:
        raise StoreError(
            f"{run.path} holds a training already",
            hint=f"go on with --resume {run.path}, throw it away with --restart, or name another --run-dir",
            file=run.checkpoints,
        )
    return there


def _make_learner(run: RunDirectory, lesson: _Lesson, *, executor: Executor) -> tuple[Learner, list[str]]:
    settings = lesson.settings
    learner = Learner(lesson.network, settings.train, executor=executor, seed=settings.run.seed)
    notes = list(lesson.warnings)
    if settings.train.resume is not None:
        path = run.checkpoints / STATE
        state = read_state(path)
        before = read_state_facts(path)
        if before["fingerprint"] != lesson.fingerprint:
            raise StoreError(
                f"{path}: the training images are no longer those that it was begun with",
                hint="bring them back, or begin anew with --restart",
                file=path,
            )
        if before["processes"] != executor.world:
            notes.append(f"begun by {before['processes']} processes, going on with {executor.world}: dropout differs")
        learner.restore(state)
        log.info("going on after epoch %d of %d", state.epoch, settings.train.epochs)
    return learner, notes


def _say_what_is_learned(lesson: _Lesson, learner: Learner, recipe: str) -> None:
    trainable = lesson.trainable
    held_out = len({record.vehicle_id for record in lesson.vehicles.held_out})
    log.info(
        "recipe %s: %s from %s on %s, %d vehicles in %d images, %d vehicles held out",
        recipe,
        trainable.network.backbone.name,
        trainable.weights,
        learner.executor.device,
        len(lesson.classes),
        len(lesson.lessons.labels),
        held_out,
    )


@contextmanager
def _telling_how_to_go_on(run: RunDirectory) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        log.warning("stopped; go on from the last finished epoch with: vreid train --resume %s", run.path)
        raise


def _files(run: RunDirectory, lesson: _Lesson, learner: Learner) -> TrainingFiles:
    settings = lesson.settings
    kept = _settings_to_save(settings)
    about = {
        "recipe": kept["train"],
        "classes": lesson.classes,
        "data": {
            "dataset": settings.data.dataset,
            "fingerprint": lesson.fingerprint,
            "images": len(lesson.lessons.labels),
            "held_out": sorted({str(record.vehicle_id) for record in lesson.vehicles.held_out}),
        },
        "begun_from": {"weights": lesson.trainable.weights, "digest": lesson.trainable.digest},
        "seed": settings.run.seed,
        "versions": {"vreid": __version__, "torch": str(torch.__version__)},
    }
    to_go_on = {"settings": kept, "fingerprint": lesson.fingerprint, "processes": learner.executor.world}
    transform = lesson.lessons.transform
    return TrainingFiles(run, learner, transform, about, to_go_on, tensorboard=settings.train.tensorboard)


def _settings_to_save(settings: Settings) -> dict[str, dict[str, Any]]:
    """What a training that goes on must have again; data and weights where they lie, wherever it is typed."""
    dumped = settings.model_dump(mode="json")
    saved = {section: {key: dumped[section][key] for key in keys} for section, keys in _SAVED.items()}
    folders = data_folders(settings)
    for key in ("data_dir", "query_dir", "gallery_dir"):
        saved["data"][key] = absolute(getattr(folders, key))
    weights = _weights_name(settings)
    saved["model"]["weights"] = weights if weights in SOURCES else absolute(Path(weights))
    saved["train"] = {key: value for key, value in dumped["train"].items() if key not in _UNSAVED}
    return {name: {k: v for k, v in table.items() if v is not None} for name, table in saved.items()}


def _report(run: RunDirectory, lesson: _Lesson, learner: Learner, *, notes: Sequence[str]) -> TrainReport:
    files = (run.checkpoints / LAST, run.checkpoints / BEST, run.path / LOG, run.path / CURVES)
    return TrainReport(
        outputs=tuple(map(str, files)),
        skipped=tuple(
            {"split": "train", "image_id": record.image_id, "track_id": record.track_id, "reason": reason}
            for record, reason in lesson.bad
        ),
        warnings=tuple(notes),
        run_dir=run.path,
        checkpoint=run.checkpoints / LAST,
        vehicles=len(lesson.classes),
        images=len(lesson.lessons.labels),
        history=tuple(learner.history),
        next_command=_next_command(run, lesson.settings),
    )


def _next_command(run: RunDirectory, settings: Settings) -> str:
    """Extraction with what was trained, from the same data."""
    words = ["vreid", "extract", "--run-dir", str(run.path), "--weights", str(run.checkpoints / LAST)]
    data = settings.data
    if data.dataset != DataOptions().dataset:
        words += ["--dataset", data.dataset]
    if data.data_dir is not None:
        words += ["--data-dir", str(data.data_dir)]
    return shlex.join(words)
