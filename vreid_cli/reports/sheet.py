"""Contact sheets: each query's images and those of its nearest gallery items, framed by what they are.

The sheet is a grid. The widest strip of images settles the width of a column; where three columns or more
fit, the query stands left of its nearest, else above them. Frames are told apart by colour, by lightness and by
a drawn mark, so that nobody has to see colours to read the sheet.
"""

from __future__ import annotations

import math
import statistics
import unicodedata
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from enum import Enum
from functools import lru_cache
from itertools import islice
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from vreid_cli.data.boxes import Crop
from vreid_cli.data.decoding import BadImageError, decode_rgb
from vreid_cli.errors import UsageError
from vreid_cli.runtime.files import atomic_path

#: PIL's own limit against decompression bombs: a larger image is refused, read or drawn.
MAX_PIXELS = 178_956_970

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
#: Heights that an image may be drawn at; the largest that fits is taken.
CELL_HEIGHTS = (168, 152, 136, 120, 108, 96, 88, 80)
#: Up to so many images a strip, two strips shall fit side by side.
TWO_COLUMNS_UP_TO = 8
#: The shape of the cells follows the median shape of so many images, within these bounds (width / height).
SHAPE_SAMPLE = 64
SHAPE_BOUNDS = (0.75, 1.5)
#: What is round is drawn this much larger and shrunk, since PIL does not smooth edges.
SMOOTHING = 4

TITLE, TEXT, SMALL, TINY = 32, 19, 16, 13

