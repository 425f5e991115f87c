"""Tables and JSON of probabilities: calibrations, their reliability, and queries whose vehicle is not there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from vreid_cli.evaluation.calibrate import PROBABILITIES, FittedCalibration
from vreid_cli.evaluation.open_set import FALSE_POSITIVE_RATES, Decisions, Estimate, OpenSet
from vreid_cli.evaluation.reliability import Reliability
from vreid_cli.evaluation.uncertainty import Interval
from vreid_cli.reports.names import Evaluations, names_of
from vreid_cli.reports.tables import counted, make_table, percent, probability_text
from vreid_cli.types.amounts import amount
from vreid_cli.types.rankings import RankingFacts, said_of

_DIGITS = 4


def calibration_table(fitted: Mapping[str, FittedCalibration]) -> Table:
    """Calibrations, a row each: what they were fitted on, which distance has which probability, how reliable they are.

    Args:
        fitted: By the file that holds each.
    """
    columns = [Column("metric", no_wrap=True)]
    columns += [Column(heading, justify="right") for heading in ("vehicles", "pairs same/different", "prior")]
    columns += [Column(f"d at {100 * one:g}%", justify="right") for one in PROBABILITIES]
    columns += [Column(heading, justify="right") for heading in ("Brier", "ECE", "ECE, not cross-validated")]
    table = make_table("P(same vehicle | distance)", Text(_calibration_caption(fitted)), *columns)
    for one in fitted.values():
        calibration, on = one.calibration, one.calibration.fitted_on
        table.add_row(
            Text(str(calibration.metric)),
            f"{on.vehicles:,}",
            f"{on.same:,}/{on.different:,}",
            f"{on_average(one)} of {one.gallery_size:,}",
            *(_distance(one, probability) for probability in PROBABILITIES),
            with_ends(one.reliability.brier, one.reliability.brier_interval),
            with_ends(one.reliability.ece, one.reliability.ece_interval),
            f"{one.plain.ece:.{_DIGITS}f}",
        )
    return table


def on_average(one: FittedCalibration) -> str:
    """How many gallery items show a query's vehicle."""
    return f"{one.calibration.expected:.3g}"


def _calibration_caption(fitted: Mapping[str, FittedCalibration]) -> str:
    first = next(iter(fitted.values())).calibration
    facts = RankingFacts(
        dataset=first.fitted_on.dataset,
        task=first.task,  # type: ignore[arg-type]
        definition=first.definition,  # type: ignore[arg-type]
        track_unit=first.track_unit,  # type: ignore[arg-type]
    )
    notes = [
        *said_of([facts], ("dataset", "task", "track_unit", "definition")),
        f"{first.method}, cross-validated by vehicle",
        "prior: gallery items that show a query's vehicle, on average",
        "d: largest distance of that probability in such a gallery, with its 95% interval (vehicles resampled)",
        "Brier: mean squared error, ECE: expected calibration error, of all pairs; smaller is better",
    ]
    return "; ".join(notes)


def _distance(one: FittedCalibration, probability: float) -> str:
    distance, interval = one.distances[probability], one.intervals[probability]
    if distance is None:
        return "-"
    return f"{distance:.4g}" + ("" if interval is None else f" ({interval.low:.4g} to {interval.high:.4g})")


def with_ends(value: float, interval: Interval | None) -> str:
    """A score and its interval."""
    ends = "" if interval is None else f" ({interval.low:.{_DIGITS}f} to {interval.high:.{_DIGITS}f})"
    return f"{value:.{_DIGITS}f}{ends}"


