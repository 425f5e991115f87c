"""Where the time of an extraction goes. It is reported, and enters no file: the same images give the same bytes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

Stage = Literal["wait", "compute", "write"]


@dataclass
class Timings:
    """Seconds of the main process by stage, and those of decoding beside it.

    Attributes:
        wait: Waiting for the next batch of images; decoding itself, where no worker does it.
        compute: The forward pass, with the way to the device and back.
        write: Writing parts.
        decode: CPU seconds of decoding and cropping, summed over the workers.
        workers: Processes that decode.
    """

    wait: float = 0.0
    compute: float = 0.0
    write: float = 0.0
    decode: float = 0.0
    workers: int = 0

    @contextmanager
    def on(self, stage: Stage) -> Iterator[None]:
        """Count the time of the block as that of a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, stage, getattr(self, stage) + time.perf_counter() - started)

    def take(self) -> Timings:
        """What was counted since the last call."""
        taken = replace(self)
        self.wait = self.compute = self.write = self.decode = 0.0
        return taken

    @property
    def main(self) -> float:
        """Seconds of the main process."""
        return self.wait + self.compute + self.write

    def __add__(self, other: Timings) -> Timings:
        return Timings(
            self.wait + other.wait,
            self.compute + other.compute,
            self.write + other.write,
            self.decode + other.decode,
            max(self.workers, other.workers),
        )
