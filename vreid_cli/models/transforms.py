"""The input of the networks: resize the short side, crop the centre, normalise."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vreid_cli.errors import WeightsError

if TYPE_CHECKING:
    import torch
    from PIL import Image

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Transform:
    """Bilinear resize (PIL's) of the short side, centre crop, normalisation; docs/definitions.md, "Input".

    Attributes:
        resize: Pixels of the short side; the long side is truncated as torchvision does.
        crop: Side of the centre crop in pixels.
        mean: Of each channel, for values from 0 to 1.
        std: Standard deviation of each channel.

    Examples:
        >>> from PIL import Image
        >>> transform = Transform(resize=256, crop=224)
        >>> pixels = transform.crop_uint8(Image.new("RGB", (300, 200)))
        >>> pixels.shape, pixels.dtype
        (torch.Size([3, 224, 224]), torch.uint8)
        >>> transform.normalise(pixels[None]).dtype
        torch.float32
    """

    resize: int
    crop: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @property
    def identity(self) -> str:
        """A short text that differs whenever the transform does."""
        normal = (self.mean, self.std) == (IMAGENET_MEAN, IMAGENET_STD)
        scale = "imagenet" if normal else json.dumps([self.mean, self.std])
        return f"rgb-bilinear{self.resize}-crop{self.crop}-{scale}"

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
            (r_mean, g_mean, b_mean), (r_std, g_std, b_std) = (map(float, values[key]) for key in ("mean", "std"))
            read = cls(int(values["resize"]), int(values["crop"]), (r_mean, g_mean, b_mean), (r_std, g_std, b_std))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise WeightsError(f"the checkpoint's transform is damaged: {error}") from None
        if not 1 <= read.crop <= read.resize or not all(std > 0 for std in read.std):
            raise WeightsError(f"the checkpoint's transform cannot be used: {json.dumps(values)}")
        return read

    def crop_uint8(self, image: Image.Image) -> torch.Tensor:
        """Resized and cropped pixels (3, crop, crop) uint8 of an RGB image.

        Bytes travel from the workers to the device; :meth:`normalise` turns them into floats there.
        """
        from torchvision.transforms import InterpolationMode, functional

        resized = functional.resize(image, [self.resize], interpolation=InterpolationMode.BILINEAR)
        pixels: torch.Tensor = functional.pil_to_tensor(functional.center_crop(resized, [self.crop]))
        return pixels

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised float32 values of (B, 3, H, W) uint8 pixels, on the same device."""
        mean, std = _channels(self.mean, pixels.device), _channels(self.std, pixels.device)
        return pixels.float().div_(255).sub_(mean).div_(std)


@functools.lru_cache(maxsize=16)
def _channels(values: tuple[float, float, float], device: torch.device) -> torch.Tensor:
    """A value for each channel, (1, 3, 1, 1) on the device; cached, since a copy to a GPU waits for all its work."""
    import torch

    with torch.inference_mode(mode=False):  # training uses the same tensor
        return torch.tensor(values, device=device).view(1, 3, 1, 1)
