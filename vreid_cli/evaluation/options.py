"""How rankings are counted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vreid_cli.types.calibrations import CalibrationMethod
from vreid_cli.types.options import NotNegative, Options, Positive, Probability, option
from vreid_cli.types.truth import ApRule, SameCamera, WithoutPositive


class EvaluationOptions(Options):
    """``[evaluate]``: the rules of counting.

    Examples:
        >>> EvaluationOptions(same_camera="keep", ranks=[1, 5]).ranks
        (1, 5)
    """

    same_camera: SameCamera = option(
        "drop",
        "Leave out gallery items of the query's own vehicle by the query's own camera (junk), or keep them.",
    )
    ap: ApRule = option(
        "rectangle",
        "Average precision as the mean precision at the positives (as the paper's code), or by Market-1501's "
        "rule (as VeRi's own script).",
    )
    ranks: Annotated[tuple[Positive, ...], Field(min_length=1)] = option((1, 5, 10, 20), "Ranks for CMC.")
    without_positive: WithoutPositive = option(
        "skip", "Leave out queries that have no positive, or count them with a score of 0."
    )
    resamples: Annotated[int, Field(ge=100)] = option(
        2000, "How often vehicles are resampled for intervals and comparisons."
    )
    by: tuple[Literal["camera", "length"], ...] = option((), "Also score each pair of cameras, or each track length.")
    threshold: NotNegative | None = option(
        None, "A query's vehicle counts as found if the nearest is no farther than D.", metavar="D"
    )
    min_probability: Probability | None = option(
        None,
        "A query's vehicle counts as found if the nearest is it with a probability of P.",
        metavar="P",
        shown="0.5 where distances have probabilities",
    )
    split_open: Annotated[float, Field(gt=0, lt=1)] | None = option(
        None,
        "Leave this share of the vehicles out of the gallery, to measure queries whose vehicle is not there.",
        metavar="SHARE",
        shown="none",
    )


class CalibrationOptions(Options):
    """``[calibrate]``: how the probability of the same vehicle is fitted to distances.

    Examples:
        >>> CalibrationOptions(method="logistic").folds
        10
    """

    method: CalibrationMethod = option(
        "isotonic", "Any ratio that never rises with the distance, or a logistic curve, for few vehicles."
    )
    folds: Annotated[int, Field(ge=2)] = option(10, "Parts of the vehicles that the fit is validated on, each in turn.")
    resamples: Annotated[int, Field(ge=20)] = option(200, "How often the fit is repeated on resampled vehicles.")
