"""How sure scores are, which threshold means the same vehicle, and parts of a ranking."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from oracles import Entry
from oracles import evaluate as brute_force

from vreid_cli.errors import DataError
from vreid_cli.evaluation.assess import Rules, assess
from vreid_cli.evaluation.breakdown import CameraPairs, by_track_length
from vreid_cli.evaluation.matrix import evaluate_distances
from vreid_cli.evaluation.scores import QueryScores, score_queries, summarise
from vreid_cli.evaluation.thresholds import PairCounter
from vreid_cli.evaluation.truth import StatedTruth
from vreid_cli.evaluation.uncertainty import compare, mean_intervals
from vreid_cli.types.arrays import text_array
from vreid_cli.types.rankings import RankingFacts
from vreid_cli.types.truth import ImageTruth, JudgedRows

Floats = NDArray[np.floating]
SEEDS = st.integers(0, 2**32 - 1)
RANKS = (1, 3, 5)


# -- a matrix and its labels ---------------------------------------------------------------------------------


class World:
    """Distances with ties, labels of both sides with gaps, and where each query itself lies in the gallery."""

    def __init__(self, seed: int, *, queries: int, gallery: int, levels: int = 7) -> None:
        rng = np.random.default_rng(seed)

        def labels(count: int, kinds: int, prefix: str) -> list[str | None]:
            return [None if rng.random() < 0.1 else f"{prefix}{rng.integers(kinds)}" for _ in range(count)]

        self.distances = (rng.integers(0, levels, size=(queries, gallery)) / 3).astype(np.float32)
        self.query_vehicles, self.gallery_vehicles = labels(queries, 3, "v"), labels(gallery, 5, "v")
        self.query_cameras, self.gallery_cameras = labels(queries, 3, "c"), labels(gallery, 3, "c")
        self.selves = [int(rng.integers(gallery)) if rng.random() < 0.5 else -1 for _ in range(queries)]

    def same_vehicle(self, query: int, item: int) -> bool:
        own = self.query_vehicles[query]
        return own is not None and own == self.gallery_vehicles[item]

    def same_camera(self, query: int, item: int) -> bool:
        own = self.query_cameras[query]
        return own is not None and own == self.gallery_cameras[item]

    def lists(self, items: list[int] | None = None) -> list[list[Entry]]:
        """Each query's list of some of the gallery, nearest first, ties by position."""
        return [
            [
                Entry(self.same_vehicle(q, i), self.same_camera(q, i), self.selves[q] == i)
                for i in np.argsort(row, kind="stable").tolist()
                if items is None or i in items
            ]
            for q, row in enumerate(self.distances)
        ]

    def judged(self) -> JudgedRows:
        order = np.argsort(self.distances, axis=1, kind="stable")
        count, size = order.shape
        pairs = [(q, int(i)) for q in range(count) for i in order[q]]
        return JudgedRows(
            query_ids=text_array([f"q{q}" for q in range(count)]),
            vehicles=text_array(self.query_vehicles),
            query=np.repeat(np.arange(count, dtype=np.int32), size),
            rank=np.tile(np.arange(1, size + 1, dtype=np.int32), count),
            same_vehicle=np.array([self.same_vehicle(q, i) for q, i in pairs]),
            same_camera=np.array([self.same_camera(q, i) for q, i in pairs]),
            is_self=np.array([self.selves[q] == i for q, i in pairs]),
            distance=np.take_along_axis(self.distances, order, axis=1).reshape(-1),
            cameras=text_array(self.query_cameras),
            gallery_cameras=text_array([self.gallery_cameras[i] for _, i in pairs]),
            gallery_ids=text_array([f"g{i}" for _, i in pairs]),
        )

    def labels(self) -> dict[str, Any]:
        names = ("query_vehicles", "gallery_vehicles", "query_cameras", "gallery_cameras", "selves")
        return {name: getattr(self, name) for name in names}