Colour = tuple[int, int, int]
#: Left, top, right, bottom in pixels; right and bottom lie just outside.
Box = tuple[int, int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

PAPER: Colour = (255, 255, 255)
INK: Colour = (27, 34, 43)
FAINT_INK: Colour = (88, 98, 110)
RULE: Colour = (216, 221, 227)
CELL: Colour = (238, 241, 244)
QUERY: Colour = (31, 58, 95)
QUERY_TINT: Colour = (238, 243, 250)

#: Characters that the built-in font may lack and that people write all the same.
_STAND_INS = {
    **{"…": "...", "–": "-", "—": "-", "×": "x", "·": "|", "’": "'", "‘": "'", "“": '"', "”": '"'},
    **{"ß": "ss", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D"},
}


class Verdict(Enum):
    """What a gallery item is to its query; the value is the legend's text."""

    MATCH = "same vehicle"
    DIFFERENT = "another vehicle"
    EXCLUDED = "excluded, not counted"
    UNLABELLED = "no label"


@dataclass(frozen=True)
class SheetItem:
    """A query or a gallery item as it is to be drawn.

    Attributes:
        name: The track or image; shortened in the middle where it is too long.
        images: Its images in order; where there is no room for all, evenly spread ones are drawn.
        caption: A short second line, as the vehicle and camera; may be empty.
        verdict: What it is to its query; not looked at for a query.
        rank: 1-based place in the ranking; None where it has none.
        distance: Distance to the query, smaller is nearer; None where unknown.
    """

    name: str
    images: Sequence[Path | Crop]
    _: KW_ONLY
    caption: str = ""
    verdict: Verdict = Verdict.UNLABELLED
    rank: int | None = None
    distance: float | None = None


@dataclass(frozen=True)
class SheetRow:
    """A query and its nearest gallery items, drawn in the order of their rank, unranked ones last."""

    query: SheetItem
    nearest: Sequence[SheetItem]


@dataclass(frozen=True)
class DrawnStrip:
    """Where an item was drawn.

    Attributes:
        item: The item.
        frame: Outer edge of its frame.
        paths: The images that were drawn or stood in for.
        cells: The area of each of ``paths``; an image lies in the middle of its cell.
    """

    item: SheetItem
    frame: Box
    paths: tuple[Path | Crop, ...]
    cells: tuple[Box, ...]


@dataclass(frozen=True)
class SheetResult:
    """A drawn sheet.

    Attributes:
        image: The sheet, RGB.
        missing: Images that could not be read, each once, with the reason.
        strips: What was drawn where: each query, followed by its nearest.
    """

    image: Image.Image
    missing: tuple[tuple[Path | Crop, str], ...]
    strips: tuple[DrawnStrip, ...]


def draw_sheet(rows: Sequence[SheetRow], *, title: str, subtitle: str, max_images: int) -> SheetResult:
    """Draw the queries, one below the other, each with its nearest gallery items in rank order.

    Args:
        rows: The queries with what was found.
        title: What the sheet shows: data set, task, metric.
        subtitle: The rules that were counted by, and notes; line breaks are kept.
        max_images: Most images to draw of one item; "+N" tells of the others. Fewer where the sheet would
            become wider than 1800 pixels.

    Raises:
        UsageError: ``max_images`` is below 1, or the sheet would be larger than PIL agrees to open.
    """
    if max_images < 1:
        raise UsageError(f"{max_images} images a track cannot be drawn", hint="ask for 1 or more")
    grid = _plan_grid(rows, max_images)
    head = _head_lines(title, subtitle, width=grid.content_width)
    top = MARGIN + sum(_line_height(size) for _, size in head) + GAP
    sections, bottom = _place_rows(rows, grid, top=top)
    legend = _Legend(rows, grid)
    height = bottom + legend.height + MARGIN
    _check_size(grid.width, height)
    painter = _Painter(Image.new("RGB", (grid.width, height), PAPER), grid)
    painter.paint_head(head)
    for number, strips in enumerate(sections, start=1):
        painter.paint_section(strips, f"query {number} of {len(sections)}")
    painter.paint_legend(legend, bottom)
    drawn = tuple(strip for strips in sections for strip in strips)
    return SheetResult(image=painter.image, missing=tuple(painter.missing.items()), strips=drawn)


def save_sheet(image: Image.Image, path: Path) -> None:
    """Write a sheet as PNG, whole or not at all.

    Raises:
        UsageError: The file's ending is not ``.png``.
        StoreError: The file cannot be written.
    """
    if path.suffix.lower() != ".png":
        named = f"not as '{path.suffix}'" if path.suffix else "and this name has no ending"
        raise UsageError(
            f"a contact sheet is written as .png, {named}",
            hint=f"write to {path.with_suffix('.png')}",
            file=path,
        )
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")


# --- where everything lies --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Grid:
    """Sizes that hold for the whole sheet, in pixels.

    Attributes:
        columns: Strips of the nearest side by side.
        query_left: Whether the query stands left of its nearest, not above them.
        shown: Most images drawn of one item.
        cell_width: Width that each image has.
        cell_height: Height that each image has.
        more: Whether room is kept for "+N".
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
        return max(MIN_INSIDE, _images_width(self.shown, self.cell_width, more=self.more))

    @property
    def wide(self) -> bool:
        """Whether rank, name and distance share a line."""
        return self.inside >= WIDE_INSIDE

    @property
    def strip_width(self) -> int:
        """Width of a frame."""
        return self.inside + 2 * PADDING

    @property
    def text_height(self) -> int:
        """Height of the lines above the images."""
        lines = _line_height(TEXT) * (1 if self.wide else 2)
        return lines + (_line_height(SMALL) if self.captions else 0) + PADDING // 2

    @property
    def strip_height(self) -> int:
        """Height of a frame."""
        return self.text_height + self.cell_height + 2 * PADDING

    @property
    def content_width(self) -> int:
        """Width between the margins."""
        columns = self.columns + (1 if self.query_left else 0)
        return max(MIN_WIDTH - 2 * MARGIN, columns * (self.strip_width + GAP) - GAP)

    @property
    def width(self) -> int:
        """Width of the sheet."""
        return self.content_width + 2 * MARGIN


def _images_width(count: int, cell_width: int, *, more: bool) -> int:
    return count * (cell_width + IMAGE_GAP) - IMAGE_GAP + (MORE_WIDTH if more else 0)


def _plan_grid(rows: Sequence[SheetRow], max_images: int) -> _Grid:
    """The largest cells with which the sheet stays within its width."""
    items = [item for row in rows for item in (row.query, *row.nearest)]
    most = max((len(item.images) for item in items), default=1)
    nearest = max((len(row.nearest) for row in rows), default=0)
    shape = _usual_shape(items, max_images)
    room = MAX_WIDTH - 2 * MARGIN
    inside = room - 2 * PADDING
    smallest = round(CELL_HEIGHTS[-1] * shape)
    fitting = (inside - MORE_WIDTH + IMAGE_GAP) // (smallest + IMAGE_GAP)
    shown = max(1, min(most, max_images, fitting))
    captions = any(item.caption or item.verdict is Verdict.EXCLUDED for item in items)
    wanted = 2 if shown <= TWO_COLUMNS_UP_TO and nearest > 1 else 1
    for cell_height in CELL_HEIGHTS:
        grid = _Grid(1, False, shown, round(cell_height * shape), cell_height, most > shown, captions)
        fit = (room + GAP) // (grid.strip_width + GAP)
        if fit >= wanted:
            break
    query_left = fit >= 3
    return replace(grid, columns=_even_columns(nearest, fit - 1 if query_left else fit), query_left=query_left)


def _even_columns(count: int, most: int) -> int:
    """Columns for so many strips in as few lines as ``most`` columns would need, but lines of like length."""
    lines = math.ceil(count / most)
    return math.ceil(count / lines) if lines else 1


def _usual_shape(items: Sequence[SheetItem], max_images: int) -> float:
    """Median width / height of the first images: cars and motorcycles want cells of different shapes."""
    images = (path for item in items for path in _spread(item.images, max_images))
    shapes = []
    for path in islice(images, SHAPE_SAMPLE):
        try:
            width, height = _decode(path).size
        except BadImageError:
            continue  # it is named where it would have been drawn
        shapes.append(width / height)
    low, high = SHAPE_BOUNDS
    return min(high, max(low, statistics.median(shapes))) if shapes else 1.0


def _decode(image: Path | Crop) -> Image.Image:
    if isinstance(image, Crop):
        return decode_rgb(image.path, max_pixels=MAX_PIXELS, box=image.box)
    return decode_rgb(image, max_pixels=MAX_PIXELS)


def _spread(images: Sequence[Path | Crop], count: int) -> tuple[Path | Crop, ...]:
    """``count`` images evenly spread from the first to the last; all if there are no more."""
    if len(images) <= count:
        return tuple(images)
    if count == 1:
        return (images[0],)
    last = len(images) - 1
    return tuple(images[step * last // (count - 1)] for step in range(count))


def _by_rank(items: Sequence[SheetItem]) -> list[SheetItem]:
    return sorted(items, key=lambda item: math.inf if item.rank is None else item.rank)


def _place_rows(rows: Sequence[SheetRow], grid: _Grid, *, top: int) -> tuple[list[list[DrawnStrip]], int]:
    """The strips of each query with the query first, and the bottom of the last, a gap included."""
    sections = []
    for row in rows:
        strips = _place_row(row, grid, top=top)
        sections.append(strips)
        lowest = max(strip.frame[3] for strip in strips)
        # A query above without nearest is followed by a line that says so.
        note = 0 if row.nearest or grid.query_left else GAP + _line_height(TEXT)
        top = lowest + note + SECTION_GAP
    return sections, top


def _place_row(row: SheetRow, grid: _Grid, *, top: int) -> list[DrawnStrip]:
    step_x, step_y = grid.strip_width + GAP, grid.strip_height + GAP
    if grid.query_left:
        first_x, first_y, query_width = MARGIN + step_x, top, grid.strip_width
    else:
        first_x, first_y, query_width = MARGIN, top + step_y, grid.content_width
    strips = [_place_strip(row.query, grid, corner=(MARGIN, top), width=query_width)]
    for position, item in enumerate(_by_rank(row.nearest)):
        line, column = divmod(position, grid.columns)
        corner = (first_x + column * step_x, first_y + line * step_y)
        strips.append(_place_strip(item, grid, corner=corner, width=grid.strip_width))
    return strips


def _place_strip(item: SheetItem, grid: _Grid, *, corner: tuple[int, int], width: int) -> DrawnStrip:
    left, top = corner
    frame = (left, top, left + width, top + grid.strip_height)
    paths = _spread(item.images, grid.shown)
    # A lone image may use the whole of a frame that its text made wider.
    cell_width = grid.inside if grid.shown == 1 and not grid.more else grid.cell_width
    y = top + PADDING + grid.text_height
    starts = [left + PADDING + place * (cell_width + IMAGE_GAP) for place in range(len(paths))]
    cells = tuple((x, y, x + cell_width, y + grid.cell_height) for x in starts)
    return DrawnStrip(item=item, frame=frame, paths=paths, cells=cells)


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UsageError(
            f"the sheet would be {width} x {height} pixels, too large to open",
            hint="show fewer queries, or fewer of the nearest of each",
        )


# --- text -------------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _font(size: int) -> Font:
    """PIL's built-in font; where PIL was built without FreeType, its bitmap font of fixed size."""
    try:
        return ImageFont.load_default(size=size)
    except ImportError:
        return ImageFont.load_default()


def _line_height(size: int) -> int:
    return round(size * 1.45)


def _text_width(text: str, size: int) -> int:
    return math.ceil(_font(size).getlength(text))


@lru_cache(maxsize=4096)
def _has_glyph(character: str) -> bool:
    """Whether the built-in font can draw the character, rather than a box in its stead."""
    if character.isascii():
        return character.isprintable()
    if not character.isprintable() or unicodedata.combining(character):
        return False
    font = _font(TEXT)
    if not isinstance(font, ImageFont.FreeTypeFont):
        return False
    # The highest code point is no character, so it gives the box.
    return bytes(font.getmask(character)) != bytes(font.getmask("\U0010ffff"))


def _drawable(text: str) -> str:
    """The text in characters that the font has: without accents, and as a last resort escaped as Python does."""
    return "".join(character if _has_glyph(character) else _stand_in(character) for character in text)


def _stand_in(character: str) -> str:
    if character in _STAND_INS:
        return _STAND_INS[character]
    if character.isspace():
        return " "
    if unicodedata.combining(character):
        return ""
    plain = "".join(part for part in unicodedata.normalize("NFKD", character) if _has_glyph(part))
    return plain or character.encode("unicode_escape").decode("ascii")


def _shorten(text: str, size: int, *, width: int) -> str:
    """Drawable text of at most this width; what is too much goes from the middle."""
    text = _drawable(text)
    if _text_width(text, size) <= width:
        return text
    dots = _drawable("…")
    low, high, best = 0, len(text), ""
    while low <= high:
        kept = (low + high) // 2
        tail = kept // 2
        candidate = text[: kept - tail].rstrip() + dots + text[len(text) - tail :].lstrip()
        if _text_width(candidate, size) <= width:
            low, best = kept + 1, candidate
        else:
            high = kept - 1
    return best


def _wrap(text: str, size: int, *, width: int) -> list[str]:
    """Drawable lines of at most this width, broken at blanks and where the text breaks."""
    lines = []
    for paragraph in text.splitlines():
        line = ""
        for word in _drawable(paragraph).split():
            longer = f"{line} {word}" if line else word
            if line and _text_width(longer, size) > width:
                lines.append(line)
                longer = word
            line = _shorten(longer, size, width=width)
        lines.append(line)
    return lines


def _head_lines(title: str, subtitle: str, *, width: int) -> list[tuple[str, int]]:
    """The lines above the sheet, each with its size."""
    head = [(line, TITLE) for line in _wrap(title, TITLE, width=width)]
    return head + [(line, SMALL) for line in _wrap(subtitle, SMALL, width=width)]


def _distance_text(distance: float | None) -> str:
    if distance is None or math.isnan(distance):
        return ""
    return f"d {distance:.4f}" if abs(distance) < 10 else f"d {distance:.2f}"


# --- frames and marks -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Look:
    """How a frame is drawn: its colour, the thickness of its line, and whether that is dashed."""

    colour: Colour
    thickness: int
    dashed: bool = False


#: Green is much lighter than red (CIE L* about 60 and 34), so that they differ without hue.
LOOKS = {
    Verdict.MATCH: _Look((34, 164, 98), 5),
    Verdict.DIFFERENT: _Look((165, 15, 21), 5),
    Verdict.EXCLUDED: _Look((160, 168, 176), 3),
    Verdict.UNLABELLED: _Look((112, 121, 131), 3, dashed=True),
}
_QUERY_LOOK = _Look(QUERY, 3)


@lru_cache(maxsize=8)
def _frame_mask(size: tuple[int, int], look: _Look) -> Image.Image:
    """Coverage of a rounded frame of this size, 8-bit grey."""
    scale, radius, dash = SMOOTHING, 10, 12
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
                    box = (side, start, side + thick, end) if across else (start, side, end, side + thick)
                    pen.rectangle(box, fill=0)
    return mask.resize(size, Image.Resampling.BOX)


@lru_cache(maxsize=8)
def _badge(verdict: Verdict) -> Image.Image:
    """The mark of a verdict, RGBA: a check in a disc, a cross in a square, a barred ring or an empty one."""
    scale = SMOOTHING
    size = BADGE * scale
    badge = Image.new("RGBA", (size, size), (*LOOKS[verdict].colour, 0))
    pen = ImageDraw.Draw(badge)
    colour, edges = LOOKS[verdict].colour, (scale, scale, size - scale - 1, size - scale - 1)
    if verdict is Verdict.MATCH:
        pen.ellipse(edges, fill=colour)
        _stroke(pen, [(6.5, 12.5), (10.5, 16.5), (17.5, 8)], PAPER)
    elif verdict is Verdict.DIFFERENT:
        pen.rounded_rectangle(edges, 4 * scale, fill=colour)
        _stroke(pen, [(7.5, 7.5), (16.5, 16.5)], PAPER)
        _stroke(pen, [(16.5, 7.5), (7.5, 16.5)], PAPER)
    else:
        pen.ellipse(edges, outline=colour, width=round(2.5 * scale))
        if verdict is Verdict.EXCLUDED:
            _stroke(pen, [(6, 18), (18, 6)], colour)
    return badge.resize((BADGE, BADGE), Image.Resampling.BOX)


def _stroke(pen: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], colour: Colour) -> None:
    """A line with round ends through points given in pixels of the finished badge."""
    thick = 3 * SMOOTHING
    scaled = [(x * SMOOTHING, y * SMOOTHING) for x, y in points]
    pen.line(scaled, fill=colour, width=thick)
    for x, y in scaled:
        pen.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=colour)


