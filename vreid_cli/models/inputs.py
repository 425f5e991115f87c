"""What a network of another program expects of its input: presets, and what a user says about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from vreid_cli.errors import UsageError
from vreid_cli.models.transforms import IMAGENET_MEAN, IMAGENET_STD, ChannelOrder, Channels, Interpolation, Transform
from vreid_cli.types.options import Choice, Options, Positive, option

_Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_PIXELS = {"scale": 255, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


@dataclass(frozen=True)
class InputPreset:
    """The input of the networks that a program exports.

    Attributes:
        name: Value of ``model.input.preset``.
        values: Fields of :class:`InputOptions`.
        source: Where the numbers come from.
    """

    name: str
    values: Mapping[str, Any]
    source: str


#: None of them was compared with the program itself: their numbers were read in its code or documentation.
PRESETS: dict[str, InputPreset] = {
    preset.name: preset
    for preset in (
        InputPreset(
            "fast-reid",
            {"interpolation": "bicubic", **_PIXELS},
            "JDAI-CV/fast-reid, preprocess() in tools/deploy/trt_inference.py: RGB from 0 to 255, squashed by OpenCV's "
            "cubic interpolation; mean and deviation are in the exported graph. PIL's bicubic reduces without aliasing",
        ),
        InputPreset(
            "torchreid",
            {"interpolation": "bilinear", "scale": 1, "mean": IMAGENET_MEAN, "std": IMAGENET_STD},
            "KaiyangZhou/deep-person-reid, torchreid/utils/feature_extractor.py: RGB, squashed bilinearly, ImageNet's "
            "mean and deviation. BoxMOT prepares its exports alike, by OpenCV's interpolation",
        ),
        InputPreset(
            "openvino",
            {"interpolation": "bilinear", **_PIXELS},
            "openvinotoolkit/open_model_zoo, models/public/vehicle-reid-0001 (README.md and accuracy-check.yml): the "
            "original model takes RGB from 0 to 255, squashed by PIL's bilinear interpolation",
        ),
        InputPreset(
            "tao",
            {"interpolation": "bilinear", "scale": 1, "mean": IMAGENET_MEAN, "std": (0.226, 0.226, 0.226)},
            "NVIDIA TAO, ReIdentificationNet (RGB, pixel_mean 0.485 0.456 0.406, pixel_std 0.226) and DeepStream's "
            "tracker configuration (netScaleFactor 0.01735207 = 1 / (0.226 x 255)); DeepStream may keep the "
            "proportions (keepAspc), this squashes",
        ),
    )
}


class InputOptions(Options):
    """``[model.input]``: what a network expects, where its file does not say so; what is set here wins.

    Examples:
        >>> InputOptions(preset="torchreid", size=(256, 128)).apply(None).size
        (256, 128)
    """

    preset: Annotated[str, Choice(PRESETS)] | None = option(
        None, f"As the exports of {', '.join(PRESETS)} need it; the others change parts of it."
    )
    size: tuple[Positive, Positive] | None = option(
        None, "Height and width in pixels.", shown="that of the file, where it is fixed"
    )
    resize: Literal["squash"] | Positive | None = option(
        None, "squash: the whole image becomes the input; or pixels of the short side before a centre crop."
    )
    interpolation: Interpolation | None = option(None, "PIL's, of the resize.")
    channels: ChannelOrder | None = option(None, "Order of the channels.")
    scale: Literal[1, 255] | None = option(None, "What a white pixel is before mean and deviation.")
    mean: Channels | None = option(None, "Of each channel, in their order.")
    std: tuple[_Deviation, _Deviation, _Deviation] | None = option(None, "Deviation of each channel.")

    def apply(
        self, own: Transform | None, *, fixed: tuple[int, int] | None = None, name: str = "the network"
    ) -> Transform:
        """The input that results.

        Args:
            own: What the network says about itself; None where it says nothing.
            fixed: Height and width, where the network takes no others.
            name: What messages call the network.

        Raises:
            UsageError: What is needed is not known, or the size is not what the network takes.
        """
        values = {**(PRESETS[self.preset].values if self.preset else {}), **self.model_dump(exclude_none=True)}
        values.pop("preset", None)
        if (self.mean is None) != (self.std is None):
            raise UsageError("model.input: mean and std go together", hint="give both, or leave both out")
        if own is None and not {"scale", "mean"} & set(values):
            raise UsageError(
                f"{name} does not say what input it expects",
                hint=f"say whose export it is, --set model.input.preset={'|'.join(PRESETS)}; or write [model.input] "
                "with scale, or mean and std",
            )
        size = values.get("size") or fixed or (own.size if own else None)
        if size is None:
            raise UsageError(
                f"{name} takes images of any size, and does not say which it was trained on",
                hint="give height and width: --set model.input.size=[256,128]",
            )
        if fixed is not None and tuple(size) != fixed:
            raise UsageError(
                f"{name} takes images of {fixed[0]} x {fixed[1]} only, not {size[0]} x {size[1]}",
                hint="leave out model.input.size",
            )
        return _transform(values, own, size=(int(size[0]), int(size[1])))


def _transform(values: Mapping[str, Any], own: Transform | None, *, size: tuple[int, int]) -> Transform:
    own = own or Transform(None, size)
    mean, std = own.mean, own.std
    if {"scale", "mean"} & set(values):
        white = values.get("scale", 1)
        mean = tuple(value / white for value in values.get("mean", (0.0, 0.0, 0.0)))
        std = tuple(value / white for value in values.get("std", (1.0, 1.0, 1.0)))
    resize = values.get("resize", own.resize)
    transform = Transform(
        None if resize == "squash" else resize,
        size[0] if size[0] == size[1] else size,
        mean,
        std,
        interpolation=values.get("interpolation", own.interpolation),
        channels=values.get("channels", own.channels),
    )
    if transform.resize is not None and transform.resize < min(size):
        raise UsageError(
            f"model.input: the short side, {transform.resize}, is less than the input's {size[0]} x {size[1]}",
            hint='set resize to more, or to "squash"',
        )
    return transform
