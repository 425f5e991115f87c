"""Drawing a pair: the distances between its images as a heat map, the images along its sides, what decides marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vreid_cli.data.boxes import Crop
from vreid_cli.ranking.pairs import PairDistances, number, thin_pair
from vreid_cli.reports.sheets import layout as at
from vreid_cli.reports.sheets.layout import line_height
from vreid_cli.reports.sheets.painting import FAINT_INK, INK, PAPER, Canvas, Colour, Look
from vreid_cli.reports.sheets.typography import text_width, wrap
from vreid_cli.types.amounts import amount

#: Widths of a cell; the largest with which the map stays within the sheet is taken.
_CELLS = (112, 96, 80, 64, 48, 40, 32, 24, 16, 12, 8)
#: A narrower cell has no room for its number; images along the sides are never smaller than this.
_NUMBERED, _SMALLEST_IMAGE = 48, 40
_MAX_HEIGHT = 2400
#: Room for the number of an image beside it.
_LABEL = 44
_SCALE_WIDTH = 360
#: From near to far; lightness falls steadily, so that the map is read without hue. Source: Matplotlib's "cividis"
#: (Nuñez, Anderton, Renslow 2018), sampled.
RAMP = np.array(
    [(255, 234, 70), (217, 197, 87), (182, 164, 105), (148, 134, 115), (116, 108, 117), (83, 84, 110), (42, 63, 109)],
    dtype=np.float64,
)


@dataclass(frozen=True)
class PairSide:
    """The query or the gallery item.

    Attributes:
        name: What it is called.
        images: Its images in the order of the cells; none where they are not known.
    """

    name: str
    images: Sequence[Path | Crop]


@dataclass(frozen=True, eq=False)
class PairDrawing:
    """What is drawn.

    Attributes:
        pair: The distances.
        query: Along the rows.
        gallery: Along the columns.
        notes: How the value comes about, and what the ranking says of it.
    """

    pair: PairDistances
    query: PairSide
    gallery: PairSide
    notes: tuple[str, ...]


def heat_colours(cells: NDArray[np.float64], shows: str) -> NDArray[np.uint8]:
    """(…, 3) colours of cells: light for what is near (of codes: for what is large), dark for what is far.

    Examples:
        >>> heat_colours(np.array([0.1, 0.9]), "MCD").tolist()
        [[255, 234, 70], [42, 63, 109]]
    """
    values = -np.abs(cells) if shows == "code" else cells
    low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
    places = (values - low) / (high - low) if high > low else np.zeros_like(values)
    steps = places * (len(RAMP) - 1)
    below = np.minimum(steps.astype(int), len(RAMP) - 2)
    part = (steps - below)[..., None]
    colours: NDArray[np.uint8] = (RAMP[below] * (1 - part) + RAMP[below + 1] * part).round().astype(np.uint8)
    return colours


def draw_pair(drawing: PairDrawing, *, most: int) -> tuple[Image.Image, tuple[str, ...]]:
    """Draw a pair.

    Args:
        drawing: What is drawn.
        most: Most images of each side; of more those that decide and others, evenly.

    Returns:
        The image, and which images cannot be read, with the reason.
    """
    pair = drawing.pair
    rows, columns = thin_pair(pair, most)
    cell = next((c for c in _CELLS if _fits(len(rows), len(columns), c)), _CELLS[-1])
    side = max(cell, _SMALLEST_IMAGE)
    left, across = at.MARGIN + _LABEL + side + at.GAP, len(columns) * cell
    width = max(at.MIN_WIDTH, left + across + at.MARGIN)
    inside = width - 2 * at.MARGIN
    head = [(line, at.TITLE) for line in wrap(_title(drawing), at.TITLE, width=inside)]
    names = (f"query {drawing.query.name} (rows), gallery {drawing.gallery.name} (columns)", *drawing.notes)
    head += [(line, at.SMALL) for name in names for line in wrap(name, at.SMALL, width=inside)]
    foot = [(line, at.TEXT) for line in wrap(pair.spelled, at.TEXT, width=inside)]
    foot += [(line, at.SMALL) for note in _signs(pair, rows, columns) for line in wrap(note, at.SMALL, width=inside)]
    top = at.MARGIN + _height(head) + at.GAP + line_height(at.SMALL) + side + at.GAP // 2
    bottom = top + len(rows) * cell + at.GAP
    canvas = Canvas(width, bottom + _height(foot) + at.GAP + 2 * line_height(at.SMALL) + at.MARGIN)
    canvas.paint_lines(head, top=at.MARGIN)
    _paint_sides(canvas, drawing, (rows, columns), corner=(left, top), sizes=(cell, side))
    _paint_cells(canvas, pair, (rows, columns), corner=(left, top), cell=cell)
    canvas.paint_lines(foot, top=bottom)
    _paint_scale(canvas, pair, top=bottom + _height(foot) + at.GAP)
    return canvas.image, tuple(f"{image}: {reason}" for image, reason in canvas.missing.items())


def append_rows(image: Image.Image, title: str, rows: Sequence[tuple[str, Sequence[Image.Image]]]) -> Image.Image:
    """The drawing with rows of images below it, each under its caption."""
    lines = [(line, at.TEXT) for line in wrap(title, at.TEXT, width=image.width - 2 * at.MARGIN)]
    heights = [line_height(at.SMALL) + max(one.height for one in images) + at.GAP for _, images in rows]
    width = max(image.width, *(sum(one.width + at.IMAGE_GAP for one in images) + 2 * at.MARGIN for _, images in rows))
    canvas = Canvas(width, image.height + _height(lines) + at.GAP + sum(heights) + at.MARGIN)
    canvas.image.paste(image)
    canvas.paint_lines(lines, top=image.height)
    top = image.height + _height(lines) + at.GAP // 2
    for (caption, images), height in zip(rows, heights, strict=True):
        canvas.text((at.MARGIN, top), caption, size=at.SMALL, colour=FAINT_INK)
        left = at.MARGIN
        for one in images:
            canvas.image.paste(one, (left, top + line_height(at.SMALL)))
            left += one.width + at.IMAGE_GAP
        top += height
    return canvas.image


def _fits(rows: int, columns: int, cell: int) -> bool:
    room = at.MAX_WIDTH - 2 * at.MARGIN - _LABEL - at.GAP - max(cell, _SMALLEST_IMAGE)
    return columns * cell <= room and rows * cell <= _MAX_HEIGHT


def _title(drawing: PairDrawing) -> str:
    value = drawing.pair.value
    return f"Why this match: {drawing.pair.metric.name}" + ("" if value is None else f" {number(value)}")


def _height(lines: Sequence[tuple[str, int]]) -> int:
    return sum(line_height(size) for _, size in lines)


def _signs(pair: PairDistances, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> list[str]:
    """What the signs mean, and what is not drawn."""
    signs = []
    if pair.counts.any():
        signs.append("framed: the distances that decide, and the images that they are between")
    hidden = [
        f"{count - len(shown)} of {amount(count, 'image')} of the {what} not drawn"
        for what, shown, count in zip(("query", "gallery item"), (rows, columns), pair.cells.shape, strict=True)
        if len(shown) < count
    ]
    if hidden:
        signs.append(f"{'; '.join(hidden)}: those that decide are, and others evenly (--set show.max_pair_images=…)")
    return signs


def _paint_sides(
    canvas: Canvas,
    drawing: PairDrawing,
    shown: tuple[NDArray[np.int64], NDArray[np.int64]],
    *,
    corner: tuple[int, int],
    sizes: tuple[int, int],
) -> None:
    """The images along both sides, with their numbers; where cells are small, of some rows and columns only."""
    cell, side = sizes
    left, top = corner
    # Where an image is larger than a cell, the next ones leave room for it.
    every = -(-side // cell)
    for number_of_side, (own, positions) in enumerate(zip((drawing.query, drawing.gallery), shown, strict=True)):
        decisive = set(drawing.pair.decisive(number_of_side).tolist())
        for place in range(0, len(positions), every):
            position, start = int(positions[place]), place * cell
            along = min(cell, side) if every == 1 else side
            if number_of_side == 0:
                area = (left - at.GAP // 2 - side, top + start, left - at.GAP // 2, top + start + along)
                label = area[0] - _LABEL, top + start
            else:
                area = (left + start, top - at.GAP // 2 - side, left + start + along, top - at.GAP // 2)
                label = area[0], area[1] - line_height(at.SMALL)
            inner = (area[0] + 3, area[1] + 3, area[2] - 3, area[3] - 3)
            if position < len(own.images):
                canvas.paint_image(own.images[position], inner)
            else:
                canvas.placeholder(("no image",), inner)
            marked = position in decisive and every == 1
            if marked:
                canvas.frame(area, Look(INK, 4))
            line = along if number_of_side == 0 else line_height(at.SMALL)
            canvas.text(label, str(position + 1), size=at.SMALL, colour=INK if marked else FAINT_INK, line=line)


def _paint_cells(
    canvas: Canvas,
    pair: PairDistances,
    shown: tuple[NDArray[np.int64], NDArray[np.int64]],
    *,
    corner: tuple[int, int],
    cell: int,
) -> None:
    """The heat map; numbers where there is room, a double frame around what decides."""
    colours = heat_colours(pair.cells, pair.shows)
    gap = 1 if cell >= _SMALLEST_IMAGE else 0
    size = at.SMALL if cell >= 80 else at.TINY
    for row, i in enumerate(shown[0].tolist()):
        for column, j in enumerate(shown[1].tolist()):
            x, y = corner[0] + column * cell, corner[1] + row * cell
            red, green, blue = colours[i, j].tolist()
            colour: Colour = (red, green, blue)
            canvas.pen.rectangle((x, y, x + cell - 1 - gap, y + cell - 1 - gap), fill=colour)
            if cell >= _NUMBERED:
                text = f"{pair.cells[i, j]:.3f}" if abs(pair.cells[i, j]) < 10 else f"{pair.cells[i, j]:.1f}"
                ink = INK if _is_light(colour) else PAPER
                canvas.text((x + (cell - text_width(text, size)) // 2, y), text, size=size, colour=ink, line=cell)
            if pair.counts[i, j]:
                _mark(canvas, (x, y, x + cell - gap, y + cell - gap))


def _mark(canvas: Canvas, area: at.Area) -> None:
    """A dark line in a light one: it is seen on every colour."""
    left, top, right, bottom = area
    thick = 3 if right - left >= _SMALLEST_IMAGE else 1
    canvas.pen.rectangle((left, top, right - 1, bottom - 1), outline=INK, width=thick)
    if thick > 1:
        inner = (left + thick, top + thick, right - 1 - thick, bottom - 1 - thick)
        canvas.pen.rectangle(inner, outline=PAPER, width=2)


def _is_light(colour: Colour) -> bool:
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue > 140


def _paint_scale(canvas: Canvas, pair: PairDistances, *, top: int) -> None:
    """What the colours mean."""
    values = np.abs(pair.cells) if pair.shows == "code" else pair.cells
    low, high = float(values.min()), float(values.max())
    ends = (high, low) if pair.shows == "code" else (low, high)
    words = ("weighs most", "weighs least") if pair.shows == "code" else ("nearest", "farthest")
    line = line_height(at.SMALL)
    what = "weight of a gallery image" if pair.shows == "code" else f"{pair.shows} of two images"
    x = canvas.text((at.MARGIN, top), f"{what}:  {number(ends[0])} {words[0]}  ", size=at.SMALL, colour=INK)
    for step, colour in enumerate(heat_colours(np.linspace(0.0, 1.0, _SCALE_WIDTH), "MED").tolist()):
        canvas.pen.line((x + step, top + 4, x + step, top + line - 4), fill=tuple(colour))
    canvas.text((x + _SCALE_WIDTH + 8, top), f"{number(ends[1])} {words[1]}", size=at.SMALL, colour=INK)
