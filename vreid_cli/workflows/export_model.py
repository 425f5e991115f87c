"""``vreid export model``: the LR network to an ONNX file, or to a folder of the Hugging Face hub."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vreid_cli import __version__
from vreid_cli.config import Settings
from vreid_cli.errors import StoreError, UsageError
from vreid_cli.models.hub import write_hub_folder
from vreid_cli.models.onnx import write_onnx
from vreid_cli.models.onnx_session import require_onnx
from vreid_cli.models.sources import HUB_WEIGHTS
from vreid_cli.models.weights import LoadedNetwork, require_torch_network
from vreid_cli.runtime.progress import log
from vreid_cli.store.runs import RunDirectory
from vreid_cli.workflows.network import load, network_label, resolve_network
from vreid_cli.workflows.session import Report, RunChoice, Session

_ENDING = ".onnx"


@dataclass(frozen=True, kw_only=True)
class ModelReport(Report):
    """What was exported.

    Attributes:
        network: The network.
        parity: Of an ONNX file the relative error against torch, by batch size; empty for a folder.
        seconds: How long exporting and comparing took.
    """

    network: LoadedNetwork
    parity: Mapping[int, float]
    seconds: float


def choose_run(settings: Settings) -> RunChoice:
    """The run whose network is written; weights that are named need none."""
    return RunChoice(use_latest=settings.model.weights is None)


def export_model(session: Session) -> ModelReport:
    """Write the network of the run, or the one that was asked for, as ONNX or as a folder of the hub.

    Raises:
        MissingExtraError: The extra ``onnx`` is not installed.
        UsageError: The output has another ending, or the network is an ONNX file.
        StoreError: A file is there already, or the run was made with other weights than are there now.
        ExportError: The network cannot be exported, or the file would compute something else than torch.
    """
    folder = session.settings.export.to_hub_folder
    if folder is None:
        require_onnx("export model")
    run = None if session.run is None else session.need_run()
    session = resolve_network(session)
    settings, weights = session.settings, str(session.settings.model.weights)
    path = _output(session, run) if folder is None else _check_folder(session, folder)
    loaded = require_torch_network(load(settings), needed_by="export model")
    _check_digest(run, loaded, weights=weights)
    started, parity = time.monotonic(), {}
    if folder is None:
        facts = {"vreid": __version__, **({"seed": str(settings.run.seed)} if loaded.warnings else {})}
        log.info("exporting %s with weights %s; this may take half a minute", loaded.architecture, loaded.weights)
        parity = write_onnx(path, loaded, facts=facts)
    else:
        write_hub_folder(folder, loaded, title=network_label(settings), half=settings.export.half)
    session.record()
    return ModelReport(
        outputs=(str(path),),
        warnings=loaded.warnings,
        network=loaded,
        parity=parity,
        seconds=time.monotonic() - started,
    )


def _output(session: Session, run: RunDirectory | None) -> Path:
    """Where to write, checked before anything is loaded: without ``--output`` the run, or the current folder."""
    chosen, name = session.settings.export, f"{network_label(session.settings)}{_ENDING}"
    path = chosen.output or (Path() if run is None else run.exports) / name
    if path.suffix.lower() != _ENDING:
        raise UsageError(
            f"{session.resolved.name('export.output')} {path}: a model's file ends in {_ENDING}",
            hint=f"as in --output {name}",
        )
    if path.exists() and not chosen.force:
        raise StoreError(f"{path} already exists", hint="use --force to replace it, or another --output", file=path)
    return path


def _check_folder(session: Session, folder: Path) -> Path:
    """The folder, which holds no network yet, unless that may be replaced."""
    chosen, name = session.settings.export, session.resolved.name("export.to_hub_folder")
    if chosen.output is not None:
        raise UsageError(f"--output {chosen.output} and {name} {folder}: which one?", hint="name one of them")
    if (folder / HUB_WEIGHTS).exists() and not chosen.force:
        raise StoreError(f"{folder} holds a network already", hint="use --force to replace it", file=folder)
    return folder


def _check_digest(run: RunDirectory | None, loaded: LoadedNetwork, *, weights: str) -> None:
    """Refuse a network that would not make the features of its run: the weights file may have changed since."""
    if run is None or run.read_info().get("weights_digest", loaded.digest) == loaded.digest:
        return
    raise StoreError(
        f"the weights {weights} are no longer those that the run {run.path} was made with",
        hint=f"run vreid extract again; or name them, so that no run is meant: --weights {weights}",
        file=run.info_path,
    )
