"""Images to show on sheets, and what is read back from the sheets: pixels and texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from vreid_cli.reports.sheets.layout import Area, Row, SheetItem
from vreid_cli.reports.sheets.sheet import Sheet, render_sheet

Pixel = tuple[int, int, int]
BLUE: Pixel = (10, 20, 230)


def paint(folder: Path, count: int, *, size: tuple[int, int] = (60, 60), colour: Pixel = BLUE) -> list[Path]:
    """Images of one colour."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03}.png" for number in range(count)]
    for path in paths:
        Image.new("RGB", size, colour).save(path)
    return paths


def item(name: str, images: Sequence[Path], **facts: Any) -> SheetItem:
    """A query or a gallery item."""
    return SheetItem(name=name, images=images, **facts)


def row(query: SheetItem, nearest: Sequence[SheetItem]) -> Row:
    """A query and its nearest."""
    return [query, *nearest]


def render(*rows: Row, max_images: int = 4, title: str = "Title", subtitle: str = "Rules") -> Sheet:
    """A sheet of these rows."""
    return render_sheet(rows, title=title, subtitle=subtitle, max_images=max_images)


def pixel(image: Image.Image, x: int, y: int) -> Pixel:
    """The colour at a place."""
    found = image.getpixel((x, y))
    assert isinstance(found, tuple)
    red, green, blue = (int(value) for value in found)
    return red, green, blue


def colours_in(image: Image.Image, area: Area) -> set[Pixel]:
    """All colours of an area."""
    part = image.crop(area)
    return {pixel(part, x, y) for x in range(part.width) for y in range(part.height)}


def centre(area: Area) -> tuple[int, int]:
    """The middle of an area."""
    return (area[0] + area[2]) // 2, (area[1] + area[3]) // 2


def placed_texts(
    monkeypatch: pytest.MonkeyPatch, *rows: Row, max_images: int = 4
) -> list[tuple[tuple[int, int], str, float]]:
    """The texts of a sheet in the order in which PIL draws them, with their places and widths."""
    calls: list[tuple[tuple[int, int], str, float]] = []
    plain = ImageDraw.ImageDraw.text

    def spy(self: object, xy: tuple[int, int], text: str, **options: object) -> None:
        font = options["font"]
        assert isinstance(font, ImageFont.FreeTypeFont)
        calls.append((xy, text, font.getlength(text)))
        plain(self, xy, text, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(ImageDraw.ImageDraw, "text", spy)
        render(*rows, max_images=max_images)
    return calls


def texts_of(monkeypatch: pytest.MonkeyPatch, *rows: Row, max_images: int = 4) -> list[str]:
    """The texts of a sheet."""
    return [text for _, text, _ in placed_texts(monkeypatch, *rows, max_images=max_images)]
