"""A sheet as a whole: what it says of itself, and how it is kept and displayed."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sheets import colours_in, item, paint, render, row

from vreid_cli.errors import UsageError
from vreid_cli.reports.sheets.layout import Row, Verdict
from vreid_cli.reports.sheets.sheet import Sheet


def test_the_same_input_gives_the_same_image(tmp_path: Path) -> None:
    images = paint(tmp_path, 3)
    near = [item("n", images, verdict=v, rank=r) for r, v in enumerate(Verdict, start=1)]
    only = row(item("q", images), near)
    one, other = render(only), render(only)
    assert one.image.tobytes() == other.image.tobytes()
    assert one.strips == other.strips


def test_title_and_subtitle_are_wrapped(tmp_path: Path) -> None:
    only = row(item("q", paint(tmp_path, 1)), [])
    short = render(only)
    long = render(only, title="many words " * 40 + "x" * 500, subtitle="first line\nsecond " + "word " * 300)
    assert long.image.width == short.image.width
    assert long.image.height > short.image.height + 200
    margin = (long.image.width - 40, 0, *long.image.size)
    assert colours_in(long.image, margin) == {(255, 255, 255)}


def test_a_sheet_without_queries_is_a_title() -> None:
    assert render().strips == ()


def test_a_sheet_too_large_to_open_is_refused_before_it_is_painted() -> None:
    near = [item("n", [], rank=rank) for rank in range(20)]
    with pytest.raises(UsageError, match="pixels") as caught:
        render(*[row(item("q", []), near)] * 500)
    assert caught.value.hint is not None


def test_what_is_saved_is_what_a_notebook_displays(tmp_path: Path) -> None:
    sheet = render(row(item("q", paint(tmp_path / "in", 2)), []))
    target = tmp_path / "new" / "sheet.PNG"
    sheet.save(target)
    assert target.read_bytes() == sheet._repr_png_()
    with Image.open(io.BytesIO(sheet._repr_png_())) as loaded:
        assert loaded.format == "PNG"
        assert loaded.tobytes() == sheet.image.tobytes()
    assert [path.name for path in target.parent.iterdir()] == ["sheet.PNG"]


@pytest.mark.parametrize("name", ["sheet.jpg", "sheet.pd", "sheet"])
def test_another_ending_than_png_is_wrong_usage(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\.png") as caught:
        Sheet(Image.new("RGB", (2, 2))).save(tmp_path / name)
    assert caught.value.hint is not None
    assert "sheet.png" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def rows_of(folder: Path, count: int, *, nearest: int = 4) -> list[Row]:
    images = paint(folder, 3)
    found = [[item(f"g{n}", images, rank=n, distance=0.1 * n) for n in range(1, nearest + 1)] for _ in range(count)]
    return [row(item(f"q{number}", images), others) for number, others in enumerate(found)]


@pytest.mark.parametrize(("count", "nearest"), [(1, 1), (7, 4), (3, 60)])
def test_the_pages_of_a_pdf_hold_the_sheet_and_cut_no_query(tmp_path: Path, count: int, nearest: int) -> None:
    sheet = render(*rows_of(tmp_path, count, nearest=nearest))

    def drawn(image: Image.Image) -> np.ndarray[Any, Any]:
        lines = np.asarray(image)
        return lines[(lines != 255).any(axis=(1, 2))]

    # One below the other the pages are the sheet again, and none begins or ends amid a frame.
    assert np.array_equal(np.concatenate([drawn(page) for page in sheet.pages]), drawn(sheet.image))
    for page in sheet.pages:
        assert (np.asarray(page)[[0, -1]] == 255).all()
        assert page.width == sheet.image.width
    if count == 7:
        assert 1 < len(sheet.pages) < 7
        assert {page.height for page in sheet.pages} == {round(sheet.image.width / 2**0.5)}


def test_a_pdf_has_these_pages_and_a_png_the_sheet(tmp_path: Path) -> None:
    sheet = render(*rows_of(tmp_path / "i", 7))
    sheet.save(tmp_path / "sheet.pdf")
    content = (tmp_path / "sheet.pdf").read_bytes()
    assert content.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type /Page\b", content)) == len(sheet.pages)
    boxes = {tuple(map(float, found)) for found in re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+)", content)}
    assert all(width == pytest.approx(72 * 297 / 25.4, abs=0.5) for width, _ in boxes)
    sheet.save(tmp_path / "sheet.PNG")
    assert Image.open(tmp_path / "sheet.PNG").size == sheet.image.size
    with pytest.raises(UsageError, match=r"written as \.png or \.pdf"):
        sheet.save(tmp_path / "sheet.jpg")
