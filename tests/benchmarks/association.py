"""Association of many made tracks: seconds and memory of the linkage, beside the distances.

``python tests/benchmarks/association.py [TRACKS] [VEHICLES]``: vehicles with a point each, tracks scattered around
them, cameras and times in which tracks of one camera overlap. The pairs within reach are found in blocks, as the
distances' strips are; what is measured is the linkage, the confidence and the counting of traffic.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import numpy as np

from vreid_cli.association.confidence import silhouettes
from vreid_cli.association.constraints import Constraints, make_constraints
from vreid_cli.association.linkage import SparsePairs, agglomerate
from vreid_cli.types.arrays import text_array
from vreid_cli.types.identities import TrackTimes

CAMERAS, DIMENSION, SPREAD, THRESHOLD, REACH = 20, 12, 0.25, 0.15, 2.0


def anonymous_mb() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


class Peak(threading.Thread):
    """Samples RssAnon."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.highest, self._done = 0.0, threading.Event()

    def run(self) -> None:
        while not self._done.wait(0.01):
            self.highest = max(self.highest, anonymous_mb())

    def finish(self) -> float:
        self._done.set()
        self.join()
        return self.highest


def make_tracks(tracks: int, vehicles: int) -> tuple[np.ndarray, np.ndarray, Constraints]:
    rng = np.random.default_rng(0)
    vehicle = rng.integers(vehicles, size=tracks)
    points = rng.normal(size=(vehicles, DIMENSION))[vehicle] + SPREAD * rng.normal(size=(tracks, DIMENSION))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    start = rng.integers(0, 36_000, size=tracks)
    end = start + rng.integers(5, 200, size=tracks)
    camera = text_array([f"c{k:03d}" for k in rng.integers(CAMERAS, size=tracks)])
    times = TrackTimes(start, end, start / 10, end / 10)
    return points.astype(np.float32), vehicle, make_constraints(camera, times)


def pairs_within(points: np.ndarray, constraints: Constraints, *, reach: float) -> SparsePairs:
    one, other, value = [], [], []
    for begin in range(0, len(points), 500):
        distance = 1 - points[begin : begin + 500] @ points[begin:].T
        row, column = np.nonzero(
            (distance <= reach) & (np.arange(distance.shape[1]) > np.arange(len(distance))[:, None])
        )
        kept = constraints.possible(row + begin, column + begin)
        one.append((row[kept] + begin).astype(np.int32))
        other.append((column[kept] + begin).astype(np.int32))
        value.append(distance[row[kept], column[kept]])
    return SparsePairs(len(points), *(np.concatenate(side) for side in (one, other, value)), reach)


def main() -> None:
    tracks = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    vehicles = int(sys.argv[2]) if len(sys.argv) > 2 else tracks // 5
    points, vehicle, constraints = make_tracks(tracks, vehicles)
    began = time.perf_counter()
    pairs = pairs_within(points, constraints, reach=REACH * THRESHOLD)
    found = time.perf_counter() - began
    # The pairs themselves count; the made points do not.
    before = anonymous_mb() - sum(column.nbytes for column in (pairs.one, pairs.other, pairs.value)) / 2**20
    peak = Peak()
    peak.start()
    began, cpu = time.perf_counter(), time.process_time()
    labels = agglomerate(pairs, threshold=THRESHOLD, possible=constraints.possible)
    silhouettes(pairs, labels)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    highest = peak.finish() - before
    together = np.unique(np.stack([labels, vehicle]), axis=1).shape[1]
    print(
        f"{tracks:,} tracks of {vehicles:,} vehicles, {len(pairs.one):,} pairs within reach ({found:.1f} s to find): "
        f"{len(np.unique(labels)):,} identities ({together:,} cells of identity and vehicle), "
        f"{seconds:.1f} s ({cpu:.1f} s of one core), {highest:.0f} MB of RssAnon more, with the pairs "
        f"({highest + before:.0f} MB in all)"
    )
    sizes = np.bincount(labels)
    for label in np.flatnonzero(sizes > 1):
        members = np.flatnonzero(labels == label)
        one, other = np.triu_indices(len(members), 1)
        assert constraints.possible(members[one], members[other]).all(), "an identity breaks a constraint"


if __name__ == "__main__":
    main()
