"""Candidates by an index beside the exact ranking: time, recall, memory, and what the cost model predicts.

    python tests/benchmarks/candidates.py [--images 1000000] [--kind auto|ivf|…] [--candidates 1000] [--folder DIR]

Vehicles are made from a spectrum like that of features of real ones (their covariance has about 30 dimensions that
matter), with four tracks of five images each: vehicle centre + camera shift + noise of the track + noise of the
image. 512 numbers an image, kept as float16: 1.1 GB of disk for 1,000,000. The 100 queries are further tracks of
vehicles of the gallery, of six images. Each side runs in a process of its own.
Beside other programs the seconds of a processor say more than those of the clock; with OMP_NUM_THREADS=1 they hold no
waiting.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from made import NO_FACTS, machine, watch_memory
from numpy.typing import NDArray

import vreid_cli as vreid
from vreid_cli.evaluation.recall import measure_recall
from vreid_cli.ranking.planning import plan_ranking
from vreid_cli.ranking.rank import rank_blocks
from vreid_cli.store.features import FeatureStore
from vreid_cli.store.image_index import IndexFolder, new_index
from vreid_cli.store.rankings import read_ranking_parquet, write_ranking_parquet
from vreid_cli.types.images import ImageRecord
from vreid_cli.workflows.indexes import rows_as_stored

WIDTH, TRACKS_OF_A_VEHICLE, IMAGES_OF_A_TRACK, CAMERAS, QUERIES = 512, 4, 5, 20, 100
#: Spreads of camera, track and image, in parts of that between vehicles.
CAMERA, TRACK, IMAGE = 0.5, 0.65, 0.6
#: Vehicles of a part of the store.
PART = 500


def spread() -> NDArray[np.float32]:
    """(D,) standard deviation of each direction: lengths of about 1, as the root of a falling spectrum."""
    variance = (1 + np.arange(WIDTH) / 12) ** -2.0
    deviation: NDArray[np.float32] = np.sqrt(variance / variance.sum()).astype(np.float32)
    return deviation


def cameras() -> NDArray[np.float32]:
    """(cameras, D) shifts."""
    return CAMERA * np.random.default_rng(1).standard_normal((CAMERAS, WIDTH), dtype=np.float32) * spread()


def made_vehicles(number: int, *, tracks: int, images: int, side: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Tracks of the vehicles of one part: (vehicles * tracks, images, D) rows, and the camera of each track."""
    centres = np.random.default_rng([2, number]).standard_normal((PART, 1, WIDTH), dtype=np.float32)
    rng = np.random.default_rng([3, number, side])
    camera = rng.integers(0, CAMERAS // 2, size=(PART, tracks)) + side * (CAMERAS // 2)
    rows = centres + TRACK * rng.standard_normal((PART, tracks, WIDTH), dtype=np.float32)
    noise = IMAGE * rng.standard_normal((PART * tracks, images, WIDTH), dtype=np.float32)
    rows = (rows * spread() + cameras()[camera]).reshape(-1, 1, WIDTH) + noise * spread()
    return rows, camera.reshape(-1)


def write_gallery(path: Path, images: int) -> None:
    """Part by part: vehicles before half of the cameras."""
    path.mkdir(parents=True)
    store, parts = FeatureStore(path), images // (PART * TRACKS_OF_A_VEHICLE * IMAGES_OF_A_TRACK)
    for part in range(parts):
        rows, camera = made_vehicles(part, tracks=TRACKS_OF_A_VEHICLE, images=IMAGES_OF_A_TRACK, side=0)
        records = []
        for place, seen in enumerate(camera):
            vehicle = f"{part * PART + place // TRACKS_OF_A_VEHICLE:06d}"
            track = f"{vehicle}_{place % TRACKS_OF_A_VEHICLE}"
            records += [
                ImageRecord(f"{track}/{image}", Path(), track, vehicle, f"c{seen:02d}", image)
                for image in range(IMAGES_OF_A_TRACK)
            ]
        # Digests that differ: an index tells parts apart by them.
        facts = replace(NO_FACTS, contents=f"{part:05d}", labels="made")
        store.write_part(part, records, features=rows.reshape(-1, WIDTH).astype(np.float16), facts=facts)
    store.write_complete([], facts={"parts": parts, "images": len(records) * parts, "dataset": "made"})


def made_queries(images: int) -> vreid.FeatureSet:
    """Tracks of six images, before the other half of the cameras."""
    parts = images // (PART * TRACKS_OF_A_VEHICLE * IMAGES_OF_A_TRACK)
    rng, rows, names = np.random.default_rng(4), [], []
    for vehicle in np.sort(rng.choice(parts * PART, QUERIES, replace=False)):
        part, place = divmod(int(vehicle), PART)
        made, camera = made_vehicles(part, tracks=1, images=6, side=1)
        rows.append(made[place])
        names += [(f"q{vehicle:06d}", f"{vehicle:06d}", f"c{camera[place]:02d}")] * 6
    tracks, vehicles, seen = map(list, zip(*names, strict=True))
    return vreid.FeatureSet.from_arrays(np.concatenate(rows), track_id=tracks, vehicle_id=vehicles, camera_id=seen)


def work(what: str, folder: Path, images: int, *, kind: str, candidates: int) -> dict[str, Any]:
    """One side, in this process; its figures."""
    found: dict[str, Any] = {}
    queries = made_queries(images)
    with watch_memory() as memory:
        start, used_before = time.perf_counter(), time.process_time()
        gallery = vreid.read_features(folder / "gallery")
        found["opening"] = time.perf_counter() - start
        indexes, options = IndexFolder(folder / "index"), vreid.IndexOptions(kind=kind)  # type: ignore[arg-type]
        if what == "index":
            rows = rows_as_stored(gallery)
            stored, begun = gallery.select(rows), time.process_time()
            index = new_index(stored, options, distance="cosine", seed=0)
            found["training_cpu"] = time.process_time() - begun
            index.add(stored)
            found |= {"bytes": indexes.write(index).stat().st_size, "kind": index.facts.kind}
        else:
            chosen, used = vreid.RankingOptions(top_k=100), []
            if what == "candidates":
                chosen = vreid.RankingOptions(candidates=candidates)
                used = [indexes.read("cosine", rows=rows_as_stored(gallery))]
            begun, used_until = time.perf_counter(), time.process_time()
            job = plan_ranking(queries, gallery, chosen, indexes=used)
            path = folder / f"{what}.parquet"
            facts = job.facts_by(job.metrics[0])
            with write_ranking_parquet(path, facts, queries=job.queries, gallery=job.listed) as write:
                for ranked in rank_blocks(job):
                    write(ranked.by_metric["meanMCD50"])
            found["ranking"] = time.perf_counter() - begun
            found["ranking_cpu"] = time.process_time() - used_until
        found["seconds"], found["cpu"] = time.perf_counter() - start, time.process_time() - used_before
    return found | {"anonymous": memory["anonymous"], "all": memory["all"]}


def compare(folder: Path, images: int) -> str:
    """Recall and scores of the two rankings."""
    exact, found = (read_ranking_parquet(folder / f"{what}.parquet") for what in ("exact", "candidates"))
    place = {name: position for position, name in enumerate(exact.gallery.ids)}
    known = np.array([place.get(name, -1) for name in found.gallery.ids], dtype=np.int32)
    # Files number only what they list: candidates that no exact list names go behind all others.
    known[known < 0] = len(place) + np.arange((known < 0).sum())
    blocks = tuple(replace(block, gallery_index=known[block.gallery_index]) for block in found.blocks)
    ids = np.concatenate([exact.gallery.ids, found.gallery.ids[known >= len(place)]])
    vehicles = np.concatenate([exact.gallery.vehicles, found.gallery.vehicles[known >= len(place)]])
    seen = np.concatenate([exact.gallery.cameras, found.gallery.cameras[known >= len(place)]])
    gallery = type(exact.gallery)(ids, vehicles, seen)
    result = measure_recall(replace(exact, gallery=gallery), replace(found, gallery=gallery, blocks=blocks))
    first = vreid.evaluate(exact).cmc[1]
    return (
        f"exact rank-1 {first:.3f}; recall@10 {result.recall[10]:.4f}, recall@100 {result.recall[100]:.4f}; "
        f"mAP exact {result.exact_map:.4f}, by candidates {result.candidate_map:.4f}"
    )


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--kind", default="auto")
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="keep the made gallery here, and use one that is there")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.work:
        found = work(chosen.work, chosen.folder, chosen.images, kind=chosen.kind, candidates=chosen.candidates)
        print(json.dumps(found))
        return
    print(machine())
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.folder or Path(scratch)
        if not (folder / "gallery").is_dir():
            write_gallery(folder / "gallery", chosen.images)
        print(f"{chosen.images:,} images, {chosen.images // IMAGES_OF_A_TRACK:,} tracks, width {WIDTH}, float16")
        seconds: dict[str, tuple[float, float]] = {}
        for what in ("index", "exact", "candidates"):
            command = [sys.executable, __file__, "--work", what, "--folder", str(folder)]
            command += ["--images", str(chosen.images), "--kind", chosen.kind, "--candidates", str(chosen.candidates)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            seconds[what] = found.get("ranking", 0.0), found.get("ranking_cpu", 0.0)
            print(what, ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in found.items()))
        for unit, one, other in zip(("s", "s of a processor"), seconds["exact"], seconds["candidates"], strict=True):
            print(f"ranking: exact {one:.1f} {unit}, by candidates {other:.1f}: {one / other:.2f} ×")
        print(compare(folder, chosen.images))


if __name__ == "__main__":
    main()
