"""From features to identities: symmetric distances, times of tracks, and the library's function as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import MCD_ABSOLUTE, TRACK_METRICS, track_distance
from partitions import link_by_brute_force

import vreid_cli as vreid
from vreid_cli.association.distances import TrackDistances
from vreid_cli.errors import DataError, UsageError
from vreid_cli.types.calibrations import Calibration, FittedOn

SEEDS = st.integers(0, 2**32 - 1)


def draw(seed: int, *, tracks: int) -> tuple[vreid.FeatureSet, list[np.ndarray]]:
    """Tracks of one to four images, with cameras and frames."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 5, size=tracks)
    features = rng.normal(size=(lengths.sum(), 6)).astype(np.float32)
    owner = np.repeat(np.arange(tracks), lengths)
    set_of = vreid.FeatureSet.from_arrays(
        features,
        track_id=[f"t{k:02d}" for k in owner],
        camera_id=[f"c{k % 3}" for k in owner],
        frame=(rng.integers(1, 90, size=tracks)[owner] + np.arange(len(owner))).tolist(),
    )
    return set_of, np.split(features, np.cumsum(lengths)[:-1])


def full_matrix(images: list[np.ndarray], metric: str) -> np.ndarray:
    """The mean of both directions, by the oracle."""
    there = np.array([[track_distance(one, other, metric, "paper") for other in images] for one in images])
    return (there + there.T) / 2


@pytest.mark.parametrize("metric", TRACK_METRICS)
def test_distances_are_the_mean_of_both_directions(metric: str) -> None:
    features, images = draw(3, tracks=23)
    wanted = full_matrix(images, metric)
    options = vreid.AssociationOptions(metric=metric)
    # So little memory that there are many strips.
    for runtime in (vreid.RuntimeOptions(), vreid.RuntimeOptions(memory_budget_mb=1)):
        distances = TrackDistances(features, options, runtime=runtime)
        for strip in distances.strips():
            one, other, found = strip.later()
            np.testing.assert_allclose(found, wanted[one, other], rtol=1e-5, atol=MCD_ABSOLUTE)


def test_every_pair_comes_once() -> None:
    features, _ = draw(4, tracks=9)
    strips = TrackDistances(features, vreid.AssociationOptions()).strips()
    pairs = [pair for strip in strips for pair in zip(*(ends.tolist() for ends in strip.later()[:2]), strict=True)]
    assert sorted(pairs) == [(a, b) for a in range(9) for b in range(a + 1, 9)]


@settings(max_examples=25)
@given(seed=SEEDS, tracks=st.integers(1, 12), other=st.booleans(), threshold=st.floats(0.2, 1.4))
def test_identities_are_those_of_brute_force(seed: int, tracks: int, other: bool, threshold: float) -> None:
    features, images = draw(seed, tracks=tracks)
    options = vreid.AssociationOptions(threshold=threshold, cameras="other" if other else "all")
    found = vreid.associate(features, options)
    first, last = found.times.first, found.times.last

    def possible(a: int, b: int) -> bool:
        if a % 3 != b % 3:
            return True
        return not other and (first[a] > last[b] or first[b] > last[a])

    wanted = link_by_brute_force(
        full_matrix(images, "meanMCD50"), threshold=threshold, reach=2 * threshold, possible=possible
    )
    assert (found.identity - 1).tolist() == wanted
    assert found.tracks.ids.tolist() == [f"t{k:02d}" for k in range(tracks)]
    assert found.images.tolist() == [len(rows) for rows in images]


def evidence(farthest: float = 1.6, *, metric: str = "meanMCD50", flat: float = 0.1) -> Calibration:
    """A ratio of e³ that stays, falls to 1/e³ and stays again."""
    return Calibration(
        task="t2t",
        metric=metric,
        definition="paper",
        track_unit="passage",
        distances=(0.0, flat, farthest / 2, farthest),
        log_ratios=(3.0, 3.0, 1.0, -3.0),
        expected=2.0,
        fitted_on=FittedOn(dataset=None, vehicles=10, digest="", queries=10, same=10, different=90),
    )


