"""The forward pass: real batches on any device, halved when the memory does not suffice."""

from __future__ import annotations

import torch

from vreid_cli.errors import DeviceError, WeightsError
from vreid_cli.extraction.backends import Backend, TorchBackend
from vreid_cli.models.transforms import Transform
from vreid_cli.models.weights import LoadedNetwork
from vreid_cli.runtime.progress import log

#: DenseNet201 runs fastest on a CPU at 8 pictures: more of them leave the caches (DESIGN section 8).
_CPU_BATCH = 8
_GPU_BATCHES = (8, 256)


class Extractor:
    """Computes LRs with one network on one device.

    Args:
        loaded: Network and transform.
        device: Where to compute.
        batch_size: Pictures a batch.
        backend: What computes the forward pass; torch in fp32 if None, which moves the network to the device.
    """

    def __init__(
        self, loaded: LoadedNetwork, device: torch.device, *, batch_size: int, backend: Backend | None = None
    ) -> None:
        self.device = device
        self.batch_size = batch_size
        self.width = loaded.network.backbone.width
        self._transform: Transform = loaded.transform
        self._backend: Backend = TorchBackend(loaded.network, device) if backend is None else backend

    def prepare(self) -> None:
        """Get the back-end ready, which may take long the first time.

        Raises:
            VreidError: It cannot compute this network here.
        """
        self._backend.prepare()

    def compute(self, pixels: torch.Tensor) -> torch.Tensor:
        """LRs (B, D) float32 on the CPU of pictures (B, 3, H, W) uint8.

        Raises:
            DeviceError: The memory of the device does not suffice for a single picture.
            WeightsError: The network gives values that are not finite.
        """
        with torch.inference_mode():
            pieces = [self._forward(piece) for piece in pixels.split(self.batch_size)]
            features = torch.cat(pieces).float().cpu()
        if not bool(torch.isfinite(features).all()):
            raise WeightsError(
                "the network gives latent representations that are not finite",
                hint="check the weights file; or, with --precision fp16, use bf16, which has a wider range",
            )
        return features

    def _forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features = self._try(pixels)
        if features is None and len(pixels) == 1:
            raise DeviceError(
                f"{self.device} has too little memory for a single picture",
                hint="free some memory on the device, or use --device cpu",
            )
        # Out of the function that failed, so that its tensors are gone before the next attempt.
        return self._forward_halves(pixels) if features is None else features

    def _try(self, pixels: torch.Tensor) -> torch.Tensor | None:
        """LRs on the device; None where its memory does not suffice."""
        try:
            return self._backend.latent(self._transform.normalise(pixels.to(self.device, non_blocking=True)))
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            return None

    def _forward_halves(self, pixels: torch.Tensor) -> torch.Tensor:
        half = (len(pixels) + 1) // 2
        if half < self.batch_size:
            log.warning("out of memory on %s: batches of %d from here on", self.device, half)
            self.batch_size = half
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return torch.cat([self._forward(piece) for piece in pixels.split(half)])


def _is_out_of_memory(error: Exception) -> bool:
    # CUDA has a class of its own for it; MPS, cuDNN, cuBLAS and the CPU's allocator only say it.
    words = ("out of memory", "ALLOC_FAILED", "can't allocate memory")
    known = isinstance(error, MemoryError | torch.cuda.OutOfMemoryError)
    return known or any(word in str(error) for word in words)


def choose_batch_size(requested: int | str, loaded: LoadedNetwork, *, device: torch.device) -> int:
    """Pictures a batch: as requested, or for ``auto`` what suits the device and its free memory."""
    if isinstance(requested, int):
        return requested
    if device.type != "cuda":
        return _CPU_BATCH if device.type == "cpu" else 32
    free, _ = torch.cuda.mem_get_info(device)
    backbone = loaded.network.backbone
    pixels = (loaded.transform.crop / backbone.transform.crop) ** 2
    fits = int(0.6 * free / (backbone.activation_mb * pixels * 2**20))
    smallest, largest = _GPU_BATCHES
    return max(smallest, min(largest, 1 << max(0, fits.bit_length() - 1)))
