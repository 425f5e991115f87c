"""The losses: cross-entropy over the vehicles, and a batch-hard triplet loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vreid_cli.runtime.extras import require_extra
from vreid_cli.training.options import TrainingOptions


@dataclass(frozen=True)
class Losses:
    """Losses of a batch, as tensors that gradients flow from.

    Attributes:
        total: The loss that training minimises.
        cross_entropy: Its first part, a mean over the images.
        triplet: Its second part without its weight; 0 where there is none.
    """

    total: torch.Tensor
    cross_entropy: torch.Tensor
    triplet: torch.Tensor


class Criterion:
    """The losses that the options ask for.

    The triplet loss is the mean over a batch of max(0, farthest of the same vehicle - nearest of another + margin),
    Euclidean: "batch hard" of Hermans et al., arXiv 1703.07737, from pytorch-metric-learning.

    Args:
        options: Label smoothing; weight and margin of the triplet loss.

    Raises:
        MissingExtraError: There is a triplet loss, and pytorch-metric-learning is not installed.

    Examples:
        >>> criterion = Criterion(TrainingOptions())
        >>> losses = criterion(torch.zeros(2, 8), torch.tensor([[9.0, 0.0], [0.0, 9.0]]), targets=torch.tensor([0, 1]))
        >>> round(float(losses.total), 4)
        0.0001
    """

    def __init__(self, options: TrainingOptions) -> None:
        self._options = options
        self._miner: Any = None
        if not options.triplet:
            return
        require_extra("train", ["pytorch_metric_learning"], needed_by="train.triplet")
        from pytorch_metric_learning.distances import LpDistance
        from pytorch_metric_learning.losses import TripletMarginLoss
        from pytorch_metric_learning.miners import BatchHardMiner
        from pytorch_metric_learning.reducers import MeanReducer

        distance = LpDistance(normalize_embeddings=False)
        self._miner = BatchHardMiner(distance=distance)
        # Its default reducer leaves triplets without a loss out of the mean, so that the last few weigh ever more.
        self._loss = TripletMarginLoss(margin=options.margin, distance=distance, reducer=MeanReducer())

    def __call__(self, embeddings: torch.Tensor, scores: torch.Tensor, *, targets: torch.Tensor) -> Losses:
        """The losses of (B, D) embeddings and (B, classes) scores of the vehicles ``targets`` (B,)."""
        # In float32, whatever the precision of the forward pass.
        smoothing = self._options.label_smoothing
        cross_entropy = nn.functional.cross_entropy(scores.float(), targets, label_smoothing=smoothing)
        if self._miner is None:
            return Losses(cross_entropy, cross_entropy, cross_entropy.new_zeros(()))
        embeddings = embeddings.float()
        triplet = self._loss(embeddings, targets, self._miner(embeddings, targets))
        return Losses(cross_entropy + self._options.triplet * triplet, cross_entropy, triplet)
