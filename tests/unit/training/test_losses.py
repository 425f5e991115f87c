"""The losses against their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vreid_cli.errors import MissingExtraError
from vreid_cli.training.losses import Criterion
from vreid_cli.training.options import TrainingOptions


def oracle_cross_entropy(scores: np.ndarray, targets: list[int], smoothing: float) -> float:
    total = 0.0
    for row, target in zip(scores, targets, strict=True):
        logs = [value - math.log(sum(math.exp(other) for other in row)) for value in row]
        total -= (1 - smoothing) * logs[target] + smoothing * sum(logs) / len(logs)
    return total / len(targets)


def oracle_batch_hard(embeddings: np.ndarray, targets: list[int], margin: float) -> float:
    total = 0.0
    for i, anchor in enumerate(embeddings):
        far = max(
            np.linalg.norm(anchor - embeddings[j]) for j in range(len(targets)) if targets[j] == targets[i] and j != i
        )
        near = min(np.linalg.norm(anchor - embeddings[j]) for j in range(len(targets)) if targets[j] != targets[i])
        total += max(0.0, far - near + margin)
    return total / len(targets)


@pytest.mark.parametrize("margin", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("spread", [0.1, 1.0, 30.0])
def test_losses_by_the_formula(margin: float, spread: float):
    generator = np.random.default_rng(4)
    targets = [0, 0, 1, 1, 1, 2, 2, 0]
    centres = generator.normal(size=(3, 6)) * spread
    embeddings = centres[targets] + generator.normal(size=(8, 6))
    scores = generator.normal(size=(8, 5))
    criterion = Criterion(TrainingOptions(triplet=0.7, margin=margin, label_smoothing=0.1))
    losses = criterion(
        torch.tensor(embeddings, dtype=torch.float32),
        torch.tensor(scores, dtype=torch.float32),
        targets=torch.tensor(targets),
    )
    cross_entropy, triplet = oracle_cross_entropy(scores, targets, 0.1), oracle_batch_hard(embeddings, targets, margin)
    assert float(losses.cross_entropy) == pytest.approx(cross_entropy, rel=1e-5)
    assert float(losses.triplet) == pytest.approx(triplet, rel=1e-5, abs=1e-6)
    assert float(losses.total) == pytest.approx(cross_entropy + 0.7 * triplet, rel=1e-5)


def test_without_a_triplet_loss_cross_entropy_is_all():
    scores = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    losses = Criterion(TrainingOptions())(torch.zeros(4, 2), scores, targets=torch.tensor([0, 1, 2, 0]))
    assert float(losses.triplet) == 0
    assert float(losses.total) == pytest.approx(oracle_cross_entropy(scores.numpy(), [0, 1, 2, 0], 0.0), rel=1e-5)


def test_without_pytorch_metric_learning_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vreid_cli.runtime.extras.find_spec", lambda name: None)
    Criterion(TrainingOptions())
    with pytest.raises(MissingExtraError, match="pytorch_metric_learning") as caught:
        Criterion(TrainingOptions(triplet=1.0))
    assert caught.value.hint is not None
    assert 'pip install "vreid[train]"' in caught.value.hint
