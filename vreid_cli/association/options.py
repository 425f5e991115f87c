"""How tracks become identities."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vreid_cli.ranking.metrics import DEFAULT_METRIC, known_metrics
from vreid_cli.types.options import Choice, NotNegative, Options, Positive, Probability, option

_WHAT = "What is compared"
TrackMetric = Annotated[str, Choice(known_metrics("t2t"))]


class AssociationOptions(Options):
    """``[associate]``: by which metric tracks are compared, and how near one vehicle's tracks are.

    Examples:
        >>> AssociationOptions(threshold=0.2, cameras="other").metric
        'meanMCD50'
    """

    metric: TrackMetric = option(
        DEFAULT_METRIC["t2t"],
        f"The distance, as the mean of both directions: {', '.join(known_metrics('t2t'))}.",
        metavar="NAME",
        panel=_WHAT,
    )
    threshold: NotNegative | None = option(
        None,
        "Largest mean distance between the tracks of one vehicle.",
        metavar="D",
        panel=_WHAT,
        shown="by --min-probability or --false-match-rate",
    )
    min_probability: Probability | None = option(
        None,
        "Smallest probability that the tracks of one identity are one vehicle, on average; needs a calibration.",
        metavar="P",
        panel=_WHAT,
        shown="0.5 where a calibration fits",
    )
    expected: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = option(
        None,
        "How many other tracks show a track's vehicle, on average: what probabilities start from.",
        panel=_WHAT,
        shown="as many as where the calibration was fitted",
    )
    cameras: Literal["all", "other"] = option(
        "all", "Whether one camera may see a vehicle twice, or only other cameras see it again.", panel=_WHAT
    )
    reach: Annotated[float, Field(gt=1, allow_inf_nan=False)] = option(
        2.0, "Pairs farther than this many thresholds count as that far.", panel=_WHAT
    )
    candidates: Positive | None = option(
        None, "Compare each track with its N nearest by an index alone.", panel=_WHAT, shown="all tracks"
    )
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] = option(
        1.0, "RSCR's weight of the codes' absolute values.", panel=_WHAT
    )
