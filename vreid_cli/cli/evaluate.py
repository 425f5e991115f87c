"""``vreid evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vreid_cli.cli.execute import execute
from vreid_cli.cli.options import Common, LabelPattern, Options, SameCamera, split_numbers, with_common

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
    label_pattern: LabelPattern = None,
) -> None:
    """Score rankings against ground truth: mAP, mINP and CMC, over the queries that have a positive.

    A positive is a gallery item of the query's vehicle. The query itself never
    counts, nor does what its own camera saw of its vehicle (--same-camera).
    Tables are in percent; --json and the run's evaluations/ hold fractions.

    Examples:
      vreid evaluate
      vreid evaluate r.json other.parquet --ap trapezoid --ranks 1,5
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
    return {"results": [result.to_json() for result in report.results], "warnings": list(report.warnings)}


def _render(report: EvaluateReport, console: Console) -> None:
    from vreid_cli.reports.tables import evaluation_table

    console.print(evaluation_table([result.to_json() for result in report.results]))
