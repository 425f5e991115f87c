"""One image of a data set, and the splits that images come in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Split = Literal["query", "gallery", "train"]
#: Pixels of an image beyond which it is refused: Pillow's own limit against decompression bombs.
MAX_PIXELS = 178_956_970
SPLITS: tuple[Split, ...] = get_args(Split)
#: A part of a frame: left, top, width, height in pixels.
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One crop on disk, with the labels that its data set gives it.

    Attributes:
        image_id: Stable relative path of the image (VeRi: the file name).
        path: Where the image lies now.
        track_id: The passage that it belongs to.
        vehicle_id: Identity, or None where unlabelled.
        camera_id: Camera, or None where unknown.
        frame: Frame number, or None where unknown.
        box: The part of the image that is the crop, or None where that is all of it.

    Examples:
        >>> one = ImageRecord("b.jpg", Path("images/b.jpg"), vehicle_id="0002", camera_id="c001")
        >>> other = ImageRecord("a.jpg", Path("images/a.jpg"), vehicle_id="0002", camera_id="c002")
        >>> [record.image_id for record in sorted([other, one], key=ImageRecord.sort_key)]
        ['b.jpg', 'a.jpg']
    """

    image_id: str
    path: Path
    track_id: str | None = None
    vehicle_id: str | None = None
    camera_id: str | None = None
    frame: int | None = None
    box: Box | None = None

    def sort_key(self) -> tuple[str, str, str, int, str]:
        """Gallery order: vehicle, camera, passage, frame, image_id; absent values first."""
        frame = -1 if self.frame is None else self.frame
        return (self.vehicle_id or "", self.camera_id or "", self.track_id or "", frame, self.image_id)
