"""Small images in the terminal, by the library textual-image (the extra ``terminal``).

It asks the terminal what it can: kitty's protocol, sixel (which iTerm2 shows too), else coloured half blocks; where the
output is no terminal, letters of different darkness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from PIL import Image

from vreid_cli.data.decoding import BadImageError
from vreid_cli.reports.images import ReportSide
from vreid_cli.reports.sheets.layout import sample_images
from vreid_cli.reports.sheets.painting import decode
from vreid_cli.runtime.extras import require_extra
from vreid_cli.types.rankings import RankedItem

if TYPE_CHECKING:
    from rich.console import RenderableType

#: Lines of the terminal that a strip takes.
ROWS = 5
_HEIGHT, _GAP = 96, 6


def check_terminal_images() -> None:
    """Refuse to show images in the terminal without the library for it.

    Raises:
        UsageError: It is not installed.
    """
    require_extra("terminal", ["textual_image"], needed_by="--images")


def strips_of(
    lists: Mapping[str, Sequence[RankedItem]], sides: tuple[ReportSide, ReportSide], *, most: int
) -> tuple[dict[str, list[Image.Image | None]], list[str]]:
    """The images of each query and of its nearest, side by side.

    Args:
        lists: The nearest of each query.
        sides: Where their images are.
        most: Most images of a track; evenly spread ones of more.

    Returns:
        For each query its own strip, then those of its nearest; None where there is no image. And what cannot be read.
    """
    missing: dict[str, None] = {}

    def strip(side: ReportSide, name: str) -> Image.Image | None:
        found = []
        for image in sample_images(side.images(name), most):
            try:
                found.append(decode(image))
            except BadImageError as error:
                missing[f"{image}: {error}"] = None
        return join_images(found) if found else None

    strips = {
        query: [strip(sides[0], query), *(strip(sides[1], item.gallery_id) for item in items)]
        for query, items in lists.items()
    }
    return strips, list(missing)


def join_images(images: Sequence[Image.Image]) -> Image.Image:
    """Images of one height side by side.

    Examples:
        >>> join_images([Image.new("RGB", (60, 48)), Image.new("RGB", (96, 96))]).size
        (222, 96)
    """
    scaled = [image.resize((max(1, round(image.width * _HEIGHT / image.height)), _HEIGHT)) for image in images]
    joined = Image.new("RGB", (sum(one.width + _GAP for one in scaled) - _GAP, _HEIGHT))
    left = 0
    for one in scaled:
        joined.paste(one, (left, 0))
        left += one.width + _GAP
    return joined


def terminal_image(strip: Image.Image) -> RenderableType:
    """A strip as Rich prints it."""
    # Asks the terminal what it can when it is imported.
    from textual_image.renderable import Image as TerminalImage

    return TerminalImage(strip, width="auto", height=ROWS)
