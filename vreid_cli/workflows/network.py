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


def resolve_architecture(session: Session) -> Session:
    """The session with the architecture that the weights file names, unless another was chosen.

    Raises:
        WeightsError: The weights file is not there or is damaged.
    """
    settings, sources = session.settings, session.resolved.sources
    weights = settings.model.weights
    if weights is None or session.resolved.source("model.arch") != DEFAULT:
        return session
    arch = architecture_of(weights)
    if arch in (None, settings.model.arch):
        return session
    settings = settings.model_copy(update={"model": settings.model.model_copy(update={"arch": arch})})
    return replace(session, resolved=Resolved(settings, {**sources, "model.arch": weights}))


def weights_name(settings: Settings) -> str:
    """The weights that were chosen, else those of the paper's authors.

    Raises:
        UsageError: None were chosen, and the authors published none for this architecture.
    """
    if settings.model.weights is not None:
        return settings.model.weights
    if default := default_weights(settings.model.arch):
        return default
    raise UsageError(
        f"--arch {settings.model.arch}: which weights?",
        hint="give --weights imagenet, random, or a file; the authors published weights for densenet201 only",
    )


def network_label(settings: Settings) -> str:
    """``<arch>-<weights>`` for names of files and folders; of a weights file its name without the ending."""
    weights = weights_name(settings)
    stem = Path(weights).stem if Path(weights).suffix else weights
    return re.sub(r"[^\w.-]+", "_", f"{settings.model.arch}-{stem}")


def say_what_was_loaded(loaded: LoadedNetwork, settings: Settings) -> None:
    """Log what every result from the network has to say."""
    for warning in loaded.warnings:
        log.warning("%s (seed %d)", warning, settings.run.seed)
