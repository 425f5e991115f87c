"""The files of ``vreid train``: after each epoch the state to continue from, then what follows from it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from vreid_cli.models.checkpoint import save_checkpoint
from vreid_cli.reports.plots import plot_training
from vreid_cli.runtime.extras import require_extra
from vreid_cli.runtime.files import atomic_path
from vreid_cli.runtime.progress import log
from vreid_cli.store.runs import RunDirectory
from vreid_cli.training.state import EpochResult, best_epoch, save_state
from vreid_cli.training.trainer import Trainer

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TrainingFiles:
    """Writes the files of one training, as the watch of its trainer on the first process.

    Args:
        run: Where they go.
        about: Facts for the checkpoints' metadata, from the trainer.
        to_continue: What must be the same when the training continues.
        tensorboard: Whether to write TensorBoard's files too.
    """

    def __init__(
        self,
        run: RunDirectory,
        about: Callable[[Trainer], Mapping[str, Any]],
        *,
        to_continue: Mapping[str, Any],
        tensorboard: bool,
    ) -> None:
        self._run, self._about, self._to_continue = run, about, to_continue
        self._tensorboard = tensorboard
        self._writer: SummaryWriter | None = None
        if tensorboard:
            require_extra("tensorboard", ["tensorboard"], needed_by="--tensorboard")

    def begin(self, trainer: Trainer) -> None:
        """Write what there is before the first epoch: a state to continue from, even then."""
        if self._tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._run.path / "tensorboard"), purge_step=trainer.epoch + 1)
        if trainer.epoch:
            self._write(trainer)  # a kill may have come between the state and the rest
        else:
            self._save_state(trainer)

    def end_epoch(self, trainer: Trainer) -> None:
        """Write all files after an epoch, and log how it went."""
        self._save_state(trainer)
        self._write(trainer)
        result = trainer.history[-1]
        log.info("epoch %d/%d: %s", result.epoch, trainer.options.epochs, _in_words(result))
        for name, value in _row(result).items():
            if self._writer is not None and value is not None and name != "epoch":
                self._writer.add_scalar(name, value, result.epoch)

    def close(self) -> None:
        """Write what TensorBoard holds back."""
        if self._writer is not None:
            self._writer.close()

    def _save_state(self, trainer: Trainer) -> None:
        save_state(self._run.training_state, replace(trainer.state(), facts=self._to_continue))

    def _write(self, trainer: Trainer) -> None:
        run, rows = self._run, [_row(result) for result in trainer.history]
        facts = {**self._about(trainer), "metrics": rows[-1]}
        texts = {key: json.dumps(value, ensure_ascii=False) for key, value in facts.items()}
        best = best_epoch(trainer.history) is trainer.history[-1]
        for path in (run.last_checkpoint, run.best_checkpoint) if best else (run.last_checkpoint,):
            save_checkpoint(path, trainer.kept, transform=trainer.data.transform, facts=texts)
        with atomic_path(run.training_log) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        plot_training(run.training_curves, trainer.history)


def _in_words(result: EpochResult) -> str:
    scores = result.scores
    found = f", held out: mAP {100 * scores.mean_ap:.1f}, rank-1 {100 * scores.rank1:.1f}" if scores else ""
    speed = result.images / max(result.seconds, 1e-9)
    return f"loss {result.loss:.3f}, {100 * result.accuracy:.1f}% right, {speed:.0f} img/s{found}"


def _row(result: EpochResult) -> dict[str, float | None]:
    """A line of log.csv."""
    row = asdict(result)
    scores = row.pop("scores") or {}
    return {**row, "mAP": scores.get("mean_ap"), "rank1": scores.get("rank1")}
