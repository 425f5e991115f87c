"""The paper's metrics by name, and which of them a task knows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vreid_cli.errors import UsageError, did_you_mean
from vreid_cli.types.rankings import Definition, Task

Distance = Literal["MED", "MCD", "RSCR"]
Aggregation = Literal["min", "mean", "med", "mean50", "med50"]

_AGGREGATIONS: tuple[Aggregation, ...] = ("min", "mean", "med", "mean50", "med50")


@dataclass(frozen=True)
class Metric:
    """A distance and, for MED and MCD between tracks, how it is aggregated over the query's images."""

    name: str
    distance: Distance
    aggregation: Aggregation | None = None


def _track_metric(distance: Distance, aggregation: Aggregation) -> Metric:
    stem, fifty = aggregation.removesuffix("50"), aggregation.endswith("50")
    return Metric(f"{stem}{distance}{'50' if fifty else ''}", distance, aggregation)


_AGGREGATED: tuple[Distance, ...] = ("MED", "MCD")
#: RSCR is over all images of both tracks as it is, and the same under both definitions.
RSCR = Metric("RSCR", "RSCR")
TRACK_METRICS = {m.name: m for m in (*(_track_metric(d, a) for d in _AGGREGATED for a in _AGGREGATIONS), RSCR)}
IMAGE_METRICS: dict[str, Metric] = {"MED": Metric("MED", "MED"), "MCD": Metric("MCD", "MCD"), "RSCR": RSCR}
#: All of them in the paper's order: from single images, then between tracks; RSCR last.
METRIC_ORDER = tuple(dict.fromkeys([*(name for name in IMAGE_METRICS if name != RSCR.name), *TRACK_METRICS]))


def parse_metrics(names: Sequence[str], task: Task, *, definition: Definition) -> list[Metric]:
    """Metrics by name; ``all`` stands for every metric of the task.

    Case does not matter, and ``mean50MCD`` is ``meanMCD50``. Each metric comes once, in the order given.

    Raises:
        UsageError: A name that the task does not know (the nearest is offered), or ``released`` outside t2t.
    """
    if definition == "released" and task != "t2t":
        raise UsageError(
            f"--definition released is about two tracks, not about {task}",
            hint="use it with --task t2t, or leave it out",
        )
    known = TRACK_METRICS if task == "t2t" else IMAGE_METRICS
    by_lower = {name.lower(): metric for name, metric in known.items()}
    chosen: dict[str, Metric] = {}
    for name in names:
        if name.lower() == "all":
            chosen |= known
            continue
        metric = by_lower.get(_fifty_last(name.lower()))
        if metric is None:
            raise UsageError(f"--metric {name}: no metric of the task {task}", hint=did_you_mean(name, [*known, "all"]))
        chosen[metric.name] = metric
    return list(chosen.values())


def _fifty_last(name: str) -> str:
    """``mean50mcd`` as ``meanmcd50``: the authors' file names put the 50 first."""
    return re.sub(r"^(mean|med)50(med|mcd)$", r"\1\g<2>50", name)
