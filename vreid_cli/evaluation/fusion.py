"""Several rankings of the same items as one, by their calibrated log-likelihood ratios (docs/definitions.md#fusion)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid_cli.errors import DataError, require_type
from vreid_cli.evaluation.calibrate import check_pairs
from vreid_cli.evaluation.judging import UNKNOWN, WRONG, Judge, positive
from vreid_cli.evaluation.likelihood import Knots, fit_isotonic, fit_logistic, maximise_likelihood
from vreid_cli.evaluation.options import CalibrationOptions, EvaluationOptions
from vreid_cli.evaluation.pairs import MOST_DIFFERENT, LabelledPairs, vehicle_folds
from vreid_cli.types.arrays import BoolArray, Int64Array
from vreid_cli.types.calibrations import logit
from vreid_cli.types.rankings import Ranking, RankingBlock, RankingFacts
from vreid_cli.types.tracks import Items

FloatArray = NDArray[np.float64]
Matrix = NDArray[np.float32]
#: An isotonic and a logistic ratio.
Maps = tuple[Knots, Knots]
#: Queries of a block of lists.
_BLOCK = 256


@dataclass(frozen=True, eq=False)
class FusedRanking:
    """One ranking made of several, and how.

    Attributes:
        ranking: The lists; a query's were weighed without its vehicle.
        weights: (m,) factor of each ranking's log-likelihood ratio, fitted on all vehicles.
        fold_weights: (folds, m) the same, each fitted without a part of the vehicles.
    """

    ranking: Ranking
    weights: tuple[float, ...]
    fold_weights: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, eq=False)
class _Fusion:
    """From distances of one pair in each ranking to one log-likelihood ratio."""

    maps: tuple[Maps, ...]
    weights: FloatArray
    offset: float

    def log_ratio(self, distances: Sequence[FloatArray | Matrix]) -> FloatArray:
        """Of pairs of any number, given their distances in each ranking."""
        total = np.full(distances[0].shape, self.offset)
        for weight, one, at in zip(self.weights, self.maps, distances, strict=True):
            total += weight * _smooth(one, at)
        return total


def fuse(
    rankings: Sequence[Ranking],
    options: CalibrationOptions | None = None,
    *,
    counting: EvaluationOptions | None = None,
    seed: int = 0,
) -> FusedRanking:
    """Make one ranking of several metrics, networks or runs.

    Each distance becomes a log-likelihood ratio, and the ratios are added, weighed by logistic regression on labelled
    pairs. Every query is ranked with ratios and weights that were fitted without its vehicle, so that the
    scores of the result are honest.

    Args:
        rankings: Two or more of the same queries and gallery items, all listed; labels are those of the first.
        options: Folds of vehicles.
        counting: Which pairs count.
        seed: Of the folds.

    Returns:
        The ranking, whose distances are −ln of the probability at even odds; and the weights.

    Raises:
        DataError: The rankings are of different items or cut, or there are too few labelled vehicles.

    Examples:
        >>> import vreid_cli as vreid
        >>> rng = np.random.default_rng(0)
        >>> names = [f"v{number}" for number in range(30)]
        >>> centres = rng.normal(size=(30, 6))
        >>> sides = [centres + 0.5 * rng.normal(size=(30, 6)) for _ in range(2)]
        >>> query, gallery = (vreid.FeatureSet.from_arrays(side, track_id=names, vehicle_id=names) for side in sides)
        >>> rankings = vreid.rank(query, gallery, vreid.RankingOptions(metric=["minMED", "minMCD"]))
        >>> fused = vreid.fuse(list(rankings.values()))
        >>> fused.ranking.facts.metric, len(fused.weights)
        ('minMED+minMCD', 2)
    """
    options, counting = options or CalibrationOptions(), counting or EvaluationOptions()
    require_type(rankings, Sequence, name="rankings", hint="as in vreid.fuse([one, other])")
    for ranking in rankings:
        require_type(ranking, Ranking, name="rankings", hint="from vreid.rank or vreid.read_ranking")
    _check_alike(rankings)
    first = rankings[0]
    columns = [_matrix(ranking, first.queries, first.gallery) for ranking in rankings]
    listed = np.isfinite(columns[0])
    for ranking, matrix in zip(rankings, columns, strict=True):
        if (np.isfinite(matrix) != listed).any():
            raise DataError(f"{ranking.source} lists other pairs than {first.source}", file=ranking.source)
    source = ", ".join(ranking.source for ranking in rankings)
    pairs, distances = _labelled(first, columns, listed, same_camera=counting, seed=seed)
    check_pairs(pairs, source=source)
    fold = vehicle_folds(pairs, folds=min(options.folds, pairs.paired_vehicles), seed=seed)
    of_query, of_gallery = fold[pairs.query_vehicle], _folds_of(pairs.gallery_vehicle, fold)
    whole = _fit(distances, pairs, pairs.weight)
    parts = [
        _fit(distances, pairs, pairs.weight * ((of_query != number) & (of_gallery != number)))
        for number in range(int(fold.max()) + 1)
    ]
    number_of: dict[str | None, int] = {name: int(fold[place]) for place, name in enumerate(pairs.vehicles)}
    chosen = np.array([number_of.get(name, -1) for name in first.queries.vehicles])
    fused = np.full(listed.shape, np.inf, dtype=np.float32)
    for number, one in [(-1, whole), *enumerate(parts)]:
        rows = np.flatnonzero(chosen == number)
        # −ln P at even odds: not negative, and exact to the last digit where it matters, near 0.
        fused[rows] = np.logaddexp(0, -one.log_ratio([matrix[rows] for matrix in columns]))
    fused[~listed] = np.inf
    facts = _facts(rankings, whole.weights)
    ranking = Ranking(facts, first.queries, first.gallery, tuple(_lists(fused, listed)), source=source)
    return FusedRanking(ranking, tuple(whole.weights.tolist()), tuple(tuple(one.weights.tolist()) for one in parts))


def _check_alike(rankings: Sequence[Ranking]) -> None:
    if len(rankings) < 2:
        raise DataError("one ranking alone cannot be fused", hint="name two or more, as in vreid rank --fuse A B")
    first = rankings[0]
    for ranking in rankings:
        if ranking.facts.coverage != "full":
            raise DataError(
                f"{ranking.source} does not list every gallery item",
                hint="rank without --top-k, --threshold and --min-probability",
                file=ranking.source,
            )
        for what in ("queries", "gallery"):
            one, other = (set(getattr(side, what).ids.tolist()) for side in (first, ranking))
            if one != other:
                example = sorted(map(str, one ^ other))[0]
                raise DataError(
                    f"{first.source} and {ranking.source} differ in their {what}, such as {example}",
                    hint="fuse rankings of the same tracks: the same task, track unit and data",
                    file=ranking.source,
                )


def _matrix(ranking: Ranking, queries: Items, gallery: Items) -> Matrix:
    """(Q, G) distances in the order of these items; infinite for pairs that are not listed."""
    row, column = (
        np.array([place[name] for name in own.ids], dtype=np.int64)
        for own, place in (
            (ranking.queries, {name: index for index, name in enumerate(queries.ids)}),
            (ranking.gallery, {name: index for index, name in enumerate(gallery.ids)}),
        )
    )
    matrix = np.full((len(queries), len(gallery)), np.inf, dtype=np.float32)
    for block in ranking.blocks:
        matrix[row[block.query_index], column[block.gallery_index]] = block.distance
    return matrix


def _labelled(
    first: Ranking, columns: Sequence[Matrix], listed: BoolArray, *, same_camera: EvaluationOptions, seed: int
) -> tuple[LabelledPairs, list[FloatArray]]:
    """The labelled pairs in the order of the first ranking's distances, and their distances in every ranking."""
    query, item = np.nonzero(listed)
    kinds = Judge(first)(query, item)
    same = positive(kinds, same_camera.same_camera)
    kept = min(1.0, MOST_DIFFERENT / max(1, len(kinds)))
    rows = same | ((kinds == WRONG) & (np.random.default_rng([seed, 2]).random(len(kinds)) < kept))
    rows &= kinds != UNKNOWN
    query, item, same = query[rows], item[rows], same[rows]
    order = np.argsort(columns[0][query, item], kind="stable")
    query, item, same = query[order], item[order], same[order]
    distances = [matrix[query, item].astype(np.float64) for matrix in columns]
    names = sorted({str(name) for name in first.queries.vehicles if name is not None})
    place: dict[str | None, int] = {name: number for number, name in enumerate(names)}
    numbers = [np.array([place.get(name, -1) for name in side.vehicles]) for side in (first.queries, first.gallery)]
    labelled = int(sum(name is not None for name in first.queries.vehicles))
    weight = np.where(same, 1.0, 1 / kept)
    own = LabelledPairs(distances[0], same, weight, numbers[0][query], numbers[1][item], tuple(names), labelled)
    return own, distances


