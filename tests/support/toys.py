"""Networks of a few thousand weights and images that they learn from in moments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from vreid_cli.models.backbones import Backbone
from vreid_cli.models.transforms import Transform
from vreid_cli.training.images import ReadImages, TrainingSet
from vreid_cli.types.images import ImageRecord

SMALL = Transform(resize=36, crop=32)
CLASSES = 4


def _build_tiny() -> nn.Module:
    layers = [nn.Conv2d(3, 8, 5, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Dropout(0.2), nn.Linear(8, 5))


def _build_plain() -> nn.Module:
    layers = [nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8, 5))


def tiny(build: Callable[[], nn.Module], head: str) -> Backbone:
    """A network of a few thousand weights, so that a test takes moments."""
    return Backbone(
        name="tiny",
        dimension=8,
        transform=SMALL,
        build=build,
        head=head,
    )


#: With batch normalisation and dropout; and without anything that looks at more than one image.
TINY, PLAIN = tiny(_build_tiny, "6"), tiny(_build_plain, "4")
STRONG = {"optimizer": "adamw", "per_vehicle": 2, "triplet": 1.0, "neck": True, "label_smoothing": 0.1}


def toy(per_class: int = 8, *, side: int = 36, workers: int = 0, held_out: ReadImages | None = None) -> TrainingSet:
    """Noise, with red, green, blue or nothing raised by the class."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(CLASSES).repeat(per_class)
    pixels = torch.randint(0, 120, (len(labels), 3, side, side), generator=generator, dtype=torch.uint8)
    coloured = labels < 3
    pixels[torch.arange(len(labels))[coloured], labels[coloured]] += 120
    transform = SMALL if side == 36 else Transform(side, side)
    names = ("red", "green", "blue", "grey")
    return TrainingSet(pixels, labels.numpy(), names, transform, workers=workers, held_out=held_out)


def records(*vehicles: str | None, folder: Path = Path("none")) -> list[ImageRecord]:
    """An image of each vehicle, named by its number."""
    return [ImageRecord(f"{k}.png", folder / f"{k}.png", f"t{k}", vehicle) for k, vehicle in enumerate(vehicles)]
