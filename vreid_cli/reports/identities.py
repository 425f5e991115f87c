"""Identities in words, tables and JSON."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from rich.table import Table

from vreid_cli.association.travel import Traffic
from vreid_cli.evaluation.identities import IdentityScores
from vreid_cli.types.amounts import amount
from vreid_cli.types.arrays import Int64Array
from vreid_cli.types.identities import Identities

#: As many hops as a terminal shows, the most frequent ones.
_SHOWN_HOPS = 15


def summary(found: Identities) -> str:
    """How many vehicles there are and how they were found, in two sentences.

    Examples:
        >>> from vreid_cli.types.arrays import text_array
        >>> from vreid_cli.types.identities import TrackTimes
        >>> from vreid_cli.types.tracks import Items
        >>> names = text_array(["a", "b", "c"])
        >>> times, tracks = TrackTimes.unknown(3), Items(names, names, names)
        >>> facts = {"metric": "MCD", "threshold": 0.2, "cameras": "all"}
        >>> ones = np.ones(3, np.int64)
        >>> print(summary(Identities(tracks, np.array([1, 1, 2]), ones, times, *np.zeros((2, 3)), names, facts)))
        3 tracks are 2 vehicles: 1 seen more than once, 1 seen once. MCD up to 0.2, cameras all.
    """
    sizes = np.bincount(found.identity)
    several = int((sizes > 1).sum())
    facts = found.facts
    by = f", calibration {facts['calibration_source']}" if facts.get("calibration_source") else ""
    limits = f", {amount(len(facts['travel_times']), 'travel time')}" if facts.get("travel_times") else ""
    return (
        f"{amount(len(found), 'track is', 'tracks are')} {amount(found.count, 'vehicle')}: "
        f"{several:,} seen more than once, {found.count - several:,} seen once. "
        f"{facts.get('metric')} {_limit(facts)}{by}, cameras {facts.get('cameras')}{limits}."
    )


def _limit(facts: Mapping[str, Any]) -> str:
    if facts.get("threshold") is not None:
        return f"up to {facts['threshold']:.4g}"
    return f"by probability, at least {facts.get('min_probability')}"


def members(found: Identities) -> Iterator[tuple[int, Int64Array]]:
    """Each identity with the positions of its tracks, in the order of time where that is known."""
    times = found.times
    keys = (np.arange(len(found)), np.where(times.first < 0, np.inf, times.first), times.start)
    order = np.lexsort((*keys, found.identity))
    ends = np.flatnonzero(np.diff(found.identity[order])) + 1
    for some in np.split(order, ends) if len(order) else []:
        yield int(found.identity[some[0]]), some


def identities_json(found: Identities) -> list[dict[str, object]]:
    """Each identity with its tracks, as ``--json`` prints it."""
    return [
        {
            "identity": number,
            "probability": _number(found.probability[some[0]]),
            "tracks": [
                {
                    "track": found.tracks.ids[k],
                    "camera": found.tracks.cameras[k],
                    "vehicle": found.tracks.vehicles[k],
                    "first_frame": _known(found.times.first[k]),
                    "last_frame": _known(found.times.last[k]),
                    "confidence": _number(found.confidence[k]),
                }
                for k in some.tolist()
            ],
        }
        for number, some in members(found)
    ]


def identities_table(found: Identities, shown: Collection[int]) -> Table:
    """The tracks of some identities, in the order of time."""
    table = Table(title="Identities", caption=summary(found))
    probable = not np.isnan(found.probability).all()
    numbers = ("vehicle", *(("probability",) if probable else ()), "frames", "seconds", "confidence")
    for name in (*numbers[:-3], "track", "camera", *numbers[-3:], "labelled"):
        table.add_column(name, justify="right" if name in numbers else "left")
    times = found.times
    for number, some in members(found):
        for k in some.tolist() if number in shown else ():
            frames = "" if times.first[k] < 0 else f"{times.first[k]}-{times.last[k]}"
            seconds = "" if math.isnan(times.start[k]) else f"{times.start[k]:.1f}-{times.end[k]:.1f}"
            sure = "" if math.isnan(found.confidence[k]) else f"{found.confidence[k]:.2f}"
            labels = (found.tracks.cameras[k] or "", frames, seconds, sure, found.tracks.vehicles[k] or "")
            own = (str(number), probability_text(found, k)) if k == some[0] else ("", "")
            table.add_row(*own[: 1 + probable], found.tracks.ids[k], *labels)
    return table


def probability_text(found: Identities, position: int) -> str:
    """The probability of the identity of a track, by its position; empty where it is unknown."""
    value = found.probability[position]
    return "" if math.isnan(value) else f"{value:.3f}"


def identity_scores_json(path: str, found: IdentityScores) -> dict[str, object]:
    """Scores of a table of identities, as ``--json`` prints them: fractions, null for what is not a number."""
    intervals = {
        name: None if one.interval is None else [one.interval.low, one.interval.high]
        for name, one in found.scores.items()
    }
    facts = {name: found.facts.get(name) for name in ("dataset", "metric", "threshold", "min_probability", "cameras")}
    return {
        "identities": path,
        **facts,
        **{name: _number(np.float64(one.value)) for name, one in found.scores.items()},
        "intervals": intervals,
        "boxes": found.boxes
        and {
            "IDF1": _number(np.float64(found.boxes.idf1)),
            "IDP": _number(np.float64(found.boxes.precision)),
            "IDR": _number(np.float64(found.boxes.recall)),
            "found": found.boxes.found,
            "true": found.boxes.true,
        },
        "tracks": found.tracks,
        "images": found.images,
        "vehicles": found.vehicles,
        "found_vehicles": found.identities,
        "unlabelled_tracks": found.unlabelled,
    }


def identity_scores_table(results: Mapping[str, IdentityScores]) -> Table:
    """Scores of identities in percent, a row for each table of them."""
    table = Table(title="Identities (%)")
    table.add_column("identities", overflow="fold")
    boxes = any(one.boxes is not None for one in results.values())
    names = ["IDF1", "±", "pairs P", "R", "F1", "B³ P", "R", "F1", "found / vehicles", "tracks"]
    for name in [*names, *(("boxes IDF1", "IDP", "IDR") if boxes else ())]:
        table.add_column(name, justify="right")
    for path, one in results.items():
        interval = one.scores["IDF1"].interval
        half = "" if interval is None else f"{50 * (interval.high - interval.low):.1f}"
        names = [f"{kind}_{what}" for kind in ("pair", "bcubed") for what in ("precision", "recall", "F1")]
        values = [_percent(one.scores[name].value) for name in names]
        counts = (f"{one.identities:,} / {one.vehicles:,}", f"{one.tracks:,}")
        by_box = (one.boxes.idf1, one.boxes.precision, one.boxes.recall) if one.boxes is not None else ()
        table.add_row(path, _percent(one.scores["IDF1"].value), half, *values, *counts, *map(_percent, by_box))
    table.caption = (
        "IDF1: images in the identity that is matched one to one with their vehicle; all tracks are both wanted and "
        "found, so it equals IDP and IDR. P, R: precision and recall."
    )
    return table


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def hops_table(traffic: Traffic) -> Table:
    """The most frequent hops from camera to camera, with their travel times."""
    table = Table(title="From camera to camera")
    for name in ("from", "to"):
        table.add_column(name)
    for name in ("vehicles", "median s", "10 to 90 %"):
        table.add_column(name, justify="right")
    pairs = sorted(np.argwhere(traffic.hops > 0).tolist(), key=lambda pair: -traffic.hops[tuple(pair)])
    for one, other in pairs[:_SHOWN_HOPS]:
        names = (traffic.cameras[one], traffic.cameras[other])
        seconds = traffic.seconds.get(names)
        spread = ["", ""]
        if seconds is not None:
            low, middle, high = np.quantile(seconds, [0.1, 0.5, 0.9])
            spread = [f"{middle:.1f}", f"{low:.1f} to {high:.1f}"]
        table.add_row(*names, f"{traffic.hops[one, other]:,}", *spread)
    if len(pairs) > _SHOWN_HOPS:
        table.caption = f"and {len(pairs) - _SHOWN_HOPS} more"
    return table


def _known(frame: np.int64) -> int | None:
    return None if frame < 0 else int(frame)


def _number(value: np.float64) -> float | None:
    return None if math.isnan(value) else float(value)
