"""How long a cluster takes for a large extraction: a simulation of the schedule, where no such cluster can be had.

``python tests/benchmarks/schedule.py [IMAGES-A-SECOND]``. The rules are those of ``--engine ray``: whoever is free
takes the next part; a machine that is lost costs the part that it was at, which the next free one does again, and comes
back. What is assumed and not measured: workers are equally fast but for a spread of 10 % from part to part, they start
within 20 s, and a machine fails once in 30 days and is back after 10 minutes.
"""

from __future__ import annotations

import heapq
import sys
from dataclasses import dataclass

import numpy as np

PART, SPREAD, START = 512, 0.1, 20.0
FAILS, BACK = 30 * 86_400.0, 600.0


@dataclass(frozen=True)
class Outcome:
    """When the last part is done, how often a part was lost, and the share of all workers' time that was of use."""

    seconds: float
    lost: int
    used: float


def simulate(images: int, workers: int, *, speed: float, fails: float = FAILS, seed: int = 0) -> Outcome:
    """Let ``workers`` share the parts of so many images, each at ``speed`` images per second."""
    rng = np.random.default_rng(seed)
    waiting = [min(PART, images - start) for start in range(0, images, PART)][::-1]
    free = [(float(rng.uniform(0, START)), worker) for worker in range(workers)]
    heapq.heapify(free)
    failure = rng.exponential(fails, workers)
    used, lost, end = 0.0, 0, 0.0
    again: list[tuple[float, int]] = []
    while waiting or again:
        now, worker = heapq.heappop(free)
        if again and (again[0][0] <= now or not waiting):
            known, part = heapq.heappop(again)
            now = max(now, known)
        else:
            part = waiting.pop()
        seconds = part / speed * max(0.1, 1 + SPREAD * rng.standard_normal())
        if failure[worker] < now + seconds:
            at = max(now, float(failure[worker]))
            lost += 1
            heapq.heappush(again, (at, part))
            heapq.heappush(free, (at + BACK, worker))
            failure[worker] = at + BACK + rng.exponential(fails)
            continue
        used, end = used + seconds, max(end, now + seconds)
        heapq.heappush(free, (now + seconds, worker))
    return Outcome(end, lost, used / (end * workers))


def main() -> None:
    """Print a row for each size of gallery and cluster."""
    speed = float(sys.argv[1]) if len(sys.argv) > 1 else 157.0
    # A worker that never fails takes what its parts take.
    alone = simulate(PART * 50, 1, speed=speed, fails=float("inf"))
    assert abs(alone.seconds - START / 2 - 50 * PART / speed) < START / 2 + 50 * PART / speed * SPREAD
    print(f"{speed:g} images per second a worker, parts of {PART:,}")
    print("| images | workers | minutes | of the workers' time | parts done again |")
    print("|---|---|---|---|---|")
    for images in (10**5, 10**7, 10**9):
        for workers in (1, 8, 64, 512):
            found = simulate(images, workers, speed=speed)
            print(f"| {images:,} | {workers} | {found.seconds / 60:,.1f} | {100 * found.used:.1f} % | {found.lost} |")


if __name__ == "__main__":
    main()
