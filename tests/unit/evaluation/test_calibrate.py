"""The probability of the same vehicle: right where the truth is known, honest, refused where nothing can be said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from simulated import IDENTITY, Floats, drawn, scored, true_log_ratio, two_cameras

from vreid_cli.errors import DataError
from vreid_cli.evaluation.calibrate import calibrate, cross_validate
from vreid_cli.evaluation.evaluate import evaluate
from vreid_cli.evaluation.options import CalibrationOptions, EvaluationOptions
from vreid_cli.evaluation.pairs import LabelledPairs, labelled_pairs, vehicle_folds
from vreid_cli.types.calibrations import logit, sigmoid

QUICK = CalibrationOptions(resamples=20)
COUNTING = EvaluationOptions(resamples=200)


@pytest.mark.parametrize("method", ["isotonic", "logistic"])
def test_probabilities_are_calibrated_within_their_sampling_error(method: Any) -> None:
    found = calibrate(two_cameras(300), CalibrationOptions(method=method, resamples=20), counting=COUNTING)
    calibration = found.calibration
    assert calibration.prior(gallery_size=300) == pytest.approx(1 / 300)
    # On other vehicles: the true probability of each pair, by what its distance was drawn from.
    rng = np.random.default_rng(99)
    distance = drawn(rng, np.eye(400, dtype=bool)).reshape(-1).astype(np.float32)
    said = calibration.probability(distance, prior=1 / 400)
    true = sigmoid(true_log_ratio(distance.astype(np.float64)) + logit(1 / 400))
    # What chance alone does to the calibration error of the true probabilities, on as many pairs.
    chance = []
    for _ in range(30):
        same, bins = rng.random(len(true)) < true, np.minimum((true * 10).astype(int), 9)
        chance.append(np.abs(np.bincount(bins, true - same)).sum() / len(true))
    bins = np.minimum((said * 10).astype(int), 9)
    error = np.abs(np.bincount(bins, said - true)).sum() / len(true)
    assert error < 3 * np.mean(chance) + 2 * np.std(chance)
    likely = said > 0.3
    assert said[likely].mean() == pytest.approx(true[likely].mean(), abs=0.08)


def test_distances_of_a_probability_agree_with_the_known_ones_within_their_intervals() -> None:
    found = calibrate(two_cameras(300, 4), CalibrationOptions(resamples=100), counting=COUNTING)
    # P = 0.5 where the ratio makes up for the prior: (3 - 2 d) / (2 0.09) = ln 299.
    known = (3 - 2 * 0.09 * np.log(299)) / 2
    distance, interval = found.distances[0.5], found.intervals[0.5]
    assert distance is not None
    assert interval is not None
    assert interval.low <= known <= interval.high
    assert distance == pytest.approx(known, abs=0.1)


def excess(pairs: LabelledPairs, said: Floats, *, prior: float) -> float:
    """How much larger the Brier score of what is said is than that of the truth, on the same pairs at this prior."""
    weight = np.where(pairs.same, prior / pairs.same.sum(), (1 - prior) / (~pairs.same).sum())
    true = sigmoid(true_log_ratio(pairs.distance) + logit(prior))
    scores = [float(weight @ (one - pairs.same) ** 2) for one in (said, true)]
    return scores[0] - scores[1]


def test_cross_validation_is_honest_where_the_plain_error_is_optimistic() -> None:
    plain, crossed, fresh = [], [], []
    for seed in range(12):
        own, others = two_cameras(60, seed), two_cameras(300, 1000 + seed, prefix="w")
        found = calibrate(own, QUICK, counting=COUNTING, seed=seed)
        pairs, unseen = (labelled_pairs([ranking], seed=0) for ranking in (own, others))
        prior = pairs.share_same
        plain.append(excess(pairs, found.calibration.probability(pairs.distance, prior=prior), prior=prior))
        ratios = cross_validate(pairs, QUICK, seed=seed)
        crossed.append(excess(pairs, sigmoid(ratios + logit(prior)), prior=prior))
        fresh.append(excess(unseen, found.calibration.probability(unseen.distance, prior=prior), prior=prior))
        assert found.plain.brier < found.reliability.brier
        assert found.plain.ece < found.reliability.ece
    # Nothing is better than the truth, but for what was fitted to the very pairs that it is measured on.
    assert max(plain) < 0
    assert np.mean(crossed) > 0
    assert np.mean(fresh) > 0
    assert abs(np.mean(crossed) - np.mean(fresh)) < abs(np.mean(plain) - np.mean(fresh))


def test_evaluate_cross_validates_what_was_fitted_on_its_own_vehicles() -> None:
    ranking = two_cameras(60)
    found = calibrate(ranking, QUICK, counting=COUNTING)
    own = evaluate(replace(ranking, facts=ranking.facts.with_probabilities(found.calibration)), COUNTING).reliability
    assert own is not None
    assert own.cross_validated
    assert own.brier == pytest.approx(found.reliability.brier)
    others = two_cameras(60, 7, prefix="w")
    fresh = evaluate(replace(others, facts=others.facts.with_probabilities(found.calibration)), COUNTING).reliability
    assert fresh is not None
    assert not fresh.cross_validated
    assert evaluate(ranking, COUNTING).reliability is None


def test_pairs_are_those_that_scores_count() -> None:
    # A query without a label, junk (same vehicle, same camera), the query itself, an item without a label.
    distances = np.arange(12.0).reshape(3, 4)
    ranking = scored(distances, ["a", None, "b"], ["a", "b", None, "a"], selves={"q0": ("g0",)})
    ranking.gallery.cameras[1] = "c1"
    pairs = labelled_pairs([ranking], seed=0)
    assert pairs.distance.tolist() == [1, 2, 3, 8, 10, 11]
    assert pairs.same.tolist() == [False, False, True, False, False, False]
    assert pairs.vehicles == ("a", "b")
    assert pairs.queries == 2


def test_a_sample_of_many_pairs_weighs_as_much_as_all(monkeypatch: pytest.MonkeyPatch) -> None:
    ranking = two_cameras(100)
    whole = calibrate(ranking, QUICK, counting=COUNTING)
    monkeypatch.setattr("vreid_cli.evaluation.pairs.MOST_DIFFERENT", 2500)
    part = calibrate(ranking, QUICK, counting=COUNTING)
    pairs = labelled_pairs([ranking], seed=0)
    assert len(pairs) < 3000
    assert pairs.same_count == 100
    assert pairs.different_count == pytest.approx(9900, rel=0.1)
    at = np.linspace(1.2, 1.8, 7)
    assert part.calibration.log_ratio(at) == pytest.approx(whole.calibration.log_ratio(at), abs=1)


def test_no_vehicle_of_a_fold_is_in_the_pairs_that_it_is_tested_by() -> None:
    pairs = labelled_pairs([two_cameras(23)], seed=0)
    folds = vehicle_folds(pairs, folds=5, seed=0)
    assert sorted(np.bincount(folds).tolist()) == [4, 4, 5, 5, 5]
    assert (folds == vehicle_folds(pairs, folds=5, seed=0)).all()
    assert (folds != vehicle_folds(pairs, folds=5, seed=1)).any()


def test_rankings_of_parts_of_the_vehicles_are_pooled() -> None:
    parts = [two_cameras(30, seed, prefix=f"{seed}-") for seed in range(3)]
    found = calibrate(parts, QUICK, counting=COUNTING)
    assert found.calibration.fitted_on.vehicles == 90
    assert found.calibration.fitted_on.same == 90
    assert found.calibration.fitted_on.different == 3 * 30 * 29
    assert found.gallery_size == 30


def test_the_same_seed_gives_the_same_numbers() -> None:
    one, other = (calibrate(two_cameras(30), QUICK, counting=COUNTING, seed=5) for _ in range(2))
    assert one.calibration == other.calibration
    assert one.reliability == other.reliability
    assert one.intervals == other.intervals


def constant(vehicles: int) -> Any:
    names = [f"v{number}" for number in range(vehicles)]
    return scored(np.full((vehicles, vehicles), 0.5), names, names)


def backwards() -> Any:
    names = [f"v{number}" for number in range(30)]
    return scored(3 - drawn(np.random.default_rng(0), np.eye(30, dtype=bool)).clip(0, 3), names, names)


@pytest.mark.parametrize(
    ("ranking", "message"),
    [
        (two_cameras(9), "shows 9 vehicles twice, and a fit needs 10 at least"),
        (scored(np.ones((3, 3)), ["a", "b", "c"], ["d", "e", "f"]), "no pair of the same vehicle"),
        (scored(np.arange(20.0)[None], ["a"], ["a"] * 20), "no pair of different vehicles"),
        (scored(np.ones((3, 3)), [None] * 3, ["d", "e", "f"]), "no query says which vehicle it shows"),
        (constant(20), "every distance is 0.5, so it says nothing"),
        (backwards(), "pairs of the same vehicle are not nearer"),
        (two_cameras(20, coverage="positives"), "does not list every gallery item"),
        ([two_cameras(20), two_cameras(20, metric="minMED")], "differ in metric: meanMCD50 and minMED"),
        ([], "there is no ranking to calibrate"),
    ],
    ids=["few", "strangers", "one vehicle", "unlabelled", "constant", "backwards", "cut", "two metrics", "none"],
)
def test_what_cannot_be_fitted_is_refused(ranking: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        calibrate(ranking, QUICK)


def test_few_vehicles_and_random_weights_are_warned_of() -> None:
    found = calibrate(two_cameras(12, weights="random"), QUICK, counting=COUNTING)
    assert any("random weights" in warning for warning in found.warnings)
    assert any("fitted on 12 vehicles only" in warning for warning in found.warnings)
    assert calibrate(two_cameras(60), QUICK, counting=COUNTING).warnings == ()


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"metric": "minMED"}, "its metric is meanMCD50, not minMED"),
        ({"task": "i2t"}, "its task is t2t, not i2t"),
        ({"definition": "released"}, "its definition is paper, not released"),
        ({"track_unit": "camera"}, "its track unit is passage, not camera"),
        ({"gallery_identity": {**IDENTITY, "weights_digest": "bb"}}, "its weights_digest is aa, not bb"),
        ({"gallery_identity": {**IDENTITY, "transform": "u"}}, "its transform is t, not u"),
        ({"gallery_identity": None}, "its architecture is resnet18, not none"),
        ({"gallery_identity": {**IDENTITY, "backend": "onnx"}}, None),
    ],
)
def test_a_calibration_is_for_the_same_features_and_metric_alone(facts: dict[str, Any], message: str | None) -> None:
    calibration = calibrate(two_cameras(20), QUICK, counting=COUNTING).calibration
    assert two_cameras(3, **facts).facts.misfit(calibration) == message


def test_ten_vehicles_are_enough() -> None:
    assert calibrate(two_cameras(10), CalibrationOptions(resamples=20), counting=COUNTING).calibration.log_ratios[0] > 0
    with pytest.raises(DataError, match="shows 9 vehicles twice"):
        calibrate(two_cameras(9), counting=COUNTING)
