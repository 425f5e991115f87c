"""Contact sheets: looked at as pixels at the places that the sheet says it drew to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageDraw, ImageFont
from PIL._util import DeferredError

from vreid_cli.errors import UsageError
from vreid_cli.reports import sheet
from vreid_cli.reports.sheet import (
    Box,
    DrawnStrip,
    SheetItem,
    SheetResult,
    SheetRow,
    Verdict,
    draw_sheet,
    save_sheet,
)

Pixel = tuple[int, int, int]
LABELLED = (Verdict.MATCH, Verdict.DIFFERENT)


def paint(folder: Path, count: int, *, size: tuple[int, int] = (60, 60), colour: Pixel = (10, 20, 230)) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03}.png" for number in range(count)]
    for path in paths:
        Image.new("RGB", size, colour).save(path)
    return paths


def draw(*rows: SheetRow, max_images: int = 4, title: str = "Title", subtitle: str = "Rules") -> SheetResult:
    return draw_sheet(rows, title=title, subtitle=subtitle, max_images=max_images)


def pixel(image: Image.Image, x: int, y: int) -> Pixel:
    found = image.getpixel((x, y))
    assert isinstance(found, tuple)
    red, green, blue = (int(value) for value in found)
    return red, green, blue


def left_edge(result: SheetResult, strip: DrawnStrip) -> list[Pixel]:
    """The frame's pixels down its left side, away from the round corners."""
    left, top, _, bottom = strip.frame
    return [pixel(result.image, left + 1, y) for y in range(top + 12, bottom - 12)]


def colours_in(image: Image.Image, box: Box) -> set[Pixel]:
    area = image.crop(box)
    return {pixel(area, x, y) for x in range(area.width) for y in range(area.height)}


def centre(box: Box) -> tuple[int, int]:
    return (box[0] + box[2]) // 2, (box[1] + box[3]) // 2


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
def four_verdicts(tmp_path: Path) -> dict[Verdict, tuple[SheetResult, DrawnStrip]]:
    images = paint(tmp_path, 1)
    near = [SheetItem("track", images, verdict=v, rank=r) for r, v in enumerate(Verdict, start=1)]
    result = draw(SheetRow(SheetItem("query", images), near))
    return {strip.item.verdict: (result, strip) for strip in result.strips[1:]}


