"""Feature sets in memory."""

from __future__ import annotations

import numpy as np

from vreid_cli.types.features import FeatureSet


def test_a_selection_of_a_feature_set() -> None:
    whole = FeatureSet.from_arrays(
        np.arange(8.0).reshape(-1, 2), track_id=list("abcd"), vehicle_id=list("abcd"), source="made"
    )
    part = whole.select(np.array([3, 1]))
    assert (len(part), part.dimension, list(part.vehicle_id), part.source) == (2, 2, ["d", "b"], "made")
    np.testing.assert_array_equal(part.matrix.take(np.array([1, 0, 1])), [[2, 3], [6, 7], [2, 3]])
    again = part.select(np.array([0]))
    np.testing.assert_array_equal(again.matrix.take(np.array([0])), [[6, 7]])
