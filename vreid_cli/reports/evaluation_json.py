"""Evaluations as JSON: what ``vreid evaluate --json`` prints and a run's ``evaluations/`` keeps.

Fractions throughout; null where a number is unknown or refused (docs/definitions.md#json-output).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from vreid_cli.evaluation.comparison import Comparison, TrialScores
from vreid_cli.evaluation.evaluate import Evaluation
from vreid_cli.evaluation.scores import MeanScores
from vreid_cli.evaluation.thresholds import ErrorCurve
from vreid_cli.evaluation.uncertainty import Interval
from vreid_cli.reports.probabilities import open_set_json, reliability_json


def evaluation_json(path: str, one: Evaluation) -> dict[str, Any]:
    """One evaluated ranking."""
    facts, options, intervals = one.facts, one.options, one.intervals
    pairs, lengths = one.camera_pairs, one.lengths
    return {
        "ranking": path,
        **facts.to_dict(),
        "architecture": facts.architecture,
        "identity": dict(facts.identity) if facts.identity else None,
        "ap_rule": options.ap,
        "same_camera": options.same_camera,
        "without_positive": options.without_positive,
        "ground_truth": one.ground_truth,
        **_means(one),
        "valid_queries": one.valid_queries,
        "total_queries": one.total_queries,
        "positives": one.positives,
        "junk": one.junk,
        "intervals": {
            "level": 0.95,
            "resamples": options.resamples,
            "seed": one.seed,
            "vehicles": intervals.vehicles,
            "mAP": _ends(intervals.mean_ap),
            "mINP": _ends(intervals.mean_inp),
            "cmc": {str(rank): _ends(interval) for rank, interval in intervals.cmc.items()},
        },
        "same_vehicle_errors": one.curve and _errors(one.curve),
        "calibration": facts.calibrated_by,
        "reliability": one.reliability and reliability_json(one.reliability),
        "open_set": one.open_set and open_set_json(one.open_set),
        "by_camera": None
        if pairs is None
        else [
            {"query_camera": query, "gallery_camera": gallery, **_means(part), "queries": part.valid_queries}
            for (query, gallery), part in pairs.items()
        ],
        "by_length": None
        if lengths is None
        else [{"images": n, **_means(part), "queries": part.valid_queries} for n, part in lengths.items()],
    }


def comparisons_json(comparisons: Mapping[str, Mapping[str, Comparison | None]]) -> list[dict[str, Any]]:
    """Comparisons by the path of the ranking that is compared with, then by that of the other."""
    nothing = {"difference": None, "interval": None, "p_value": None, "queries": 0, "vehicles": 0}
    return [
        {
            "ranking": path,
            "against": against,
            **({**vars(one), "interval": _ends(one.interval)} if one else nothing),
        }
        for against, others in comparisons.items()
        for path, one in others.items()
    ]


def trials_json(one: TrialScores) -> dict[str, Any]:
    """Means over trials."""
    facts = one.facts
    return {
        **{name: value for name, value in facts.to_dict().items() if name != "trial"},
        "architecture": facts.architecture,
        "trials": one.trials,
        "mAP": one.mean_ap and asdict(one.mean_ap),
        "mINP": one.mean_inp and asdict(one.mean_inp),
        "cmc": {str(rank): spread and asdict(spread) for rank, spread in one.cmc.items()},
    }


def _means(scores: MeanScores) -> dict[str, Any]:
    return {
        "mAP": scores.mean_ap,
        "mINP": scores.mean_inp,
        "cmc": {str(rank): value for rank, value in scores.cmc.items()},
    }


def _errors(curve: ErrorCurve) -> dict[str, Any]:
    equal = curve.equal_error()
    return {
        "positive_pairs": curve.positives,
        "negative_pairs": curve.negatives,
        "equal_error_rate": equal.miss_rate,
        "equal_error_threshold": equal.threshold,
        "at_false_match_rate": {
            f"{rate:g}": None if point is None else {"threshold": point.threshold, "miss_rate": point.miss_rate}
            for rate, point in curve.points().items()
        },
    }


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]
