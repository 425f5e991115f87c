"""Log-likelihood ratios by distance, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import drawn, true_log_ratio
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from vreid_cli.evaluation.likelihood import fit_isotonic, fit_logistic, maximise_likelihood


def labelled(seed: int, size: int, levels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances with ties, both kinds of pairs, whole weights with zeros among them."""
    rng = np.random.default_rng(seed)
    same = rng.random(size) < 0.4
    same[:2] = [True, False]
    distance = np.round(drawn(rng, same) * levels) / levels
    weight = rng.integers(0, 4, size=size).astype(float)
    weight[:2] = 1
    order = np.argsort(distance, kind="stable")
    return distance[order], same[order], weight[order]


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(2, 120), levels=st.sampled_from([1, 3, 20, 10**6]))
def test_isotonic_is_that_of_scikit_learn_with_a_pair_of_either_kind_added(seed: int, size: int, levels: int) -> None:
    distance, same, weight = labelled(seed, size, levels)
    used = weight > 0
    x, y, w = distance[used], same[used].astype(float), weight[used]
    low, high = x[0], x[-1]
    # The pairs that are added stand at the ends themselves: there a pool holds them.
    oracle = IsotonicRegression(increasing=False).fit(
        np.concatenate([[low], x, [high]]), np.concatenate([[0.0], y, [1.0]]), np.concatenate([[1.0], w, [1.0]])
    )
    total = (w @ y + 1, w @ (1 - y) + 1)
    share = np.clip(oracle.predict(x), 1e-300, 1)
    with np.errstate(divide="ignore"):
        expected = np.log(share) - np.log1p(-share) - np.log(total[0] / total[1])
    knots, ratios = fit_isotonic(distance, same, weight)
    assert np.interp(x, knots, ratios) == pytest.approx(expected, abs=1e-9)
    assert (np.diff(knots) >= 0).all()
    assert (np.diff(ratios) <= 0).all()
    assert np.isfinite(ratios).all()
    # Pairs that stand for none leave no knot.
    for ours, alone in zip((knots, ratios), fit_isotonic(x, same[used], w), strict=True):
        assert ours.tolist() == alone.tolist()


def test_logistic_is_that_of_scikit_learn_with_platts_targets() -> None:
    distance, same, weight = labelled(5, 400, 10**6)
    used = weight > 0
    x, y, w = distance[used], same[used], weight[used]
    total = (w @ y, w @ ~y)
    target = np.where(y, (total[0] + 1) / (total[0] + 2), 1 / (total[1] + 2))
    # A target between 0 and 1 is a row of each kind.
    rows, kinds = np.concatenate([x, x])[:, None], np.repeat([1, 0], len(x))
    oracle = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000)
    oracle.fit(rows, kinds, sample_weight=np.concatenate([w * target, w * (1 - target)]))
    expected = oracle.decision_function(x[:, None]) - np.log(total[0] / total[1])
    assert np.interp(x, *fit_logistic(distance, same, weight)) == pytest.approx(expected, abs=1e-4)


def test_kinds_that_no_distance_mixes_have_finite_ratios() -> None:
    distance, same = np.arange(40.0), np.arange(40) < 20
    for fit in (fit_isotonic, fit_logistic):
        _, ratios = fit(distance, same, np.ones(40))
        assert np.isfinite(ratios).all()
        assert ratios[0] > 2
        assert ratios[-1] < -2


@pytest.mark.parametrize("fit", [fit_isotonic, fit_logistic])
def test_the_known_ratio_of_two_bells_is_found(fit: type) -> None:
    rng = np.random.default_rng(3)
    same = np.arange(60_000) < 20_000
    distance = drawn(rng, same)
    order = np.argsort(distance)
    knots, ratios = fit(distance[order], same[order], np.ones(len(same)))
    at = np.linspace(1.1, 1.9, 9)
    assert np.interp(at, knots, ratios) == pytest.approx(true_log_ratio(at), abs=0.35)


def test_a_regression_recovers_the_factors_it_was_drawn_with() -> None:
    rng = np.random.default_rng(1)
    columns = np.stack([np.ones(40_000), rng.normal(size=40_000), rng.normal(size=40_000)])
    factors = np.array([-1.0, 2.0, 0.5])
    drawn_same = rng.random(40_000) < 1 / (1 + np.exp(-factors @ columns))
    found = maximise_likelihood(columns, drawn_same.astype(float), np.ones(40_000), start=np.zeros(3))
    assert found == pytest.approx(factors, abs=0.07)
