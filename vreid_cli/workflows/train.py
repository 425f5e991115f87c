"""``vreid train``: the library's training with a run directory, files, resume and a report."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vreid_cli import __version__
from vreid_cli.config import DEFAULT, Layer, Settings, find_config, read_layer, resolve
from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.errors import DataError, StoreError, UsageError, VreidError
from vreid_cli.models.weights import LoadedNetwork, require_torch_network
from vreid_cli.runtime.extras import require_extra
from vreid_cli.runtime.objects import require_local
from vreid_cli.runtime.progress import log
from vreid_cli.store.runs import RUNS_FOLDER, RunDirectory
from vreid_cli.training.distributed import Executor, choose_executor
from vreid_cli.training.state import TrainingState, read_state
from vreid_cli.training.train import TrainingResult
from vreid_cli.training.train import train as train_network
from vreid_cli.training.trainer import Trainer
from vreid_cli.training.vehicles import divide, fingerprint, number_vehicles
from vreid_cli.types.amounts import amount
from vreid_cli.types.images import Split
from vreid_cli.workflows.inputs import absolute, data_folders
from vreid_cli.workflows.network import file_name, load, resolve_network, weights_to_find_again
from vreid_cli.workflows.session import Report, Session, check_contradictions, extract_with_trained
from vreid_cli.workflows.training_files import TrainingFiles
from vreid_cli.workflows.validation import Validation

#: Settings that a training which continues must have again; the others change its speed only.
_SAVED = {
    "run": ("seed",),
    "data": ("dataset", "data_dir", "query_dir", "gallery_dir", "subset", "label_pattern"),
    "model": ("arch", "weights", "input"),
    "extract": ("max_pixels",),
}
#: What a training begins from, where nothing else is said.
_START = Layer(DEFAULT, {"model": {"weights": "imagenet"}})
_UNSAVED = ("tensorboard", "resume", "restart")
_FREE = ("data.data_dir", "data.query_dir", "data.gallery_dir")
_MOST_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class TrainReport(Report):
    """What was trained.

    Attributes:
        result: The result of the library's function.
        next_command: What to type next.
    """

    result: TrainingResult
    next_command: str


def resolve_training(layers: Sequence[Layer], *, command: Sequence[str]) -> Session:
    """Resolve the settings: the recipe's below the user's; to continue a training, that training's.

    Raises:
        StoreError: There is no training to continue, or a setting contradicts it.
    """
    first = resolve(layers).settings
    for path in (first.run.run_dir, first.train.resume):
        require_local(path, "vreid train keeps its run")
    if first.train.resume is None:
        recipe = read_layer(find_config(f"recipe-{first.train.recipe}"))
        session = resolve_network(Session(resolve([_START, recipe, *layers]), command=tuple(command)))
        name = file_name(f"{session.settings.data.dataset}-{session.settings.model.arch}-{first.train.recipe}")
        return replace(session, run=RunDirectory(first.run.run_dir or RUNS_FOLDER / name))
    if first.run.run_dir not in (None, first.train.resume):
        raise UsageError(
            f"--run-dir {first.run.run_dir} and --resume {first.train.resume}: a training continues where it is",
            hint="leave --run-dir out",
        )
    if first.train.restart:
        raise UsageError("--resume and --restart exclude each other", hint="choose one")
    run = RunDirectory(first.train.resume)
    settings = read_state(run.training_state).facts["settings"]
    # A section of its own, so that each of its keys is compared.
    settings["model.input"] = settings["model"].pop("input", {})
    saved = Layer(str(run.training_state), settings)
    resolved = resolve([saved, *layers])
    check_contradictions(resolved, saved, run=run, free=_FREE)
    return Session(resolved, run, tuple(command))


def train(session: Session) -> TrainReport | None:
    """Train a network to tell the training vehicles apart.

    Returns:
        What was done; None in all processes of a training but the first.

    Raises:
        VreidError: Data, weights or device are missing or do not fit; the files of finished epochs stay.
    """
    require_extra("train", ["matplotlib"], needed_by="vreid train")
    run = session.run
    assert run is not None  # resolve_training names one
    with closing(choose_executor(session.settings.runtime.device)) as executor, ExitStack() as stack:
        if executor.rank:
            log.setLevel(logging.ERROR)  # the first process speaks
        else:
            stack.enter_context(run.locked())
        try:
            report = _train(session, run, executor)
        except KeyboardInterrupt:
            log.warning("stopped; go on from the last finished epoch with: vreid train --resume %s", run.path)
            raise
        if executor.rank:
            return None
        run.append_history(session.command, version=__version__, exit_code=0)
        return report


def _train(session: Session, run: RunDirectory, executor: Executor) -> TrainReport:
    earlier = _earlier_training(run, session.settings)
    listing = LAYOUTS[session.settings.data.dataset].read(data_folders(session.settings), "train")
    learned, _ = number_vehicles(divide(listing.records, held_out=session.settings.train.held_out).learned)
    _refuse_known_vehicles(session.settings, set(learned))
    settings = _fit_batches(session, vehicles=len(learned))
    warnings = list(listing.warnings)
    content = fingerprint(listing.records)
    state = _saved_state(run, settings, fingerprint=content, executor=executor, warnings=warnings)
    network = require_torch_network(load(settings), needed_by="vreid train")
    files = TrainingFiles(
        run,
        lambda trainer: _about(trainer, settings, network, fingerprint=content),
        to_continue={"settings": _settings_to_save(settings), "fingerprint": content, "processes": executor.world},
        tensorboard=settings.train.tensorboard,
    )

    def watch(trainer: Trainer) -> None:
        if trainer.epoch == (state.epoch if state else 0):
            _announce(trainer, settings, network, warnings=warnings)
            for path in earlier:  # only now that everything else is known to be right
                path.unlink()
            files.begin(trainer)
        else:
            files.end_epoch(trainer)

    with closing(files):
        result = train_network(
            listing.records,
            settings.train,
            network=network,
            seed=settings.run.seed,
            device=executor,
            workers=settings.extract.workers,
            max_pixels=settings.extract.max_pixels,
            strict=settings.extract.strict,
            validate=Validation(settings.runtime),
            watch=watch,
            resume=state,
        )
    written = (run.last_checkpoint, run.best_checkpoint, run.training_log, run.training_curves)
    return TrainReport(
        outputs=tuple(map(str, written)),
        skipped=tuple(
            {"split": "train", "image_id": record.image_id, "track_id": record.track_id, "reason": reason}
            for record, reason in result.skipped
        ),
        warnings=(*warnings, *result.warnings),
        result=result,
        next_command=extract_with_trained(run, dataset=settings.data.dataset, data_dir=settings.data.data_dir),
    )


def _earlier_training(run: RunDirectory, settings: Settings) -> list[Path]:
    """Files of an earlier training that this one replaces.

    Raises:
        StoreError: There are some, and nobody asked to replace them.
    """
    if settings.train.resume is not None:
        return []
    there = [path for path in run.checkpoints.glob("*") if path.is_file() and not path.name.startswith(".")]
    if there and not settings.train.restart:
        raise StoreError(
            f"{run.path} already holds a training",
            hint=f"continue it with --resume {run.path}, replace it with --restart, or name another --run-dir",
            file=run.checkpoints,
        )
    return there


def _refuse_known_vehicles(settings: Settings, learned: set[str]) -> None:
    """Refuse early to learn vehicles of the test splits: their scores would mean nothing."""
    splits: tuple[Split, ...] = ("query", "gallery")
    for split in splits:
        try:
            listing = LAYOUTS[settings.data.dataset].read(data_folders(settings), split)
        except VreidError as error:
            log.debug("%s: not compared with the vehicles to learn: %s", split, error.message)
            continue
        if both := sorted({str(record.vehicle_id) for record in listing.records} & learned):
            raise DataError(
                f"{amount(len(both), 'vehicle')} in both splits, train and {split}: {', '.join(both[:_MOST_NAMED])}",
                hint="scores of vehicles that were learned mean nothing: take them out of one split",
                file=listing.image_root,
            )


def _fit_batches(session: Session, *, vehicles: int) -> Settings:
    """Settings whose batches hold no more vehicles than there are, unless the user chose their size."""
    settings, sources = session.settings, session.resolved.sources
    options = settings.train
    recipe = str(find_config(f"recipe-{options.recipe}"))
    if not options.per_vehicle or options.batch_size // options.per_vehicle <= vehicles:
        return settings
    if any(sources.get(f"train.{key}") != recipe for key in ("batch_size", "per_vehicle", "accumulate")):
        return settings
    size = max(2, vehicles) * options.per_vehicle
    numbers = (amount(vehicles, "vehicle"), amount(size, "image"), options.batch_size)
    log.info("%s: batches of %s instead of the recipe's %d", *numbers)
    return settings.model_copy(update={"train": options.model_copy(update={"batch_size": size})})


def _saved_state(
    run: RunDirectory, settings: Settings, *, fingerprint: str, executor: Executor, warnings: list[str]
) -> TrainingState | None:
    """The state to continue from; None for a new training. Adds to the warnings.

    Raises:
        StoreError: The images are no longer the same.
    """
    if settings.train.resume is None:
        return None
    path = run.training_state
    state = read_state(path)
    before = state.facts
    if before["fingerprint"] != fingerprint:
        raise StoreError(
            f"{path}: the training images are no longer those that it began with",
            hint="bring them back, or start over with --restart",
            file=path,
        )
    if before["processes"] != executor.world:
        numbers = f"processes: {before['processes']} at first, {executor.world} now"
        warnings.append(f"{numbers}, so dropout differs")
    log.info("going on after epoch %d of %d", state.epoch, settings.train.epochs)
    return state


def _announce(trainer: Trainer, settings: Settings, network: LoadedNetwork, *, warnings: Sequence[str]) -> None:
    data = trainer.data
    log.info(
        "recipe %s: %s from %s on %s, %s in %s, %s held out",
        settings.train.recipe,
        network.architecture,
        network.weights,
        trainer.executor.device,
        amount(len(data.classes), "vehicle"),
        amount(len(data.labels), "image"),
        amount(len(_held_out(trainer)), "vehicle"),
    )
    for warning in (*warnings, *data.warnings):
        log.warning("%s", warning)


def _held_out(trainer: Trainer) -> list[str]:
    held_out = trainer.data.held_out
    return number_vehicles(held_out.records)[0] if held_out else []


def _about(trainer: Trainer, settings: Settings, network: LoadedNetwork, *, fingerprint: str) -> dict[str, Any]:
    """Facts for a checkpoint's metadata."""
    return {
        "recipe": _settings_to_save(settings)["train"],
        "classes": trainer.data.classes,
        "data": {
            "dataset": settings.data.dataset,
            "fingerprint": fingerprint,
            "images": len(trainer.data.labels),
            "held_out": _held_out(trainer),
        },
        "begun_from": {"weights": network.weights, "digest": network.digest},
        "seed": settings.run.seed,
        "versions": {"vreid": __version__, "torch": str(torch.__version__)},
    }


def _settings_to_save(settings: Settings) -> dict[str, dict[str, Any]]:
    """The settings of a training that continues; data and weights by absolute paths."""
    dumped = settings.model_dump(mode="json")
    saved = {section: {key: dumped[section][key] for key in keys} for section, keys in _SAVED.items()}
    folders = data_folders(settings)
    for key in ("data_dir", "query_dir", "gallery_dir"):
        saved["data"][key] = absolute(getattr(folders, key))
    saved["model"]["weights"] = weights_to_find_again(str(settings.model.weights))
    saved["train"] = {key: value for key, value in dumped["train"].items() if key not in _UNSAVED}
    return {name: {k: v for k, v in table.items() if v is not None} for name, table in saved.items()}
