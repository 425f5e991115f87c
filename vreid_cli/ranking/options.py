"""How rankings are made."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vreid_cli.ranking.metrics import metric_order, metrics_help
from vreid_cli.types.options import DATA, NotNegative, Options, Positive, Probability, Share, option
from vreid_cli.types.rankings import Definition, Task
from vreid_cli.types.tracks import TrackUnit

_WHAT = "What is compared"


class RankingOptions(Options):
    """``[rank]``: what is compared with what, and by which metric.

    Examples:
        >>> RankingOptions(task="i2t", metric="MCD").metric
        ('MCD',)
    """

    task: Task = option("t2t", "Tracks against tracks, images against tracks, or images against images.", panel=_WHAT)
    metric: tuple[str, ...] = option(
        (),
        metrics_help(),
        metavar="NAME,…|all",
        panel=_WHAT,
        shown="meanMCD50, or MCD",
        offered=("all", *metric_order()),
    )
    definition: Definition = option(
        "paper", "The paper's formula, or what the authors' released code computes (t2t).", panel=_WHAT
    )
    track_unit: TrackUnit = option(
        "passage", "A track is one passage, or all images of a vehicle by one camera.", panel=DATA
    )
    cameras: Literal["all", "other"] = option(
        "all", "Rank what all cameras saw, or leave out what the query's own camera saw.", panel=_WHAT
    )
    top_k: Positive | None = option(
        None,
        "List only the N nearest, and all of the query's vehicle where labels are known.",
        panel=_WHAT,
        shown="all",
    )
    threshold: NotNegative | None = option(
        None,
        "List only what is no farther than D, and all of the query's vehicle where labels are known.",
        metavar="D",
        panel=_WHAT,
        shown="all",
    )
    candidates: Positive | None = option(
        None,
        "Look only at each query's N nearest items by vreid index, and rank those exactly.",
        panel=_WHAT,
        shown="all items",
    )
    min_probability: Probability | None = option(
        None,
        "List only what is the query's vehicle with a probability of P, and all of it where labels are known; needs a "
        "calibration.",
        metavar="P",
        panel=_WHAT,
        shown="all",
    )
    no_match: bool = option(
        False,
        "Of each query list only what --threshold or --min-probability allows, and 'no match' where nothing is near.",
        panel=_WHAT,
    )
    expected: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = option(
        None,
        "How many gallery items show a query's vehicle, on average: what probabilities start from.",
        panel=_WHAT,
        shown="as many as where the calibration was fitted",
    )
    rerank: bool = option(
        False,
        "Re-rank by k-reciprocal neighbours; --set rank.k1=20, rank.k2=6 and rank.lambda_value=0.3 tune it.",
        panel=_WHAT,
    )
    k1: Positive = option(20, "Neighbours that re-ranking looks at.", panel=_WHAT)
    k2: Positive = option(6, "Neighbours whose sets re-ranking averages.", panel=_WHAT)
    lambda_value: Share = option(0.3, "Share of the original distance in the re-ranked one.", panel=_WHAT)
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] = option(
        1.0, "RSCR's weight of the codes' absolute values.", panel=_WHAT
    )
