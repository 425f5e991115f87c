"""RSCR against scikit-learn called pair by pair, and what odd tracks cost.

    python tests/benchmarks/rscr.py [--device cuda]

About 2 minutes on two cores.
"""

from __future__ import annotations

import argparse
import time
import warnings
from unittest.mock import patch

import numpy as np
import torch
from made import machine, median_seconds, veri_sized
from sklearn.decomposition import sparse_encode

from vreid_cli import FeatureSet, RankingOptions, rank
from vreid_cli.ranking import sparse_coding
from vreid_cli.ranking.sparse_coding import solve_codes
from vreid_cli.runtime.options import RuntimeOptions

QUERIES = 240


def first_tracks(features: FeatureSet, count: int) -> FeatureSet:
    """The images of the first tracks."""
    names = list(dict.fromkeys(features.track_id))[:count]
    rows = np.flatnonzero(np.isin(features.track_id.astype(str), names))
    return FeatureSet.from_arrays(features.matrix.take(rows), track_id=list(features.track_id[rows]))


def pair_by_pair(query: FeatureSet, gallery: FeatureSet, pairs: int = 100) -> tuple[float, list[float]]:
    """Seconds a pair as the released code goes about it, and the distances."""
    rng = np.random.default_rng(0)
    chosen = [
        (
            query.matrix.take(np.flatnonzero(query.track_id == rng.choice(query.track_id))),
            gallery.matrix.take(np.flatnonzero(gallery.track_id == rng.choice(gallery.track_id))),
        )
        for _ in range(pairs)
    ]
    start = time.perf_counter()
    distances = []
    for one, other in chosen:
        codes = sparse_encode(one, other, algorithm="lasso_lars", alpha=1.0)
        distances.append(float(np.linalg.norm(one - codes @ other)))
    return (time.perf_counter() - start) / pairs, distances


def odd_tracks() -> None:
    """Milliseconds a problem, for tracks that are long or hold images that stand in for each other."""
    rng = np.random.default_rng(0)
    for images, queries in ((6, 1000), (12, 1000), (30, 200), (60, 50), (150, 10), (300, 5)):
        for kind in ("plain", "duplicate", "collinear"):
            common = rng.normal(size=400)
            track, query = (common + 0.4 * rng.normal(size=(n, 400)) for n in (images, queries))
            if kind != "plain":
                track[images // 2 :] = track[: images // 2] * (1 if kind == "duplicate" else 2)
            start = time.perf_counter()
            solved = solve_codes(
                torch.tensor(track @ query.T),
                torch.tensor(track @ track.T)[:, :, None].expand(-1, -1, queries),
                torch.tensor((query**2).sum(axis=1)),
                alpha=1.0,
            )
            each = (time.perf_counter() - start) / queries * 1e3
            print(f"  {images:3d} images, {kind:9s} {each:9.4f} ms a problem, {solved.unsolved} unsolved")


def scalar_elimination(problems: int = 4096) -> None:
    """Small tracks, whose systems are eliminated a scalar at a time, against torch.linalg's batched Cholesky."""
    rng = np.random.default_rng(0)
    common = 0.35 * rng.normal(size=1920)
    for images in (1, 2, 4, 6, 7, 9, 12, 16):
        track = torch.tensor(common + 0.5 * rng.normal(size=1920) + 0.3 * rng.normal(size=(images, 1920)))
        query = torch.tensor(common + 0.5 * rng.normal(size=(problems, 1920)))
        grams = (track @ track.T)[:, :, None].expand(-1, -1, problems)
        seconds = []
        for small in (64, 0):
            with patch.object(sparse_coding, "_SMALL", small):
                best = np.inf
                for _ in range(4):
                    start = time.process_time()
                    solve_codes(track @ query.T, grams, (query**2).sum(dim=1), alpha=1.0)
                    best = min(best, time.process_time() - start)
            seconds.append(best)
        print(
            f"  {images:2d} images: {1e6 * seconds[0] / problems:6.2f} µs of CPU a problem; "
            f"by torch.linalg {seconds[1] / seconds[0]:.2f} x as long"
        )


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    print(machine())
    query, gallery = veri_sized()
    query = first_tracks(query, QUERIES)
    options, runtime = RankingOptions(metric=("RSCR",)), RuntimeOptions(device=device)
    seconds = median_seconds(lambda: rank(query, gallery, options, runtime=runtime))
    each = seconds / (QUERIES * 2021)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        slow, _ = pair_by_pair(query, gallery)
    print(
        f"RSCR, {QUERIES} x 2,021 tracks: {seconds:.2f} s, {each * 1e6:.1f} µs a pair "
        f"(VeRi: {each * 1677 * 2021:.0f} s)"
    )
    print(f"scikit-learn's lasso_lars pair by pair: {slow * 1e6:.0f} µs a pair; ratio {slow / each:.0f}")
    odd_tracks()
    scalar_elimination()


if __name__ == "__main__":
    main()
