"""What computes the forward pass, torch or ONNX Runtime, and which of them an extraction takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from vreid_cli.config import BackendName, Precision
from vreid_cli.models.backbones import Network, pool_in_float32
from vreid_cli.models.onnx import OnnxNetwork, require_onnx, require_onnx_device
from vreid_cli.models.onnx_cache import cached_network
from vreid_cli.models.weights import LoadedNetwork
from vreid_cli.runtime.devices import AUTOCAST, arithmetic


class Backend(Protocol):
    """Computes LRs."""

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

    def __init__(self, network: Network, device: torch.device, *, precision: Precision = "fp32") -> None:
        self._network = network.to(device).to(memory_format=torch.channels_last).eval()
        self._device = device
        self._precision = precision
        if precision in AUTOCAST:
            pool_in_float32(self._network)

    def prepare(self) -> None:
        """Nothing is left to do."""

    def latent(self, images: torch.Tensor) -> torch.Tensor:
        """See :class:`Backend`."""
        with arithmetic(self._precision, self._device):
            return self._network.latent(images.contiguous(memory_format=torch.channels_last))


class OnnxBackend:
    """ONNX Runtime, from an export that is kept in the cache folder.

    Args:
        loaded: The network; on the CPU.
        device: Where to compute.
        folder: The cache folder.
    """

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
    """What the choice of a back-end depends on.

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
