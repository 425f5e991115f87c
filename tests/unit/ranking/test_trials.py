"""Random draws of a gallery, selections of a feature set, and the challenge's submission file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vreid_cli.errors import DataError
from vreid_cli.ranking.trials import draw_gallery
from vreid_cli.store.rankings import facts_from_metadata, facts_to_metadata
from vreid_cli.store.submission import LISTED, write_submission
from vreid_cli.types.arrays import text_array
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.rankings import RankingBlock, RankingFacts
from vreid_cli.types.tracks import Items


def images(vehicles: list[str | None]) -> FeatureSet:
    features = np.arange(2.0 * len(vehicles)).reshape(-1, 2)
    names = [f"{index}.jpg" for index in range(len(vehicles))]
    return FeatureSet.from_arrays(features, track_id=names, image_id=names, vehicle_id=vehicles, source="made")


def items(names: list[str]) -> Items:
    absent = text_array([None] * len(names))
    return Items(text_array(names), absent, absent)


# -- draws --------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=30), st.integers(0, 2**62), st.integers(0, 20))
def test_one_image_of_each_vehicle_and_all_others_are_queries(vehicles: list[str], seed: int, draw: int) -> None:
    if len(set(vehicles)) == len(vehicles):
        with pytest.raises(DataError, match="no vehicle has two images"):
            draw_gallery(images([*vehicles]), seed=seed, draw=draw)
        return
    queries, gallery = draw_gallery(images([*vehicles]), seed=seed, draw=draw)
    assert sorted(vehicles[row] for row in gallery) == sorted(set(vehicles))
    assert sorted([*queries, *gallery]) == list(range(len(vehicles)))
    assert list(queries) == sorted(queries)
    assert list(gallery) == sorted(gallery)
    again = draw_gallery(images([*vehicles]), seed=seed, draw=draw)
    np.testing.assert_array_equal(again.gallery, gallery)


def test_every_image_has_the_same_chance() -> None:
    vehicles: list[str | None] = ["a"] * 2 + ["b"] * 4 + ["c"]
    chosen = np.zeros(7)
    for draw in range(2000):
        chosen[draw_gallery(images(vehicles), seed=3, draw=draw).gallery] += 1
    np.testing.assert_allclose(chosen / 2000, [1 / 2] * 2 + [1 / 4] * 4 + [1], atol=0.05)


def test_draws_differ_and_so_do_seeds() -> None:
    vehicles: list[str | None] = [f"{row % 20}" for row in range(200)]
    drawn = {
        (seed, draw): tuple(draw_gallery(images(vehicles), seed=seed, draw=draw).gallery)
        for seed in range(3)
        for draw in range(3)
    }
    assert len(set(drawn.values())) == 9


def test_an_image_without_a_vehicle_cannot_be_drawn() -> None:
    with pytest.raises(DataError, match=r"image 1\.jpg has no vehicle"):
        draw_gallery(images(["a", None, "a"]), seed=0, draw=0)


def test_a_selection_of_a_feature_set() -> None:
    whole = images(["a", "b", "c", "d"])
    part = whole.select(np.array([3, 1]))
    assert (len(part), part.width, list(part.vehicle_id), part.source) == (2, 2, ["d", "b"], "made")
    np.testing.assert_array_equal(part.matrix.take(np.array([1, 0, 1])), [[2, 3], [6, 7], [2, 3]])
    again = part.select(np.array([0]))
    np.testing.assert_array_equal(again.matrix.take(np.array([0])), [[6, 7]])


def test_facts_keep_the_draw() -> None:
    facts = RankingFacts(draw=0, draw_seed=2**62)
    assert facts_from_metadata(facts_to_metadata(facts)) == facts
    assert facts_from_metadata(facts_to_metadata(RankingFacts())).draw is None


# -- the submission -----------------------------------------------------------------------------------------


def block(rows: list[tuple[int, int, int]]) -> RankingBlock:
    query, rank, item = (np.array(column, dtype=np.int32) for column in zip(*rows, strict=True))
    return RankingBlock(query, rank, item, np.zeros(len(rows), dtype=np.float32))


def test_a_line_a_query(tmp_path: Path) -> None:
    path = tmp_path / "track2.txt"
    gallery = items(["000010.jpg", "a/000007.png", "3"])
    with write_submission(path, queries=items(list("qrstu")), gallery=gallery) as writer:
        writer.append(block([(1, 1, 2), (1, 2, 0), (2, 1, 1)]))
        writer.append(block([(3, 1, 0)]))
        assert not path.exists()
    # A query that lists nothing has an empty line: the others must not move up.
    assert path.read_text() == "\n3 10\n7\n10\n\n"


def test_no_more_than_the_challenge_looks_at(tmp_path: Path) -> None:
    path = tmp_path / "track2.txt"
    gallery = items([f"{number}.jpg" for number in range(1, 151)])
    # A same-vehicle item that is listed at its true rank beyond the nearest is ground truth.
    lists = [(query, rank, 150 - rank) for query in (0, 1) for rank in (*range(1, 100), 130)]
    with write_submission(path, queries=items(["q", "r"]), gallery=gallery) as writer:
        writer.append(block([(0, rank + 1, rank) for rank in range(150)]))
        writer.append(block([row for row in lists if row[0] == 1]))
    first, second = path.read_text().splitlines()
    assert first.split() == [str(number) for number in range(1, LISTED + 1)]
    assert second.split() == [str(151 - rank) for rank in range(1, 100)]


def test_a_name_that_is_no_number(tmp_path: Path) -> None:
    path = tmp_path / "track2.txt"
    with (
        pytest.raises(DataError, match=r"the gallery image c001_1\.jpg has no number"),
        write_submission(path, queries=items(["q"]), gallery=items(["1.jpg", "c001_1.jpg"])),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
