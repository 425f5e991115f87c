"""``vreid demo --scene``: from videos of several cameras to one identity across all of them.

A network is trained on rendered vehicles; others choose the threshold; a third lot drives through the scene.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from vreid_cli.config import Layer, Settings, resolve
from vreid_cli.evaluation.identities import IdentityScores, evaluate_identities
from vreid_cli.models.backbones import BACKBONES
from vreid_cli.models.checkpoint import save_checkpoint
from vreid_cli.models.network import build_random
from vreid_cli.models.transforms import Transform
from vreid_cli.runtime.extras import require_extra
from vreid_cli.runtime.progress import log
from vreid_cli.store.formats import read_ranking
from vreid_cli.store.runs import RunDirectory
from vreid_cli.synthetic.options import SceneOptions
from vreid_cli.synthetic.scene import SyntheticScene, render_scene
from vreid_cli.synthetic.veri_set import render_veri
from vreid_cli.types.amounts import amount
from vreid_cli.types.identities import Identities
from vreid_cli.types.rankings import Ranking
from vreid_cli.workflows.associate import associate
from vreid_cli.workflows.evaluate import evaluate
from vreid_cli.workflows.extract import extract
from vreid_cli.workflows.rank import rank
from vreid_cli.workflows.session import Report, Session
from vreid_cli.workflows.show import show

#: How tracks are compared, and how many pairs of different vehicles may be near enough among those that choose the
#: threshold: about as many as pairs of one vehicle are too far then. Travel times exclude most of the false ones.
METRIC, FALSE_MATCH_RATE = "meanMCD", 0.08
_SHOWN_VEHICLES = 6
#: What the network that is trained sees; the one that is not must see the same.
_INPUT = Transform(resize=72, crop=64)


@dataclass(frozen=True, kw_only=True)
class SceneReport(Report):
    """What the demo of a scene did.

    Attributes:
        run_dir: The run, which holds the videos too.
        scene: The scene.
        scores: Scores of identities by what made them, best way first.
        threshold: The distance up to which tracks are one vehicle.
        sheet: The contact sheet of identities.
        seconds: How long it all took.
    """

    run_dir: Path
    scene: SyntheticScene
    scores: Mapping[str, IdentityScores]
    threshold: float
    sheet: Path
    seconds: float


def demo_scene(session: Session, run: RunDirectory, *, train: Any) -> SceneReport:
    """Render, train, extract, associate, evaluate and show.

    Args:
        session: Of the command.
        run: Where it all goes.
        train: Trains on the rendered set and writes the checkpoint.

    Raises:
        UsageError: PyAV is not installed.
    """
    require_extra("video", ["av"], needed_by="vreid demo --scene")
    started = time.monotonic()
    settings, chosen = session.settings, session.settings.demo
    log.info("1/6  rendering vehicles to train on, and others to choose the threshold by")
    data = render_veri(run.path / "data", chosen, seed=settings.run.seed)
    log.info(
        "2/6  filming %s with %s", amount(chosen.scene_vehicles, "other vehicle"), amount(chosen.cameras, "camera")
    )
    scene = render_scene(
        run.path / "scene",
        SceneOptions(vehicles=chosen.scene_vehicles),
        cameras=chosen.cameras,
        first_vehicle=1 + chosen.train_vehicles + chosen.test_vehicles,
        seed=settings.run.seed,
    )
    log.info("3/6  training a network from nothing on %s", amount(data.train_images, "image"))
    train(data.root, run.last_checkpoint, settings)
    log.info("4/6  extracting tracks from the videos, and associating them")
    steps = _Steps(session, run, data.root, scene, weights=str(run.last_checkpoint))
    scores, threshold = steps.associate_all()
    log.info("5/6  the same with a network that was never trained, to compare")
    other = RunDirectory(run.path / "untrained")
    weights = other.path / "untrained.safetensors"
    save_checkpoint(weights, build_random(BACKBONES["resnet18"], seed=settings.run.seed), transform=_INPUT, facts={})
    untrained, _ = _Steps(session, other, data.root, scene, weights=str(weights)).associate_all(once=True)
    scores |= {f"{name}, untrained network": one for name, one in untrained.items()}
    log.info("6/6  making a sheet of identities")
    sheet = run.reports / "identities.png"
    steps.run_show(sheet)
    run.mark_latest()
    return SceneReport(
        outputs=(str(run.path),),
        run_dir=run.path,
        scene=scene,
        scores=scores,
        threshold=threshold,
        sheet=sheet,
        seconds=time.monotonic() - started,
    )


@dataclass(frozen=True)
class _Steps:
    """The commands that a person would type, for one network."""

    session: Session
    run: RunDirectory
    labelled_data: Path
    scene: SyntheticScene
    weights: str

    def associate_all(self, *, once: bool = False) -> tuple[dict[str, IdentityScores], float]:
        """Scores of identities: with travel times, without, and of linking each track to its nearest."""
        labelled = RunDirectory(self.run.path / "labelled")
        features = labelled.features("gallery").path
        extract(self._step(labelled, {"dataset": "veri", "data_dir": str(self.labelled_data), "splits": ["gallery"]}))
        mot = {"dataset": "mot", "data_dir": str(self.scene.root), "track_file": "mtsc/tracker.txt"}
        extract(self._step(self.run, mot))
        by_labels = {
            "metric": METRIC,
            "labelled": str(features),
            "false_match_rate": FALSE_MATCH_RATE,
            "force": True,
        }
        plain = associate(self._step(self.run, mot, associate=by_labels))
        ways = {"travel_times": str(self.scene.travel_times)}
        timed = associate(self._step(self.run, mot, associate={**by_labels, **ways}))
        both = {"associated with travel times": timed, "associated": plain}
        found = {name: evaluate_identities(one.identities) for name, one in both.items()}
        if not once:
            rank(self._step(self.run, mot, rank={"metric": [METRIC], "cameras": "other", "force": True}))
            ranking = read_ranking(self.run.rankings / f"t2t-{METRIC}.parquet")
            found["each track with its nearest"] = evaluate_identities(link_nearest(plain.identities, ranking))
            evaluate(self._step(self.run, mot))
        return found, float(plain.identities.facts["threshold"])

    def run_show(self, sheet: Path) -> None:
        """The sheet of the vehicles with the most tracks."""
        show(self._step(self.run, {}, show={"identities": True, "output": str(sheet), "max_queries": _SHOWN_VEHICLES}))

    def _step(self, run: RunDirectory, data: Mapping[str, Any], **more: Mapping[str, Any]) -> Session:
        """A session as the command line would make it."""
        settings: Settings = self.session.settings
        own = {
            "run": {"run_dir": str(run.path), "seed": settings.run.seed},
            "data": dict(data),
            "model": {"arch": "resnet18", "weights": self.weights},
            "runtime": settings.runtime.model_dump(mode="json"),
        }
        return Session(resolve([Layer("demo", own), Layer("demo", more)]), run, self.session.command)


def link_nearest(found: Identities, ranking: Ranking) -> Identities:
    """What comes of taking each track and the nearest one of its list for one vehicle, and all that hang together."""
    position = {name: k for k, name in enumerate(found.tracks.ids)}
    ends = [
        (position[ranking.queries.ids[query]], position[ranking.gallery.ids[item]])
        for block in ranking.blocks
        for query, item in zip(*_nearest(block), strict=True)
    ]
    one, other = (np.array(side, dtype=np.int64) for side in zip(*ends, strict=True))
    graph = coo_matrix((np.ones(len(one)), (one, other)), shape=(len(found), len(found)))
    labels = connected_components(graph, directed=False)[1]
    return replace(found, identity=(labels + 1).astype(np.int32))


def _nearest(block: Any) -> tuple[list[int], list[int]]:
    """Queries of a block, and the first item that each lists other than itself."""
    best: dict[int, int] = {}
    for query, item in zip(block.query_index.tolist(), block.gallery_index.tolist(), strict=True):
        if query != item:
            best.setdefault(query, item)
    return list(best), list(best.values())
