"""The input of the networks: resize the short side, crop the centre, normalise."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F  # noqa: N812 - the name that everyone knows

from vreid_cli.errors import WeightsError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Transform:
    """Bilinear resize (PIL's) of the short side to ``resize`` pixels, centre crop, mean and deviation.

    The long side is truncated as torchvision does. Source: DESIGN section 6, "Input".
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
    def from_json(cls, text: str) -> Transform:
        """Read back what :meth:`to_json` wrote.

        Raises:
            WeightsError: The text is not that of a transform.
        """
        try:
            values = json.loads(text)
            read = cls(int(values["resize"]), int(values["crop"]), _triple(values, "mean"), _triple(values, "std"))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise WeightsError(f"the checkpoint's transform is damaged: {error}") from None
        if not 1 <= read.crop <= read.resize or not all(std > 0 for std in read.std):
            raise WeightsError(f"the checkpoint's transform is none: {text}")
        return read

    def crop_uint8(self, image: Image.Image) -> torch.Tensor:
        """Resized and cropped pixels of an RGB image: (3, crop, crop) uint8.

        Bytes travel from the workers to the device; :meth:`normalise` finishes there, on floats.
        """
        resized = F.resize(image, [self.resize], interpolation=InterpolationMode.BILINEAR)
        pixels: torch.Tensor = F.pil_to_tensor(F.center_crop(resized, [self.crop]))
        return pixels

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) uint8 pixels to normalised float32 on the same device."""
        mean, std = _channels(self.mean, pixels.device), _channels(self.std, pixels.device)
        return pixels.to(torch.float32).div_(255).sub_(mean).div_(std)


@functools.lru_cache(maxsize=16)
def _channels(values: tuple[float, float, float], device: torch.device) -> torch.Tensor:
    """A value a channel, (1, 3, 1, 1) on the device. Kept: sending it to a GPU anew would wait for all its work."""
    with torch.inference_mode(mode=False):  # so that training may use the same one
        return torch.tensor(values, device=device).view(1, 3, 1, 1)


def _triple(values: Mapping[str, list[float]], key: str) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values[key])
    return first, second, third
