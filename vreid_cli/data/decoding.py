"""Image files to RGB, and the reasons why one cannot be used."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG

import numpy as np
from PIL import Image, UnidentifiedImageError

from vreid_cli.data.boxes import name_crop, pixels_of, share_within
from vreid_cli.runtime.objects import ObjectPath
from vreid_cli.types.images import Box

#: Endings that a folder is searched for; everything else in it is left alone.
IMAGE_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif"})

#: No image has more bytes; TIFF's own places end there. Videos have.
MAX_BYTES = 1 << 32

#: A crop longer than this many times its width is no vehicle; resizing its short side would fill the memory.
MAX_ASPECT_RATIO = 50

_DECODER_ERRORS = (
    *(OSError, SyntaxError, ValueError, IndexError, EOFError, struct.error, zlib.error),
    Image.DecompressionBombError,
)


class BadImageError(Exception):
    """An image that cannot be used; the text is the reason, in words for the user."""


def is_image(name: str) -> bool:
    """Whether the ending of a file's name or path is that of an image and the file is not hidden.

    Examples:
        >>> is_image("query/0001.JPG"), is_image("list.txt"), is_image(".hidden.jpg")
        (True, False, False)
    """
    stem, dot, ending = name.rpartition("/")[2].rpartition(".")
    return stem != "" and not stem.startswith(".") and f"{dot}{ending.lower()}" in IMAGE_ENDINGS


def decode_rgb(path: Path, *, max_pixels: int, box: Box | None = None) -> Image.Image:
    """Decode an image to RGB as the paper's code does: PIL, no JPEG draft mode, EXIF orientation ignored.

    Grey, palette, CMYK and RGBA images are converted; transparency is dropped.

    Args:
        path: The image file.
        max_pixels: A file with more pixels is refused, whatever part of it is wanted.
        box: The part of it to keep, rounded outward to pixels and clipped; None for all of it.

    Raises:
        BadImageError: The file is missing, empty, cut short, no image, too large or of an absurd shape,
            or more than half of the box lies outside it.

    Examples:
        >>> Image.new("L", (60, 40)).save("grey.png")
        >>> image = decode_rgb(Path("grey.png"), max_pixels=10_000, box=(10, 10, 20, 15))
        >>> image.mode, image.size
        ('RGB', (20, 15))
    """
    with _in_words(path):
        _check_file(path)
        with open_image(path) as image:
            return _to_rgb(cut_part(image, box, max_pixels=max_pixels))


def _check_file(path: Path) -> None:
    if isinstance(path, ObjectPath):
        return
    stat = path.stat()
    if not S_ISREG(stat.st_mode):
        raise BadImageError("is no regular file")  # to open a pipe would wait for whoever writes to it
    if stat.st_size > MAX_BYTES:
        raise BadImageError(f"its {stat.st_size:,} bytes are more than any image has")


def open_image(path: Path) -> Image.Image:
    """An image as PIL opens it: its size is known, its pixels are read later.

    Raises:
        OSError: It is not there, or no image.
    """
    return Image.open(path.open("rb") if isinstance(path, ObjectPath) else path)


def cut_part(image: Image.Image, box: Box | None, *, max_pixels: int) -> Image.Image:
    """The part of a frame that a box marks, or all of it.

    Args:
        image: The frame.
        box: Rounded outward to pixels and clipped; at least half of it must lie in the frame.
        max_pixels: A frame with more pixels is refused.

    Raises:
        BadImageError: The frame is empty or too large, more than half of the box lies outside it, or what it marks is
            of an absurd shape.

    Examples:
        >>> cut_part(Image.new("RGB", (60, 40)), (10.5, 10, 20, 55), max_pixels=10_000).size
        (21, 30)
    """
    width, height = image.size
    if width < 1 or height < 1:
        raise BadImageError(f"has no pixels ({width} x {height})")
    if width * height > max_pixels:
        raise BadImageError(f"{width} x {height} pixels are more than the limit of {max_pixels}")
    part = image
    if box is not None:
        pixels = pixels_of(box, image.size)
        if pixels is None or share_within(box, image.size) < 0.5:
            frame = f"outside the frame of {width} x {height} pixels"
            lies = "lies" if pixels is None else "lies by more than half"
            raise BadImageError(f"the box {name_crop('', box)} {lies} {frame}")
        part = image.crop(pixels)
    if max(part.size) > MAX_ASPECT_RATIO * min(part.size):
        shape = " x ".join(map(str, part.size))
        raise BadImageError(f"{shape}: one side is over {MAX_ASPECT_RATIO} times the other")
    return part


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """Turn what PIL and the system raise about a file into reasons for the user."""
    try:
        with warnings.catch_warnings():
            # The size is checked against our own limit; of what else PIL warns (damaged EXIF and the like) it either
            # reads past it or raises.
            warnings.simplefilter("ignore")
            yield
    except UnidentifiedImageError:
        empty = path.stat().st_size == 0
        why = "the file is empty" if empty else "not an image in a known format, or its header is damaged"
        raise BadImageError(why) from None
    except FileNotFoundError:
        raise BadImageError("the file is not there") from None
    except PermissionError:
        raise BadImageError("no permission to read the file") from None
    except _DECODER_ERRORS as error:
        raise BadImageError(f"cannot be decoded: {error}") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # PIL would clip 16-bit grey at 255; the high byte is the image.
        grey = (np.asarray(image, dtype=np.uint16) >> 8).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("I", "F"):
        raise BadImageError(f"pixels of type '{image.mode}' have no defined brightness; save it as 8-bit")
    return image.convert("RGB")