def reliability_table(name: str, one: Reliability, *, calibration: str | None = None) -> Table:
    """Of the pairs that are said to be of the same vehicle with a probability, how many are.

    Args:
        name: What it is about.
        one: The reliability.
        calibration: Where the calibration was read from.
    """
    source = "cross-validated by vehicle" if one.cross_validated else "fitted on other vehicles"
    caption = (
        f"{amount(round(one.pairs), 'pair')}, {amount(one.vehicles, 'vehicle')}; probabilities {source}; "
        f"Brier {with_ends(one.brier, one.brier_interval)} (always saying {percent(one.base_rate)}%: "
        f"{one.brier_constant:.{_DIGITS}f}); ECE {with_ends(one.ece, one.ece_interval)}; "
        "95% intervals, vehicles resampled" + (f"; calibration {calibration}" if calibration else "")
    )
    columns = [Column(heading, justify="right") for heading in ("said", "pairs", "said on average", "are", "interval")]
    table = make_table(f"{name}: are pairs what their probability says?", Text(caption), *columns)
    for part in one.bins:
        ends = part.interval
        table.add_row(
            f"{100 * part.low:.0f} to {100 * part.high:.0f}%",
            f"{part.pairs:,.0f}",
            f"{percent(part.probability)}%",
            f"{percent(part.share)}%",
            "-" if ends is None else f"{percent(ends.low)} to {percent(ends.high)}%",
        )
    return table


def reliability_summary(results: Evaluations) -> Table | None:
    """How reliable probabilities are: a row for each ranking that has them, all bins where it is one; None for none."""
    shown = {path: one for path, one in results.items() if one.reliability is not None}
    if not shown:
        return None
    names = names_of(results)
    if len(shown) == 1:
        ((path, only),) = shown.items()
        assert only.reliability is not None
        return reliability_table(names[path], only.reliability, calibration=only.facts.calibrated_by)
    note = "Brier: mean squared error, ECE: expected calibration error, of all pairs, with 95% intervals"
    headings = ("Brier", "always the base rate", "ECE", "vehicles", "fitted on", "calibration")
    columns = [Column("ranking", overflow="fold"), *(Column(heading, justify="right") for heading in headings)]
    table = make_table("Are pairs what their probability says?", counted(shown, note), *columns)
    for path, evaluation in shown.items():
        one = evaluation.reliability
        assert one is not None
        table.add_row(
            Text(names[path]),
            with_ends(one.brier, one.brier_interval),
            f"{one.brier_constant:.{_DIGITS}f}",
            with_ends(one.ece, one.ece_interval),
            f"{one.vehicles:,}",
            "the others of them" if one.cross_validated else "other vehicles",
            Text(evaluation.facts.calibrated_by or "-"),
        )
    return table


def open_set_table(results: Evaluations) -> Table | None:
    """Queries whose vehicle is not in the gallery: what is found of them and of the others; None for none."""
    shown = {path: one for path, one in results.items() if one.open_set is not None}
    if not shown:
        return None
    names = names_of(results)
    columns = [Column("ranking", overflow="fold"), Column("found if", overflow="fold")]
    headings = ("F1", "precision", "recall", "true negatives", "AUROC")
    columns += [Column(heading, justify="right") for heading in headings]
    columns += [Column(f"TPIR at FPIR {rate:g}", justify="right") for rate in FALSE_POSITIVE_RATES]
    columns += [Column("there/not there", justify="right")]
    first = next(iter(shown.values())).open_set
    assert first is not None
    split = f"{amount(first.held_out, 'vehicle')} left out of the gallery (--split-open); " if first.held_out else ""
    note = (
        f"{split}a query's vehicle is found if the nearest item is near enough, and right if that shows it; "
        "AUROC: of the nearest distance; TPIR: share of queries whose vehicle is there that is near enough, where a "
        "share FPIR of the others finds anything; scores in % with 95% intervals, vehicles resampled"
    )
    sources = [one.facts.calibrated_by for one in shown.values() if one.open_set and _by_probability(one.open_set)]
    note += "".join(f"; calibration {source}" for source in dict.fromkeys(sources) if source)
    table = make_table("Is the vehicle there at all?", counted(shown, note), *columns)
    for path, evaluation in shown.items():
        one = evaluation.open_set
        assert one is not None
        rule = one.decisions
        scores = [None] * 4 if rule is None else [rule.f1, rule.precision, rule.recall, rule.true_negative_rate]
        rates = (one.at_false_positive_rate[rate] for rate in FALSE_POSITIVE_RATES)
        cells = [*scores, one.auroc, *(None if at is None else at.tpir for at in rates)]
        table.add_row(Text(names[path]), _rule(rule), *map(_estimate, cells), f"{one.mated:,}/{one.others:,}")
    return table


