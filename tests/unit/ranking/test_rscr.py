"""RSCR against scikit-learn's Lasso in float64, solved to 1e-10."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import residual_norm
from ranked import distances

from vreid_cli import FeatureSet, RankingOptions, rank, read_features

#: RSCR against a float64 oracle, relative (docs/definitions.md#tolerances).
TOLERANCE = 1e-4


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**16), alpha=st.sampled_from([0.03, 1.0, 20.0]), budget=st.sampled_from([1, 2**28]))
def test_tracks_of_every_length_and_size_of_block(seed: int, alpha: float, budget: int) -> None:
    rng = np.random.default_rng(seed)
    sides = []
    for name, tracks in (("q", 3), ("g", 6)):
        lengths = rng.integers(1, 13, size=tracks)
        ids = [f"{name}{index}" for index, length in enumerate(lengths) for _ in range(length)]
        vehicles = rng.normal(size=(4, 48))
        features = vehicles[rng.integers(0, 4, size=len(ids))] * 3 + rng.normal(size=(len(ids), 48))
        sides.append(FeatureSet.from_arrays(features.astype(np.float32), track_id=ids))
    options = RankingOptions(
        metric=("RSCR",),
        alpha=alpha,
    )
    found = distances(rank(*sides, options)["RSCR"])
    arrays = [{track: s.matrix.take(np.flatnonzero(s.track_id == track)) for track in set(s.track_id)} for s in sides]
    assert len(found) == len(arrays[0]) * len(arrays[1])
    for (query, item), distance in found.items():
        assert distance == pytest.approx(
            residual_norm(arrays[0][query], arrays[1][item], alpha), rel=TOLERANCE, abs=1e-5
        )


@pytest.mark.parametrize("task", ["i2t", "i2i"])
def test_single_images(task: str) -> None:
    rng = np.random.default_rng(1)
    query = FeatureSet.from_arrays(5 * rng.normal(size=(3, 32)).astype(np.float32), track_id=["p", "p", "q"])
    gallery = FeatureSet.from_arrays(5 * rng.normal(size=(5, 32)).astype(np.float32), track_id=list("aabbc"))
    options = RankingOptions(task=task, metric=("RSCR",))  # type: ignore[arg-type]
    found = distances(rank(query, gallery, options)["RSCR"])
    ids = gallery.image_id if task == "i2i" else gallery.track_id
    for row, name in enumerate(query.image_id):
        for item in set(ids):
            images = gallery.matrix.take(np.flatnonzero(ids == item))
            expected = residual_norm(query.matrix.take(np.array([row])), images, 1.0)
            assert found[name, item] == pytest.approx(expected, rel=TOLERANCE)


def test_a_query_that_the_track_holds_keeps_its_digits() -> None:
    # The residual is then a thousandth of the query, and the Gram form of float32 products has no digits left.
    rng = np.random.default_rng(2)
    track = (30 * rng.normal(size=(4, 1920)) / 44).astype(np.float32)
    query = FeatureSet.from_arrays(track[1:2].copy(), track_id=["q"])
    gallery = FeatureSet.from_arrays(track, track_id=["g"] * 4)
    found = distances(rank(query, gallery, RankingOptions(metric=("RSCR",)))["RSCR"])
    assert found["q", "g"] == pytest.approx(residual_norm(track[1:2], track, 1.0), rel=TOLERANCE)


def test_both_definitions_agree_and_alpha_is_told() -> None:
    rng = np.random.default_rng(3)
    side = FeatureSet.from_arrays(4 * rng.normal(size=(6, 16)).astype(np.float32), track_id=list("aabbcc"))
    rankings = [
        rank(side, side, RankingOptions(metric=("RSCR",), definition=definition, alpha=0.5))["RSCR"]
        for definition in ("paper", "released")
    ]
    assert distances(rankings[0]) == distances(rankings[1])
    assert rankings[0].facts.alpha == 0.5


@pytest.mark.shared
def test_the_released_sample(shared: Path) -> None:
    query = read_features(shared / "reference" / "feat_query.json")
    gallery = read_features(shared / "reference" / "feat_test.json")
    found = distances(rank(query, gallery, RankingOptions(metric=("RSCR",)))["RSCR"])
    for (name, item), distance in found.items():
        images = [s.matrix.take(np.flatnonzero(s.track_id == t)) for s, t in ((query, name), (gallery, item))]
        assert distance == pytest.approx(residual_norm(*images, 1.0), rel=TOLERANCE)


@pytest.mark.parametrize("width", [2, 3, 5, 9])
def test_tracks_of_more_images_than_numbers(width: int) -> None:
    # Their Gram is singular: from float32 products it would be indefinite, and the objective without a minimum.
    rng = np.random.default_rng(width)
    sides = []
    for name, tracks in (("q", 3), ("g", 6)):
        lengths = rng.integers(7, 13, size=tracks)
        ids = [f"{name}{index}" for index, length in enumerate(lengths) for _ in range(length)]
        sides.append(FeatureSet.from_arrays(rng.normal(size=(len(ids), width)).astype(np.float32), track_id=ids))
    found = distances(rank(*sides, RankingOptions(metric=("RSCR",)))["RSCR"])
    arrays = [{track: s.matrix.take(np.flatnonzero(s.track_id == track)) for track in set(s.track_id)} for s in sides]
    for (query, item), distance in found.items():
        assert distance == pytest.approx(residual_norm(arrays[0][query], arrays[1][item], 1.0), rel=1e-5)
