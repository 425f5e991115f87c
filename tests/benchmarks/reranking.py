"""k-reciprocal re-ranking at VeRi's size, image to image: 1,678 queries, 11,579 gallery images.

    python tests/benchmarks/reranking.py [--device cuda]

About a minute on two cores.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from made import GALLERY_LENGTHS, lengths_of, machine, made_tracks, watch_memory

from vreid_cli import FeatureSet, RankingOptions
from vreid_cli.ranking.rank import plan_ranking, rank_blocks
from vreid_cli.runtime.options import RuntimeOptions


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    print(machine())
    gallery = made_tracks(lengths_of(GALLERY_LENGTHS), seed=3)
    chosen = np.sort(np.random.default_rng(0).permutation(len(gallery))[:1678])
    query = FeatureSet.from_arrays(
        gallery.matrix.take(chosen), track_id=list(gallery.track_id[chosen]), image_id=list(gallery.image_id[chosen])
    )
    for rerank in (False, True):
        options = RankingOptions(task="i2i", metric=("MED",), rerank=rerank)
        job = plan_ranking(query, gallery, options, runtime=RuntimeOptions(device=device))
        with watch_memory() as memory:
            start = time.perf_counter()
            rows = sum(len(ranked.by_metric["MED"].rank) for ranked in rank_blocks(job))
            seconds = time.perf_counter() - start
        assert rows == 1678 * 11579
        name = "re-ranked" if rerank else "as they are"
        print(f"i2i MED {name:12s} {seconds:6.1f} s; peak RssAnon {memory['anonymous']:.2f} GB")


if __name__ == "__main__":
    main()
