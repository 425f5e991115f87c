"""k-reciprocal re-ranking at VeRi's size, image to image and track to track, against three passes over the pool.

    python tests/benchmarks/reranking.py [--device cuda] [--runs 3]

About 4 minutes on two cores.
"""

from __future__ import annotations

import argparse
import statistics
import time
from unittest.mock import patch

import numpy as np
from made import GALLERY_LENGTHS, lengths_of, machine, made_tracks, module_before, veri_sized, watch_memory
from numpy.typing import NDArray

from vreid_cli import FeatureSet, RankingOptions
from vreid_cli.ranking import rank, reranking
from vreid_cli.ranking.planning import RankingJob, plan_ranking
from vreid_cli.ranking.rank import rank_blocks
from vreid_cli.runtime.options import RuntimeOptions

#: The last commit that compared the pool with itself twice.
BEFORE = "69b00a1"


def image_sides() -> tuple[FeatureSet, FeatureSet]:
    """1,678 query images, all in the gallery of 11,579."""
    gallery = made_tracks(lengths_of(GALLERY_LENGTHS), seed=3)
    chosen = np.sort(np.random.default_rng(0).permutation(len(gallery))[:1678])
    names = {"track_id": list(gallery.track_id[chosen]), "image_id": list(gallery.image_id[chosen])}
    return FeatureSet.from_arrays(gallery.matrix.take(chosen), **names), gallery


def measure(job: RankingJob, before: object | None) -> tuple[float, float, float, NDArray[np.float32]]:
    """Seconds, CPU seconds, gigabytes at the peak, and the table of distances."""
    metric = job.metrics[0].name
    table = np.empty((len(job.query), len(job.gallery)), dtype=np.float32)
    with patch.object(rank, "encode_pool", before or reranking.encode_pool), watch_memory() as memory:
        start, cpu = time.perf_counter(), time.process_time()
        for ranked in rank_blocks(job):
            block = ranked.by_metric[metric]
            table[block.query_index, block.gallery_index] = block.distance
        return time.perf_counter() - start, time.process_time() - cpu, memory["anonymous"], table


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    print(machine())
    three_passes = module_before(BEFORE, "vreid_cli/ranking/reranking.py").encode_pool
    for task, metric, sides in (("i2i", "MED", image_sides()), ("t2t", "meanMCD50", veri_sized())):
        jobs = {
            again: plan_ranking(
                *sides,
                RankingOptions(task=task, metric=(metric,), rerank=again),
                runtime=RuntimeOptions(device=arguments.device),
            )
            for again in (False, True)
        }
        ways = {"as they are": (False, None), "re-ranked": (True, None), "re-ranked before": (True, three_passes)}
        figures: dict[str, list[tuple[float, ...]]] = {name: [] for name in ways}
        tables = {}
        for _ in range(arguments.runs):
            for name, (again, before) in ways.items():
                *measured, tables[name] = measure(jobs[again], before)
                figures[name].append(tuple(measured))
        cpu = {}
        for name, runs in figures.items():
            seconds, cpu[name], memory = (statistics.median(column) for column in zip(*runs, strict=True))
            print(f"{task} {metric} {name:16s} {seconds:6.1f} s, {cpu[name]:6.1f} of CPU; peak RssAnon {memory:.2f} GB")
        apart = np.abs(tables["re-ranked"] - tables["re-ranked before"]).max()
        ratio = cpu["re-ranked before"] / cpu["re-ranked"]
        print(f"{task} {metric}: {ratio:.2f} x less CPU time than before; distances differ by {apart:.1e} at most")


if __name__ == "__main__":
    main()
