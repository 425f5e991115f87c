"""Cameras on disk: a folder each, with what a tracker wrote beside a video or a folder of frames."""

from __future__ import annotations

import configparser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vreid_cli.data.decoding import is_image, open_image
from vreid_cli.data.listing import list_images, walk
from vreid_cli.data.trackers import Size, TrackerFormat, tracker_format
from vreid_cli.data.video import VideoFacts, is_video, probe_video
from vreid_cli.errors import DataError, first_line
from vreid_cli.runtime.files import read_text
from vreid_cli.types.identities import Clock
from vreid_cli.types.tracker import TrackerBoxes

FRAMES, SEQUENCE = "img1", "seqinfo.ini"
#: Folders whose text is no tracker's, or is read as ground truth only where there is nothing else.
_NO_TRACKS = ("det", "gt", "segm", "calib", "calibration", FRAMES)
_NO_TRACK_FILES = ("calibration.txt", "readme.txt", "license.txt")
#: A folder that holds one of these is a camera, whose frames must be somewhere.
_TRACK_FOLDERS = {"det", "gt", "mtsc", "labels"}
TRUTH = Path("gt/gt.txt")


@dataclass(frozen=True)
class Recording:
    """What one camera saw, and the tracks in it.

    Attributes:
        camera: Its name.
        folder: Its folder.
        tracks: The tracker's file, or folder of files.
        frames: The video, or the folder of frames.
        truth: The ground truth, where it is there.
    """

    camera: str
    folder: Path
    tracks: Path
    frames: Path
    truth: Path | None

    @cached_property
    def format(self) -> TrackerFormat:
        """How the tracks are written."""
        found = tracker_format(self.tracks)
        if found is None:
            raise DataError(f"{self.tracks} is in no known format of tracks", file=self.tracks)
        return found

    @cached_property
    def video(self) -> VideoFacts | None:
        """What the video says; None for a folder of frames."""
        return None if self.frames.is_dir() else probe_video(self.frames)

    @cached_property
    def frame_files(self) -> dict[int, str]:
        """The files of the frames by their numbers, for a folder of frames.

        Raises:
            DataError: A name is no number, or two have the same.
        """
        found: dict[int, str] = {}
        for name in list_images(self.frames):
            stem = Path(name).stem.rpartition("_")[2]
            if not (stem.isascii() and stem.isdecimal()):
                hint = "name frames by their number, as in 000001.jpg"
                raise DataError(f"{self.frames / name}: its name is no frame number", hint=hint, file=self.frames)
            if int(stem) in found:
                raise DataError(
                    f"{self.frames} holds frame {int(stem)} twice: {found[int(stem)]} and {name}", file=self.frames
                )
            found[int(stem)] = name
        return found

    @cached_property
    def size(self) -> Size:
        """Width and height of the frames.

        Raises:
            DataError: No frame can be read.
        """
        if self.video is not None:
            return self.video.size
        for name in self.frame_files.values():
            try:
                with open_image(self.frames / name) as image:
                    return image.size
            except OSError:
                continue  # extraction names each frame that cannot be read
        raise DataError(f"{self.frames} holds no frame that can be read", file=self.frames)

    def clock(self) -> Clock | None:
        """The frame rate that the video or ``seqinfo.ini`` states; None where neither does.

        Raises:
            DataError: ``seqinfo.ini`` is damaged.
        """
        path = self.folder / SEQUENCE
        if path.is_file():
            parser = configparser.ConfigParser()
            try:
                parser.read_string(read_text(path))
                rate = parser.getfloat("Sequence", "frameRate", fallback=0.0)
            except (configparser.Error, ValueError, OSError) as error:
                raise DataError(f"{path} cannot be read: {first_line(error)}", file=path) from None
            if rate > 0:
                return Clock(rate)
        return None if self.video is None or not self.video.fps else Clock(self.video.fps)

    def boxes(self) -> TrackerBoxes:
        """The tracker's boxes, as it wrote them.

        Raises:
            DataError: A line is not what it should be.
        """
        return self.format.read(self.tracks, self.size)