class TestVerdicts:
    def test_the_frame_tells_by_its_colour_what_the_item_is(
        self, four_verdicts: dict[Verdict, tuple[SheetResult, DrawnStrip]]
    ) -> None:
        edges = {verdict: left_edge(*drawn) for verdict, drawn in four_verdicts.items()}
        assert all(is_green(colour) for colour in edges[Verdict.MATCH])
        assert all(is_red(colour) for colour in edges[Verdict.DIFFERENT])
        assert all(is_grey(colour) for colour in edges[Verdict.EXCLUDED])
        assert len(set(edges[Verdict.EXCLUDED])) == 1

    def test_the_frame_of_an_unlabelled_item_is_dashed(
        self, four_verdicts: dict[Verdict, tuple[SheetResult, DrawnStrip]]
    ) -> None:
        edge = left_edge(*four_verdicts[Verdict.UNLABELLED])
        assert all(is_grey(colour) for colour in edge)
        changes = sum((lightness(upper) > 95) != (lightness(lower) > 95) for upper, lower in pairwise(edge))
        assert changes >= 6

    def test_green_and_red_differ_by_lightness(
        self, four_verdicts: dict[Verdict, tuple[SheetResult, DrawnStrip]]
    ) -> None:
        green, red = (lightness(left_edge(*four_verdicts[verdict])[0]) for verdict in LABELLED)
        assert green - red > 20

    @pytest.mark.parametrize(
        ("verdict", "corner", "top", "elbow", "lower_left", "upper_left"),
        [
            (Verdict.MATCH, ".", "#", ".", "#", "#"),  # a white check in a disc
            (Verdict.DIFFERENT, "#", "#", "#", ".", "."),  # a white cross in a square
            (Verdict.EXCLUDED, ".", ".", ".", "#", "."),  # a ring with a bar
            (Verdict.UNLABELLED, ".", ".", ".", ".", "."),  # a ring
        ],
    )
    def test_the_mark_tells_by_its_shape_what_the_item_is(
        self,
        four_verdicts: dict[Verdict, tuple[SheetResult, DrawnStrip]],
        verdict: Verdict,
        corner: str,
        top: str,
        elbow: str,
        lower_left: str,
        upper_left: str,
    ) -> None:
        result, strip = four_verdicts[verdict]
        x, y = strip.frame[0] + 8, strip.frame[1] + 8
        area = ImageChops.invert(result.image.crop((x, y, x + 32, y + 35)).convert("L"))
        mark = area.crop(area.getbbox())
        assert mark.width == mark.height >= 20
        darkest = max(value for value, count in enumerate(mark.histogram()) if count)
        places = [(0.12, 0.12), (0.5, 0.25), (0.43, 0.7), (0.3, 0.7), (0.3, 0.3)]
        spots = [(int(across * mark.width), int(down * mark.height)) for across, down in places]
        ink = ["#" if mark.tobytes()[y * mark.width + x] > darkest / 2 else "." for x, y in spots]
        assert ink == [corner, top, elbow, lower_left, upper_left]

    def test_images_of_an_excluded_item_are_faded(
        self, four_verdicts: dict[Verdict, tuple[SheetResult, DrawnStrip]]
    ) -> None:
        seen = {
            verdict: pixel(result.image, *centre(strip.cells[0])) for verdict, (result, strip) in four_verdicts.items()
        }
        assert seen[Verdict.MATCH] == seen[Verdict.DIFFERENT] == (10, 20, 230)
        assert lightness(seen[Verdict.EXCLUDED]) > lightness(seen[Verdict.MATCH]) + 20

    def test_the_legend_explains_only_what_is_there(self, tmp_path: Path) -> None:
        images = paint(tmp_path, 1)
        for verdict in LABELLED:
            near = [SheetItem("a", images, verdict=verdict)]
            result = draw(SheetRow(SheetItem("q", images), near))
            below = result.strips[-1].frame[3]
            legend = colours_in(result.image, (0, below, result.image.width, result.image.height))
            assert any(is_green(colour) for colour in legend) == (verdict is Verdict.MATCH)
            assert any(is_red(colour) for colour in legend) == (verdict is Verdict.DIFFERENT)


