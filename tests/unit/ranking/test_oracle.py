"""Rankings against the brute-force oracle: every metric, both definitions, and the cases that lose digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from oracles import (
    MCD_ABSOLUTE,
    MED_RELATIVE,
    TRACK_METRICS,
    image_distance,
    image_to_track,
    track_distance,
)

from vreid_cli.errors import DataError
from vreid_cli.ranking import rank as rank_module
from vreid_cli.ranking.aggregation import aggregate_queries, aggregate_released, nearest_image, slot_layout
from vreid_cli.ranking.metrics import Aggregation
from vreid_cli.ranking.rank import RankingOptions, RankingPlan, rank
from vreid_cli.types.arrays import text_array
from vreid_cli.types.features import ArrayMatrix, FeatureSet
from vreid_cli.types.rankings import Definition, Ranking, Task

Floats = NDArray[np.floating]
DEFINITIONS: tuple[Definition, ...] = ("paper", "released")
SEEDS = st.integers(0, 2**32 - 1)


# -- building and reading ------------------------------------------------------------------------------------


def features(
    tracks: Mapping[str, Floats], *, cameras: Mapping[str, str] | None = None, vehicles: Mapping[str, str] | None = None
) -> FeatureSet:
    """One row an image, track after track."""
    track_id = [name for name, rows in tracks.items() for _ in rows]
    return FeatureSet.from_arrays(
        np.concatenate(list(tracks.values())).astype(np.float32),
        track_id=track_id,
        vehicle_id=[vehicles.get(name) for name in track_id] if vehicles else None,
        camera_id=[cameras.get(name) for name in track_id] if cameras else None,
    )


def images(rows: Floats, prefix: str) -> FeatureSet:
    names = [f"{prefix}{number:04d}" for number in range(len(rows))]
    return FeatureSet.from_arrays(rows, track_id=names, image_id=names)


def random_tracks(
    rng: np.random.Generator, prefix: str, *, count: int, width: int, longest: int = 12
) -> dict[str, Floats]:
    lengths = rng.integers(1, longest + 1, size=count)
    return {f"{prefix}{i:03d}": rng.normal(size=(n, width)).astype(np.float32) for i, n in enumerate(lengths)}


def options(
    task: Task = "t2t",
    *metrics: str,
    definition: Definition = "paper",
    top_k: int | None = None,
    cameras: str = "all",
) -> RankingOptions:
    every = tuple(TRACK_METRICS) if task == "t2t" else ("MED", "MCD")
    return RankingOptions(
        task=task, metrics=metrics or every, definition=definition, top_k=top_k, cameras=cameras, device="cpu"
    )


Listed = list[tuple[str, int, float]]


def lists(ranking: Ranking) -> dict[str, Listed]:
    """Each query's rows as (gallery item, rank, distance)."""
    found: dict[str, Listed] = {str(name): [] for name in ranking.queries.ids}
    for block in ranking.blocks:
        for query, item, place, distance in zip(
            block.query_index, block.gallery_index, block.rank, block.distance, strict=True
        ):
            found[ranking.queries.ids[query]].append((ranking.gallery.ids[item], int(place), float(distance)))
    return found


def distances(ranking: Ranking) -> dict[tuple[str, str], float]:
    return {(query, item): value for query, rows in lists(ranking).items() for item, _, value in rows}


def order(ranking: Ranking, query: str) -> list[str]:
    return [item for item, _, _ in lists(ranking)[query]]


def close(found: float, expected: float, metric: str) -> bool:
    """Within what the contract allows: MED relative, MCD absolute."""
    if "MED" in metric:
        return abs(found - expected) <= MED_RELATIVE * expected
    return abs(found - expected) <= MCD_ABSOLUTE


def assert_sorted_by_gallery_order(ranking: Ranking) -> None:
    """Full lists: ranks 1 to n, distances rise, ties in the order of the gallery."""
    place = {name: i for i, name in enumerate(ranking.gallery.ids)}
    for rows in lists(ranking).values():
        assert [r for _, r, _ in rows] == list(range(1, len(place) + 1))
        keys = [(distance, place[item]) for item, _, distance in rows]
        assert keys == sorted(keys)


def assert_track_distances(query: Mapping[str, Floats], gallery: Mapping[str, Floats], definition: Definition) -> None:
    rankings = rank(features(query), features(gallery), options("t2t", *TRACK_METRICS, definition=definition))
    assert list(rankings) == list(TRACK_METRICS)
    for metric, ranking in rankings.items():
        for (q, r), found in distances(ranking).items():
            expected = track_distance(query[q], gallery[r], metric, definition)
            assert close(found, expected, metric), (metric, q, r, found, expected)


