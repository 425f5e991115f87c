"""Queries whose vehicle is not in the gallery: is it found where it is, and not found where it is not?

Source of the definitions: docs/definitions.md#open-set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid_cli.errors import DataError
from vreid_cli.evaluation.judging import UNKNOWN, Kinds, left_out, positive
from vreid_cli.evaluation.options import EvaluationOptions
from vreid_cli.evaluation.uncertainty import CHUNK, Interval, percentile_intervals
from vreid_cli.types.arrays import BoolArray, Int64Array, text_array
from vreid_cli.types.rankings import Ranking, RankingBlock, RankingFacts

FloatArray = NDArray[np.float64]
#: False-positive identification rates at which the true-positive rate is given.
FALSE_POSITIVE_RATES = (0.01, 0.1)
#: The probability from which on a vehicle counts as found, where nobody says another.
DEFAULT_PROBABILITY = 0.5


@dataclass(frozen=True)
class Estimate:
    """A score with its interval; None where resampled vehicles say nothing."""

    value: float
    interval: Interval | None


@dataclass(frozen=True)
class Identification:
    """What is found at a false-positive identification rate.

    Attributes:
        threshold: Largest distance that keeps the rate.
        tpir: Share of mated queries with an item of their vehicle that is no farther, at whatever rank.
        rank1: The same where that item is the nearest of all.
    """

    threshold: float
    tpir: Estimate
    rank1: Estimate


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """The rule "found if the nearest is no farther than the threshold", counted over queries.

    Attributes:
        threshold: The largest distance; -1 where no distance has the probability.
        probability: The probability that it was made from; None where a distance was named.
        right: Mated queries whose nearest is near enough and shows their vehicle.
        wrong: Mated queries whose nearest is near enough and shows another vehicle.
        missed: Mated queries whose nearest is too far.
        false: Other queries whose nearest is near enough.
        absent: Other queries whose nearest is too far, which is right.
        precision: Share of what is found that is right; None where nothing is found.
        recall: Share of mated queries that are found right.
        f1: Harmonic mean of the two.
        true_negative_rate: Share of other queries of which nothing is found.
    """

    threshold: float
    probability: float | None
    right: int
    wrong: int
    missed: int
    false: int
    absent: int
    precision: Estimate | None
    recall: Estimate | None
    f1: Estimate | None
    true_negative_rate: Estimate | None


@dataclass(frozen=True, kw_only=True)
class OpenSet:
    """How well a ranking knows whether the query's vehicle is there.

    Attributes:
        held_out: Vehicles that were left out of the gallery for the measurement.
        mated: Labelled queries whose vehicle is in the gallery.
        others: Labelled queries whose vehicle is not.
        vehicles: Vehicles of both.
        auroc: How often a mated query has a smaller nearest distance than another one, ties counted half.
        at_false_positive_rate: By the rate; None where there are too few other queries for it.
        decisions: At the chosen threshold; None where none is chosen.
    """

    held_out: int
    mated: int
    others: int
    vehicles: int
    auroc: Estimate | None
    at_false_positive_rate: Mapping[float, Identification | None]
    decisions: Decisions | None


@dataclass(frozen=True, eq=False)
class Searches:
    """What each labelled query found; distances are infinite where nothing is listed.

    Attributes:
        vehicles: (n,) number of the query's vehicle, from 0.
        nearest: (n,) distance of the nearest item that counts.
        right: (n,) distance of the nearest item of the query's vehicle; infinite for queries that are not mated.
        first: (n,) whether the nearest of all shows the query's vehicle.
    """

    vehicles: Int64Array
    nearest: FloatArray
    right: FloatArray
    first: BoolArray

    @property
    def mated(self) -> BoolArray:
        """(n,) whether the query's vehicle is in the gallery."""
        found: BoolArray = np.isfinite(self.right)
        return found