WORLDS = st.builds(
    World, SEEDS, queries=st.integers(1, 9), gallery=st.integers(1, 30), levels=st.sampled_from([1, 2, 7, 10**6])
)


@pytest.mark.parametrize("ap_rule", ["rectangle", "trapezoid"])
@pytest.mark.parametrize("same_camera", ["drop", "keep"])
@settings(max_examples=60)
@given(made=WORLDS)
def test_a_matrix_is_scored_as_its_sorted_lists(ap_rule: Any, same_camera: Any, made: World) -> None:
    found = evaluate_distances(made.distances, **made.labels(), same_camera=same_camera, ap_rule=ap_rule, ranks=RANKS)
    expected = brute_force(made.lists(), same_camera=same_camera, ap_rule=ap_rule, ranks=RANKS)
    assert (found.valid_queries, found.positives, found.junk) == (expected.valid, expected.positives, expected.junk)
    for one, other in ((found.mean_ap, expected.mean_ap), (found.mean_inp, expected.mean_inp)):
        assert one == pytest.approx(other, abs=1e-9) if other is not None else one is None
    assert found.cmc == pytest.approx(expected.cmc, abs=1e-9) if expected.valid else set(found.cmc.values()) == {None}


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
    with pytest.raises(DataError, match="4 rows"):
        evaluate_distances(made.distances, query_vehicles=["v"] * 3, gallery_vehicles=["v"] * 3)
    with pytest.raises(DataError, match="NaN"):
        evaluate_distances(made.distances * np.nan, query_vehicles=["v"] * 3, gallery_vehicles=["v"] * 4)


# -- intervals -----------------------------------------------------------------------------------------------


def simulated(rng: np.random.Generator, vehicles: int) -> tuple[Floats, NDArray[np.object_]]:
    """Queries of vehicles, easy ones and hard ones; the true mean is 0.6."""
    sizes = rng.integers(1, 15, size=vehicles)
    level = rng.beta(3, 2, size=vehicles)
    owner = np.repeat(np.arange(vehicles), sizes)
    values = (rng.random(len(owner)) < level[owner]).astype(np.float64)
    return values, text_array([f"v{i}" for i in owner])


@pytest.mark.parametrize("vehicles", [20, 40, 200])
def test_intervals_hold_the_truth_as_often_as_they_say(vehicles: int) -> None:
    rng = np.random.default_rng(vehicles)
    held = 0
    for trial in range(600):
        values, names = simulated(rng, vehicles)
        (interval,) = mean_intervals(values[:, None], names, draws=400, seed=trial)
        assert interval is not None
        held += interval.low <= 0.6 <= interval.high
    assert 0.92 <= held / 600 <= 0.98


def test_drawing_queries_instead_of_vehicles_would_be_too_sure() -> None:
    # What the resampling of vehicles is for: the same simulation, each query a vehicle of its own.
    rng = np.random.default_rng(1)
    held = 0
    for trial in range(300):
        values, names = simulated(rng, 40)
        (interval,) = mean_intervals(
            values[:, None], text_array([str(i) for i in range(len(names))]), draws=400, seed=trial
        )
        assert interval is not None
        held += interval.low <= 0.6 <= interval.high
    assert held / 300 < 0.85


def test_intervals_are_the_same_for_the_same_seed_and_contain_the_mean() -> None:
    values, names = simulated(np.random.default_rng(3), 30)
    columns = np.stack([values, 1 - values, np.ones(len(values))], axis=1)
    one, again, other = (mean_intervals(columns, names, draws=500, seed=seed) for seed in (7, 7, 8))
    assert one == again != other
    for interval, mean in zip(one, columns.mean(axis=0), strict=True):
        assert interval is not None
        assert interval.low <= mean <= interval.high
    assert (one[2].low, one[2].high) == (1, 1)  # type: ignore[union-attr]
    assert one[0].low == pytest.approx(1 - one[1].high)  # type: ignore[union-attr]


def test_one_vehicle_says_nothing_about_others() -> None:
    assert mean_intervals(np.ones((5, 2)), text_array(["v"] * 5), draws=100, seed=0) == [None, None]


