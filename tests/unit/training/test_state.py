"""The file that a training continues from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vreid_cli.errors import StoreError
from vreid_cli.training.state import (
    EpochResult,
    Scores,
    TrainingState,
    best_epoch,
    read_state,
    save_state,
)


def epoch(number: int, score: float | None) -> EpochResult:
    return EpochResult(number, 1, 1, 0, 0, 0, 1, 1, None if score is None else Scores(score, 0))


def test_the_best_epoch_is_the_first_of_the_highest_scores():
    assert best_epoch([epoch(1, 0.5), epoch(2, 0.7), epoch(3, None), epoch(4, 0.7), epoch(5, 0.6)]).epoch == 2
    assert best_epoch([epoch(1, None), epoch(2, None)]).epoch == 2


def test_a_state_comes_back_from_its_file(tmp_path: Path):
    history, facts = (epoch(1, None), epoch(2, 0.25)), {"settings": {"a": [1, "ü"]}}
    state = TrainingState(
        2, {"network/x": torch.arange(3.0), "averaged": torch.tensor(4)}, {"scale": 8.0}, history, facts
    )
    save_state(tmp_path / "resume.safetensors", state)
    read = read_state(tmp_path / "resume.safetensors")
    assert (read.epoch, read.numbers, read.history) == (2, {"scale": 8.0}, history)
    assert torch.equal(read.part("network")["x"], torch.arange(3.0))
    assert int(read.tensors["averaged"]) == 4
    assert read.facts == facts


def test_a_missing_state_says_how_to_start_over(tmp_path: Path):
    with pytest.raises(StoreError, match="no training to continue") as caught:
        read_state(tmp_path / "resume.safetensors")
    assert "--restart" in str(caught.value.hint)


@pytest.mark.parametrize("damage", ["cut", "foreign", "version", "history", "text"])
def test_a_damaged_state_is_refused(tmp_path: Path, damage: str):
    path = tmp_path / "resume.safetensors"
    save_state(path, TrainingState(1, {"network/x": torch.zeros(2)}))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "text":
        path.write_text("epoch 3")
    else:
        about = {"version": "1", "epoch": 1, "numbers": {}, "history": [], "facts": {}}
        about |= {"version": "9"} if damage == "version" else {"history": [{"epoch": 1}]}
        facts = {} if damage == "foreign" else {"vreid_training": json.dumps(about)}
        save_file({"x": torch.zeros(1)}, path, metadata=facts)
    with pytest.raises(StoreError, match="holds no state of a training, or is damaged"):
        read_state(path)
