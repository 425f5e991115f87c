"""Exported networks that are kept in the cache folder, so that each is exported once."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from vreid_cli.errors import ExportError
from vreid_cli.models.onnx import check_parity, write_onnx
from vreid_cli.models.onnx_session import OnnxNetwork
from vreid_cli.models.weights import LoadedNetwork
from vreid_cli.runtime.extras import NOT_INSTALLED, installed_version
from vreid_cli.runtime.progress import log

_FOLDER = "onnx"
#: Of the graph that we ask for: raised when the same network and exporter are to give another one.
_FORM = 1
_DIGITS = 16


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
