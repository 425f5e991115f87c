"""From distances to probabilities and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vreid_cli.types.calibrations import Calibration, FittedOn, logit, sigmoid

FITTED = FittedOn(dataset="csv", vehicles=10, digest="d", queries=10, same=10, different=90)
MADE = Calibration(
    task="t2t",
    metric="meanMCD50",
    distances=(0.1, 0.2, 0.3, 0.5),
    log_ratios=(6.0, 2.0, 2.0, -4.0),
    expected=2.0,
    fitted_on=FITTED,
)


@given(probability=st.floats(1e-6, 1 - 1e-6), prior=st.floats(1e-6, 0.9))
def test_the_farthest_distance_is_the_last_float_with_the_probability(probability: float, prior: float) -> None:
    found = MADE.farthest(probability, prior=prior)

    def said(distance: float) -> float:
        return float(MADE.probability(np.array([distance], dtype=np.float32), prior=prior)[0])

    if found is None:
        assert said(0.0) < probability
    elif found == np.inf:
        assert said(1e30) >= probability
    else:
        assert said(found) >= probability
        assert said(float(np.nextafter(np.float32(found), np.float32(np.inf)))) < probability


def test_probabilities_fall_with_the_distance_and_follow_bayes() -> None:
    distance = np.linspace(0, 1, 101)
    for prior in (0.001, 0.5):
        said = MADE.probability(distance, prior=prior)
        assert (np.diff(said) <= 0).all()
        ratio = np.exp(MADE.log_ratio(distance))
        assert said == pytest.approx(ratio * prior / (ratio * prior + 1 - prior))


def test_priors_follow_the_size_of_the_gallery() -> None:
    assert MADE.prior(gallery_size=1000) == 0.002
    assert MADE.prior(gallery_size=3) == 0.5  # no more than half, if nobody says so
    assert MADE.prior(gallery_size=3, expected=2.4) == pytest.approx(0.8)


def test_log_odds_and_probabilities_are_inverse() -> None:
    for probability in (1e-12, 0.3, 0.999):
        assert sigmoid(np.array([logit(probability)]))[0] == pytest.approx(probability)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distances": [0.1]}, "distances"),
        ({"distances": [0.1, 0.2, 0.5, 0.3]}, "must rise"),
        ({"log_ratios": [1.0, 2.0, 2.0, 1.0]}, "must rise and log_ratios must not"),
        ({"log_ratios": [1.0, 0.0]}, "4 distances for 2 log_ratios"),
        ({"log_ratios": [float("nan")] * 4}, "log_ratios"),
        ({"expected": 0}, "expected"),
        ({"fitted_on": None}, "fitted_on"),
        ({"method": "magic"}, "method"),
    ],
)
def test_values_that_make_no_calibration_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    assert Calibration.from_dict(MADE.to_dict()) == MADE
    with pytest.raises(ValueError, match=message):
        Calibration.from_dict({**MADE.to_dict(), **change})
