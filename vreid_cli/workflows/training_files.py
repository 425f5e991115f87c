"""What ``vreid train`` writes: after each epoch first all that is needed to go on, then what follows from it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vreid_cli.models.checkpoint import save_checkpoint
from vreid_cli.models.transforms import Transform
from vreid_cli.reports.plots import TrainingFigures, draw_training
from vreid_cli.runtime.extras import require_extra
from vreid_cli.runtime.files import write_text
from vreid_cli.runtime.progress import log
from vreid_cli.store.runs import BEST, CURVES, LAST, LOG, STATE, RunDirectory
from vreid_cli.training.state import EpochResult, best_epoch, save_state
from vreid_cli.training.train import Learner

_TENSORBOARD = "tensorboard"


class Writer(Protocol):
    """What we use of TensorBoard's writer."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Add a point to a curve."""

    def close(self) -> None:
        """Write what is not written yet."""


@dataclass
class TrainingFiles:
    """The files of one training, written on the first process.

    Attributes:
        run: Where they go.
        learner: What is written of.
        transform: Input of the network.
        about: Facts for the checkpoints' metadata.
        to_go_on: What must be the same when the training goes on.
        tensorboard: Whether to write TensorBoard's files too.
    """

    run: RunDirectory
    learner: Learner
    transform: Transform
    about: Mapping[str, Any]
    to_go_on: Mapping[str, Any]
    tensorboard: bool = False
    _writer: Writer | None = field(default=None, init=False)

    def __enter__(self) -> TrainingFiles:
        if self.learner.executor.rank:
            return self
        if self.tensorboard:
            self._writer = _open_tensorboard(self.run.path / _TENSORBOARD, after=self.learner.epoch)
        if self.learner.epoch == 0:
            self._save_state()  # so that a training can go on from its very beginning
        else:
            self._write()  # a kill may have come between the state and the rest
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def on_epoch(self, result: EpochResult, _: Learner) -> None:
        """Write all of them after an epoch, and say how it went."""
        self._save_state()
        self._write()
        _tell(result, epochs=self.learner.recipe.epochs)
        if self._writer is not None:
            for name, value in _row(result).items():
                if value is not None and name != "epoch":
                    self._writer.add_scalar(name, value, result.epoch)

    def _save_state(self) -> None:
        save_state(self.run.checkpoints / STATE, self.learner.state(), facts=self.to_go_on)

    def _write(self) -> None:
        history = self.learner.history
        self._save(LAST)
        if best_epoch(history) == history[-1].epoch:
            self._save(BEST)
        rows = [_row(result) for result in history]
        write_text(self.run.path / LOG, _to_csv(rows))
        draw_training(self.run.path / CURVES, _figures(rows))

    def _save(self, name: str) -> None:
        facts = {**self.about, "metrics": _row(self.learner.history[-1])}
        texts = {key: json.dumps(value, ensure_ascii=False) for key, value in facts.items()}
        save_checkpoint(self.run.checkpoints / name, self.learner.result, transform=self.transform, facts=texts)


def _tell(result: EpochResult, *, epochs: int) -> None:
    scores = result.scores
    found = f", held out: mAP {100 * scores.mean_ap:.1f}, rank-1 {100 * scores.rank1:.1f}" if scores else ""
    speed = result.images / max(result.seconds, 1e-9)
    right = 100 * result.accuracy
    log.info(
        "epoch %d/%d: loss %.3f, %.1f%% right, %.0f img/s%s", result.epoch, epochs, result.loss, right, speed, found
    )


def _row(result: EpochResult) -> dict[str, float | None]:
    """A line of log.csv."""
    row = asdict(result)
    scores = row.pop("scores")
    return {**row, "mAP": scores["mean_ap"] if scores else None, "rank1": scores["rank1"] if scores else None}


def _to_csv(rows: Sequence[Mapping[str, float | None]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _figures(rows: Sequence[Mapping[str, float | None]]) -> TrainingFigures:
    def column(name: str) -> NDArray[np.float64]:
        return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)

    return TrainingFigures(
        epoch=column("epoch"),
        loss=column("loss"),
        cross_entropy=column("cross_entropy"),
        triplet=column("triplet"),
        accuracy=column("accuracy"),
        learning_rate=column("learning_rate"),
        mean_ap=column("mAP"),
        rank1=column("rank1"),
    )


def _open_tensorboard(folder: Path, *, after: int) -> Writer:
    require_extra("tensorboard", ["tensorboard"], needed_by="--tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    writer: Writer = SummaryWriter(str(folder), purge_step=after + 1)
    return writer
