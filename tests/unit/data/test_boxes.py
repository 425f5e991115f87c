"""Boxes in image ids, and their pixels."""

from __future__ import annotations

from pathlib import Path

import pytest

from vreid_cli.data.boxes import Crop, locate_image, name_crop, parse_crop, pixels_of
from vreid_cli.types.images import Box


@pytest.mark.parametrize(
    ("box", "text"),
    [
        ((1, 2, 30, 40), "1,2,30,40"),
        ((1.0, -2.0, 30.5, 40.25), "1,-2,30.5,40.25"),
        ((0.1 + 0.2, 1e-7, 1e16, 123456.789), "0.30000000000000004,0.0000001,10000000000000000,123456.789"),
    ],
)
def test_a_box_in_an_image_id_reads_back_as_it_was(box: Box, text: str) -> None:
    name = name_crop("frames/1.jpg", box)
    assert name == f"frames/1.jpg#xywh={text}"
    assert parse_crop(name) == ("frames/1.jpg", box)
    assert locate_image(Path("root"), name) == Crop(Path("root/frames/1.jpg"), box)
    assert str(locate_image(Path("root"), name)) == f"{Path('root/frames/1.jpg')}#xywh={text}"


@pytest.mark.parametrize("name", ["a.jpg", "a#1.jpg", "a.jpg#xywh=1,2,3", "#xywh=1,2,3,4", "a#xywh=1,2,3,4.jpg"])
def test_other_image_ids_are_whole_images(name: str) -> None:
    assert parse_crop(name) == (name, None)
    assert locate_image(Path("root"), name) == Path("root") / name


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((2, 3, 4, 5), (2, 3, 6, 8)),
        ((2.9, 3.1, 4.0, 5.0), (2, 3, 7, 9)),  # outward: every pixel that it touches
        ((-5, -5, 8, 8), (0, 0, 3, 3)),
        ((15, 5, 100, 100), (15, 5, 20, 10)),
        ((-9, -9, 99, 99), (0, 0, 20, 10)),
        ((19.5, 0, 0.1, 10), (19, 0, 20, 10)),
        ((20, 0, 5, 5), None),
        ((0, -5, 5, 5), None),
    ],
)
def test_the_pixels_of_a_box(box: Box, pixels: tuple[int, int, int, int] | None) -> None:
    assert pixels_of(box, (20, 10)) == pixels
