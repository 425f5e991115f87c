"""Tracks compared with their candidates alone: the pairs that a loop finds, at their exact distances."""

from __future__ import annotations

import numpy as np
import pytest
from ranked import features as features_of
from ranked import random_tracks

import vreid_cli as vreid
from vreid_cli.association.distances import TrackDistances
from vreid_cli.errors import DataError, UsageError
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.index import Geometry


def made() -> FeatureSet:
    return features_of(random_tracks(np.random.default_rng(5), "t", count=40, width=6, longest=5))


def index_of(features: FeatureSet, distance: Geometry) -> vreid.ImageIndex:
    return vreid.build_index(features, vreid.IndexOptions(kind="flat", distance=distance))


@pytest.mark.parametrize(("metric", "distance"), [("minMED", "euclidean"), ("meanMCD50", "cosine")])
def test_each_pair_of_which_one_is_near_the_other_is_compared_once(metric: str, distance: Geometry) -> None:
    features, options = made(), vreid.AssociationOptions(metric=metric)
    distances = TrackDistances(features, options)
    found = list(distances.between_candidates(index_of(features, distance), 3))
    one, other, value = (np.concatenate(column) for column in zip(*found, strict=True))
    (strip,) = TrackDistances(features, options).strips()
    np.testing.assert_allclose(value, strip.distance[one, other], rtol=1e-6, atol=1e-7)
    nearest = TrackDistances(features, vreid.AssociationOptions(metric="minMED" if "MED" in metric else "minMCD"))
    (apart,) = nearest.strips()
    near = np.argsort(apart.distance, axis=1, kind="stable")[:, :4]
    expected = {tuple(sorted((i, int(j)))) for i, row in enumerate(near) for j in row if i != j}
    assert len(one) == len(expected)
    assert set(zip(one.tolist(), other.tolist(), strict=True)) == expected


def test_all_tracks_as_candidates_give_the_same_identities() -> None:
    features = made()
    options = vreid.AssociationOptions(threshold=0.6)
    whole = vreid.associate(features, options)
    assert 1 < whole.count < 40
    index = index_of(features, "cosine")
    same = vreid.associate(features, options.model_copy(update={"candidates": 39}), index=index)
    assert same.identity.tolist() == whole.identity.tolist()
    np.testing.assert_allclose(same.confidence, whole.confidence, rtol=1e-5)
    assert (same.facts["candidates"], whole.facts["candidates"]) == (39, None)


def test_an_index_that_does_not_fit_is_refused() -> None:
    features, options = made(), vreid.AssociationOptions(threshold=0.6, candidates=3)
    with pytest.raises(UsageError, match="what proposes them"):
        vreid.associate(features, options)
    with pytest.raises(UsageError, match="no index for the cosine distance"):
        vreid.associate(features, options, index=index_of(features, "euclidean"))
    with pytest.raises(DataError, match="the index holds 5 images"):
        vreid.associate(features, options, index=index_of(features.select(np.arange(5)), "cosine"))


def test_candidates_may_be_of_the_same_camera() -> None:
    # One vehicle passes the first camera twice; what the second camera saw is farther.
    cars = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    features = FeatureSet.from_arrays(cars, track_id=["a", "b", "c"], camera_id=["1", "1", "2"])
    options = vreid.AssociationOptions(metric="minMCD", threshold=0.1, candidates=1)
    assert vreid.associate(features, options, index=index_of(features, "cosine")).identity.tolist() == [1, 1, 2]
