"""Random splits of one set into queries and gallery."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vreid_cli.errors import DataError
from vreid_cli.ranking.trials import split_trial
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.rankings import RankingFacts


def images(vehicles: list[str | None]) -> FeatureSet:
    features = np.arange(2.0 * len(vehicles)).reshape(-1, 2)
    names = [f"{index}.jpg" for index in range(len(vehicles))]
    return FeatureSet.from_arrays(features, track_id=names, image_id=names, vehicle_id=vehicles, source="made")


def positions(features: FeatureSet) -> list[int]:
    """Where the images stood in the whole set."""
    return [int(name.removesuffix(".jpg")) for name in features.image_id]


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=30), st.integers(0, 2**62), st.integers(0, 20))
def test_one_image_of_each_vehicle_and_all_others_are_queries(vehicles: list[str], seed: int, trial: int) -> None:
    if len(set(vehicles)) == len(vehicles):
        with pytest.raises(DataError, match="no vehicle has two images"):
            split_trial(images([*vehicles]), seed=seed, trial=trial)
        return
    query, gallery = split_trial(images([*vehicles]), seed=seed, trial=trial)
    assert sorted(gallery.vehicle_id) == sorted(set(vehicles))
    assert sorted([*positions(query), *positions(gallery)]) == list(range(len(vehicles)))
    assert positions(query) == sorted(positions(query))
    assert positions(gallery) == sorted(positions(gallery))
    for side in (query, gallery):
        assert (side.trial, side.trial_seed) == (trial, seed)
        np.testing.assert_array_equal(side.matrix.take(np.arange(len(side)))[:, 0], 2 * np.array(positions(side)))
    again = split_trial(images([*vehicles]), seed=seed, trial=trial)[1]
    assert positions(again) == positions(gallery)


def test_every_image_has_the_same_chance() -> None:
    vehicles: list[str | None] = ["a"] * 2 + ["b"] * 4 + ["c"]
    chosen = np.zeros(7)
    for trial in range(2000):
        chosen[positions(split_trial(images(vehicles), seed=3, trial=trial)[1])] += 1
    np.testing.assert_allclose(chosen / 2000, [1 / 2] * 2 + [1 / 4] * 4 + [1], atol=0.05)


def test_trials_differ_and_so_do_seeds() -> None:
    vehicles: list[str | None] = [f"{row % 20}" for row in range(200)]
    galleries = {
        tuple(positions(split_trial(images(vehicles), seed=seed, trial=trial)[1]))
        for seed in range(3)
        for trial in range(3)
    }
    assert len(galleries) == 9


def test_an_image_without_a_vehicle_cannot_be_chosen() -> None:
    with pytest.raises(DataError, match=r"image 1\.jpg has no vehicle"):
        split_trial(images(["a", None, "a"]), seed=0, trial=0)


def test_facts_keep_the_trial() -> None:
    facts = RankingFacts(trial=0, trial_seed=2**62)
    assert RankingFacts.from_metadata(facts.to_metadata()) == facts
    assert RankingFacts.from_metadata(RankingFacts().to_metadata()).trial is None