class SearchCollector:
    """Collects what each query of a ranking finds, block by block.

    Args:
        ranking: Its queries and gallery; the lists must hold every item.
        options: How to count, and which share of the vehicles is held out.
        seed: Chooses these vehicles.
    """

    def __init__(self, ranking: Ranking, options: EvaluationOptions, *, seed: int) -> None:
        self._same_camera = options.same_camera
        names = sorted({str(name) for name in ranking.queries.vehicles if name is not None})
        count = min(len(names), math.ceil((options.split_open or 0) * len(names)))
        chosen = np.random.default_rng([seed, 6]).permutation(len(names))[:count]
        absent = {names[place] for place in chosen.tolist()}
        self.held_out = len(absent)
        self._removed = np.array([name in absent for name in ranking.gallery.vehicles], dtype=bool)
        number = {name: place for place, name in enumerate(names)}
        self._vehicle = np.array([number.get(str(name), -1) for name in ranking.queries.vehicles], dtype=np.int64)
        self._vehicle[np.equal(ranking.queries.vehicles, text_array([None])[0])] = -1
        self._nearest, self._right = np.full((2, len(ranking.queries)), np.inf)
        self._first = np.zeros(len(ranking.queries), dtype=bool)

    def add(self, block: RankingBlock, kinds: Kinds) -> None:
        """Look at the lists of some queries, nearest first."""
        counts = ~left_out(kinds, self._same_camera) & ~self._removed[block.gallery_index] & (kinds != UNKNOWN)
        right = positive(kinds, self._same_camera) & counts
        for rows, distances in ((counts, self._nearest), (right, self._right)):
            query, first = np.unique(block.query_index[rows], return_index=True)
            place = np.flatnonzero(rows)[first]
            distances[query] = block.distance[place]
            if distances is self._nearest:
                self._first[query] = right[place]

    def searches(self) -> Searches:
        """Of the labelled queries."""
        known = self._vehicle >= 0
        return Searches(self._vehicle[known], self._nearest[known], self._right[known], self._first[known])


def chosen_threshold(facts: RankingFacts, options: EvaluationOptions) -> tuple[float, float | None] | None:
    """The largest distance of what counts as found, and the probability that it was made from.

    Without any choice that is a probability of one half, where distances have probabilities.

    Raises:
        DataError: A probability was chosen, and distances have none.
    """
    if options.threshold is not None:
        return options.threshold, None
    if facts.calibration is None or facts.prior is None:
        if options.min_probability is None:
            return None
        raise DataError(
            f"--min-probability: the distances of {facts.metric} have no probabilities",
            hint="fit them with vreid calibrate, or choose a distance with --threshold",
        )
    probability = DEFAULT_PROBABILITY if options.min_probability is None else options.min_probability
    farthest = facts.calibration.farthest(probability, prior=facts.prior)
    return (-1.0 if farthest is None else farthest), probability


