"""``vreid rank``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vreid_cli.cli.execute import execute
from vreid_cli.cli.options import Common, Device, Force, LabelPattern, Options, split_list, with_common

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.rank import RankReport

_FILES, _WHAT = "Files", "What is compared"


@with_common
def command(
    common: Common,
    task: Annotated[
        str | None,
        typer.Option(
            "--task", metavar="t2t|i2t|i2i", help="Track or image to track or image. \\[t2t]", rich_help_panel=_WHAT
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="NAME|all",
            help="The paper's names: meanMCD50, minMED, …; MED or MCD for i2t and i2i. \\[meanMCD50, or MCD]",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    definition: Annotated[
        str | None,
        typer.Option(
            "--definition",
            metavar="paper|released",
            help="The paper's formula, or what the authors' released code computes. \\[paper]",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    track_unit: Annotated[
        str | None,
        typer.Option(
            "--track-unit",
            metavar="passage|camera",
            help="A track is one passage, or all images of a vehicle by one camera. \\[passage]",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    cameras: Annotated[
        str | None,
        typer.Option(
            "--cameras",
            metavar="all|other",
            help="Leave out what the query's own camera saw. \\[all]",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            "--top-k", min=1, help="List only the nearest, and all of the query's vehicle.", rich_help_panel=_WHAT
        ),
    ] = None,
    query_features: Annotated[
        Path | None,
        typer.Option("--query-features", help="A feature folder, the paper's .json, or .npz.", rich_help_panel=_FILES),
    ] = None,
    gallery_features: Annotated[
        Path | None,
        typer.Option("--gallery-features", "--test-features", help="The same for the gallery.", rich_help_panel=_FILES),
    ] = None,
    label_pattern: LabelPattern = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="FILE.parquet or FILE.json, or a folder for several metrics. \\[rankings/ of the run]",
            rich_help_panel=_FILES,
        ),
    ] = None,
    force: Force = None,
    device: Device = None,
) -> None:
    """Rank the gallery for every query, by distances between latent representations.

    Examples:
      vreid rank --metric meanMCD50

      vreid rank --task i2t --metric MCD,MED

      vreid rank --query-features feat_query.json --gallery-features feat_test.json --definition released -o r.json
    """
    from vreid_cli.workflows.rank import rank

    options: Options = {
        "data": {"label_pattern": label_pattern},
        "runtime": {"device": device},
        "rank": {
            "task": task,
            "metric": split_list(metric),
            "definition": definition,
            "track_unit": track_unit,
            "cameras": cameras,
            "top_k": top_k,
            "query_features": query_features,
            "gallery_features": gallery_features,
            "output": output,
            "force": force,
        },
    }
    explicit = query_features is not None and gallery_features is not None
    execute(common, options, workflow=rank, render=_render, use_latest=not explicit, free=("data.label_pattern",))


def _render(report: RankReport, console: Console) -> None:
    console.print(f"{report.queries:,} queries against {report.gallery:,} gallery items")
    for facts, path in zip(report.facts, report.outputs, strict=True):
        unit = f", track unit {facts.track_unit}" if facts.track_unit else ""
        how = f"{facts.metric}, task {facts.task}, definition {facts.definition}{unit}"
        console.print(f"{how}: {path}", highlight=False, soft_wrap=True)
    console.print("next: vreid evaluate, vreid show", highlight=False)
