"""RSCR against scikit-learn's Lasso in float64, solved to 1e-10."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso

from vreid_cli import FeatureSet, RankingOptions, rank, read_features
from vreid_cli.ranking.sparse_coding import solve_codes
from vreid_cli.types.rankings import Ranking

#: DESIGN section 6: RSCR against a float64 oracle, relative.
TOLERANCE = 1e-4


def oracle(query: np.ndarray, track: np.ndarray, alpha: float) -> float:
    """The definition: each query image's Lasso on its own, then the Frobenius norm of what is left."""
    residuals = []
    for image in query.astype(np.float64):
        lasso = Lasso(alpha=alpha / image.size, fit_intercept=False, tol=1e-10, max_iter=1_000_000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            code = lasso.fit(track.astype(np.float64).T, image).coef_
        residuals.append(image - code @ track)
    return float(np.linalg.norm(residuals))


def by_name(ranking: Ranking) -> dict[tuple[str, str], float]:
    """Distances by names of query and gallery item."""
    return {
        (ranking.queries.ids[q], ranking.gallery.ids[g]): float(d)
        for block in ranking.blocks
        for q, g, d in zip(block.query_index, block.gallery_index, block.distance, strict=True)
    }


def solve_one(query: np.ndarray, track: np.ndarray, alpha: float = 1.0) -> float:
    """Residual of one problem by the solver, from the codes and the vectors themselves."""
    solved = solve_codes(
        torch.tensor(track @ query)[:, None],
        torch.tensor(track @ track.T)[:, :, None],
        torch.tensor([query @ query]),
        alpha=alpha,
    )
    assert solved.unsolved == 0
    return float(np.linalg.norm(query - solved.codes[:, 0].numpy() @ track))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 12, 13, 60])
@pytest.mark.parametrize("kind", ["plain", "duplicate", "zero", "collinear", "short", "member"])
def test_one_problem(count: int, kind: str) -> None:
    rng = np.random.default_rng(count)
    common = rng.normal(size=200)
    track = common + 0.5 * rng.normal(size=(count, 200))
    query = common + 0.5 * rng.normal(size=200)
    if kind == "duplicate":
        track[-1] = track[0]
    elif kind == "zero":
        track[-1] = 0
    elif kind == "collinear" and count > 2:
        track[1] = 2 * track[0]
    elif kind == "short":  # of unit norm, where alpha = 1 leaves nothing
        track /= np.linalg.norm(track, axis=1, keepdims=True)
        query /= np.linalg.norm(query)
    elif kind == "member":
        query = track[0].copy()
    assert solve_one(query, track) == pytest.approx(oracle(query[None], track, 1.0), rel=1e-5, abs=1e-9)


def test_a_track_of_hundreds_of_images() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(size=400)
    track, query = common + 0.4 * rng.normal(size=(300, 400)), common + 0.4 * rng.normal(size=400)
    assert solve_one(query, track) == pytest.approx(oracle(query[None], track, 1.0), rel=1e-5)


@pytest.mark.parametrize("kind", ["plain", "duplicate", "collinear"])
def test_several_queries_in_a_track_of_hundreds_of_images(kind: str) -> None:
    rng = np.random.default_rng(4)
    common = rng.normal(size=120)
    track, queries = common + 0.4 * rng.normal(size=(150, 120)), common + 0.4 * rng.normal(size=(5, 120))
    # More images than numbers in each: some are combinations of others whatever else is done to them.
    if kind != "plain":
        track[75:] = track[:75] * (1 if kind == "duplicate" else rng.uniform(0.5, 2, size=(75, 1)))
    solved = solve_codes(
        torch.tensor(track @ queries.T),
        torch.tensor(track @ track.T)[:, :, None].expand(-1, -1, 5),
        torch.tensor((queries**2).sum(axis=1)),
        alpha=1.0,
    )
    assert solved.unsolved == 0
    residuals = np.linalg.norm(queries - solved.codes.numpy().T @ track, axis=1)
    for found, query in zip(residuals, queries, strict=True):
        assert found == pytest.approx(oracle(query[None], track, 1.0), rel=TOLERANCE)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**16), alpha=st.sampled_from([0.03, 1.0, 20.0]), budget=st.sampled_from([1, "auto"]))
