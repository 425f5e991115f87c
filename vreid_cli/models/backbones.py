"""The table of backbones: each CNN and its latent representation (LR).

An LR is the tensor that enters the last Linear layer in eval mode, or what the entry's own ``latent`` computes.
A torchvision model is one entry here: ``Backbone("regnet_y_400mf", dimension=440, head="fc")``. The options, their
help and their validation follow from the table; ``timm/NAME`` is any model of timm. Importing it imports neither torch
nor timm.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vreid_cli.errors import UsageError, did_you_mean
from vreid_cli.models.transforms import Transform
from vreid_cli.types.lazy import load

if TYPE_CHECKING:
    import torch
    from torch import nn

_STANDARD = Transform(resize=256, crop=224)


@dataclass(frozen=True)
class Backbone:
    """One architecture.

    Attributes:
        name: Value of ``--arch``. Where ``build`` is None, torchvision's name for the model.
        dimension: Length D of the LR.
        head: Dotted name of the last Linear layer, which becomes an identity. A checkpoint's keys below it are the
            classifier.
        transform: Input that the network expects by default.
        build: Makes the model with random weights; None for torchvision's model of this name.
        latent: Computes the LRs (B, D) of images (B, 3, H, W) with a model whose head is an identity; None for
            the model's own forward pass.
        ignored: Prefixes of a checkpoint's keys that belong neither to the LR nor to the classifier.
        streamlined: ``"module:name"`` of a function from a trunk in eval mode to a module that computes the same
            LRs faster on a CPU; None where there is none.
        imagenet_url: Address of the ImageNet weights, whose file name ends in the first digits of its SHA-256;
            None for torchvision's.
        hub: Repository of the Hugging Face hub that holds the ImageNet weights instead; None for none.

    Examples:
        >>> BACKBONES["resnet18"].dimension
        512
        >>> toy = Backbone("resnet34", dimension=512, head="fc")
        >>> toy.transform.crop
        224
    """

    name: str
    dimension: int
    head: str
    transform: Transform = _STANDARD
    build: Callable[[], nn.Module] | None = None
    latent: Callable[[nn.Module, torch.Tensor], torch.Tensor] | None = None
    ignored: tuple[str, ...] = ()
    streamlined: str | None = None
    imagenet_url: str | None = None
    hub: str | None = None

    def compute(self, trunk: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """LRs (B, D) of normalised images (B, 3, H, W), with a model whose head is an identity."""
        latent: torch.Tensor = trunk(images) if self.latent is None else self.latent(trunk, images)
        return latent

    def find_imagenet(self) -> str:
        """Address of the ImageNet weights."""
        if self.imagenet_url is not None:
            return self.imagenet_url
        from torchvision import models

        return str(models.get_model_weights(self.name)["IMAGENET1K_V1"].url)


def _average_maps(trunk: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """DenseNet's LR without the ReLU that torchvision puts before the average (docs/definitions.md).

    The authors' network has none: their LRs hold negative values.
    """
    from torch.nn.functional import adaptive_avg_pool2d

    # In float32 where autocast made the maps narrower; see network.pool_in_float32.
    maps = trunk.get_submodule("features")(images).float()
    return adaptive_avg_pool2d(maps, 1).flatten(1)


def _inception_v3() -> nn.Module:
    from torchvision import models

    # torchvision sets transform_input only together with its own weights. The auxiliary classifier serves
    # training from ImageNet and is no part of the LR.
    model: nn.Module = models.inception_v3(weights=None, transform_input=True, aux_logits=False, init_weights=True)
    return model


_ALL = (
    Backbone(
        "densenet201",
        dimension=1920,
        head="classifier",
        latent=_average_maps,
        streamlined="vreid_cli.models.streamlined:StreamlinedDenseNet",
    ),
    Backbone(
        "resnet18",
        dimension=512,
        head="fc",
        streamlined="vreid_cli.models.streamlined:fold_normalisation",
    ),
    Backbone(
        "mobilenet_v2",
        dimension=1280,
        head="classifier.1",
        streamlined="vreid_cli.models.streamlined:fold_normalisation",
    ),
    Backbone("alexnet", dimension=4096, head="classifier.6"),
    Backbone("vgg16", dimension=4096, head="classifier.6"),
    Backbone(
        "inception_v3",
        dimension=2048,
        head="fc",
        transform=Transform(resize=342, crop=299),
        build=_inception_v3,
        ignored=("AuxLogits.",),
        streamlined="vreid_cli.models.streamlined:fold_normalisation",
    ),
)

#: The architectures by name.
BACKBONES: dict[str, Backbone] = {backbone.name: backbone for backbone in _ALL}

#: What ``--arch`` calls the models of timm; each is ``timm/`` and timm's name.
TIMM = "timm/"
#: What ``--arch`` calls a network that is an ONNX file: it holds its own architecture.
ONNX = "onnx"


def find_backbone(name: str) -> Backbone:
    """The architecture of this name: of the table, or of timm.

    Raises:
        UsageError: There is none.
        MissingExtraError: timm is not installed.

    Examples:
        >>> find_backbone("mobilenet_v2").dimension
        1280
    """
    if name.startswith(TIMM):
        found: Backbone = load("vreid_cli.models.timm_backbones:find_timm")(name)
        return found
    if name not in BACKBONES:
        raise UsageError(f"there is no architecture '{name}'", hint=did_you_mean(name, [*BACKBONES, f"{TIMM}NAME"]))
    return BACKBONES[name]


class ArchitectureNames(Collection[str]):
    """What ``--arch`` takes: the table's names, any of timm's, and that of ONNX files."""

    def __iter__(self) -> Iterator[str]:
        return iter([*BACKBONES, f"{TIMM}NAME", ONNX])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        # Whether timm has a model is known only with timm, when the network is made.
        return name in BACKBONES or name == ONNX or (isinstance(name, str) and name.startswith(TIMM))
