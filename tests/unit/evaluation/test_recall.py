"""What candidates miss, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vreid_cli.evaluation.recall import measure_recall
from vreid_cli.types.arrays import text_array
from vreid_cli.types.rankings import Ranking, RankingBlock, RankingFacts
from vreid_cli.types.tracks import Items

QUERIES = Items(text_array(["q", "p"]), text_array(["1", "2"]), text_array(["x", "x"]))
#: Ten items; 0, 1 and 2 are vehicle 1, 3 is vehicle 2.
VEHICLES = ["1", "1", "1", "2", *"3456789"][:10]
GALLERY = Items(text_array([f"g{i}" for i in range(10)]), text_array(VEHICLES), text_array(["y"] * 10))


def ranking(*lists: list[int], coverage: str, labelled: bool = True) -> Ranking:
    query = np.repeat(np.arange(len(lists)), [len(each) for each in lists]).astype(np.int32)
    rank = np.concatenate([np.arange(1, len(each) + 1) for each in lists]).astype(np.int32)
    block = RankingBlock(query, rank, np.concatenate(lists).astype(np.int32), rank.astype(np.float32))
    queries = QUERIES if labelled else Items(QUERIES.ids, text_array([None] * 2), QUERIES.cameras)
    return Ranking(RankingFacts(gallery_size=10, query_count=2, coverage=coverage), queries, GALLERY, (block,))


EXACT = ([0, 4, 1, 5, 2, 6, 7, 8, 9, 3], [3, 4, 5, 6, 7, 8, 9, 0, 1, 2])


def test_missing_positives_stand_last() -> None:
    # The first query lacks 1 and 4: 0 and 2 are first and third, and 1 stands tenth.
    found = measure_recall(
        ranking(*EXACT, coverage="full"), ranking([0, 5, 2, 6], [3, 4, 5, 6], coverage="top-k"), nearest=(1, 4)
    )
    assert found.queries == 2
    assert found.recall == {1: 1.0, 4: pytest.approx((2 + 4) / 8)}
    assert found.exact_map == pytest.approx((np.mean([1, 2 / 3, 3 / 5]) + 1) / 2)
    assert found.candidate_map == pytest.approx((np.mean([1, 2 / 3, 3 / 10]) + 1) / 2)


def test_candidates_that_miss_nothing_lose_nothing() -> None:
    exact = ranking(*EXACT, coverage="full")
    found = measure_recall(exact, exact, nearest=(3,))
    assert (found.recall, found.candidate_map) == ({3: 1.0}, found.exact_map)


def test_without_labels_there_is_no_map() -> None:
    exact, some = (ranking(*lists, coverage="top-k", labelled=False) for lists in (EXACT, ([0, 4], [3])))
    found = measure_recall(exact, some, nearest=(2,))
    assert (found.recall, found.exact_map, found.candidate_map) == ({2: 0.75}, None, None)
