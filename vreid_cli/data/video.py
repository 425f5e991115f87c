"""Frames of videos, by PyAV (the extra ``video``): decoded front to back, numbered from 1 in the order of showing.

That is how trackers count them. After a damaged frame nobody knows how the tracker counted on, so what follows is not
used. Rotation that a file asks of players is not applied, as PyAV does not.
"""

from __future__ import annotations

import itertools
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vreid_cli.data.decoding import BadImageError
from vreid_cli.errors import DataError
from vreid_cli.runtime.extras import require_extra
from vreid_cli.runtime.files import local_file

if TYPE_CHECKING:
    from PIL import Image

#: Bytes of a video that nobody ever wrote, one after the other, at most: some formats are searched for frames up to the
#: end of a file, and read zeros there for seconds a gigabyte.
_LARGEST_HOLE = 16 << 30
#: Endings that a camera's folder is searched for.
VIDEO_ENDINGS = frozenset({".mp4", ".avi", ".mkv", ".mov", ".m4v", ".webm", ".ts"})


@dataclass(frozen=True)
class VideoFacts:
    """What a video says about itself.

    Attributes:
        size: Width and height of its frames.
        fps: Frames per second on average; None where it does not say it.
        rotation: Degrees by which players turn it.
        frames: How many frames there are, as far as it is known without decoding.
        variable: Whether its frames do not follow each other evenly.
        missing: How many frames seem to be missing in its middle, by its time stamps or its own count.
    """

    size: tuple[int, int]
    fps: float | None
    rotation: int
    frames: int | None
    variable: bool
    missing: int


def is_video(name: str) -> bool:
    """Whether the ending of a file's name is that of a video and the file is not hidden.

    Examples:
        >>> is_video("vdo.avi"), is_video("vdo.txt"), is_video(".vdo.mp4")
        (True, False, False)
    """
    return Path(name).suffix.lower() in VIDEO_ENDINGS and not Path(name).name.startswith(".")


def probe_video(path: Path) -> VideoFacts:
    """Look at a video without decoding more than its first frame.

    Raises:
        DataError: It cannot be opened, or holds no frame.
        UsageError: PyAV is not installed.
    """
    with _open(path) as (container, stream):
        stamps = frame_stamps(path)
        first = next(iter(container.decode(stream)), None)
        if first is None:
            raise DataError(f"{path} holds no frame that can be decoded", file=path)
        rate = stream.average_rate
        gaps = _Gaps.of(stamps or ())
        uncounted = stream.frames - len(stamps) if stamps is not None and stream.frames else 0
        return VideoFacts(
            size=(first.width, first.height),
            fps=None if not rate else float(rate),
            rotation=int(first.rotation),
            frames=stream.frames or None if stamps is None else len(stamps),
            variable=gaps.uneven,
            missing=max(gaps.missing, uncounted),
        )


def frame_stamps(path: Path) -> tuple[int, ...] | None:
    """The time stamp of each frame, rising, in the stream's units; None where a frame has none, or two have the same.

    Nothing is decoded.

    Raises:
        DataError: The file cannot be opened.
    """
    stat = path.stat() if path.is_file() else None
    return _stamps(path, stat and (stat.st_mtime_ns, stat.st_size))


@lru_cache(maxsize=16)
def _stamps(path: Path, _version: object) -> tuple[int, ...] | None:
    with _open(path) as (container, stream):
        stamps = [packet.pts for packet in container.demux(stream) if packet.size and not packet.is_discard]
    if not stamps or None in stamps or len(set(stamps)) < len(stamps):
        return None
    return tuple(sorted(stamps))


def read_frames(path: Path, wanted: Sequence[int]) -> Iterator[tuple[int, Image.Image | str]]:
    """Some frames of a video, in one pass from front to back.

    Args:
        path: The video.
        wanted: Frame numbers from 1, rising.

    Yields:
        Each number with its frame in RGB, or the reason why there is none.

    Raises:
        DataError: The video cannot be opened.
    """
    left = list(reversed(wanted))
    last = 0
    reason = ""
    to_image = _converter(path)
    for number, frame in _numbered(path):
        if frame is None or number != last + 1 or frame.is_corrupt:
            reason = f"the video is damaged at frame {last + 1}: which frames follow is not sure"
            break
        if left and left[-1] == number:
            yield left.pop(), to_image(frame)
        last = number
        if not left:
            return
    reason = reason or f"the video ends before it, with frame {last}"
    yield from ((missed, reason) for missed in reversed(left))


