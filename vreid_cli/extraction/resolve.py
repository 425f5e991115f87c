"""How LRs are computed: what was asked for, checked, and every choice that was left to us made."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch

from vreid_cli.errors import ExportError, StoreError, UsageError
from vreid_cli.extraction.inference import Inference, InferenceConfig
from vreid_cli.extraction.options import BackendName, ExtractionOptions
from vreid_cli.models.onnx_cache import Quantised, cached_path, cached_quantised
from vreid_cli.models.onnx_file import OnnxFile
from vreid_cli.models.onnx_session import OnnxNetwork, has_onnx, require_onnx, require_onnx_device
from vreid_cli.models.weights import AnyNetwork, LoadedNetwork
from vreid_cli.runtime.cache import cache_folder
from vreid_cli.runtime.devices import check_precision
from vreid_cli.runtime.options import InferencePrecision
from vreid_cli.runtime.progress import log
from vreid_cli.store.parts import PartFacts
from vreid_cli.types.amounts import amount

#: Images from which on ``auto`` exports a network to ONNX.
WORTH_EXPORTING = 2_000
#: Pairs of batches that int8 is measured by, and how much faster it has to be to pay for what it changes.
_ROUNDS, _WORTH_INT8 = 3, 1.1
#: Images a batch, by type of the device. DenseNet201 runs fastest on a CPU at 8: more of them leave the caches.
_BATCH = {"cpu": 8, "mps": 32, "cuda": 128}


def check_inference(
    options: ExtractionOptions, device: torch.device, *, name: Callable[[str], str] = lambda field: f"extract.{field}"
) -> None:
    """Refuse what was asked for and cannot be, before anything is loaded.

    Args:
        options: What was asked for.
        device: Where to compute.
        name: How messages call a field of the options.

    Raises:
        UsageError: The device has no such arithmetic; ONNX Runtime has not, or never runs there.
        MissingExtraError: ONNX Runtime is not installed.
        DeviceError: This build of ONNX Runtime cannot compute on the device.
    """
    check_precision(options.precision, device, name=name("precision"))
    if options.precision == "int8":
        if options.backend == "torch":
            raise UsageError(
                f"{name('backend')} torch: only ONNX Runtime computes in int8",
                hint=f"leave out {name('backend')}, or use {name('precision')} fp32",
            )
        require_onnx(f"{name('precision')} int8")
        return
    if options.backend != "onnx":
        return
    asked = f"{name('backend')} onnx"
    if options.precision != "fp32":
        raise UsageError(
            f"{asked}: ONNX Runtime computes in fp32 or int8, not in {options.precision}",
            hint=f"use --backend torch, or leave out {name('precision')}",
        )
    require_onnx(asked)
    require_onnx_device(device, name=asked)


def resolve_inference(
    loaded: AnyNetwork,
    options: ExtractionOptions,
    *,
    device: torch.device,
    images: int,
    earlier: PartFacts | None = None,
    cache_dir: Path | None = None,
    sample: Callable[[], torch.Tensor] | None = None,
) -> Inference:
    """What was asked for; for what is ``auto``, what made the features that are there, else what is fastest.

    On a CPU that is ONNX Runtime where it is installed and an export is kept or there are 2,000 images or more;
    else torch.

    Args:
        loaded: The network.
        options: What was asked for.
        device: Where to compute.
        images: How many there are.
        earlier: What a part that is there already says about itself.
        cache_dir: Where exports to ONNX are kept; None for the user's cache folder.
        sample: Gives pixels (N, 3, H, W) uint8 of :data:`INT8_IMAGES` of the images, or of all, in random order:
            int8 is quantised by them. None where images cannot be had before.

    Raises:
        UsageError: The network is an ONNX file, and torch or another precision was asked for; there are too few
            images for int8.
    """
    folder = cache_folder(cache_dir)
    check_network(loaded, options, device)
    if isinstance(loaded, OnnxFile):
        batch_size = _choose_batch_size(options, device, earlier)
        config = InferenceConfig(device, "onnx", "the network is an ONNX file", options.precision, batch_size)
        return Inference(loaded, config, cache_dir=folder)
    if options.precision == "int8":
        return _in_int8(loaded, options, folder=folder, earlier=earlier, sample=sample)
    known = _known_backend(options, earlier)
    exported = device.type == "cpu" and cached_path(loaded, folder).is_file()
    backend, reason = known or choose_backend(
        device.type, options.precision, images=images, installed=has_onnx(), exported=exported
    )
    batch_size = _choose_batch_size(options, device, earlier)
    config = InferenceConfig(device, backend, reason, options.precision, batch_size)
    inference = Inference(loaded, config, cache_dir=folder)
    if known is None and backend == "onnx":
        try:
            inference.prepare()
        except (ExportError, StoreError) as error:  # nobody asked for it
            log.warning("%s", error.message)
            config = replace(config, backend="torch", reason="ONNX Runtime cannot be used")
            return Inference(loaded, config, cache_dir=folder)
    return inference


def _in_int8(
    loaded: LoadedNetwork,
    options: ExtractionOptions,
    *,
    folder: Path,
    earlier: PartFacts | None,
    sample: Callable[[], torch.Tensor] | None,
) -> Inference:
    """The network quantised by images of the run, or the one that made what is there; says what that changes."""
    if sample is None:
        raise UsageError(
            "int8 has to see images before it computes, and these come one after the other", hint="use fp32 or bf16"
        )
    known = None if earlier is None else earlier.identity.get("quantised_by")
    quantised = cached_quantised(loaded, folder, known=known, sample=sample)
    log.info("%s", quantised.error.describe())
    device = torch.device("cpu")
    batch_size = _choose_batch_size(options, device, earlier)
    if earlier is None:
        _say_speed(loaded, quantised, folder, batch_size)
    config = InferenceConfig(device, "onnx", "only it computes in int8", "int8", batch_size)
    return Inference(loaded, config, cache_dir=folder, quantised=quantised)


def _say_speed(loaded: LoadedNetwork, quantised: Quantised, folder: Path, batch_size: int) -> None:
    """Measure on this chip whether int8 pays, both sides in turns."""
    exact = cached_path(loaded, folder)
    networks = [OnnxNetwork(path) for path in (exact, quantised.path) if path.is_file()]
    if len(networks) < 2:  # the export was cleared away, and only the speed needs it
        return
    images = torch.rand(batch_size, 3, *loaded.transform.size, generator=torch.Generator().manual_seed(0))
    seconds: list[list[float]] = [[], []]
    for _ in range(_ROUNDS + 1):
        for network, own in zip(networks, seconds, strict=True):
            started = time.perf_counter()
            network.latent(images)
            own.append(time.perf_counter() - started)
    # The first pass allocates.
    gain = statistics.median(one / other for one, other in list(zip(*seconds, strict=True))[1:])
    if gain < _WORTH_INT8:
        log.warning("int8 does not pay on this chip: %.2f x as fast as fp32, which is exact", gain)
    else:
        log.info("int8 is %.1f x as fast as fp32 on this chip", gain)


def check_network(loaded: AnyNetwork, options: ExtractionOptions, device: torch.device) -> None:
    """Refuse what cannot be asked of this network.

    Raises:
        UsageError: It is an ONNX file, and torch or another precision was asked for.
        DeviceError: This build of ONNX Runtime cannot compute on the device.
    """
    if not isinstance(loaded, OnnxFile):
        return
    if options.backend == "torch" or options.precision != "fp32":
        asked = "--backend torch" if options.backend == "torch" else f"--precision {options.precision}"
        raise UsageError(
            f"{asked}: {loaded.weights} is an ONNX file, which ONNX Runtime computes as it is, in fp32",
            hint=f"leave out {asked}",
        )
    require_onnx_device(device, name=loaded.weights)


def choose_backend(
    device: str, precision: InferencePrecision, *, images: int, installed: bool, exported: bool
) -> tuple[BackendName, str]:
    """The back-end for features that do not exist yet, and why.

    Args:
        device: Type of the device.
        precision: Of the arithmetic.
        images: How many there are.
        installed: Whether the extra ``onnx`` is there.
        exported: Whether an export of the network is kept.

    Example:
        >>> choose_backend("cpu", "fp32", images=2_000, installed=True, exported=False)
        ('onnx', '2,000 images repay its export')
    """
    if device != "cpu":
        return "torch", f"always on {device}"
    if precision != "fp32":
        return "torch", f"ONNX Runtime computes in fp32, not {precision}"
    if not exported and images < WORTH_EXPORTING:
        return "torch", f"{amount(images, 'image does', 'images do')} not repay an export to ONNX"
    if not installed:
        return "torch", "ONNX Runtime may be faster, but the extra onnx is not installed"
    return "onnx", "its export is kept" if exported else f"{amount(images, 'image repays', 'images repay')} its export"


def _known_backend(options: ExtractionOptions, earlier: PartFacts | None) -> tuple[BackendName, str] | None:
    """The back-end that was asked for or that made what is there; None where it is still to be chosen."""
    if options.backend != "auto":
        return options.backend, "as asked"
    made_by = None if earlier is None else earlier.identity.get("backend")
    names: tuple[BackendName, ...] = get_args(BackendName)
    return next(((name, "as the features that are there") for name in names if name == made_by), None)


def _choose_batch_size(options: ExtractionOptions, device: torch.device, earlier: PartFacts | None) -> int:
    if options.batch_size != "auto":
        return options.batch_size
    # The numbers of GPUs do not matter.
    if earlier is not None and earlier.recorded.get("device", "").partition(":")[0] == device.type:
        # Other batches differ by rounding; but what suits another device may not fit into the memory of this one.
        found = earlier.recorded.get("batch_size", "")
        if found.isdecimal():
            return int(found)
    return _BATCH[device.type]
