"""A made checkpoint in the layout of the authors' DenseNet201, and its LR step by step."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision import models
from torchvision.transforms import functional as TF  # noqa: N812 - as torchvision's users write it

CLASSES = 576
#: Relative to the largest value; the same operations, but channels-last kernels.
LR_TOLERANCE = 1e-5
State = dict[str, torch.Tensor]


def blob_id(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def draw_image(path: Path, width: int = 300, height: int = 217) -> Path:
    rng = np.random.default_rng(5)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)
    return path


def lr_step_by_step(model: nn.Module, path: Path) -> torch.Tensor:
    """The LR by torchvision's own functions, one after the other, as the paper's Input and LR are defined."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    width, height = image.size
    short = min(width, height)
    size = (int(256 * width / short), int(256 * height / short))
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
    image = image.crop((left, top, left + 224, top + 224))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    pixels = TF.normalize(pixels, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.inference_mode():
        return model.features(pixels[None]).mean(dim=(2, 3))[0]


def build_published() -> nn.Module:
    """torchvision's DenseNet201 with 576 classes and weights that are nothing special, as the authors saved theirs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = models.densenet201(weights=None, num_classes=CLASSES)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
                module.momentum = None  # statistics of the one batch below: else the LR would hardly see the image
        with torch.no_grad():
            model.train()(torch.randn(3, 3, 128, 128))
    return model.eval()
