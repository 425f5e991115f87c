"""The state of a training, in one file: it continues from there as if it had never stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from vreid_cli.errors import StoreError, WeightsError
from vreid_cli.models.checkpoint import StateDict, below, read_tensors, write_tensors
from vreid_cli.store.metadata import read_metadata

_VERSION = "1"
_HINT = "start over with --restart, or in another --run-dir"


@dataclass(frozen=True)
class Scores:
    """Scores on the vehicles that are held out.

    Attributes:
        mean_ap: mAP, as a fraction.
        rank1: CMC at 1, as a fraction.
    """

    mean_ap: float
    rank1: float


@dataclass(frozen=True)
class EpochResult:
    """One pass over the images, measured while learning (augmented images, changing weights).

    Attributes:
        epoch: Counted from 1.
        loss: Mean of the loss over the steps.
        cross_entropy: The part of it that is cross-entropy.
        triplet: The triplet loss without its weight.
        accuracy: Fraction of images whose vehicle had the highest score.
        learning_rate: Of the last step.
        images: Number of images.
        seconds: Duration without validation.
        scores: Of the validation after it; None without validation.
    """

    epoch: int
    loss: float
    cross_entropy: float
    triplet: float
    accuracy: float
    learning_rate: float
    images: int
    seconds: float
    scores: Scores | None = None


@dataclass(frozen=True)
class TrainingState:
    """A training after an epoch.

    Attributes:
        epoch: Finished epochs.
        tensors: Network, optimizer and moving average, by name.
        numbers: State of the gradient scaler of fp16.
        history: All finished epochs.
        facts: JSON values that the file keeps beside it.
    """

    epoch: int
    tensors: StateDict
    numbers: Mapping[str, float] = field(default_factory=dict)
    history: tuple[EpochResult, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def part(self, prefix: str) -> StateDict:
        """The tensors below a prefix, named without it."""
        return below(self.tensors, f"{prefix}/")


def best_epoch(history: Sequence[EpochResult]) -> EpochResult:
    """The first epoch of the highest mAP on held-out vehicles; the last one without validation.

    Examples:
        >>> epochs = [EpochResult(k, 1, 1, 0, 0.5, 0.1, 8, 1.0, Scores(ap, 1.0)) for k, ap in ((1, 0.4), (2, 0.6))]
        >>> best_epoch(epochs).epoch
        2
    """
    scored = {result.scores.mean_ap: result for result in reversed(history) if result.scores is not None}
    return scored[max(scored)] if scored else history[-1]


def save_state(path: Path, state: TrainingState) -> None:
    """Write a state, atomically.

    Raises:
        StoreError: The file cannot be written.
    """
    about = {
        "version": _VERSION,
        "epoch": state.epoch,
        "numbers": dict(state.numbers),
        "history": [asdict(result) for result in state.history],
        "facts": dict(state.facts),
    }
    write_tensors(path, state.tensors, facts={"vreid_training": json.dumps(about)})


def read_state(path: Path) -> TrainingState:
    """Read what :func:`save_state` wrote.

    Raises:
        StoreError: The file is missing, damaged or of another kind.
    """
    if not path.is_file():
        raise StoreError(f"there is no training to continue: {path} is missing", hint=_HINT, file=path)
    try:
        about = read_metadata(path)["vreid_training"]
        if about["version"] != _VERSION:
            raise ValueError(f"it is of version {about['version']}")
        history = tuple(
            EpochResult(**{**entry, "scores": entry["scores"] and Scores(**entry["scores"])})
            for entry in about["history"]
        )
        return TrainingState(int(about["epoch"]), read_tensors(path), about["numbers"], history, dict(about["facts"]))
    except (WeightsError, KeyError, TypeError, ValueError, RecursionError) as error:
        reason = error.message if isinstance(error, WeightsError) else error
        raise StoreError(
            f"{path} holds no state of a training, or is damaged: {reason}", hint=_HINT, file=path
        ) from None


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> StateDict:
    """An optimizer's tensors, by the weight's number and the optimizer's name for them."""
    return {
        f"{number}.{name}": value if isinstance(value, torch.Tensor) else torch.tensor(value)
        for number, memory in optimizer.state_dict()["state"].items()
        for name, value in memory.items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: StateDict) -> None:
    """Restore an optimizer from the tensors of :func:`optimizer_tensors`."""
    memory: dict[int, dict[str, torch.Tensor]] = {}
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        weight = weights[int(number)]
        # In the memory format of the weight, as torch itself does it: the arithmetic is then the same to the bit.
        like = torch.empty_like(weight).copy_(value) if value.shape == weight.shape else value
        memory.setdefault(int(number), {})[name] = like
    optimizer.load_state_dict({"state": memory, "param_groups": optimizer.state_dict()["param_groups"]})
