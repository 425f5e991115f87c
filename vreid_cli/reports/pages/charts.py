"""Curves of an evaluation as line charts: places in a drawing that a template writes as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid_cli.evaluation.evaluate import Evaluation
from vreid_cli.evaluation.thresholds import ErrorCurve

FloatArray = NDArray[np.float64]

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 450, 10, 214
_RANKS, _BINS, _TICKS = 50, 60, 5


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where it is in the drawing, and what it says."""

    at: float
    text: str


@dataclass(frozen=True)
class ChartLine:
    """A line with its name in the legend; ``points`` as SVG's polyline takes them."""

    name: str
    points: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A line chart.

    Attributes:
        title: What it shows.
        summary: What it says, for those who do not see it.
        x_label: What the horizontal axis is.
        x_ticks: Marks of the horizontal axis.
        y_ticks: Marks of the vertical axis.
        lines: What is drawn.
        marked: A place on the horizontal axis.
    """

    title: str
    summary: str
    x_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[ChartLine, ...]
    marked: Tick | None = None
    width: int = _WIDTH
    height: int = _HEIGHT
    left: int = _LEFT
    right: int = _RIGHT
    top: int = _TOP
    bottom: int = _BOTTOM


def charts_of(one: Evaluation) -> list[Chart]:
    """CMC, and the distances of pairs, as far as they are known."""
    charts = []
    first = one.queries.first_positive[one.queries.positives > 0]
    # Of cut lists nothing is known beyond their shortest.
    if len(first) and one.facts.coverage != "top-k":
        charts.append(_cmc(first))
    if one.curve is not None:
        charts.append(_pairs(one.curve))
    return charts


def _cmc(first: NDArray[np.int64]) -> Chart:
    ranks = np.arange(1, _RANKS + 1, dtype=np.float64)
    found = 100 * (first[:, None] <= ranks).mean(axis=0)
    xs, ys = _Axis(1, _RANKS, _LEFT, _RIGHT), _Axis(0, 100, _BOTTOM, _TOP)
    return Chart(
        title="CMC: queries with a right match among the k nearest, %",
        summary=f"{found[0]:.1f} % at rank 1, {found[4]:.1f} % at rank 5, {found[-1]:.1f} % at rank {_RANKS}",
        x_label="k",
        x_ticks=tuple(xs.tick(k) for k in (1, 10, 20, 30, 40, 50)),
        y_ticks=tuple(ys.tick(share) for share in (0, 25, 50, 75, 100)),
        lines=(ChartLine("queries", _points(xs, ys, ranks, found)),),
    )


def _pairs(curve: ErrorCurve) -> Chart:
    low, high = float(curve.thresholds[0]), float(curve.thresholds[-1])
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    shares = [
        100 * np.histogram(curve.thresholds, edges, weights=counts)[0] / max(1, counts.sum())
        for counts in (curve.positive_counts, curve.negative_counts)
    ]
    peak = max(1.0, float(np.max(shares)))
    xs, ys = _Axis(edges[0], edges[-1], _LEFT, _RIGHT), _Axis(0, peak, _BOTTOM, _TOP)
    equal = curve.equal_error()
    names = ("same vehicle", "different vehicles")
    middle = (edges[:-1] + edges[1:]) / 2
    return Chart(
        title="Distances of pairs, % of pairs",
        summary=f"errors are equal at {equal.threshold:.3g}, where {100 * equal.miss_rate:.1f} % are wrong",
        x_label="distance",
        x_ticks=tuple(xs.tick(value) for value in np.linspace(edges[0], edges[-1], _TICKS)),
        y_ticks=tuple(ys.tick(value) for value in np.linspace(0, peak, _TICKS)),
        lines=tuple(ChartLine(n, _points(xs, ys, middle, share)) for n, share in zip(names, shares, strict=True)),
        marked=Tick(xs.place(equal.threshold), f"equal errors at {equal.threshold:.3g}"),
    )


@dataclass(frozen=True)
class _Axis:
    """From values to places in the drawing."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        part = (value - self.low) / (self.high - self.low)
        return round(self.start + part * (self.end - self.start), 1)

    def tick(self, value: float) -> Tick:
        return Tick(self.place(float(value)), f"{value:.3g}")


def _points(xs: _Axis, ys: _Axis, across: Sequence[float] | FloatArray, up: Sequence[float] | FloatArray) -> str:
    return " ".join(f"{xs.place(float(x))},{ys.place(float(y))}" for x, y in zip(across, up, strict=True))
