"""A sheet as a whole: what it says of itself, and how it is kept and displayed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from sheets import colours_in, item, paint, render, row

from vreid_cli.errors import UsageError
from vreid_cli.reports.sheets.layout import Verdict
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


@pytest.mark.parametrize("name", ["sheet.jpg", "sheet.pdf", "sheet"])
def test_another_ending_than_png_is_wrong_usage(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\.png") as caught:
        Sheet(Image.new("RGB", (2, 2))).save(tmp_path / name)
    assert caught.value.hint is not None
    assert "sheet.png" in caught.value.hint
    assert list(tmp_path.iterdir()) == []
