"""What computes the forward pass, torch or ONNX Runtime, and which of them an extraction takes."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from vreid_cli.errors import ExportError
from vreid_cli.extraction.options import BackendName, CompileMode
from vreid_cli.models.network import Network, pool_in_float32
from vreid_cli.models.onnx import (
    PARITY_TOLERANCE,
    OnnxNetwork,
    relative_error,
    require_onnx,
    require_onnx_device,
)
from vreid_cli.models.onnx_cache import cached_network, runtime_version
from vreid_cli.models.weights import LoadedNetwork
from vreid_cli.runtime.devices import AUTOCAST, arithmetic
from vreid_cli.runtime.measured import keep_measured, machine, read_measured
from vreid_cli.runtime.options import Precision
from vreid_cli.runtime.progress import log


class Backend(Protocol):
    """Computes LRs.

    Attributes:
        own_threads: Whether it computes on threads that are not torch's.
    """

    own_threads: bool

    def prepare(self) -> None:
        """Get ready, where that takes long: called once there is something to compute.

        Raises:
            VreidError: The back-end cannot compute this network here.
        """

    def latent(self, images: torch.Tensor) -> torch.Tensor:
        """LRs (B, D) of normalised float32 images (B, 3, S, S), both on the device.

        Raises:
            MemoryError, RuntimeError: The memory of the device does not suffice for so many; torch only says so.
        """


class TorchBackend:
    """torch itself; the network is moved to the device, channels last.

    Args:
        network: In eval mode.
        device: Where to compute.
        precision: Of the arithmetic; the device must have it.
    """

    own_threads = False

    def __init__(self, network: Network, device: torch.device, *, precision: Precision = "fp32") -> None:
        self._network = network.to(device).to(memory_format=torch.channels_last).eval()
        self._device = device
        self._precision = precision
        if precision in AUTOCAST:
            pool_in_float32(self._network)
        # On a GPU, and in other precisions, nobody has measured whether the rewritten network pays.
        on_cpu = device.type == "cpu" and precision == "fp32"
        self._streamlined = self._network.streamlined() if on_cpu else None

    def prepare(self) -> None:
        """Nothing is left to do."""

    def latent(self, images: torch.Tensor) -> torch.Tensor:
        """See :class:`Backend`."""
        with arithmetic(self._precision, self._device):
            latent = self._streamlined or self._network.latent
            return latent(images.contiguous(memory_format=torch.channels_last))


class CompiledBackend:
    """torch.compile's form of the network: minutes to begin with, then faster; on a GPU it can record CUDA graphs.

    Args:
        network: In eval mode.
        device: Where to compute.
        mode: torch.compile's.
        precision: Of the arithmetic; the device must have it.
    """

    own_threads = False

    def __init__(
        self, network: Network, device: torch.device, *, mode: CompileMode, precision: Precision = "fp32"
    ) -> None:
        self._plain = TorchBackend(network, device, precision=precision)
        # The network alone: settings of the arithmetic are changed around it, which no compiler follows.
        self._compiled = torch.compile(network.latent, mode=mode, dynamic=False)
        self._device = device
        self._precision = precision
        self._size = 0
        self._checked = False

    def prepare(self) -> None:
        """Nothing yet: what is compiled depends on the size of the batches."""

    def latent(self, images: torch.Tensor) -> torch.Tensor:
        """See :class:`Backend`.

        Raises:
            ExportError: torch cannot compile the network here, or what it makes computes something else.
        """
        # Each size of a batch would be compiled anew: the last batch of a part is filled up instead.
        self._size = max(self._size, len(images))
        missing = images.new_zeros(self._size - len(images), *images.shape[1:])
        filled = torch.cat([images, missing]).contiguous(memory_format=torch.channels_last)
        try:
            with arithmetic(self._precision, self._device):
                # A copy: CUDA graphs write the next result to the same place.
                latent = self._compiled(filled)[: len(images)].clone()
        except (MemoryError, RuntimeError) as error:
            self._size = 0  # too little memory: the next batches will be smaller
            if not _is_compilers(error):
                raise
            raise ExportError(
                f"torch.compile cannot compile the network for {self._device}: {_reason(error)}",
                hint="it needs a C++ compiler on a CPU and Triton on a GPU; leave out --set extract.compile",
            ) from error
        if not self._checked:
            self._check(latent, self._plain.latent(images))
        return latent

    def _check(self, found: torch.Tensor, expected: torch.Tensor) -> None:
        error = relative_error(found, expected)
        log.info("torch.compile: relative error %.0e against the network as it is", error)
        # In narrower precisions compiled code rounds less often: there the difference is only told.
        if self._precision == "fp32" and not error <= PARITY_TOLERANCE:
            raise ExportError(
                f"torch.compile's form of the network computes something else: relative error {error:.1e}, "
                f"allowed {PARITY_TOLERANCE:.0e}",
                hint="leave out --set extract.compile, or try another version of torch",
            )
        self._checked = True


def _is_compilers(error: Exception) -> bool:
    # Dozens of classes without a public base.
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))


def _reason(error: Exception) -> str:
    # The first line says whose error it is, the second what it is.
    return " ".join(line for line in str(error).splitlines()[:2] if line.strip()) or type(error).__name__


class OnnxBackend:
    """ONNX Runtime, from an export that is kept in the cache folder.

    Args:
        loaded: The network; on the CPU.
        device: Where to compute.
        folder: The cache folder.
    """

    own_threads = True

    def __init__(self, loaded: LoadedNetwork, device: torch.device, *, folder: Path) -> None:
        self.loaded = loaded
        self._device = device
        self._folder = folder
        self._network: OnnxNetwork | None = None

    def prepare(self) -> None:
        """Export the network if no sound export is kept, and load it.

        Raises:
            UsageError, DeviceError: ONNX Runtime is not installed, or not for this device.
            ExportError: torch cannot export the network, or ONNX Runtime computes something else.
            StoreError: The cache folder cannot be written to.
        """
        self._open()

    def latent(self, images: torch.Tensor) -> torch.Tensor:
        """See :class:`Backend`."""
        return self._open().latent(images)

    def _open(self) -> OnnxNetwork:
        if self._network is None:
            require_onnx("computing by ONNX Runtime")
            require_onnx_device(self._device, name="computing by ONNX Runtime")
            self._network = cached_network(self.loaded, self._folder, device=self._device)
        return self._network


@dataclass(frozen=True)
class Gain:
    """What ONNX Runtime costs and may save on a CPU with one architecture, at its usual input.

    Attributes:
        export_seconds: To export it, compare it with torch and load it.
        saved: Core-seconds that it may save an image, against torch at batch 8.
    """

    export_seconds: float
    saved: float


#: Whether it is worth trying; where the work is long, it is then measured on the spot. From
#: tests/benchmarks/extraction.py --gains on an AMD EPYC (Zen 4), torch 2.15 and ONNX Runtime 1.32, but for DenseNet201,
#: with which the two are equally fast there and ONNX Runtime leads on chips with wider units.
GAINS = {
    "densenet201": Gain(18, 0.010),
    "resnet18": Gain(3, 0.003),
    "alexnet": Gain(3.5, 0.004),
    "vgg16": Gain(12, 0.05),
    "inception_v3": Gain(9, 0.013),
}

#: In the cache folder.
_MEASURED = "backends.json"
#: Images of the usual size from which on a few seconds of measuring do not matter.
WORTH_MEASURING = 1000
_TRIALS = 3


def kept_gain(loaded: LoadedNetwork, folder: Path) -> float | None:
    """Core-seconds an image that ONNX Runtime was measured to save here; None where that was not measured yet."""
    found = read_measured(folder / _MEASURED).get(_trial(loaded))
    return float(found) if isinstance(found, int | float) else None


def measure_gain(loaded: LoadedNetwork, by_torch: Backend, by_onnx: Backend, *, folder: Path) -> float:
    """Measure what :func:`kept_gain` gives, and keep it.

    Args:
        loaded: The network of both.
        by_torch: On the CPU.
        by_onnx: On the CPU, prepared.
        folder: The cache folder.
    """
    side = loaded.transform.crop
    images = torch.randn(8, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for backend in (by_torch, by_onnx):
            backend.latent(images)
        # In turns, so that other programs disturb both alike.
        trials = [(_seconds(by_torch, images), _seconds(by_onnx, images)) for _ in range(_TRIALS)]
    torch_seconds = statistics.median(one for one, _ in trials) / len(images)
    onnx_seconds = statistics.median(other for _, other in trials) / len(images)
    log.info("measured here: torch %.1f images per second, ONNX Runtime %.1f", 1 / torch_seconds, 1 / onnx_seconds)
    saved = torch.get_num_threads() * (torch_seconds - onnx_seconds)
    keep_measured(folder / _MEASURED, {**read_measured(folder / _MEASURED), _trial(loaded): saved})
    return saved


def _seconds(backend: Backend, images: torch.Tensor) -> float:
    started = time.perf_counter()
    backend.latent(images)
    return time.perf_counter() - started


def _trial(loaded: LoadedNetwork) -> str:
    """What the outcome depends on."""
    backbone = loaded.network.backbone.name
    return f"{backbone} {loaded.transform.crop}, {machine()}, onnxruntime {runtime_version()}"


@dataclass(frozen=True)
class Circumstances:
    """What the choice of a back-end depends on, where none was asked for.

    Attributes:
        architecture: Key of :data:`GAINS`.
        area: Pixels of the input, in parts of the architecture's usual ones.
        device: Type of the device.
        threads: Threads that compute.
        precision: Of the arithmetic.
        images: How many are to be computed.
        installed: Whether the extra ``onnx`` is there.
        exported: Whether an export is kept already.
    """

    architecture: str
    area: float
    device: str
    threads: int
    precision: Precision
    images: int
    installed: bool
    exported: bool


def choose_backend(here: Circumstances, *, measured: float | None = None) -> tuple[BackendName, str]:
    """The back-end for features that do not exist yet, and why.

    On a CPU ONNX Runtime is taken where the time that it saves over all images repays the export; an export
    that is kept costs nothing.

    Args:
        here: The circumstances.
        measured: Core-seconds an image that it was found to save on this machine; None to go by :data:`GAINS`.
    """
    if here.device != "cpu":
        return "torch", f"always on {here.device}"
    if here.precision != "fp32":
        return "torch", f"ONNX Runtime computes in fp32, not {here.precision}"
    gain = GAINS[here.architecture]
    saved = gain.saved * here.area if measured is None else measured
    cost = 0.0 if here.exported else gain.export_seconds
    if saved <= 0:
        return "torch", f"ONNX Runtime is no faster here with {here.architecture}"
    if here.images * saved / here.threads < cost:
        return "torch", f"{here.images:,} images do not repay an export to ONNX"
    if not here.installed:
        return "torch", "ONNX Runtime may be faster, but the extra onnx is not installed"
    return "onnx", "its export is kept" if here.exported else f"{here.images:,} images repay its export"
