"""Plots of scores, by matplotlib (the extra ``plot``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vreid_cli.errors import UsageError
from vreid_cli.evaluation.evaluate import Evaluation
from vreid_cli.evaluation.reliability import Reliability
from vreid_cli.evaluation.thresholds import ErrorCurve
from vreid_cli.runtime.extras import require_extra
from vreid_cli.runtime.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vreid_cli.training.state import EpochResult

ENDINGS = (".png", ".pdf", ".svg")
_HISTOGRAM_BINS = 80
#: Colours that people with any colour vision tell apart, but for the yellow, which is too light for lines. Source:
#: Okabe, Ito, *Color Universal Design*, 2008. Of more lines than colours the others are dashed.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_STYLES = ("-", "--")
#: How far the CMC curve goes.
_RANKS = 50


def plot_training(path: Path, history: Sequence[EpochResult]) -> None:
    """Three panels: losses, what is recognised, and the learning rate.

    Raises:
        StoreError: The file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(13, 4), layout="constrained")
    losses, scores, rate = figure.subplots(1, 3)
    marker = "." if len(history) < 40 else None
    epochs = [one.epoch for one in history]
    names = {"loss": "loss"}
    if any(one.triplet for one in history):
        names |= {"cross_entropy": "cross-entropy", "triplet": "triplet (not weighed)"}
    for name, label in names.items():
        losses.plot(epochs, [getattr(one, name) for one in history], marker=marker, label=label)
    losses.set(title="Losses, on changed images", ylim=(0, None))
    right = [100 * one.accuracy for one in history]
    scores.plot(epochs, right, marker=marker, label="training images recognised")
    known = [(one.epoch, one.scores) for one in history if one.scores]
    for name, label in (("mean_ap", "mAP"), ("rank1", "rank-1")) if known else ():
        column = [100 * getattr(found, name) for _, found in known]
        scores.plot([n for n, _ in known], column, marker="o", markersize=4, label=f"held-out vehicles: {label}")
    scores.set(title="Recognition", ylabel="%", ylim=(0, 102))
    rate.plot(epochs, [one.learning_rate for one in history], marker=marker, label="learning rate, last step")
    rate.set(title="Learning rate", ylim=(0, None))
    for axes in (losses, scores, rate):
        axes.set(xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        _legend(axes)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def check_plot_path(path: Path) -> None:
    """Refuse what could not be plotted, before any work is done.

    Raises:
        UsageError: The ending says no format.
        MissingExtraError: matplotlib is not installed.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"--plot {path}: unknown ending '{path.suffix}'", hint="known: .png, .pdf, .svg")
    require_extra("plot", ["matplotlib"], needed_by="--plot")


def plot_evaluation(path: Path, rankings: Mapping[str, Evaluation]) -> None:
    """Four panels: CMC, mAP with its interval, distances of pairs, errors of a threshold; two more for probabilities.

    Args:
        path: Where it goes; the ending decides the format.
        rankings: The evaluations by the names that legends give them.

    Raises:
        StoreError: The file cannot be written.
    """
    # Figure, not pyplot: nothing global, no window, no back-end to choose.
    from matplotlib.figure import Figure

    sure = {name: one.reliability for name, one in rankings.items() if one.reliability}
    figure = Figure(figsize=(12, 13.5 if sure else 9), layout="constrained")
    ((cmc, means), (pairs, errors), *rest) = figure.subplots(3 if sure else 2, 2)
    for axes in figure.axes:
        axes.set_prop_cycle(color=COLOURS * len(_STYLES), linestyle=[style for style in _STYLES for _ in COLOURS])
    for reliability, counts in rest:
        _draw_reliability(reliability, sure)
        _draw_counts(counts, sure)
    curves = {name: one.curve for name, one in rankings.items() if one.curve}
    _draw_cmc(cmc, rankings)
    _draw_means(means, rankings)
    _draw_pairs(pairs, curves)
    _draw_errors(errors, curves)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lower().removeprefix("."), dpi=120)


def _draw_cmc(axes: Axes, rankings: Mapping[str, Evaluation]) -> None:
    ranks = np.arange(1, _RANKS + 1)
    for name, one in rankings.items():
        first = one.queries.first_positive[one.queries.positives > 0]
        # Of cut lists nothing is known beyond their shortest.
        if len(first) and one.facts.coverage != "top-k":
            axes.plot(ranks, 100 * (first[:, None] <= ranks).mean(axis=0), label=name)
    axes.set(title="CMC: a positive among the k nearest", xlabel="k", ylabel="queries, %")
    axes.set_ylim(top=min(axes.get_ylim()[1], 101))
    axes.grid(alpha=0.3)
    _legend(axes)


def _draw_means(axes: Axes, rankings: Mapping[str, Evaluation]) -> None:
    known = [(name, one) for name, one in reversed(list(rankings.items())) if one.mean_ap is not None]
    for place, (_, one) in enumerate(known):
        mean, interval = 100 * (one.mean_ap or 0), one.intervals.mean_ap
        axes.plot(mean, place, "o", color=COLOURS[0], linestyle="-")
        if interval is not None:
            axes.plot([100 * interval.low, 100 * interval.high], [place, place], color=COLOURS[0], linestyle="-")
        axes.annotate(f"{mean:.1f}", (mean, place), textcoords="offset points", xytext=(0, 6), ha="center")
    axes.set_yticks(range(len(known)), [name for name, _ in known])
    axes.set(title="mAP with its 95% interval (vehicles resampled)", xlabel="%", ylim=(-0.6, len(known) - 0.2))
    axes.set_xlim(right=min(axes.get_xlim()[1], 101))
    axes.grid(alpha=0.3, axis="x")


def _draw_pairs(axes: Axes, curves: Mapping[str, ErrorCurve]) -> None:
    """Of the first ranking that has them: distances of different metrics share no axis."""
    if not curves:
        axes.set(title="Distances of pairs")
        axes.text(0.5, 0.5, "no full lists with labels", ha="center", transform=axes.transAxes)
        return
    name, curve = next(iter(curves.items()))
    edges = np.linspace(curve.thresholds[0], curve.thresholds[-1], _HISTOGRAM_BINS + 1)
    sides = {"same vehicle": curve.positive_counts, "different vehicles": curve.negative_counts}
    for colour, (label, counts) in zip(COLOURS, sides.items(), strict=False):
        weights = counts / counts.sum()
        axes.hist(curve.thresholds, edges.tolist(), weights=weights, alpha=0.6, color=colour, label=label)
    threshold = curve.equal_error().threshold
    axes.axvline(threshold, color="black", linestyle="--", label=f"equal errors at {threshold:.3g}")
    axes.set(title=f"Distances of pairs: {name}", xlabel="distance", ylabel="share of pairs")
    _legend(axes)


def _draw_errors(axes: Axes, curves: Mapping[str, ErrorCurve]) -> None:
    for name, curve in curves.items():
        shown = curve.false_match_rate > 0
        label = f"{name} (equal errors {100 * curve.equal_error().miss_rate:.1f} %)"
        axes.plot(100 * curve.false_match_rate[shown], 100 * curve.miss_rate[shown], label=label)
    axes.set(title="Same vehicle if no farther than a threshold", xscale="log")
    axes.set(xlabel="false matches, % of different pairs", ylabel="missed, % of same pairs")
    axes.grid(alpha=0.3)
    _legend(axes)


def _draw_reliability(axes: Axes, reliabilities: Mapping[str, Reliability]) -> None:
    """What is said against what is so; on the diagonal both agree."""
    axes.plot([0, 100], [0, 100], color="grey", linestyle="--", linewidth=1, label="as said")
    for name, one in reliabilities.items():
        sure = [part for part in one.bins if part.interval is not None]
        said, so = [100 * part.probability for part in sure], [100 * part.share for part in sure]
        (line,) = axes.plot(said, so, marker="o", label=f"{name} (ECE {one.ece:.4f})")
        for part in sure:
            assert part.interval is not None
            ends = [100 * part.interval.low, 100 * part.interval.high]
            axes.plot([100 * part.probability] * 2, ends, "-", color=line.get_color(), alpha=0.5)
        for part in set(one.bins) - set(sure):  # too few vehicles to say more
            axes.plot(100 * part.probability, 100 * part.share, "o", color=line.get_color(), fillstyle="none")
    axes.set(title="Reliability (95% intervals; hollow: under five vehicles)", xlim=(0, 100), ylim=(0, 100))
    axes.set(xlabel="probability that is said, %", ylabel="pairs that are of the same vehicle, %")
    axes.grid(alpha=0.3)
    _legend(axes)


def _draw_counts(axes: Axes, reliabilities: Mapping[str, Reliability]) -> None:
    """How many pairs stand behind each point of the diagram."""
    for name, one in reliabilities.items():
        axes.plot(
            [50 * (part.low + part.high) for part in one.bins],
            [part.pairs for part in one.bins],
            marker="o",
            label=name,
        )
    axes.set(title="Pairs by their probability", xlabel="probability that is said, %", ylabel="pairs", yscale="log")
    axes.set(xlim=(0, 100))
    axes.grid(alpha=0.3)
    _legend(axes)


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")