def find_recordings(root: Path, *, track_file: str | None = None) -> list[Recording]:
    """The cameras below a folder, by name.

    A camera is a folder with a video, or with frames in ``img1/``. Where a folder holds several videos, each is a
    camera, and its tracks bear its name. Without ``track_file`` a camera's tracks are the only text in its folders
    (such as ``mtsc/``), an ``.ottrk``, or Ultralytics' ``labels/``; else ``gt/gt.txt``.

    Args:
        root: The folder of the scene.
        track_file: The tracks below each camera's folder; ``*`` and ``?`` stand for anything.

    Raises:
        DataError: There are no cameras, one has no tracks or several files of them, or tracks but no frames.
    """
    found = []
    for folder, videos in _camera_folders(root):
        if len(videos) < 2:
            frames = folder / (videos[0] if videos else FRAMES)
            found.append(_recording(root, folder, frames, stem=None, track_file=track_file))
        else:
            found += [
                _recording(root, folder, folder / one, stem=Path(one).stem, track_file=track_file) for one in videos
            ]
    if not found:
        raise DataError(f"{root} holds no camera", file=root)
    names = [one.folder.name for one in found]
    if len(set(names)) == len(found):
        # AI City's cameras lie in folders of scenarios, and have names of their own.
        found = [
            Recording(n, one.folder, one.tracks, one.frames, one.truth) for n, one in zip(names, found, strict=True)
        ]
    return sorted(found, key=lambda one: one.camera)


def _camera_folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each folder with frames, and its videos."""
    if not root.is_dir():
        raise DataError(f"there is no folder {root}", file=root)
    for folder, below, files in walk(root):
        videos = sorted(file for file in files if is_video(file))
        below[:] = sorted(one for one in below if not one.startswith("."))
        if videos or (FRAMES in below and _has_images(folder / FRAMES)):
            below.clear()
            yield folder, videos
        elif (set(below) & _TRACK_FOLDERS or _has_ottrk(files)) and not _has_frames_below(folder):
            raise DataError(
                f"{folder} holds tracks, but neither a video nor frames in {FRAMES}/",
                hint="put the camera's video beside them",
                file=folder,
            )


def _has_ottrk(files: Sequence[str]) -> bool:
    return any(file.lower().endswith(".ottrk") for file in files)


def _has_frames_below(folder: Path) -> bool:
    found = ((below, files) for name, below, files in walk(folder) if name != folder)
    return any(FRAMES in below or any(map(is_video, files)) for below, files in found)


def _has_images(folder: Path) -> bool:
    return any(is_image(entry.name) for entry in folder.iterdir())


def _recording(root: Path, folder: Path, frames: Path, *, stem: str | None, track_file: str | None) -> Recording:
    camera = stem or (folder.relative_to(root).as_posix() if folder != root else folder.resolve().name)
    tracks = _choose_tracks(folder, camera, stem=stem, track_file=track_file)
    truth = folder / TRUTH
    return Recording(camera, folder, tracks, frames, truth if stem is None and truth.is_file() else None)


def _choose_tracks(folder: Path, camera: str, *, stem: str | None, track_file: str | None) -> Path:
    candidates: Sequence[Path]
    if track_file is not None:
        candidates = sorted(folder.glob(track_file))
        wanted = f"no '{track_file}'"
    else:
        candidates, wanted = _candidates(folder, stem), "no tracks"
    if stem is not None and track_file is not None:
        candidates = [path for path in candidates if stem in path.as_posix()]
    fitting = [path for path in candidates if tracker_format(path) is not None]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(path.relative_to(folder).as_posix() for path in fitting)
        hint = f"choose one with --track-file, as in --track-file '{fitting[0].relative_to(folder).as_posix()}'"
        raise DataError(f"camera {camera} has several files of tracks: {names}", hint=hint, file=folder)
    hint = f"expected as in {folder.name}/mtsc/tracks.txt, with lines frame, id, x, y, w, h, confidence"
    raise DataError(f"camera {camera} has {wanted} in {folder}", hint=hint, file=folder)


def _candidates(folder: Path, stem: str | None) -> Sequence[Path]:
    """Where tracks may be, those that are most likely alone."""
    if stem is not None:
        named = [
            folder / f"{stem}.ottrk",
            folder / f"{stem}.txt",
            folder / stem / "labels",
            folder / stem / "gt/gt.txt",
        ]
        return [path for path in named if path.exists()][:1]
    below = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name.lower() not in _NO_TRACKS]
    own = [path for path in sorted(folder.glob("*.txt")) if path.name.lower() not in _NO_TRACK_FILES]
    labels = [path for path in below if path.name == "labels"]
    groups = (
        [
            *folder.glob("*.ottrk"),
            *labels,
            *(file for path in below if path not in labels for file in path.glob("*.txt")),
        ],
        own,
        [folder / TRUTH] if (folder / TRUTH).is_file() else [],
    )
    return next((sorted(group) for group in groups if group), [])
