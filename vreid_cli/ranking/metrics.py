"""The tables of distances and aggregations, the metrics that they make, and which of them a task knows.

To add a distance or an aggregation, write its function and one entry here: allowed values, help, file names and the
paper's JSON follow. Nothing here needs torch. Definitions: ``docs/definitions.md#image-to-track`` and
``#track-to-track``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from vreid_cli.errors import UsageError, did_you_mean
from vreid_cli.types.index import Geometry
from vreid_cli.types.metric_names import join_metric_name
from vreid_cli.types.rankings import Definition, Task


@dataclass(frozen=True)
class Distance:
    """How far apart images or tracks are.

    Attributes:
        between: ``images``: a track is as far as its nearest image, and between tracks the query's images are
            aggregated. ``tracks``: the distance is between whole tracks as it is.
        function: ``"module:function"``. Between images it takes (Q, D) and (R, D) float32 tensors and returns
            (Q, R); between tracks it is a :class:`vreid_cli.ranking.engine.TrackDistance`. None for MED and MCD, which
            :mod:`vreid_cli.ranking.distances` takes from one product.
        space: Where candidates for its nearest are looked for: by angle or by Euclidean distance.
        options: Fields of ``RankingOptions`` that it depends on; they are kept among the ranking's facts.
        float64: Whether the device must have float64.
        explain: Between tracks, ``"module:function"`` that takes (N_q, D) and (N_r, D) float64 arrays of one pair and
            the options, and returns (N_q, N_r) numbers that say how the images go together, and (N_q,) residuals
            whose squares sum up to that of the distance. None where nothing of that kind can be said.
    """

    between: Literal["images", "tracks"]
    function: str | None = None
    space: Geometry = "cosine"
    options: tuple[str, ...] = ()
    float64: bool = False
    explain: str | None = None


DISTANCES: dict[str, Distance] = {
    "MED": Distance("images", space="euclidean"),
    "MCD": Distance("images"),
    # Codes may stretch an image's LR, so its direction is what matters.
    "RSCR": Distance(
        "tracks",
        "vreid_cli.ranking.rscr:reconstruction_residuals",
        options=("alpha",),
        float64=True,
        explain="vreid_cli.ranking.rscr:sparse_codes",
    ),
}

#: From n to the places among n values, rising, whose mean is the aggregate. The ``50`` forms first keep the
#: ``floor(n / 2) + 1`` smallest; ``med`` is the mean of the two middle values when n is even.
AGGREGATIONS: dict[str, Callable[[int], range]] = {
    "min": lambda n: range(1),
    "mean": range,
    "med": lambda n: range((n - 1) // 2, n // 2 + 1),
    "mean50": lambda n: range(n // 2 + 1),
    "med50": lambda n: AGGREGATIONS["med"](n // 2 + 1),
}

#: What is ranked by where nothing is said.
DEFAULT_METRIC: dict[Task, str] = {"t2t": "meanMCD50", "i2t": "MCD", "i2i": "MCD"}


@dataclass(frozen=True)
class Metric:
    """A distance and, where it is between images but ranks tracks, the aggregation over the query's images."""

    name: str
    distance: str
    aggregation: str | None = None


def known_metrics(task: Task) -> dict[str, Metric]:
    """Metrics of a task by name, in the paper's order: MED before MCD, RSCR last.

    Example:
        >>> list(known_metrics("i2t"))
        ['MED', 'MCD', 'RSCR']
    """
    images = [name for name, distance in DISTANCES.items() if distance.between == "images"]
    aggregations = AGGREGATIONS if task == "t2t" else (None,)
    metrics = [Metric(str(join_metric_name(name, each)), name, each) for name in images for each in aggregations]
    metrics += [Metric(name, name) for name in DISTANCES if name not in images]
    return {metric.name: metric for metric in metrics}


def metric_order() -> tuple[str, ...]:
    """Names of all metrics in the paper's order: from single images, then between tracks; each once, RSCR last."""
    between_tracks = known_metrics("t2t")
    return (*(name for name in known_metrics("i2t") if name not in between_tracks), *between_tracks)


def metrics_help() -> str:
    """What ``--metric`` takes, in a sentence."""
    tracks, images = known_metrics("t2t"), known_metrics("i2t")
    return f"For t2t {', '.join(tracks)}; for i2t and i2i {', '.join(images)}."


def parse_metrics(names: Sequence[str], task: Task, *, definition: Definition = "paper") -> list[Metric]:
    """Metrics by name; ``all`` stands for every metric of the task.

    Case does not matter, and ``mean50MCD`` is ``meanMCD50``. Each metric comes once, in the order given.

    Args:
        names: The names; none for the task's default, meanMCD50 between tracks and MCD otherwise.
        task: ``t2t``, ``i2t`` or ``i2i``.
        definition: ``paper`` or ``released``.

    Raises:
        UsageError: A name that the task does not know (the nearest is offered), or ``released`` outside t2t.

    Example:
        >>> [metric.name for metric in parse_metrics(["mean50mcd", "RSCR"], "t2t")]
        ['meanMCD50', 'RSCR']
    """
    if definition == "released" and task != "t2t":
        raise UsageError(
            f"--definition released is about two tracks, not about {task}",
            hint="use it with --task t2t, or leave it out",
        )
    known = known_metrics(task)
    by_lower = {name.lower(): metric for name, metric in known.items()}
    chosen: dict[str, Metric] = {}
    for name in names or (DEFAULT_METRIC[task],):
        if name.lower() == "all":
            chosen |= known
            continue
        # The authors' file names put the 50 first: mean50mcd is meanmcd50.
        digits_last = re.sub(r"^([a-z]+)(\d+)([a-z]+)$", r"\1\3\2", name.lower())
        metric = by_lower.get(name.lower()) or by_lower.get(digits_last)
        if metric is None:
            # meanMCD50 is about tracks; of single images only the distance in its name is left.
            inside = [other for other in known if task != "t2t" and other.lower() in name.lower()]
            alike = inside[0] if inside else name
            hint = did_you_mean(alike, [*known, "all"])
            raise UsageError(f"--metric {name}: no metric of the task {task}", hint=hint)
        chosen[metric.name] = metric
    return list(chosen.values())
