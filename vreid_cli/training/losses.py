"""What a network is taught by: cross-entropy over the vehicles, and a batch-hard triplet loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from vreid_cli.runtime.extras import require_extra
from vreid_cli.training.options import TrainingOptions

Triplet = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Losses:
    """Losses of a batch, as tensors that gradients flow from.

    Attributes:
        total: What is made smaller.
        cross_entropy: Its first part, a mean over the images.
        triplet: Its second part before it is weighed; 0 where the recipe has none.
    """

    total: torch.Tensor
    cross_entropy: torch.Tensor
    triplet: torch.Tensor


class Criterion:
    """The losses of a recipe.

    Args:
        recipe: Label smoothing, weight and margin of the triplet loss.

    Raises:
        UsageError: The recipe has a triplet loss, and pytorch-metric-learning is not installed.
    """

    def __init__(self, recipe: TrainingOptions) -> None:
        self._recipe = recipe
        self._triplet = batch_hard_triplet(recipe.margin) if recipe.triplet else None

    def __call__(self, embeddings: torch.Tensor, scores: torch.Tensor, *, targets: torch.Tensor) -> Losses:
        """The losses of (B, D) embeddings and (B, classes) scores whose vehicles are targets (B,)."""
        # In full precision, whatever the forward pass was computed in.
        cross_entropy = nn.functional.cross_entropy(
            scores.float(), targets, label_smoothing=self._recipe.label_smoothing
        )
        if self._triplet is None:
            return Losses(cross_entropy, cross_entropy, cross_entropy.new_zeros(()))
        triplet = self._triplet(embeddings.float(), targets)
        return Losses(cross_entropy + self._recipe.triplet * triplet, cross_entropy, triplet)


def batch_hard_triplet(margin: float) -> Triplet:
    """The mean over a batch of max(0, farthest of the same vehicle - nearest of another + margin), Euclidean.

    Hermans et al., *In Defense of the Triplet Loss* (arXiv 1703.07737), by pytorch-metric-learning.

    Raises:
        UsageError: pytorch-metric-learning is not installed.
    """
    require_extra("train", ["pytorch_metric_learning"], needed_by="the triplet loss")
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.miners import BatchHardMiner
    from pytorch_metric_learning.reducers import MeanReducer

    distance = LpDistance(normalize_embeddings=False)
    miner = BatchHardMiner(distance=distance)
    # Its own reducer leaves triplets without a loss out of the mean, which makes the last few weigh ever more.
    loss = TripletMarginLoss(margin=margin, distance=distance, reducer=MeanReducer())

    def triplet(embeddings: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = loss(embeddings, targets, miner(embeddings, targets))
        return value

    return triplet
