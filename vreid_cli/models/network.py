"""A backbone as a torch module, with or without a classifier."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torchvision import models

from vreid_cli.models.backbones import Backbone
from vreid_cli.types.lazy import load


class Network(nn.Module):
    """A backbone, and on top of its LR a neck and a classifier where they are asked for.

    Args:
        backbone: Entry of :data:`~vreid_cli.models.backbones.BACKBONES`.
        classes: Number of vehicles that the classifier tells apart; None for no classifier.
        neck: Whether a batch normalisation stands between trunk and classifier (BNNeck; Luo et al., *Bag of Tricks
            and a Strong Baseline for Deep Person Re-identification*): the triplet loss sees what enters it, the
            classifier what leaves it.

    Attributes:
        trunk: The model, its last Linear layer replaced by an identity.
        neck: The batch normalisation, or None.
        head: The classifier, or None.

    Examples:
        >>> from vreid_cli.models.backbones import BACKBONES
        >>> network = Network(BACKBONES["resnet18"], classes=3).eval()
        >>> network.latent(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 512])
        >>> network(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 3])
    """

    def __init__(self, backbone: Backbone, *, classes: int | None = None, neck: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        self.trunk: nn.Module = models.get_model(backbone.name) if backbone.build is None else backbone.build()
        parent, _, last = backbone.head.rpartition(".")
        setattr(self.trunk.get_submodule(parent), last, nn.Identity())
        self.neck = nn.BatchNorm1d(backbone.dimension) if neck else None
        # A bias would move the classes away from the origin, around which a neck lays them.
        self.head = None if classes is None else nn.Linear(backbone.dimension, classes, bias=not neck)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Output (B, D) of the trunk for normalised images (B, 3, H, W); without a neck it is the LR."""
        return self.backbone.compute(self.trunk, images)

    def finish(self, embeddings: torch.Tensor) -> torch.Tensor:
        """LRs (B, D) of the output of :meth:`embed`."""
        latent: torch.Tensor = embeddings if self.neck is None else self.neck(embeddings)
        return latent

    def latent(self, images: torch.Tensor) -> torch.Tensor:
        """LRs (B, D) of normalised images (B, 3, H, W)."""
        return self.finish(self.embed(images))

    def streamlined(self) -> Callable[[torch.Tensor], torch.Tensor] | None:
        """:meth:`latent` with the present weights, to rounding, and faster on a CPU; None if there is no such form."""
        if self.backbone.streamlined is None:
            return None
        with torch.no_grad():  # else the rewritten weights would be kept for gradients
            embed = load(self.backbone.streamlined)(self.trunk)
        return lambda images: self.finish(embed(images))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class scores (B, classes) of normalised images (B, 3, H, W).

        Raises:
            ValueError: The network has no classifier.
        """
        if self.head is None:
            raise ValueError("this network has no classifier")
        scores: torch.Tensor = self.head(self.latent(images))
        return scores


def pool_in_float32(network: Network) -> None:
    """Compute the last average, and the neck behind it, in float32 under autocast too; it costs nothing.

    A neck subtracts what all LRs have in common, so that rounding to bfloat16 before it becomes a large part of
    what is left: with a trained ResNet18 it cost 0.9 points of mAP.
    """
    for module in network.trunk.modules():
        if isinstance(module, nn.AdaptiveAvgPool2d):
            module.register_forward_pre_hook(lambda _module, inputs: (inputs[0].float(),))


def build_random(backbone: Backbone, *, seed: int, classes: int | None = None, neck: bool = False) -> Network:
    """A network with random weights that depend on the seed alone; torch's global random state stays as it is.

    Examples:
        >>> from vreid_cli.models.backbones import BACKBONES
        >>> first, second = (build_random(BACKBONES["resnet18"], seed=7) for _ in range(2))
        >>> torch.equal(first.trunk.conv1.weight, second.trunk.conv1.weight)
        True
    """
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the GPUs' generators too, which fork_rng does not restore here.
        torch.default_generator.manual_seed(seed)
        return Network(backbone, classes=classes, neck=neck)
