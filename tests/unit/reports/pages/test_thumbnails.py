"""Thumbnails: what they show, that each is made once, and what happens to images that cannot be read."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sheets import BLUE, paint

from vreid_cli.data.boxes import Crop
from vreid_cli.reports.pages import thumbnails
from vreid_cli.reports.pages.thumbnails import HEIGHT, WIDTH, Thumbnails


def opened(webp: bytes | None) -> Image.Image:
    assert webp is not None
    return Image.open(io.BytesIO(webp)).convert("RGB")


def made(folder: Path, *images: Path | Crop) -> tuple[Thumbnails, list[bytes | None]]:
    collected = Thumbnails(folder)
    for image in images:
        collected.place_of(image)
    return collected, collected.make()


def test_a_thumbnail_shows_its_image_in_its_shape(tmp_path: Path) -> None:
    (wide,) = paint(tmp_path / "w", 1, size=(640, 192))
    (high,) = paint(tmp_path / "h", 1, size=(100, 400), colour=(200, 10, 10))
    _, (one, other) = made(tmp_path / "kept", wide, high)
    assert opened(one).size == (WIDTH, round(192 * WIDTH / 640))
    assert opened(other).size == (HEIGHT // 4, HEIGHT)
    for webp, colour in ((one, BLUE), (other, (200, 10, 10))):
        assert np.abs(np.asarray(opened(webp), dtype=int) - colour).max() < 12


def test_a_crop_is_the_part_of_its_frame(tmp_path: Path) -> None:
    frame = Image.new("RGB", (200, 100), (0, 0, 0))
    frame.paste(BLUE, (100, 20, 180, 80))
    frame.save(tmp_path / "frame.png")
    crop = Crop(tmp_path / "frame.png", (100, 20, 80, 60))
    _, (webp,) = made(tmp_path / "kept", crop)
    assert np.abs(np.asarray(opened(webp), dtype=int) - BLUE).max() < 12


def test_the_same_image_has_one_place(tmp_path: Path) -> None:
    one, other = paint(tmp_path / "i", 2)
    collected = Thumbnails(tmp_path / "kept")
    assert [collected.place_of(image) for image in (one, other, one)] == [0, 1, 0]


def test_each_is_made_once_until_its_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (image,) = paint(tmp_path / "i", 1)
    calls = []
    decode = thumbnails.decode
    monkeypatch.setattr(thumbnails, "decode", lambda one: calls.append(one) or decode(one))
    _, first = made(tmp_path / "kept", image)
    _, again = made(tmp_path / "kept", image)
    assert first == again
    assert len(calls) == 1
    Image.new("RGB", (60, 60), (250, 250, 0)).save(image)
    os.utime(image, ns=(1, 1))
    _, (changed,) = made(tmp_path / "kept", image)
    assert np.asarray(opened(changed))[..., 2].max() < 30
    for kept in (tmp_path / "kept").rglob("*.webp"):  # as a crash may leave them
        kept.write_bytes(kept.read_bytes()[:-3])
    _, (again,) = made(tmp_path / "kept", image)
    assert again == changed


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path) -> None:
    (image,) = paint(tmp_path / "i", 1)
    (tmp_path / "kept").write_text("a file where the folder would be")
    _, (webp,) = made(tmp_path / "kept", image)
    assert opened(webp).size == (60, 60)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    gone, empty = tmp_path / "gone.png", tmp_path / "empty.png"
    collected, found = made(tmp_path / "kept", gone, empty)
    assert found == [None, None]
    assert collected.missing == {gone: "the file is not there", empty: "the file is empty"}
