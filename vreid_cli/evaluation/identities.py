"""How right identities are: ID measures, pairs and B-cubed. Definitions: docs/definitions.md#scores-of-identities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid_cli.errors import DataError, require_type
from vreid_cli.evaluation.options import EvaluationOptions
from vreid_cli.evaluation.uncertainty import FloatArray, Interval, percentile_intervals, resample_sums
from vreid_cli.types.arrays import Int64Array, shared_codes
from vreid_cli.types.identities import Identities


@dataclass(frozen=True)
class IdentityScore:
    """A score, a fraction; NaN where nothing is counted; with its interval, None with fewer than two vehicles."""

    value: float
    interval: Interval | None = None


@dataclass(frozen=True)
class BoxScores:
    """IDF1 of boxes, fractions; NaN where there are none.

    Attributes:
        idf1: Harmonic mean of precision and recall.
        precision: Share of found boxes that are where the vehicle is that their identity is matched with.
        recall: Share of true boxes that are found so.
        found: Boxes that were found.
        true: Boxes of the ground truth.
    """

    idf1: float
    precision: float
    recall: float
    found: int
    true: int


@dataclass(frozen=True)
class IdentityScores:
    """Scores of identities against the vehicles that the tracks show.

    Attributes:
        scores: By name: ``IDF1``, ``IDP``, ``IDR`` of images; ``pair_precision``, ``pair_recall``, ``pair_F1`` and
            ``bcubed_precision``, ``bcubed_recall``, ``bcubed_F1`` of tracks.
        tracks: Tracks whose vehicle is known; only they count.
        images: Their images.
        vehicles: Vehicles that they show.
        identities: Identities that they were given.
        unlabelled: Tracks whose vehicle is not known.
        facts: How the identities were found.
        warnings: What is doubtful about them.
        boxes: Scores box by box, where the ground truth has boxes.
    """

    scores: Mapping[str, IdentityScore]
    tracks: int
    images: int
    vehicles: int
    identities: int
    unlabelled: int
    facts: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    boxes: BoxScores | None = None


def evaluate_identities(
    found: Identities, options: EvaluationOptions | None = None, *, seed: int = 0
) -> IdentityScores:
    """Score identities; tracks whose vehicle is unknown do not count.

    Args:
        found: The identities, with the vehicle of each track where it is known.
        options: How often vehicles are resampled for the intervals.
        seed: Of the resamples.

    Raises:
        DataError: No track's vehicle is known.

    Examples:
        >>> import vreid_cli as vreid
        >>> cars = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> features = vreid.FeatureSet.from_arrays(cars, track_id=["a", "b", "c"], vehicle_id=["1", "1", "2"])
        >>> found = vreid.associate(features, vreid.AssociationOptions(threshold=0.2))
        >>> vreid.evaluate_identities(found).scores["IDF1"].value
        1.0
    """
    options = options or EvaluationOptions()
    require_type(found, Identities, name="found", hint="from vreid.associate or vreid.read_identities")
    vehicle, _ = shared_codes(found.tracks.vehicles, found.tracks.vehicles[:0])
    known = vehicle >= 0
    if not known.any():
        raise DataError(
            f"{found.source}: the vehicle of no track is known, so there is nothing to score",
            hint="labels are read by vreid extract: from names (--label-pattern), gt/gt.txt or a manifest",
            file=str(found.source),
        )
    _, vehicle = np.unique(vehicle[known], return_inverse=True)
    _, identity = np.unique(found.identity[known], return_inverse=True)
    images = found.images[known]
    sums = _sums_by_vehicle(identity, vehicle, images)
    values = {name: score(sums.sum(axis=0)[None, :]) for name, score in _SCORES.items()}
    intervals: list[Interval | None] = [None] * len(_SCORES)
    if len(sums) > 1:
        drawn = resample_sums(sums, resamples=options.resamples, seed=seed)
        columns = np.column_stack([score(drawn) for score in _SCORES.values()])
        intervals = percentile_intervals(columns, vehicles=len(sums))
    return IdentityScores(
        scores={
            name: IdentityScore(float(value[0]), interval)
            for (name, value), interval in zip(values.items(), intervals, strict=True)
        },
        tracks=int(known.sum()),
        images=int(images.sum()),
        vehicles=len(sums),
        identities=int(identity.max()) + 1,
        unlabelled=int((~known).sum()),
        facts=found.facts,
        warnings=found.warnings,
    )


#: What a vehicle adds to each score: images matched with its identity, images; pairs of its tracks that are found,
#: that were put together (half of each pair with another vehicle), that there are; B-cubed precisions, recalls, tracks.
_MATCHED, _IMAGES, _HIT, _JOINED, _SAME, _PRECISION, _RECALL, _TRACKS = range(8)


def _ratio(top: FloatArray, bottom: FloatArray) -> FloatArray:
    result: FloatArray = np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 0)
    return result


def _column(top: int, bottom: int) -> Callable[[FloatArray], FloatArray]:
    return lambda sums: _ratio(sums[:, top], sums[:, bottom])


def _bcubed_f1(sums: FloatArray) -> FloatArray:
    return _ratio(
        2 * sums[:, _PRECISION] * sums[:, _RECALL], (sums[:, _PRECISION] + sums[:, _RECALL]) * sums[:, _TRACKS]
    )


#: From sums (B, 8) to scores (B,). The same images are looked for and found, so the three ID measures agree.
_SCORES: dict[str, Callable[[FloatArray], FloatArray]] = {
    **{name: _column(_MATCHED, _IMAGES) for name in ("IDF1", "IDP", "IDR")},
    "pair_precision": _column(_HIT, _JOINED),
    "pair_recall": _column(_HIT, _SAME),
    "pair_F1": lambda sums: _ratio(2 * sums[:, _HIT], sums[:, _JOINED] + sums[:, _SAME]),
    "bcubed_precision": _column(_PRECISION, _TRACKS),
    "bcubed_recall": _column(_RECALL, _TRACKS),
    "bcubed_F1": _bcubed_f1,
}


def _sums_by_vehicle(identity: Int64Array, vehicle: Int64Array, images: Int64Array) -> FloatArray:
    """(V, 8) what each vehicle adds."""
    # Cells of the table of identities by vehicles that are not empty.
    cells, place, tracks = np.unique(np.stack([identity, vehicle]), axis=1, return_inverse=True, return_counts=True)
    place = place.reshape(-1)
    weight: FloatArray = np.bincount(place, weights=images).astype(np.float64)
    in_identity, of_vehicle = np.bincount(identity), np.bincount(vehicle)
    sums = np.zeros((len(of_vehicle), 8))

    def add(column: int, values: NDArray[np.number]) -> None:
        np.add.at(sums[:, column], cells[1], values)

    matched = match_one_to_one(cells[0], cells[1], weight)
    add(_MATCHED, np.where(matched, weight, 0))
    add(_IMAGES, weight)
    add(_HIT, tracks * (tracks - 1) / 2)
    add(_JOINED, tracks * (tracks - 1) / 2 + tracks * (in_identity[cells[0]] - tracks) / 2)
    sums[:, _SAME] = of_vehicle * (of_vehicle - 1) / 2
    add(_PRECISION, tracks * tracks / in_identity[cells[0]])
    add(_RECALL, tracks * tracks / of_vehicle[cells[1]])
    sums[:, _TRACKS] = of_vehicle
    return sums


def match_one_to_one(one: Int64Array, other: Int64Array, weight: FloatArray) -> Any:
    """(m,) bool which cells of a sparse table make the one-to-one matching of the largest weight.

    Args:
        one: (m,) row of each cell that is not empty.
        other: (m,) column of each.
        weight: (m,) what it holds, above 0.

    Examples:
        >>> ends = np.array([[0, 0], [0, 1], [1, 0]])
        >>> match_one_to_one(ends[:, 0], ends[:, 1], np.array([3.0, 2.0, 2.0])).tolist()
        [False, True, True]
    """
    # Rankings are scored without it, and it takes half a second.
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    rows, columns = int(one.max(initial=-1)) + 1, int(other.max(initial=-1)) + 1
    # What is not connected does not compete: each piece is small, where the whole table would be huge.
    size = rows + columns
    graph = coo_matrix((np.ones(len(one)), (one, other + rows)), shape=(size, size))
    piece = connected_components(graph, directed=False)[1][one]
    order = np.argsort(piece, kind="stable")
    matched = np.zeros(len(one), dtype=np.bool_)
    for cells in np.split(order, np.flatnonzero(np.diff(piece[order])) + 1) if len(one) else []:
        some, row = np.unique(one[cells], return_inverse=True)
        others, column = np.unique(other[cells], return_inverse=True)
        table = np.zeros((len(some), len(others)))
        table[row, column] = weight[cells]
        chosen = np.zeros(table.shape, dtype=np.bool_)
        chosen[linear_sum_assignment(table, maximize=True)] = True
        matched[cells] = chosen[row, column]
    return matched
