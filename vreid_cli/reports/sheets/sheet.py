"""A contact sheet: each query's images and those of its nearest gallery items, framed by what they are."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from vreid_cli.errors import UsageError
from vreid_cli.reports.sheets import layout as at
from vreid_cli.reports.sheets.layout import Row, SheetLayout, Strip, Verdict, line_height, place_rows, plan_layout
from vreid_cli.reports.sheets.painting import LEGEND_HEIGHT, Painter, usual_shape
from vreid_cli.reports.sheets.typography import wrap
from vreid_cli.runtime.files import atomic_path
from vreid_cli.types.images import MAX_PIXELS
from vreid_cli.types.rankings import RankedItem


@dataclass(frozen=True, eq=False)
class DrawnImage:
    """What was drawn, which a notebook displays.

    Attributes:
        image: The drawing, RGB.
        warnings: What is doubtful, such as images that cannot be read, each once, with the reason.
    """

    image: Image.Image
    warnings: tuple[str, ...] = field(default=(), kw_only=True)

    def save(self, path: str | Path) -> None:
        """Write it as PNG, whole or not at all.

        Raises:
            UsageError: The file's ending is not ``.png``.
            StoreError: The file cannot be written.
        """
        check_ending(Path(path))
        with atomic_path(Path(path)) as temporary:
            temporary.write_bytes(self._repr_png_())

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


def check_ending(path: Path) -> None:
    """Refuse a file that is not named as a PNG.

    Raises:
        UsageError: Its ending is another one.
    """
    if path.suffix.lower() != ".png":
        hint = f"write to {path.with_suffix('.png')}"
        raise UsageError(f"a contact sheet is written as .png, not as '{path.name}'", hint=hint, file=path)


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
