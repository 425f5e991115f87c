"""``vreid rank``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vreid_cli.cli.execute import execute
from vreid_cli.cli.options import (
    FILES,
    FLAG,
    Common,
    Device,
    Force,
    LabelPattern,
    Options,
    TrackUnit,
    split_list,
    with_common,
)

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.rank import RankReport

_WHAT = "What is compared"


@with_common
def command(
    common: Common,
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            metavar="t2t|i2t|i2i",
            help="Tracks against tracks, images against tracks, or images against images. \\[t2t]",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="NAME,…|all",
            help="For t2t minMED, meanMED, medMED, meanMED50, medMED50, the same with MCD, and RSCR; "
            "for i2t and i2i MED, MCD, RSCR. \\[meanMCD50, or MCD]",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    definition: Annotated[
        str | None,
        typer.Option(
            "--definition",
            metavar="paper|released",
            help="The paper's formula, or what the authors' released code computes (t2t). \\[paper]",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    cameras: Annotated[
        str | None,
        typer.Option(
            "--cameras",
            metavar="all|other",
            help="Rank what all cameras saw, or leave out what the query's own camera saw. \\[all]",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            "--top-k",
            metavar="N",
            min=1,
            help="List only the N nearest, and all of the query's vehicle where labels are known. \\[all]",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            metavar="D",
            min=0,
            help="List only what is no farther than D, and all of the query's vehicle where labels are known. \\[all]",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    rerank: Annotated[
        bool | None,
        typer.Option(
            "--rerank",
            metavar=FLAG,
            help="Re-rank by k-reciprocal neighbours; --set rank.k1=20, rank.k2=6 and rank.lambda_value=0.3 tune it.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    query_features: Annotated[
        Path | None,
        typer.Option(
            "--query-features",
            metavar="PATH",
            help="Features from elsewhere: a folder of some run's features/, the paper's .json, or .npz. "
            "\\[those of the run]",
            rich_help_panel=FILES,
        ),
    ] = None,
    gallery_features: Annotated[
        Path | None,
        typer.Option(
            "--gallery-features",
            "--test-features",
            metavar="PATH",
            help="The same for the gallery. \\[those of the run]",
            rich_help_panel=FILES,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="FILE.parquet, FILE.json, FILE.txt (AI City submission: the 100 nearest of task i2i) or a folder "
            "for several metrics. \\[rankings/ of the run]",
            rich_help_panel=FILES,
        ),
    ] = None,
    force: Force = None,
    track_unit: TrackUnit = None,
    label_pattern: LabelPattern = None,
    device: Device = None,
) -> None:
    """Rank the gallery for every query, by distances between latent representations.

    Works on the features that extract made, or on features of any origin.
    MED is the Euclidean distance of an image to the nearest image of a track,
    MCD one minus the cosine; meanMCD50 is the mean of the nearer half of them.

    Examples:
      vreid rank
      vreid rank --task i2t --metric MCD,MED
      vreid rank --query-features q.json --gallery-features g.npz -o r.json
    """
    from vreid_cli.workflows.rank import rank

    options: Options = {
        "data": {"label_pattern": label_pattern},
        "runtime": {"device": device},
        "rank": {
            "task": task,
            "metric": split_list(metric, option="--metric"),
            "definition": definition,
            "track_unit": track_unit,
            "cameras": cameras,
            "top_k": top_k,
            "threshold": threshold,
            "rerank": rerank,
            "query_features": query_features,
            "gallery_features": gallery_features,
            "output": output,
            "force": force,
        },
    }
    given = [features is not None for features in (query_features, gallery_features)]
    # Labels of a run's features were read by extract; only those of features from elsewhere are read here.
    free = ("data.label_pattern",) if any(given) else ()
    execute(common, options, workflow=rank, render=_render, use_latest=not all(given), free=free)


def _render(report: RankReport, console: Console) -> None:
    facts = report.facts[0]
    unit = f", track unit {facts.track_unit}" if facts.track_unit else ""
    listed = "".join(f", {text}" for text in (*facts.recipe, *([facts.listed] if facts.listed else [])))
    console.print(
        f"{report.queries:,} queries against {report.gallery:,} gallery items: task {facts.task}, "
        f"definition {facts.definition}{unit}, {facts.cameras} cameras{listed}"
    )
    for one, path in zip(report.facts, report.outputs, strict=True):
        trial = f", trial {one.trial} (seed {one.trial_seed})" if one.trial is not None else ""
        console.print(f"{one.metric}{trial}: {path}", soft_wrap=True)
    if not report.outputs[0].lower().endswith(".txt"):  # a submission is for others to look at
        console.print(f"next: {_next_commands(report)}", soft_wrap=True)


def _next_commands(report: RankReport) -> str:
    """What to type to see the result: where it lies decides what must be said."""
    if report.run_dir is not None:
        run = f" --run-dir {shlex.quote(str(report.run_dir))}" if report.run_named else ""
        return f"vreid evaluate{run}, vreid show{run}"
    folder = shlex.quote(str(Path(report.outputs[0]).parent if len(report.outputs) > 1 else report.outputs[0]))
    return f"vreid evaluate {folder}, vreid show --ranking {shlex.quote(report.outputs[0])}"
