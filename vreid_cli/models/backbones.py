"""The five CNNs of the paper: one explicit table of their latent representations (LRs).

An LR is the tensor that enters the last Linear layer, in eval mode. A :class:`Network` keeps torchvision's
model without that layer as ``trunk`` and the layer itself, if there is one, as ``head``. Networks that were
trained with a batch normalisation between the two (BNNeck) keep it as ``neck``; what enters the head has then
passed through it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torchvision import models

from vreid_cli.models.streamlined import StreamlinedDenseNet, fold_normalisation
from vreid_cli.models.transforms import Transform


@dataclass(frozen=True)
class Backbone:
    """What is particular to one architecture.

    Attributes:
        name: Name in the options.
        width: Length D of the LR.
        transform: Default input.
        build: Makes torchvision's model with randomly initialised weights.
        head: Dotted name of the last Linear layer in torchvision's model.
        latent: LR of a batch, from the model whose head is an identity.
        imagenet: torchvision's enum member for the ImageNet weights that the paper's line of work starts from.
        ignored: Key prefixes of a state dict that the LR does not need.
        activation_mb: Memory that one image of a batch takes in a float32 forward pass, roughly.
        streamline: A module that computes what ``latent`` does of a trunk in eval mode, faster on a CPU; None where
            nothing is to be gained.
    """

    name: str
    width: int
    transform: Transform
    build: Callable[[], nn.Module]
    head: str
    latent: Callable[[nn.Module, torch.Tensor], torch.Tensor]
    imagenet: Any
    ignored: tuple[str, ...] = ()
    activation_mb: float = 50.0
    streamline: Callable[[nn.Module], nn.Module] | None = None


def _call(trunk: nn.Module, images: torch.Tensor) -> torch.Tensor:
    output: torch.Tensor = trunk(images)
    return output


def _densenet_latent(trunk: nn.Module, images: torch.Tensor) -> torch.Tensor:
    # torchvision's forward puts a ReLU before the average; the authors' network does not (their LRs hold
    # negative values), and a ReLU would change every distance.
    # In float32 where autocast made the maps narrower; see pool_in_float32.
    maps = trunk.get_submodule("features")(images).float()
    return torch.flatten(nn.functional.adaptive_avg_pool2d(maps, 1), 1)


def _build_inception() -> nn.Module:
    # transform_input=True always: torchvision sets it only together with its own weights. The auxiliary
    # classifier serves training from ImageNet only and is not part of the LR.
    model: nn.Module = models.inception_v3(weights=None, transform_input=True, aux_logits=False, init_weights=True)
    return model


_STANDARD = Transform(resize=256, crop=224)

BACKBONES: dict[str, Backbone] = {
    "densenet201": Backbone(
        name="densenet201",
        width=1920,
        transform=_STANDARD,
        build=lambda: models.densenet201(weights=None),
        head="classifier",
        latent=_densenet_latent,
        imagenet=models.DenseNet201_Weights.IMAGENET1K_V1,
        activation_mb=90.0,
        streamline=StreamlinedDenseNet,
    ),
    "resnet18": Backbone(
        name="resnet18",
        width=512,
        transform=_STANDARD,
        build=lambda: models.resnet18(weights=None),
        head="fc",
        latent=_call,
        imagenet=models.ResNet18_Weights.IMAGENET1K_V1,
        activation_mb=25.0,
        streamline=fold_normalisation,
    ),
    "alexnet": Backbone(
        name="alexnet",
        width=4096,
        transform=_STANDARD,
        build=lambda: models.alexnet(weights=None),
        head="classifier.6",
        latent=_call,
        imagenet=models.AlexNet_Weights.IMAGENET1K_V1,
        activation_mb=8.0,
    ),
    "vgg16": Backbone(
        name="vgg16",
        width=4096,
        transform=_STANDARD,
        build=lambda: models.vgg16(weights=None),
        head="classifier.6",
        latent=_call,
        imagenet=models.VGG16_Weights.IMAGENET1K_V1,
        activation_mb=110.0,
    ),
    "inception_v3": Backbone(
        name="inception_v3",
        width=2048,
        transform=Transform(resize=342, crop=299),
        build=_build_inception,
        head="fc",
        latent=_call,
        imagenet=models.Inception_V3_Weights.IMAGENET1K_V1,
        ignored=("AuxLogits.",),
        activation_mb=60.0,
        streamline=fold_normalisation,
    ),
}


class Network(nn.Module):
    """A backbone, with or without a classifier on top of its LR.

    Args:
        backbone: Entry of :data:`BACKBONES`.
        classes: Number of vehicles that the head tells apart; None for no head.
        neck: Whether a batch normalisation stands between trunk and head, as in Luo et al., *Bag of Tricks and a
            Strong Baseline for Deep Person Re-identification*: the triplet loss sees what enters it, the
            classifier what leaves it.
    """

    def __init__(self, backbone: Backbone, *, classes: int | None = None, neck: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        self.trunk = backbone.build()
        parent, _, last = backbone.head.rpartition(".")
        setattr(self.trunk.get_submodule(parent), last, nn.Identity())
        self.neck = nn.BatchNorm1d(backbone.width) if neck else None
        # A bias would move the classes away from the origin, around which a neck lays them.
        self.head = None if classes is None else nn.Linear(backbone.width, classes, bias=not neck)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """What the trunk makes (B, D) of normalised images (B, 3, H, W): the LR before a neck, if there is one."""
        return self.backbone.latent(self.trunk, images)

    def latent(self, images: torch.Tensor) -> torch.Tensor:
        """LRs (B, D) of normalised images (B, 3, H, W)."""
        return self.finish(self.embed(images))

    def finish(self, embeddings: torch.Tensor) -> torch.Tensor:
        """LRs (B, D) of what :meth:`embed` gave."""
        if self.neck is None:
            return embeddings
        latent: torch.Tensor = self.neck(embeddings)
        return latent

    def streamlined(self) -> Callable[[torch.Tensor], torch.Tensor] | None:
        """What computes as :meth:`latent` does, to rounding, and faster on a CPU; None where nothing is to be gained.

        It is of the weights as they are now.
        """
        if self.backbone.streamline is None:
            return None
        with torch.no_grad():  # what it is made of would be kept for gradients
            embed = self.backbone.streamline(self.trunk)
        return lambda images: self.finish(embed(images))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class scores (B, classes) of normalised images (B, 3, H, W).

        Raises:
            ValueError: The network has no head.
        """
        if self.head is None:
            raise ValueError("this network has no classifier")
        scores: torch.Tensor = self.head(self.latent(images))
        return scores


def pool_in_float32(network: Network) -> None:
    """Let the last average, and the neck behind it, compute in float32 under autocast too; it costs nothing.

    A neck takes away what all LRs have in common: rounding before it, to the eight bits of bfloat16, would become a
    large part of what is left. With a trained ResNet18 that cost 0.9 points of mAP.
    """
    for module in network.trunk.modules():
        if isinstance(module, nn.AdaptiveAvgPool2d):
            module.register_forward_pre_hook(lambda _module, inputs: (inputs[0].float(),))


def build_random(backbone: Backbone, *, seed: int, classes: int | None = None, neck: bool = False) -> Network:
    """A network with random weights that depend on the seed alone; torch's global state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that seeds the GPUs' generators too, which nobody restores.
        torch.default_generator.manual_seed(seed)
        return Network(backbone, classes=classes, neck=neck)
