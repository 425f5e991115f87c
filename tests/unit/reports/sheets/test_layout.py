"""Where things lie on a sheet: geometry alone, without a single image."""

from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path

import pytest
from sheets import item, row

from vreid_cli.errors import UsageError
from vreid_cli.reports.sheets.layout import (
    Row,
    SheetLayout,
    Strip,
    place_rows,
    plan_layout,
    sample_images,
)


def images(count: int) -> list[Path]:
    return [Path(f"{number:03}.png") for number in range(count)]


def place(*rows: Row, max_images: int = 30, shape: float = 1.0) -> tuple[SheetLayout, list[list[Strip]], int]:
    layout = plan_layout(rows, shape=shape, max_images=max_images)
    sections, bottom = place_rows(rows, layout, top=100)
    return layout, sections, bottom


def test_nearest_follow_their_order_line_by_line() -> None:
    near = [item(str(rank), images(1), rank=rank) for rank in range(1, 9)]
    _, ((query, *strips),), _ = place(row(item("q", images(1)), near))
    assert query.item.name == "q"
    places = sorted(strips, key=lambda strip: (strip.frame[1], strip.frame[0]))
    assert [strip.item.name for strip in places] == list("12345678")


@pytest.mark.parametrize("queries", [1, 8])
@pytest.mark.parametrize("nearest", [0, 1, 2, 20])
@pytest.mark.parametrize("count", [0, 1, 2, 6, 30])
@pytest.mark.parametrize("shape", [0.75, 1.5])
def test_frames_keep_apart_and_within_the_sheet(queries: int, nearest: int, count: int, shape: float) -> None:
    near = [item(f"n{rank}", images(count), rank=rank) for rank in range(1, nearest + 1)]
    layout, sections, lowest = place(*[row(item("q", images(1)), near)] * queries, shape=shape)
    strips = [strip for section in sections for strip in section]
    assert len(strips) == queries * (1 + nearest)
    assert 1200 <= layout.content_width + 96 <= 1800
    for strip in strips:
        left, top, right, bottom = strip.frame
        assert (left >= 40, top >= 100, right <= layout.content_width + 56, bottom <= lowest) == (True,) * 4
        assert all(left < c[0] and c[2] < right and top < c[1] and c[3] < bottom for c in strip.cells)
        assert all(one[2] < other[0] for one, other in pairwise(strip.cells))
    for one, other in combinations([strip.frame for strip in strips], 2):
        assert one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]


@pytest.mark.parametrize(("count", "left"), [(1, True), (6, False)])
def test_the_query_stands_left_of_single_images_and_above_long_strips(count: int, left: bool) -> None:
    near = [item("n", images(count), rank=rank) for rank in range(1, 5)]
    _, ((query, first, *_),), _ = place(row(item("q", images(count)), near))
    assert (query.frame[2] < first.frame[0]) == left
    assert (query.frame[3] < first.frame[1]) == (not left)


@pytest.mark.parametrize("shape", [0.75, 1.0, 1.5])
def test_cells_have_the_shape_that_is_asked_for(shape: float) -> None:
    _, ((query,),), _ = place(row(item("q", images(3)), []), shape=shape)
    left, top, right, bottom = query.cells[0]
    assert (right - left) / (bottom - top) == pytest.approx(shape, rel=0.02)


def test_at_most_max_images_are_shown_from_the_first_to_the_last() -> None:
    ten = images(10)
    _, ((query, near),), _ = place(row(item("q", ten), [item("n", ten[:3])]), max_images=4)
    assert query.images == tuple(ten[place] for place in (0, 3, 6, 9))
    assert near.images == tuple(ten[:3])
    assert sample_images(ten, 1) == (ten[0],)


def test_there_is_room_for_the_number_of_others() -> None:
    for count in range(1, 12):
        near = [item("n", images(count + 1), rank=rank) for rank in (1, 2)]
        _, (strips,), _ = place(row(item("q", images(1)), near), max_images=count)
        assert all(strip.frame[2] - strip.cells[-1][2] >= 40 for strip in strips)


def test_a_strip_never_becomes_wider_than_the_sheet() -> None:
    many = images(200)
    layout, ((query,),), _ = place(row(item("q", many), []), max_images=200)
    assert layout.content_width <= 1704
    assert 10 < len(query.images) < 30
    assert query.images[-1] == many[-1]


@pytest.mark.parametrize("count", [0, -3])
def test_no_images_at_all_is_wrong_usage(count: int) -> None:
    with pytest.raises(UsageError, match="images a track"):
        plan_layout([], shape=1.0, max_images=count)
