"""``vreid evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vreid_cli.cli.command import Command

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.evaluate import EvaluateReport


def _results(report: EvaluateReport) -> dict[str, object]:
    from vreid_cli.reports.evaluation_json import comparisons_json, evaluation_json, trials_json
    from vreid_cli.reports.identities import identity_scores_json

    return {
        "results": [evaluation_json(path, one) for path, one in report.results.items()],
        "comparisons": comparisons_json(report.comparisons),
        "trials": [trials_json(one) for one in report.trials],
        "identities": [identity_scores_json(path, one) for path, one in report.identities.items()],
    }


def _render(report: EvaluateReport, console: Console) -> None:
    from vreid_cli.reports import grids, probabilities, tables
    from vreid_cli.reports.identities import identity_scores_table

    results = report.results
    if report.identities:
        console.print(identity_scores_table(report.identities))
    if results:
        console.print(tables.evaluation_table(results, width=console.width))
    for table in (
        *grids.grid_tables(results),
        *tables.breakdown_tables(results),
        *tables.comparison_tables(report.comparisons, results),
    ):
        console.print(table)
    trials = tables.trials_table(report.trials, results) if report.trials else None
    sure = probabilities.reliability_summary(results)
    there = probabilities.open_set_table(results)
    for piece in (grids.why_no_grid(results), trials, tables.error_table(results), sure, there):
        if piece is not None:
            console.print(piece)
    for path in report.extras:
        console.print(f"written: {path}", soft_wrap=True)


COMMAND = Command(
    help="""Score rankings against ground truth: mAP, mINP and CMC, over the queries that have a positive.

    A positive is a gallery item of the query's vehicle. The query itself never
    counts, nor does what its own camera saw of its vehicle (--same-camera).
    Tables are in percent; --json and the run's evaluations/ hold fractions.
    ± is half of a 95% interval that resamples vehicles. Several rankings of a
    task are compared with the first that is named, else with the best; those
    of several networks make a grid of metrics by networks, as in the paper.
    Where distances have probabilities, it says how reliable these are.
    Identities (of vreid associate) are scored by IDF1, pairs and B-cubed.

    Examples:
      vreid evaluate
      vreid evaluate r.json other.parquet --ap trapezoid --ranks 1,5
      vreid evaluate runs/paper-*/rankings
      vreid evaluate --by camera --per-query queries.csv --plot scores.png
      vreid evaluate --truth reviewed.csv
      vreid evaluate --split-open 0.3 --min-probability 0.9
      vreid evaluate --json > scores.json
    """,
    settings={
        "evaluate": (
            "rankings",
            "truth",
            "same_camera",
            "ap",
            "ranks",
            "by",
            "threshold",
            "min_probability",
            "split_open",
            "per_query",
            "plot",
        ),
        "data": ("label_pattern",),
    },
    workflow="vreid_cli.workflows.evaluate:evaluate",
    choose_run="vreid_cli.workflows.evaluate:choose_run",
    render=_render,
    to_json=_results,
)
