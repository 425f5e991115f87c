"""``vreid evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vreid_cli.cli.execute import execute
from vreid_cli.cli.options import Common, LabelPattern, Options, SameCamera, split_list, split_numbers, with_common

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.evaluate import EvaluateReport


@with_common
def command(
    common: Common,
    rankings: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RANKING",
            help="Rankings, .parquet or .json, or folders of them. \\[all of the run]",
            show_default=False,
        ),
    ] = None,
    same_camera: SameCamera = None,
    ap: Annotated[
        str | None,
        typer.Option(
            "--ap",
            metavar="rectangle|trapezoid",
            help="Average precision as the mean precision at the positives (as the paper's code), or by Market-1501's "
            "rule (as VeRi's own script). \\[rectangle]",
        ),
    ] = None,
    ranks: Annotated[
        list[str] | None, typer.Option("--ranks", metavar="K,K,…", help="Ranks for CMC. \\[1,5,10,20]")
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option("--by", metavar="camera,length", help="Also score each pair of cameras, or each track length."),
    ] = None,
    per_query: Annotated[
        Path | None,
        typer.Option("--per-query", metavar="FILE", help="Write each query's scores as a table, .csv or .parquet."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw CMC, intervals, distances and errors, .png, .pdf or .svg."),
    ] = None,
    label_pattern: LabelPattern = None,
) -> None:
    """Score rankings against ground truth: mAP, mINP and CMC, over the queries that have a positive.

    A positive is a gallery item of the query's vehicle. The query itself never
    counts, nor does what its own camera saw of its vehicle (--same-camera).
    Tables are in percent; --json and the run's evaluations/ hold fractions.
    ± is half of a 95% interval that draws vehicles again. Several rankings of
    a task are compared with the first that is named, else with the best; those
    of several networks make a grid of metrics by networks, as in the paper.

    Examples:
      vreid evaluate
      vreid evaluate r.json other.parquet --ap trapezoid --ranks 1,5
      vreid evaluate runs/paper-*/rankings
      vreid evaluate --by camera --per-query queries.csv --plot scores.png
      vreid evaluate --json > scores.json
    """
    from vreid_cli.workflows.evaluate import evaluate

    options: Options = {
        "data": {"label_pattern": label_pattern},
        "evaluate": {
            "rankings": rankings or None,
            "same_camera": same_camera,
            "ap": ap,
            "ranks": split_numbers(ranks, option="--ranks"),
            "by": split_list(by, option="--by"),
            "per_query": per_query,
            "plot": plot,
        },
    }
    execute(
        common,
        options,
        workflow=evaluate,
        render=_render,
        extra_json=_results,
        use_latest=not rankings,
        # Parquet holds its labels; only those of the paper's JSON are read from names.
        free=("data.label_pattern",) if rankings else (),
    )


def _results(report: EvaluateReport) -> dict[str, object]:
    return {
        "results": [result.to_json() for result in report.results],
        "comparisons": [comparison.to_json() for comparison in report.comparisons],
        "trials": [one.to_json() for one in report.trials],
        "outputs": list(report.outputs),
        "warnings": list(report.warnings),
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
