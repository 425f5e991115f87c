"""Augmentation of a training image, by random numbers of its own.

torchvision's own random transforms use torch's global random state. Here the numbers come from a generator of each
image, so that an image is augmented in the same way in any process.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torchvision.transforms.v2 import functional as F  # noqa: N812 - the name that everyone knows

from vreid_cli.training.options import TrainingOptions

#: Width to height of a cut before it is enlarged; torchvision's own range would distort vehicles.
_RATIOS = (0.8, 1.25)
#: Erased rectangles: part of the image's area, and height to width (Zhong et al., arXiv 1708.04896).
_ERASED_AREA = (0.02, 0.3)
_ERASED_RATIOS = (0.3, 1 / 0.3)
_ATTEMPTS = 10


def augment(
    image: torch.Tensor, size: tuple[int, int], *, options: TrainingOptions, random: np.random.Generator
) -> torch.Tensor:
    """Cut out a part, mirror it, change its light, erase a rectangle, as far as the options say.

    Args:
        image: (3, H, W) uint8, at least as large as the result; it is not changed.
        size: Height and width of the result in pixels.
        options: How much may change.
        random: The only source of random numbers.

    Returns:
        (3, height, width) uint8.

    Examples:
        >>> image = torch.zeros(3, 40, 40, dtype=torch.uint8)
        >>> augment(image, (32, 32), options=TrainingOptions(flip=True), random=np.random.default_rng(0)).shape
        torch.Size([3, 32, 32])
    """
    changed = _cut(image, size, zoom=options.zoom, random=random)
    if options.flip and random.random() < 0.5:
        changed = F.horizontal_flip(changed)
    if options.jitter:
        for change in (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation):
            changed = change(changed, random.uniform(1 - options.jitter, 1 + options.jitter))
    if options.tint:
        gains = torch.from_numpy(random.uniform(1 - options.tint, 1 + options.tint, (3, 1, 1)).astype(np.float32))
        changed = (changed * gains).round_().clamp_(0, 255).to(torch.uint8)
    if options.erase and random.random() < options.erase:
        changed = _erase(changed, random)
    return changed.contiguous()


def _cut(image: torch.Tensor, size: tuple[int, int], *, zoom: float, random: np.random.Generator) -> torch.Tensor:
    height, width = image.shape[1:]
    if zoom == 1:
        top, left = random.integers(height - size[0] + 1), random.integers(width - size[1] + 1)
        return image[:, top : top + size[0], left : left + size[1]]
    area = height * width
    rows, columns = _sides(random, area=(zoom * area, area), ratios=(1 / _RATIOS[1], 1 / _RATIOS[0]))
    # A cut larger than the image becomes as large as the image.
    rows, columns = min(rows, height), min(columns, width)
    top, left = random.integers(height - rows + 1), random.integers(width - columns + 1)
    cut: torch.Tensor = F.resized_crop(image, int(top), int(left), rows, columns, list(size), antialias=True)
    return cut


def _erase(image: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Fill a rectangle with one colour; an image too small for every one that is tried stays as it is."""
    height, width = image.shape[1:]
    low, high = (part * (height * width) for part in _ERASED_AREA)
    for _ in range(_ATTEMPTS):
        rows, columns = _sides(random, area=(low, high), ratios=_ERASED_RATIOS)
        if rows < height and columns < width:
            top, left = random.integers(height - rows + 1), random.integers(width - columns + 1)
            colour = torch.from_numpy(random.integers(0, 256, (3, 1, 1), dtype=np.uint8))
            erased: torch.Tensor = F.erase(image, int(top), int(left), rows, columns, colour)
            return erased
    return image


def _sides(random: np.random.Generator, *, area: tuple[float, float], ratios: tuple[float, float]) -> tuple[int, int]:
    """Height and width of a rectangle of uniform random area, whose ratio is uniform in its logarithm."""
    size = random.uniform(*area)
    ratio = math.exp(random.uniform(math.log(ratios[0]), math.log(ratios[1])))
    return max(1, round(math.sqrt(size * ratio))), max(1, round(math.sqrt(size / ratio)))
