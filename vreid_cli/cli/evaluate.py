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
    from vreid_cli.reports.evaluation_json import comparisons_json, evaluation_json, trials_json

    return {
        "results": [evaluation_json(path, one) for path, one in report.results.items()],
        "comparisons": comparisons_json(report.comparisons),
        "trials": [trials_json(one) for one in report.trials],
        "outputs": list(report.outputs),
        "warnings": list(report.warnings),
    }


def _render(report: EvaluateReport, console: Console) -> None:
    from vreid_cli.reports import grids, tables

    results = report.results
    console.print(tables.evaluation_table(results, width=console.width))
    for table in (
        *grids.grid_tables(results),
        *tables.breakdown_tables(results),
        *tables.comparison_tables(report.comparisons, results),
    ):
        console.print(table)
    no_grid = grids.why_no_grid(results)
    if no_grid is not None:
        console.print(no_grid)
    if report.trials:
        console.print(tables.trials_table(report.trials, results))
    errors = tables.error_table(results)
    if errors is not None:
        console.print(errors)
    for path in report.extras:
        console.print(f"written: {path}", soft_wrap=True)
