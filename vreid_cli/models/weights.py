"""Networks with weights: the authors', ImageNet's, random ones, or those of a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vreid_cli.errors import UsageError, WeightsError
from vreid_cli.models.backbones import ONNX, ArchitectureNames, Backbone, find_backbone
from vreid_cli.models.checkpoint import (
    SAFETENSORS,
    Checkpoint,
    check_weights_file,
    load_weights,
    network_state,
    read_checkpoint,
    read_facts,
    save_checkpoint,
    weights_digest,
)
from vreid_cli.models.inputs import InputOptions
from vreid_cli.models.network import Network, build_random
from vreid_cli.models.onnx_file import ENDING as ONNX_ENDING
from vreid_cli.models.onnx_file import OnnxFile, read_onnx
from vreid_cli.models.onnx_session import require_onnx
from vreid_cli.models.options import DownloadOptions
from vreid_cli.models.sources import HUB, SOURCES, find_source, has_name, locate_hub
from vreid_cli.models.transforms import Transform
from vreid_cli.runtime.objects import as_path, require_local
from vreid_cli.runtime.progress import log
from vreid_cli.types.amounts import amount


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
        facts: What its file says about it and its training.
    """

    network: Network
    transform: Transform
    weights: str
    digest: str
    classes: tuple[str, ...] = ()
    dropped_classes: int | None = None
    warnings: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

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


#: A network that computes LRs: one that torch made here, or another program's.
AnyNetwork = LoadedNetwork | OnnxFile


def load_network(
    weights: str | Path = "veri",
    *,
    arch: str | None = None,
    seed: int = 0,
    downloads: DownloadOptions | None = None,
    input: InputOptions | None = None,
    output: str | None = None,
) -> AnyNetwork:
    """Build a network and load its weights; an ONNX file is taken as it is.

    Args:
        weights: A name of :data:`~vreid_cli.models.sources.SOURCES`; the path of a ``.safetensors``, ``.pth``,
            ``.pt`` or ``.onnx`` file, or of a folder as the Hugging Face hub has it; or ``hf-hub:owner/name``.
        arch: Key of :data:`~vreid_cli.models.backbones.BACKBONES`, or ``timm/NAME``; needed where neither the file nor
            the name of the weights says it.
        seed: Makes the weights of ``random``.
        downloads: Cache folder and addresses; None for the defaults.
        input: What the network expects, where it does not say so itself; None for what it says.
        output: The output of an ONNX file that has several.

    Raises:
        UsageError: The architecture is unknown or needed, these weights do not exist for it, or the input is not known.
        WeightsError: The weights are missing, damaged, or those of another architecture.

    Examples:
        >>> loaded = load_network("random", arch="resnet18")
        >>> loaded.dimension, loaded.transform.crop
        (512, 224)
        >>> loaded.warnings
        ('random weights: the features, and all that follows from them, mean nothing',)
        >>> load_network("small").architecture
        'mobilenet_v2'
    """
    weights, downloads, input = str(weights), downloads or DownloadOptions(), input or InputOptions()
    arch = arch or architecture_of(weights, downloads)
    if arch is None:
        if not has_name(weights) and not _path_of(weights).exists():
            check_weights_file(_path_of(weights))
        raise UsageError(f"weights {weights}: which architecture?", hint=f"name it: {', '.join(ArchitectureNames())}")
    source = find_source(weights, arch)
    if arch == ONNX:
        require_onnx(weights)  # before anything is downloaded
    backbone = None if arch == ONNX else find_backbone(arch)
    path = _path_of(weights)
    if source is not None and source.locate is not None:
        path = source.locate(backbone, downloads)
    elif weights.startswith(HUB):
        path = locate_hub(weights.removeprefix(HUB), downloads)
    label = weights if has_name(weights) else path.name
    if path.suffix.lower() == ONNX_ENDING:
        if backbone is not None:
            raise UsageError(f"{weights} holds its own architecture, and it is no {arch}", hint="leave out --arch")
        known = None if source is None else source.transform
        return read_onnx(path, weights=label, options=input, output=output, known=known)
    if backbone is None:
        raise UsageError(f"--arch {ONNX} is for ONNX files, and {weights} is none", hint="name another architecture")
    if source is not None and source.locate is None:
        network = build_random(backbone, seed=seed).eval()
        transform, digest = input.apply(backbone.transform), weights_digest(network)
        return LoadedNetwork(network, transform, label, digest, warnings=(source.warning,) if source.warning else ())
    return _load_checkpoint(path, backbone, label=label, options=input)


def _load_checkpoint(path: Path, backbone: Backbone, *, label: str, options: InputOptions) -> LoadedNetwork:
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
        log.info("the weights' classifier of %s is not needed and was dropped", amount(dropped, "class"))
    return LoadedNetwork(
        network,
        options.apply(checkpoint.transform or backbone.transform),
        weights=label,
        digest=weights_digest(network),
        classes=checkpoint.classes,
        dropped_classes=dropped,
        facts=checkpoint.facts,
    )


def require_torch_network(network: AnyNetwork, *, needed_by: str) -> LoadedNetwork:
    """The network, where it is one that torch made.

    Raises:
        UsageError: It is an ONNX file.
    """
    if isinstance(network, LoadedNetwork):
        return network
    raise UsageError(
        f"{needed_by}: {network.weights} is an ONNX file, which can only be run as it is",
        hint="give the weights that it was made from",
    )


def architecture_of(weights: str, downloads: DownloadOptions | None = None) -> str | None:
    """The architecture that the weights imply; None if they imply none.

    Args:
        weights: As :func:`load_network` takes them. Of files only ONNX and our own ``.safetensors`` name an
            architecture, and folders as the Hugging Face hub has them.
        downloads: For ``hf-hub:``, which is fetched to be looked at; None for the defaults.

    Raises:
        WeightsError: The file is missing or damaged, or names an unknown architecture.

    Examples:
        >>> architecture_of("veri"), architecture_of("small"), architecture_of("mine.onnx")
        ('densenet201', 'mobilenet_v2', 'onnx')
    """
    if source := SOURCES.get(weights):
        return source.backbones[0] if len(source.backbones) == 1 else None
    path = _path_of(weights)
    if weights.startswith(HUB):
        path = locate_hub(weights.removeprefix(HUB), downloads or DownloadOptions())
    if path.suffix.lower() == ONNX_ENDING:
        return ONNX
    if path.is_dir():
        return read_facts(path).architecture
    if path.suffix.lower() != SAFETENSORS:
        return None
    check_weights_file(path)
    return read_facts(path).architecture


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
            "the weights' classifier of %s was dropped; a new one of %d was made",
            amount(len(loaded.classes), "class"),
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


def _path_of(weights: str) -> Path:
    """The path that the name of a weights file is.

    Raises:
        UsageError: It is an address of an object store.
    """
    path = as_path(weights)
    require_local(path, "weights are read")
    return path
