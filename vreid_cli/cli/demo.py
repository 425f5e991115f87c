"""``vreid demo``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vreid_cli.cli.command import Command

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.demo import DemoReport


def _results(report: DemoReport) -> dict[str, object]:
    from vreid_cli.reports.evaluation_json import evaluation_json

    return {"evaluation": [evaluation_json(path, one) for path, one in report.evaluation.results.items()]}


def _render(report: DemoReport, console: Console) -> None:
    from vreid_cli.reports.tables import evaluation_table

    console.print(evaluation_table(report.evaluation.results))
    run = report.run_dir
    written = {
        "data": f"{report.data.train_images + report.data.test_images:,} synthetic images, in VeRi's layout",
        "checkpoints": "the trained ResNet18",
        "features": "latent representations of the images that it has not seen",
        "rankings": "a ranking for each metric",
        "evaluations": "their scores",
        "reports/nearest.png": "some queries with their nearest tracks: have a look",
    }
    console.print(f"\nDone in {report.seconds:.0f} s. It wrote to {run}:")
    for name, what in written.items():
        console.print(f"  {name:<20} {what}")
    console.print("\nThree things to try next:")
    for line in (
        f"vreid show --run-dir {run} --top 3",
        f"vreid rank --run-dir {run} --task i2t --metric all",
        f"vreid evaluate --run-dir {run} --same-camera keep",
    ):
        console.print(f"  {line}", soft_wrap=True)
    console.print("\nYour own images, a folder for each track, by the network that ships with vreid:")
    console.print("  vreid extract --dataset tracks --data-dir my_tracks")


COMMAND = Command(
    help="""Do the whole job on a small set that it renders itself, with no download.

    Renders vehicles as several cameras see them, trains ResNet18 on some of
    them, and then extracts, ranks, scores and shows the others, with the very
    commands that you would use. It takes about two minutes on two cores, and
    all of it goes to runs/demo.

    Examples:
      vreid demo
      vreid demo --seed 7 --run-dir runs/demo-7
    """,
    settings={"demo": ("epochs",), "runtime": ("device",)},
    workflow="vreid_cli.workflows.demo:demo",
    choose_run="vreid_cli.workflows.demo:choose_run",
    default_run="runs/demo",
    render=_render,
    to_json=_results,
)
