"""Whether one ranking is better than another, and what several trials have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev

import numpy as np

from vreid_cli.errors import require_type
from vreid_cli.evaluation.evaluate import Evaluation
from vreid_cli.evaluation.uncertainty import CHUNK, FloatArray, Interval, mean_intervals, sum_by_vehicle
from vreid_cli.types.rankings import RankingFacts


@dataclass(frozen=True)
class Comparison:
    """One ranking against another on the queries that are valid in both.

    Attributes:
        difference: Mean difference of AP, the first minus the second.
        interval: Its interval; None with fewer than two vehicles.
        p_value: How often flipping the signs of vehicles at random gives a difference as large.
        queries: How many queries both have.
        vehicles: How many vehicles these show.
    """

    difference: float
    interval: Interval | None
    p_value: float
    queries: int
    vehicles: int


def compare(one: Evaluation, other: Evaluation) -> Comparison | None:
    """Difference of mAP between two rankings of the same queries.

    Queries are paired and vehicles resampled (docs/definitions.md#uncertainty), as often and with the seed as ``one``
    says.

    Args:
        one: From :func:`vreid_cli.evaluate`.
        other: What it is compared with.

    Returns:
        The difference; None where they share no valid query, or where one lists only the nearest, so that its AP is
        unknown.

    Examples:
        >>> import numpy as np
        >>> import vreid_cli as vreid
        >>> labels = {"query_vehicles": ["a", "b"], "gallery_vehicles": ["a", "b", "c"]}
        >>> good = vreid.evaluate_distances(np.array([[0.1, 0.5, 0.9], [0.9, 0.1, 0.5]]), **labels)
        >>> poor = vreid.evaluate_distances(np.array([[0.9, 0.5, 0.1], [0.9, 0.1, 0.5]]), **labels)
        >>> vreid.compare(good, poor).difference
        0.33333333333333337
    """
    for name, side in (("one", one), ("other", other)):
        require_type(side, Evaluation, name=name, hint="from vreid.evaluate(ranking)")
    if "top-k" in (one.facts.coverage, other.facts.coverage):
        return None
    resamples, seed = one.options.resamples, one.seed
    place = {name: index for index, name in enumerate(other.queries.query_ids)}
    both = [(index, place[name]) for index, name in enumerate(one.queries.query_ids) if name in place]
    pairs = np.array(both, dtype=np.int64).reshape(-1, 2)
    first, second = one.queries.average_precision[pairs[:, 0]], other.queries.average_precision[pairs[:, 1]]
    valid = ~np.isnan(first) & ~np.isnan(second)
    if not valid.any():
        return None
    differences = (first - second)[valid]
    vehicles = one.queries.vehicles[pairs[valid, 0]]
    (interval,) = mean_intervals(differences[:, None], vehicles, resamples=resamples, seed=seed)
    sums, counts = sum_by_vehicle(differences[:, None], vehicles)
    return Comparison(
        difference=float(differences.mean()),
        interval=interval,
        p_value=_sign_flip_p_value(sums[:, 0], resamples=resamples, seed=seed),
        queries=len(differences),
        vehicles=len(counts),
    )


def _sign_flip_p_value(sums: FloatArray, *, resamples: int, seed: int) -> float:
    """Two-sided: without a difference a vehicle's sum is as likely to have the other sign."""
    rng = np.random.default_rng([seed, 1])
    observed = abs(sums.sum())
    # Sums that are equal but for the order of adding count as equal.
    limit = observed - 1e-12 * max(1.0, float(np.abs(sums).sum()))
    extreme = 0
    for start in range(0, resamples, step := max(1, CHUNK // len(sums))):
        signs = rng.integers(0, 2, size=(min(step, resamples - start), len(sums))) * 2 - 1
        extreme += int((np.abs(signs @ sums) >= limit).sum())
    return (1 + extreme) / (1 + resamples)


@dataclass(frozen=True)
class Spread:
    """A score over several trials.

    Attributes:
        mean: Over the trials.
        deviation: Standard deviation between them (n - 1); None for a single one.
    """

    mean: float
    deviation: float | None


@dataclass(frozen=True)
class TrialScores:
    """One network and metric over the trials of a protocol.

    Attributes:
        facts: How the first was ranked, which is how all were, but for the trial.
        trials: How many there are.
        mean_ap: mAP; None where some trial has none.
        mean_inp: mINP.
        cmc: CMC at each rank.
    """

    facts: RankingFacts
    trials: int
    mean_ap: Spread | None
    mean_inp: Spread | None
    cmc: Mapping[int, Spread | None]


def over_trials(evaluations: Iterable[Evaluation]) -> list[TrialScores]:
    """Means over the trials that differ in nothing else; rankings without trials are left out.

    Args:
        evaluations: All counted by the same options.
    """
    groups: dict[str, list[Evaluation]] = {}
    for one in evaluations:
        if one.facts.trial is not None:
            # How many queries and items a trial has may change with it, and who is who does.
            same = replace(one.facts, trial=None, gallery_size=0, query_count=None, query_lengths={}, selves={})
            groups.setdefault(repr(same), []).append(one)
    return [
        TrialScores(
            facts=group[0].facts,
            trials=len(group),
            mean_ap=_spread([one.mean_ap for one in group]),
            mean_inp=_spread([one.mean_inp for one in group]),
            cmc={rank: _spread([one.cmc[rank] for one in group]) for rank in group[0].cmc},
        )
        for group in groups.values()
    ]


def _spread(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return Spread(mean(known), stdev(known) if len(known) > 1 else None)
