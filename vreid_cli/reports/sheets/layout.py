"""Where everything lies on a contact sheet: sizes and places in pixels, nothing drawn.

Every item of a sheet is a strip: a frame with text above a row of images. The widest strip sets the width of a column.
Where three columns or more fit, the query stands left of its nearest, else above them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TypeVar

from vreid_cli.data.boxes import Crop
from vreid_cli.errors import UsageError
from vreid_cli.types.amounts import amount

MAX_WIDTH = 1800
MIN_WIDTH = 1200
MARGIN = 48
PADDING = 14
GAP = 20
SECTION_GAP = 40
IMAGE_GAP = 6
MORE_WIDTH = 52
BADGE = 24
#: Narrowest inside of a frame: rank and distance side by side, or the name of a VeRi track.
MIN_INSIDE = 168
#: A frame with less room inside shows the name on a line of its own.
WIDE_INSIDE = 400
#: Heights of the images; the largest that fits is taken.
CELL_HEIGHTS = (168, 152, 136, 120, 108, 96, 88, 80)
#: Strips of at most this many images stand side by side.
TWO_COLUMNS_UP_TO = 8

#: Sizes of type.
TITLE, TEXT, SMALL, TINY = 32, 19, 16, 13

Entry = TypeVar("Entry")
#: Left, top, right, bottom in pixels; right and bottom lie just outside.
Area = tuple[int, int, int, int]


class Verdict(Enum):
    """What a gallery item is to its query; the value is the legend's text."""

    MATCH = "same vehicle"
    DIFFERENT = "another vehicle"
    UNLABELLED = "no label"


@dataclass(frozen=True, kw_only=True)
class SheetItem:
    """A query, or a gallery item with its verdict, rank and distance.

    Attributes:
        name: The track or image.
        images: Its images in order.
        caption: A short second line, such as vehicle and camera; may be empty.
        verdict: What a gallery item is to its query.
        rank: Its place in the ranking, from 1; None for a query.
        distance: Its distance to the query; infinite where it stands for no match.
        probability: How probably it is the query's vehicle; None where no calibration says that.
    """

    name: str
    images: Sequence[Path | Crop]
    caption: str = ""
    verdict: Verdict = Verdict.UNLABELLED
    rank: int | None = None
    distance: float = math.nan
    probability: float | None = None


#: A query, then its nearest in the order in which they are shown.
Row = Sequence[SheetItem]


@dataclass(frozen=True)
class Strip:
    """Where an item lies on the sheet.

    Attributes:
        item: The item.
        frame: Outer edge of its frame.
        images: Those of its images for which there is room.
        cells: The area of each of ``images``; an image lies in the middle of its cell.
    """

    item: SheetItem
    frame: Area
    images: tuple[Path | Crop, ...]
    cells: tuple[Area, ...]


@dataclass(frozen=True)
class SheetLayout:
    """Sizes that hold for a whole sheet, in pixels.

    Attributes:
        columns: Strips of the nearest side by side.
        query_left: Whether the query stands left of its nearest, not above them.
        shown: Most images shown of one item.
        cell_width: Width of an image's cell.
        cell_height: Height of an image's cell.
        more: Whether "+N" needs room.
        captions: Whether frames have a line for the caption.
    """

    columns: int
    query_left: bool
    shown: int
    cell_width: int
    cell_height: int
    more: bool
    captions: bool

    @property
    def inside(self) -> int:
        """Width inside a frame's padding."""
        images = self.shown * (self.cell_width + IMAGE_GAP) - IMAGE_GAP
        return max(MIN_INSIDE, images + (MORE_WIDTH if self.more else 0))

    @property
    def one_line(self) -> bool:
        """Whether rank, name and distance share a line."""
        return self.inside >= WIDE_INSIDE

    @property
    def strip_width(self) -> int:
        """Width of a frame."""
        return self.inside + 2 * PADDING

    @property
    def text_height(self) -> int:
        """Height of the lines above the images."""
        lines = line_height(TEXT) * (1 if self.one_line else 2)
        return lines + (line_height(SMALL) if self.captions else 0) + PADDING // 2

    @property
    def strip_height(self) -> int:
        """Height of a frame."""
        return self.text_height + self.cell_height + 2 * PADDING

    @property
    def content_width(self) -> int:
        """Width between the margins."""
        columns = self.columns + (1 if self.query_left else 0)
        return max(MIN_WIDTH - 2 * MARGIN, columns * (self.strip_width + GAP) - GAP)


