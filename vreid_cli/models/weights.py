"""Where weights come from: the paper's authors, ImageNet, a seed, or a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vreid_cli.errors import UsageError, WeightsError
from vreid_cli.models.backbones import BACKBONES, Backbone, Network, build_random
from vreid_cli.models.checkpoint import (
    SAFETENSORS,
    Checkpoint,
    check_weights_file,
    load_trunk,
    named_architecture,
    read_checkpoint,
    read_facts,
    restore_network,
    weights_digest,
)
from vreid_cli.models.transforms import Transform
from vreid_cli.runtime.cache import cache_folder
from vreid_cli.runtime.downloads import Check, Download, fetch
from vreid_cli.types.features import RANDOM_WEIGHTS

#: The authors' fine-tuned DenseNet201 (576 training vehicles of VeRi), and the git blob id that verifies it.
VERI_URL = (
    "https://raw.githubusercontent.com/GeoTrouvetout/Vehicle_ReID/"
    "67b1fe4232d27aa5f1c28e8ff48a0535f55efc1c/data/cnn_weights/VeRI_densenet_ft50.pth"
)
VERI_BLOB = "0127c8070cdbbe42d31f6ff0b6933114395a2d89"
#: What ``--weights`` takes beside the path of a file.
NAMED_WEIGHTS = ("veri", "imagenet", RANDOM_WEIGHTS)
_CHUNK = 1 << 20


@dataclass(frozen=True)
class WeightsSource:
    """Where downloaded weights are kept and fetched from.

    Attributes:
        cache_dir: Folder; None for ``$VREID_CACHE_DIR`` or the user's cache folder.
        veri_url: Address of the authors' checkpoint, or of a mirror.
        veri_blob: Its git blob id.
        timeout: Seconds to wait for the server.
    """

    cache_dir: Path | None = None
    veri_url: str = VERI_URL
    veri_blob: str = VERI_BLOB
    timeout: float = 30.0

    @property
    def folder(self) -> Path:
        """The cache folder."""
        return self.cache_dir if self.cache_dir is not None else cache_folder()


@dataclass(frozen=True)
class LoadedNetwork:
    """A network ready to extract: weights in place, eval mode.

    Attributes:
        network: On the CPU.
        transform: The input that it wants.
        weights: ``veri``, ``imagenet``, ``random``, or the file's name.
        digest: SHA-256 of the tensors that make the LR.
        dropped_classes: Size of the classifier that the file held and that the LR does not need.
    """

    network: Network
    transform: Transform
    weights: str
    digest: str
    dropped_classes: int | None = None


def load_network(arch: str, weights: str, *, seed: int, source: WeightsSource) -> LoadedNetwork:
    """Build the architecture with these weights.

    Args:
        arch: Key of :data:`BACKBONES`.
        weights: ``veri``, ``imagenet``, ``random``, or the path of a file.
        seed: Makes the weights of ``random``.
        source: Cache and addresses.

    Raises:
        UsageError: ``veri`` with another architecture than densenet201.
        WeightsError: The weights cannot be had, are not what they should be, or do not fit.
    """
    backbone = BACKBONES[arch]
    if weights == RANDOM_WEIGHTS:
        network = build_random(backbone, seed=seed)
        return _ready(network, backbone.transform, weights=RANDOM_WEIGHTS, dropped=None)
    path, checkpoint = _read_for(backbone, weights, source=source)
    with torch.device("meta"):
        network = Network(backbone, neck=checkpoint.has_neck)
    network = network.to_empty(device="cpu")
    for buffer in network.buffers():
        buffer.zero_()  # counters that a file may leave out
    dropped = load_trunk(network, checkpoint.state, source=str(path))
    name = weights if weights in NAMED_WEIGHTS else path.name
    return _ready(network, checkpoint.transform or backbone.transform, weights=name, dropped=dropped)


@dataclass(frozen=True)
class TrainableNetwork:
    """A network ready to learn: a head for the vehicles on top of weights to start from.

    Attributes:
        network: On the CPU.
        transform: The input that the weights want.
        weights: ``veri``, ``imagenet``, ``random``, or the file's name.
        digest: SHA-256 of the tensors that make the LR, before anything is learned.
        kept_head: Whether the file's classifier is of the same vehicles and was kept.
        dropped_classes: Size of the classifier that the file held and that was dropped.
        dropped_neck: Whether the file held a neck that the recipe has not.
    """

    network: Network
    transform: Transform
    weights: str
    digest: str
    kept_head: bool = False
    dropped_classes: int | None = None
    dropped_neck: bool = False


def load_trainable(
    arch: str, weights: str, *, classes: Sequence[str], neck: bool, seed: int, source: WeightsSource
) -> TrainableNetwork:
    """Build the architecture with a head for these vehicles, on top of these weights.

    Args:
        arch: Key of :data:`BACKBONES`.
        weights: ``veri``, ``imagenet``, ``random``, or the path of a file.
        classes: Names of the vehicles. The head of a checkpoint of ours is kept where it is of the same ones.
        neck: Whether a batch normalisation stands between trunk and head.
        seed: Makes what the weights do not hold.
        source: Cache and addresses.

    Raises:
        UsageError: ``veri`` with another architecture than densenet201.
        WeightsError: The weights cannot be had, are not what they should be, or do not fit.
    """
    backbone = BACKBONES[arch]
    network = build_random(backbone, seed=seed, classes=len(classes), neck=neck)
    if weights == RANDOM_WEIGHTS:
        return TrainableNetwork(network, backbone.transform, RANDOM_WEIGHTS, weights_digest(network))
    path, checkpoint = _read_for(backbone, weights, source=source)
    known = _class_names(checkpoint) == list(classes) and checkpoint.has_neck == neck
    if known:
        restore_network(network, checkpoint.state, source=str(path))
    dropped = None if known else load_trunk(network, checkpoint.state, source=str(path))
    return TrainableNetwork(
        network,
        checkpoint.transform or backbone.transform,
        weights=weights if weights in ("veri", "imagenet") else path.name,
        digest=weights_digest(network),
        kept_head=known,
        dropped_classes=dropped,
        dropped_neck=checkpoint.has_neck and not neck,
    )


def _class_names(checkpoint: Checkpoint) -> list[str] | None:
    try:
        names = json.loads(checkpoint.facts["classes"])
    except (KeyError, ValueError):  # another program's file, or an older one that told their number only
        return None
    return names if isinstance(names, list) else None


def _read_for(backbone: Backbone, weights: str, *, source: WeightsSource) -> tuple[Path, Checkpoint]:
    """The file of the weights, and its content, which is not said to be of another architecture."""
    path = fetch_weights(backbone, weights, source=source)
    checkpoint = read_checkpoint(path)
    if checkpoint.architecture not in (None, backbone.name):
        raise WeightsError(
            f"{path} is for {checkpoint.architecture}, not for {backbone.name}",
            hint=f"use --arch {checkpoint.architecture}",
            file=path,
        )
    return path, checkpoint


def architecture_of(weights: str) -> str | None:
    """The architecture that a weights file names in its metadata; None where none is named.

    Args:
        weights: As :func:`load_network` takes it.

    Raises:
        WeightsError: The file is missing or damaged, or names an architecture that is none of ours.
    """
    path = Path(weights)
    if weights in NAMED_WEIGHTS or path.suffix.lower() != SAFETENSORS:
        return None
    check_weights_file(path)
    return named_architecture(read_facts(path), path)


def _ready(network: Network, transform: Transform, *, weights: str, dropped: int | None) -> LoadedNetwork:
    network.eval()
    return LoadedNetwork(network, transform, weights, weights_digest(network), dropped)


def fetch_weights(backbone: Backbone, weights: str, *, source: WeightsSource) -> Path:
    """The local file of ``veri`` or ``imagenet`` (downloaded and verified if need be), or the file named.

    Raises:
        UsageError: ``veri`` with another architecture than densenet201.
        WeightsError: The file is not there and cannot be downloaded, or is not the published one.
    """
    if weights == "veri":
        if backbone.name != "densenet201":
            raise UsageError(
                f"--weights veri: the authors published weights for densenet201 only, not for {backbone.name}",
                hint="use --weights imagenet, random, or a file of your own",
            )
        check = _BlobCheck(source.veri_blob)
        return _cached(source.folder / "VeRI_densenet_ft50.pth", source.veri_url, check=check, source=source)
    if weights == "imagenet":
        url = str(backbone.imagenet.url)
        name = url.rsplit("/", 1)[1]
        # torchvision's names end in the first digits of the file's SHA-256.
        check_start = _Sha256Check(name.rpartition("-")[2].partition(".")[0])
        return _cached(source.folder / name, url, check=check_start, source=source)
    return Path(weights)


@dataclass(frozen=True)
class _BlobCheck:
    """Compares with a git blob id: SHA-1 of ``blob``, the size, a zero byte and the content."""

    expected: str

    def __call__(self, path: Path) -> str | None:
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
        found = _hash_file(path, digest.update, digest.hexdigest)
        return None if found == self.expected else f"git blob id {found}, expected {self.expected}"


@dataclass(frozen=True)
class _Sha256Check:
    """Compares with the first digits of a SHA-256."""

    start: str

    def __call__(self, path: Path) -> str | None:
        digest = hashlib.sha256()
        found = _hash_file(path, digest.update, digest.hexdigest)
        return None if found.startswith(self.start) else f"SHA-256 {found}, expected {self.start}…"


def _hash_file(path: Path, update: Callable[[bytes], None], finish: Callable[[], str]) -> str:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            update(chunk)
    return finish()


def _cached(path: Path, url: str, *, check: Check, source: WeightsSource) -> Path:
    if path.is_file():
        if wrong := check(path):
            raise WeightsError(
                f"{path} is not the published file: {wrong}",
                hint="delete it, so that it is downloaded again; or pass it as --weights FILE if you mean it",
                file=path,
            )
        return path
    advice = (
        f"without a network: fetch that address elsewhere and put the file at {path}; "
        "or pass your own with --weights FILE, or --weights random to try things out"
    )
    fetch(Download(url, path, check=check, timeout=source.timeout, advice=advice))
    return path
