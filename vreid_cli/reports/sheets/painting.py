"""Drawing a contact sheet that is laid out: images, frames, marks and text.

Frames are told apart by colour, by lightness and by a drawn mark, so that nobody has to see colours to read the sheet.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from vreid_cli.data.boxes import Crop
from vreid_cli.data.decoding import BadImageError, cut_part, decode_rgb
from vreid_cli.data.video import read_frame
from vreid_cli.reports.sheets import layout as at
from vreid_cli.reports.sheets.layout import Area, Row, SheetLayout, Strip, Verdict, line_height, sample_images
from vreid_cli.reports.sheets.typography import load_font, shorten, text_width
from vreid_cli.reports.tables import probability_text
from vreid_cli.types.images import MAX_PIXELS

Colour = tuple[int, int, int]

PAPER: Colour = (255, 255, 255)
INK: Colour = (27, 34, 43)
FAINT_INK: Colour = (88, 98, 110)
RULE: Colour = (216, 221, 227)
CELL: Colour = (238, 241, 244)
QUERY: Colour = (31, 58, 95)
QUERY_TINT: Colour = (238, 243, 250)

LEGEND_HEIGHT = 38
#: The shape of the cells follows the median shape of at most this many images, within these bounds (width / height).
_SHAPE_SAMPLE = 64
_SHAPE_BOUNDS = (0.75, 1.5)
#: What is round is drawn this much larger and shrunk, since PIL does not smooth edges.
_SMOOTHING = 4


@dataclass(frozen=True)
class Look:
    """How a frame looks: its colour, the thickness of its line, and whether that is dashed."""

    colour: Colour
    thickness: int
    dashed: bool = False


#: Green is much lighter than red (CIE L* about 60 and 34), so that they differ without hue.
LOOKS = {
    Verdict.MATCH: Look((34, 164, 98), 5),
    Verdict.DIFFERENT: Look((165, 15, 21), 5),
    Verdict.UNLABELLED: Look((112, 121, 131), 3, dashed=True),
}
_QUERY_LOOK = Look(QUERY, 3)


def decode(image: Path | Crop) -> Image.Image:
    """An image, or the part of a frame that a crop names, in RGB.

    Raises:
        BadImageError: It cannot be read.
    """
    if not isinstance(image, Crop):
        return decode_rgb(image, max_pixels=MAX_PIXELS)
    if image.frame is not None:
        return cut_part(read_frame(image.path, image.frame), image.box, max_pixels=MAX_PIXELS)
    return decode_rgb(image.path, max_pixels=MAX_PIXELS, box=image.box)


def usual_shape(rows: Sequence[Row], max_images: int) -> float:
    """Median width / height of the first images: cars and motorcycles want cells of different shapes."""
    images = (image for row in rows for item in row for image in sample_images(item.images, max_images))
    shapes = []
    for image in islice(images, _SHAPE_SAMPLE):
        try:
            width, height = decode(image).size
        except BadImageError:
            continue  # it is named where it would have been drawn
        shapes.append(width / height)
    low, high = _SHAPE_BOUNDS
    return min(high, max(low, statistics.median(shapes))) if shapes else 1.0


def distance_text(distance: float, probability: float | None = None) -> str:
    """A distance as the sheet writes it, with its probability where that is known.

    Examples:
        >>> distance_text(0.35736), distance_text(46.111), distance_text(0.1834, 0.93), distance_text(math.inf)
        ('d 0.3574', 'd 46.11', '93% · d 0.18', '')
    """
    if not math.isfinite(distance):
        return ""
    if probability is not None:
        return f"{probability_text(probability)} · d {distance:.2f}"
    return f"d {distance:.4f}" if abs(distance) < 10 else f"d {distance:.2f}"


class Canvas:
    """A page, and the pieces that everything on it is made of.

    Attributes:
        image: The page, RGB.
        missing: Images that cannot be read, each once, with the reason.
    """

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), PAPER)
        self.missing: dict[Path | Crop, str] = {}
        self.pen = ImageDraw.Draw(self.image)

    def paint_lines(self, lines: Sequence[tuple[str, int]], *, top: int) -> None:
        """Lines of drawable text, each with its size of type, down from ``top``."""
        for text, size in lines:
            self.text((at.MARGIN, top), text, size=size, colour=INK if size == at.TITLE else FAINT_INK)
            top += line_height(size)

    def text(self, corner: tuple[int, int], text: str, *, size: int, colour: Colour, line: int | None = None) -> int:
        """Draw drawable text in the middle of a line that begins here; return the text's right end."""
        font = load_font(size)
        # Capital and descender stand for every text, so that neighbours share a baseline.
        box = font.getbbox("Ag")
        middle = (line or line_height(size)) / 2
        y = corner[1] + middle - (box[1] + box[3]) / 2
        self.pen.text((corner[0], round(y)), text, font=font, fill=colour)
        return corner[0] + text_width(text, size)

    def paint_image(self, image: Path | Crop, cell: Area) -> None:
        """An image in the middle of its cell, as large as fits; or its name, if it cannot be read."""
        try:
            decoded = decode(image)
        except BadImageError as error:
            self.missing.setdefault(image, str(error))
            self.placeholder(("missing:", image.name), cell)
            return
        left, top, right, bottom = cell
        self.pen.rectangle((left, top, right - 1, bottom - 1), fill=CELL)
        decoded = ImageOps.contain(decoded, (right - left, bottom - top), Image.Resampling.LANCZOS)
        self.image.paste(decoded, ((left + right - decoded.width) // 2, (top + bottom - decoded.height) // 2))

    def placeholder(self, lines: Sequence[str], cell: Area) -> None:
        """Lines of text where an image would be."""
        left, top, right, bottom = cell
        self.pen.rectangle((left + 1, top + 1, right - 2, bottom - 2), fill=CELL)
        self.frame(cell, Look(FAINT_INK, 1, dashed=True))
        y = (top + bottom - len(lines) * line_height(at.TINY)) // 2
        for line in lines:
            text = shorten(line, at.TINY, width=right - left - 12)
            self.text(((left + right - text_width(text, at.TINY)) // 2, y), text, size=at.TINY, colour=FAINT_INK)
            y += line_height(at.TINY)

    def frame(self, area: Area, look: Look) -> None:
        """A rounded frame along the inner edge of an area."""
        left, top, right, bottom = area
        self.image.paste(look.colour, area, _frame_mask((right - left, bottom - top), look))


class Painter(Canvas):
    """Paints the pieces of a contact sheet onto a page."""

    def __init__(self, layout: SheetLayout, height: int) -> None:
        super().__init__(layout.content_width + 2 * at.MARGIN, height)
        self._layout = layout

    def paint_row(self, strips: Sequence[Strip], label: str, *, alone: str) -> None:
        """A query, tagged with a label, and its nearest; where there are none, a text says so."""
        query, *nearest = strips
        self._query(query, label)
        for strip in nearest:
            self._gallery_item(strip)
        if not nearest:
            left, top, right, bottom = query.frame
            corner = (right + at.GAP, top) if self._layout.query_left else (left, bottom + at.GAP)
            self.text(corner, alone, size=at.TEXT, colour=FAINT_INK)

    def paint_legend(self, verdicts: Sequence[Verdict], *, top: int) -> None:
        """A rule, and a small frame with its mark for each verdict."""
        self.pen.line((at.MARGIN, top, self.image.width - at.MARGIN, top), fill=RULE, width=2)
        x, y = at.MARGIN, top + at.GAP
        for verdict in verdicts:
            self.frame((x, y, x + 56, y + LEGEND_HEIGHT), LOOKS[verdict])
            badge = badge_of(verdict)
            self.image.paste(badge, (x + (56 - at.BADGE) // 2, y + (LEGEND_HEIGHT - at.BADGE) // 2), badge)
            x = self.text((x + 68, y), verdict.value, size=at.TEXT, colour=INK, line=LEGEND_HEIGHT) + 2 * at.GAP

    def _query(self, strip: Strip, label: str) -> None:
        left, top, right, bottom = strip.frame
        self.pen.rounded_rectangle((left, top, right - 1, bottom - 1), 10, fill=QUERY_TINT)
        self.frame(strip.frame, _QUERY_LOOK)
        x, y, line = left + at.PADDING, top + at.PADDING, line_height(at.TEXT)
        tag_end = x + text_width(label, at.SMALL) + 14
        self.pen.rounded_rectangle((x, y + 1, tag_end, y + line - 2), 4, fill=QUERY)
        self.text((x + 7, y), label, size=at.SMALL, colour=PAPER, line=line)
        self._names(strip, x=tag_end + 10, right=right - at.PADDING)
        self._images(strip)

    def _gallery_item(self, strip: Strip) -> None:
        item = strip.item
        self.frame(strip.frame, LOOKS[item.verdict])
        x, y, right = strip.frame[0] + at.PADDING, strip.frame[1] + at.PADDING, strip.frame[2] - at.PADDING
        badge = badge_of(item.verdict)
        self.image.paste(badge, (x, y + (line_height(at.TEXT) - at.BADGE) // 2), badge)
        place = "" if math.isinf(item.distance) else f"#{item.rank}"
        after = self.text((x + at.BADGE + 8, y), place, size=at.TEXT, colour=INK) + 12
        distance, size = distance_text(item.distance, item.probability), at.TEXT
        if text_width(distance, size) > right - after:
            size = at.SMALL
        if item.probability is not None and text_width(distance, size) > right - after:
            distance = probability_text(item.probability)  # whole, where both do not fit
        distance = shorten(distance, size, width=right - after)
        right -= text_width(distance, size)
        self.text((right, y), distance, size=size, colour=INK, line=line_height(at.TEXT))
        self._names(strip, x=after, right=right - 12)
        self._images(strip)

    def _names(self, strip: Strip, *, x: int, right: int) -> None:
        """Name and caption; the name beside what stands on the first line already, or below it."""
        left, y, end = strip.frame[0] + at.PADDING, strip.frame[1] + at.PADDING, strip.frame[2] - at.PADDING
        size = at.TEXT
        if not self._layout.one_line:
            x, y, right, size = left, y + line_height(at.TEXT), end, at.SMALL
        name = shorten(strip.item.name, size, width=right - x)
        self.text((x, y), name, size=size, colour=INK, line=line_height(at.TEXT))
        caption = shorten(strip.item.caption, at.SMALL, width=end - left)
        self.text((left, y + line_height(at.TEXT)), caption, size=at.SMALL, colour=FAINT_INK)

    def _images(self, strip: Strip) -> None:
        """The images of a strip, and how many more there are."""
        for image, cell in zip(strip.images, strip.cells, strict=True):
            self.paint_image(image, cell)
        top = strip.frame[1] + at.PADDING + self._layout.text_height
        if not strip.images:
            left = strip.frame[0] + at.PADDING
            cell = (left, top, left + self._layout.cell_width, top + self._layout.cell_height)
            self.placeholder(("no", "images"), cell)
        more = len(strip.item.images) - len(strip.images)
        if more > 0:
            width = at.MORE_WIDTH - at.IMAGE_GAP
            text = shorten(f"+{more}", at.TEXT, width=width)
            x = strip.cells[-1][2] + at.IMAGE_GAP + (width - text_width(text, at.TEXT)) // 2
            self.text((x, top), text, size=at.TEXT, colour=FAINT_INK, line=self._layout.cell_height)


@lru_cache(maxsize=8)
def _frame_mask(size: tuple[int, int], look: Look) -> Image.Image:
    """Coverage of a rounded frame of this size, 8-bit grey."""
    scale, radius, dash = _SMOOTHING, 10, 12
    width, height = size
    mask = Image.new("L", (width * scale, height * scale), 0)
    pen = ImageDraw.Draw(mask)
    edges = (0, 0, width * scale - 1, height * scale - 1)
    pen.rounded_rectangle(edges, radius * scale, outline=255, width=look.thickness * scale)
    if look.dashed:
        thick = look.thickness * scale
        # Whole dashes from corner to corner: an odd number of equal steps, every second one a gap.
        for length, across in ((width, False), (height, True)):
            steps = max(3, (length - 2 * radius) // dash // 2 * 2 + 1)
            pitch = (length - 2 * radius) * scale / steps
            for step in range(0, steps, 2):
                start, end = radius * scale + step * pitch, radius * scale + (step + 1) * pitch
                for side in (0, (width if across else height) * scale - thick):
                    gap = (side, start, side + thick, end) if across else (start, side, end, side + thick)
                    pen.rectangle(gap, fill=0)
    return mask.resize(size, Image.Resampling.BOX)


@lru_cache(maxsize=8)
def badge_of(verdict: Verdict) -> Image.Image:
    """The mark of a verdict, RGBA: a check in a disc, a cross in a square, or an empty ring."""
    scale, size = _SMOOTHING, at.BADGE * _SMOOTHING
    colour, edges = LOOKS[verdict].colour, (scale, scale, size - scale - 1, size - scale - 1)
    badge = Image.new("RGBA", (size, size), (*colour, 0))
    pen = ImageDraw.Draw(badge)
    if verdict is Verdict.MATCH:
        pen.ellipse(edges, fill=colour)
        _stroke(pen, [(6.5, 12.5), (10.5, 16.5), (17.5, 8)])
    elif verdict is Verdict.DIFFERENT:
        pen.rounded_rectangle(edges, 4 * scale, fill=colour)
        _stroke(pen, [(7.5, 7.5), (16.5, 16.5)])
        _stroke(pen, [(16.5, 7.5), (7.5, 16.5)])
    else:
        pen.ellipse(edges, outline=colour, width=round(2.5 * scale))
    return badge.resize((at.BADGE, at.BADGE), Image.Resampling.BOX)


def _stroke(pen: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]]) -> None:
    """A white line with round ends through points given in pixels of the finished badge."""
    thick = 3 * _SMOOTHING
    scaled = [(x * _SMOOTHING, y * _SMOOTHING) for x, y in points]
    pen.line(scaled, fill=PAPER, width=thick)
    for x, y in scaled:
        pen.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=PAPER)