# --- drawing ----------------------------------------------------------------------------------------------


class _Legend:
    """What the sheet's marks mean: only those that it holds, in lines that fit its width."""

    def __init__(self, rows: Sequence[SheetRow], grid: _Grid) -> None:
        nearest = [item for row in rows for item in row.nearest]
        self.verdicts = [verdict for verdict in Verdict if any(item.verdict is verdict for item in nearest)]
        notes = []
        if any(item.rank is not None for item in nearest):
            notes.append("#1: rank")
        if any(_distance_text(item.distance) for item in nearest):
            notes.append("d: distance to the query, smaller is nearer")
        if grid.more:
            notes.append("+N: N more images, not drawn")
        self.notes = _wrap("  ·  ".join(notes), SMALL, width=grid.content_width)
        self.swatch_height = 38 if self.verdicts else 0

    @property
    def height(self) -> int:
        """Height from the rule above the legend to its bottom."""
        if not self.verdicts and not self.notes:
            return 0
        return GAP + self.swatch_height + GAP // 2 + len(self.notes) * _line_height(SMALL)


@dataclass
class _Painter:
    """The sheet while it is drawn, and the images that were found missing."""

    image: Image.Image
    grid: _Grid
    missing: dict[Path | Crop, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pen = ImageDraw.Draw(self.image)

    def text(self, at: tuple[int, int], text: str, *, size: int, colour: Colour, line: int | None = None) -> int:
        """Draw drawable text in the middle of a line that begins here; return the text's right end."""
        font = _font(size)
        # Capital and descender stand for every text, so that neighbours share a baseline.
        box = font.getbbox("Ag")
        middle = (line or _line_height(size)) / 2
        y = at[1] + middle - (box[1] + box[3]) / 2
        self.pen.text((at[0], round(y)), text, font=font, fill=colour)
        return at[0] + _text_width(text, size)

    def paint_head(self, head: Sequence[tuple[str, int]]) -> None:
        """Title and subtitle."""
        y = MARGIN
        for text, size in head:
            self.text((MARGIN, y), text, size=size, colour=INK if size == TITLE else FAINT_INK)
            y += _line_height(size)

    def paint_section(self, strips: Sequence[DrawnStrip], label: str) -> None:
        """A query and its nearest."""
        query, *nearest = strips
        self.paint_query(query, label)
        for strip in nearest:
            self.paint_nearest(strip)
        if not nearest:
            left, top, right, bottom = query.frame
            at = (right + GAP, top) if self.grid.query_left else (left, bottom + GAP)
            self.text(at, "no gallery item is listed for this query", size=TEXT, colour=FAINT_INK)

    def paint_query(self, strip: DrawnStrip, label: str) -> None:
        """A query's strip."""
        left, top, right, bottom = strip.frame
        self.pen.rounded_rectangle((left, top, right - 1, bottom - 1), 10, fill=QUERY_TINT)
        self.paint_frame(strip.frame, _QUERY_LOOK)
        x, y = left + PADDING, top + PADDING
        after = self.paint_tag((x, y), label, QUERY)
        self.paint_names(strip, x=after + 10, right=right - PADDING)
        self.paint_images(strip)

    def paint_nearest(self, strip: DrawnStrip) -> None:
        """A gallery item's strip."""
        item = strip.item
        self.paint_frame(strip.frame, LOOKS[item.verdict])
        x, y, right = strip.frame[0] + PADDING, strip.frame[1] + PADDING, strip.frame[2] - PADDING
        badge = _badge(item.verdict)
        self.image.paste(badge, (x, y + (_line_height(TEXT) - BADGE) // 2), badge)
        after = x + BADGE + 8
        if item.rank is not None:
            after = self.text((after, y), f"#{item.rank}", size=TEXT, colour=INK) + 12
        distance = _shorten(_distance_text(item.distance), TEXT, width=right - after)
        right -= _text_width(distance, TEXT)
        self.text((right, y), distance, size=TEXT, colour=INK)
        self.paint_names(strip, x=after, right=right - 12 if distance else right)
        self.paint_images(strip)

    def paint_names(self, strip: DrawnStrip, *, x: int, right: int) -> None:
        """Name and caption; the name beside what stands on the first line already, or below it."""
        item = strip.item
        left, y = strip.frame[0] + PADDING, strip.frame[1] + PADDING
        end = strip.frame[2] - PADDING
        size = TEXT
        if not self.grid.wide:
            x, y, right, size = left, y + _line_height(TEXT), end, SMALL
        name = _shorten(item.name, size, width=right - x)
        self.text((x, y), name, size=size, colour=INK, line=_line_height(TEXT))
        y += _line_height(TEXT)
        if item.verdict is Verdict.EXCLUDED:
            left = self.paint_tag((left, y), "excluded", LOOKS[Verdict.UNLABELLED].colour, size=TINY) + 8
        caption = _shorten(item.caption, SMALL, width=end - left)
        self.text((left, y), caption, size=SMALL, colour=FAINT_INK)

    def paint_tag(self, at: tuple[int, int], text: str, colour: Colour, *, size: int = SMALL) -> int:
        """White text on a filled tag; return its right end."""
        x, y = at
        line = _line_height(TEXT if size == SMALL else SMALL)
        right = x + _text_width(text, size) + 14
        self.pen.rounded_rectangle((x, y + 1, right, y + line - 2), 4, fill=colour)
        self.text((x + 7, y), text, size=size, colour=PAPER, line=line)
        return right

    def paint_frame(self, box: Box, look: _Look) -> None:
        """A frame within a box."""
        left, top, right, bottom = box
        self.image.paste(look.colour, box, _frame_mask((right - left, bottom - top), look))

    def paint_images(self, strip: DrawnStrip) -> None:
        """The images of a strip, and how many more there are."""
        faded = strip.item.verdict is Verdict.EXCLUDED
        for path, cell in zip(strip.paths, strip.cells, strict=True):
            self.paint_image(path, cell, faded=faded)
        top = strip.frame[1] + PADDING + self.grid.text_height
        if not strip.paths:
            left = strip.frame[0] + PADDING
            cell = (left, top, left + self.grid.cell_width, top + self.grid.cell_height)
            self.paint_placeholder(("no", "images"), cell)
        more = len(strip.item.images) - len(strip.paths)
        if more > 0:
            width = MORE_WIDTH - IMAGE_GAP
            text = _shorten(f"+{more}", TEXT, width=width)
            x = strip.cells[-1][2] + IMAGE_GAP + (width - _text_width(text, TEXT)) // 2
            self.text((x, top), text, size=TEXT, colour=FAINT_INK, line=self.grid.cell_height)

    def paint_image(self, path: Path | Crop, cell: Box, *, faded: bool) -> None:
        """An image in the middle of its cell, as large as fits; or its name, if it cannot be read."""
        try:
            decoded = _decode(path)
        except BadImageError as error:
            self.missing.setdefault(path, str(error))
            self.paint_placeholder(("missing:", path.name), cell)
            return
        left, top, right, bottom = cell
        self.pen.rectangle((left, top, right - 1, bottom - 1), fill=CELL)
        decoded = ImageOps.contain(decoded, (right - left, bottom - top), Image.Resampling.LANCZOS)
        if faded:
            decoded = Image.blend(decoded, Image.new("RGB", decoded.size, PAPER), 0.45)
        x, y = (left + right - decoded.width) // 2, (top + bottom - decoded.height) // 2
        self.image.paste(decoded, (x, y))

    def paint_placeholder(self, lines: Sequence[str], cell: Box) -> None:
        """Lines of text where an image should be."""
        left, top, right, bottom = cell
        self.pen.rectangle((left + 1, top + 1, right - 2, bottom - 2), fill=CELL)
        self.paint_frame(cell, _Look(FAINT_INK, 1, dashed=True))
        line_height = _line_height(TINY)
        y = (top + bottom - len(lines) * line_height) // 2
        for line in lines:
            text = _shorten(line, TINY, width=right - left - 12)
            x = (left + right - _text_width(text, TINY)) // 2
            self.text((x, y), text, size=TINY, colour=FAINT_INK)
            y += line_height

    def paint_legend(self, legend: _Legend, top: int) -> None:
        """A rule, a small frame with its mark for each verdict, and the notes."""
        if not legend.height:
            return
        self.pen.line((MARGIN, top, self.image.width - MARGIN, top), fill=RULE, width=2)
        x, y, height = MARGIN, top + GAP, legend.swatch_height
        for verdict in legend.verdicts:
            self.paint_frame((x, y, x + 56, y + height), LOOKS[verdict])
            badge = _badge(verdict)
            self.image.paste(badge, (x + (56 - BADGE) // 2, y + (height - BADGE) // 2), badge)
            text = _drawable(verdict.value)
            x = self.text((x + 68, y), text, size=TEXT, colour=INK, line=height) + 2 * GAP
        y += height + GAP // 2
        for note in legend.notes:
            self.text((MARGIN, y), note, size=SMALL, colour=FAINT_INK)
            y += _line_height(SMALL)
