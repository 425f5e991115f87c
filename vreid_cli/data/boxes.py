"""Boxes that crop a frame, and their place in an image id: ``<path>#xywh=x,y,w,h`` (W3C media fragments)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from vreid_cli.types.images import Box

_NUMBER = r"-?\d+(?:\.\d+)?"
_FRAGMENT = re.compile(rf"^(?P<path>.+)#xywh=(?P<box>{_NUMBER}(?:,{_NUMBER}){{3}})$")


@dataclass(frozen=True, slots=True)
class Crop:
    """An image that is a part of a frame.

    Attributes:
        path: The frame.
        box: The part: left, top, width, height in pixels of the frame.
    """

    path: Path
    box: Box

    @property
    def name(self) -> str:
        """File name and box."""
        return name_crop(self.path.name, self.box)

    def __str__(self) -> str:
        return name_crop(str(self.path), self.box)


def name_crop(path: str, box: Box) -> str:
    """``<path>#xywh=x,y,w,h``; whole numbers without a point, others as short as they can be read back.

    Examples:
        >>> name_crop("frames/1.jpg", (10.0, 2.5, 30.0, 40.0))
        'frames/1.jpg#xywh=10,2.5,30,40'
    """
    return f"{path}#xywh={','.join(map(_plain, box))}"


def parse_crop(name: str) -> tuple[str, Box | None]:
    """The path in an image id, and its box; None where it names a whole image.

    Examples:
        >>> parse_crop("frames/1.jpg#xywh=10,2.5,30,40")
        ('frames/1.jpg', (10.0, 2.5, 30.0, 40.0))
        >>> parse_crop("crops/1.jpg")
        ('crops/1.jpg', None)
    """
    match = _FRAGMENT.match(name)
    if match is None:
        return name, None
    x, y, width, height = (float(number) for number in match["box"].split(","))
    return match["path"], (x, y, width, height)


def locate_image(root: Path, image_id: str) -> Path | Crop:
    """The image file, or the part of a frame, that an image id means.

    Examples:
        >>> locate_image(Path("data"), "1.jpg#xywh=0,0,5,5").box
        (0.0, 0.0, 5.0, 5.0)
    """
    path, box = parse_crop(image_id)
    return root / path if box is None else Crop(root / path, box)


def pixels_of(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The pixels that a box touches: left, top, right, bottom within a frame of this width and height.

    None where it touches none.

    Examples:
        >>> pixels_of((-5, 2.5, 15, 4), (100, 80))
        (0, 2, 10, 7)
    """
    x, y, width, height = box
    left, top = max(0, math.floor(x)), max(0, math.floor(y))
    right, bottom = min(size[0], math.ceil(x + width)), min(size[1], math.ceil(y + height))
    return (left, top, right, bottom) if left < right and top < bottom else None


def _plain(number: float) -> str:
    # Decimal knows the shortest digits that read back as the same float, and writes them without an exponent.
    return str(int(number)) if float(number).is_integer() else format(Decimal(repr(float(number))), "f")
