"""``vreid rank``."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vreid_cli.cli.command import Command
from vreid_cli.cli.output import print_note
from vreid_cli.runtime.objects import as_path
from vreid_cli.types.amounts import amount

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.evaluation.recall import Recall
    from vreid_cli.workflows.rank import RankReport


def _render(report: RankReport, console: Console) -> None:
    from vreid_cli.types.rankings import said_of

    facts = ", ".join(said_of(report.facts))
    console.print(
        f"{amount(report.queries, 'query')} against {amount(report.gallery, 'gallery item')}: {facts}", soft_wrap=True
    )
    for one, path in zip(report.facts, report.outputs, strict=True):
        trial = f", trial {one.text('trial')}" if one.trial is not None else ""
        by = f", calibration {one.calibrated_by}" if one.calibrated_by else ""
        console.print(f"{one.metric_name}{trial}{by}: {path}", soft_wrap=True)
    for metric, recall in report.recall.items():
        console.print(_recall_in_words(metric, recall), soft_wrap=True)
    if report.facts[0].fusion:
        console.print(f"fused: {report.facts[0].text('fusion')}; weights cross-validated by vehicle", soft_wrap=True)
    if not report.outputs[0].lower().endswith(".txt"):  # a submission is for others to look at
        print_note(f"next: {_next_commands(report)}", console)


def _recall_in_words(metric: str, found: Recall) -> str:
    said = ", ".join(f"recall@{count} {100 * share:.1f}%" for count, share in found.recall.items())
    loss = "no labels, so no mAP"
    if found.exact_map is not None and found.candidate_map is not None:
        lost = found.exact_map - found.candidate_map
        loss = f"mAP {100 * found.candidate_map:.1f}%, exact {100 * found.exact_map:.1f}%: {100 * lost:.1f} points lost"
    return f"{metric} by candidates, {amount(found.queries, 'query')} checked: {said}; {loss}"


def _results(report: RankReport) -> dict[str, Any]:
    recall = {"recall": {name: asdict(one) for name, one in report.recall.items()}} if report.recall else {}
    return {"calibrations": {str(one.metric): one.calibrated_by for one in report.facts if one.calibration}, **recall}


def _next_commands(report: RankReport) -> str:
    """What to type to see the result: where it lies decides what must be said."""
    if report.fused:
        return f"vreid evaluate {shlex.join([*report.outputs, *report.fused])}, to see whether it helps"
    if report.run_dir is not None:
        return f"vreid evaluate{report.run_option}, vreid show{report.run_option}"
    folder = shlex.quote(str(as_path(report.outputs[0]).parent if len(report.outputs) > 1 else report.outputs[0]))
    return f"vreid evaluate {folder}, vreid show --ranking {shlex.quote(report.outputs[0])}"


COMMAND = Command(
    help="""Rank the gallery for every query, by distances between latent representations.

    Works on the features that extract made, or on features of any origin.
    MED is the Euclidean distance of an image to the nearest image of a track,
    MCD one minus the cosine; meanMCD50 is the mean of the nearer half of them.

    Examples:
      vreid rank
      vreid rank --task i2t --metric MCD,MED
      vreid rank --candidates 1000 --check-recall 100
      vreid rank --fuse meanMCD50 RSCR
      vreid rank --query-features q.json --gallery-features g.npz -o r.json
    """,
    settings={
        "rank": (
            *(
                "rankings",
                "task",
                "metric",
                "definition",
                "cameras",
                "candidates",
                "check_recall",
                "top_k",
                "threshold",
                "min_probability",
                "no_match",
                "rerank",
            ),
            *("query_features", "gallery_features", "fuse", "calibration", "output", "force", "track_unit"),
        ),
        "data": ("label_pattern",),
        "runtime": ("device", "engine"),
    },
    workflow="vreid_cli.workflows.rank:rank",
    choose_run="vreid_cli.workflows.rank:choose_run",
    render=_render,
    to_json=_results,
)
