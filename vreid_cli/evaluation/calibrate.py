"""Rankings with labels to the probability that a distance means the same vehicle (docs/definitions.md#calibration)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vreid_cli.errors import DataError, require_type
from vreid_cli.evaluation.likelihood import Knots, fit_isotonic, fit_logistic
from vreid_cli.evaluation.options import CalibrationOptions, EvaluationOptions
from vreid_cli.evaluation.pairs import LabelledPairs, labelled_pairs, vehicle_folds
from vreid_cli.evaluation.reliability import Reliability, measure_reliability
from vreid_cli.evaluation.uncertainty import Interval, tail_of
from vreid_cli.types.amounts import amount
from vreid_cli.types.calibrations import Calibration, CalibrationMethod, FittedOn, logit, sigmoid
from vreid_cli.types.features import MEANINGLESS
from vreid_cli.types.rankings import Ranking, RankingFacts

FloatArray = NDArray[np.float64]
#: With fewer vehicles no fit is of use, and none of its intervals.
FEWEST_VEHICLES = 10
#: With fewer the result is doubtful.
ENOUGH_VEHICLES = 50
#: Probabilities whose distance is given.
PROBABILITIES = (0.5, 0.9, 0.99)
FITS: Mapping[CalibrationMethod, Callable[[FloatArray, NDArray[np.bool_], FloatArray], Knots]] = {
    "isotonic": fit_isotonic,
    "logistic": fit_logistic,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedCalibration:
    """A calibration, and how sure it is.

    Attributes:
        calibration: From a distance to a probability.
        gallery_size: Items of the gallery that it was fitted on, to which the distances belong.
        prior: Share of them that shows a query's vehicle.
        distances: The farthest distance with each of :data:`PROBABILITIES` in such a gallery; None where no distance
            is near enough.
        intervals: Their intervals, by refitting on resampled vehicles.
        reliability: Of probabilities that were fitted on other vehicles.
        plain: Of the probabilities on the vehicles that they were fitted on, which is optimistic.
        warnings: What is doubtful.
    """

    calibration: Calibration
    gallery_size: int
    prior: float
    distances: Mapping[float, float | None]
    intervals: Mapping[float, Interval | None]
    reliability: Reliability
    plain: Reliability
    warnings: tuple[str, ...] = ()


def calibrate(
    rankings: Ranking | Sequence[Ranking],
    options: CalibrationOptions | None = None,
    *,
    counting: EvaluationOptions | None = None,
    seed: int = 0,
) -> FittedCalibration:
    """Fit the probability of the same vehicle to the distances of labelled rankings.

    Args:
        rankings: One, or several made alike whose pairs are pooled. Every gallery item must be listed.
        options: How to fit; by default isotonic, cross-validated in ten folds of vehicles.
        counting: What is left out, as for scores.
        seed: Of folds and resamples.

    Returns:
        The calibration; ``vreid.rank`` and ``RankingFacts.with_probabilities`` take its ``calibration``.

    Raises:
        DataError: Lists are cut, rankings were made differently, there are too few vehicles or one kind of pairs only,
            or the distances say nothing.

    Examples:
        >>> import vreid_cli as vreid
        >>> rng = np.random.default_rng(0)
        >>> names = [f"v{number}" for number in range(40)]
        >>> centres = rng.normal(size=(40, 8))
        >>> sides = [centres + 0.3 * rng.normal(size=(40, 8)) for _ in range(2)]
        >>> query, gallery = (vreid.FeatureSet.from_arrays(side, track_id=names, vehicle_id=names) for side in sides)
        >>> ranking = vreid.rank(query, gallery)["meanMCD50"]
        >>> found = vreid.calibrate(ranking)
        >>> near, far = found.calibration.probability(np.array([0.01, 1.0]), prior=0.5)
        >>> bool(near > 0.9), bool(far < 0.1)
        (True, True)
    """
    rankings = [rankings] if isinstance(rankings, Ranking) else list(rankings)
    options, counting = options or CalibrationOptions(), counting or EvaluationOptions()
    for ranking in rankings:
        require_type(ranking, Ranking, name="rankings", hint="from vreid.rank or vreid.read_ranking")
    check_alike(rankings)
    pairs = labelled_pairs(rankings, counting, seed=seed)
    source = ", ".join(ranking.source for ranking in rankings)
    check_pairs(pairs, source=source)
    knots = fit(pairs, options.method, source=source)
    held_out = cross_validate(pairs, options, seed=seed)
    prior = pairs.share_same
    both = [
        measure_reliability(
            sigmoid(ratios + logit(prior)),
            pairs.same,
            vehicles=pairs.query_vehicle,
            weight=pairs.weight,
            cross_validated=crossed,
            resamples=counting.resamples,
            seed=seed,
        )
        for ratios, crossed in ((held_out, True), (np.interp(pairs.distance, *knots), False))
    ]
    calibration = _calibration(rankings[0].facts, knots, pairs, method=options.method)
    calibration = replace(calibration, fitted_on=replace(calibration.fitted_on, brier=both[0].brier, ece=both[0].ece))
    size = round((pairs.same_count + pairs.different_count) / pairs.queries)
    at = {one: calibration.farthest(one, prior=prior) for one in PROBABILITIES}
    return FittedCalibration(
        calibration=calibration,
        gallery_size=size,
        prior=prior,
        distances=at,
        intervals=_intervals(calibration, pairs, options, seed=seed),
        reliability=both[0],
        plain=both[1],
        warnings=_doubts(rankings, pairs, source=source),
    )


def _doubts(rankings: Sequence[Ranking], pairs: LabelledPairs, *, source: str) -> tuple[str, ...]:
    warnings = [MEANINGLESS] if any(ranking.facts.meaningless for ranking in rankings) else []
    if pairs.paired_vehicles < ENOUGH_VEHICLES:
        warnings.append(
            f"{source}: fitted on {amount(pairs.paired_vehicles, 'vehicle')} only, of which each moves the result; "
            f"{ENOUGH_VEHICLES} are better"
        )
    return tuple(warnings)


def check_alike(rankings: Sequence[Ranking]) -> None:
    """Refuse to pool rankings whose distances mean different things.

    Raises:
        DataError: They differ in task, metric or definition, or there is none.
    """
    if not rankings:
        raise DataError("there is no ranking to calibrate", hint="make one with vreid rank")
    first = rankings[0]
    for other in rankings[1:]:
        for name in ("task", "metric", "alpha", "definition", "track_unit", "rerank"):
            one, two = getattr(first.facts, name), getattr(other.facts, name)
            if one != two:
                raise DataError(
                    f"{first.source} and {other.source} differ in {name.replace('_', ' ')}: {one} and {two}",
                    hint="only distances of one task, metric and definition can be pooled",
                    file=other.source,
                )


def check_pairs(pairs: LabelledPairs, *, source: str) -> None:
    """Refuse pairs that no probability can be fitted to.

    Raises:
        DataError: One kind of pairs is missing, there are too few vehicles, or all distances are equal.
    """
    if not pairs.queries:
        raise DataError(
            f"{source}: no query says which vehicle it shows, so there is nothing to fit to",
            hint="probabilities come from labelled tracks: fit on a labelled run of the same network and metric",
            file=source,
        )
    if not pairs.same.any():
        raise DataError(
            f"{source} has no pair of the same vehicle to fit to",
            hint="vehicles must be seen by two cameras, and be labelled alike on both sides",
            file=source,
        )
    if pairs.same.all():
        raise DataError(f"{source} has no pair of different vehicles to fit to", hint="rank more vehicles", file=source)
    found = pairs.paired_vehicles
    if found < FEWEST_VEHICLES:
        raise DataError(
            f"{source} shows {amount(found, 'vehicle')} twice, and a fit needs {FEWEST_VEHICLES} at "
            f"least, better {ENOUGH_VEHICLES} or more",
            hint="label more vehicles that two cameras saw",
            file=source,
        )
    if pairs.distance[0] == pairs.distance[-1]:
        raise DataError(
            f"{source}: every distance is {pairs.distance[0]:g}, so it says nothing about the vehicle", file=source
        )


def fit(pairs: LabelledPairs, method: CalibrationMethod, *, source: str) -> Knots:
    """Log-likelihood ratios by distance.

    Raises:
        DataError: Pairs of the same vehicle are not nearer than others.
    """
    knots, ratios = FITS[method](pairs.distance, pairs.same, pairs.weight)
    if ratios[0] <= ratios[-1]:
        raise DataError(
            f"{source}: pairs of the same vehicle are not nearer than those of different ones, so the distance says "
            "nothing about the vehicle",
            hint="check the labels, and the network's weights",
            file=source,
        )
    return knots, ratios


def cross_validate(pairs: LabelledPairs, options: CalibrationOptions, *, seed: int) -> FloatArray:
    """(n,) log-likelihood ratio of each pair, fitted on pairs that show no vehicle of its query's fold."""
    folds = min(options.folds, pairs.paired_vehicles)
    fold = vehicle_folds(pairs, folds=folds, seed=seed)
    # Vehicles that only the gallery shows are in no fold, and say the same in each.
    of_gallery = np.full(len(pairs), -1)
    asked = (pairs.gallery_vehicle >= 0) & (pairs.gallery_vehicle < len(fold))
    of_gallery[asked] = fold[pairs.gallery_vehicle[asked]]
    of_query = fold[pairs.query_vehicle]
    ratios = np.zeros(len(pairs))
    for number in range(folds):
        rest, tested = (of_query != number) & (of_gallery != number), of_query == number
        if pairs.same[rest].any() and not pairs.same[rest].all():
            knots = FITS[options.method](pairs.distance, pairs.same, pairs.weight * rest)
            ratios[tested] = np.interp(pairs.distance[tested], *knots)
    return ratios