@settings(max_examples=40)
@given(seed=SEEDS, tracks=st.integers(2, 12), wanted=st.floats(0.02, 0.8), by_distance=st.booleans())
def test_with_a_calibration_evidence_is_linked_as_brute_force_does(
    seed: int, tracks: int, wanted: float, by_distance: bool
) -> None:
    features, images = draw(seed, tracks=tracks)
    calibration, expected = evidence(), 0.7
    prior = expected / (tracks - 1)
    log_ratio = np.interp(full_matrix(images, "meanMCD50"), calibration.distances, calibration.log_ratios)
    odds = log_ratio + np.log(prior / (1 - prior))
    options: dict[str, float] = {"threshold": wanted} if by_distance else {"min_probability": wanted}
    least = np.log(wanted / (1 - wanted)) - np.log(prior / (1 - prior))
    if by_distance:
        least = float(np.interp(wanted, calibration.distances, calibration.log_ratios))
    chosen = vreid.AssociationOptions(expected=expected, cameras="other", **options)
    if least > 3:
        with pytest.raises(UsageError, match="no distance makes one vehicle"):
            vreid.associate(features, chosen, calibration=calibration)
        return
    found = vreid.associate(features, chosen, calibration=calibration)
    cost, threshold = (3 - log_ratio).astype(np.float32), 3 - least
    reach = min(2 * threshold, 6.0)
    labels = link_by_brute_force(cost, threshold=threshold, reach=reach or 1e-30, possible=lambda a, b: a % 3 != b % 3)
    assert (found.identity - 1).tolist() == labels
    pairs = 1 / (1 + np.exp(-np.maximum(odds, 3 - reach + np.log(prior / (1 - prior)))))
    for k, own in enumerate(labels):
        members = [m for m in range(tracks) if labels[m] == own]
        mean = np.mean([pairs[a, b] for a in members for b in members if a < b]) if len(members) > 1 else np.nan
        assert found.probability[k] == pytest.approx(mean, rel=1e-4, nan_ok=True)
        if not by_distance and len(members) == 2:
            assert found.probability[k] >= wanted - 1e-6


def test_a_calibration_must_fit_and_gives_a_threshold() -> None:
    features = two_tracks()
    found = vreid.associate(features, calibration=evidence())
    assert found.identity.tolist() == [1, 1]
    assert found.facts["min_probability"] == 0.5
    assert found.facts["prior"] == 0.5
    with pytest.raises(DataError, match="a calibration of minMED does not fit: its metric is minMED, not meanMCD50"):
        vreid.associate(features, calibration=evidence(metric="minMED"))
    with pytest.raises(UsageError, match="two ways to say one thing"):
        vreid.associate(features, vreid.AssociationOptions(threshold=0.9, min_probability=0.9))
    with pytest.raises(UsageError, match="no calibration gives meanMCD50 probabilities"):
        vreid.associate(features, vreid.AssociationOptions(min_probability=0.9))
    with pytest.raises(UsageError, match=r"associate\.expected 3: of 2 tracks fewer others"):
        vreid.associate(features, vreid.AssociationOptions(expected=3), calibration=evidence())
    assert np.isnan(vreid.associate(features, vreid.AssociationOptions(threshold=1.0)).probability).all()


@settings(max_examples=25)
@given(seed=SEEDS, low=st.integers(-5, 20), length=st.integers(0, 40))
def test_no_identity_breaks_a_travel_time(seed: int, low: int, length: int) -> None:
    features, _ = draw(seed, tracks=12)
    window = vreid.TravelWindow("c0", "c1", low, low + length)
    clocks = {f"c{k}": vreid.Clock(fps=1.0, start=float(k)) for k in range(3)}
    options = vreid.AssociationOptions(threshold=1.4)
    found = vreid.associate(features, options, travel_times=[window], clocks=clocks)
    for a in range(0, 12, 3):
        for b in range(1, 12, 3):
            if found.identity[a] == found.identity[b]:
                assert low <= found.times.start[b] - found.times.end[a] <= low + length


def two_tracks(**more: Any) -> vreid.FeatureSet:
    return vreid.FeatureSet.from_arrays(np.eye(2) + 1, track_id=["a", "b"], camera_id=["c", "c"], **more)


def test_spans_count_more_than_the_frames_of_the_images() -> None:
    options = vreid.AssociationOptions(threshold=1.0)
    features = two_tracks(frame=[1, 9])
    assert vreid.associate(features, options).identity.tolist() == [1, 1]
    spans = {"a": (1, 9)}
    assert vreid.associate(features, options, spans=spans).identity.tolist() == [1, 2]
    with pytest.raises(DataError, match="track a ends with frame 3, before it begins with 5"):
        vreid.associate(features, options, spans={"a": (5, 3)})


def test_what_cannot_be_done_is_said() -> None:
    with pytest.raises(UsageError, match="needs a threshold"):
        vreid.associate(two_tracks())
    options = vreid.AssociationOptions(threshold=0.1)
    with pytest.raises(DataError, match="holds no features"):
        vreid.associate(vreid.FeatureSet.from_arrays(np.empty((0, 3)), track_id=[]), options)
    with pytest.raises(DataError, match="has no track"):
        vreid.associate(vreid.FeatureSet.from_arrays(np.eye(2), track_id=["a", None]), options)
    with pytest.raises(ValueError, match="meanMCD5"):
        vreid.AssociationOptions(metric="meanMCD5")


def test_a_threshold_of_zero_joins_equal_tracks_only() -> None:
    features = vreid.FeatureSet.from_arrays(np.array([[1.0, 0], [1, 0], [0, 1]]), track_id=["a", "b", "c"])
    options = vreid.AssociationOptions(metric="minMED", threshold=0.0)
    assert vreid.associate(features, options).identity.tolist() == [1, 1, 2]
