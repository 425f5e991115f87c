"""Traffic between cameras: rows of its CSV files, and its plot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vreid_cli.association.travel import QUANTILES, Traffic
from vreid_cli.runtime.files import atomic_path, write_csv

#: As many hops as a plot has room for, the most frequent ones.
_PLOTTED_HOPS = 20


def write_traffic(stem: Path, traffic: Traffic) -> list[Path]:
    """Write ``<stem>-od.csv``, origins by destinations, and ``<stem>-hops.csv``, a row for each pair of cameras.

    Raises:
        StoreError: A file cannot be written.
    """
    matrix, hops = (stem.with_name(f"{stem.name}-{what}.csv") for what in ("od", "hops"))
    rows = zip(traffic.cameras, traffic.trips.tolist(), strict=True)
    write_csv(matrix, ["from", *traffic.cameras], ([camera, *counts] for camera, counts in rows))
    quantiles = [f"p{100 * quantile:.0f}_s" for quantile in QUANTILES]
    write_csv(hops, ["from", "to", "vehicles", "timed", "min_s", *quantiles, "max_s"], _hop_rows(traffic))
    return [matrix, hops]


def _hop_rows(traffic: Traffic) -> Iterator[list[object]]:
    for one, other in np.argwhere(traffic.hops > 0).tolist():
        pair = (traffic.cameras[one], traffic.cameras[other])
        seconds = traffic.seconds.get(pair)
        row: list[object] = [*pair, int(traffic.hops[one, other])]
        if seconds is None:
            yield [*row, 0, *[None] * (len(QUANTILES) + 2)]
        else:
            spread = np.quantile(seconds, [0, *QUANTILES, 1])
            yield [*row, len(seconds), *(round(float(value), 3) for value in spread)]


def plot_traffic(path: Path, traffic: Traffic) -> None:
    """Two panels: vehicles by the camera that saw them first and last, and travel times of the most frequent hops.

    Raises:
        StoreError: The file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    side = max(4.0, min(12.0, 1.5 + 0.5 * len(traffic.cameras)))
    figure = Figure(figsize=(2 * side + 2, side + 1), layout="constrained")
    trips, times = figure.subplots(1, 2)
    shown = trips.imshow(traffic.trips if traffic.cameras else [[0]], cmap="Blues", vmin=0)
    ticks = range(len(traffic.cameras))
    trips.set(title="Vehicles from camera to camera, first to last", xlabel="last seen by", ylabel="first seen by")
    trips.set_xticks(ticks, traffic.cameras, rotation=90 if len(traffic.cameras) > 6 else 0)
    trips.set_yticks(ticks, traffic.cameras)
    limit = traffic.trips.max(initial=0) / 2
    for one, other in np.argwhere(traffic.trips > 0).tolist():
        count = traffic.trips[one, other]
        trips.text(other, one, f"{count:,}", ha="center", va="center", color="white" if count > limit else "black")
    figure.colorbar(shown, ax=trips, shrink=0.8).ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    often = sorted(traffic.seconds, key=lambda pair: -len(traffic.seconds[pair]))[:_PLOTTED_HOPS]
    times.set(title="Travel times of hops")
    if often:
        for place, pair in enumerate(reversed(often)):
            low, lower, middle, upper, high = np.quantile(traffic.seconds[pair], QUANTILES)
            times.hlines(place, low, high, color="tab:blue", linewidth=1.5)
            times.hlines(place, lower, upper, color="tab:blue", linewidth=7, alpha=0.6)
            times.plot(middle, place, "|", color="black", markersize=12)
        names = [f"{one} → {other} ({len(traffic.seconds[one, other]):,})" for one, other in reversed(often)]
        times.set_yticks(range(len(names)), names)
        times.grid(axis="x", alpha=0.3)
        percent = [f"{100 * quantile:.0f}" for quantile in QUANTILES]
        times.set_xlabel(f"seconds (median, {percent[1]}-{percent[3]} %, {percent[0]}-{percent[4]} %)")
    else:
        times.text(0.5, 0.5, "no travel time is known in seconds", ha="center", transform=times.transAxes)
        times.set_axis_off()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