def judge_probabilities(pairs: LabelledPairs, facts: RankingFacts, *, resamples: int, seed: int) -> Reliability | None:
    """How reliable the probabilities of a ranking are on its own labelled pairs.

    Where they were fitted on the same vehicles, the fit is repeated without each vehicle in turn, so that what is
    measured is no better than it will be for others.

    Args:
        pairs: Of the ranking.
        facts: How it was made, its calibration among it.
        resamples: How often vehicles are resampled.
        seed: Of folds and resamples.

    Returns:
        None where the ranking has no probabilities, or no pair of either kind.
    """
    calibration, prior = facts.calibration, facts.prior
    if calibration is None or prior is None or not pairs.same.any() or pairs.same.all():
        return None
    seen = calibration.fitted_on.digest == pairs.digest and pairs.paired_vehicles >= FEWEST_VEHICLES
    if seen:
        ratios = cross_validate(pairs, CalibrationOptions(method=calibration.method), seed=seed)
    else:
        ratios = calibration.log_ratio(pairs.distance)
    return measure_reliability(
        sigmoid(ratios + logit(prior)),
        pairs.same,
        vehicles=pairs.query_vehicle,
        weight=pairs.weight,
        cross_validated=seen,
        resamples=resamples,
        seed=seed,
    )


def _calibration(facts: RankingFacts, knots: Knots, pairs: LabelledPairs, *, method: CalibrationMethod) -> Calibration:
    return Calibration(
        task=facts.task,
        metric=facts.metric,
        alpha=facts.alpha,
        definition=facts.definition,
        track_unit=facts.track_unit,
        rerank=facts.rerank,
        identity=facts.identity,
        method=method,
        distances=tuple(knots[0].tolist()),
        log_ratios=tuple(knots[1].tolist()),
        expected=pairs.expected,
        fitted_on=FittedOn(
            dataset=facts.dataset,
            vehicles=len(pairs.vehicles),
            digest=pairs.digest,
            queries=pairs.queries,
            same=round(pairs.same_count),
            different=round(pairs.different_count),
        ),
    )


