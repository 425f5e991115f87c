"""What is painted: looked at as pixels at the places that the sheet names, and as the texts that PIL draws."""

from __future__ import annotations

import math
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from PIL import ImageChops
from sheets import BLUE, Pixel, centre, colours_in, item, paint, pixel, placed_texts, render, row, texts_of

from vreid_cli.reports.sheets.layout import Strip, Verdict
from vreid_cli.reports.sheets.sheet import Sheet

LABELLED = (Verdict.MATCH, Verdict.DIFFERENT)


def left_edge(sheet: Sheet, strip: Strip) -> list[Pixel]:
    """The frame's pixels down its left side, away from the round corners."""
    left, top, _, bottom = strip.frame
    return [pixel(sheet.image, left + 1, y) for y in range(top + 12, bottom - 12)]


def is_green(colour: Pixel) -> bool:
    return colour[1] > 1.5 * max(colour[0], colour[2])


def is_red(colour: Pixel) -> bool:
    return colour[0] > 3 * max(colour[1], colour[2])


def is_grey(colour: Pixel) -> bool:
    return max(colour) - min(colour) < 30


def lightness(colour: Pixel) -> float:
    """CIE L*, by its definition for sRGB."""
    linear = [((v / 255 + 0.055) / 1.055) ** 2.4 if v > 10 else v / 255 / 12.92 for v in colour]
    luminance: float = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return 116 * math.cbrt(luminance) - 16


@pytest.fixture
def verdicts(tmp_path: Path) -> dict[Verdict, tuple[Sheet, Strip]]:
    images = paint(tmp_path, 1)
    near = [item("track", images, verdict=v, rank=r) for r, v in enumerate(Verdict, start=1)]
    result = render(row(item("query", images), near))
    return {strip.item.verdict: (result, strip) for strip in result.strips[1:]}


class TestVerdicts:
    def test_the_frame_tells_by_its_colour_what_the_item_is(self, verdicts: dict[Verdict, tuple[Sheet, Strip]]) -> None:
        edges = {verdict: left_edge(*drawn) for verdict, drawn in verdicts.items()}
        assert all(is_green(colour) for colour in edges[Verdict.MATCH])
        assert all(is_red(colour) for colour in edges[Verdict.DIFFERENT])

    def test_the_frame_of_an_unlabelled_item_is_dashed(self, verdicts: dict[Verdict, tuple[Sheet, Strip]]) -> None:
        edge = left_edge(*verdicts[Verdict.UNLABELLED])
        assert all(is_grey(colour) for colour in edge)
        changes = sum((lightness(upper) > 95) != (lightness(lower) > 95) for upper, lower in pairwise(edge))
        assert changes >= 6

    def test_green_and_red_differ_by_lightness(self, verdicts: dict[Verdict, tuple[Sheet, Strip]]) -> None:
        green, red = (lightness(left_edge(*verdicts[verdict])[0]) for verdict in LABELLED)
        assert green - red > 20

    @pytest.mark.parametrize(
        ("verdict", "corner", "top", "elbow", "lower_left", "upper_left"),
        [
            (Verdict.MATCH, ".", "#", ".", "#", "#"),  # a white check in a disc
            (Verdict.DIFFERENT, "#", "#", "#", ".", "."),  # a white cross in a square
            (Verdict.UNLABELLED, ".", ".", ".", ".", "."),  # a ring
        ],
    )
    def test_the_mark_tells_by_its_shape_what_the_item_is(
        self,
        verdicts: dict[Verdict, tuple[Sheet, Strip]],
        verdict: Verdict,
        corner: str,
        top: str,
        elbow: str,
        lower_left: str,
        upper_left: str,
    ) -> None:
        result, strip = verdicts[verdict]
        x, y = strip.frame[0] + 8, strip.frame[1] + 8
        area = ImageChops.invert(result.image.crop((x, y, x + 32, y + 35)).convert("L"))
        mark = area.crop(area.getbbox())
        assert mark.width == mark.height >= 20
        darkest = max(value for value, count in enumerate(mark.histogram()) if count)
        places = [(0.12, 0.12), (0.5, 0.25), (0.43, 0.7), (0.3, 0.7), (0.3, 0.3)]
        spots = [(int(across * mark.width), int(down * mark.height)) for across, down in places]
        ink = ["#" if mark.tobytes()[y * mark.width + x] > darkest / 2 else "." for x, y in spots]
        assert ink == [corner, top, elbow, lower_left, upper_left]

    def test_the_legend_explains_only_what_is_there(self, tmp_path: Path) -> None:
        images = paint(tmp_path, 1)
        for verdict in LABELLED:
            near = [item("a", images, verdict=verdict)]
            result = render(row(item("q", images), near))
            below = result.strips[-1].frame[3]
            legend = colours_in(result.image, (0, below, result.image.width, result.image.height))
            assert any(is_green(colour) for colour in legend) == (verdict is Verdict.MATCH)
            assert any(is_red(colour) for colour in legend) == (verdict is Verdict.DIFFERENT)


