"""Differences between rankings, and means over trials."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vreid_cli.evaluation.comparison import Spread, compare, over_trials
from vreid_cli.evaluation.evaluate import Evaluation, conclude
from vreid_cli.evaluation.options import EvaluationOptions
from vreid_cli.evaluation.scores import QueryScores
from vreid_cli.types.arrays import text_array
from vreid_cli.types.rankings import RankingFacts

Floats = NDArray[np.floating]


def scores_of(
    values: Floats,
    vehicles: NDArray[np.object_],
    names: list[str] | None = None,
    *,
    resamples: int = 100,
    seed: int = 0,
    **facts: Any,
) -> Evaluation:
    count = len(values)
    zeros = np.zeros(count, dtype=np.int64)
    queries = QueryScores(
        query_ids=text_array(names or [f"q{i}" for i in range(count)]),
        vehicles=vehicles,
        average_precision=np.asarray(values, dtype=np.float64),
        inverse_penalty=np.asarray(values, dtype=np.float64),
        first_positive=zeros + 1,
        positives=zeros + 1,
        junk=zeros,
        listed=zeros + 1,
    )
    options = EvaluationOptions(resamples=resamples)
    return conclude(queries, RankingFacts(**facts), options, total=count, seed=seed)


def test_no_difference_is_called_one_as_often_as_it_should_be() -> None:
    rng = np.random.default_rng(5)
    called = 0
    for trial in range(600):
        owner = np.repeat(np.arange(25), rng.integers(1, 12, size=25))
        names = text_array([f"v{i}" for i in owner])
        # Differences of one vehicle go together; their mean is 0.
        shift = rng.normal(size=25)[owner]
        one, other = rng.random(len(owner)) + 0.3 * shift, rng.random(len(owner))
        found = compare(scores_of(one, names, resamples=300, seed=trial), scores_of(other, names))
        assert found is not None
        called += found.p_value <= 0.05
    assert 0.03 <= called / 600 <= 0.07


def test_a_difference_is_told_with_its_interval() -> None:
    rng = np.random.default_rng(6)
    owner = np.repeat(np.arange(60), 8)
    names = text_array([f"v{i}" for i in owner])
    base = rng.random(len(owner))
    found = compare(
        scores_of(base + 0.1 + 0.02 * rng.normal(size=len(owner)), names, resamples=1000), scores_of(base, names)
    )
    assert found is not None
    assert found.interval is not None
    assert (found.queries, found.vehicles) == (480, 60)
    assert found.interval.low < 0.1 < found.interval.high < 0.11
    assert found.p_value == pytest.approx(1 / 1001)
    same = compare(scores_of(base, names), scores_of(base, names))
    assert same is not None
    assert (same.difference, same.p_value) == (0, 1)


def test_only_queries_that_are_valid_in_both_are_compared() -> None:
    vehicles = text_array(["a", "a", "b", "c"])
    one = scores_of(np.array([0.5, np.nan, 0.9, 0.1]), vehicles)
    other = scores_of(np.array([0.2, 0.1, 0.4]), vehicles[[2, 0, 1]], ["q2", "q0", "q1"])
    found = compare(one, other)
    assert found is not None
    # q0: 0.5 - 0.1, q2: 0.9 - 0.2.
    assert (found.difference, found.queries, found.vehicles) == (pytest.approx(0.55), 2, 2)
    assert compare(one, scores_of(np.array([0.3]), vehicles[:1], ["elsewhere"])) is None


def test_lists_of_the_nearest_alone_cannot_be_compared() -> None:
    vehicles = text_array(["a", "b"])
    one, cut = scores_of(np.array([0.5, 0.9]), vehicles), scores_of(np.array([0.5, 0.9]), vehicles, coverage="top-k")
    assert compare(one, cut) is compare(cut, one) is None


# -- trials --------------------------------------------------------------------------------------------------


def test_trials_that_differ_in_nothing_else_are_averaged() -> None:
    vehicles = text_array(["a", "b"])

    def trial(number: int, mean: float, **facts: Any) -> Evaluation:
        own = {"trial": number, "trial_seed": 3, "metric": "MCD", "gallery_size": 7 + number, **facts}
        return scores_of(np.array([mean, mean]), vehicles, **own)

    ones = [trial(0, 0.2), trial(1, 0.4), trial(0, 0.9, metric="MED"), scores_of(np.array([0.5, 0.5]), vehicles)]
    first, second = over_trials(ones)
    assert (first.trials, second.trials) == (2, 1)
    assert (first.facts.metric, second.facts.metric) == ("MCD", "MED")
    assert first.mean_ap == Spread(pytest.approx(0.3), pytest.approx(0.2 / np.sqrt(2)))
    assert second.mean_ap == Spread(pytest.approx(0.9), None)
