"""RSCR against scikit-learn called pair by pair, and long tracks against the solver before.

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
from made import WIDTH, machine, module_before, veri_sized
from numpy.typing import NDArray
from sklearn.decomposition import sparse_encode

from vreid_cli import FeatureSet, RankingOptions, rank
from vreid_cli.ranking import rscr, sparse_coding
from vreid_cli.ranking.sparse_coding import solve_codes
from vreid_cli.runtime.options import RuntimeOptions

QUERIES = 240
#: The last commit with coordinate descent, whose solver is the other side for long tracks.
BEFORE = "69b00a1"
Floats = NDArray[np.float64]


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


def passage(rng: np.random.Generator, base: Floats, count: int, *, noise: float) -> Floats:
    """Images of one vehicle that goes by, each like the one before it."""
    ends = 0.3 * rng.normal(size=(8, 12)) @ rng.normal(size=(12, WIDTH)) / 12**0.5
    place = np.linspace(0, 7, count)
    before = np.minimum(place.astype(int), 6)
    part = (place - before)[:, None]
    return base + (1 - part) * ends[before] + part * ends[before + 1] + noise * rng.normal(size=(count, WIDTH))


def long_tracks(images: int) -> dict[str, tuple[Floats, Floats]]:
    """Tracks, and the query track each is compared with, another of the same vehicle unless said otherwise."""
    rng = np.random.default_rng(0)
    common = 0.35 * rng.normal(size=WIDTH)
    one, other = (common + 0.5 * rng.normal(size=WIDTH) for _ in range(2))
    first, second, third = (base + 0.3 * rng.normal(size=WIDTH) for base in (one, one, other))

    def around(base: Floats, spread: float = 0.3) -> Floats:
        return base + spread * rng.normal(size=(images, WIDTH))

    track, query = around(first), around(second)
    pairs = {"independent": (track, query), "of another vehicle": (track, around(third))}
    pairs["every image twice"] = (np.repeat(track[: images // 2], 2, axis=0), query)
    pairs["of rank 20"] = (first + rng.normal(size=(images, 20)) @ rng.normal(size=(20, WIDTH)) / 15, query)
    for name, noise in (("a passage", 0.1), ("a slow passage", 0.02), ("a standing vehicle", 0.001)):
        pairs[name] = (passage(rng, first, images, noise=noise), passage(rng, second, images, noise=noise))
    pairs["against itself"] = (pairs["a slow passage"][0],) * 2
    length = np.linalg.norm(track, axis=1, keepdims=True) / 10, np.linalg.norm(query, axis=1, keepdims=True) / 10
    pairs["of length 10"] = (track / length[0], query / length[1])
    pairs["of length 1"] = (track / length[0] / 10, query / length[1] / 10)
    return pairs


def relative_gap(codes: torch.Tensor, rows: torch.Tensor, track: torch.Tensor, *, alpha: float = 1.0) -> float:
    """The largest duality gap of (n, q) codes in parts of the objective, from the images themselves."""
    left = rows - codes.T @ track
    dual_point = left * (alpha / (left @ track.T).abs().amax(dim=1)).clamp(max=1)[:, None]
    primal = left.square().sum(dim=1) / 2 + alpha * codes.abs().sum(dim=0)
    dual = rows.square().sum(dim=1) / 2 - (rows - dual_point).square().sum(dim=1) / 2
    return float(((primal - dual) / primal).max())


def against_before(images: int = 300) -> None:
    """CPU time for each query image of a track of 300 images, by the solver and by the one before it."""
    before = module_before(BEFORE, "vreid_cli/ranking/sparse_coding.py").solve_codes
    for name, sides in long_tracks(images).items():
        track, rows = (torch.from_numpy(side) for side in sides)
        products, gram, squares = track @ rows.T, track @ track.T, rows.square().sum(dim=1)
        start = time.process_time()
        solved = solve_codes(products[:, None], gram[None], squares, alpha=1.0)
        seconds, some = time.process_time() - start, 1 if name == "a standing vehicle" else 3
        start = time.process_time()
        old = before(products[:, :some], gram[:, :, None].expand(-1, -1, some), squares[:some], alpha=1.0)
        slow, each = (time.process_time() - start) / some, seconds / images
        print(
            f"  {images} x {images} images, {name:18s} {1e3 * each:6.2f} ms of CPU a query image, gap "
            f"{relative_gap(solved.codes[:, 0], rows, track):.0e}; before {1e3 * slow:8.1f} ms, gap "
            f"{relative_gap(old.codes, rows[:some], track):.0e}: {slow / each:.0f} x"
        )


def scalars_or_lapack(queries: int = 400) -> None:
    """Systems of tracks of few images solved a scalar at a time, against LAPACK, a matrix at a time."""
    rng = np.random.default_rng(0)
    common = 0.35 * rng.normal(size=WIDTH)
    for images in (1, 2, 4, 6, 9, 12, 16, 20, 24):
        tracks = common + 0.5 * rng.normal(size=(10, 1, WIDTH)) + 0.3 * rng.normal(size=(10, images, WIDTH))
        track, rows = torch.tensor(tracks), torch.tensor(common + 0.6 * rng.normal(size=(queries, WIDTH)))
        products, grams = torch.einsum("tnd,qd->ntq", track, rows), track @ track.mT
        seconds = []
        for few in (64, 0):
            with patch.object(sparse_coding, "_FEW", few):
                best = np.inf
                for _ in range(4):
                    start = time.process_time()
                    solve_codes(products, grams, rows.square().sum(dim=1), alpha=1.0)
                    best = min(best, time.process_time() - start)
            seconds.append(best)
        print(
            f"  {images:2d} images: {1e6 * seconds[0] / queries / 10:6.2f} µs of CPU a problem a scalar at a time; "
            f"by LAPACK {seconds[1] / seconds[0]:.2f} x as long"
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
    old = module_before(BEFORE, "vreid_cli/ranking/rscr.py")
    old.solve_codes = module_before(BEFORE, "vreid_cli/ranking/sparse_coding.py").solve_codes  # type: ignore[attr-defined]
    figures: dict[str, list[tuple[float, float]]] = {"now": [], "before": []}
    for _ in range(3):
        for name, function in (("now", rscr.reconstruction_residuals), ("before", old.reconstruction_residuals)):
            with patch.object(rscr, "reconstruction_residuals", function):
                start, cpu = time.perf_counter(), time.process_time()
                rank(query, gallery, options, runtime=runtime)
                figures[name].append((time.perf_counter() - start, time.process_time() - cpu))
    (seconds, cpu), (_, cpu_before) = (np.median(runs, axis=0) for runs in figures.values())
    each = seconds / (QUERIES * 2021)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        slow, _ = pair_by_pair(query, gallery)
    print(
        f"RSCR, {QUERIES} x 2,021 tracks: {seconds:.2f} s, {each * 1e6:.1f} µs a pair "
        f"(VeRi: {each * 1677 * 2021:.0f} s); {cpu:.2f} s of CPU, before {cpu_before:.2f} s: {cpu_before / cpu:.2f} x"
    )
    print(f"scikit-learn's lasso_lars pair by pair: {slow * 1e6:.0f} µs a pair; ratio {slow / each:.0f}")
    against_before()
    scalars_or_lapack()


if __name__ == "__main__":
    main()
