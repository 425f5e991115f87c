"""From a distance to the probability of the same vehicle (docs/definitions.md#calibration)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from vreid_cli.types.amounts import amount
from vreid_cli.types.arrays import Float32Array

FloatArray = NDArray[np.float64]
CalibrationMethod = Literal["isotonic", "logistic"]
#: Largest share of a gallery that is taken to show the query's vehicle where nobody says how much does.
_LARGEST_PRIOR = 0.5
#: What of an identity may differ: both back-ends compute the same features, to rounding.
_SAME_FEATURES = ("backend",)

#: What reads a dataclass back and checks it; making it takes longer than reading with it, so each is made once.
adapter_of: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)
Finite = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True)
class FittedOn:
    """The labelled pairs that a calibration was fitted on.

    Attributes:
        dataset: Name of the data set's layout.
        vehicles: Vehicles of the queries.
        digest: SHA-256 of their names, so that the same vehicles are known again.
        queries: Labelled queries.
        same: Pairs of the same vehicle.
        different: Pairs of different vehicles.
        brier: Brier score of the probabilities, cross-validated by vehicle.
        ece: Their expected calibration error.
    """

    dataset: str | None
    vehicles: int
    digest: str
    queries: int
    same: int
    different: int
    brier: float | None = None
    ece: float | None = None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """P(same vehicle | distance), for the features, task, metric and definition that it was fitted on.

    Attributes:
        task: ``t2t``, ``i2t`` or ``i2i``.
        metric: As ``meanMCD50``.
        alpha: RSCR's weight; None for other metrics.
        definition: ``paper`` or ``released``.
        track_unit: ``passage`` or ``camera``; None for ``i2i``.
        rerank: The numbers of re-ranking; None without.
        identity: What made the features; None where that is unknown.
        method: How the ratios were fitted.
        distances: (n,) knots, rising.
        log_ratios: (n,) at each knot the natural logarithm of how much more likely such a distance is between images
            of the same vehicle than between different ones; never rising. In between it is linear, beyond the ends
            constant.
        expected: Gallery items that show a query's vehicle, on average.
        fitted_on: The labelled pairs.
        source: Where it was read from: a path, in its run or as it was named, or ``shipped``; None for one in memory.

    Examples:
        >>> fitted = FittedOn(dataset=None, vehicles=10, digest="", queries=10, same=10, different=90)
        >>> calibration = Calibration(
        ...     metric="MCD", distances=(0.1, 0.5), log_ratios=(6.0, -6.0), expected=1.0, fitted_on=fitted
        ... )
        >>> calibration.probability(np.array([0.1, 0.3, 0.5]), prior=0.5).round(4).tolist()
        [0.9975, 0.5, 0.0025]
        >>> calibration.prior(gallery_size=100)
        0.01
    """

    task: str | None = None
    metric: str | None = None
    alpha: float | None = None
    definition: str | None = None
    track_unit: str | None = None
    rerank: Mapping[str, int | float] | None = None
    identity: Mapping[str, str] | None = None
    method: CalibrationMethod = "isotonic"
    distances: Annotated[tuple[Finite, ...], Field(min_length=2)]
    log_ratios: Annotated[tuple[Finite, ...], Field(min_length=2)]
    expected: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    fitted_on: FittedOn
    source: str | None = field(default=None, compare=False)

    def prior(self, *, gallery_size: int, expected: float | None = None) -> float:
        """Share of a gallery that shows the query's vehicle.

        Args:
            gallery_size: Number of gallery items.
            expected: How many of them show it; None for as many as where the calibration was fitted, but at most half.
        """
        if expected is None:
            return min(self.expected / max(1, gallery_size), _LARGEST_PRIOR)
        return expected / max(1, gallery_size)

    def log_ratio(self, distance: Float32Array | FloatArray) -> FloatArray:
        """(R,) natural logarithm of the likelihood ratio at each distance."""
        return np.interp(np.asarray(distance, dtype=np.float64), self.distances, self.log_ratios)

    def probability(self, distance: Float32Array | FloatArray, *, prior: float) -> FloatArray:
        """(R,) probability of the same vehicle at each distance, where ``prior`` of all pairs are the same vehicle."""
        return sigmoid(self.log_ratio(distance) + logit(prior))

    def farthest(self, probability: float, *, prior: float) -> float | None:
        """The largest distance, as float32, whose probability is at least this; None where even 0 is too far.

        Infinite where every distance is near enough.
        """
        if float(self.probability(np.array([np.inf]), prior=prior)[0]) >= probability:
            return float("inf")
        # The bits of a float32 that is not negative rise with its value.
        low, high = 0, 0x7F800000
        if float(self.probability(_from_bits(low), prior=prior)[0]) < probability:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            near = float(self.probability(_from_bits(middle), prior=prior)[0]) >= probability
            low, high = (middle, high) if near else (low, middle)
        return float(_from_bits(low)[0])

    def to_dict(self) -> dict[str, Any]:
        """All of it, fit for JSON."""
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read back what :meth:`to_dict` gave.

        Raises:
            ValueError: A value is missing or is not what it should be; the message names it.
        """
        try:
            found: Self = adapter_of(cls).validate_python(dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        if len(found.distances) != len(found.log_ratios):
            raise ValueError(
                f"{amount(len(found.distances), 'distance')} for {amount(len(found.log_ratios), 'log_ratio')}"
            )
        if (np.diff(found.distances) < 0).any() or (np.diff(found.log_ratios) > 0).any():
            raise ValueError("distances must rise and log_ratios must not")
        return found

    def misfit(self, facts: Mapping[str, Any], identity: Mapping[str, str] | None) -> str | None:
        """The first fact by which it is not made for a ranking, in words; None where it fits.

        Args:
            facts: The ranking's, by name.
            identity: What made the ranking's features.
        """
        for name in ("task", "metric", "alpha", "definition", "track_unit", "rerank"):
            own, wanted = getattr(self, name), facts[name]
            if own != wanted:
                return f"its {name.replace('_', ' ')} is {_word(own)}, not {_word(wanted)}"
        own_identity, other = self.identity or {}, identity or {}
        for key in dict.fromkeys([*own_identity, *other]):
            if key not in _SAME_FEATURES and own_identity.get(key) != other.get(key):
                return f"its {key} is {_word(own_identity.get(key))}, not {_word(other.get(key))}"
        return None


def sigmoid(log_odds: FloatArray | float) -> FloatArray:
    """From the logarithm of odds to a probability, without overflow.

    Examples:
        >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    small = np.exp(-np.abs(log_odds))
    found: FloatArray = np.where(log_odds >= 0, 1 / (1 + small), small / (1 + small))
    return found


def logit(probability: float) -> float:
    """From a probability between 0 and 1, both excluded, to the logarithm of its odds."""
    return float(np.log(probability) - np.log1p(-probability))


def _from_bits(bits: int) -> Float32Array:
    return np.array([bits], dtype=np.int32).view(np.float32)


def _word(value: object) -> str:
    return "none" if value is None else str(dict(value)) if isinstance(value, Mapping) else str(value)
