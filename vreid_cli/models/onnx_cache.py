"""Exported and quantised networks that are kept in the cache folder, so that each is made once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from vreid_cli.errors import ExportError, UsageError
from vreid_cli.models.onnx import check_parity, write_onnx
from vreid_cli.models.onnx_session import OnnxNetwork
from vreid_cli.models.quantised import QuantisationError, quantise
from vreid_cli.models.weights import LoadedNetwork
from vreid_cli.runtime.extras import NOT_INSTALLED, installed_version
from vreid_cli.runtime.progress import log
from vreid_cli.types.amounts import amount

_FOLDER = "onnx"
#: Of the graph that we ask for: raised when the same network and exporter are to give another one.
_FORM = 1
_DIGITS = 16
#: Of the way of quantising: raised when the same network and images are to give another one.
_INT8_FORM = 4
#: Images that a network is quantised by, others that its error is measured with, and the fewest of both together.
_QUANTISED_BY, _COMPARED, _FEWEST = 128, 32, 12
#: How many images are wanted.
INT8_IMAGES = _QUANTISED_BY + _COMPARED


def cached_path(loaded: LoadedNetwork, folder: Path) -> Path:
    """Where a network's export is kept; whatever may change the graph is in the name."""
    backbone, (height, width) = loaded.network.backbone.name, loaded.transform.size
    exporter = f"torch{installed_version('torch')}-onnxscript{installed_version('onnxscript')}-form{_FORM}"
    return folder / _FOLDER / f"{backbone}-{loaded.digest[:_DIGITS]}-{height}x{width}-{exporter}.onnx"


def cached_network(loaded: LoadedNetwork, folder: Path, *, device: torch.device) -> OnnxNetwork:
    """The network for ONNX Runtime, from the cache folder; exported and kept there if need be.

    Args:
        loaded: The network; on the CPU.
        folder: The cache folder.
        device: Where to compute.

    Raises:
        ExportError: torch cannot export the network, or ONNX Runtime computes something else.
        StoreError: The cache folder cannot be written to.
        UsageError, DeviceError: ONNX Runtime cannot compute on the device.
    """
    path = cached_path(loaded, folder)
    kept = _reopen(path, loaded) if path.is_file() else None
    if kept is None:
        log.info(
            "exporting %s to ONNX, once for these weights; it may take half a minute", loaded.network.backbone.name
        )
        started = time.monotonic()
        errors = write_onnx(path, loaded, facts={"form": str(_FORM)})
        found = ", ".join(f"{error:.0e} at batch {batch}" for batch, error in errors.items())
        log.info(
            "exported in %.0f s; relative error against torch %s; kept as %s", time.monotonic() - started, found, path
        )
    return kept if kept is not None and device.type == "cpu" else OnnxNetwork(path, device=device)


@dataclass(frozen=True)
class Quantised:
    """A network in int8.

    Attributes:
        path: Its file in the cache folder.
        digest: Of the weights, of the images that it was quantised by, and of the way in which it was.
        error: What int8 changes.
    """

    path: Path
    digest: str
    error: QuantisationError


def cached_quantised(
    loaded: LoadedNetwork, folder: Path, *, known: str | None, sample: Callable[[], torch.Tensor]
) -> Quantised:
    """The network in int8 from the cache folder; quantised and kept there if need be.

    Args:
        loaded: The network; on the CPU.
        folder: The cache folder.
        known: Digest of the one that made the features that are there; it is taken if it is still kept.
        sample: Gives pixels (N, 3, H, W) uint8 of :data:`INT8_IMAGES` images, or of all, in random order.

    Raises:
        UsageError: There are too few images.
        ExportError, StoreError: As for :func:`cached_network`.
    """
    exact = cached_path(loaded, folder).absolute()
    if known and (kept := _reopen_quantised(exact, known)):
        return kept
    pixels = sample()
    if len(pixels) < _FEWEST:
        raise UsageError(
            f"--precision int8 needs {_FEWEST} images or more to quantise by, and there are {len(pixels)}",
            hint="use --precision fp32, which needs none",
        )
    narrow = not _has_vnni()
    content = hashlib.sha256(f"{loaded.digest} {_INT8_FORM} {narrow} {runtime_version()}".encode())
    content.update(pixels.numpy().tobytes())
    digest = content.hexdigest()[:_DIGITS]
    if kept := _reopen_quantised(exact, digest):
        return kept
    compared = min(_COMPARED, len(pixels) // 4)
    images = loaded.transform.normalise(pixels)
    cached_network(loaded, folder, device=torch.device("cpu"))
    by = amount(len(pixels) - compared, "image")
    log.info("quantising %s by %s; it may take a minute", loaded.network.backbone.name, by)
    path = _int8_path(exact, digest)
    error = quantise(
        exact, path, images[compared:], compared=images[:compared], narrow=narrow, facts={"quantised_by": digest}
    )
    return Quantised(path, digest, error)


def _int8_path(exact: Path, digest: str) -> Path:
    return exact.with_name(f"{exact.stem}-int8-{digest}.onnx")


def _reopen_quantised(exact: Path, digest: str) -> Quantised | None:
    """A kept file; None where there is none, or where it is damaged."""
    path = _int8_path(exact, digest)
    if not path.is_file():
        return None
    try:
        return Quantised(path, digest, QuantisationError.from_facts(OnnxNetwork(path).facts))
    except (ExportError, KeyError, ValueError):
        log.warning("%s is damaged; it is made again", path)
        return None


def _has_vnni() -> bool:
    """Whether the chip is known to add int8 products in 32 bits; where nothing says so, 7 bits are safe."""
    cpus = Path("/proc/cpuinfo")
    return cpus.is_file() and "vnni" in cpus.read_text(encoding="utf-8", errors="replace")


def _reopen(path: Path, loaded: LoadedNetwork) -> OnnxNetwork | None:
    """A kept file on the CPU; None where it is not of these weights or computes one image otherwise than torch."""
    try:
        kept = OnnxNetwork(path)
        if kept.facts.get("weights_digest") != loaded.digest:
            raise ExportError(f"{path} is of other weights", file=path)
        check_parity(kept, loaded, name=path, batches=(1,))
    except ExportError as error:
        log.warning("%s; it is made again", error.message)
        return None
    return kept


def runtime_version() -> str:
    """The version of ONNX Runtime, whichever of its builds is installed; ``none`` where there is none."""
    found = (installed_version(package) for package in ("onnxruntime", "onnxruntime-gpu"))
    return next((number for number in found if number != NOT_INSTALLED), NOT_INSTALLED)