def _by_probability(one: OpenSet) -> bool:
    return one.decisions is not None and one.decisions.probability is not None


def _rule(rule: Decisions | None) -> str:
    if rule is None:
        return "- (--threshold, or vreid calibrate)"
    if rule.threshold < 0:
        return f"never: nothing has {probability_text(rule.probability)}"
    distance = f"d ≤ {rule.threshold:.4g}"
    return distance if rule.probability is None else f"≥ {probability_text(rule.probability)}, {distance}"


def _estimate(one: Estimate | None) -> str:
    if one is None:
        return "-"
    ends = "" if one.interval is None else f" ({percent(one.interval.low)} to {percent(one.interval.high)})"
    return f"{percent(one.value)}{ends}"


def open_set_json(one: OpenSet) -> dict[str, Any]:
    """What ``--json`` and files keep of queries whose vehicle is not there."""

    def estimate(score: Estimate | None) -> dict[str, Any] | None:
        return None if score is None else {"value": score.value, "interval": ends_json(score.interval)}

    rule, scores = one.decisions, ("precision", "recall", "f1", "true_negative_rate")
    return {
        "held_out_vehicles": one.held_out,
        "mated_queries": one.mated,
        "other_queries": one.others,
        "vehicles": one.vehicles,
        "auroc": estimate(one.auroc),
        "at_false_positive_rate": {
            f"{rate:g}": at
            and {"threshold": finite(at.threshold), "tpir": estimate(at.tpir), "rank1": estimate(at.rank1)}
            for rate, at in one.at_false_positive_rate.items()
        },
        "decisions": rule
        and {
            **{name: value for name, value in vars(rule).items() if name not in (*scores, "threshold")},
            "threshold": finite(rule.threshold),
            **{name: estimate(getattr(rule, name)) for name in scores},
        },
    }


def reliability_json(one: Reliability) -> dict[str, Any]:
    """A reliability, as ``--json`` and files keep it."""
    return {
        "pairs": one.pairs,
        "vehicles": one.vehicles,
        "base_rate": one.base_rate,
        "brier": one.brier,
        "brier_interval": ends_json(one.brier_interval),
        "brier_constant": one.brier_constant,
        "ece": one.ece,
        "ece_interval": ends_json(one.ece_interval),
        "cross_validated": one.cross_validated,
        "bins": [{**vars(part), "interval": ends_json(part.interval)} for part in one.bins],
    }


def calibration_json(path: str, one: FittedCalibration) -> dict[str, Any]:
    """A calibration that was fitted."""
    about = one.calibration.to_dict()
    return {
        "calibration": path,
        **{name: value for name, value in about.items() if name not in ("distances", "log_ratios", "source")},
        "gallery_size": one.gallery_size,
        "prior": one.prior,
        "distances": {
            f"{probability:g}": {"distance": finite(distance), "interval": ends_json(one.intervals[probability])}
            for probability, distance in one.distances.items()
        },
        "reliability": reliability_json(one.reliability),
        "reliability_not_cross_validated": reliability_json(one.plain),
    }


def ends_json(interval: Interval | None) -> list[float] | None:
    """The ends of an interval; None where one is not finite."""
    ends = None if interval is None else [finite(interval.low), finite(interval.high)]
    return None if ends is None or None in ends else [end for end in ends if end is not None]


def finite(value: float | None) -> float | None:
    """A number that JSON has, or None."""
    return value if value is not None and abs(value) < float("inf") else None
