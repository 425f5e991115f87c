"""Rankings of scores that are drawn, so that the true probability of every distance is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid_cli.types.arrays import text_array
from vreid_cli.types.rankings import Ranking, RankingBlock, RankingFacts
from vreid_cli.types.tracks import Items

Floats = NDArray[np.float64]
#: Normal distances of pairs of the same vehicle, and of different ones.
NEAR, FAR, SPREAD = 1.0, 2.0, 0.3
IDENTITY = {
    "architecture": "resnet18",
    "weights_digest": "aa",
    "transform": "t",
    "precision": "fp32",
    "backend": "torch",
}


def true_log_ratio(distance: Floats) -> Floats:
    """Of two normal distributions of the same spread."""
    return ((distance - FAR) ** 2 - (distance - NEAR) ** 2) / (2 * SPREAD**2)


def drawn(rng: np.random.Generator, same: NDArray[np.bool_]) -> Floats:
    """Distances of pairs, independent of each other."""
    return rng.normal(np.where(same, NEAR, FAR), SPREAD).clip(0)


def scored(
    distances: Floats, query_vehicles: Sequence[str | None], gallery_vehicles: Sequence[str | None], **facts: Any
) -> Ranking:
    """A matrix of distances as a ranking that lists every item; queries and items have a camera each side."""
    order = np.argsort(distances.astype(np.float32), axis=1, kind="stable")
    count, size = distances.shape
    block = RankingBlock(
        query_index=np.repeat(np.arange(count, dtype=np.int32), size),
        rank=np.tile(np.arange(1, size + 1, dtype=np.int32), count),
        gallery_index=order.reshape(-1).astype(np.int32),
        distance=np.take_along_axis(distances.astype(np.float32), order, axis=1).reshape(-1),
    )
    known = RankingFacts(
        task="t2t", metric="meanMCD50", definition="paper", track_unit="passage", gallery_size=size, query_count=count
    )
    return Ranking(
        replace(known, **({"gallery_identity": IDENTITY} | facts)),
        Items(text_array([f"q{n}" for n in range(count)]), text_array(query_vehicles), text_array(["c1"] * count)),
        Items(text_array([f"g{n}" for n in range(size)]), text_array(gallery_vehicles), text_array(["c2"] * size)),
        (block,),
    )


def two_cameras(vehicles: int, seed: int = 0, *, prefix: str = "v", **facts: Any) -> Ranking:
    """Each vehicle seen once by each of two cameras, with drawn distances."""
    names = [f"{prefix}{number:04d}" for number in range(vehicles)]
    same = np.eye(vehicles, dtype=bool)
    return scored(drawn(np.random.default_rng(seed), same), names, names, **facts)