def read_frame(path: Path, number: int) -> Image.Image:
    """One frame of a video, found without decoding all that is before it where the video has time stamps.

    Raises:
        BadImageError: There is no such frame, or it is damaged.
    """
    try:
        stamps = frame_stamps(path)
        if stamps is None or number > len(stamps):
            ((_, content),) = read_frames(path, [number])
            if isinstance(content, str):
                raise BadImageError(content)
            return content
        with _open(path) as (container, stream):
            container.seek(stamps[number - 1], stream=stream, backward=True)
            for frame in _decoded(container, stream):
                if frame is not None and frame.pts == stamps[number - 1]:
                    return _converter(path)(frame)
    except DataError as error:
        raise BadImageError(error.message) from None
    raise BadImageError("the video is damaged: this frame cannot be decoded")


def _numbered(path: Path) -> Iterator[tuple[int, Any]]:
    """The frames with their numbers; None in the place of what cannot be decoded."""
    stamps = frame_stamps(path)
    number_of = None if stamps is None else {stamp: number for number, stamp in enumerate(stamps, start=1)}
    count = 0
    with _open(path) as (container, stream):
        stream.thread_type = "AUTO"
        for frame in _decoded(container, stream):
            count += 1
            # A frame whose time stamp no packet had has no number.
            yield (count if number_of is None or frame is None else number_of.get(frame.pts, -1)), frame


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """The frames as they come; None where something cannot be decoded."""
    import av

    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.FFmpegError:
            yield None
            continue
        yield from frames


def _converter(path: Path) -> Callable[[Any], Image.Image]:
    """From frames of one video to images in RGB.

    PyAV keeps one converter for all frames of a thread, which has threads itself from release 19 on. They do not
    survive a fork, and a decoding process would wait for them for ever.
    """
    converter = _import_av(path).video.reformatter.VideoReformatter()

    def to_image(frame: Any) -> Image.Image:
        return converter.reformat(frame, format="rgb24").to_image()  # type: ignore[no-any-return]

    return to_image


def _import_av(path: Path) -> Any:
    require_extra("video", ["av"], needed_by=f"reading {path.name}")
    import av

    # Older releases of torchvision switch PyAV's log on. Closing a damaged video can then wait for ever, namely for
    # threads of the decoder that wait for the interpreter in order to log.
    av.logging.set_level(None)
    return av


@dataclass(frozen=True)
class _Gaps:
    """What the times between frames say: whether they are uneven, and how many frames are missing if they are not."""

    uneven: bool
    missing: int

    @classmethod
    def of(cls, stamps: Sequence[int]) -> _Gaps:
        gaps = [after - before for before, after in itertools.pairwise(stamps)]
        if not gaps:
            return cls(uneven=False, missing=0)
        step = statistics.median(gaps)
        steps = [round(gap / step) for gap in gaps]
        # Units that do not divide a second evenly make the gaps differ by one.
        if any(count < 1 or abs(gap - count * step) > count for gap, count in zip(gaps, steps, strict=True)):
            return cls(uneven=True, missing=0)
        return cls(uneven=False, missing=sum(steps) - len(steps))


def _refuse_hole(path: Path) -> None:
    """Refuse a file of which a large piece was never written, where the system knows that.

    Raises:
        OSError: It is one, or cannot be read.
    """
    size = path.stat().st_size
    if size <= _LARGEST_HOLE or not hasattr(os, "SEEK_HOLE"):
        return
    with path.open("rb") as file:
        hole = file.seek(0, os.SEEK_HOLE)
        while hole < size:
            try:
                data = file.seek(hole, os.SEEK_DATA)
            except OSError:  # nothing but the hole is left
                data = size
            if data - hole > _LARGEST_HOLE:
                raise OSError(
                    f"{data - hole:,} bytes from byte {hole:,} on were never written; was it copied to its end?"
                )
            hole = file.seek(data, os.SEEK_HOLE) if data < size else size


@contextmanager
def _open(path: Path) -> Iterator[tuple[Any, Any]]:
    av = _import_av(path)
    try:
        with local_file(path) as local:
            _refuse_hole(local)
            container = av.open(str(local), metadata_errors="replace")  # a title tells nothing about frames
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{path} cannot be opened as a video: {error}", file=path) from None
    try:
        if not container.streams.video:
            raise DataError(f"{path} holds no video", file=path)
        yield container, container.streams.video[0]
    except av.FFmpegError as error:
        raise DataError(f"{path} cannot be read: {error}", file=path) from None
    finally:
        container.close()
