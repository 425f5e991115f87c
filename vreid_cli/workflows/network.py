"""Which network the settings mean, and how it is loaded: the same for every command that needs one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from vreid_cli.config import DEFAULT, Resolved, Settings
from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.models.sources import SOURCES, default_weights, has_name, require_default_weights
from vreid_cli.models.weights import AnyNetwork, architecture_of, load_network
from vreid_cli.runtime.progress import log
from vreid_cli.workflows.inputs import absolute
from vreid_cli.workflows.session import Session


def resolve_network(session: Session) -> Session:
    """The session with weights, and with the architecture that they name unless another was chosen.

    Without weights those of the architecture are taken; without either, those of the layout.

    Raises:
        UsageError: The architecture has no weights of its own.
        WeightsError: The weights file is missing or damaged.
    """
    settings, sources = session.settings, session.resolved.sources
    chosen = session.resolved.source("model.arch") != DEFAULT
    if settings.model.weights is not None:
        weights, origin = settings.model.weights, session.resolved.source("model.weights")
    elif chosen:
        weights, origin = require_default_weights(settings.model.arch), f"--arch {settings.model.arch}"
    else:
        weights, origin = LAYOUTS[settings.data.dataset].weights, f"--dataset {settings.data.dataset}"
        if weights != default_weights(settings.model.arch):
            log.info("no --weights given: %s, %s", weights, SOURCES[weights].help)
    arch = settings.model.arch
    if not chosen:
        arch = architecture_of(weights, settings.model) or arch
    model = settings.model.model_copy(update={"arch": arch, "weights": weights})
    named = {"model.weights": origin} | ({} if arch == settings.model.arch else {"model.arch": weights})
    return replace(session, resolved=Resolved(settings.model_copy(update={"model": model}), {**sources, **named}))


def load(settings: Settings) -> AnyNetwork:
    """The network that the settings mean, and in the log what every result from it has to say.

    Raises:
        UsageError: The architecture or the input is not known.
        WeightsError: The weights are missing, damaged, or those of another architecture.
    """
    model = settings.model
    assert model.weights is not None  # resolve_network chose them
    loaded = load_network(
        model.weights, arch=model.arch, seed=settings.run.seed, downloads=model, input=model.input, output=model.output
    )
    for warning in loaded.warnings:
        log.warning("%s (seed %d)", warning, settings.run.seed)
    return loaded


def weights_to_find_again(weights: str) -> str:
    """What to write down: a name as it is, a path as an absolute one."""
    return weights if has_name(weights) else str(absolute(Path(weights)))


def network_label(settings: Settings) -> str:
    """``<arch>-<weights>`` for names of files and folders; of a weights file its name without the ending."""
    weights = str(settings.model.weights)
    stem = weights if has_name(weights) else Path(weights).stem
    return file_name(f"{settings.model.arch}-{stem}")


def file_name(text: str) -> str:
    """The text as part of a file's name: ``timm/NAME`` is no folder."""
    return re.sub(r"[^\w.-]+", "_", text)
