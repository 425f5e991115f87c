"""Ranking at VeRi's size, each figure as a ratio against the fastest matrix product measured beside it.

    python tests/benchmarks/ranking.py [--device cuda]

Needs 4 GB of disk in the folder for temporary files, and about 3 minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from made import machine, median_seconds, veri_sized, watch_memory, write_store

from vreid_cli import FeatureSet, RankingOptions
from vreid_cli.ranking.metrics import known_metrics
from vreid_cli.ranking.planning import plan_ranking
from vreid_cli.ranking.rank import rank_blocks
from vreid_cli.runtime.devices import choose_device
from vreid_cli.runtime.options import RuntimeOptions
from vreid_cli.runtime.products import ERROR_LIMIT, PATHS, TORCH, Product, measure_products
from vreid_cli.runtime.threads import side_by_side, threads_for

TEN = tuple(name for name in known_metrics("t2t") if name != "RSCR")


def product_seconds(query: FeatureSet, gallery: FeatureSet, device: torch.device) -> float:
    """The whole product of images by images, in blocks, by the fastest way of float32 accuracy.

    Ways are the libraries' own threads, and blocks side by side on threads of ours.
    """
    rows, columns = (torch.from_numpy(side.matrix.take(np.arange(len(side)))).to(device) for side in (query, gallery))
    step = 2048 if device.type == "cpu" else 4096
    blocks = [(a, b) for a in rows.split(step) for b in columns.split(2 * step)]
    paths, found = [TORCH], {}
    if device.type == "cpu":
        measured = measure_products(PATHS)
        for name, (speed, error) in measured.items():
            print(f"  product by {name:8s} {speed:6.0f} GFLOP/s on one thread, error {error:.1e}")
        paths = [PATHS[name] for name, (_, error) in measured.items() if error <= ERROR_LIMIT]
    for path, threads in product(paths, {1, threads_for(device)}):
        with path.allowed():
            found[path.name, threads] = median_seconds(partial(multiply, path, blocks, threads=threads))
    for (name, threads), seconds in found.items():
        speed = 2e-9 * len(rows) * len(columns) * rows.shape[1] / seconds
        print(f"the product ({name}, {threads} blocks at a time): {seconds:.3f} s, {speed:.0f} GFLOP/s")
    return min(found.values())


def multiply(path: Product, blocks: Sequence[tuple[torch.Tensor, torch.Tensor]], *, threads: int) -> None:
    """The product of each pair of blocks."""
    idle: list[torch.Tensor] = []

    def one(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
        a, b = pair
        out = idle.pop() if idle else torch.empty(len(blocks[0][0]) * len(blocks[0][1]), device=a.device)
        path(a, b, out=out[: len(a) * len(b)].view(len(a), len(b)))
        idle.append(out)

    for _ in side_by_side(one, blocks, threads=threads):
        pass
    if blocks[0][0].device.type == "cuda":
        torch.cuda.synchronize()


def rank_seconds(
    query: FeatureSet,
    gallery: FeatureSet,
    metrics: Sequence[str],
    *,
    device: str,
    definition: str = "paper",
    runs: int = 3,
) -> float:
    """Features in memory to sorted rankings in memory."""

    def work() -> None:
        options = RankingOptions(metric=tuple(metrics), definition=definition)  # type: ignore[arg-type]
        job = plan_ranking(query, gallery, options, runtime=RuntimeOptions(device=device))
        kept = [ranked.by_metric for ranked in rank_blocks(job)]
        assert sum(len(lists[metrics[0]].rank) for lists in kept) == 1677 * 2021

    return median_seconds(work, runs=runs)


def brute_force_seconds(query: FeatureSet, gallery: FeatureSet, pairs: int = 200) -> float:
    """A pair of tracks by meanMCD50 as the released code goes about it, in loops over images."""
    rng = np.random.default_rng(0)
    sides = []
    for side in (query, gallery):
        names = rng.choice(list(dict.fromkeys(side.track_id)), size=pairs)
        sides.append([side.matrix.take(np.flatnonzero(side.track_id == name)) for name in names])
    start = time.perf_counter()
    for one, other in zip(*sides, strict=True):
        nearest = []
        for image in one:
            best = np.inf
            for candidate in other:
                cosine = image @ candidate / (np.sqrt(image @ image) * np.sqrt(candidate @ candidate))
                best = min(best, 1 - cosine)
            nearest.append(best)
        np.mean(sorted(nearest)[: len(nearest) // 2 + 1])
    return (time.perf_counter() - start) / pairs


def command_seconds(query: FeatureSet, gallery: FeatureSet, *, device: str) -> None:
    """The whole command with features in stores, from start to files, for one metric and for ten."""
    with tempfile.TemporaryDirectory() as folder:
        for name, side in (("query", query), ("gallery", gallery)):
            write_store(Path(folder) / name, side)
        start = median_seconds(lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True))
        print(f"starting Python and importing torch: {start:.2f} s")
        for metrics in (("meanMCD50",), TEN):
            output = Path(folder) / f"out{len(metrics)}"
            code = (
                "import sys; sys.path.insert(0, sys.argv.pop(1));"
                "from made import watch_memory; from vreid_cli.cli.app import run;"
                "\nwith watch_memory() as seen: code = run(sys.argv[1:])"
                "\nprint('peak', seen['anonymous'], seen['all'], file=sys.stderr); sys.exit(code)"
            )
            start = time.perf_counter()
            arguments = {
                "--metric": ",".join(metrics),
                "--query-features": f"{folder}/query",
                "--gallery-features": f"{folder}/gallery",
                "--output": str(output),
                "--device": device,
            }
            typed = [word for pair in arguments.items() for word in pair]
            done = subprocess.run(
                [sys.executable, "-c", code, str(Path(__file__).parent), "rank", "--json", *typed],
                capture_output=True,
                text=True,
                check=True,
            )
            seconds = time.perf_counter() - start
            assert len(json.loads(done.stdout)["outputs"]) == len(metrics)
            anonymous, everything = re.search(r"peak (\S+) (\S+)", done.stderr).groups()  # type: ignore[union-attr]
            print(
                f"whole command, {len(metrics)} metrics: {seconds:.2f} s; peak RssAnon {float(anonymous):.2f} GB, "
                f"VmHWM {float(everything):.2f} GB"
            )


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    print(machine())
    query, gallery = veri_sized()
    print(f"{len(query):,} x {len(gallery):,} images, 1,677 x 2,021 tracks, D 1,920, on {device}")
    reference = product_seconds(query, gallery, choose_device(device))
    pairs = 1677 * 2021
    brute = brute_force_seconds(query, gallery)
    print(
        f"loops over images: {brute * 1e6:.0f} µs a pair of tracks, {brute * pairs / 60:.0f} min in all (from a sample)"
    )
    for definition in ("paper", "released"):
        for metrics in (("meanMCD50",), ("meanMED50",), TEN):
            with watch_memory() as memory:
                seconds = rank_seconds(query, gallery, metrics, device=device, definition=definition)
            name = metrics[0] if len(metrics) == 1 else "all ten MED/MCD"
            print(
                f"{definition:8s} {name:15s} {seconds:6.2f} s = {seconds / reference:.2f} x the product, "
                f"{brute * pairs * len(metrics) / seconds:,.0f} x faster than loops; "
                f"peak RssAnon {memory['anonymous']:.2f} GB"
            )
    command_seconds(query, gallery, device=device)


if __name__ == "__main__":
    main()
