"""A contact sheet: each query's images and those of its nearest gallery items, framed by what they are."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from vreid_cli.errors import UsageError
from vreid_cli.reports.sheets.layout import (
    GAP,
    LEGEND_HEIGHT,
    MARGIN,
    SMALL,
    TITLE,
    SheetLayout,
    SheetRow,
    Strip,
    Verdict,
    check_size,
    line_height,
    place_rows,
    plan_layout,
)
from vreid_cli.reports.sheets.painting import Painter, distance_text, usual_shape
from vreid_cli.reports.sheets.typography import wrap
from vreid_cli.runtime.files import atomic_path
from vreid_cli.types.rankings import RankedItem


@dataclass(frozen=True, eq=False)
class Sheet:
    """A contact sheet, which a notebook displays.

    Attributes:
        image: The sheet, RGB.
        strips: What lies where: each query, followed by its nearest.
        nearest: The rows of the ranking that are shown, by query.
        warnings: What is doubtful, such as images that cannot be read, each once, with the reason.
    """

    image: Image.Image
    strips: tuple[Strip, ...] = ()
    nearest: Mapping[str, Sequence[RankedItem]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def save(self, path: str | Path) -> None:
        """Write the sheet as PNG, whole or not at all.

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


def check_ending(path: Path) -> None:
    """Refuse a file that is not named as a PNG.

    Raises:
        UsageError: Its ending is another one.
    """
    if path.suffix.lower() != ".png":
        named = f"not as '{path.suffix}'" if path.suffix else "and this name has no ending"
        raise UsageError(
            f"a contact sheet is written as .png, {named}", hint=f"write to {path.with_suffix('.png')}", file=path
        )


def render_sheet(rows: Sequence[SheetRow], *, title: str, subtitle: str = "", max_images: int = 6) -> Sheet:
    """Render queries one below the other, each with its nearest gallery items in the order of their ranks.

    Args:
        rows: The queries with what was found.
        title: What the sheet shows.
        subtitle: The rules that were counted by, and notes; line breaks are kept.
        max_images: Most images to show of one item, evenly spread ones of more; "+N" tells of the others. Fewer
            where the sheet would become wider than 1800 pixels.

    Raises:
        UsageError: ``max_images`` is below 1, or the sheet would be larger than PIL agrees to open.

    Examples:
        >>> from pathlib import Path
        >>> from vreid_cli.reports.sheets.layout import SheetItem, SheetRow
        >>> row = SheetRow(SheetItem("query", [Path("gone.png")]), [SheetItem("near", [], rank=1, distance=0.25)])
        >>> sheet = render_sheet([row], title="meanMCD50")
        >>> sheet.image.width, sheet.warnings
        (1200, ('gone.png: the file is not there',))
    """
    layout = plan_layout(rows, shape=usual_shape(rows, max_images), max_images=max_images)
    head = [(line, TITLE) for line in wrap(title, TITLE, width=layout.content_width)]
    head += [(line, SMALL) for line in wrap(subtitle, SMALL, width=layout.content_width)]
    sections, bottom = place_rows(rows, layout, top=MARGIN + _height(head) + GAP)
    verdicts, notes = _legend(rows, layout)
    legend_height = GAP + (LEGEND_HEIGHT if verdicts else 0) + GAP // 2 + _height(notes) if verdicts or notes else 0
    height = bottom + legend_height + MARGIN
    check_size(layout.width, height)
    painter = Painter(layout, height)
    painter.paint_lines(head, top=MARGIN)
    for number, strips in enumerate(sections, start=1):
        painter.paint_row(strips, f"query {number} of {len(sections)}")
    if legend_height:
        painter.paint_legend(verdicts, top=bottom)
        painter.paint_lines(notes, top=bottom + legend_height - _height(notes))
    return Sheet(
        painter.image,
        strips=tuple(strip for strips in sections for strip in strips),
        warnings=tuple(f"{image}: {reason}" for image, reason in painter.missing.items()),
    )


def _height(lines: Sequence[tuple[str, int]]) -> int:
    return sum(line_height(size) for _, size in lines)


def _legend(rows: Sequence[SheetRow], layout: SheetLayout) -> tuple[list[Verdict], list[tuple[str, int]]]:
    """The verdicts and the lines that explain what the sheet holds, and nothing else."""
    nearest = [item for row in rows for item in row.nearest]
    verdicts = [verdict for verdict in Verdict if any(item.verdict is verdict for item in nearest)]
    notes = []
    if any(item.rank is not None for item in nearest):
        notes.append("#1: rank")
    if any(distance_text(item.distance) for item in nearest):
        notes.append("d: distance to the query, smaller is nearer")
    if layout.more:
        notes.append("+N: N more images, not shown")
    return verdicts, [(line, SMALL) for line in wrap("  ·  ".join(notes), SMALL, width=layout.content_width)]
