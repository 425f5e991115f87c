"""``vreid evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vreid_cli.cli.command import Command

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.evaluate import EvaluateReport


def _results(report: EvaluateReport) -> dict[str, object]:
    return {
        "results": [result.to_json() for result in report.results],
        "comparisons": [comparison.to_json() for comparison in report.comparisons],
        "trials": [one.to_json() for one in report.trials],
    }


def _render(report: EvaluateReport, console: Console) -> None:
    from vreid_cli.reports.grids import grid_tables, why_no_grid
    from vreid_cli.reports.tables import (
        breakdown_tables,
        comparison_tables,
        error_table,
        evaluation_table,
        trials_table,
    )

    results = [result.to_json() for result in report.results]
    console.print(evaluation_table(results, width=console.width))
    comparisons = [comparison.to_json() for comparison in report.comparisons]
    for table in (
        *grid_tables(results, report.metrics),
        *breakdown_tables(results),
        *comparison_tables(comparisons, results),
    ):
        console.print(table)
    no_grid = why_no_grid(results, report.metrics)
    if no_grid is not None:
        console.print(no_grid)
    if report.trials:
        console.print(trials_table([one.to_json() for one in report.trials], results))
    errors = error_table(results)
    if errors is not None:
        console.print(errors)
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

    Examples:
      vreid evaluate
      vreid evaluate r.json other.parquet --ap trapezoid --ranks 1,5
      vreid evaluate runs/paper-*/rankings
      vreid evaluate --by camera --per-query queries.csv --plot scores.png
      vreid evaluate --json > scores.json
    """,
    settings={
        "evaluate": ("rankings", "same_camera", "ap", "ranks", "by", "per_query", "plot"),
        "data": ("label_pattern",),
    },
    workflow="vreid_cli.workflows.evaluate:evaluate",
    choose_run="vreid_cli.workflows.evaluate:choose_run",
    render=_render,
    to_json=_results,
)
