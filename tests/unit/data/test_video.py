"""Frames of videos: those that plain PyAV gives, and a named outcome for whatever is odd about a file."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from videos import damage, make_frames, plain_frames, turn, write_video

from vreid_cli.data.decoding import BadImageError
from vreid_cli.data.video import probe_video, read_frame, read_frames
from vreid_cli.errors import DataError

FORMATS = {
    "h264": {"path": "a.mp4", "codec": "libx264", "options": {"g": "8", "bf": "2"}},
    "h264 4:2:2": {"path": "a.mkv", "codec": "libx264", "pixels": "yuv422p", "options": {"g": "5"}},
    "mpeg4 avi": {"path": "a.avi", "codec": "mpeg4"},
    "mjpeg avi": {"path": "a.avi", "codec": "mjpeg", "pixels": "yuvj420p"},
    "odd sizes": {"path": "a.mkv", "codec": "ffv1", "pixels": "bgr0", "size": (37, 25)},
}


def make(folder: Path, *, path: str, size: tuple[int, int] = (96, 64), count: int = 24, **more: object) -> Path:
    return write_video(folder / path, make_frames(count, size=size), **more)  # type: ignore[arg-type]


def same(one: Image.Image, other: Image.Image) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize("name", FORMATS)
def test_frames_are_those_of_plain_pyav(tmp_path: Path, name: str) -> None:
    path = make(tmp_path, **FORMATS[name])  # type: ignore[arg-type]
    plain = plain_frames(path)
    assert len(plain) == 24
    found = dict(read_frames(path, range(1, 25)))
    assert sorted(found) == list(range(1, 25))
    assert all(same(found[k], plain[k - 1]) for k in found)  # type: ignore[arg-type]
    some = dict(read_frames(path, [3, 11, 24]))
    assert all(same(some[k], plain[k - 1]) for k in (3, 11, 24))  # type: ignore[arg-type]
    assert all(same(read_frame(path, k), plain[k - 1]) for k in (1, 7, 18, 24))
    facts = probe_video(path)
    assert (facts.size, facts.fps, facts.rotation, facts.variable) == (plain[0].size, 10.0, 0, False)
    assert facts.frames in (24, None)


def test_frames_beyond_the_end_are_named(tmp_path: Path) -> None:
    path = make(tmp_path, path="a.mp4", count=5)
    found = dict(read_frames(path, [5, 6, 90]))
    assert isinstance(found[5], Image.Image)
    assert found[6] == found[90] == "the video ends before it, with frame 5"
    with pytest.raises(BadImageError, match="the video ends before it, with frame 5"):
        read_frame(path, 6)


def test_a_variable_frame_rate_is_noticed_and_changes_no_frame(tmp_path: Path) -> None:
    stamps = [0, 100, 200, 450, 500, 900, 1000, 1001]
    path = write_video(tmp_path / "a.mkv", make_frames(8), stamps=stamps)
    assert probe_video(path).variable
    plain = plain_frames(path)
    assert all(same(frame, plain[k - 1]) for k, frame in read_frames(path, range(1, 9)))  # type: ignore[arg-type]
    assert same(read_frame(path, 6), plain[5])


def test_rotation_is_noticed_and_not_applied(tmp_path: Path) -> None:
    path = make(tmp_path, path="a.mp4", count=3)
    turn(path)
    assert abs(probe_video(path).rotation) == 90
    assert same(read_frame(path, 2), plain_frames(path)[1])
    assert read_frame(path, 2).size == (96, 64)


DAMAGED = [("a.mkv", "mjpeg"), ("b.mkv", "libx264"), ("a.mp4", "libx264"), ("a.avi", "mpeg4")]


@pytest.mark.parametrize(("name", "codec"), DAMAGED)
def test_a_damaged_middle_is_named(tmp_path: Path, name: str, codec: str) -> None:
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    intact = make(tmp_path, path=f"intact/{name}", count=60, codec=codec, pixels=pixels, options={"g": "6"})
    path = tmp_path / name
    path.write_bytes(intact.read_bytes())
    assert probe_video(intact).missing == 0
    damage(path)
    right = plain_frames(intact)
    found = dict(read_frames(path, range(1, 61)))
    assert sorted(found) == list(range(1, 61))
    good = [k for k, frame in found.items() if isinstance(frame, Image.Image) and same(frame, right[k - 1])]
    wrong = {k for k, frame in found.items() if isinstance(frame, Image.Image)} - set(good)
    assert len(good) >= 12
    # Either frames after the damage are not used, or the file itself shows that some are missing before them.
    assert not wrong or probe_video(path).missing > 0
    named = {frame for frame in found.values() if isinstance(frame, str)}
    assert named
    assert all("is damaged at frame" in reason or "ends before it" in reason for reason in named)


def test_the_log_of_pyav_is_off_while_videos_are_read(tmp_path: Path) -> None:
    path = make(tmp_path, path="a.mp4", count=3)
    av.logging.set_level(av.logging.ERROR)  # as older releases of torchvision do
    probe_video(path)
    assert av.logging.get_level() is None


def test_a_title_that_is_no_text_changes_no_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, make_frames(3))
    known, content = probe_video(path), path.read_bytes()
    assert b"Lavf" in content  # what FFmpeg says of itself is metadata, as a title is
    path.write_bytes(content.replace(b"Lavf", b"\x80avf"))
    assert probe_video(path) == known
    assert [number for number, image in read_frames(path, [1, 3]) if isinstance(image, Image.Image)] == [1, 3]


def test_what_is_no_video_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"no video at all")
    with pytest.raises(DataError, match="cannot be opened as a video"):
        probe_video(path)
    with pytest.raises(BadImageError, match="cannot be opened as a video"):
        read_frame(path, 1)
    with pytest.raises(DataError, match="cannot be opened as a video"):
        list(read_frames(tmp_path / "gone.mp4", [1]))
    whole = make(tmp_path, path="b.mp4", count=30)
    whole.write_bytes(whole.read_bytes()[:200])
    with pytest.raises(DataError):
        probe_video(whole)


@pytest.mark.parametrize("hole", ["behind", "amid"])
def test_a_large_piece_that_was_never_written_is_an_error(
    tmp_path: Path, hole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path, path="a.avi", codec="mpeg4")
    monkeypatch.setattr("vreid_cli.data.video._LARGEST_HOLE", 4 << 20)
    probe_video(path)
    os.truncate(path, 32 << 20)
    if hole == "amid":
        with path.open("ab") as file:
            file.write(bytes(4096))
    if not hasattr(os, "SEEK_HOLE") or path.stat().st_blocks * 512 > 4 << 20:
        pytest.skip("this file system writes holes out")
    with pytest.raises(DataError, match=r"cannot be opened as a video: .* were never written"):
        probe_video(path)
    monkeypatch.setattr("vreid_cli.data.video._LARGEST_HOLE", 33 << 20)
    assert probe_video(path).size == (96, 64)
