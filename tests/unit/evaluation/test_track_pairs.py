"""Errors of a threshold between tracks, against counting."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vreid_cli.evaluation.track_pairs import track_pair_errors
from vreid_cli.types.arrays import text_array


@given(st.lists(st.sampled_from(["a", "b", None]), min_size=2, max_size=9), st.integers(0, 2**32 - 1))
def test_rates_are_shares_of_pairs(vehicles: list[str | None], seed: int) -> None:
    one, other = np.triu_indices(len(vehicles), 1)
    distance = np.random.default_rng(seed).random(len(one)).astype(np.float32)
    pairs = list(zip(one, other, distance, strict=True))
    same = [d for a, b, d in pairs if vehicles[a] is not None and vehicles[a] == vehicles[b]]
    differ = [d for a, b, d in pairs if None not in (vehicles[a], vehicles[b]) and vehicles[a] != vehicles[b]]
    half = len(one) // 2
    blocks = [(one[:half], other[:half], distance[:half]), (one[half:], other[half:], distance[half:])]
    curve = track_pair_errors(blocks, text_array(vehicles))
    if not same or not differ:
        assert curve is None
        return
    assert curve is not None
    assert (curve.positives, curve.negatives) == (len(same), len(differ))
    for t, false, missed in zip(curve.thresholds, curve.false_match_rate, curve.miss_rate, strict=True):
        assert false == np.mean(np.array(differ) <= t)
        assert abs(missed - np.mean(np.array(same) > t)) < 1e-9
