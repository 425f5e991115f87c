"""Which network the settings mean, and how it is loaded: the same for every command that needs one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from vreid_cli.config import DEFAULT, Resolved, Settings
from vreid_cli.errors import UsageError
from vreid_cli.models.sources import default_weights
from vreid_cli.models.weights import LoadedNetwork, architecture_of
from vreid_cli.runtime.progress import log
from vreid_cli.workflows.session import Session


def architecture_name(resolved: Resolved) -> str:
    """The architecture that was chosen; else the one that the weights file names; else the default.

    Raises:
        WeightsError: The weights file is not there or is damaged.
    """
    model = resolved.settings.model
    if model.weights is None or resolved.source("model.arch") != DEFAULT:
        return model.arch
    return architecture_of(model.weights) or model.arch


def settle_architecture(session: Session) -> Session:
    """The session with the architecture of :func:`architecture_name` in its settings.

    Raises:
        WeightsError: The weights file is not there or is damaged.
    """
    resolved = session.resolved
    arch = architecture_name(resolved)
    if arch == resolved.settings.model.arch:
        return session
    model = resolved.settings.model.model_copy(update={"arch": arch})
    sources = {**resolved.sources, "model.arch": str(resolved.settings.model.weights)}
    settings = resolved.settings.model_copy(update={"model": model})
    return replace(session, resolved=Resolved(settings, sources))


def weights_name(settings: Settings, arch: str) -> str:
    """The weights that were chosen, else those of the paper's authors.

    Raises:
        UsageError: None were chosen, and the authors published none for this architecture.
    """
    if settings.model.weights is not None:
        return settings.model.weights
    if default := default_weights(arch):
        return default
    raise UsageError(
        f"--arch {arch}: which weights?",
        hint="give --weights imagenet, random, or a file; the authors published weights for densenet201 only",
    )


def network_label(arch: str, weights: str) -> str:
    """``<arch>-<weights>`` for names of files and folders; of a weights file its name without the ending."""
    stem = Path(weights).stem if Path(weights).suffix else weights
    return re.sub(r"[^\w.-]+", "_", f"{arch}-{stem}")


def say_what_was_loaded(loaded: LoadedNetwork, settings: Settings) -> None:
    """Log what every result from the network has to say."""
    for warning in loaded.warnings:
        log.warning("%s (seed %d)", warning, settings.run.seed)