def scores_of(values: Floats, vehicles: NDArray[np.object_], names: list[str] | None = None) -> QueryScores:
    count = len(values)
    zeros = np.zeros(count, dtype=np.int64)
    return QueryScores(
        query_ids=text_array(names or [f"q{i}" for i in range(count)]),
        vehicles=vehicles,
        average_precision=np.asarray(values, dtype=np.float64),
        inverse_penalty=np.asarray(values, dtype=np.float64),
        first_positive=zeros + 1,
        positives=zeros + 1,
        junk=zeros,
        listed=zeros + 1,
    )


def test_no_difference_is_called_one_as_often_as_it_should_be() -> None:
    rng = np.random.default_rng(5)
    called = 0
    for trial in range(600):
        owner = np.repeat(np.arange(25), rng.integers(1, 12, size=25))
        names = text_array([f"v{i}" for i in owner])
        # Differences of one vehicle go together; their mean is 0.
        shift = rng.normal(size=25)[owner]
        one, other = rng.random(len(owner)) + 0.3 * shift, rng.random(len(owner))
        found = compare(scores_of(one, names), scores_of(other, names), draws=300, seed=trial)
        assert found is not None
        called += found.p_value <= 0.05
    assert 0.03 <= called / 600 <= 0.07


def test_a_difference_is_told_with_its_interval() -> None:
    rng = np.random.default_rng(6)
    owner = np.repeat(np.arange(60), 8)
    names = text_array([f"v{i}" for i in owner])
    base = rng.random(len(owner))
    found = compare(
        scores_of(base + 0.1 + 0.02 * rng.normal(size=len(owner)), names), scores_of(base, names), draws=1000, seed=0
    )
    assert found is not None
    assert found.interval is not None
    assert (found.queries, found.vehicles) == (480, 60)
    assert found.interval.low < 0.1 < found.interval.high < 0.11
    assert found.p_value == pytest.approx(1 / 1001)
    same = compare(scores_of(base, names), scores_of(base, names), draws=200, seed=0)
    assert same is not None
    assert (same.difference, same.p_value) == (0, 1)


def test_only_queries_that_are_valid_in_both_are_compared() -> None:
    vehicles = text_array(["a", "a", "b", "c"])
    one = scores_of(np.array([0.5, np.nan, 0.9, 0.1]), vehicles)
    other = scores_of(np.array([0.2, 0.1, 0.4]), vehicles[[2, 0, 1]], ["q2", "q0", "q1"])
    found = compare(one, other, draws=100, seed=0)
    assert found is not None
    # q0: 0.5 - 0.1, q2: 0.9 - 0.2.
    assert (found.difference, found.queries, found.vehicles) == (pytest.approx(0.55), 2, 2)
    assert compare(one, scores_of(np.array([0.3]), vehicles[:1], ["elsewhere"]), draws=100, seed=0) is None


# -- thresholds ----------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(made=WORLDS, same_camera=st.sampled_from(["drop", "keep"]))
def test_errors_of_a_threshold_agree_with_counting_pairs(made: World, same_camera: Any) -> None:
    counter = PairCounter(same_camera)
    counter.add(made.judged())
    curve = counter.curve()
    same, different = [], []
    for q, row in enumerate(made.distances):
        for i, distance in enumerate(row):
            junk = same_camera == "drop" and made.same_vehicle(q, i) and made.same_camera(q, i)
            if made.query_vehicles[q] is None or made.selves[q] == i or junk:
                continue
            (same if made.same_vehicle(q, i) else different).append(float(distance))
    if not same or not different:
        assert curve is None
        return
    assert curve is not None
    assert (curve.positives, curve.negatives) == (len(same), len(different))
    for threshold, false_matches, missed in zip(curve.thresholds, curve.false_match_rate, curve.miss_rate, strict=True):
        assert false_matches == pytest.approx(np.mean(np.array(different) <= threshold))
        assert missed == pytest.approx(np.mean(np.array(same) > threshold))
    for rate, point in curve.points().items():
        if point is not None:
            assert np.mean(np.array(different) <= point.threshold) <= rate
            assert point.miss_rate == pytest.approx(np.mean(np.array(same) > point.threshold))


