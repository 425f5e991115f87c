"""The forward pass: real batches on any device, halved when the memory does not suffice."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch

from vreid_cli.errors import DeviceError, WeightsError
from vreid_cli.extraction.backends import Backend, TorchBackend
from vreid_cli.models.transforms import Transform
from vreid_cli.models.weights import LoadedNetwork
from vreid_cli.runtime.devices import one_torch_thread
from vreid_cli.runtime.progress import log
from vreid_cli.runtime.transfers import Transfers

#: DenseNet201 runs fastest on a CPU at 8 images: more of them leave the caches (DESIGN section 8).
_CPU_BATCH = 8
#: Fewer images leave a GPU idle between its kernels; more than the largest no longer make it faster.
SMALLEST_GPU_BATCH, _LARGEST_GPU_BATCH = 8, 256
#: Of the memory that is free: other programs want some, and what is free lies in pieces.
_SHARE = 0.6

#: Gives LRs (B, D) float32 on the CPU once a device has computed them.
Pending = Callable[[], torch.Tensor]


class Extractor:
    """Computes LRs with one network on one device.

    Args:
        loaded: Network and transform.
        device: Where to compute.
        batch_size: Images a batch.
        backend: What computes the forward pass; torch in fp32 if None, which moves the network to the device.

    Attributes:
        width: D of the LRs.
        side: Pixels of the input's side.
    """

    def __init__(
        self, loaded: LoadedNetwork, device: torch.device, *, batch_size: int, backend: Backend | None = None
    ) -> None:
        self.device = device
        self._transfers = Transfers(device)
        self.batch_size = batch_size
        self.width = loaded.dimension
        self.side = loaded.transform.crop
        self._transform: Transform = loaded.transform
        self._backend: Backend = TorchBackend(loaded.network, device) if backend is None else backend

    def prepare(self) -> None:
        """Get the back-end ready, which may take long the first time.

        Raises:
            VreidError: It cannot compute this network here.
        """
        self._backend.prepare()

    @property
    def ahead(self) -> int:
        """Batches that may be submitted while an earlier one is waited for."""
        return self._transfers.ahead

    def compute(self, pixels: torch.Tensor) -> torch.Tensor:
        """LRs (B, D) float32 on the CPU of images (B, 3, H, W) uint8.

        Raises:
            DeviceError: The memory of the device does not suffice for a single image.
            WeightsError: The network gives values that are not finite.
        """
        return self.submit(pixels)()

    def submit(self, pixels: torch.Tensor) -> Pending:
        """Begin what :meth:`compute` does; the call gives its result. A GPU works on it meanwhile.

        Raises:
            DeviceError: As :meth:`compute`; :class:`WeightsError` comes from the call.
        """
        with torch.inference_mode():
            pieces = [self._forward(piece) for piece in pixels.split(self.batch_size)]
            fetched = self._transfers.fetch(torch.cat(pieces).float())
        return lambda: _finite(fetched())

    def _forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features = self._try(pixels)
        if features is None and len(pixels) == 1:
            raise DeviceError(
                f"{self.device} has too little memory for a single image",
                hint="free some memory on the device, or use --device cpu",
            )
        # Out of the function that failed, so that its tensors are gone before the next attempt.
        return self._forward_halves(pixels) if features is None else features

    def _try(self, pixels: torch.Tensor) -> torch.Tensor | None:
        """LRs on the device; None where its memory does not suffice."""
        try:
            with one_torch_thread() if self._backend.own_threads else nullcontext():
                images = self._transform.normalise(self._transfers.send(pixels))
            return self._backend.latent(images)
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


def _finite(features: torch.Tensor) -> torch.Tensor:
    if not bool(torch.isfinite(features).all()):
        raise WeightsError(
            "the network gives latent representations that are not finite",
            hint="check the weights file; or, with --precision fp16, use bf16, which has a wider range",
        )
    return features


def _is_out_of_memory(error: Exception) -> bool:
    # CUDA has a class of its own for it; MPS, cuDNN, cuBLAS and the CPU's allocator only say it.
    words = ("out of memory", "ALLOC_FAILED", "can't allocate memory")
    known = isinstance(error, MemoryError | torch.cuda.OutOfMemoryError)
    return known or any(word in str(error) for word in words)


def choose_batch_size(requested: int | str, loaded: LoadedNetwork, *, device: torch.device) -> int:
    """Images a batch: as requested, or for ``auto`` what suits the device and its free memory."""
    if isinstance(requested, int):
        return requested
    if device.type != "cuda":
        return _CPU_BATCH if device.type == "cpu" else 32
    backbone = loaded.network.backbone
    pixels = (loaded.transform.crop / backbone.transform.crop) ** 2
    return _fitting(_free(device), backbone.activation_mb * pixels * 2**20)


def measure_batch_size(extractor: Extractor) -> int:
    """Images a batch for the memory that is free on an extractor's CUDA device, from what a small batch takes there.

    Args:
        extractor: Computes by torch, whose memory is counted.

    Raises:
        DeviceError: The memory does not suffice for a single image.
    """
    device, side = extractor.device, extractor.side
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    extractor.compute(torch.zeros(extractor.batch_size, 3, side, side, dtype=torch.uint8))
    if extractor.batch_size < SMALLEST_GPU_BATCH:  # even that was too much
        return extractor.batch_size
    taken = torch.cuda.max_memory_allocated(device) - before
    return _fitting(_free(device), max(1, taken) / extractor.batch_size)


def _free(device: torch.device) -> float:
    """Bytes that torch could still use on a CUDA device, with those that it holds and does not use."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _fitting(free: float, image: float) -> int:
    """The power of two that fits into so many bytes at so many an image, within what a GPU likes."""
    fits = int(_SHARE * free / image)
    return max(SMALLEST_GPU_BATCH, min(_LARGEST_GPU_BATCH, 1 << max(0, fits.bit_length() - 1)))
