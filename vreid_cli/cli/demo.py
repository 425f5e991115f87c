"""``vreid demo``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vreid_cli.cli.command import Command
from vreid_cli.types.amounts import amount

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.workflows.demo import DemoReport
    from vreid_cli.workflows.demo_scene import SceneReport


def _results(report: DemoReport | SceneReport) -> dict[str, object]:
    from vreid_cli.reports.identities import identity_scores_json
    from vreid_cli.workflows.demo_scene import SceneReport

    if isinstance(report, SceneReport):
        scores = {name: identity_scores_json(name, one) for name, one in report.scores.items()}
        return {"threshold": report.threshold, "identities": scores, "seconds": report.seconds}
    from vreid_cli.reports.evaluation_json import evaluation_json

    return {"evaluation": [evaluation_json(path, one) for path, one in report.evaluation.results.items()]}


def _render_scene(report: SceneReport, console: Console) -> None:
    from vreid_cli.reports.identities import identity_scores_table

    console.print(identity_scores_table(report.scores))
    run = report.run_dir
    written = {
        "scene": f"{amount(report.scene.cameras, 'video')} with a tracker's files, "
        f"{amount(report.scene.vehicles, 'vehicle')}",
        "features": "latent representations of the tracks",
        "identities": "which tracks are one vehicle, the tracker's files with the same ids for all cameras, traffic",
        "reports/identities.png": "some vehicles with their tracks: have a look",
    }
    console.print(f"\nDone in {report.seconds:.0f} s. It wrote to {run}:")
    for name, what in written.items():
        console.print(f"  {name:<23} {what}")
    console.print("\nThree things to try next:")
    for line in (
        f"vreid show --run-dir {run} --identities",
        f"vreid associate --run-dir {run} --threshold {report.threshold:.3g} --cameras other --force",
        f"vreid associate --run-dir {run} --threshold {report.threshold:.3g} --plot ways.png --force",
    ):
        console.print(f"  {line}", soft_wrap=True)


def _render(report: DemoReport | SceneReport, console: Console) -> None:
    from vreid_cli.workflows.demo_scene import SceneReport

    if isinstance(report, SceneReport):
        _render_scene(report, console)
        return
    from vreid_cli.reports.tables import evaluation_table

    console.print(evaluation_table(report.evaluation.results))
    run = report.run_dir
    written = {
        "data": f"{amount(report.data.train_images + report.data.test_images, 'synthetic image')}, in VeRi's layout",
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
    all of it goes to runs/demo. With --scene the vehicles drive through videos of
    four cameras, and end as one identity across all of them (runs/demo-scene).

    Examples:
      vreid demo
      vreid demo --scene
      vreid demo --seed 7 --run-dir runs/demo-7
    """,
    settings={"demo": ("scene", "epochs"), "runtime": ("device",)},
    workflow="vreid_cli.workflows.demo:demo",
    choose_run="vreid_cli.workflows.demo:choose_run",
    default_run="runs/demo, runs/demo-scene",
    render=_render,
    to_json=_results,
)
