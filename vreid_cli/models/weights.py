"""Networks with weights: the authors', ImageNet's, random ones, or those of a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vreid_cli.errors import UsageError, WeightsError, did_you_mean
from vreid_cli.models.backbones import BACKBONES, Backbone
from vreid_cli.models.checkpoint import (
    SAFETENSORS,
    Checkpoint,
    check_weights_file,
    load_weights,
    named_architecture,
    network_state,
    read_checkpoint,
    save_checkpoint,
    weights_digest,
)
from vreid_cli.models.network import Network, build_random
from vreid_cli.models.options import DownloadOptions
from vreid_cli.models.sources import SOURCES, find_source
from vreid_cli.models.transforms import Transform
from vreid_cli.runtime.progress import log
from vreid_cli.store.metadata import read_metadata


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with weights, in eval mode on the CPU.

    Attributes:
        network: The network; it has a classifier only if ``classes`` names the vehicles.
        transform: The input that it expects.
        weights: A name of :data:`~vreid_cli.models.sources.SOURCES`, or the file's name.
        digest: SHA-256 of the tensors that make the LR.
        classes: Vehicles that the classifier tells apart; empty for no classifier.
        dropped_classes: Size of a classifier in the file that was dropped, since its vehicles have no names.
        warnings: What every result that comes from the network has to say.
    """

    network: Network
    transform: Transform
    weights: str
    digest: str
    classes: tuple[str, ...] = ()
    dropped_classes: int | None = None
    warnings: tuple[str, ...] = ()

    @property
    def architecture(self) -> str:
        """Name of the backbone."""
        return self.network.backbone.name

    @property
    def dimension(self) -> int:
        """Length D of the LR."""
        return self.network.backbone.dimension

    def save(self, path: Path, *, facts: Mapping[str, str] | None = None) -> None:
        """Write a ``.safetensors`` file that :func:`load_network` reads.

        Args:
            path: Where to write; replaced, if it is there.
            facts: For the file's metadata, beside architecture, transform and classes.

        Raises:
            UsageError: The file's name has another ending.
            StoreError: The file cannot be written.

        Examples:
            >>> loaded = load_network("random", arch="resnet18")
            >>> loaded.save(Path("mine.safetensors"))
            >>> load_network("mine.safetensors").digest == loaded.digest
            True
        """
        if path.suffix.lower() != SAFETENSORS:
            raise UsageError(f"{path}: a network's file ends in {SAFETENSORS}")
        classes = {"classes": json.dumps(self.classes, ensure_ascii=False)} if self.classes else {}
        save_checkpoint(path, self.network, transform=self.transform, facts={**(facts or {}), **classes})


