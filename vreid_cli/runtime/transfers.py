"""Copies between the CPU and a device that go on while the device computes."""

from __future__ import annotations

from collections.abc import Callable

import torch


class Transfers:
    """The way to one device and back; only CUDA copies by itself, elsewhere a copy is done when it is asked for.

    Args:
        device: Where to compute.

    Attributes:
        ahead: Batches that may be on their way while an earlier one is waited for.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # A stream of its own: on that of the network a copy would wait for the batches before it.
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.ahead = 0 if self._stream is None else 1

    def send(self, pixels: torch.Tensor) -> torch.Tensor:
        """A tensor on the device that what is computed there from now on may read.

        Args:
            pixels: On the CPU, pinned, so that the copy can go on by itself; or on the device already.
        """
        if self._stream is None or pixels.is_cuda:
            return pixels.to(self._device)
        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            sent = pixels.to(self._device, non_blocking=True)
        computing.wait_stream(self._stream)
        # Its memory came from the copying stream, which must not give it away before the network has read it.
        sent.record_stream(computing)
        return sent

    def fetch(self, features: torch.Tensor) -> Callable[[], torch.Tensor]:
        """Begin to copy to the CPU what the device may still be computing; the call gives it, once it is there."""
        if self._stream is None:
            found = features.cpu()
            return lambda: found
        found = torch.empty(features.shape, dtype=features.dtype, pin_memory=True)
        found.copy_(features, non_blocking=True)
        done = torch.cuda.Event()
        done.record(torch.cuda.current_stream(self._device))

        def wait() -> torch.Tensor:
            done.synchronize()
            return found

        return wait
