"""A gallery in shards is ranked as one gallery: the same lists, bit by bit, whoever holds which shard."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from oracles import TRACK_METRICS
from ranked import labelled_sides, options, two_sides

from vreid_cli.errors import DataError, UsageError
from vreid_cli.ranking.options import RankingOptions
from vreid_cli.ranking.planning import RankingJob, plan_ranking
from vreid_cli.ranking.rank import rank_blocks
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.rankings import Task

TASKS = (("t2t", "paper"), ("t2t", "released"), ("i2t", "paper"), ("i2i", "paper"))
#: So little that a hundred images make several blocks of queries and of the gallery, and merging pays.
SMALL = 60_000


class Copies:
    """As many workers as there are homes, each with a copy of the work; the last part of each round comes first."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.tasks: list[Any] = []
        self.found: list[Any] = []
        self._copies: dict[object, Any] = {}

    def map(
        self, work: Callable[..., Iterator[Any]], parts: Sequence[Any], *, home: Callable[[Any], object]
    ) -> Iterator[Any]:
        self.tasks += parts
        for start in range(0, len(parts), self.width):
            for part in reversed(parts[start : start + self.width]):
                copy = self._copies.setdefault(home(part), pickle.loads(pickle.dumps(work)))
                results = pickle.loads(pickle.dumps(list(copy(pickle.loads(pickle.dumps([part]))))))
                self.found += results
                yield from results


def listed(job: RankingJob, workers: Copies | None) -> tuple[dict[str, list[np.ndarray]], Any]:
    """All rows by metric, and the sum of the diagnostics."""
    rows: dict[str, list[np.ndarray]] = {}
    steps, found = [], []
    for ranked in rank_blocks(job, advance=steps.append, workers=workers):
        found.append(ranked.diagnostics)
        for name, block in ranked.by_metric.items():
            rows.setdefault(name, []).append(
                np.stack([block.query_index, block.rank, block.gallery_index, block.distance.view(np.int32)], axis=1)
            )
    assert sum(steps) == job.steps
    total = found[0]
    for some in found[1:]:
        total += some
    return {name: np.concatenate(blocks) for name, blocks in rows.items()}, total


def assert_same_lists(query: FeatureSet, gallery: FeatureSet, chosen: RankingOptions, *, budget: int) -> Copies:
    job = replace(plan_ranking(query, gallery, chosen), budget=budget, product="torch")
    workers = Copies(2)
    (one, noticed), (other, noticed_by_workers) = listed(job, None), listed(job, workers)
    assert one.keys() == other.keys()
    for name, rows in one.items():
        np.testing.assert_array_equal(other[name], rows, err_msg=name)
    assert noticed_by_workers == noticed
    return workers


@pytest.mark.parametrize("kind", ["normal", "copies", "small"])
@pytest.mark.parametrize(("task", "definition"), TASKS)
def test_lists_are_those_of_one_machine(kind: str, task: Task, definition: str) -> None:
    metrics = ("medMED", "meanMCD50") if task == "t2t" else ("MED", "MCD")
    sides = two_sides(kind, 5, 16, queries=8 if task == "i2i" else 40)
    workers = assert_same_lists(*sides, options(task, *metrics, definition=definition), budget=SMALL)
    assert len({task.shard for task in workers.tasks}) >= 2
    assert len({task.queries for task in workers.tasks if task.queries}) >= 2


def test_all_metrics_rscr_too() -> None:
    sides = two_sides("normal", 7, 16, queries=10, items=140)
    assert_same_lists(*sides, options("t2t", *TRACK_METRICS, "RSCR"), budget=SMALL)
    assert_same_lists(*sides, options("i2t", "RSCR"), budget=SMALL)


@pytest.mark.parametrize("others", [{}, {"cameras": "other"}, {"threshold": 2.0}, {"threshold": 2.0, "no_match": True}])
def test_what_is_listed_of_labelled_items_with_many_ties(others: dict[str, Any]) -> None:
    query, gallery = labelled_sides()
    rows = np.concatenate([np.arange(30)] * 8)
    gallery = replace(gallery.select(rows), image_id=np.array([f"r{i:03d}" for i in range(240)], dtype=object))
    gallery = replace(gallery, track_id=gallery.image_id)
    workers = assert_same_lists(query, gallery, options("i2i", **others), budget=SMALL)
    assert len({task.shard for task in workers.tasks}) >= 2


def test_equal_items_take_the_distance_of_the_first_wherever_they_lie() -> None:
    query, gallery = labelled_sides()
    gallery = replace(gallery.select(np.arange(240) % 30), image_id=np.array([f"r{i:03d}" for i in range(240)]))
    workers = assert_same_lists(query, gallery, options("i2i", "MED"), budget=SMALL)
    owner = {
        int(item): shard for (shard, queries), found in workers.found if queries for item in found[0].items.tolist()
    }
    rows = [row.tobytes() for row in gallery.matrix.take(np.arange(240))]
    assert len(set(owner)) == 240
    assert all(owner[item] == owner[rows.index(row)] for item, row in enumerate(rows))


@pytest.mark.parametrize("top_k", [1, 7])
def test_the_nearest_are_merged_and_ranks_of_the_querys_vehicle_are_true(top_k: int) -> None:
    query, gallery = labelled_sides()
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 30, size=400)
    gallery = replace(gallery.select(rows), image_id=np.array([f"r{i:03d}" for i in range(400)], dtype=object))
    gallery = replace(gallery, track_id=gallery.image_id)
    workers = assert_same_lists(query, gallery, options("i2i", top_k=top_k), budget=SMALL)
    kinds = {type(task).__name__ for task in workers.tasks}
    assert kinds == {"ShardTask", "LookUp", "FindNearest"}
    assert len({task.shard for task in workers.tasks if type(task).__name__ == "LookUp"}) >= 2


def test_re_ranking_needs_one_machine() -> None:
    with pytest.raises(UsageError, match="--rerank compares all with all"):
        listed(plan_ranking(*two_sides("normal", 1, 4), options("i2i", rerank=True)), Copies(2))


def test_a_feature_that_is_not_finite_is_named() -> None:
    query, gallery = two_sides("normal", 1, 16)
    rows = gallery.matrix.take(np.arange(len(gallery)))
    rows[77, 3] = np.nan
    gallery = replace(FeatureSet.from_arrays(rows, track_id=list(gallery.track_id)), source="gallery.npz")
    job = replace(plan_ranking(query, gallery, options("t2t", "meanMED")), budget=SMALL)
    with pytest.raises(DataError, match=r"gallery\.npz: the feature of image .* is not finite"):
        listed(job, Copies(2))