def load_network(
    weights: str | Path = "veri", *, arch: str | None = None, seed: int = 0, downloads: DownloadOptions | None = None
) -> LoadedNetwork:
    """Build a network and load its weights.

    Args:
        weights: ``veri`` (the paper's authors'), ``imagenet``, ``random``, or the path of a ``.pth``, ``.pt`` or
            ``.safetensors`` file.
        arch: Key of :data:`~vreid_cli.models.backbones.BACKBONES`; needed where neither the file nor the name of
            the weights says it.
        seed: Makes the weights of ``random``.
        downloads: Cache folder and addresses; None for the defaults.

    Raises:
        UsageError: The architecture is unknown or needed, or these weights do not exist for it.
        WeightsError: The weights are missing, damaged, or those of another architecture.

    Examples:
        >>> loaded = load_network("random", arch="resnet18")
        >>> loaded.dimension, loaded.transform.crop
        (512, 224)
        >>> loaded.warnings
        ('random weights: the features, and all that follows from them, mean nothing',)
    """
    weights = str(weights)
    arch = arch or architecture_of(weights)
    if arch is None:
        raise UsageError(f"weights {weights}: which architecture?", hint=f"name it: {', '.join(BACKBONES)}")
    if arch not in BACKBONES:
        raise UsageError(f"there is no architecture '{arch}'", hint=did_you_mean(arch, BACKBONES))
    backbone, source = BACKBONES[arch], find_source(weights, arch)
    warnings = () if source is None or source.warning is None else (source.warning,)
    if source is None:
        path = Path(weights)
    elif source.locate is None:
        network = build_random(backbone, seed=seed).eval()
        return LoadedNetwork(network, backbone.transform, weights, weights_digest(network), warnings=warnings)
    else:
        path = source.locate(backbone, downloads or DownloadOptions())
    checkpoint = read_checkpoint(path)
    if checkpoint.architecture not in (None, backbone.name):
        raise WeightsError(
            f"{path} is for {checkpoint.architecture}, not for {backbone.name}",
            hint=f"use --arch {checkpoint.architecture}",
            file=path,
        )
    network = _make_empty(backbone, checkpoint)
    dropped = load_weights(network, checkpoint.state, source=str(path), head=bool(checkpoint.classes))
    if dropped is not None:
        log.info("the weights' classifier of %d classes is not needed and was dropped", dropped)
    return LoadedNetwork(
        network,
        checkpoint.transform or backbone.transform,
        weights=weights if source else path.name,
        digest=weights_digest(network),
        classes=checkpoint.classes,
        dropped_classes=dropped,
        warnings=warnings,
    )


def architecture_of(weights: str) -> str | None:
    """The architecture that the weights imply; None if they imply none.

    Args:
        weights: As :func:`load_network` takes them. Only our own ``.safetensors`` files name an architecture.

    Raises:
        WeightsError: The file is missing or damaged, or names an unknown architecture.

    Examples:
        >>> architecture_of("veri")
        'densenet201'
    """
    if source := SOURCES.get(weights):
        return source.backbones[0] if len(source.backbones) == 1 else None
    path = Path(weights)
    if path.suffix.lower() != SAFETENSORS:
        return None
    check_weights_file(path)
    return named_architecture(read_metadata(path), path)


def with_classifier(loaded: LoadedNetwork, classes: Sequence[str], *, neck: bool, seed: int) -> Network:
    """A new network to train: the loaded weights, and a classifier for these vehicles.

    Args:
        loaded: The weights to start from; not changed. Their classifier is kept if it is for the same vehicles
            and the same kind of neck.
        classes: Names of the vehicles.
        neck: Whether a batch normalisation stands between trunk and classifier.
        seed: Makes what the weights do not hold.

    Examples:
        >>> network = with_classifier(load_network("random", arch="resnet18"), ["a", "b", "c"], neck=False, seed=0)
        >>> network.head
        Linear(in_features=512, out_features=3, bias=True)
    """
    network = build_random(loaded.network.backbone, seed=seed, classes=len(classes), neck=neck)
    state, has_neck = network_state(loaded.network), loaded.network.neck is not None
    keeps_head = loaded.classes == tuple(classes) and has_neck == neck
    load_weights(network, state, source=loaded.weights, head=keeps_head)
    if loaded.classes and not keeps_head:
        log.info(
            "the weights' classifier of %d classes was dropped; a new one of %d was made",
            len(loaded.classes),
            len(classes),
        )
    if has_neck and not neck:
        log.info("the weights' neck was dropped: this recipe has none")
    return network


def _make_empty(backbone: Backbone, checkpoint: Checkpoint) -> Network:
    """A network in eval mode that a checkpoint can be loaded into."""
    count, neck = len(checkpoint.classes) or None, checkpoint.has_neck
    try:
        with torch.device("meta"):  # spares the time for random values, which the weights replace
            network = Network(backbone, classes=count, neck=neck)
        network = network.to_empty(device="cpu")
    except (NotImplementedError, RuntimeError):  # a constructor that computes with tensors, as RegNet's
        network = build_random(backbone, seed=0, classes=count, neck=neck)
    network.eval()
    for buffer in network.buffers():
        buffer.zero_()  # counters that a file may leave out
    return network