def measure_open_set(
    searches: Searches,
    *,
    held_out: int = 0,
    chosen: tuple[float, float | None] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> OpenSet:
    """Score what queries found; intervals resample vehicles with all their queries.

    Args:
        searches: Of mated queries and of others.
        held_out: Said in the result.
        chosen: Largest distance of what is found, and its probability.
        resamples: How often vehicles are resampled.
        seed: Of the resamples.

    Examples:
        >>> near, far = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.1, 0.5, np.inf, np.inf])
        >>> searches = Searches(np.arange(4), near, far, np.array([True, False, False, False]))
        >>> found = measure_open_set(searches, chosen=(0.3, None))
        >>> found.auroc.value, found.decisions.right, found.decisions.wrong, found.decisions.false
        (1.0, 1, 1, 1)
    """
    mated = searches.mated
    weights = _draws(searches.vehicles, resamples=resamples, seed=seed)
    vehicles = len(np.unique(searches.vehicles))

    def estimate(score: Callable[[FloatArray], float]) -> Estimate | None:
        """A score of queries that each count as often as their weight says."""
        value = score(np.ones(len(mated)))
        if math.isnan(value):
            return None
        if vehicles < 2:
            return Estimate(value, None)
        column = np.array([score(weight) for weight in weights()])
        return Estimate(value, percentile_intervals(column[:, None], vehicles=vehicles)[0])

    both = bool(mated.any()) and not mated.all()
    return OpenSet(
        held_out=held_out,
        mated=int(mated.sum()),
        others=int((~mated).sum()),
        vehicles=vehicles,
        auroc=estimate(lambda weight: _auroc(searches, weight)) if both else None,
        at_false_positive_rate={
            rate: _identification(searches, rate, estimate) if both else None for rate in FALSE_POSITIVE_RATES
        },
        decisions=None if chosen is None else _decide(searches, chosen, estimate),
    )


def _draws(vehicles: Int64Array, *, resamples: int, seed: int) -> Callable[[], list[FloatArray]]:
    """Makes the weights of the queries, (n,) for each resample: how often their vehicle was drawn."""
    own = np.unique(vehicles, return_inverse=True)[1]
    count = int(own.max(initial=-1)) + 1

    def weights() -> list[FloatArray]:
        rng = np.random.default_rng([seed, 7])
        times = min(resamples, max(100, CHUNK // max(1, len(own))))
        return [rng.multinomial(count, np.full(count, 1 / count)).astype(np.float64)[own] for _ in range(times)]

    return weights


def _auroc(searches: Searches, weight: FloatArray) -> float:
    """How often a mated query's nearest is nearer than that of another, by weight, ties counted half."""
    values, place = np.unique(searches.nearest, return_inverse=True)
    mated = np.bincount(place, weights=weight * searches.mated, minlength=len(values))
    others = np.bincount(place, weights=weight * ~searches.mated, minlength=len(values))
    total = mated.sum() * others.sum()
    farther = others.sum() - np.cumsum(others)
    return float((mated * (farther + others / 2)).sum() / total) if total else math.nan


def _first_beyond(searches: Searches, rate: float, weight: FloatArray) -> float:
    """The nearest distance that other queries may not reach, if no more than a share of them is to find anything."""
    others = ~searches.mated
    order = np.argsort(searches.nearest[others], kind="stable")
    distance, counts = searches.nearest[others][order], np.cumsum(weight[others][order])
    if not len(counts) or not counts[-1]:
        return math.nan
    # All that is as near counts together: the share below a distance is that of what is strictly nearer.
    beyond = np.flatnonzero(counts > rate * counts[-1] * (1 + 1e-12))
    return float(distance[beyond[0]]) if len(beyond) else math.inf


def _identification(
    searches: Searches, rate: float, estimate: Callable[[Callable[[FloatArray], float]], Estimate | None]
) -> Identification | None:
    mated = searches.mated
    if (~mated).sum() * rate < 1:
        return None  # so few queries cannot tell such a rate

    def share(found: Callable[[float], BoolArray]) -> Callable[[FloatArray], float]:
        def score(weight: FloatArray) -> float:
            total = weight[mated].sum()
            beyond = _first_beyond(searches, rate, weight)
            return float(weight[mated & found(beyond)].sum() / total) if total and beyond == beyond else math.nan

        return score

    tpir = estimate(share(lambda beyond: searches.right < beyond))
    rank1 = estimate(share(lambda beyond: (searches.nearest < beyond) & searches.first))
    if tpir is None or rank1 is None:
        return None
    beyond = _first_beyond(searches, rate, np.ones(len(mated)))
    return Identification(float(np.nextafter(np.float32(beyond), np.float32(-np.inf))), tpir, rank1)


def _decide(
    searches: Searches,
    chosen: tuple[float, float | None],
    estimate: Callable[[Callable[[FloatArray], float]], Estimate | None],
) -> Decisions:
    mated, found = searches.mated, searches.nearest <= np.float32(chosen[0])
    right = mated & found & searches.first

    def ratio(above: BoolArray, below: BoolArray) -> Estimate | None:
        def score(weight: FloatArray) -> float:
            total = weight[below].sum()
            return float(weight[above].sum() / total) if total else math.nan

        return estimate(score)

    def f1(weight: FloatArray) -> float:
        total = weight[found].sum() + weight[mated].sum()
        return float(2 * weight[right].sum() / total) if total else math.nan

    return Decisions(
        threshold=chosen[0],
        probability=chosen[1],
        right=int(right.sum()),
        wrong=int((mated & found & ~searches.first).sum()),
        missed=int((mated & ~found).sum()),
        false=int((~mated & found).sum()),
        absent=int((~mated & ~found).sum()),
        precision=ratio(right, found),
        recall=ratio(right, mated),
        f1=estimate(f1),
        true_negative_rate=ratio(~mated & ~found, ~mated),
    )
