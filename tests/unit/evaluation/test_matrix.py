"""A matrix of distances is scored as its sorted lists are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from oracles import evaluate as brute_force
from worlds import WORLDS, World

from vreid_cli.errors import DataError
from vreid_cli.evaluation.evaluate import evaluate
from vreid_cli.evaluation.matrix import evaluate_distances
from vreid_cli.evaluation.options import EvaluationOptions

RANKS = (1, 3, 5)


@pytest.mark.slow
@pytest.mark.parametrize("ap_rule", ["rectangle", "trapezoid"])
@pytest.mark.parametrize("same_camera", ["drop", "keep"])
@settings(max_examples=60)
@given(made=WORLDS)
def test_a_matrix_is_scored_as_its_sorted_lists(ap_rule: Any, same_camera: Any, made: World) -> None:
    options = EvaluationOptions(same_camera=same_camera, ap=ap_rule, ranks=RANKS, resamples=100)
    found = evaluate_distances(made.distances, **made.labels(), options=options)
    expected = brute_force(made.lists(), same_camera=same_camera, ap_rule=ap_rule, ranks=RANKS)
    assert (found.valid_queries, found.positives, found.junk) == (expected.valid, expected.positives, expected.junk)
    for one, other in ((found.mean_ap, expected.mean_ap), (found.mean_inp, expected.mean_inp)):
        assert one == pytest.approx(other, abs=1e-9) if other is not None else one is None
    listed = evaluate(made.ranking(), options)
    for name, column in vars(listed.queries).items():
        if name not in ("query_ids", "listed"):
            rows = [made.ranking().queries.ids[int(q)] for q in found.queries.query_ids]
            own = column[[list(listed.queries.query_ids).index(name) for name in rows]]
            assert np.array_equal(getattr(found.queries, name), own, equal_nan=column.dtype != object)
    assert found.cmc == pytest.approx(expected.cmc, abs=1e-9) if expected.valid else set(found.cmc.values()) == {None}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("spread", [1e-6, 1.0, 1e30])
def test_a_large_matrix_in_many_blocks(dtype: type[np.floating], spread: float) -> None:
    rng = np.random.default_rng(1)
    # Most distances share a few bins: outliers stretch them.
    distances = np.concatenate([rng.normal(size=(300, 3000)), 1e3 * rng.random(size=(300, 5))], axis=1)
    distances = (spread * distances).clip(-6e4, 6e4).astype(dtype)
    vehicles = [str(v) for v in rng.integers(0, 40, size=3005)]
    own = [str(v) for v in rng.integers(0, 40, size=300)]
    found = evaluate_distances(distances, query_vehicles=own, gallery_vehicles=vehicles)
    order = np.argsort(distances, axis=1, kind="stable")
    positive = np.array(vehicles)[order] == np.array(own)[:, None]
    precision = positive.cumsum(axis=1) / np.arange(1, 3006)
    expected = ((precision * positive).sum(axis=1) / positive.sum(axis=1)).mean()
    assert found.mean_ap == pytest.approx(expected, abs=1e-9)


def test_a_matrix_that_does_not_fit_its_labels_or_has_gaps() -> None:
    made = World(0, queries=3, gallery=4)
    with pytest.raises(DataError, match="3 rows"):
        evaluate_distances(made.distances, query_vehicles=["v"] * 2, gallery_vehicles=["v"] * 4)
    with pytest.raises(DataError, match="4 columns"):
        evaluate_distances(made.distances, query_vehicles=["v"] * 3, gallery_vehicles=["v"] * 3)
    with pytest.raises(DataError, match="4 columns"):
        evaluate_distances(
            made.distances, query_vehicles=["v"] * 3, gallery_vehicles=["v"] * 4, gallery_cameras=["c"] * 5
        )
    with pytest.raises(DataError, match="NaN"):
        evaluate_distances(made.distances * np.nan, query_vehicles=["v"] * 3, gallery_vehicles=["v"] * 4)
