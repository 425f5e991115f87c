"""Sparse codes against scikit-learn's Lasso in float64, solved to 1e-10, and by their duality gap."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from oracles import residual_norm

from vreid_cli.ranking import sparse_coding
from vreid_cli.ranking.sparse_coding import GAP, SparseCodes, solve_codes

Floats = NDArray[np.float64]


def solve(queries: Floats, tracks: Floats, alpha: float = 1.0) -> SparseCodes:
    """Codes of (q, D) images in (t, n, D) tracks."""
    rows, images = torch.tensor(queries), torch.tensor(tracks)
    products = torch.einsum("tnd,qd->ntq", images, rows)
    return solve_codes(products, images @ images.mT, rows.square().sum(dim=1), alpha=alpha)


def residuals_of(solved: SparseCodes, queries: Floats, tracks: Floats) -> Floats:
    """(t, q) residuals from the codes and the images themselves."""
    rebuilt = np.einsum("ntq,tnd->tqd", solved.codes.numpy(), tracks)
    return np.asarray(np.linalg.norm(queries - rebuilt, axis=2))


def relative_gap(solved: SparseCodes, queries: Floats, tracks: Floats, alpha: float = 1.0) -> float:
    """The largest duality gap in parts of the objective, from the definition: no Gram, no solver."""
    codes = solved.codes.numpy()
    left = queries - np.einsum("ntq,tnd->tqd", codes, tracks)
    strongest = np.abs(np.einsum("tqd,tnd->tqn", left, tracks)).max(axis=2)
    dual_point = left * np.minimum(1, alpha / strongest)[:, :, None]
    primal = (left**2).sum(axis=2) / 2 + alpha * np.abs(codes).sum(axis=0)
    dual = (queries**2).sum(axis=1) / 2 - ((queries - dual_point) ** 2).sum(axis=2) / 2
    return float(((primal - dual) / primal).max())


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 17, 60])
@pytest.mark.parametrize("kind", ["plain", "duplicate", "zero", "collinear", "opposite", "short", "member"])
def test_one_problem(count: int, kind: str) -> None:
    rng = np.random.default_rng(count)
    common = rng.normal(size=200)
    track = common + 0.5 * rng.normal(size=(count, 200))
    query = common + 0.5 * rng.normal(size=(1, 200))
    if kind == "duplicate":
        track[-1] = track[0]
    elif kind == "zero":
        track[-1] = 0
    elif kind in ("collinear", "opposite") and count > 2:
        track[1] = (2 if kind == "collinear" else -1) * track[0]
    elif kind == "short":  # of unit norm, where alpha = 1 leaves nothing
        track /= np.linalg.norm(track, axis=1, keepdims=True)
        query /= np.linalg.norm(query)
    elif kind == "member":
        query = track[:1].copy()
    solved = solve(query, track[None])
    assert solved.unsolved == 0
    found = residuals_of(solved, query, track[None])[0, 0]
    assert found == pytest.approx(residual_norm(query, track, 1.0), rel=1e-5, abs=1e-9)


def test_few_images_and_many_are_solved_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    common = rng.normal(size=30)
    tracks, queries = common + rng.normal(size=(5, 9, 30)), common + rng.normal(size=(4, 30))
    tracks[2, 5:] = tracks[2, :4]
    one_way = solve(queries, tracks)
    monkeypatch.setattr(sparse_coding, "_FEW", 0)
    monkeypatch.setattr(sparse_coding, "_GATHERED", 100)
    other_way = solve(queries, tracks)
    np.testing.assert_allclose(one_way.squared_residuals, other_way.squared_residuals, rtol=1e-8)
    assert max(relative_gap(each, queries, tracks) for each in (one_way, other_way)) <= GAP


def passage(rng: np.random.Generator, count: int, *, width: int, noise: float) -> Floats:
    """Images of one vehicle that goes by: each like the one before it."""
    way = rng.normal(size=(8, width)).cumsum(axis=0) * 0.3
    places = np.linspace(0, 7, count)
    images = [np.interp(places, np.arange(8), column) for column in way.T]
    return np.stack(images, axis=1) + noise * rng.normal(size=(count, width))


@pytest.mark.parametrize("kind", ["plain", "duplicate", "collinear", "low rank", "passage", "slow passage", "member"])
def test_tracks_of_hundreds_of_images(kind: str) -> None:
    rng = np.random.default_rng(4)
    common = 2 * rng.normal(size=240)
    tracks, queries = common + rng.normal(size=(2, 200, 240)), common + rng.normal(size=(5, 240))
    if kind in ("duplicate", "collinear"):
        tracks[:, 100:] = tracks[:, :100] * (1 if kind == "duplicate" else rng.uniform(0.5, 2, size=(100, 1)))
    elif kind == "low rank":
        tracks = common + rng.normal(size=(2, 200, 15)) @ rng.normal(size=(15, 240))
    elif "passage" in kind:
        noise = 1e-3 if kind == "slow passage" else 0.05
        tracks = common + np.stack([passage(rng, 200, width=240, noise=noise) for _ in range(2)])
    elif kind == "member":
        queries = tracks[1, :5].copy()
    solved = solve(queries, tracks)
    assert solved.unsolved == 0
    assert relative_gap(solved, queries, tracks) <= GAP
    np.testing.assert_allclose(solved.squared_residuals.sqrt(), residuals_of(solved, queries, tracks), rtol=1e-4)


@pytest.mark.slow
def test_a_track_of_hundreds_of_images_against_the_oracle() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(size=400)
    track, query = common + 0.4 * rng.normal(size=(300, 400)), common + 0.4 * rng.normal(size=(1, 400))
    found = residuals_of(solve(query, track[None]), query, track[None])[0, 0]
    assert found == pytest.approx(residual_norm(query, track, 1.0), rel=1e-5)


def test_what_float64_cannot_tell_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    # Images that differ in the tenth digit would need codes of millions.
    monkeypatch.setattr(sparse_coding, "_MOST_ROUNDS", 60)
    rng = np.random.default_rng(3)
    base, query = 1e3 * rng.normal(size=50), 1e3 * rng.normal(size=(1, 50))
    tracks = (base + 1e-6 * rng.normal(size=(20, 50)))[None]
    solved = solve(query, tracks, alpha=1e-6)
    assert solved.unsolved == 1
    assert np.isfinite(solved.codes.numpy()).all()
