"""``vreid export model``: the LR network to an ONNX file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vreid_cli import __version__
from vreid_cli.config import Settings
from vreid_cli.errors import StoreError, UsageError
from vreid_cli.models.onnx import require_onnx, write_onnx
from vreid_cli.models.weights import LoadedNetwork, load_network
from vreid_cli.runtime.progress import log
from vreid_cli.store.runs import RunDirectory
from vreid_cli.workflows.network import network_label, resolve_architecture, say_what_was_loaded, weights_name
from vreid_cli.workflows.session import Report, RunChoice, Session

_ENDING = ".onnx"


@dataclass(frozen=True, kw_only=True)
class ModelReport(Report):
    """What was exported.

    Attributes:
        network: The network.
        parity: Relative error against torch, by batch size.
        seconds: How long exporting and comparing took.
    """

    network: LoadedNetwork
    parity: Mapping[int, float]
    seconds: float


def choose_run(settings: Settings) -> RunChoice:
    """The run whose network is written; weights that are named need none."""
    return RunChoice(use_latest=settings.model.weights is None)


def export_model(session: Session) -> ModelReport:
    """Write the network of the run, or the one that was asked for, as ONNX.

    Raises:
        UsageError: The extra ``onnx`` is not installed, or the output has another ending.
        StoreError: A file is there already, or the run was made with other weights than are there now.
        ExportError: The network cannot be exported, or the file would compute something else than torch.
    """
    require_onnx("export model")
    run = None if session.run is None else session.need_run()
    session = resolve_architecture(session)
    settings, weights = session.settings, weights_name(session.settings)
    path = _output(session, run)
    loaded = load_network(weights, arch=settings.model.arch, seed=settings.run.seed, downloads=settings.model)
    _check_digest(run, loaded, weights=weights)
    say_what_was_loaded(loaded, settings)
    facts = {"vreid": __version__, **({"seed": str(settings.run.seed)} if loaded.warnings else {})}
    log.info("exporting %s with weights %s; this may take half a minute", loaded.architecture, loaded.weights)
    started = time.monotonic()
    parity = write_onnx(path, loaded, facts=facts)
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


def _check_digest(run: RunDirectory | None, loaded: LoadedNetwork, *, weights: str) -> None:
    """Refuse a network that would not make the features of its run: the weights file may have changed since."""
    if run is None or run.read_info().get("weights_digest", loaded.digest) == loaded.digest:
        return
    raise StoreError(
        f"the weights {weights} are no longer those that the run {run.path} was made with",
        hint=f"run vreid extract again; or name them, so that no run is meant: --weights {weights}",
        file=run.info_path,
    )
