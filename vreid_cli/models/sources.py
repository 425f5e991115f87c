"""The table of named weights: what ``--weights`` takes beside the path of a file.

Importing it does not import torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vreid_cli.errors import UsageError, WeightsError
from vreid_cli.runtime.cache import cache_folder
from vreid_cli.types.features import MEANINGLESS, RANDOM_WEIGHTS

if TYPE_CHECKING:
    from vreid_cli.models.backbones import Backbone
    from vreid_cli.models.options import DownloadOptions

#: The authors' DenseNet201, fine-tuned on VeRi's 576 training vehicles, and the git blob id that verifies it.
VERI_URL = (
    "https://raw.githubusercontent.com/GeoTrouvetout/Vehicle_ReID/"
    "67b1fe4232d27aa5f1c28e8ff48a0535f55efc1c/data/cnn_weights/VeRI_densenet_ft50.pth"
)
VERI_BLOB = "0127c8070cdbbe42d31f6ff0b6933114395a2d89"


@dataclass(frozen=True)
class WeightsSource:
    """Weights that have a name.

    Attributes:
        name: Value of ``--weights``.
        help: What they are, for ``--help``.
        locate: Local file for a backbone, downloaded and verified if need be; None for weights made from the seed.
        backbones: Architectures that they exist for, and whose default they are; empty for all, as no default.
        warning: What every result that comes from them has to say; None for nothing.
    """

    name: str
    help: str
    locate: Callable[[Backbone, DownloadOptions], Path] | None = None
    backbones: tuple[str, ...] = ()
    warning: str | None = None


def default_weights(arch: str) -> str | None:
    """Name of the weights that an architecture has by default; None if they have to be named.

    Examples:
        >>> default_weights("densenet201"), default_weights("resnet18")
        ('veri', None)
    """
    return next((source.name for source in SOURCES.values() if arch in source.backbones), None)


def find_source(weights: str, arch: str) -> WeightsSource | None:
    """The entry of the table that a value of ``--weights`` names; None for a file.

    Raises:
        UsageError: These weights do not exist for the architecture.
    """
    source = SOURCES.get(weights)
    if source is not None and source.backbones and arch not in source.backbones:
        others = ", ".join(name for name, other in SOURCES.items() if not other.backbones)
        raise UsageError(
            f"--weights {weights}: they exist for {' and '.join(source.backbones)} only, not for {arch}",
            hint=f"use --weights {others}, or a file of your own",
        )
    return source


def _locate_veri(backbone: Backbone, downloads: DownloadOptions) -> Path:
    check = partial(_check_git_blob, expected=downloads.weights_blob or VERI_BLOB)
    return _cached(downloads.weights_url or VERI_URL, check, downloads, name="VeRI_densenet_ft50.pth")


def _locate_imagenet(backbone: Backbone, downloads: DownloadOptions) -> Path:
    url = backbone.find_imagenet()
    name = url.rpartition("/")[2]
    check = partial(_check_sha256, start=name.rpartition("-")[2].partition(".")[0])
    return _cached(url, check, downloads, name=name)


def _cached(url: str, check: Callable[[Path], str | None], downloads: DownloadOptions, *, name: str) -> Path:
    """The file in the cache folder, verified; downloaded if it is not there."""
    from vreid_cli.runtime.downloads import Download, fetch

    path = cache_folder(downloads.cache_dir) / name
    if not path.is_file():
        mirror = "try a mirror (--set model.weights_url=…); " if url in (downloads.weights_url, VERI_URL) else ""
        advice = (
            f"{mirror}without a network: fetch the file elsewhere and put it at {path}; "
            "or give your own with --weights FILE, or --weights random to try things out"
        )
        fetch(Download(url, path, check, timeout=downloads.download_timeout, advice=advice, error=WeightsError))
    elif wrong := check(path):
        raise WeightsError(
            f"{path} is not the published file: {wrong}",
            hint="delete it, so that it is downloaded again; or give it as --weights FILE if you mean it",
            file=path,
        )
    return path


def _check_git_blob(path: Path, *, expected: str) -> str | None:
    """What is wrong with a file whose git blob id is known: SHA-1 of ``blob``, the size, a zero byte, the content."""
    start = f"blob {path.stat().st_size}\0".encode()
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.sha1(start, usedforsecurity=False)).hexdigest()
    return None if found == expected else f"git blob id {found}, expected {expected}"


def _check_sha256(path: Path, *, start: str) -> str | None:
    """What is wrong with a file whose SHA-256 is known to begin so."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return None if found.startswith(start) else f"SHA-256 {found}, expected {start}…"


_ALL = (
    WeightsSource("veri", "those of the paper's authors", locate=_locate_veri, backbones=("densenet201",)),
    WeightsSource("imagenet", "torchvision's of ImageNet", locate=_locate_imagenet),
    WeightsSource(RANDOM_WEIGHTS, "untrained ones, made from the seed", warning=MEANINGLESS),
)

#: The named weights.
SOURCES: dict[str, WeightsSource] = {source.name: source for source in _ALL}
