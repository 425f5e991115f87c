"""The input of the networks: resize, crop, channel order, normalisation."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from vreid_cli.errors import WeightsError

if TYPE_CHECKING:
    import torch
    from PIL import Image

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Interpolation = Literal["bilinear", "bicubic"]
ChannelOrder = Literal["rgb", "bgr"]
#: A value for each channel.
Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Transform:
    """Resize by PIL, centre crop, normalisation; docs/definitions.md, "Input".

    Attributes:
        resize: Pixels of the short side before the crop, the long side truncated as torchvision does; None to squash:
            the whole image is resized to the crop, whatever its proportions.
        crop: Side of the network's input in pixels, or its height and width.
        mean: Of each channel, for values from 0 to 1, in the order of ``channels``.
        std: Standard deviation of each channel, likewise.
        interpolation: PIL's, of the resize.
        channels: Their order in the network's input.

    Examples:
        >>> from PIL import Image
        >>> transform = Transform(resize=256, crop=224)
        >>> pixels = transform.crop_uint8(Image.new("RGB", (300, 200)))
        >>> pixels.shape, pixels.dtype
        (torch.Size([3, 224, 224]), torch.uint8)
        >>> transform.normalise(pixels[None]).dtype
        torch.float32
        >>> Transform(resize=None, crop=(256, 128)).crop_uint8(Image.new("RGB", (300, 200))).shape
        torch.Size([3, 256, 128])
    """

    resize: int | None
    crop: int | tuple[int, int]
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD
    interpolation: Interpolation = "bilinear"
    channels: ChannelOrder = "rgb"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        return (self.crop, self.crop) if isinstance(self.crop, int) else self.crop

    def whole(self) -> Transform:
        """The same without cutting off more than squares need: its centre crop is this transform's result."""
        if self.resize is None:
            return self
        height, width = self.size
        short = min(height, width)
        return replace(self, crop=(round(height * self.resize / short), round(width * self.resize / short)))

    @property
    def identity(self) -> str:
        """A short text that differs whenever the transform does."""
        normal = (self.mean, self.std) == (IMAGENET_MEAN, IMAGENET_STD)
        scale = "imagenet" if normal else json.dumps([self.mean, self.std])
        resize = "-squash" if self.resize is None else self.resize
        height, width = self.size
        crop = height if height == width else f"{height}x{width}"
        return f"{self.channels}-{self.interpolation}{resize}-crop{crop}-{scale}"

    def to_json(self) -> str:
        """The transform as JSON text, for a checkpoint's metadata."""
        return json.dumps(asdict(self))

    @classmethod
    def from_values(cls, values: Any) -> Transform:
        """Read the values of the JSON that :meth:`to_json` wrote.

        Raises:
            WeightsError: They describe no transform.
        """
        try:
            resize, crop = values["resize"], values["crop"]
            read = cls(
                resize=None if resize is None else int(resize),
                crop=(int(crop[0]), int(crop[1])) if isinstance(crop, list) else int(crop),
                mean=_three(values["mean"]),
                std=_three(values["std"]),
                interpolation=_one_of(Interpolation, values.get("interpolation", "bilinear")),
                channels=_one_of(ChannelOrder, values.get("channels", "rgb")),
            )
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
            raise WeightsError(f"the checkpoint's transform is damaged: {error}") from None
        fits = read.resize is None or read.resize >= min(read.size)
        if min(read.size) < 1 or not fits or not all(std > 0 for std in read.std):
            raise WeightsError(f"the checkpoint's transform cannot be used: {json.dumps(values)}")
        return read

    def crop_uint8(self, image: Image.Image) -> torch.Tensor:
        """Resized and cropped pixels (3, H, W) uint8 of an RGB image; RGB in any case.

        Bytes travel from the workers to the device; :meth:`normalise` turns them into floats there.
        """
        from torchvision.transforms import InterpolationMode, functional

        target = list(self.size) if self.resize is None else [self.resize]
        resized = functional.resize(image, target, interpolation=InterpolationMode(self.interpolation))
        pixels: torch.Tensor = functional.pil_to_tensor(functional.center_crop(resized, list(self.size)))
        return pixels

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """The network's input, float32 (B, 3, H, W), of RGB pixels (B, 3, H, W) uint8 on the same device."""
        mean, std = _channels(self.mean, pixels.device), _channels(self.std, pixels.device)
        ordered = pixels if self.channels == "rgb" else pixels.flip(1)
        return ordered.float().div_(255).sub_(mean).div_(std)


def _three(values: Any) -> Channels:
    first, second, third = map(float, values)
    return first, second, third


def _one_of(allowed: Any, value: object) -> Any:
    if value not in get_args(allowed):
        raise ValueError(f"{value!r} is none of {', '.join(get_args(allowed))}")
    return value


@functools.lru_cache(maxsize=16)
def _channels(values: Channels, device: torch.device) -> torch.Tensor:
    """A value for each channel, (1, 3, 1, 1) on the device; cached, since a copy to a GPU waits for all its work."""
    import torch

    with torch.inference_mode(mode=False):  # training uses the same tensor
        return torch.tensor(values, device=device).view(1, 3, 1, 1)