def _intervals(
    calibration: Calibration, pairs: LabelledPairs, options: CalibrationOptions, *, seed: int
) -> dict[float, Interval | None]:
    """Of the distances at :data:`PROBABILITIES`; None where resampled vehicles may leave no such distance."""
    rng, count, prior = np.random.default_rng([seed, 5]), len(pairs.vehicles), pairs.share_same
    found: dict[float, list[float | None]] = {one: [] for one in PROBABILITIES}
    for _ in range(options.resamples):
        times = np.bincount(rng.integers(0, count, size=count), minlength=count)
        weight = pairs.weight * times[pairs.query_vehicle]
        if not weight[pairs.same].any() or not weight[~pairs.same].any():
            continue
        knots, ratios = FITS[options.method](pairs.distance, pairs.same, weight)
        one = replace(calibration, distances=tuple(knots.tolist()), log_ratios=tuple(ratios.tolist()))
        for probability in PROBABILITIES:
            found[probability].append(one.farthest(probability, prior=prior))
    tail = tail_of(count)
    intervals: dict[float, Interval | None] = {}
    for probability, values in found.items():
        known = [value for value in values if value is not None]
        whole = len(known) == len(values) and known
        intervals[probability] = Interval(*np.quantile(known, [tail, 1 - tail]).tolist()) if whole else None
    return intervals
