"""The table of named weights: what ``--weights`` takes beside the path of a file.

Importing it does not import torch.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vreid_cli.errors import UsageError, WeightsError, first_line
from vreid_cli.models.backbones import ONNX
from vreid_cli.models.transforms import Transform
from vreid_cli.runtime.cache import cache_folder
from vreid_cli.runtime.extras import require_extra
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
#: The network that ships with vreid: a folder in the form of the Hugging Face hub.
SMALL_FOLDER = Path(__file__).parent / "small"
SMALL_SHA256 = "aabf328ee5f51a498fe3c2717cd06ce11c681a00d545e713687980244ff452c9"
#: OpenVINO's open model, as models/public/vehicle-reid-0001/model.yml of openvinotoolkit/open_model_zoo gives it.
VEHICLE_REID_URL = (
    "https://storage.openvinotoolkit.org/repositories/open_model_zoo/public/2022.1/vehicle-reid-0001/"
    "osnet_ain_x1_0_vehicle_reid.onnx"
)
VEHICLE_REID_SHA384 = "0515ce72f653c39780d5b87dfed7255d396dd2b1e8b6e91fbaacdfad1da189166343157273c02f3b0fede3050ef7abb7"
#: Its README.md and accuracy-check.yml: RGB from 0 to 255, the whole image resized by PIL.
_VEHICLE_REID_INPUT = Transform(None, 208, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))
#: What the weights of a repository of the Hugging Face hub are called: this and ``owner/name``.
HUB = "hf-hub:"
#: The files of such a repository, as timm and vreid write them.
HUB_WEIGHTS, HUB_CONFIG = "model.safetensors", "config.json"


@dataclass(frozen=True)
class WeightsSource:
    """Weights that have a name.

    Attributes:
        name: Value of ``--weights``.
        help: What they are, for ``--help``.
        locate: Local file or folder for a backbone, downloaded and verified if need be; None for weights made from
            the seed.
        backbones: Architectures that they exist for; empty for all.
        default: Whether these architectures take them where none are named.
        transform: Input that an ONNX file expects which does not say so.
        warning: What every result that comes from them has to say; None for nothing.
    """

    name: str
    help: str
    locate: Callable[[Backbone | None, DownloadOptions], Path] | None = None
    backbones: tuple[str, ...] = ()
    default: bool = False
    transform: Transform | None = None
    warning: str | None = None


def default_weights(arch: str) -> str | None:
    """Name of the weights that an architecture has by default; None if they have to be named.

    Examples:
        >>> default_weights("densenet201"), default_weights("resnet18")
        ('veri', None)
    """
    return next((source.name for source in SOURCES.values() if source.default and arch in source.backbones), None)


def require_default_weights(arch: str) -> str:
    """Name of the weights that an architecture has by default.

    Raises:
        UsageError: They have to be named.
    """
    if default := default_weights(arch):
        return default
    named = [source.name for source in SOURCES.values() if not source.backbones]
    raise UsageError(
        f"--arch {arch}: which weights?",
        hint=f"give --weights {', '.join(named)}, or a file; only some networks have weights of their own",
    )


def has_name(weights: str) -> bool:
    """Whether these weights are known by name, and no path of a file.

    Examples:
        >>> has_name("small"), has_name("hf-hub:owner/name"), has_name("mine.safetensors")
        (True, True, False)
    """
    return weights in SOURCES or weights.startswith(HUB)


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


def _locate_small(backbone: Backbone | None, downloads: DownloadOptions) -> Path:
    path = SMALL_FOLDER / HUB_WEIGHTS
    wrong = _check_digest(path, "sha256", expected=SMALL_SHA256) if path.is_file() else "it is not there"
    if wrong:
        raise WeightsError(
            f"the network that ships with vreid is damaged, {path}: {wrong}", hint="install vreid again", file=path
        )
    return SMALL_FOLDER


def _locate_veri(backbone: Backbone | None, downloads: DownloadOptions) -> Path:
    check = partial(_check_git_blob, expected=downloads.weights_blob or VERI_BLOB)
    return _cached(downloads.weights_url or VERI_URL, check, downloads, name="VeRI_densenet_ft50.pth")


def _locate_vehicle_reid(backbone: Backbone | None, downloads: DownloadOptions) -> Path:
    check = partial(_check_digest, name="sha384", expected=VEHICLE_REID_SHA384)
    return _cached(VEHICLE_REID_URL, check, downloads, name="osnet_ain_x1_0_vehicle_reid.onnx")


def _locate_imagenet(backbone: Backbone | None, downloads: DownloadOptions) -> Path:
    assert backbone is not None  # only networks that are made here have them
    if backbone.hub is not None:
        return locate_hub(backbone.hub, downloads, arch=backbone.name)
    url = backbone.find_imagenet()
    name = url.rpartition("/")[2]
    check = partial(_check_digest, name="sha256", expected=name.rpartition("-")[2].partition(".")[0])
    return _cached(url, check, downloads, name=name)


def locate_hub(repository: str, downloads: DownloadOptions, *, arch: str | None = None) -> Path:
    """Folder with the files of a repository of the Hugging Face hub, in that library's own cache.

    Args:
        repository: ``owner/name``.
        downloads: How long to wait.
        arch: The architecture, where the repository does not say it.

    Raises:
        MissingExtraError: The extra ``hub`` is not installed.
        UsageError: This is no name of a repository.
        WeightsError: The repository cannot be reached, or holds no such files.
    """
    require_extra("hub", ["huggingface_hub"], needed_by=f"{HUB}{repository}")
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    from vreid_cli.runtime.progress import log

    name = f"--arch {arch}, " if arch else ""
    fetch = partial(huggingface_hub.hf_hub_download, repository, etag_timeout=downloads.download_timeout)
    # It would tell each of its attempts.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    paths = []
    try:
        for file in (HUB_WEIGHTS, HUB_CONFIG):
            try:
                paths.append(Path(fetch(file, local_files_only=True)))  # once fetched, a network stays as it is
            except LocalEntryNotFoundError:
                log.info("fetching %s of %s%s", file, HUB, repository)
                paths.append(Path(fetch(file)))
    except HFValidationError as error:
        raise UsageError(f"{HUB}{repository}: {first_line(error)}", hint=f"as in {HUB}owner/name") from None
    except Exception as error:  # noqa: BLE001 - its own errors, httpx's and the system's have no common base
        wanted = f"https://huggingface.co/{repository}/resolve/main/{HUB_WEIGHTS}"
        raise WeightsError(
            f"{HUB}{repository} cannot be fetched: {first_line(error)}",
            hint=f"without a network: --weights small needs none; or fetch {wanted} and {HUB_CONFIG} beside it "
            f"elsewhere into one folder, and give {name}--weights FOLDER",
            file=repository,
        ) from None
    return paths[0].parent


def _cached(url: str, check: Callable[[Path], str | None], downloads: DownloadOptions, *, name: str) -> Path:
    """The file in the cache folder, verified; downloaded if it is not there."""
    from vreid_cli.runtime.downloads import Download, fetch

    path = cache_folder(downloads.cache_dir) / name
    if not path.is_file():
        mirror = "or try a mirror (--set model.weights_url=…); " if url in (downloads.weights_url, VERI_URL) else ""
        advice = (
            "without a network: --weights small ships with vreid and needs none; "
            f"{mirror}or fetch the file elsewhere and put it at {path}; or give your own with --weights FILE"
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


def _check_digest(path: Path, name: str, *, expected: str) -> str | None:
    """What is wrong with a file whose SHA-256 or SHA-384 is known, or its first digits."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, name).hexdigest()
    return None if found.startswith(expected) else f"{name.upper()} {found}, expected {expected}"


_ALL = (
    WeightsSource(
        "small",
        "the network that ships with vreid, for a first look",
        locate=_locate_small,
        backbones=("mobilenet_v2",),
        default=True,
    ),
    WeightsSource(
        "veri", "those of the paper's authors", locate=_locate_veri, backbones=("densenet201",), default=True
    ),
    WeightsSource(
        "vehicle-reid-0001",
        "OpenVINO's, strong on VeRi",
        locate=_locate_vehicle_reid,
        backbones=(ONNX,),
        transform=_VEHICLE_REID_INPUT,
    ),
    WeightsSource("imagenet", "general-purpose ones, to train from", locate=_locate_imagenet),
    WeightsSource(RANDOM_WEIGHTS, "untrained ones, made from the seed", warning=MEANINGLESS),
)

#: The named weights.
SOURCES: dict[str, WeightsSource] = {source.name: source for source in _ALL}
