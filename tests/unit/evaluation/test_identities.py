"""Scores of identities against brute force and motmetrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from partitions import score_by_brute_force

import vreid_cli as vreid
from vreid_cli.errors import DataError
from vreid_cli.types.arrays import text_array
from vreid_cli.types.identities import Identities, TrackTimes
from vreid_cli.types.tracks import Items

TRACKS = st.lists(
    st.tuples(st.integers(1, 5), st.sampled_from(["a", "b", "c", "d", None]), st.integers(1, 9)), min_size=1, max_size=9
)


def made(rows: list[tuple[int, str | None, int]]) -> Identities:
    identity, vehicle, images = zip(*rows, strict=True)
    names = text_array([f"t{k}" for k in range(len(rows))])
    return Identities(
        Items(names, text_array(vehicle), text_array([None] * len(rows))),
        np.array(identity, dtype=np.int32),
        np.array(images, dtype=np.int64),
        TrackTimes.unknown(len(rows)),
        *np.zeros((2, len(rows))),
        names,
    )


@given(TRACKS)
def test_scores_are_those_of_brute_force(rows: list[tuple[int, str | None, int]]) -> None:
    if all(vehicle is None for _, vehicle, _ in rows):
        with pytest.raises(DataError, match="the vehicle of no track is known"):
            vreid.evaluate_identities(made(rows))
        return
    found = vreid.evaluate_identities(made(rows), vreid.EvaluationOptions(resamples=100))
    for name, wanted in score_by_brute_force(*zip(*rows, strict=True)).items():
        assert found.scores[name].value == pytest.approx(wanted, nan_ok=True), name
    assert found.tracks + found.unlabelled == len(rows)
    identities, vehicles, images = zip(*(row for row in rows if row[1] is not None), strict=True)
    assert (found.vehicles, found.identities, found.images) == (len(set(vehicles)), len(set(identities)), sum(images))
    assert (found.scores["IDF1"].interval is None) == (found.vehicles == 1)


@settings(max_examples=10)
@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from("abcdef"), st.integers(1, 5)), min_size=2, max_size=12))
def test_id_measures_are_those_of_motmetrics(rows: list[tuple[int, str, int]]) -> None:
    motmetrics = pytest.importorskip("motmetrics")
    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    # Every image is a frame of its own, in which the vehicle and its identity are in one place.
    for identity, vehicle, images in rows:
        for _ in range(images):
            accumulator.update([ord(vehicle)], [identity], [[0.0]])
    names = {"IDF1": "idf1", "IDP": "idp", "IDR": "idr"}
    wanted = motmetrics.metrics.create().compute(accumulator, metrics=list(names.values()), name="x")
    found = vreid.evaluate_identities(made(list(rows)))
    for own, theirs in names.items():
        assert found.scores[own].value == pytest.approx(float(wanted[theirs]["x"]))


def test_intervals_hold_the_score_and_depend_on_the_seed_alone() -> None:
    rng = np.random.default_rng(5)
    rows = [(int(rng.integers(1, 30)), f"v{rng.integers(20)}", int(rng.integers(1, 9))) for _ in range(80)]
    found, again = (vreid.evaluate_identities(made(rows), seed=3) for _ in range(2))
    for name, score in found.scores.items():
        assert score.interval is not None
        assert score.interval.low < score.value < score.interval.high, name
        assert again.scores[name].interval == score.interval
    assert vreid.evaluate_identities(made([(1, "a", 2), (2, "a", 2)])).scores["IDF1"].interval is None


def test_nobody_together_has_no_precision_of_pairs() -> None:
    found = vreid.evaluate_identities(made([(1, "a", 1), (2, "a", 1), (3, "b", 1)]))
    assert math.isnan(found.scores["pair_precision"].value)
    assert found.scores["pair_recall"].value == 0
    assert found.scores["bcubed_precision"].value == 1
