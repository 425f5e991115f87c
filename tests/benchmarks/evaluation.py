"""Scores of a 1,678 x 11,579 matrix of distances, against argsort and cumsum in NumPy.

    python tests/benchmarks/evaluation.py

A few seconds.
"""

from __future__ import annotations

import numpy as np
from made import machine, median_seconds, watch_memory
from numpy.typing import NDArray

from vreid_cli.evaluation.matrix import evaluate_distances

QUERIES, GALLERY, VEHICLES, CAMERAS = 1678, 11579, 200, 20


def by_sorting(
    distances: NDArray[np.float32], vehicles: tuple[NDArray[np.int64], ...], cameras: tuple[NDArray[np.int64], ...]
) -> float:
    """mAP as most tools go about it: sort every row, leave junk out, walk the matches."""
    order = np.argsort(distances, axis=1)
    precisions = []
    for row, vehicle, camera in zip(order, vehicles[0], cameras[0], strict=True):
        same = vehicles[1][row] == vehicle
        matches = same[~(same & (cameras[1][row] == camera))]
        if matches.any():
            found = matches.cumsum() / np.arange(1, len(matches) + 1)
            precisions.append((found * matches).sum() / matches.sum())
    return float(np.mean(precisions))


def main() -> None:
    """Print every figure."""
    print(machine())
    rng = np.random.default_rng(0)
    vehicles = rng.integers(0, VEHICLES, QUERIES), np.sort(rng.integers(0, VEHICLES, GALLERY))
    cameras = rng.integers(0, CAMERAS, QUERIES), rng.integers(0, CAMERAS, GALLERY)
    same = vehicles[0][:, None] == vehicles[1]
    distances = (rng.normal(1, 0.1, size=same.shape) - 0.15 * same).astype(np.float32)
    labels = {
        "query_vehicles": vehicles[0].astype(str).tolist(),
        "gallery_vehicles": vehicles[1].astype(str).tolist(),
        "query_cameras": cameras[0].astype(str).tolist(),
        "gallery_cameras": cameras[1].astype(str).tolist(),
    }
    ours, theirs = evaluate_distances(distances, **labels).mean_ap, by_sorting(distances, vehicles, cameras)
    assert ours is not None
    # The sort of the other way is not stable: equal distances may come in any order there.
    assert abs(ours - theirs) < 1e-6
    fast = median_seconds(lambda: evaluate_distances(distances, **labels), runs=7)
    with watch_memory() as memory:
        evaluate_distances(distances, **labels)
    slow = median_seconds(lambda: by_sorting(distances, vehicles, cameras), runs=3)
    print(f"argsort and cumsum {slow:.3f} s; counting {fast:.3f} s; ratio {slow / fast:.1f}")
    print(f"peak RssAnon while counting {memory['anonymous']:.2f} GB, of which the matrix {distances.nbytes / 1e9:.2f}")


if __name__ == "__main__":
    main()