class TestPlaces:
    def test_nearest_follow_their_rank_in_reading_order(self, tmp_path: Path) -> None:
        images = paint(tmp_path, 1)
        ranks = [7, 2, None, 11, 1, 30, 4]
        near = [SheetItem(str(rank), images, rank=rank) for rank in ranks]
        result = draw(SheetRow(SheetItem("q", images), near))
        places = sorted(result.strips[1:], key=lambda strip: (strip.frame[1], strip.frame[0]))
        assert [strip.item.name for strip in places] == ["1", "2", "4", "7", "11", "30", "None"]

    @pytest.mark.parametrize("queries", [1, 8])
    @pytest.mark.parametrize("nearest", [0, 1, 2, 20])
    @pytest.mark.parametrize("images", [1, 2, 6, 30])
    def test_frames_keep_apart_and_within_the_sheet(
        self, tmp_path: Path, queries: int, nearest: int, images: int
    ) -> None:
        paths = paint(tmp_path, images, size=(12, 12))
        near = [SheetItem(f"n{rank}", paths, rank=rank) for rank in range(1, nearest + 1)]
        result = draw(*[SheetRow(SheetItem("q", paths[:1]), near)] * queries, max_images=30)
        assert len(result.strips) == queries * (1 + nearest)
        assert 1200 <= result.image.width <= 1800
        for strip in result.strips:
            left, top, right, bottom = strip.frame
            assert left >= 40
            assert top >= 40
            assert right <= result.image.width - 40
            assert bottom <= result.image.height - 40
            assert all(left < c[0] and c[2] < right and top < c[1] and c[3] < bottom for c in strip.cells)
            assert all(one[2] < other[0] for one, other in pairwise(strip.cells))
        for one, other in combinations([strip.frame for strip in result.strips], 2):
            assert one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]

    def test_the_query_stands_left_of_single_images_and_above_long_strips(self, tmp_path: Path) -> None:
        paths = paint(tmp_path, 6)
        for count, left in ((1, True), (6, False)):
            near = [SheetItem("n", paths[:count], rank=rank) for rank in range(1, 5)]
            query, first, *_ = draw(SheetRow(SheetItem("q", paths[:count]), near), max_images=6).strips
            assert (query.frame[2] < first.frame[0]) == left
            assert (query.frame[3] < first.frame[1]) == (not left)

    @pytest.mark.parametrize("size", [(200, 50), (50, 200), (80, 80)])
    def test_a_image_keeps_its_shape_in_the_middle_of_its_cell(self, tmp_path: Path, size: tuple[int, int]) -> None:
        blue = (10, 20, 230)
        odd = paint(tmp_path / "odd", 1, size=size, colour=blue)
        usual = paint(tmp_path / "usual", 3)
        result = draw(SheetRow(SheetItem("q", usual), [SheetItem("odd", odd, rank=1)]))
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
            left, top, right, bottom = draw(SheetRow(SheetItem("q", paths), [])).strips[0].cells[0]
            assert (right - left) / (bottom - top) == pytest.approx(size[0] / size[1], rel=0.02)


