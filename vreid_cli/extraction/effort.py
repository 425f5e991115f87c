"""Where the time of an extraction went. It is told, and enters no file: the same images give the same bytes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

Stage = Literal["wait", "decode_on_device", "compute", "write"]


@dataclass
class Effort:
    """Seconds of the main process by what it did, and those that decoding took beside it.

    Attributes:
        wait: For the next batch of images; decoding itself, where no worker does it.
        compute: In the forward pass, with the way to the device and back.
        write: Writing parts.
        decode: CPU seconds of decoding and cropping, summed over the workers.
        workers: Processes that decoded.
        decode_on_device: Decoding and cropping what the workers left to the device.
    """

    wait: float = 0.0
    compute: float = 0.0
    write: float = 0.0
    decode: float = 0.0
    workers: int = 0
    decode_on_device: float = 0.0

    @contextmanager
    def on(self, stage: Stage) -> Iterator[None]:
        """Count the time of the block as that of a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, stage, getattr(self, stage) + time.perf_counter() - started)

    @property
    def main(self) -> float:
        """Seconds of the main process."""
        return self.wait + self.decode_on_device + self.compute + self.write

    def __add__(self, other: Effort) -> Effort:
        return Effort(
            self.wait + other.wait,
            self.compute + other.compute,
            self.write + other.write,
            self.decode + other.decode,
            max(self.workers, other.workers),
            self.decode_on_device + other.decode_on_device,
        )