def test_equal_errors_of_two_bells() -> None:
    # Normal distances around 1 and 2 with spread 0.25 cross at 1.5, where 2.275% lie beyond two spreads.
    rng = np.random.default_rng(0)
    distance = np.concatenate([rng.normal(1, 0.25, 40_000), rng.normal(2, 0.25, 40_000)]).clip(0).astype(np.float32)
    count = len(distance)
    counter = PairCounter("drop")
    false = np.zeros(count, dtype=bool)
    counter.add(
        JudgedRows(
            query_ids=text_array(["q"]),
            vehicles=text_array(["v"]),
            query=np.zeros(count, dtype=np.int32),
            rank=np.arange(1, count + 1, dtype=np.int32),
            same_vehicle=np.arange(count) < 40_000,
            same_camera=false,
            is_self=false,
            distance=distance,
        )
    )
    curve = counter.curve()
    assert curve is not None
    equal = curve.equal_error()
    assert equal.threshold == pytest.approx(1.5, abs=0.01)
    assert equal.miss_rate == pytest.approx(0.02275, abs=0.002)
    point = curve.at_false_match_rate(0.01)
    assert point is not None
    assert point.threshold == pytest.approx(2 - 2.326 * 0.25, abs=0.02)
    assert curve.at_false_match_rate(1e-6) is None  # 40,000 pairs cannot tell one in a million


def test_a_threshold_ends_before_the_next_distance_that_can_be_told_apart() -> None:
    # Two distances of different vehicles in neighbouring bins, by their bits; the pair of one vehicle is below.
    bits = np.array([999 << 10, (1000 << 10) + 5, 1001 << 10], dtype=np.int32)
    distance = bits.view(np.float32)
    false = np.zeros(3, dtype=bool)
    counter = PairCounter("drop")
    counter.add(
        JudgedRows(
            query_ids=text_array(["q"]),
            vehicles=text_array(["v"]),
            query=np.zeros(3, dtype=np.int32),
            rank=np.arange(1, 4, dtype=np.int32),
            same_vehicle=np.array([True, False, False]),
            same_camera=false,
            is_self=false,
            distance=distance,
        )
    )
    curve = counter.curve()
    assert curve is not None
    assert [int((distance[1:] <= threshold).sum()) for threshold in curve.thresholds] == [0, 1, 2]
    assert curve.false_match_rate.tolist() == [0, 0.5, 1]


# -- parts ---------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(made=WORLDS, same_camera=st.sampled_from(["drop", "keep"]))
def test_camera_pairs_are_scored_as_if_nothing_else_were_there(made: World, same_camera: Any) -> None:
    pairs = CameraPairs(same_camera=same_camera, ap_rule="rectangle")
    pairs.add(made.judged())
    found = {(pair.query, pair.gallery): pair.scores for pair in pairs.summarise(RANKS)}
    for gallery in ("c0", "c1", "c2"):
        items = [i for i, camera in enumerate(made.gallery_cameras) if camera == gallery]
        lists = made.lists(items)
        for own in ("c0", "c1", "c2"):
            chosen = [entries for entries, camera in zip(lists, made.query_cameras, strict=True) if camera == own]
            expected = brute_force(chosen, same_camera=same_camera, ap_rule="rectangle", ranks=RANKS)
            if not expected.valid:
                assert (own, gallery) not in found
                continue
            assert found[own, gallery].mean_ap == pytest.approx(expected.mean_ap, abs=1e-9)
            assert found[own, gallery].cmc == pytest.approx(expected.cmc, abs=1e-9)
            assert found[own, gallery].valid_queries == expected.valid


