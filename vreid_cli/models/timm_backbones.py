"""Any model of timm that gives pooled features, as a backbone."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

from vreid_cli.errors import UsageError, first_line
from vreid_cli.models.backbones import TIMM, Backbone
from vreid_cli.models.transforms import Interpolation, Transform
from vreid_cli.runtime.extras import require_extra

if TYPE_CHECKING:
    from torch import nn

#: A name below which no checkpoint has keys, for models whose configuration names no classifier.
_NO_HEAD = "vreid_no_head"


@functools.lru_cache(maxsize=8)
def find_timm(name: str) -> Backbone:
    """The backbone ``timm/NAME``: what enters timm's classifier, and the input that its ``pretrained_cfg`` gives.

    Args:
        name: ``timm/`` and timm's name, with or without the tag of its weights.

    Raises:
        MissingExtraError: timm is not installed.
        UsageError: It has no such model, or the model gives no pooled features.
    """
    require_extra("timm", ["timm"], needed_by=f"--arch {name}")
    import timm

    model = name.removeprefix(TIMM)
    if not timm.is_model(model):
        near = get_close_matches(model, timm.list_models(), n=5, cutoff=0.5)
        offer = f"did you mean {', '.join(TIMM + other for other in near)}? " if near else ""
        raise UsageError(f"timm has no model '{model}'", hint=f"{offer}timm.list_models('*net*') lists them in Python")
    try:
        config = timm.get_pretrained_cfg(model, allow_unregistered=False)
    except RuntimeError:  # what it says of an unknown tag
        config = None
    if config is None:
        base = model.partition(".")[0]
        tags = [known for known in timm.list_pretrained() if known.startswith(f"{base}.")]
        hint = f"it has {', '.join(tags)}" if tags else "leave out what follows the dot"
        raise UsageError(f"timm knows no weights '{model}'", hint=hint)
    transform = timm_transform(vars(config))
    heads = (config.classifier,) if isinstance(config.classifier, str) else tuple(config.classifier or (_NO_HEAD,))
    return Backbone(
        name,
        dimension=_dimension(model, transform),
        head=heads[0],
        transform=transform,
        build=functools.partial(_build, model),
        ignored=tuple(f"{head}." for head in heads[1:]),
        hub=config.hf_hub_id,
    )


def _build(model: str) -> nn.Module:
    import timm

    network: nn.Module = timm.create_model(model, pretrained=False, num_classes=0)
    return network


def _dimension(model: str, transform: Transform) -> int:
    """Length D of the LR, seen by a pass without numbers."""
    import torch

    try:
        with torch.device("meta"), torch.inference_mode():
            features = _build(model).eval()(torch.zeros(1, 3, *transform.size))
    except Exception as error:
        raise UsageError(f"timm's {model} cannot be used: {first_line(error)}", hint="choose another model") from error
    if not isinstance(features, torch.Tensor) or features.ndim != 2:
        raise UsageError(f"timm's {model} gives no pooled features", hint="choose a model for image classification")
    return int(features.shape[1])


def timm_transform(config: Mapping[str, Any]) -> Transform:
    """The input of timm's evaluation: the short side resized to the crop divided by ``crop_pct``, or squashed.

    Args:
        config: A ``pretrained_cfg``, as timm or the ``config.json`` of one of its repositories has it.

    Examples:
        >>> config = {"input_size": (3, 224, 224), "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center"}
        >>> timm_transform({**config, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}).resize
        248
    """
    _, height, width = config["input_size"]
    size: int | tuple[int, int] = height if height == width else (height, width)
    # timm's own choice where a configuration says "random".
    named = config["interpolation"] in get_args(Interpolation)
    interpolation: Interpolation = config["interpolation"] if named else "bicubic"
    # "border" pads instead of cropping, for images that fit as they are; a squash cuts nothing off either.
    keep = config.get("crop_mode", "center") == "center" and height == width
    resize = math.floor(height / config["crop_pct"]) if keep else None
    mean, std = tuple(config["mean"]), tuple(config["std"])
    return Transform(resize, size, mean, std, interpolation=interpolation)