def _folds_of(vehicles: Int64Array, fold: Int64Array) -> Int64Array:
    """(n,) fold of each gallery item's vehicle; -1 where it has none."""
    found: Int64Array = np.where(vehicles >= 0, fold[np.maximum(vehicles, 0)], -1)
    return found


def _fit(distances: Sequence[FloatArray], pairs: LabelledPairs, weight: FloatArray) -> _Fusion:
    """Ratios of each ranking, and how they are weighed."""
    maps = []
    for column in distances:
        order = np.argsort(column, kind="stable")
        fitted = (column[order], pairs.same[order], weight[order])
        maps.append((fit_isotonic(*fitted), fit_logistic(*fitted)))
    used = weight > 0
    ratios = np.stack([_smooth(one, column[used]) for one, column in zip(maps, distances, strict=True)])
    share = float(weight[pairs.same].sum() / weight.sum())
    factors = _weigh(ratios, pairs.same[used], weight[used])
    return _Fusion(tuple(maps), factors[1:], float(factors[0]) - logit(share))


def _weigh(ratios: FloatArray, same: BoolArray, weight: FloatArray) -> FloatArray:
    """(1 + m,) offset and factors of a logistic regression; a factor below 0 would make farther items likelier: 0."""
    columns = np.concatenate([np.ones((1, len(same))), ratios])
    share = float(weight[same].sum() / weight.sum())
    factors = np.zeros(len(columns))
    kept = np.ones(len(columns), dtype=bool)
    while True:
        start = np.concatenate([[logit(share)], np.full(int(kept.sum()) - 1, 1 / max(1, len(ratios)))])
        found = maximise_likelihood(columns[kept], same.astype(np.float64), weight, start=start, ridge=1e-3)
        factors[:] = 0
        factors[kept] = found
        negative = factors < 0
        negative[0] = False
        if not negative.any():
            return factors
        kept &= ~negative