def test_track_lengths() -> None:
    scores = scores_of(np.array([0.2, 0.4, 0.9, np.nan]), text_array(["a", "b", "c", "d"]))
    scores.positives[3] = 0
    found = by_track_length(scores, {"q0": 3, "q1": 3, "q2": 6, "q3": 1}, ranks=(1,))
    assert {length: part.mean_ap for length, part in found.items()} == pytest.approx({3: 0.3, 6: 0.9})


def test_queries_without_a_positive_count_as_nothing_where_that_is_asked_for() -> None:
    made = World(4, queries=40, gallery=6)
    scores = score_queries(made.judged(), same_camera="drop", ap_rule="rectangle")
    labelled = sum(vehicle is not None for vehicle in made.query_vehicles)
    valid = int((scores.positives > 0).sum())
    assert 0 < valid < labelled < 40
    skip, zero = (
        summarise(scores, ranks=RANKS, coverage="full", without_positive=policy) for policy in ("skip", "zero")
    )
    assert zero.valid_queries == skip.valid_queries == valid
    assert zero.mean_ap == pytest.approx((skip.mean_ap or 0) * valid / labelled)
    assert zero.cmc[1] == pytest.approx((skip.cmc[1] or 0) * valid / labelled)
    # The intervals are about the same queries as the means.
    for policy, summary in (("skip", skip), ("zero", zero)):
        rules = Rules(ranks=RANKS, without_positive=policy, draws=300)  # type: ignore[arg-type]
        found = assess([made.judged()], RankingFacts(), rules)
        assert found.scores == summary
        assert found.intervals.mean_ap is not None
        middle = (found.intervals.mean_ap.low + found.intervals.mean_ap.high) / 2
        assert middle == pytest.approx(summary.mean_ap, abs=0.08)
    assert (zero.mean_ap or 0) < (skip.mean_ap or 0) - 0.1


# -- a data set's own truth ----------------------------------------------------------------------------------


def test_stated_truth_decides_and_contradictions_are_told() -> None:
    made = World(2, queries=2, gallery=6)
    made.query_vehicles, made.gallery_vehicles = ["v1", "v1"], ["v1", "v1", "v2", "v2", "v1", "v9"]
    made.query_cameras, made.gallery_cameras = ["c0", "c0"], ["c0", "c1", "c1", "c0", "c1", "c1"]
    made.selves = [-1, -1]
    truth = ImageTruth(
        source="the lists",
        gallery=frozenset({"g0", "g1", "g2", "g3", "g4"}),  # g5 is not theirs to judge
        good={"q0": frozenset({"g0", "g2"})},  # nothing is said of q1
        junk={"q0": frozenset({"g1", "g3"})},
    )
    stated = StatedTruth(truth)
    rows = stated.judge(made.judged())

    def found(query: int) -> tuple[set[str], set[str]]:
        assert rows.gallery_ids is not None
        mine = rows.query == query
        good = set(rows.gallery_ids[mine & rows.same_vehicle & ~rows.same_camera])
        return good, set(rows.gallery_ids[mine & rows.same_vehicle & rows.same_camera])

    assert found(0) == ({"g0", "g2"}, {"g1", "g3"})
    assert found(1) == ({"g1", "g4"}, {"g0"})
    # g0 is junk and g1 right by their labels, g2 and g3 of another vehicle, g4 of the same.
    assert stated.contradictions == 5
    (warning,) = stated.warnings
    assert "the lists contradict the labels about 5 pairs," in warning
    assert len(stated.examples) == 3
    # In lists that leave out what labels do not know, a right item may be missing.
    whole = made.judged()
    assert whole.gallery_ids is not None
    keep = whole.gallery_ids != "g2"
    columns = ("query", "rank", "same_vehicle", "same_camera", "is_self", "gallery_ids")
    cut = replace(whole, **{name: getattr(whole, name)[keep] for name in columns})
    again = StatedTruth(truth)
    again.judge(cut)
    assert again.missing == 1
    assert "1 items that the lists call right are not listed" in again.warnings[1]
