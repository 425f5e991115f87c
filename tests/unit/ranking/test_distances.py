"""MED and MCD against the brute-force oracle, and the cases that lose digits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import MCD_ABSOLUTE, image_distance, image_to_track
from ranked import (
    DEFINITIONS,
    KINDS,
    Floats,
    assert_image_distances,
    assert_sorted_by_gallery_order,
    assert_track_distances,
    close,
    distances,
    features,
    images,
    options,
    random_tracks,
    two_sides,
)

from vreid_cli.errors import DataError
from vreid_cli.ranking.aggregation import slot_layout
from vreid_cli.ranking.distances import ProductDistances, choose_origin
from vreid_cli.ranking.rank import rank
from vreid_cli.runtime.products import TORCH
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.rankings import Definition

WIDTHS = st.sampled_from([2, 3, 5, 16, 64, 100, 300])
SEEDS = st.integers(0, 2**32 - 1)


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


@pytest.mark.slow
@pytest.mark.parametrize("definition", DEFINITIONS)
@pytest.mark.parametrize("sizes", [(200, 200), (200, 1), (1, 200), (1, 1), (2, 3), (3, 2)])
def test_long_and_short_tracks(definition: Definition, sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(7)
    query, gallery = (rng.normal(size=(n, 6)).astype(np.float32) for n in sizes)
    assert_track_distances({"q": query}, {"r": gallery}, definition)


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
    sides = (images((scale * rows).astype(np.float32), name) for rows, name in ((query, "q"), (gallery, "r")))
    ranking = rank(*sides, options("i2i", "MCD"))["MCD"]
    for (q, r), found in distances(ranking).items():
        assert close(found, image_distance(query[int(q[1:])], gallery[int(r[1:])], "MCD"), "MCD")
    assert ranking.warnings == ()


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


def test_large_features_are_finite() -> None:
    # Their sum is beyond float32, they are not.
    rows = np.full((2, 8), 3e38, dtype=np.float32)
    rows[1, 0] = -3e38
    found = distances(rank(images(rows, "q"), images(rows, "r"), options("i2i", "MCD"))["MCD"])
    assert found["q0000", "r0001"] == pytest.approx(image_distance(rows[0], rows[1], "MCD"), abs=MCD_ABSOLUTE)


# -- one product or two --------------------------------------------------------------------------------


def rows_of(features: FeatureSet) -> torch.Tensor:
    return torch.from_numpy(features.matrix.take(np.arange(len(features))))


def nearest_cosines(query: FeatureSet, gallery: FeatureSet, *, names: tuple[str, ...], shared: bool) -> Floats:
    """MCD of all pairs, with MED by one product or by two."""
    origin = replace(choose_origin(rows_of(gallery), rows_of(query)), shared=shared)
    between = ProductDistances(names, product=TORCH, origin=origin)
    sides = (between.prepare(rows_of(each)) for each in (query, gallery))
    found = {name: values.clone() for name, values in between.nearest(*sides, slot_layout(np.ones(len(gallery), int)))}
    return found["MCD"].numpy()


def test_arrays_that_another_thread_takes_first_are_made() -> None:
    class TakenMeanwhile(list[object]):
        def __bool__(self) -> bool:
            return True  # as a look sees it, just before the last ones go

    between = ProductDistances(("MED",), product=TORCH, origin=choose_origin(*[torch.zeros(1, 2)] * 2))
    between._idle = TakenMeanwhile()  # type: ignore[assignment]
    sides = (between.prepare(torch.tensor([row])) for row in ([0.0, 0.0], [3.0, 4.0]))
    found = {name: values.item() for name, values in between.nearest(*sides, slot_layout(np.array([1])))}
    assert found == {"MED": 5.0}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", [True, False, None])
@settings(max_examples=4)
@given(seed=SEEDS, width=WIDTHS)
def test_small_cosine_distances_keep_their_digits(kind: str, shared: bool | None, seed: int, width: int) -> None:
    # By MED's product, by one of their own beside it, or alone: all are near the definition in float64.
    query, gallery = two_sides(kind, seed, width, queries=30, items=40)
    names = ("MCD",) if shared is None else ("MED", "MCD")
    found = nearest_cosines(query, gallery, names=names, shared=bool(shared))
    one, other = (each.matrix.take(np.arange(len(each))) for each in (query, gallery))
    for q, r in np.ndindex(found.shape):
        expected = image_distance(one[q], other[r], "MCD")
        # The float64 definition itself is right to a few 1e-16.
        assert abs(found[q, r] - expected) <= 1e-5 * expected + 2e-15, (q, r, found[q, r], expected)


@pytest.mark.parametrize(("kind", "shared"), [("normal", True), ("nearly parallel", True), ("of any length", False)])
def test_one_product_serves_both_where_few_cosines_would_be_computed_again(kind: str, shared: bool) -> None:
    # Pair by pair takes hundreds of times as long as in a product.
    query, gallery = two_sides(kind, 3, 256, queries=200, items=400)
    assert choose_origin(rows_of(gallery), rows_of(query)).shared == shared


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_queries_of_another_length_take_a_product_of_directions(factor: float) -> None:
    query, gallery = two_sides("positive", 5, 64)
    rows = query.matrix.take(np.arange(len(query)))
    assert choose_origin(rows_of(gallery), rows_of(query)).shared
    assert not choose_origin(rows_of(gallery), torch.from_numpy(factor * rows)).shared
