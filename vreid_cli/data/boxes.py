"""Boxes that crop a frame, and their place in an image id: ``<path>#xywh=x,y,w,h`` (W3C media fragments).

Where the path is a video, the number of its frame comes before: ``<path>#frame=12&xywh=x,y,w,h``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from vreid_cli.runtime.objects import join
from vreid_cli.types.images import Box

_NUMBER = r"-?\d+(?:\.\d+)?"
_FRAGMENT = re.compile(rf"^(?P<path>.+)#(?:frame=(?P<frame>\d+)&)?xywh=(?P<box>{_NUMBER}(?:,{_NUMBER}){{3}})$")


@dataclass(frozen=True, slots=True)
class Crop:
    """An image that is a part of a frame.

    Attributes:
        path: The frame, or the video that holds it.
        box: The part: left, top, width, height in pixels of the frame.
        frame: The number of the frame in the video, from 1; None where the path is that of an image.
    """

    path: Path
    box: Box
    frame: int | None = None

    @property
    def name(self) -> str:
        """File name and box."""
        return name_crop(self.path.name, self.box, frame=self.frame)

    def __str__(self) -> str:
        return name_crop(str(self.path), self.box, frame=self.frame)


def name_crop(path: str, box: Box, *, frame: int | None = None) -> str:
    """``<path>#xywh=x,y,w,h``; whole numbers without a point, others as short as they can be read back.

    Args:
        path: The frame, or the video that holds it.
        box: The part of it.
        frame: Which frame of the video, from 1; None for an image.

    Examples:
        >>> name_crop("frames/1.jpg", (10.0, 2.5, 30.0, 40.0))
        'frames/1.jpg#xywh=10,2.5,30,40'
    """
    which = "" if frame is None else f"frame={frame}&"
    return f"{path}#{which}xywh={','.join(map(_plain, box))}"


def parse_crop(name: str) -> tuple[str, Box | None]:
    """The path in an image id, and its box; None where it names a whole image.

    Examples:
        >>> parse_crop("frames/1.jpg#xywh=10,2.5,30,40")
        ('frames/1.jpg', (10.0, 2.5, 30.0, 40.0))
        >>> parse_crop("crops/1.jpg")
        ('crops/1.jpg', None)
    """
    path, _, box = parse_place(name)
    return path, box


def parse_place(name: str) -> tuple[str, int | None, Box | None]:
    """The path in an image id, the frame of a video, and the box; None where it names a whole image.

    Examples:
        >>> parse_place("c001/vdo.mp4#frame=12&xywh=10,2.5,30,40")
        ('c001/vdo.mp4', 12, (10.0, 2.5, 30.0, 40.0))
    """
    match = _FRAGMENT.match(name)
    if match is None:
        return name, None, None
    x, y, width, height = (float(number) for number in match["box"].split(","))
    return match["path"], int(match["frame"]) if match["frame"] else None, (x, y, width, height)


def locate_image(root: Path, image_id: str) -> Path | Crop:
    """The image file, or the part of a frame, that an image id means.

    Examples:
        >>> locate_image(Path("data"), "1.jpg#xywh=0,0,5,5").box
        (0.0, 0.0, 5.0, 5.0)
    """
    path, frame, box = parse_place(image_id)
    place = join(root, path)
    return place if box is None else Crop(place, box, frame)


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


def share_within(box: Box, size: tuple[int, int]) -> float:
    """The share of a box's area that lies in a frame of this width and height.

    Examples:
        >>> share_within((-5, 2.5, 10, 4), (100, 80))
        0.5
    """
    x, y, width, height = box
    wide = max(0.0, min(size[0], x + width) - max(0.0, x))
    high = max(0.0, min(size[1], y + height) - max(0.0, y))
    return wide * high / (width * height)


def _plain(number: float) -> str:
    # Decimal knows the shortest digits that read back as the same float, and writes them without an exponent.
    return str(int(number)) if float(number).is_integer() else format(Decimal(repr(float(number))), "f")
