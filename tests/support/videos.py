"""Small videos, and scenes of them with what a tracker wrote."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

#: frame, id, left, top, width, height, confidence
Line = tuple[object, ...]


def make_frames(count: int, *, size: tuple[int, int] = (96, 64), seed: int = 0) -> list[np.ndarray]:
    """Frames that differ from each other: a coarse pattern, and a bright square that moves."""
    rng = np.random.default_rng(seed)
    width, height = size
    frames = []
    for k in range(count):
        coarse = Image.fromarray(rng.integers(30, 200, (4, 6, 3), dtype=np.uint8))
        frame = np.array(coarse.resize(size, Image.Resampling.BILINEAR))
        x = (5 * k) % max(1, width - 16)
        frame[height // 3 : height // 3 + 16, x : x + 16] = 250 - 5 * (k % 40)
        frames.append(frame)
    return frames


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    fps: int = 10,
    stamps: Iterable[int] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode frames; time stamps are in milliseconds where they are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width = frames[0].shape[:2] if frames else (32, 48)
        stream.pix_fmt = pixels
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for stamp, pixel in zip(stamps or range(len(frames)), frames, strict=True):
            frame = av.VideoFrame.from_ndarray(pixel, format="rgb24")
            frame.pts = stamp
            frame.time_base = Fraction(1, 1000) if stamps is not None else Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def plain_frames(path: Path) -> list[Image.Image]:
    """All frames as PyAV gives them, one after the other."""
    with av.open(str(path)) as container:
        return [frame.to_image() for frame in container.decode(video=0)]


def turn(path: Path) -> None:
    """Let an .mp4 ask players to turn it by 90 degrees."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 4 + 32 + 4
    content[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def damage(path: Path, *, share: float = 0.5, length: int = 600) -> None:
    """Overwrite a piece in the middle of the encoded data."""
    content = bytearray(path.read_bytes())
    at = int(len(content) * share)
    content[at : at + length] = bytes((7 * k) % 251 for k in range(length))
    path.write_bytes(content)


def write_lines(path: Path, lines: Iterable[Line]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(",".join(map(str, line)) + "\n" for line in lines))
    return path


def draw_scene(root: Path, *, video: bool = True, frames: int = 24) -> Path:
    """Two cameras that see two vehicles: a red and a blue one, which change places; each tracker has ids 1 and 2.

    In c1 the red one is 1, in c2 it is 2. Ground truth calls them 11 (red) and 12 (blue).
    """
    for camera, (red, blue) in {"c1": (1, 2), "c2": (2, 1)}.items():
        pixels = make_frames(frames, size=(120, 80), seed=len(camera))
        lines, truth = [], []
        for k, frame in enumerate(pixels):
            frame[:] = 90
            for track, vehicle, colour, top in ((red, 11, (210, 30, 30), 8), (blue, 12, (30, 40, 210), 46)):
                x = 6 + 3 * k
                frame[top : top + 24, x : x + 30] = colour
                box = (x, top, 30, 24)
                lines.append((k + 1, track, *box, 0.9, -1, -1, -1))
                truth.append((k + 1, vehicle, *box, 1, -1, -1, -1))
        if video:
            write_video(root / camera / "vdo.mp4", pixels, options={"g": "8", "crf": "12"})
        else:
            for k, frame in enumerate(pixels, start=1):
                (root / camera / "img1").mkdir(parents=True, exist_ok=True)
                Image.fromarray(frame).save(root / camera / "img1" / f"{k:06d}.png")
        write_lines(root / camera / "mtsc/sort.txt", lines)
        write_lines(root / camera / "gt/gt.txt", truth)
    return root