class TestImages:
    @pytest.mark.parametrize("size", [(200, 50), (50, 200), (80, 80)])
    def test_an_image_keeps_its_shape_in_the_middle_of_its_cell(self, tmp_path: Path, size: tuple[int, int]) -> None:
        odd = paint(tmp_path / "odd", 1, size=size, colour=BLUE)
        usual = paint(tmp_path / "usual", 3)
        result = render(row(item("q", usual), [item("odd", odd, rank=1)]))
        cell = result.strips[1].cells[0]
        area = result.image.crop(cell)
        mask = area.point([255 if value < 128 else 0 for value in range(256)] * 3).getchannel("R")
        box = mask.getbbox()
        assert box is not None
        width, height = box[2] - box[0], box[3] - box[1]
        assert width / height == pytest.approx(size[0] / size[1], rel=0.05)
        assert width == area.width or height == area.height
        assert abs(box[0] - (area.width - box[2])) <= 1
        assert abs(box[1] - (area.height - box[3])) <= 1

    def test_cells_follow_the_usual_shape_of_the_images(self, tmp_path: Path) -> None:
        for name, size in (("wide", (90, 60)), ("tall", (45, 60))):
            paths = paint(tmp_path / name, 3, size=size)
            left, top, right, bottom = render(row(item("q", paths), [])).strips[0].cells[0]
            assert (right - left) / (bottom - top) == pytest.approx(size[0] / size[1], rel=0.02)

    def test_the_number_of_others_is_written_behind_the_images(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        texts = texts_of(monkeypatch, row(item("q", paint(tmp_path, 9)), []), max_images=4)
        assert "+5" in texts
        texts = texts_of(monkeypatch, row(item("q", paint(tmp_path, 4)), []), max_images=4)
        assert not any(text.startswith("+") for text in texts)


class TestMissing:
    def test_what_cannot_be_read_is_told_once_and_named_in_its_place(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        good = paint(tmp_path, 2)
        broken = tmp_path / "broken.jpg"
        broken.write_bytes(b"no image")
        absent = tmp_path / "absent.jpg"
        near = [item(str(rank), [good[0], broken, absent, good[1]], rank=rank) for rank in (1, 2)]
        only = row(item("q", good), near)
        result = render(only)
        first, second = result.warnings
        assert first.startswith(f"{broken}: not an image")
        assert second == f"{absent}: the file is not there"
        cells = result.strips[1].cells
        assert [pixel(result.image, *centre(cell)) == BLUE for cell in cells] == [True, False, False, True]
        texts = texts_of(monkeypatch, only)
        assert texts.count("missing:") == 4
        assert texts.count("broken.jpg") == texts.count("absent.jpg") == 2

    def test_a_sheet_of_nothing_but_missing_images_is_painted(self, tmp_path: Path) -> None:
        gone = [tmp_path / f"{number}.jpg" for number in range(3)]
        result = render(row(item("q", gone), [item("n", gone)]))
        assert [warning.partition(":")[0] for warning in result.warnings] == list(map(str, gone))

    def test_items_without_images_are_painted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        only = row(item("q", []), [item("n", [], verdict=Verdict.MATCH, rank=1)])
        assert render(only).warnings == ()
        assert texts_of(monkeypatch, only).count("images") == 2

    def test_a_query_without_nearest_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        images = paint(tmp_path, 6)
        for count in (1, 6):
            texts = texts_of(monkeypatch, row(item("q", images[:count]), []), max_images=6)
            assert "no gallery item is listed for this query" in texts


class TestText:
    LONG = "folder_of_a_tracker/2024-03-01T12:00:00/" * 8 + "track_0042"

    @pytest.mark.parametrize("count", [1, 2, 6])
    def test_long_texts_are_shortened_and_never_meet(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
    ) -> None:
        images = paint(tmp_path, count)
        near = [
            item(self.LONG, images, caption=self.LONG, verdict=verdict, rank=1234, distance=-12345.678)
            for verdict in Verdict
        ]
        only = row(item(self.LONG, images, caption=self.LONG), near)
        frames = [strip.frame for strip in render(only, max_images=6).strips]
        texts = placed_texts(monkeypatch, only, max_images=6)
        assert any(text.startswith("folder") and text.endswith("0042") for _, text, _ in texts)
        for left, top, right, bottom in frames:
            inside = [((x, y), w) for (x, y), _, w in texts if left <= x < right and top <= y < bottom]
            assert all(x + w <= right - 4 for (x, _), w in inside)
            for ((x1, y1), w1), ((x2, y2), w2) in combinations(inside, 2):
                assert abs(y1 - y2) >= 12 or x1 + w1 <= x2 or x2 + w2 <= x1

    def test_ranks_and_distances_are_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        images = paint(tmp_path, 1)
        pairs = [(1, 0.35736), (2, 46.111)]
        near = [item("n", images, rank=rank, distance=distance) for rank, distance in pairs]
        texts = texts_of(monkeypatch, row(item("q", images), near))
        assert [text for text in texts if text.startswith(("#", "d "))][:4] == ["#1", "d 0.3574", "#2", "d 46.11"]
