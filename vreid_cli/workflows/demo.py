"""``vreid demo``: the whole job on a small set that it renders itself.

The only workflow that calls others: what it runs after training is what a person would run.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vreid_cli import __version__
from vreid_cli.config import Layer, Settings, resolve
from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.data.listing import DataFolders
from vreid_cli.errors import StoreError
from vreid_cli.models.weights import load_network
from vreid_cli.runtime.files import write_json
from vreid_cli.runtime.objects import require_local
from vreid_cli.runtime.progress import log
from vreid_cli.store.formats import read_ranking
from vreid_cli.store.runs import RUNS_FOLDER, RunDirectory
from vreid_cli.synthetic.veri_set import SyntheticSet, render_veri
from vreid_cli.training.options import TrainingOptions
from vreid_cli.training.train import train
from vreid_cli.types.amounts import amount
from vreid_cli.workflows.demo_scene import SceneReport, demo_scene
from vreid_cli.workflows.evaluate import EvaluateReport, evaluate
from vreid_cli.workflows.extract import extract
from vreid_cli.workflows.rank import rank
from vreid_cli.workflows.session import Report, RunChoice, Session
from vreid_cli.workflows.show import show

ARCHITECTURE = "resnet18"
#: Cross-entropy, which needs no extra, on small images, so that training on a CPU takes about a minute.
RECIPE = TrainingOptions(
    resize=72,
    crop=64,
    optimizer="adamw",
    learning_rate=3e-3,
    weight_decay=5e-2,
    schedule="cosine",
    warm_up=0.25,
    label_smoothing=0.1,
    flip=True,
    jitter=0.2,
    tint=0.25,
    erase=0.4,
)
_MARKER = "demo.json"
_FOLDERS = (
    "data",
    "checkpoints",
    "features",
    "rankings",
    "evaluations",
    "calibrations",
    "reports",
    "identities",
    "scene",
    "labelled",
    "untrained",
)
_FILES = ("run.json", "history.jsonl")
_SHOWN_QUERIES = 6


@dataclass(frozen=True)
class DemoReport(Report):
    """What the demo did.

    Attributes:
        run_dir: The run, which holds the synthetic images too.
        data: The synthetic set.
        evaluation: Scores on vehicles that were not trained on.
        sheet: The contact sheet.
        seconds: How long it all took.
    """

    run_dir: Path
    data: SyntheticSet
    evaluation: EvaluateReport
    sheet: Path
    seconds: float


def choose_run(_: Settings) -> RunChoice:
    """A run of its own; nothing is taken from an earlier demo in its folder."""
    return RunChoice(use_latest=False, take_settings=False)


def demo(session: Session) -> DemoReport | SceneReport:
    """Render, train, extract, rank, evaluate and show; with ``--scene`` from videos to identities.

    Raises:
        StoreError: The folder holds something that no demo made, or another demo is at work there.
    """
    settings = session.settings
    default = RUNS_FOLDER / ("demo-scene" if settings.demo.scene else "demo")
    run = RunDirectory(settings.run.run_dir or default)
    _refuse_others(run)
    with run.locked(".demo.lock"):
        _make_room(run, settings)
        return demo_scene(session, run, train=_train) if settings.demo.scene else _demo(session, run)


def _demo(session: Session, run: RunDirectory) -> DemoReport:
    started = time.monotonic()
    settings, chosen = session.settings, session.settings.demo
    log.info("1/5  rendering vehicles seen by %s", amount(chosen.cameras, "camera"))
    data = render_veri(run.path / "data", chosen, seed=settings.run.seed)
    log.info("2/5  training %s from nothing on %s", ARCHITECTURE, amount(data.train_images, "image"))
    own = _layer(run, data.root, settings)
    _train(data.root, run.last_checkpoint, settings)

    def step(**more: dict[str, Any]) -> Session:
        """A session as the command line would make it."""
        return Session(resolve([own, Layer("demo", more)]), run, session.command)

    log.info("3/5  extracting the features of %s that it has not seen", amount(chosen.test_vehicles, "vehicle"))
    extract(step())
    log.info("4/5  ranking by every metric, and scoring")
    rank(step(rank={"metric": ["all"]}))
    evaluation = evaluate(step())
    log.info("5/5  making a contact sheet")
    sheet = run.reports / "nearest.png"
    show(step(show={"output": str(sheet), "queries": _spread_queries(run), "top": 4}))
    return DemoReport(
        outputs=(str(run.path),),
        run_dir=run.path,
        data=data,
        evaluation=evaluation,
        sheet=sheet,
        seconds=time.monotonic() - started,
    )


def _spread_queries(run: RunDirectory) -> list[str]:
    """A few queries of different vehicles, for a sheet that shows more than the first of them."""
    queries = list(read_ranking(run.rankings / "t2t-meanMCD50.parquet").queries.ids)
    step = max(1, len(queries) // _SHOWN_QUERIES)
    return queries[::step][:_SHOWN_QUERIES]


def _layer(run: RunDirectory, data_dir: Path, settings: Settings) -> Layer:
    """The settings that the commands after training share."""
    return Layer(
        "demo",
        {
            "run": {"run_dir": str(run.path), "seed": settings.run.seed},
            "data": {"dataset": "veri", "data_dir": str(data_dir)},
            "model": {"arch": ARCHITECTURE, "weights": str(run.last_checkpoint)},
            "runtime": settings.runtime.model_dump(mode="json"),
        },
    )


def _train(data_dir: Path, checkpoint: Path, settings: Settings) -> None:
    """Train on the synthetic training vehicles and save the last state of the network."""
    result = train(
        LAYOUTS["veri"].read(DataFolders(data_dir), "train").records,
        RECIPE.model_copy(update={"epochs": settings.demo.epochs}),
        network=load_network("random", arch=ARCHITECTURE, seed=settings.run.seed),
        seed=settings.run.seed,
        device=settings.runtime.device,
        max_pixels=settings.extract.max_pixels,
    )
    for epoch in result.history:
        log.debug("epoch %d: loss %.3f", epoch.epoch, epoch.loss)
    result.network.save(checkpoint, facts={"recipe": "demo", "vreid_version": __version__})


def _refuse_others(run: RunDirectory) -> None:
    """Refuse a folder with anything in it that no demo made; one that was killed at its beginning left hidden files."""
    require_local(run.path, "vreid demo keeps its run")
    there = run.path.is_dir() and any(not path.name.startswith(".") for path in run.path.iterdir())
    if there and not (run.path / _MARKER).is_file():
        raise StoreError(
            f"{run.path} is there already and was not made by vreid demo",
            hint="choose another folder with --run-dir",
            file=run.path,
        )


def _make_room(run: RunDirectory, settings: Settings) -> None:
    """Remove what an earlier demo left, and nothing else."""
    for name in _FOLDERS:
        shutil.rmtree(run.path / name, ignore_errors=True)
    for name in _FILES:
        (run.path / name).unlink(missing_ok=True)
    write_json(run.path / _MARKER, {"schema": 1, "vreid": __version__, "seed": settings.run.seed})