def test_tracks_of_every_length_and_size_of_block(seed: int, alpha: float, budget: int | str) -> None:
    rng = np.random.default_rng(seed)
    sides = []
    for name, tracks in (("q", 3), ("g", 6)):
        lengths = rng.integers(1, 13, size=tracks)
        ids = [f"{name}{index}" for index, length in enumerate(lengths) for _ in range(length)]
        vehicles = rng.normal(size=(4, 48))
        features = vehicles[rng.integers(0, 4, size=len(ids))] * 3 + rng.normal(size=(len(ids), 48))
        sides.append(FeatureSet.from_arrays(features.astype(np.float32), track_id=ids))
    options = RankingOptions(metrics=("RSCR",), alpha=alpha, memory_budget_mb=budget, device="cpu")
    found = by_name(rank(*sides, options)["RSCR"])
    arrays = [{track: s.matrix.take(np.flatnonzero(s.track_id == track)) for track in set(s.track_id)} for s in sides]
    assert len(found) == len(arrays[0]) * len(arrays[1])
    for (query, item), distance in found.items():
        assert distance == pytest.approx(oracle(arrays[0][query], arrays[1][item], alpha), rel=TOLERANCE, abs=1e-5)


@pytest.mark.parametrize("task", ["i2t", "i2i"])
def test_single_images(task: str) -> None:
    rng = np.random.default_rng(1)
    query = FeatureSet.from_arrays(5 * rng.normal(size=(3, 32)).astype(np.float32), track_id=["p", "p", "q"])
    gallery = FeatureSet.from_arrays(5 * rng.normal(size=(5, 32)).astype(np.float32), track_id=list("aabbc"))
    options = RankingOptions(task=task, metrics=("RSCR",), device="cpu")  # type: ignore[arg-type]
    found = by_name(rank(query, gallery, options)["RSCR"])
    ids = gallery.image_id if task == "i2i" else gallery.track_id
    for row, name in enumerate(query.image_id):
        for item in set(ids):
            images = gallery.matrix.take(np.flatnonzero(ids == item))
            expected = oracle(query.matrix.take(np.array([row])), images, 1.0)
            assert found[name, item] == pytest.approx(expected, rel=TOLERANCE)


def test_a_query_that_the_track_holds_keeps_its_digits() -> None:
    # The residual is then a thousandth of the query, and the Gram form of float32 products has no digits left.
    rng = np.random.default_rng(2)
    track = (30 * rng.normal(size=(4, 1920)) / 44).astype(np.float32)
    query = FeatureSet.from_arrays(track[1:2].copy(), track_id=["q"])
    gallery = FeatureSet.from_arrays(track, track_id=["g"] * 4)
    found = by_name(rank(query, gallery, RankingOptions(metrics=("RSCR",), device="cpu"))["RSCR"])
    assert found["q", "g"] == pytest.approx(oracle(track[1:2], track, 1.0), rel=TOLERANCE)


def test_both_definitions_agree_and_alpha_is_told() -> None:
    rng = np.random.default_rng(3)
    side = FeatureSet.from_arrays(4 * rng.normal(size=(6, 16)).astype(np.float32), track_id=list("aabbcc"))
    rankings = [
        rank(side, side, RankingOptions(metrics=("RSCR",), definition=definition, alpha=0.5, device="cpu"))["RSCR"]
        for definition in ("paper", "released")
    ]
    assert by_name(rankings[0]) == by_name(rankings[1])
    assert rankings[0].facts.alpha == 0.5


@pytest.mark.shared
def test_the_released_sample(shared: Path) -> None:
    query = read_features(shared / "reference" / "feat_query.json")
    gallery = read_features(shared / "reference" / "feat_test.json")
    found = by_name(rank(query, gallery, RankingOptions(metrics=("RSCR",), device="cpu"))["RSCR"])
    for (name, item), distance in found.items():
        images = [s.matrix.take(np.flatnonzero(s.track_id == t)) for s, t in ((query, name), (gallery, item))]
        assert distance == pytest.approx(oracle(*images, 1.0), rel=TOLERANCE)


@pytest.mark.parametrize("width", [2, 3, 5, 9])
def test_tracks_of_more_images_than_numbers(width: int) -> None:
    # Their Gram is singular: from float32 products it would be indefinite, and the objective without a minimum.
    rng = np.random.default_rng(width)
    sides = []
    for name, tracks in (("q", 3), ("g", 6)):
        lengths = rng.integers(7, 13, size=tracks)
        ids = [f"{name}{index}" for index, length in enumerate(lengths) for _ in range(length)]
        sides.append(FeatureSet.from_arrays(rng.normal(size=(len(ids), width)).astype(np.float32), track_id=ids))
    found = by_name(rank(*sides, RankingOptions(metrics=("RSCR",), device="cpu"))["RSCR"])
    arrays = [{track: s.matrix.take(np.flatnonzero(s.track_id == track)) for track in set(s.track_id)} for s in sides]
    for (query, item), distance in found.items():
        assert distance == pytest.approx(oracle(arrays[0][query], arrays[1][item], 1.0), rel=1e-5)
