"""What computes the forward pass, torch or ONNX Runtime, and which of them an extraction takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from vreid_cli.config import BackendName, CompileMode, Precision
from vreid_cli.errors import ExportError
from vreid_cli.models.backbones import Network, pool_in_float32
from vreid_cli.models.onnx import (
    PARITY_TOLERANCE,
    OnnxNetwork,
    relative_error,
    require_onnx,
    require_onnx_device,
)
from vreid_cli.models.onnx_cache import cached_network
from vreid_cli.models.weights import LoadedNetwork
from vreid_cli.runtime.devices import AUTOCAST, arithmetic
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
        self._compiled = torch.compile(self._plain.latent, mode=mode, dynamic=False)
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
        try:
            # A copy: CUDA graphs write the next result to the same place.
            latent = self._compiled(torch.cat([images, missing]))[: len(images)].clone()
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
        self._loaded = loaded
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
            self._network = cached_network(self._loaded, self._folder, device=self._device)
        return self._network


@dataclass(frozen=True)
class Gain:
    """What ONNX Runtime costs and saves on a CPU with one architecture, measured at its usual input.

    Attributes:
        export_seconds: To export it, compare it with torch and load it.
        saved: Core-seconds saved a picture, against torch at batch 8; 0 where it saves none.
    """

    export_seconds: float
    saved: float


#: In CPU time on an AMD EPYC (AVX-512), torch 2.15 and ONNX Runtime 1.32; tests/benchmarks/extraction.py --gains
#: measures it. Elsewhere a guide: a wrong guess costs seconds.
GAINS = {
    "densenet201": Gain(20, 0.032),
    "resnet18": Gain(4, 0.0055),
    "alexnet": Gain(5, 0.0026),
    "vgg16": Gain(18, 0.026),
    "inception_v3": Gain(10, 0.029),
}


@dataclass(frozen=True)
class Circumstances:
    """What the choice of a back-end depends on, where none was asked for.

    Attributes:
        architecture: Key of :data:`GAINS`.
        area: Pixels of the input, in parts of the architecture's usual ones.
        device: Type of the device.
        threads: Threads that compute.
        precision: Of the arithmetic.
        pictures: How many are to be computed.
        installed: Whether the extra ``onnx`` is there.
        exported: Whether an export is kept already.
    """

    architecture: str
    area: float
    device: str
    threads: int
    precision: Precision
    pictures: int
    installed: bool
    exported: bool


def choose_backend(here: Circumstances) -> tuple[BackendName, str]:
    """The back-end for features that do not exist yet, and why: the one place that decides ``auto``.

    On a CPU ONNX Runtime is taken where the time that it saves over all pictures repays the export; an export
    that is kept costs nothing.
    """
    if here.device != "cpu":
        return "torch", f"always on {here.device}"
    if here.precision != "fp32":
        return "torch", f"ONNX Runtime computes in fp32, not {here.precision}"
    gain = GAINS[here.architecture]
    saved = here.pictures * gain.saved * here.area / here.threads
    cost = 0.0 if here.exported else gain.export_seconds
    if not gain.saved:
        return "torch", f"ONNX Runtime is no faster with {here.architecture}"
    if saved < cost:
        return "torch", f"{here.pictures:,} pictures do not repay an export to ONNX"
    if not here.installed:
        return "torch", "ONNX Runtime would be faster, but the extra onnx is not installed"
    return "onnx", "its export is kept" if here.exported else f"{here.pictures:,} pictures repay its export"
