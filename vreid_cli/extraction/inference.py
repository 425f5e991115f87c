"""The forward pass: real batches on any device, halved where its memory does not suffice."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vreid_cli.errors import DeviceError, WeightsError
from vreid_cli.extraction.options import BackendName
from vreid_cli.models.network import pool_in_float32
from vreid_cli.models.onnx_cache import Quantised, cached_network, runtime_version
from vreid_cli.models.onnx_file import OnnxFile
from vreid_cli.models.onnx_session import OnnxNetwork, require_onnx, require_onnx_device
from vreid_cli.models.weights import AnyNetwork, LoadedNetwork
from vreid_cli.runtime.cache import cache_folder
from vreid_cli.runtime.devices import AUTOCAST, arithmetic, one_torch_thread
from vreid_cli.runtime.extras import installed_version
from vreid_cli.runtime.options import InferencePrecision
from vreid_cli.runtime.progress import log


@dataclass(frozen=True)
class InferenceConfig:
    """How LRs are computed, every choice made.

    Attributes:
        device: Where.
        backend: ``torch`` or ``onnx``.
        reason: Why this one.
        precision: Of the arithmetic.
        batch_size: Images a batch.
    """

    device: torch.device
    backend: BackendName
    reason: str
    precision: InferencePrecision
    batch_size: int

    def describe(self) -> str:
        """Part of a line for people."""
        name = "ONNX Runtime" if self.backend == "onnx" else "torch"
        return f"by {name} ({self.reason}), {self.precision}, batches of {self.batch_size}"


class Inference:
    """Computes LRs with one network on one device.

    Args:
        loaded: Network and transform; neither is changed.
        config: How.
        cache_dir: Where exports to ONNX are kept; None for the user's cache folder.
        quantised: The network in int8, where it computes in that.

    Attributes:
        config: How.
        transform: Input of the network.
        dimension: D of the LRs.
        batch_size: Images that go through the network at a time: fewer than configured, where memory was short.
        quantised: The network in int8; None in another precision.
    """

    def __init__(
        self,
        loaded: AnyNetwork,
        config: InferenceConfig,
        *,
        cache_dir: Path | None = None,
        quantised: Quantised | None = None,
    ) -> None:
        self.config = config
        self.transform = loaded.transform
        self.dimension = loaded.dimension
        self.batch_size = config.batch_size
        self._loaded = loaded
        self._cache_dir = cache_dir
        self.quantised = quantised
        self._latent: Callable[[torch.Tensor], torch.Tensor] | None = None

    def __getstate__(self) -> dict[str, object]:
        """Another process gets ready by itself."""
        return {**vars(self), "_latent": None, "_loaded": _findable(self._loaded)}

    @property
    def identity(self) -> dict[str, str]:
        """What makes the LRs what they are; another identity means other features."""
        output = self._loaded.output if isinstance(self._loaded, OnnxFile) else None
        return {
            "architecture": self._loaded.architecture,
            "weights_digest": self._loaded.digest,
            **({"output": output} if output else {}),
            "transform": self.transform.identity,
            "precision": self.config.precision,
            "backend": self.config.backend,
            **({"quantised_by": self.quantised.digest} if self.quantised else {}),
        }

    def recorded(self) -> dict[str, str]:
        """What changes the last bits only: with the same values LRs are the same bit for bit."""
        runtime = {"onnxruntime": runtime_version()} if self.config.backend == "onnx" else {}
        return {
            "batch_size": str(self.config.batch_size),
            "device": str(self.config.device),
            "threads": str(torch.get_num_threads()),
            "torch": str(torch.__version__),
            "vreid": installed_version("vreid"),
            **runtime,
        }

    def prepare(self) -> None:
        """Get ready, which may take long the first time: ONNX Runtime needs an export.

        Raises:
            UsageError, DeviceError: ONNX Runtime is not installed, or not for this device.
            ExportError: torch cannot export the network, or ONNX Runtime computes something else.
            StoreError: The cache folder cannot be written to.
        """
        if self._latent is not None:
            return
        if isinstance(self._loaded, OnnxFile):
            self._latent = self._loaded.open(self.config.device).latent
            return
        if self.quantised is not None:
            self._latent = OnnxNetwork(self.quantised.path).latent
            return
        if self.config.backend == "torch":
            self._latent = _torch_network(self._loaded, self.config)
            return
        require_onnx("computing by ONNX Runtime")
        require_onnx_device(self.config.device, name="computing by ONNX Runtime")
        folder = cache_folder(self._cache_dir)
        self._latent = cached_network(self._loaded, folder, device=self.config.device).latent

    def compute(self, pixels: torch.Tensor) -> torch.Tensor:
        """LRs (B, D) float32 on the CPU of images (B, 3, H, W) uint8.

        Raises:
            DeviceError: The memory of the device does not suffice for a single image.
            WeightsError: The network gives values that are not finite.
        """
        with torch.inference_mode():
            features = torch.cat([self._forward(piece) for piece in pixels.split(self.batch_size)]).float().cpu()
        if not bool(torch.isfinite(features).all()):
            raise WeightsError(
                "the network gives latent representations that are not finite",
                hint="check the weights file; or, with --precision fp16, use bf16, which has a wider range",
            )
        return features

    def latent(self, images: torch.Tensor) -> torch.Tensor:
        """LRs (B, D) of normalised float32 images (B, 3, H, W), both on the device, in one forward pass.

        Raises:
            MemoryError, RuntimeError: The memory of the device does not suffice; torch only says so.
        """
        self.prepare()
        assert self._latent is not None
        return self._latent(images)

    def _forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features = self._try(pixels)
        if features is None and len(pixels) == 1:
            raise DeviceError(
                f"{self.config.device} has too little memory for a single image",
                hint="free some memory on the device, or use --device cpu",
            )
        # Out of the function that failed, so that its tensors are gone before the next attempt.
        return self._forward_halves(pixels) if features is None else features

    def _try(self, pixels: torch.Tensor) -> torch.Tensor | None:
        """LRs on the device; None where its memory does not suffice."""
        try:
            # Beside the threads of ONNX Runtime those of torch would take its cores away.
            with one_torch_thread() if self.config.backend == "onnx" else nullcontext():
                images = self.transform.normalise(pixels.to(self.config.device, non_blocking=True))
            return self.latent(images)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            return None

    def _forward_halves(self, pixels: torch.Tensor) -> torch.Tensor:
        half = (len(pixels) + 1) // 2
        if half < self.batch_size:
            log.warning("out of memory on %s: batches of %d from here on", self.config.device, half)
            self.batch_size = half
        if self.config.device.type == "cuda":
            torch.cuda.empty_cache()
        return torch.cat([self._forward(piece) for piece in pixels.split(half)])


def _findable(loaded: AnyNetwork) -> AnyNetwork:
    """The network as processes in other folders find it."""
    return replace(loaded, path=loaded.path.absolute()) if isinstance(loaded, OnnxFile) else loaded


def _torch_network(loaded: LoadedNetwork, config: InferenceConfig) -> Callable[[torch.Tensor], torch.Tensor]:
    """What computes normalised float32 images (B, 3, H, W) to LRs (B, D), both on the device; a copy of the network."""
    latent = None
    if config.device.type == "cpu" and config.precision == "fp32":
        # Elsewhere nobody has measured whether the rewritten network pays.
        latent = loaded.network.streamlined()
    if latent is None:
        network = copy.deepcopy(loaded.network).to(config.device).to(memory_format=torch.channels_last).eval()
        if config.precision in AUTOCAST:
            pool_in_float32(network)
        latent = network.latent

    def compute(images: torch.Tensor) -> torch.Tensor:
        with arithmetic(config.precision, config.device):
            return latent(images.contiguous(memory_format=torch.channels_last))

    return compute


def _is_out_of_memory(error: Exception) -> bool:
    # CUDA has a class of its own for it; MPS, cuDNN, cuBLAS and the CPU's allocator only say it.
    words = ("out of memory", "ALLOC_FAILED", "can't allocate memory")
    known = isinstance(error, MemoryError | torch.cuda.OutOfMemoryError)
    return known or any(word in str(error) for word in words)