def _smooth(one: Maps, at: FloatArray | Matrix) -> FloatArray:
    """The mean of the isotonic ratio, which takes any shape, and of the logistic one, which has no ties."""
    isotonic, (ends, line) = one
    slope = (line[1] - line[0]) / (ends[1] - ends[0])
    straight = line[0] + slope * (np.asarray(at, dtype=np.float64) - ends[0])
    found: FloatArray = (np.interp(at, *isotonic) + straight) / 2
    return found


def _facts(rankings: Sequence[Ranking], weights: FloatArray) -> RankingFacts:
    every = [ranking.facts for ranking in rankings]
    first = every[0]
    several = len({repr(facts.identity) for facts in every}) > 1
    named = [
        f"{facts.architecture} {facts.weights} {facts.metric_name}" if several else str(facts.metric_name)
        for facts in every
    ]
    names = [f"{name} × {weight:.2f}" for name, weight in zip(named, weights, strict=True)]

    def shared(name: str) -> Any:
        """A fact that holds for all; None where they differ in it."""
        return getattr(first, name) if len({repr(getattr(facts, name)) for facts in every}) == 1 else None

    return replace(
        first,
        metric="+".join(str(facts.metric) for facts in every),
        alpha=None,
        fusion=tuple(names),
        definition=shared("definition"),
        query_identity=shared("query_identity"),
        gallery_identity=shared("gallery_identity"),
        weights=shared("weights"),
        rerank=shared("rerank"),
        calibration=None,
        prior=None,
    )


def _lists(fused: Matrix, listed: BoolArray) -> list[RankingBlock]:
    """Sorted lists of all pairs that are listed; ties keep gallery order."""
    blocks = []
    for start in range(0, len(fused), _BLOCK):
        part, known = fused[start : start + _BLOCK], listed[start : start + _BLOCK]
        # What is not listed comes last, and is cut off.
        order = np.lexsort((np.broadcast_to(np.arange(part.shape[1]), part.shape), part, ~known), axis=1)
        counts = known.sum(axis=1)
        keep = np.arange(part.shape[1]) < counts[:, None]
        query = np.broadcast_to(np.arange(start, start + len(part))[:, None], part.shape)[keep]
        rank = np.broadcast_to(np.arange(1, part.shape[1] + 1), part.shape)[keep]
        item = order[keep]
        distance = np.take_along_axis(part, order, axis=1)[keep]
        blocks.append(RankingBlock(query.astype(np.int32), rank.astype(np.int32), item.astype(np.int32), distance))
    return blocks
