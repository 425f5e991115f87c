"""Small images for pages, each made once and kept in the cache folder."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from vreid_cli.data.boxes import Crop
from vreid_cli.data.decoding import BadImageError
from vreid_cli.reports.sheets.painting import decode
from vreid_cli.runtime.cache import cache_folder

#: Height and greatest width in pixels, and WebP's quality: about 2 kB for the crop of a vehicle.
HEIGHT, WIDTH, _QUALITY = 96, 160, 70
_FOLDER = "thumbnails"
#: Part of the name of a cached file: another number where files of an older vreid would look otherwise.
_VERSION = 1


@dataclass(eq=False)
class Thumbnails:
    """Collects the images of a page, then makes them all.

    Attributes:
        folder: Where they are kept; None for ``thumbnails`` of the cache folder.
        images: The images by their place in the page.
        missing: After :meth:`make`: images that cannot be read, with the reason.
    """

    folder: Path | None = None
    images: list[Path | Crop] = field(default_factory=list)
    missing: dict[Path | Crop, str] = field(default_factory=dict)
    _places: dict[Path | Crop, int] = field(default_factory=dict)

    def place_of(self, image: Path | Crop) -> int:
        """The place of an image in the page; the same image has one place."""
        place = self._places.setdefault(image, len(self.images))
        if place == len(self.images):
            self.images.append(image)
        return place

    def make(self, advance: Callable[[int], object] = lambda count: None) -> list[bytes | None]:
        """All of them as WebP, in the order of their places; None for what cannot be read.

        Args:
            advance: Called with numbers that add up to the number of images.
        """
        folder = self.folder or cache_folder() / _FOLDER
        # PIL decodes and encodes without holding Python's lock.
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            made: list[bytes | None] = []
            for image, found in zip(
                self.images, pool.map(lambda one: _thumbnail(one, folder), self.images), strict=True
            ):
                if isinstance(found, str):
                    self.missing[image] = found
                made.append(None if isinstance(found, str) else found)
                advance(1)
        return made


def data_address(webp: bytes) -> str:
    """A WebP image as an address that holds it.

    Examples:
        >>> data_address(b"RIFF")
        'data:image/webp;base64,UklGRg=='
    """
    return f"data:image/webp;base64,{base64.b64encode(webp).decode('ascii')}"


def encode_thumbnail(image: Image.Image) -> bytes:
    """An image as a WebP thumbnail.

    Examples:
        >>> small = Image.open(io.BytesIO(encode_thumbnail(Image.new("RGB", (400, 192)))))
        >>> small.format, small.size
        ('WEBP', (160, 77))
    """
    small = image.copy()
    small.thumbnail((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, format="WEBP", quality=_QUALITY, method=2)
    return buffer.getvalue()


def _thumbnail(image: Path | Crop, folder: Path) -> bytes | str:
    """The thumbnail, or why there is none."""
    kept = _kept_at(image, folder)
    if kept is not None:
        with suppress(OSError):
            webp = kept.read_bytes()
            # A file that a crash cut short says another length than it has.
            if webp[:4] == b"RIFF" and int.from_bytes(webp[4:8], "little") + 8 == len(webp):
                return webp
    try:
        webp = encode_thumbnail(decode(image))
    except BadImageError as error:
        return str(error)
    if kept is not None:
        with suppress(OSError):  # no room, or a cache of somebody else: the page does not need it
            kept.parent.mkdir(parents=True, exist_ok=True)
            temporary = kept.with_name(f".{kept.name}.{os.getpid()}.tmp")
            temporary.write_bytes(webp)
            temporary.replace(kept)
    return webp


def _kept_at(image: Path | Crop, folder: Path) -> Path | None:
    """Where the thumbnail of the file as it is now is kept; None where there is no such file."""
    path = image.path if isinstance(image, Crop) else image
    try:
        status = path.stat()
    except OSError:
        return None
    facts = (_VERSION, str(path.resolve()), str(image), status.st_mtime_ns, status.st_size, HEIGHT, WIDTH, _QUALITY)
    name = hashlib.sha256(repr(facts).encode("utf-8", "backslashreplace")).hexdigest()
    return folder / name[:2] / f"{name}.webp"
