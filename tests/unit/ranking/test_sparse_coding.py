"""Sparse codes against scikit-learn's Lasso in float64, solved to 1e-10."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracles import residual_norm

from vreid_cli.ranking.sparse_coding import solve_codes

#: RSCR against a float64 oracle, relative (docs/definitions.md#tolerances).
TOLERANCE = 1e-4


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
    assert solve_one(query, track) == pytest.approx(residual_norm(query[None], track, 1.0), rel=1e-5, abs=1e-9)


@pytest.mark.slow
def test_a_track_of_hundreds_of_images() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(size=400)
    track, query = common + 0.4 * rng.normal(size=(300, 400)), common + 0.4 * rng.normal(size=400)
    assert solve_one(query, track) == pytest.approx(residual_norm(query[None], track, 1.0), rel=1e-5)


@pytest.mark.slow
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
        assert found == pytest.approx(residual_norm(query[None], track, 1.0), rel=TOLERANCE)
