"""A contact sheet: each query's images and those of its nearest gallery items, framed by what they are."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from vreid_cli.errors import UsageError
from vreid_cli.reports.sheets import layout as at
from vreid_cli.reports.sheets.layout import Row, SheetLayout, Strip, Verdict, line_height, place_rows, plan_layout
from vreid_cli.reports.sheets.painting import LEGEND_HEIGHT, PAPER, Painter, usual_shape
from vreid_cli.reports.sheets.typography import wrap
from vreid_cli.runtime.files import atomic_path
from vreid_cli.runtime.objects import as_path
from vreid_cli.types.images import MAX_PIXELS
from vreid_cli.types.rankings import RankedItem

#: The long side of A4, and how much longer it is than the other.
_PAGE_INCHES, _PAGE_SHAPE = 297 / 25.4, 2**0.5


@dataclass(frozen=True, eq=False)
class DrawnImage:
    """What was drawn, which a notebook displays.

    Attributes:
        image: The drawing, RGB.
        warnings: What is doubtful, such as images that cannot be read, each once, with the reason.
    """

    image: Image.Image
    warnings: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def pages(self) -> list[Image.Image]:
        """It in pieces, as they go onto the pages of a PDF."""
        return [self.image]

    def save(self, path: str | Path) -> None:
        """Write it as PNG, or as PDF with pages as wide as A4 in landscape; whole or not at all.

        Raises:
            UsageError: The file has another ending.
            StoreError: The file cannot be written.
        """
        path = as_path(path)
        check_ending(path)
        if path.suffix.lower() == ".pdf":
            first, *others = self.pages
            # Of JPEG, in which PIL stores what a PDF shows, 95 keeps the edges of small letters.
            more: dict[str, Any] = {"save_all": True, "append_images": others, "quality": 95}
            buffer = io.BytesIO()
            first.save(buffer, format="PDF", resolution=first.width / _PAGE_INCHES, title=path.stem, **more)
            content = buffer.getvalue()
        else:
            content = self._repr_png_()
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.image.save(buffer, format="PNG")
        return buffer.getvalue()


@dataclass(frozen=True, eq=False)
class Sheet(DrawnImage):
    """A contact sheet.

    Attributes:
        strips: What lies where: each query, followed by its nearest.
        nearest: The rows of the ranking that are shown, by query.
    """

    strips: tuple[Strip, ...] = ()
    nearest: Mapping[str, Sequence[RankedItem]] = field(default_factory=dict)

    @property
    def pages(self) -> list[Image.Image]:
        """As many queries on each as A4 in landscape has room for; a query that needs more gets a longer page."""
        tops = [strip.frame[1] - at.SECTION_GAP // 2 for strip in self.strips if strip.item.rank is None][1:]
        end = self.image.height
        if self.strips:
            # Below the last row comes the legend: it may have a page of its own.
            tops.append(max(strip.frame[3] for strip in self.strips) + at.SECTION_GAP // 2)
        room, cuts = round(self.image.width / _PAGE_SHAPE), [0]
        for place, top in enumerate(tops):
            following = tops[place + 1] if place + 1 < len(tops) else end
            if following - cuts[-1] > room:
                cuts.append(top)
        return [
            _padded(self.image.crop((0, top, self.image.width, bottom)), room)
            for top, bottom in zip(cuts, [*cuts[1:], end], strict=True)
        ]


def _padded(piece: Image.Image, height: int) -> Image.Image:
    """A piece of a sheet on a page at least this high."""
    if piece.height >= height:
        return piece
    page = Image.new("RGB", (piece.width, height), PAPER)
    page.paste(piece)
    return page


def check_ending(path: Path) -> None:
    """Refuse a file that is not named as a PNG or a PDF.

    Raises:
        UsageError: Its ending is another one.
    """
    if path.suffix.lower() not in (".png", ".pdf"):
        hint = f"write to {path.with_suffix('.png')}"
        raise UsageError(f"an image is written as .png or .pdf, not as '{path.name}'", hint=hint, file=path)


def render_sheet(
    rows: Sequence[Row],
    *,
    title: str,
    subtitle: str = "",
    max_images: int = 6,
    labels: Sequence[str] | None = None,
    signs: Sequence[str] | None = None,
    alone: str = "no gallery item is listed for this query",
) -> Sheet:
    """Render queries one below the other, each with its nearest gallery items.

    Args:
        rows: Each a query, then its nearest.
        title: What the sheet shows.
        subtitle: How it was ranked and counted; line breaks are kept.
        max_images: Most images to show of one item, evenly spread ones of more; "+N" counts the others. Fewer
            where the sheet would become wider than 1800 pixels.
        labels: What the first item of each row is called; by default the number of its query.
        signs: What the signs mean; by default those of a ranking.
        alone: What is said of a row of one item.

    Raises:
        UsageError: ``max_images`` is below 1, or the sheet would be larger than PIL agrees to open.

    Examples:
        >>> from vreid_cli.reports.sheets.layout import SheetItem
        >>> query = SheetItem(name="query", images=[Path("gone.png")])
        >>> sheet = render_sheet([[query, SheetItem(name="near", images=[], rank=1, distance=0.25)]], title="MCD")
        >>> sheet.image.width, sheet.warnings
        (1200, ('gone.png: the file is not there',))
    """
    layout = plan_layout(rows, shape=usual_shape(rows, max_images), max_images=max_images)
    head = [(line, at.TITLE) for line in wrap(title, at.TITLE, width=layout.content_width)]
    head += [(line, at.SMALL) for line in wrap(subtitle, at.SMALL, width=layout.content_width)]
    placed, bottom = place_rows(rows, layout, top=at.MARGIN + _height(head) + at.GAP)
    verdicts, notes = _legend(rows, layout, signs)
    notes_top = bottom + at.GAP + LEGEND_HEIGHT + at.GAP // 2
    height = (notes_top + _height(notes) if verdicts else bottom) + at.MARGIN
    width = layout.content_width + 2 * at.MARGIN
    if width * height > MAX_PIXELS:
        hint = "show fewer queries, or fewer of the nearest of each"
        raise UsageError(f"the sheet would be {width} x {height} pixels, too large to open", hint=hint)
    painter = Painter(layout, height)
    painter.paint_lines(head, top=at.MARGIN)
    labels = labels or [f"query {number} of {len(placed)}" for number in range(1, len(placed) + 1)]
    for strips, label in zip(placed, labels, strict=True):
        painter.paint_row(strips, label, alone=alone)
    if verdicts:
        painter.paint_legend(verdicts, top=bottom)
        painter.paint_lines(notes, top=notes_top)
    return Sheet(
        painter.image,
        strips=tuple(strip for strips in placed for strip in strips),
        warnings=tuple(f"{image}: {reason}" for image, reason in painter.missing.items()),
    )


def _height(lines: Sequence[tuple[str, int]]) -> int:
    return sum(line_height(size) for _, size in lines)


def _legend(
    rows: Sequence[Row], layout: SheetLayout, signs: Sequence[str] | None
) -> tuple[list[Verdict], list[tuple[str, int]]]:
    """The verdicts that there are, and the lines that explain the signs."""
    found = {item.verdict for row in rows for item in row[1:]}
    more = ["+N: N more images, not shown"] if layout.more else []
    sure = any(item.probability is not None for row in rows for item in row)
    chance = ["%: probability of the same vehicle"] if sure else []
    if signs is None:
        signs = ["#1: rank", *chance, "d: distance to the query, smaller is nearer"]
    notes = "  ·  ".join([*signs, *more])
    lines = wrap(notes, at.SMALL, width=layout.content_width)
    return [verdict for verdict in Verdict if verdict in found], [(line, at.SMALL) for line in lines]
