"""Distances with ties, and labels with gaps: what evaluation has to cope with."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from oracles import Entry

from vreid_cli.types.arrays import text_array
from vreid_cli.types.rankings import Ranking, RankingBlock, RankingFacts
from vreid_cli.types.tracks import Items

SEEDS = st.integers(0, 2**32 - 1)


class World:
    """Distances with ties, labels of both sides with gaps, and where each query itself lies in the gallery."""

    def __init__(self, seed: int, *, queries: int, gallery: int, levels: int = 7) -> None:
        rng = np.random.default_rng(seed)

        def labels(count: int, kinds: int, prefix: str) -> list[str | None]:
            return [None if rng.random() < 0.1 else f"{prefix}{rng.integers(kinds)}" for _ in range(count)]

        self.distances = (rng.integers(0, levels, size=(queries, gallery)) / 3).astype(np.float32)
        self.query_vehicles, self.gallery_vehicles = labels(queries, 3, "v"), labels(gallery, 5, "v")
        self.query_cameras, self.gallery_cameras = labels(queries, 3, "c"), labels(gallery, 3, "c")
        self.selves = [int(rng.integers(gallery)) if rng.random() < 0.5 else -1 for _ in range(queries)]

    def same_vehicle(self, query: int, item: int) -> bool:
        own = self.query_vehicles[query]
        return own is not None and own == self.gallery_vehicles[item]

    def same_camera(self, query: int, item: int) -> bool:
        own = self.query_cameras[query]
        return own is not None and own == self.gallery_cameras[item]

    def lists(self, items: list[int] | None = None) -> list[list[Entry]]:
        """Each query's list of some of the gallery, nearest first, ties by position."""
        return [
            [
                Entry(self.same_vehicle(q, i), self.same_camera(q, i), self.selves[q] == i)
                for i in np.argsort(row, kind="stable").tolist()
                if items is None or i in items
            ]
            for q, row in enumerate(self.distances)
        ]

    def ranking(self, rows: np.ndarray | None = None) -> Ranking:
        """The matrix as sorted lists, or some of their rows."""
        order = np.argsort(self.distances, axis=1, kind="stable")
        count, size = order.shape
        block = RankingBlock(
            query_index=np.repeat(np.arange(count, dtype=np.int32), size),
            rank=np.tile(np.arange(1, size + 1, dtype=np.int32), count),
            gallery_index=order.reshape(-1).astype(np.int32),
            distance=np.take_along_axis(self.distances, order, axis=1).reshape(-1),
        )
        selves = {f"q{q}": (f"g{i}",) for q, i in enumerate(self.selves) if i >= 0}
        return Ranking(
            RankingFacts(gallery_size=size, query_count=count, selves=selves),
            Items(
                text_array([f"q{q}" for q in range(count)]),
                text_array(self.query_vehicles),
                text_array(self.query_cameras),
            ),
            Items(
                text_array([f"g{i}" for i in range(size)]),
                text_array(self.gallery_vehicles),
                text_array(self.gallery_cameras),
            ),
            (block if rows is None else block.select(rows),),
        )

    def labels(self) -> dict[str, Any]:
        names = ("query_vehicles", "gallery_vehicles", "query_cameras", "gallery_cameras", "selves")
        return {name: getattr(self, name) for name in names}


WORLDS = st.builds(
    World, SEEDS, queries=st.integers(1, 9), gallery=st.integers(1, 30), levels=st.sampled_from([1, 2, 7, 10**6])
)