def line_height(size: int) -> int:
    """Height of a line of type of this size.

    Examples:
        >>> line_height(20)
        29
    """
    return round(size * 1.45)


def plan_layout(rows: Sequence[Row], *, shape: float, max_images: int) -> SheetLayout:
    """Choose the largest cells with which the sheet stays within its width.

    Args:
        rows: What to show.
        shape: Width / height of the cells.
        max_images: Most images to show of one item.

    Raises:
        UsageError: ``max_images`` is below 1.

    Examples:
        >>> row = [SheetItem(name=name, images=[Path(f"{name}.png")]) for name in ("query", "near")]
        >>> layout = plan_layout([row], shape=1.5, max_images=6)
        >>> layout.columns, layout.cell_width, layout.cell_height
        (1, 252, 168)
    """
    if max_images < 1:
        raise UsageError(f"{amount(max_images, 'image')} a track cannot be shown", hint="ask for 1 or more")
    items = [item for row in rows for item in row]
    most = max((len(item.images) for item in items), default=1)
    nearest = max((len(row) - 1 for row in rows), default=0)
    room = MAX_WIDTH - 2 * MARGIN
    smallest = round(CELL_HEIGHTS[-1] * shape)
    fitting = (room - 2 * PADDING - MORE_WIDTH + IMAGE_GAP) // (smallest + IMAGE_GAP)
    shown = max(1, min(most, max_images, fitting))
    captions = any(item.caption for item in items)
    wanted = 2 if shown <= TWO_COLUMNS_UP_TO and nearest > 1 else 1
    for cell_height in CELL_HEIGHTS:
        layout = SheetLayout(1, False, shown, round(cell_height * shape), cell_height, most > shown, captions)
        fit = (room + GAP) // (layout.strip_width + GAP)
        if fit >= wanted:
            break
    query_left = fit >= 3
    # As few lines as possible, but lines of like length.
    lines = max(1, math.ceil(nearest / (fit - 1 if query_left else fit)))
    return replace(layout, columns=max(1, math.ceil(nearest / lines)), query_left=query_left)


def sample_images(images: Sequence[Entry], count: int) -> tuple[Entry, ...]:
    """``count`` images evenly spread from the first to the last; all if there are no more.

    Examples:
        >>> [path.name for path in sample_images([Path(f"{n}.png") for n in range(10)], 4)]
        ['0.png', '3.png', '6.png', '9.png']
    """
    if len(images) <= count:
        return tuple(images)
    last = len(images) - 1
    return tuple(images[step * last // max(1, count - 1)] for step in range(count))


def place_rows(rows: Sequence[Row], layout: SheetLayout, *, top: int) -> tuple[list[list[Strip]], int]:
    """Place the rows one below the other.

    Args:
        rows: What to show.
        layout: The sizes.
        top: Where the first row begins.

    Returns:
        The strips of each row, and the first free pixel line below them.
    """
    placed = []
    for row in rows:
        strips = list(_place_row(row, layout, top=top))
        placed.append(strips)
        # A query above without nearest is followed by a line that says so.
        note = 0 if row[1:] or layout.query_left else GAP + line_height(TEXT)
        top = max(strip.frame[3] for strip in strips) + note + SECTION_GAP
    return placed, top


def _place_row(row: Row, layout: SheetLayout, *, top: int) -> Iterator[Strip]:
    step_x, step_y = layout.strip_width + GAP, layout.strip_height + GAP
    if layout.query_left:
        first_x, first_y, query_width = MARGIN + step_x, top, layout.strip_width
    else:
        first_x, first_y, query_width = MARGIN, top + step_y, layout.content_width
    yield _place_strip(row[0], layout, corner=(MARGIN, top), width=query_width)
    for position, item in enumerate(row[1:]):
        line, column = divmod(position, layout.columns)
        corner = (first_x + column * step_x, first_y + line * step_y)
        yield _place_strip(item, layout, corner=corner, width=layout.strip_width)


def _place_strip(item: SheetItem, layout: SheetLayout, *, corner: tuple[int, int], width: int) -> Strip:
    left, top = corner
    images = sample_images(item.images, layout.shown)
    # A lone image may use the whole of a frame that its text made wider.
    cell_width = layout.inside if layout.shown == 1 and not layout.more else layout.cell_width
    y = top + PADDING + layout.text_height
    starts = [left + PADDING + place * (cell_width + IMAGE_GAP) for place in range(len(images))]
    cells = tuple((x, y, x + cell_width, y + layout.cell_height) for x in starts)
    return Strip(item, (left, top, left + width, top + layout.strip_height), images, cells)