class TestMoreImages:
    def test_at_most_max_images_are_drawn_from_the_first_to_the_last(self, tmp_path: Path) -> None:
        paths = paint(tmp_path, 10)
        query, near = draw(SheetRow(SheetItem("q", paths), [SheetItem("n", paths[:3])]), max_images=4).strips
        assert query.paths == tuple(paths[place] for place in (0, 3, 6, 9))
        assert near.paths == tuple(paths[:3])

    def test_one_of_many_is_the_first(self, tmp_path: Path) -> None:
        paths = paint(tmp_path, 5)
        assert draw(SheetRow(SheetItem("q", paths), []), max_images=1).strips[0].paths == (paths[0],)

    def test_the_number_of_others_is_written_behind_the_images(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        texts = list(written(monkeypatch, SheetRow(SheetItem("q", paint(tmp_path, 9)), []), max_images=4))
        assert "+5" in texts
        texts = list(written(monkeypatch, SheetRow(SheetItem("q", paint(tmp_path, 4)), []), max_images=4))
        assert not any(text.startswith("+") for text in texts)

    def test_a_strip_never_becomes_wider_than_the_sheet(self, tmp_path: Path) -> None:
        paths = paint(tmp_path, 200, size=(8, 8))
        result = draw(SheetRow(SheetItem("q", paths), []), max_images=200)
        assert result.image.width <= 1800
        assert 10 < len(result.strips[0].paths) < 30
        assert result.strips[0].paths[-1] == paths[-1]

    @pytest.mark.parametrize("count", [0, -3])
    def test_no_images_at_all_is_wrong_usage(self, count: int) -> None:
        with pytest.raises(UsageError, match="images a track"):
            draw(max_images=count)


class TestMissing:
    def test_what_cannot_be_read_is_told_once_and_named_in_its_place(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        good = paint(tmp_path, 2)
        broken = tmp_path / "broken.jpg"
        broken.write_bytes(b"no image")
        absent = tmp_path / "absent.jpg"
        near = [SheetItem(str(rank), [good[0], broken, absent, good[1]], rank=rank) for rank in (1, 2)]
        row = SheetRow(SheetItem("q", good), near)
        result = draw(row)
        assert [path for path, _ in result.missing] == [broken, absent]
        assert "not an image" in dict(result.missing)[broken]
        assert "not there" in dict(result.missing)[absent]
        cells = result.strips[1].cells
        assert [pixel(result.image, *centre(cell)) == (10, 20, 230) for cell in cells] == [True, False, False, True]
        texts = list(written(monkeypatch, row))
        assert texts.count("missing:") == 4
        assert texts.count("broken.jpg") == texts.count("absent.jpg") == 2

    def test_a_sheet_of_nothing_but_missing_images_is_drawn(self, tmp_path: Path) -> None:
        gone = [tmp_path / f"{number}.jpg" for number in range(3)]
        result = draw(SheetRow(SheetItem("q", gone), [SheetItem("n", gone)]))
        assert [path for path, _ in result.missing] == gone

    def test_items_without_images_are_drawn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        row = SheetRow(SheetItem("q", []), [SheetItem("n", [], verdict=Verdict.MATCH, rank=1)])
        assert draw(row).missing == ()
        assert list(written(monkeypatch, row)).count("images") == 2

    def test_a_query_without_nearest_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        images = paint(tmp_path, 6)
        for count in (1, 6):
            texts = list(written(monkeypatch, SheetRow(SheetItem("q", images[:count]), []), max_images=6))
            assert "no gallery item is listed for this query" in texts

    def test_a_sheet_without_queries_is_a_title(self) -> None:
        assert draw().strips == ()


def written(monkeypatch: pytest.MonkeyPatch, *rows: SheetRow, max_images: int = 4) -> Iterator[str]:
    """The texts of a sheet, in the order in which they are drawn."""
    for _, text, _ in placed(monkeypatch, *rows, max_images=max_images):
        yield text


def placed(
    monkeypatch: pytest.MonkeyPatch, *rows: SheetRow, max_images: int = 4
) -> list[tuple[tuple[int, int], str, float]]:
    """The texts of a sheet with their place and width."""
    calls: list[tuple[tuple[int, int], str, float]] = []
    plain = ImageDraw.ImageDraw.text

    def spy(self: object, xy: tuple[int, int], text: str, **options: object) -> None:
        font = options["font"]
        assert isinstance(font, ImageFont.FreeTypeFont)
        calls.append((xy, text, font.getlength(text)))
        plain(self, xy, text, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(ImageDraw.ImageDraw, "text", spy)
        draw(*rows, max_images=max_images)
    return calls


class TestText:
    LONG = "folder_of_a_tracker/2024-03-01T12:00:00/" * 8 + "track_0042"

    @pytest.mark.parametrize("count", [1, 2, 6])
    def test_long_texts_are_shortened_and_never_meet(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
    ) -> None:
        images = paint(tmp_path, count)
        near = [
            SheetItem(self.LONG, images, caption=self.LONG, verdict=verdict, rank=1234, distance=-12345.678)
            for verdict in Verdict
        ]
        row = SheetRow(SheetItem(self.LONG, images, caption=self.LONG), near)
        frames = [strip.frame for strip in draw(row, max_images=6).strips]
        texts = placed(monkeypatch, row, max_images=6)
        assert any(text.startswith("folder") and text.endswith("0042") for _, text, _ in texts)
        for left, top, right, bottom in frames:
            inside = [((x, y), w) for (x, y), _, w in texts if left <= x < right and top <= y < bottom]
            assert all(x + w <= right - 4 for (x, _), w in inside)
            for ((x1, y1), w1), ((x2, y2), w2) in combinations(inside, 2):
                assert abs(y1 - y2) >= 12 or x1 + w1 <= x2 or x2 + w2 <= x1

    def test_title_and_subtitle_are_wrapped(self, tmp_path: Path) -> None:
        row = SheetRow(SheetItem("q", paint(tmp_path, 1)), [])
        short = draw(row)
        long = draw(row, title="many words " * 40 + "x" * 500, subtitle="first line\nsecond " + "word " * 300)
        assert long.image.width == short.image.width
        assert long.image.height > short.image.height + 200
        margin = (long.image.width - 40, 0, *long.image.size)
        assert colours_in(long.image, margin) == {(255, 255, 255)}

    @pytest.mark.parametrize(
        ("name", "drawn"),
        [
            ("Brücke-Straße", "Brucke-Strasse"),
            ("a × b", "a x b"),
            ("车1", "\\u8f661"),
            ("two\nlines\ttab", "two lines tab"),
            ("bad\udcff", "bad\\udcff"),
            ("e\N{COMBINING ACUTE ACCENT}t", "et"),
            ("\N{RIGHT-TO-LEFT OVERRIDE}abc", "\\u202eabc"),
            ("plain_c001 [~]", "plain_c001 [~]"),
        ],
    )
    def test_what_the_font_lacks_is_stood_in_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, drawn: str
    ) -> None:
        row = SheetRow(SheetItem(name, paint(tmp_path, 1), caption=name), [])
        assert list(written(monkeypatch, row)).count(drawn) == 2

    def test_ranks_and_distances_are_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        images = paint(tmp_path, 1)
        pairs = [(1, 0.35736), (2, 46.111), (3, None), (4, float("nan"))]
        near = [SheetItem("n", images, rank=rank, distance=distance) for rank, distance in pairs]
        texts = list(written(monkeypatch, SheetRow(SheetItem("q", images), near)))
        assert [text for text in texts if text.startswith(("#", "d "))][:6] == [
            *("#1", "d 0.3574"),
            *("#2", "d 46.11"),
            *("#3", "#4"),
        ]

    def test_the_bitmap_font_of_a_pil_without_freetype_will_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        absent = DeferredError.new(ImportError("The _imagingft C module is not installed"))
        monkeypatch.setattr(ImageFont, "core", absent)
        sheet._font.cache_clear()
        sheet._has_glyph.cache_clear()
        try:
            row = SheetRow(SheetItem("Brücke 车", paint(tmp_path, 1)), [SheetItem("n", [], rank=1)])
            assert draw(row, title="Γ – 车").image.width == 1200
        finally:
            sheet._font.cache_clear()
            sheet._has_glyph.cache_clear()


class TestWhole:
    def test_the_same_input_gives_the_same_image(self, tmp_path: Path) -> None:
        images = paint(tmp_path, 3)
        near = [SheetItem("n", images, verdict=v, rank=r) for r, v in enumerate(Verdict, start=1)]
        row = SheetRow(SheetItem("q", images), near)
        one, other = draw(row), draw(row)
        assert one.image.tobytes() == other.image.tobytes()
        assert one.strips == other.strips

    def test_a_sheet_too_large_to_open_is_refused_before_it_is_drawn(self) -> None:
        near = [SheetItem("n", [], rank=rank) for rank in range(20)]
        with pytest.raises(UsageError, match="pixels") as caught:
            draw(*[SheetRow(SheetItem("q", []), near)] * 500)
        assert caught.value.hint is not None

    def test_a_saved_sheet_comes_back_pixel_for_pixel(self, tmp_path: Path) -> None:
        result = draw(SheetRow(SheetItem("q", paint(tmp_path / "in", 2)), []))
        target = tmp_path / "new" / "sheet.PNG"
        save_sheet(result.image, target)
        with Image.open(target) as loaded:
            assert loaded.format == "PNG"
            assert loaded.tobytes() == result.image.tobytes()
        assert [path.name for path in target.parent.iterdir()] == ["sheet.PNG"]

    @pytest.mark.parametrize("name", ["sheet.jpg", "sheet.pdf", "sheet"])
    def test_another_ending_than_png_is_wrong_usage(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(UsageError, match=r"\.png") as caught:
            save_sheet(Image.new("RGB", (2, 2)), tmp_path / name)
        assert caught.value.hint is not None
        assert "sheet.png" in caught.value.hint
        assert list(tmp_path.iterdir()) == []