def assert_image_distances(query: Floats, gallery: Floats) -> None:
    for metric, ranking in rank(images(query, "q"), images(gallery, "r"), options("i2i")).items():
        for (q, r), found in distances(ranking).items():
            expected = image_distance(query[int(q[1:])], gallery[int(r[1:])], metric)
            assert close(found, expected, metric), (metric, q, r, found, expected)


# -- every metric --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("definition", DEFINITIONS)
@settings(max_examples=15)
@given(seed=SEEDS, queries=st.integers(1, 4), items=st.integers(1, 6), width=st.integers(1, 40))
def test_tracks_agree_with_the_oracle(definition: Definition, seed: int, queries: int, items: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    assert_track_distances(
        random_tracks(rng, "q", count=queries, width=width),
        random_tracks(rng, "r", count=items, width=width),
        definition,
    )


@settings(max_examples=15)
@given(seed=SEEDS, queries=st.integers(1, 5), items=st.integers(1, 8), width=st.integers(1, 40))
def test_images_to_tracks_agree_with_the_oracle(seed: int, queries: int, items: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    query = rng.normal(size=(queries, width)).astype(np.float32)
    gallery = random_tracks(rng, "r", count=items, width=width)
    for metric, ranking in rank(images(query, "q"), features(gallery), options("i2t")).items():
        assert_sorted_by_gallery_order(ranking)
        for (q, r), found in distances(ranking).items():
            assert close(found, image_to_track(query[int(q[1:])], gallery[r], metric), metric)


@settings(max_examples=15)
@given(seed=SEEDS, queries=st.integers(1, 8), items=st.integers(1, 20), width=st.integers(1, 40))
def test_images_agree_with_the_oracle(seed: int, queries: int, items: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    assert_image_distances(
        rng.normal(size=(queries, width)).astype(np.float32), rng.normal(size=(items, width)).astype(np.float32)
    )


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_width_of_the_real_network(definition: Definition) -> None:
    rng = np.random.default_rng(5)
    assert_track_distances(
        random_tracks(rng, "q", count=2, width=1920), random_tracks(rng, "r", count=3, width=1920), definition
    )


@pytest.mark.parametrize("definition", DEFINITIONS)
@pytest.mark.parametrize("sizes", [(200, 200), (200, 1), (1, 200), (1, 1), (2, 3), (3, 2)])
def test_long_and_short_tracks(definition: Definition, sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(7)
    query, gallery = (rng.normal(size=(n, 6)).astype(np.float32) for n in sizes)
    assert_track_distances({"q": query}, {"r": gallery}, definition)


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_the_running_minimum_starts_anew_with_each_gallery_image(definition: Definition) -> None:
    # Worked by hand on a line: from the query's 0 and 10 it is 1 and 9 to the gallery's 1, 7 and 3 to its 7.
    query, gallery = {"q": np.array([[0.0], [10.0]])}, {"r": np.array([[1.0], [7.0]])}
    rankings = rank(
        features(query),
        features(gallery),
        options("t2t", "minMED", "meanMED", "medMED", "meanMED50", definition=definition),
    )
    found = {name: distances(ranking)["q", "r"] for name, ranking in rankings.items()}
    by_hand = {
        # To the track 1 and 3; of two values floor(2/2) + 1 = 2 are kept.
        "paper": {"minMED": 1, "meanMED": 2, "medMED": 2, "meanMED50": 2},
        # Noted: 1, 1 for the image at 1; 7, 3 for the image at 7; the three smallest are 1, 1, 3.
        "released": {"minMED": 1, "meanMED": 3, "medMED": 2, "meanMED50": 5 / 3},
    }
    assert found == pytest.approx(by_hand[definition], rel=1e-6)


def test_aggregations_by_hand() -> None:
    # One gallery image at the origin of a line: the distances are the query's values.
    def value(metric: str, *points: float) -> float:
        query = {"q": np.array(points)[:, None]}
        return distances(rank(features(query), features({"r": np.zeros((1, 1))}), options("t2t", metric))[metric])[
            "q", "r"
        ]

    assert value("meanMED", 4, 1, 7) == 4
    assert value("medMED", 9, 1, 2) == 2
    assert value("medMED", 9, 1, 2, 5) == 3.5
    # floor(3/2) + 1 = 2 of three, floor(4/2) + 1 = 3 of four, floor(5/2) + 1 = 3 of five, all of one and two.
    assert value("meanMED50", 9, 1, 2) == 1.5
    assert value("meanMED50", 9, 1, 2, 6) == 3
    assert value("medMED50", 9, 1, 2, 6) == 2
    assert value("medMED50", 9, 8, 1, 2, 6) == 2
    assert value("medMED50", 9, 1, 2) == 1.5
    assert value("meanMED50", 5) == value("medMED50", 5) == 5
    assert value("meanMED50", 5, 7) == value("medMED50", 5, 7) == 6


# -- digits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 3, 64, 1920])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_equal_vectors_have_no_distance(width: int, scale: float) -> None:
    rows = (scale * np.random.default_rng(width).normal(size=(7, width))).astype(np.float32)
    found = rank(images(rows, "q"), images(rows, "r"), options("i2i"))
    for i in range(len(rows)):
        assert distances(found["MED"])[f"q{i:04d}", f"r{i:04d}"] == 0
        assert abs(distances(found["MCD"])[f"q{i:04d}", f"r{i:04d}"]) <= MCD_ABSOLUTE
    assert_image_distances(rows, rows)


@settings(max_examples=20)
@given(seed=SEEDS, width=st.integers(1, 64), exponent=st.integers(-6, 0))
def test_near_duplicates_keep_their_digits(seed: int, width: int, exponent: int) -> None:
    rng = np.random.default_rng(seed)
    query = rng.normal(size=(6, width)).astype(np.float32)
    noise = 10.0**exponent * rng.normal(size=(6, width))
    assert_image_distances(query, np.concatenate([query + noise, rng.normal(size=(3, width))]).astype(np.float32))


@settings(max_examples=20)
@given(seed=SEEDS, width=st.integers(1, 64), offset=st.sampled_from([-100.0, 1.0, 100.0, 1e4]))
def test_a_large_common_offset_keeps_the_digits(seed: int, width: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    query, gallery = (offset + 1e-2 * rng.normal(size=(8, width)) for _ in range(2))
    assert_image_distances(query.astype(np.float32), gallery.astype(np.float32))


@pytest.mark.parametrize("width", [2, 8, 128])
@pytest.mark.parametrize("definition", DEFINITIONS)
def test_clusters_far_apart_keep_the_digits_within_each(width: int, definition: Definition) -> None:
    # No one centre lies amid such data: what was subtracted from both must not cost digits.
    rng = np.random.default_rng(11)

    def cluster(at: float, rows: int) -> Floats:
        return (at + 1e-2 * rng.normal(size=(rows, width))).astype(np.float32)

    query = {"q0": cluster(100, 3), "q1": cluster(-37, 2)}
    gallery = {"r0": cluster(100, 3), "r1": cluster(-37, 4), "r2": cluster(100, 1), "r3": cluster(0, 2)}
    assert_track_distances(query, gallery, definition)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_the_cosine_does_not_depend_on_length(scale: float) -> None:
    rng = np.random.default_rng(13)
    query, gallery = (rng.normal(size=(4, 16)) for _ in range(2))
    plan = RankingPlan(
        images((scale * query).astype(np.float32), "q"),
        images((scale * gallery).astype(np.float32), "r"),
        options("i2i", "MCD"),
    )
    (blocks,) = list(plan.blocks())
    block = blocks["MCD"]
    for q, r, found in zip(block.query_index, block.gallery_index, block.distance, strict=True):
        assert close(float(found), image_distance(query[q], gallery[r], "MCD"), "MCD")
    assert plan.zero_vectors == 0


def test_distances_too_large_for_float32_are_an_error_and_not_a_ranking() -> None:
    rows = np.full((3, 4), 1e38, dtype=np.float32) * np.arange(1, 4, dtype=np.float32)[:, None]
    with pytest.raises(DataError, match="float32"):
        rank(images(rows, "q"), images(rows, "r"), options("i2i", "MED"))


def test_a_cosine_distance_stays_between_0_and_2() -> None:
    rows = np.random.default_rng(17).normal(size=(40, 700)).astype(np.float32)
    values = [
        v for _, v in distances(rank(images(rows, "q"), images(-rows, "r"), options("i2i", "MCD"))["MCD"]).items()
    ]
    assert max(values) <= 2
    values = [v for _, v in distances(rank(images(rows, "q"), images(rows, "r"), options("i2i", "MCD"))["MCD"]).items()]
    assert min(values) >= 0


# -- zero vectors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_zero_vectors_have_cosine_distance_1(definition: Definition) -> None:
    rng = np.random.default_rng(19)
    query = {"q0": np.zeros((1, 5)), "q1": np.vstack([np.zeros((1, 5)), rng.normal(size=(2, 5))])}
    gallery = {
        "r0": rng.normal(size=(3, 5)),
        "r1": np.zeros((2, 5)),
        "r2": np.vstack([rng.normal(size=5), np.zeros(5)]),
    }
    assert_track_distances(query, gallery, definition)
    found = distances(rank(features(query), features(gallery), options("t2t", "minMCD"))["minMCD"])
    assert found["q0", "r0"] == found["q0", "r1"] == found["q0", "r2"] == 1


def test_zero_vectors_are_counted_once_on_each_side() -> None:
    query, gallery = np.ones((4, 3)), np.ones((200, 3))
    query[[0, 2]] = 0
    gallery[[0, 2, 150]] = 0
    # Two blocks of queries look at every gallery image twice; the rows 0 and 2 are zero on both sides.
    with patch.object(rank_module, "memory_budget", return_value=1):
        plan = RankingPlan(images(query, "q"), images(gallery, "r"), options("i2i"))
        assert len(list(plan.blocks())) > 1
    assert plan.zero_vectors == 5


def test_zero_vectors_of_a_set_ranked_against_itself_are_counted_once() -> None:
    rows = np.vstack([np.zeros((2, 3)), np.ones((3, 3))])
    same = images(rows, "i")
    plan = RankingPlan(same, same, options("i2i", "MCD"))
    list(plan.blocks())
    assert plan.zero_vectors == 2


# -- order ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["minMED", "meanMED", "medMCD50", "meanMCD50"])
@pytest.mark.parametrize("width", [3, 64, 1920])
@pytest.mark.parametrize("budget", [1, 2**30])
def test_equal_tracks_tie_in_gallery_order(metric: str, width: int, budget: int) -> None:
    # Matrix products give equal columns unequal last digits, depending on where in a block they lie.
    rng = np.random.default_rng(width)
    copied = rng.normal(size=(5, width)).astype(np.float32)
    copies = [f"c{i:03d}" for i in range(30)]
    others = random_tracks(rng, "r", count=33, width=width, longest=5)
    names = list(rng.permutation([*copies, *others]))
    gallery = {name: others.get(name, copied) for name in names}
    with patch.object(rank_module, "memory_budget", return_value=budget):
        found = rank(features(random_tracks(rng, "q", count=4, width=width)), features(gallery), options("t2t", metric))
    for rows in lists(found[metric]).values():
        assert len({distance for item, _, distance in rows if item in copies}) == 1
        assert [item for item, _, _ in rows if item in copies] == [name for name in names if name in copies]
    assert_sorted_by_gallery_order(found[metric])


@pytest.mark.parametrize("task", ["i2i", "t2t"])
@settings(max_examples=25)
@given(seed=SEEDS, width=st.integers(1, 4), largest=st.integers(1, 30))
def test_points_at_equal_distance_tie_in_gallery_order(task: Task, seed: int, width: int, largest: int) -> None:
    # Between whole numbers the arithmetic of MED is exact, if nothing odd is subtracted first.
    rng = np.random.default_rng(seed)
    points = rng.integers(-largest, largest + 1, size=(int(rng.integers(1, 40)), width))
    query = rng.integers(-largest, largest + 1, size=(2, width))
    metric = "MED" if task == "i2i" else "meanMED"
    found = lists(rank(images(query, "q"), images(points, "r"), options(task, metric))[metric])
    for number, rows in enumerate(found.values()):
        squares = ((points - query[number]) ** 2).sum(axis=1)
        assert [item for item, _, _ in rows] == [f"r{i:04d}" for i in np.argsort(squares, kind="stable")]


def test_ties_go_by_gallery_order_or_in_the_released_definition_by_name() -> None:
    near, far = np.ones((1, 3)), np.array([[1.0, 0, 0]])
    gallery = {"m": near, "z": far, "b": near, "a": far, "y": near, "c": far}
    query = {"q": np.ones((2, 3))}
    for definition, expected in (("paper", "mbyzac"), ("released", "bmyacz")):
        for metric, ranking in rank(features(query), features(gallery), options("t2t", definition=definition)).items():
            assert "".join(order(ranking, "q")) == expected, metric


@pytest.mark.parametrize(
    ("task", "definition"), [("t2t", "paper"), ("t2t", "released"), ("i2t", "paper"), ("i2i", "paper")]
)
def test_blocked_is_unblocked(task: Task, definition: Definition) -> None:
    rng = np.random.default_rng(23)
    query = features(random_tracks(rng, "q", count=12, width=9))
    gallery = features(random_tracks(rng, "r", count=25, width=9))
    query, gallery = (replace(side, source=name) for side, name in ((query, "q"), (gallery, "r")))
    whole = rank(query, gallery, options(task, definition=definition))
    assert all(len(ranking.blocks) == 1 for ranking in whole.values())
    # One query a block and 64 images; a few; and some odd number of them.
    for budget in (1, 20_000, 150_000):
        with patch.object(rank_module, "memory_budget", return_value=budget):
            blocked = rank(query, gallery, options(task, definition=definition))
        for metric, ranking in blocked.items():
            assert budget > 1 or len(ranking.blocks) == len(ranking.queries)
            assert_same_up_to_rounding(ranking, whole[metric])


def test_a_track_longer_than_a_block_is_not_cut() -> None:
    rng = np.random.default_rng(29)
    query = {"q0": rng.normal(size=(90, 4)), "q1": rng.normal(size=(2, 4))}
    gallery = {"r0": rng.normal(size=(3, 4)), "r1": rng.normal(size=(150, 4)), "r2": rng.normal(size=(100, 4))}
    with patch.object(rank_module, "memory_budget", return_value=1):
        assert_track_distances(query, gallery, "paper")
        assert_track_distances(query, gallery, "released")


def test_the_smallest_budget_that_can_be_asked_for() -> None:
    rng = np.random.default_rng(31)
    query, gallery = (features(random_tracks(rng, p, count=60, width=5)) for p in "qr")
    small = rank(query, gallery, replace(options("t2t", "meanMED"), memory_budget_mb=1))["meanMED"]
    large = rank(query, gallery, replace(options("t2t", "meanMED"), memory_budget_mb=512))["meanMED"]
    assert_same_up_to_rounding(small, large)


def assert_same_up_to_rounding(one: Ranking, other: Ranking) -> None:
    """The same distances to 1e-6 of their size, and the same order wherever they differ by more."""
    expected = distances(other)
    found = distances(one)
    assert found.keys() == expected.keys()
    assert all(abs(value - expected[pair]) <= 1e-6 * expected[pair] for pair, value in found.items())
    for query, rows in lists(one).items():
        farthest = 0.0
        for item, _, _ in rows:
            assert farthest <= expected[query, item] * (1 + 1e-6)
            farthest = max(farthest, expected[query, item])


@pytest.mark.parametrize("definition", DEFINITIONS)
@settings(max_examples=10)
@given(seed=SEEDS)
def test_permuting_the_gallery_changes_nothing_but_ties(definition: Definition, seed: int) -> None:
    rng = np.random.default_rng(seed)
    query = random_tracks(rng, "q", count=3, width=6, longest=4)
    gallery = random_tracks(rng, "r", count=9, width=6, longest=4)
    gallery["twin"] = gallery["r004"].copy()
    permuted = {name: gallery[name] for name in rng.permutation(list(gallery))}
    chosen = options("t2t", "meanMCD50", "medMED", definition=definition)
    one, other = (rank(features(query), features(side), chosen) for side in (gallery, permuted))
    for metric in one:
        found, expected = distances(other[metric]), distances(one[metric])
        assert all(abs(found[pair] - expected[pair]) <= 3e-6 for pair in expected)
        for q in query:
            without = [[i for i in order(r[metric], q) if i != "twin"] for r in (one, other)]
            assert without[0] == without[1]
            first = order(other[metric], q)
            expected_first = min(("r004", "twin"), key=list(permuted).index if definition == "paper" else str)
            assert min(("r004", "twin"), key=first.index) == expected_first
            assert abs(first.index("r004") - first.index("twin")) == 1


# -- tracks --------------------------------------------------------------------------------------------------


def test_the_camera_unit_merges_passages_that_are_not_adjacent() -> None:
    rng = np.random.default_rng(37)
    passages = random_tracks(rng, "p", count=6, width=4)
    vehicles = dict(zip(passages, ["v1", "v2", "v1", "v1", "v2", "v1"], strict=True))
    cameras = dict(zip(passages, ["c1", "c1", "c2", "c1", "c1", "c1"], strict=True))
    gallery = features(passages, vehicles=vehicles, cameras=cameras)
    merged = {
        "v1_c1": np.concatenate([passages[p] for p in ("p000", "p003", "p005")]),
        "v2_c1": np.concatenate([passages[p] for p in ("p001", "p004")]),
        "v1_c2": passages["p002"],
    }
    query = random_tracks(rng, "q", count=2, width=4)
    labels = {"q000": "v1", "q001": "v9"}
    queries = features(query, vehicles=labels, cameras=dict.fromkeys(query, "c7"))
    for definition in DEFINITIONS:
        chosen = replace(options("t2t", definition=definition), track_unit="camera")
        for metric, ranking in rank(queries, gallery, chosen).items():
            assert list(ranking.gallery.ids) == list(merged)
            assert list(ranking.gallery.vehicles) == ["v1", "v2", "v1"]
            assert list(ranking.gallery.cameras) == ["c1", "c1", "c2"]
            for (q, r), found in distances(ranking).items():
                name = {"v1_c7": "q000", "v9_c7": "q001"}[q]
                assert close(found, track_distance(query[name], merged[r], metric, definition), metric)


def test_interleaved_images_of_a_track_are_gathered_in_their_order() -> None:
    rng = np.random.default_rng(41)
    rows = rng.normal(size=(9, 3)).astype(np.float32)
    names = ["b", "a", "b", "c", "a", "b", "c", "c", "c"]
    gallery = FeatureSet.from_arrays(rows, track_id=names)
    tracks = {name: rows[[i for i, n in enumerate(names) if n == name]] for name in "bac"}
    query = {"q": rng.normal(size=(3, 3))}
    for definition in DEFINITIONS:
        for metric, ranking in rank(features(query), gallery, options("t2t", definition=definition)).items():
            assert list(ranking.gallery.ids) == ["b", "a", "c"]
            for (q, r), found in distances(ranking).items():
                assert close(found, track_distance(query[q].astype(np.float32), tracks[r], metric, definition), metric)


def with_images(side: FeatureSet, root: str | None) -> FeatureSet:
    return replace(side, image_root=root)


def test_whole_query_tracks_are_taken_from_the_gallery() -> None:
    rng = np.random.default_rng(43)
    rows = rng.normal(size=(7, 3)).astype(np.float32)
    names = [f"i{n}.jpg" for n in range(7)]
    track_id = ["a", "a", "b", "b", "b", "c", "d"]
    gallery = with_images(FeatureSet.from_arrays(rows, track_id=track_id, image_id=names), "/images")
    # Query images of the tracks c and a, two of a; one that is nowhere; their own features are not looked at.
    picked = ["i5.jpg", "i1.jpg", "gone.jpg", "i0.jpg"]
    query = with_images(FeatureSet.from_arrays(np.zeros((4, 3)), track_id=["x"] * 4, image_id=picked), "/images")
    plan = RankingPlan(query, gallery, replace(options("t2t", "meanMED"), whole_tracks=True))
    assert list(plan.queries.ids) == ["a", "c"]
    assert plan.lost_queries == ["gone.jpg"]
    facts = plan.facts(plan.metrics[0])
    assert facts.query_source == "gallery"
    assert dict(facts.selves) == {"a": ("a",), "c": ("c",)}
    (block,) = [blocks["meanMED"] for blocks in plan.blocks()]
    of_a = dict(zip(block.gallery_index[:4].tolist(), block.distance[:4].tolist(), strict=True))
    assert close(of_a[1], track_distance(rows[:2], rows[2:5], "meanMED", "paper"), "meanMED")


@pytest.mark.parametrize(
    ("query_root", "gallery_root", "has_self"),
    [("/a", "/a", True), ("/a", "/b", False), (None, "/a", False), (None, None, False)],
)
def test_a_self_is_the_same_image_file_never_an_equal_name(
    query_root: str | None, gallery_root: str | None, has_self: bool
) -> None:
    names = ["i0", "i1", "i2"]
    gallery = FeatureSet.from_arrays(np.eye(3), track_id=["s", "t", "t"], image_id=names)
    query = FeatureSet.from_arrays(np.eye(3)[:2], track_id=["s", "t"], image_id=names[:2])
    query, gallery = with_images(query, query_root), with_images(gallery, gallery_root)
    expected: dict[Task, dict[str, tuple[str, ...]]] = {
        "i2i": {"i0": ("i0",), "i1": ("i1",)},
        "i2t": {"i0": ("s",), "i1": ("t",)},
        "t2t": {"s": ("s",), "t": ("t",)},
    }
    for task, selves in expected.items():
        ranking = next(iter(rank(query, gallery, options(task)).values()))
        assert dict(ranking.facts.selves) == (selves if has_self else {})


# -- what is listed ------------------------------------------------------------------------------------------


def labelled_sides(seed: int = 47) -> tuple[FeatureSet, FeatureSet]:
    rng = np.random.default_rng(seed)

    def side(prefix: str, count: int) -> FeatureSet:
        labels = [f"v{n}" if n else None for n in rng.integers(0, 4, size=count)]
        cameras = [f"c{n}" if n else None for n in rng.integers(0, 4, size=count)]
        names = [f"{prefix}{i:02d}" for i in range(count)]
        rows = rng.integers(-2, 3, size=(count, 3)).astype(np.float32)
        return FeatureSet.from_arrays(rows, track_id=names, image_id=names, vehicle_id=labels, camera_id=cameras)

    return side("q", 12), side("r", 30)


@pytest.mark.parametrize("top_k", [1, 5, 29])
@pytest.mark.parametrize("cameras", ["all", "other"])
@pytest.mark.parametrize("task", ["t2t", "i2i"])
def test_top_k_keeps_the_nearest_and_every_same_vehicle_row_at_its_true_rank(
    top_k: int, cameras: str, task: Task
) -> None:
    query, gallery = labelled_sides()
    metric = "MED" if task == "i2i" else "minMED"
    full = rank(query, gallery, options(task, metric, cameras=cameras))[metric]
    some = rank(query, gallery, options(task, metric, cameras=cameras, top_k=top_k))[metric]
    assert (full.facts.coverage, some.facts.coverage) == ("full", "positives")
    assert (some.facts.top_k, some.facts.gallery_size) == (top_k, len(gallery))
    vehicle = dict(zip(gallery.image_id, gallery.vehicle_id, strict=True))
    for name, own in zip(query.image_id, query.vehicle_id, strict=True):
        same = {item for item, label in vehicle.items() if own is not None and label == own}
        expected = [row for row in lists(full)[name] if row[1] <= top_k or row[0] in same]
        assert lists(some)[name] == expected


@pytest.mark.parametrize("task", ["t2t", "i2t", "i2i"])
def test_other_cameras_only(task: Task) -> None:
    query, gallery = labelled_sides()
    metric = "minMED" if task == "t2t" else "MED"
    full = rank(query, gallery, options(task, metric))[metric]
    other = rank(query, gallery, options(task, metric, cameras="other"))[metric]
    assert other.facts.cameras == "other"
    camera = dict(zip(gallery.image_id, gallery.camera_id, strict=True))
    for name, own in zip(query.image_id, query.camera_id, strict=True):
        kept = [row for row in lists(full)[name] if own is None or camera[row[0]] != own]
        assert len(kept) < len(gallery) or own is None
        assert lists(other)[name] == [(item, place, d) for place, (item, _, d) in enumerate(kept, start=1)]


def test_coverage_says_what_is_listed() -> None:
    query, gallery = labelled_sides()
    unlabelled = replace(query, vehicle_id=text_array([None] * len(query)))

    def coverage(side: FeatureSet, top_k: int | None) -> str:
        return rank(side, gallery, options("i2i", "MED", top_k=top_k))["MED"].facts.coverage

    assert [coverage(query, k) for k in (None, 30, 31, 29)] == ["full", "full", "full", "positives"]
    assert [coverage(unlabelled, k) for k in (None, 30, 3)] == ["full", "full", "top-k"]


def test_top_k_of_unlabelled_images_is_the_nearest_only() -> None:
    query, gallery = labelled_sides()
    query = replace(query, vehicle_id=text_array([None] * len(query)))
    full = rank(query, gallery, options("i2i", "MED"))["MED"]
    some = rank(query, gallery, options("i2i", "MED", top_k=4))["MED"]
    assert lists(some) == {name: rows[:4] for name, rows in lists(full).items()}


def test_top_k_is_the_same_for_any_memory_budget() -> None:
    query, gallery = labelled_sides()
    chosen = options("i2i", "MED", top_k=3, cameras="other")
    whole = lists(rank(query, gallery, chosen)["MED"])
    with patch.object(rank_module, "memory_budget", return_value=1):
        assert lists(rank(query, gallery, chosen)["MED"]) == whole


# -- inputs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_inputs_are_never_changed(dtype: type[np.floating]) -> None:
    rng = np.random.default_rng(53)
    arrays = [rng.normal(size=(20, 6)).astype(dtype) for _ in range(2)]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    query, gallery = (images(array, prefix) for array, prefix in zip(arrays, "qr", strict=True))
    for task, definition in (("t2t", "paper"), ("t2t", "released"), ("i2t", "paper"), ("i2i", "paper")):
        rank(query, gallery, options(task, definition=definition))  # type: ignore[arg-type]
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))


def test_aggregating_changes_no_distances() -> None:
    values = torch.rand(5, 7)
    before = values.clone()
    queries, items = (slot_layout(np.array(lengths)) for lengths in ([2, 3], [4, 1, 2]))
    every: tuple[Aggregation, ...] = ("min", "mean", "med", "mean50", "med50")
    aggregate_released(values, queries, items, aggregations=every)
    aggregate_queries(nearest_image(values, items, out=torch.empty(5, 3)), queries, every)
    assert torch.equal(values, before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("metric", ["meanMED", "meanMCD50"])
@pytest.mark.parametrize("side", ["query", "gallery"])
def test_a_feature_that_is_not_finite_is_an_error_that_names_the_image(value: float, metric: str, side: str) -> None:
    rng = np.random.default_rng(59)
    rows = {"query": rng.normal(size=(30, 4)), "gallery": rng.normal(size=(90, 4))}
    rows[side][17, 2] = value
    sides = {
        name: FeatureSet.from_arrays(
            array,
            track_id=[f"t{i // 7}" for i in range(len(array))],
            image_id=[f"{name}-{i}.jpg" for i in range(len(array))],
            source=f"{name}.npz",
        )
        for name, array in rows.items()
    }
    for budget in (1, 2**28):
        with (
            patch.object(rank_module, "memory_budget", return_value=budget),
            pytest.raises(DataError, match=rf"{side}-17\.jpg .*not finite") as caught,
        ):
            rank(sides["query"], sides["gallery"], options("t2t", metric))
        assert caught.value.file == f"{side}.npz"


def test_large_features_are_finite() -> None:
    # Their sum is beyond float32, they are not.
    rows = np.full((2, 8), 3e38, dtype=np.float32)
    rows[1, 0] = -3e38
    found = distances(rank(images(rows, "q"), images(rows, "r"), options("i2i", "MCD"))["MCD"])
    assert found["q0000", "r0001"] == pytest.approx(image_distance(rows[0], rows[1], "MCD"), abs=MCD_ABSOLUTE)


@pytest.mark.parametrize("empty", ["query", "gallery"])
def test_an_empty_side_is_an_error(empty: str) -> None:
    sides = {name: images(np.ones((0 if name == empty else 2, 3)), name[0]) for name in ("query", "gallery")}
    with pytest.raises(DataError, match=f"{empty}.*no features"):
        rank(sides["query"], sides["gallery"])


def test_features_without_any_width_are_an_error() -> None:
    with pytest.raises(DataError, match="0 wide"):
        rank(images(np.ones((2, 0)), "q"), images(np.ones((2, 0)), "r"))


def test_different_widths_are_an_error() -> None:
    with pytest.raises(DataError, match=r"3 wide.*4"):
        rank(images(np.ones((2, 3)), "q"), images(np.ones((2, 4)), "r"))


def test_different_identities_are_an_error_that_names_the_field() -> None:
    one = {"architecture": "densenet201", "weights": "abc"}
    query, gallery = images(np.ones((2, 3)), "q"), images(np.ones((2, 3)), "r")
    with pytest.raises(DataError, match="weights is 'abc' and 'def'"):
        rank(replace(query, identity=one), replace(gallery, identity={**one, "weights": "def"}))
    with pytest.raises(DataError, match="precision"):
        rank(replace(query, identity=one), replace(gallery, identity={**one, "precision": "fp16"}))
    for other in (dict(reversed(one.items())), None):
        facts = rank(replace(query, identity=one), replace(gallery, identity=other))["meanMCD50"].facts
        assert (facts.query_identity, facts.gallery_identity) == (one, other)


def test_an_image_without_a_track_is_an_error_between_tracks_only() -> None:
    rows = np.eye(3)
    names = ["a", "b", "c"]
    gallery = FeatureSet.from_arrays(rows, track_id=["t", None, "u"], image_id=names)
    with pytest.raises(DataError, match="image b has no track"):
        rank(images(rows, "q"), gallery)
    assert order(rank(images(rows, "q"), gallery, options("i2i", "MED"))["MED"], "q0001")[0] == "b"


def test_the_camera_unit_needs_labels() -> None:
    gallery = FeatureSet.from_arrays(np.eye(2), track_id=["t", "u"], vehicle_id=["1", "2"], camera_id=["c", None])
    with pytest.raises(DataError, match="u#0 has no vehicle or no camera"):
        rank(images(np.eye(2), "q"), gallery, replace(options(), track_unit="camera"))


@pytest.mark.parametrize(("label", "what"), [("vehicle_id", "vehicles"), ("camera_id", "cameras")])
def test_a_track_with_several_labels_is_an_error(label: str, what: str) -> None:
    gallery = FeatureSet.from_arrays(np.eye(3), track_id=["t", "u", "t"])
    gallery = replace(gallery, **{label: text_array(["1", "2", "3"])})
    with pytest.raises(DataError, match=f"track t holds images of several {what}: 1 and 3"):
        rank(images(np.eye(3), "q"), gallery)


@pytest.mark.parametrize("side", ["query", "gallery"])
def test_images_of_one_name_are_an_error_where_images_are_ranked(side: str) -> None:
    # A list belongs to its query's name, and selves to the items' names: two of one name cannot be told apart.
    sides = {name: images(np.eye(3), name[0]) for name in ("query", "gallery")}
    sides[side] = replace(sides[side], image_id=text_array(["0.jpg", "1.jpg", "0.jpg"]))
    with pytest.raises(DataError, match=r"0\.jpg"):
        rank(sides["query"], sides["gallery"], options("i2i", "MED"))
    rank(sides["query"], sides["gallery"], options("t2t", "minMED"))


def test_features_of_any_width_of_float_come_out_as_float32() -> None:
    rows = np.random.default_rng(61).normal(size=(5, 4)).astype(np.float16)
    wide = FeatureSet(
        ArrayMatrix(rows), *(text_array([f"{p}{i}" for i in range(5)]) for p in "it"), *(text_array([None] * 5),) * 2
    )
    found = rank(wide, wide, options("t2t", "meanMED"))["meanMED"]
    assert all(block.distance.dtype == np.float32 and block.rank.dtype == np.int32 for block in found.blocks)
    single = {f"t{i}": rows[i : i + 1] for i in range(5)}
    for (q, r), value in distances(found).items():
        assert close(value, track_distance(single[q], single[r], "meanMED", "paper"), "meanMED")


def test_blocks_report_how_many_queries_they_held() -> None:
    query, gallery = labelled_sides()
    advanced: list[int] = []
    with patch.object(rank_module, "memory_budget", return_value=8000):
        plan = RankingPlan(query, gallery, options("i2i"))
        held: Sequence[int] = [len(np.unique(b["MED"].query_index)) for b in plan.blocks(advanced.append)]
    assert advanced == held
    assert sum(held) == len(query)
    assert len(held) > 1
