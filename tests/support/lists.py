"""Rankings from lists of what each item is to its query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from oracles import Entry

from vreid_cli.evaluation.scores import MeanScores
from vreid_cli.ranking.options import RankingOptions
from vreid_cli.ranking.rank import rank
from vreid_cli.store.formats import write_ranking
from vreid_cli.types.arrays import text_array
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.rankings import Coverage, Ranking, RankingBlock, RankingFacts
from vreid_cli.types.tracks import Items


def ranking_of(
    lists: Sequence[Sequence[Entry]],
    labelled: Sequence[bool] | None = None,
    *,
    coverage: Coverage = "full",
    keep: NDArray[np.bool_] | None = None,
    ranks: Sequence[int] | None = None,
    distances: Sequence[float] | None = None,
    **facts: Any,
) -> Ranking:
    """Whole lists, nearest first; every row is an item of its own, named ``<query>.<place>``.

    Args:
        lists: What each item is to the query, whose vehicle is ``v`` and whose camera is ``c``.
        labelled: Whether the vehicle of each query is known.
        coverage: What the lists are said to cover.
        keep: Rows that stay, at their true ranks.
        ranks: Others than 1, 2, …
        distances: Of all rows.
        facts: How the ranking was made.
    """
    rows = [(query, place, entry) for query, entries in enumerate(lists) for place, entry in enumerate(entries, 1)]
    names = [f"q{query}.{place}" for query, place, _ in rows]
    selves = {f"q{query}": (f"q{query}.{place}",) for query, place, entry in rows if entry.is_self}
    vehicles: list[str | None] = ["v" if known else None for known in labelled or [True] * len(lists)]
    block = RankingBlock(
        query_index=np.array([query for query, *_ in rows], dtype=np.int32),
        rank=np.array([place for _, place, _ in rows] if ranks is None else ranks, dtype=np.int32),
        gallery_index=np.arange(len(rows), dtype=np.int32),
        distance=np.array(np.arange(len(rows)) if distances is None else distances, dtype=np.float32),
    )
    return Ranking(
        RankingFacts(coverage=coverage, selves=selves, **facts),
        Items(text_array([f"q{i}" for i in range(len(lists))]), text_array(vehicles), text_array(["c"] * len(lists))),
        Items(
            text_array(names),
            text_array(["v" if entry.same_vehicle else "w" for *_, entry in rows]),
            text_array(["c" if entry.same_camera else "d" for *_, entry in rows]),
        ),
        (block if keep is None else block.select(keep),),
    )


def made_ranking(*, seed: int = 0, queries: int = 9, gallery: int = 40, top_k: int | None = None) -> Ranking:
    """Ties, missing labels on both sides, junk and selves; the first queries are gallery images too."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(-1, 2, size=(gallery, 3)).astype(np.float32)
    names = [f"bild {i:02d} ä.jpg" for i in range(gallery)]
    vehicles = [None if rng.random() < 0.1 else f"v{rng.integers(4)}" for _ in range(gallery)]
    cameras = [None if rng.random() < 0.1 else f"c{rng.integers(3)}" for _ in range(gallery)]
    vehicles[0], cameras[0] = "v1", "c1"
    # A query and an item of one vehicle, both without a camera: no junk.
    vehicles[1] = vehicles[-1] = "v1"
    cameras[1] = cameras[-1] = None
    everything = FeatureSet.from_arrays(
        rows, track_id=names, image_id=names, vehicle_id=vehicles, camera_id=cameras, source="gallery"
    )
    everything = replace(
        everything, image_root="/images", dataset="veri", weights="made", identity={"architecture": "ä", "b": "1"}
    )
    some = np.arange(queries)
    query = replace(
        everything,
        matrix=type(everything.matrix)(rows[some]),  # type: ignore[call-arg]
        **{name: getattr(everything, name)[some] for name in ("image_id", "track_id", "vehicle_id", "camera_id")},
    )
    return rank(query, everything, RankingOptions(task="i2i", metric=("MED",), top_k=top_k))["MED"]


def entries(ranking: Ranking) -> list[list[Entry]]:
    """The lists as the oracle takes them, from the ranking in memory."""
    lists: list[list[Entry]] = [[] for _ in ranking.queries.ids]
    for block in ranking.blocks:
        for query, item in zip(block.query_index, block.gallery_index, strict=True):
            vehicle, camera = ranking.queries.vehicles[query], ranking.queries.cameras[query]
            lists[query].append(
                Entry(
                    vehicle is not None and vehicle == ranking.gallery.vehicles[item],
                    camera is not None and camera == ranking.gallery.cameras[item],
                    ranking.queries.ids[query] == ranking.gallery.ids[item],
                )
            )
    return lists


def split_by_query(ranking: Ranking) -> Ranking:
    """The same lists, one block a query."""
    blocks = [
        block.select(block.query_index == query) for block in ranking.blocks for query in np.unique(block.query_index)
    ]
    return Ranking(ranking.facts, ranking.queries, ranking.gallery, tuple(blocks), source=ranking.source)


def write_to(path: Path, ranking: Ranking) -> Path:
    """A ranking in a file; the ending decides the format."""
    with write_ranking(path, ranking.facts, queries=ranking.queries, gallery=ranking.gallery) as write:
        for block in ranking.blocks:
            write(block)
    return path


def means(scores: MeanScores) -> dict[str, Any]:
    """The numbers alone, to compare them."""
    return {field.name: getattr(scores, field.name) for field in fields(MeanScores)}
