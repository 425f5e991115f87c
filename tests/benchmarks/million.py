"""A gallery of 1,000,000 images (float16 store), 100 query tracks or one, the 100 nearest.

    python tests/benchmarks/million.py [--device cuda] [--images 1000000] [--width 1920] [--queries 100] [--against DIR]

Needs 4 GB of disk in the folder for temporary files, and a few minutes; 0.6 GB with ``--width 256``. With
``--queries 1`` a person looks for one vehicle: what counts is the share of the speed at which a core copies memory.
Opening the store is measured in new processes, too, in turns with those of another checkout.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from made import GALLERY_LENGTHS, NO_FACTS, WIDTH, copied_bytes, lengths_of, machine, made_tracks, watch_memory

from vreid_cli import FeatureSet, RankingOptions, read_features
from vreid_cli.ranking.planning import plan_ranking
from vreid_cli.ranking.rank import rank_blocks
from vreid_cli.runtime.options import RuntimeOptions
from vreid_cli.store.features import FeatureStore
from vreid_cli.types.images import ImageRecord

#: What a process says of opening the store for the first time, and again: seconds, seconds of CPU.
OPEN = """
import sys, time
from pathlib import Path
import vreid_cli.store.features
from vreid_cli import read_features
for _ in range(2):
    start, begun = time.perf_counter(), time.process_time()
    features = read_features(Path(sys.argv[1]))
    print(time.perf_counter() - start, time.process_time() - begun)
    del features
"""
ROUNDS = 9


def write_gallery(path: Path, images: int, width: int = WIDTH) -> int:
    """Part by part, so that the making of it needs no memory either; returns the number of tracks."""
    path.mkdir(parents=True)
    store = FeatureStore(path)
    written = tracks = parts = 0
    while written < images:
        part = made_tracks(
            lengths_of(GALLERY_LENGTHS, seed=parts), prefix=f"p{parts:03d}_", seed=10 + parts, width=width
        )
        records = [
            ImageRecord(image, Path(), track, f"{track[:5]}{vehicle}", camera, index)
            for index, (image, track, vehicle, camera) in enumerate(
                zip(part.image_id, part.track_id, part.vehicle_id, part.camera_id, strict=True)
            )
        ]
        rows = part.matrix.take(np.arange(len(part))).astype(np.float16)
        store.write_part(parts, records, features=rows, facts=NO_FACTS)
        written, tracks, parts = written + len(part), tracks + 2021, parts + 1
    store.write_complete([], facts={"parts": parts, "images": written})
    return tracks


def measure_opening(store: Path, checkouts: dict[str, Path]) -> None:
    """Open the store in new processes of each checkout, in turns; print medians and spread."""
    found: dict[str, list[tuple[float, ...]]] = {}
    for _ in range(ROUNDS):
        for name, checkout in checkouts.items():
            environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
            command = [sys.executable, "-c", OPEN, str(store)]
            # Not in this folder, whose package Python would find first.
            done = subprocess.run(command, cwd=store, env=environment, capture_output=True, text=True, check=True)
            for what, line in zip(("first", "again"), done.stdout.splitlines(), strict=True):
                found.setdefault(f"{name}, {what}", []).append(tuple(map(float, line.split())))
    for what, rounds in found.items():
        clock, cpu = zip(*rounds, strict=True)
        spread = f"{min(clock):.2f} to {max(clock):.2f}"
        print(f"opening it{what}: {statistics.median(clock):.2f} s ({spread}), {statistics.median(cpu):.2f} of CPU")


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--against", type=Path, help="another checkout, which opens the store in turns with this one")
    parser.add_argument("--labelled", action="store_true", help="let the queries' vehicles be among the gallery's")
    arguments = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "gallery"
        tracks = write_gallery(store, arguments.images, arguments.width)
        other = {", the other checkout": arguments.against} if arguments.against else {}
        measure_opening(store, {"": Path(__file__).parents[2], **other})
        made = made_tracks(np.full(arguments.queries, 6), seed=5, width=arguments.width)
        vehicles = [f"p000_{v}" for v in made.vehicle_id] if arguments.labelled else None
        rows = made.matrix.take(np.arange(len(made)))
        query = FeatureSet.from_arrays(rows, track_id=list(made.track_id), vehicle_id=vehicles)
        del made
        with watch_memory() as memory:
            start, begun = time.perf_counter(), time.process_time()
            gallery = read_features(store)
            opened, cpu_opened = time.perf_counter() - start, time.process_time() - begun
            options = RankingOptions(metric=("meanMCD50",), top_k=100)
            job = plan_ranking(query, gallery, options, runtime=RuntimeOptions(device=arguments.device))
            listed = sum(len(ranked.by_metric["meanMCD50"].rank) for ranked in rank_blocks(job))
            seconds, cpu = time.perf_counter() - start, time.process_time() - begun
        print(
            f"{len(gallery):,} images in {tracks:,} tracks, width {arguments.width}, "
            f"{arguments.queries} query tracks of 6: {seconds:.1f} s ({cpu:.2f} of CPU), "
            f"of which opening {opened:.2f} s ({cpu_opened:.2f}); {listed:,} rows listed; "
            f"peak RssAnon {memory['anonymous']:.2f} GB, VmHWM {memory['all']:.2f} GB"
        )
        stored, copied = 2 * len(gallery) * arguments.width, copied_bytes()
        print(
            f"{stored / 1e9:.2f} GB of features at {stored / (cpu - cpu_opened) / 1e9:.2f} GB for each second of CPU: "
            f"{stored / (cpu - cpu_opened) / copied:.1%} of a copy's {copied / 1e9:.1f} GB/s"
        )


if __name__ == "__main__":
    main()
