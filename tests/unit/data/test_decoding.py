"""Image files of every kind to RGB, and a reason for each that cannot be used."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vreid_cli.data.decoding import MAX_ASPECT_RATIO, BadImageError, decode_rgb, is_image

LIMIT = 1_000_000


def pattern(width: int = 60, height: int = 44) -> Image.Image:
    """An image with smooth parts and edges."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    pixels = np.stack([across, down, 255 - across], axis=-1).astype(np.uint8)
    pixels[height // 3 : height // 2, width // 4 : width // 2] = (200, 30, 90)
    return Image.fromarray(pixels)


def as_bytes(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def save(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def decode(path: Path, max_pixels: int = LIMIT) -> np.ndarray:
    image = decode_rgb(path, max_pixels=max_pixels)
    assert image.mode == "RGB"
    return np.asarray(image)


def reason(path: Path, max_pixels: int = LIMIT) -> str:
    with pytest.raises(BadImageError) as caught:
        decode_rgb(path, max_pixels=max_pixels)
    return str(caught.value)


def test_jpeg_is_what_pil_decodes(tmp_path: Path):
    path = save(tmp_path, "a.jpg", as_bytes(pattern()))
    with Image.open(path) as image:
        assert np.array_equal(decode(path), np.asarray(image))


def test_no_draft_mode(tmp_path: Path):
    # A draft of a large JPEG would come at half its size or less.
    path = save(tmp_path, "a.jpg", as_bytes(pattern(800, 600)))
    assert decode(path).shape == (600, 800, 3)


def test_grey(tmp_path: Path):
    grey = pattern().convert("L")
    found = decode(save(tmp_path, "a.png", as_bytes(grey, "PNG")))
    assert np.array_equal(found, np.repeat(np.asarray(grey)[:, :, None], 3, axis=2))


def test_black_and_white(tmp_path: Path):
    found = decode(save(tmp_path, "a.png", as_bytes(pattern().convert("1"), "PNG")))
    assert set(np.unique(found)) == {0, 255}


def test_cmyk(tmp_path: Path):
    path = save(tmp_path, "a.jpg", as_bytes(pattern().convert("CMYK")))
    with Image.open(path) as image:
        assert image.mode == "CMYK"
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(decode(path), expected)


def test_palette(tmp_path: Path):
    palette = pattern().quantize(16)
    found = decode(save(tmp_path, "a.png", as_bytes(palette, "PNG")))
    assert np.array_equal(found, np.asarray(palette.convert("RGB")))


def test_transparency_is_dropped_not_blended(tmp_path: Path):
    image = pattern().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 40))
    found = decode(save(tmp_path, "a.png", as_bytes(image, "PNG")))
    assert np.array_equal(found, np.asarray(pattern()))


@pytest.mark.parametrize(("kind", "ending"), [("PNG", "png"), ("TIFF", "tif")])
def test_sixteen_bit_grey_keeps_its_brightness(tmp_path: Path, kind: str, ending: str):
    values = (np.arange(40 * 50, dtype=np.uint32).reshape(40, 50) * 32).astype(np.uint16)
    path = save(tmp_path, f"a.{ending}", as_bytes(Image.fromarray(values), kind))
    expected = np.repeat((values // 256).astype(np.uint8)[:, :, None], 3, axis=2)
    assert np.array_equal(decode(path), expected)


def test_big_endian_sixteen_bit_grey(tmp_path: Path):
    values = (np.arange(64, dtype=">u2").reshape(8, 8) * 1000).astype(">u2")
    image = Image.frombytes("I;16B", (8, 8), values.tobytes())
    found = decode(save(tmp_path, "a.tif", as_bytes(image, "TIFF")))
    assert np.array_equal(found[:, :, 0], values // 256)


def test_pixels_without_a_defined_brightness_are_refused(tmp_path: Path):
    values = np.linspace(-3, 9, 64, dtype=np.float32).reshape(8, 8)
    assert "'F'" in reason(save(tmp_path, "a.tif", as_bytes(Image.fromarray(values), "TIFF")))


def test_exif_orientation_is_ignored(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    turned = save(tmp_path, "a.jpg", as_bytes(pattern(), exif=exif))
    straight = save(tmp_path, "b.jpg", as_bytes(pattern()))
    assert np.array_equal(decode(turned), decode(straight))


def test_text_named_jpg(tmp_path: Path):
    assert "not an image" in reason(save(tmp_path, "a.jpg", b"this is no image\n"))


def test_wrong_ending_is_no_matter(tmp_path: Path):
    assert np.array_equal(decode(save(tmp_path, "a.jpg", as_bytes(pattern(), "PNG"))), np.asarray(pattern()))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated_jpeg(tmp_path: Path, share: float):
    content = as_bytes(pattern(200, 150), quality=95)
    found = reason(save(tmp_path, "a.jpg", content[: int(share * len(content))]))
    assert "truncated" in found


def test_header_only(tmp_path: Path):
    assert reason(save(tmp_path, "a.jpg", as_bytes(pattern())[:8]))


def test_empty_file(tmp_path: Path):
    assert "empty" in reason(save(tmp_path, "a.jpg", b""))


def test_missing_file(tmp_path: Path):
    assert "not there" in reason(tmp_path / "a.jpg")


def test_folder_named_as_a_image(tmp_path: Path):
    (tmp_path / "a.jpg").mkdir()
    assert reason(tmp_path / "a.jpg")


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = save(tmp_path, "a.jpg", as_bytes(pattern()))

    def refuse(*_args: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)  # a test that runs as root cannot take the permission away
    assert "permission" in reason(path)


@pytest.mark.parametrize(
    "kind",
    [OSError, SyntaxError, ValueError, IndexError, EOFError, struct.error, zlib.error, Image.DecompressionBombError],
)
def test_whatever_a_decoder_raises_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]):
    path = save(tmp_path, "a.jpg", as_bytes(pattern()))

    def fail(*_args: object, **_options: object) -> None:
        raise kind("broken inside")

    monkeypatch.setattr(Image.Image, "convert", fail)
    assert "broken inside" in reason(path)


@pytest.mark.parametrize(("width", "height"), [(2, 2 * MAX_ASPECT_RATIO + 1), (MAX_ASPECT_RATIO + 1, 1)])
def test_absurd_shape(tmp_path: Path, width: int, height: int):
    path = save(tmp_path, "a.png", as_bytes(Image.new("RGB", (width, height)), "PNG"))
    assert f"{width} x {height}" in reason(path)


def test_longest_shape_that_is_taken(tmp_path: Path):
    path = save(tmp_path, "a.png", as_bytes(Image.new("RGB", (2 * MAX_ASPECT_RATIO, 2)), "PNG"))
    assert decode(path).shape == (2, 2 * MAX_ASPECT_RATIO, 3)


def test_too_many_pixels(tmp_path: Path):
    path = save(tmp_path, "a.png", as_bytes(pattern(60, 44), "PNG"))
    assert decode(path, max_pixels=60 * 44).shape == (44, 60, 3)
    assert "2639" in reason(path, max_pixels=60 * 44 - 1)


def test_decompression_bomb_is_refused_by_its_header(tmp_path: Path):
    # A valid header that promises 100,000 x 100,000 pixels; decoding it would take 30 GB.
    content = bytearray(as_bytes(Image.new("RGB", (8, 8)), "PNG"))
    content[16:24] = struct.pack(">II", 100_000, 100_000)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    assert reason(save(tmp_path, "a.png", bytes(content)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
@given(data=st.data())
def test_damage_is_a_reason_never_a_crash(tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject):
    content = bytearray(as_bytes(pattern(24, 20), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, min(len(content), 300) - 1))
        content[place] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(content)))
    path = save(tmp_path_factory.getbasetemp(), f"damaged-{kind}.jpg", bytes(content[: end or len(content)]))
    try:
        image = decode_rgb(path, max_pixels=LIMIT)
    except BadImageError:
        return
    assert image.mode == "RGB"


@pytest.mark.parametrize("name", ["a.jpg", "a.JPG", "a.jpeg", "a.png", "0002_c002_00030600_0.jpg"])
def test_what_counts_as_a_image(name: str):
    assert is_image(name)


@pytest.mark.parametrize("name", ["a.txt", "jpg", ".a.jpg", "._a.jpg", "a.jpg.txt", "Thumbs.db"])
def test_what_does_not_count_as_a_image(name: str):
    assert not is_image(name)


def test_pil_does_not_grumble_to_the_user(tmp_path: Path, recwarn: pytest.WarningsRecorder):
    palette = pattern().quantize(16)
    path = save(tmp_path, "a.png", as_bytes(palette, "PNG", transparency=bytes(range(0, 160, 10))))
    assert np.array_equal(decode(path), np.asarray(palette.convert("RGB")))
    assert not recwarn.list


# -- parts of a frame ---------------------------------------------------------------------------------------


def make_frame(path: Path, size: tuple[int, int] = (20, 10)) -> np.ndarray:
    width, height = size
    pixels = np.random.default_rng(5).integers(0, 256, (height, width, 3)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def test_decoding_a_part_of_a_frame(tmp_path: Path) -> None:
    frame = make_frame(tmp_path / "f.png")
    crop = np.asarray(decode_rgb(tmp_path / "f.png", max_pixels=200, box=(2.5, 3, 4, 14)))
    np.testing.assert_array_equal(crop, frame[3:10, 2:7])
    with pytest.raises(BadImageError, match="lies by more than half outside the frame"):
        decode_rgb(tmp_path / "f.png", max_pixels=200, box=(2.5, 3, 4, 15))
    with pytest.raises(BadImageError, match=r"the box #xywh=20,0,5,5 lies outside the frame of 20 x 10"):
        decode_rgb(tmp_path / "f.png", max_pixels=200, box=(20, 0, 5, 5))
    with pytest.raises(BadImageError, match="more than the limit of 199"):  # the frame is what fills the memory
        decode_rgb(tmp_path / "f.png", max_pixels=199, box=(0, 0, 1, 1))


def test_the_shape_that_counts_is_that_of_the_crop(tmp_path: Path) -> None:
    frame = make_frame(tmp_path / "f.png", (102, 2))
    with pytest.raises(BadImageError, match="over 50 times"):
        decode_rgb(tmp_path / "f.png", max_pixels=10**6)
    crop = decode_rgb(tmp_path / "f.png", max_pixels=10**6, box=(10, 0, 4, 2))
    np.testing.assert_array_equal(np.asarray(crop), frame[:, 10:14])
    with pytest.raises(BadImageError, match="over 50 times"):
        decode_rgb(tmp_path / "f.png", max_pixels=10**6, box=(0, 0, 102, 2))
