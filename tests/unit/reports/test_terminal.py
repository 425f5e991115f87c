"""Small images in the terminal: whose they are, and that they are drawn."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from sheets import BLUE, paint, pixel
from textual_image import renderable

from vreid_cli.reports.images import open_side
from vreid_cli.reports.terminal import ROWS, join_images, strips_of, terminal_image
from vreid_cli.types.rankings import RankedItem, RankingFacts


def near(name: str) -> RankedItem:
    return RankedItem("q", None, None, 1, name, None, None, 0.5)


def test_strips_are_those_of_the_query_and_its_nearest(tmp_path: Path) -> None:
    paint(tmp_path / "q", 9, size=(48, 48))
    paint(tmp_path / "g", 1, size=(96, 48), colour=(250, 0, 0))
    (tmp_path / "h").mkdir()
    (tmp_path / "h/0.png").touch()
    side = open_side(tmp_path, RankingFacts(), single=False)
    strips, missing = strips_of({"q": [near("g"), near("h"), near("gone")]}, (side, side), most=3)
    query, gallery, *nothing = strips["q"]
    assert query is not None
    assert gallery is not None
    assert query.size == (3 * 96 + 2 * 6, 96)
    assert [pixel(query, x, 40) for x in (5, 190)] == [BLUE, BLUE]
    assert pixel(gallery, 90, 40) == (250, 0, 0)
    assert nothing == [None, None]
    assert [text.rpartition(": ")[2] for text in missing] == ["the file is empty"]


def test_images_are_drawn_in_their_colours_and_never_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderable, "Image", renderable.HalfcellImage)
    strip = join_images([Image.new("RGB", (64, 64), colour) for colour in (BLUE, (200, 10, 10))] * 20)
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=40)
    console.print(terminal_image(strip))
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert 1 <= told.count("\n") <= ROWS + 1
    assert "38;2;" in told
    plain = Console(file=io.StringIO(), width=40, no_color=True)
    plain.print(terminal_image(strip))
    assert max(map(len, plain.file.getvalue().splitlines())) <= 40  # type: ignore[attr-defined]


def test_joined_images_keep_their_shapes() -> None:
    joined = np.asarray(join_images([Image.new("RGB", (30, 60), BLUE), Image.new("RGB", (120, 60), BLUE)]))
    blue = (joined == BLUE).all(axis=(0, 2))
    assert np.flatnonzero(~blue).tolist() == list(range(48, 54))
    assert joined.shape[:2] == (96, 48 + 6 + 192)
