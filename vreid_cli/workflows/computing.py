"""How an extraction computes: back-end, precision and batch size, as asked for or as its features were begun."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch

from vreid_cli.config import Resolved, Settings
from vreid_cli.errors import ExportError, StoreError, UsageError
from vreid_cli.extraction.backends import (
    WORTH_MEASURING,
    Backend,
    Circumstances,
    CompiledBackend,
    OnnxBackend,
    TorchBackend,
    choose_backend,
    kept_gain,
    measure_gain,
)
from vreid_cli.extraction.device_decoding import require_device_decoding
from vreid_cli.extraction.forward import (
    SMALLEST_GPU_BATCH,
    Extractor,
    choose_batch_size,
    measure_batch_size,
)
from vreid_cli.extraction.options import BackendName, CompileMode, ExtractionOptions
from vreid_cli.models.onnx import has_onnx, require_onnx, require_onnx_device
from vreid_cli.models.onnx_cache import is_cached, runtime_version
from vreid_cli.models.weights import LoadedNetwork
from vreid_cli.runtime.cache import cache_folder
from vreid_cli.runtime.devices import check_precision
from vreid_cli.runtime.options import Precision
from vreid_cli.runtime.progress import log
from vreid_cli.store.features import PartFacts


@dataclass(frozen=True)
class Computing:
    """How features are computed.

    Attributes:
        extractor: What computes them.
        backend: ``torch`` or ``onnx``.
        reason: Why this one.
        precision: Of the arithmetic.
        batch_size: Images a batch.
        compile_mode: torch.compile's, or ``off``.
    """

    extractor: Extractor
    backend: BackendName
    reason: str
    precision: Precision
    batch_size: int
    compile_mode: CompileMode = "off"

    def describe(self) -> str:
        """Part of a line for people."""
        name = "ONNX Runtime" if self.backend == "onnx" else "torch"
        compiled = "" if self.compile_mode == "off" else f"compiled ({self.compile_mode}), "
        return f"by {name} ({self.reason}), {compiled}{self.precision}, batches of {self.batch_size}"

    def recorded(self) -> dict[str, str]:
        """Circumstances for the parts: the same ones make the same bits."""
        runtime = {"onnxruntime": runtime_version()} if self.backend == "onnx" else {}
        # Of the same back-end: it differs by rounding, as batches and versions do.
        compiled = {} if self.compile_mode == "off" else {"compile": self.compile_mode}
        return {
            "batch_size": str(self.batch_size),
            "device": str(self.extractor.device),
            "threads": str(torch.get_num_threads()),
            "torch": str(torch.__version__),
            **runtime,
            **compiled,
        }


def check_computing(resolved: Resolved, device: torch.device) -> None:
    """Refuse what was asked for and cannot be, before anything is loaded.

    Raises:
        UsageError: The device has no such arithmetic; ONNX Runtime has not, is not installed or never runs there;
            or the device decodes no JPEG.
        DeviceError: This build of ONNX Runtime cannot compute on the device, or that of torchvision not decode there.
    """
    asked = resolved.settings.extract
    check_precision(asked.precision, device, name=resolved.name("extract.precision"))
    if asked.decode == "device":
        require_device_decoding(device, name=f"{resolved.name('extract.decode')}=device")
    if asked.backend != "onnx":
        return
    name = f"{resolved.name('extract.backend')} onnx"
    if asked.compile != "off":
        raise UsageError(
            f"{name}: torch.compile has no part in what ONNX Runtime computes",
            hint=f"leave out {resolved.name('extract.compile')}, or use --backend torch",
        )
    if asked.precision != "fp32":
        raise UsageError(
            f"{name}: ONNX Runtime computes in fp32 only, not in {asked.precision}",
            hint=f"use --backend torch, or leave out {resolved.name('extract.precision')}",
        )
    require_onnx(name)
    require_onnx_device(device, name=name)


def settle_computing(
    settings: Settings, loaded: LoadedNetwork, *, device: torch.device, before: PartFacts | None, images: int
) -> Computing:
    """What was asked for; for what was left to us, what the features were begun with, else what is fastest.

    Args:
        settings: What was asked for.
        loaded: The network.
        device: Where to compute.
        before: A part of the run that is kept.
        images: How many there are.
    """
    asked = settings.extract
    batch_size: int | str = asked.batch_size
    if before is not None and batch_size == "auto" and before.recorded.get("device") == str(device):
        # Other batches differ by rounding; but what suits another device may not fit into the memory of this one.
        earlier = before.recorded.get("batch_size", "")
        batch_size = int(earlier) if earlier.isdecimal() else batch_size
    name, reason, backend = _settle_backend(settings, loaded, device=device, before=before, images=images)
    if batch_size == "auto" and device.type == "cuda" and name == "torch":
        plain = TorchBackend(loaded.network, device, precision=asked.precision)
        chosen = measure_batch_size(Extractor(loaded, device, batch_size=SMALLEST_GPU_BATCH, backend=plain))
    else:
        chosen = choose_batch_size(batch_size, loaded, device=device)
    extractor = Extractor(loaded, device, batch_size=chosen, backend=backend)
    return Computing(extractor, name, reason, asked.precision, chosen, asked.compile)


def _settle_backend(
    settings: Settings, loaded: LoadedNetwork, *, device: torch.device, before: PartFacts | None, images: int
) -> tuple[BackendName, str, Backend]:
    asked = settings.extract
    folder = cache_folder(settings.model.cache_dir)
    by_torch: Callable[[], Backend] = functools.partial(TorchBackend, loaded.network, device, precision=asked.precision)
    if asked.compile != "off":
        by_torch = functools.partial(
            CompiledBackend, loaded.network, device, mode=asked.compile, precision=asked.precision
        )
    by_onnx = functools.partial(OnnxBackend, loaded, device, folder=folder)
    name, reason = _name_backend(asked, before)
    if name is None:
        here = _circumstances(loaded, device, precision=asked.precision, images=images, folder=folder)
        measured = kept_gain(loaded, folder) if device.type == "cpu" else None
        name, reason = choose_backend(here, measured=measured)
        if name == "onnx":
            return _try_onnx(here, reason, by_torch=by_torch, by_onnx=by_onnx, folder=folder, measured=measured)
    return name, reason, by_onnx() if name == "onnx" else by_torch()


def _try_onnx(
    here: Circumstances,
    reason: str,
    *,
    by_torch: Callable[[], Backend],
    by_onnx: Callable[[], OnnxBackend],
    folder: Path,
    measured: float | None,
) -> tuple[BackendName, str, Backend]:
    """ONNX Runtime, which nobody asked for, unless it fails or long work shows that it is no faster."""
    backend = by_onnx()
    try:
        backend.prepare()
    except (ExportError, StoreError) as error:
        log.warning("%s", error.message)
        return "torch", "ONNX Runtime cannot be used", by_torch()
    if measured is None and here.images * here.area >= WORTH_MEASURING:
        plain = by_torch()
        if measure_gain(backend.loaded, plain, backend, folder=folder) <= 0:
            return "torch", "ONNX Runtime was measured to be no faster here", plain
        reason = "measured to be faster here"
    return "onnx", reason, backend


def _name_backend(asked: ExtractionOptions, before: PartFacts | None) -> tuple[BackendName | None, str]:
    """The back-end that was asked for or that made what is there; None where it is still to be chosen."""
    if asked.backend != "auto":
        return asked.backend, "as asked"
    if asked.compile != "off":
        return "torch", "torch.compile was asked for"
    made_by = None if before is None else before.identity.get("backend")
    known = next((name for name in get_args(BackendName) if name == made_by), None)
    return known, "as the features that are there"


def _circumstances(
    loaded: LoadedNetwork, device: torch.device, *, precision: Precision, images: int, folder: Path
) -> Circumstances:
    backbone = loaded.network.backbone
    return Circumstances(
        architecture=backbone.name,
        area=(loaded.transform.crop / backbone.transform.crop) ** 2,
        device=device.type,
        threads=torch.get_num_threads(),
        precision=precision,
        images=images,
        installed=has_onnx(),
        exported=is_cached(loaded, folder),
    )
