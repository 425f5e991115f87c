"""A synthetic scene: vehicles that drive from camera to camera, as videos with what a tracker would write."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from vreid_cli.errors import DataError
from vreid_cli.runtime.extras import require_extra
from vreid_cli.runtime.files import atomic_path, write_csv, write_text
from vreid_cli.runtime.progress import progress
from vreid_cli.synthetic.cameras import Camera, make_cameras
from vreid_cli.synthetic.options import SceneOptions
from vreid_cli.synthetic.rendering import (
    OVERSAMPLING,
    View,
    develop,
    paint_background,
    paint_vehicle,
    place_eye,
    project,
    with_shadow,
)
from vreid_cli.synthetic.vehicles import Vehicle, make_vehicles

FPS = 4
_SIZE = (384, 216)
#: Seconds that a passage takes, from where the vehicle enters the frame to where it leaves.
_PASSAGE = 3.0
#: Seconds from leaving one camera to entering the next, at least and at most.
_BETWEEN = (4.0, 9.0)
#: Seconds between two vehicles at the first camera.
_FOLLOWING = (1.2, 2.6)
#: How often a vehicle passes one camera only and turns off. Else it passes all.
_LOCAL = 0.35
#: How often a camera misses a vehicle, a tracker loses one in the middle of a passage, or misses a box.
_MISSED, _LOST, _GAP = 0.1, 0.12, 0.05
#: Where the lanes lie, as shares of the height of the frame: the far one is driven by every second vehicle.
_LANES = (0.38, 0.68)
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Passage:
    """A vehicle before one camera, from its first to its last second on the clock of all cameras."""

    vehicle: Vehicle
    start: float
    lane: int
    side: int

    @property
    def end(self) -> float:
        """When it leaves the frame."""
        return self.start + _PASSAGE


@dataclass(frozen=True)
class SyntheticScene:
    """A scene on disk: its folder, and how many cameras, vehicles, passages and frames it holds."""

    root: Path
    cameras: int
    vehicles: int
    passages: int
    frames: int

    @property
    def travel_times(self) -> Path:
        """Shortest and longest time between any two cameras."""
        return self.root / "ways.csv"


def render_scene(
    root: Path, options: SceneOptions | None = None, *, cameras: int = 4, first_vehicle: int = 1, seed: int = 0
) -> SyntheticScene:
    """Render a scene: a folder for each camera with ``vdo.mp4``, ``mtsc/tracker.txt`` and ``gt/gt.txt``.

    Beside them lie ``cameras.toml`` (frame rate and start of each video) and ``ways.csv`` (travel times). A tracker's
    ids count from 1 in each camera; now and then it loses a vehicle and finds it under another id.

    Args:
        root: Folder to write into; created where it does not exist.
        options: How much to render.
        cameras: The cameras are those of :func:`vreid_cli.synthetic.veri_set.render_veri` with the same seed.
        first_vehicle: Number of the first vehicle.
        seed: Makes vehicles, ways and images.

    Raises:
        UsageError: PyAV is not installed.
        DataError: ``root`` is not empty, or cannot be written.

    Examples:
        >>> scene = render_scene(Path("scene"), SceneOptions(vehicles=2), cameras=2, seed=3)
        >>> sorted(path.name for path in Path("scene").iterdir())
        ['c001', 'c002', 'cameras.toml', 'ways.csv']
    """
    require_extra("video", ["av"], needed_by="rendering videos")
    options = options or SceneOptions()
    if root.exists() and any(root.iterdir()):
        raise DataError(f"{root} is not an empty folder", hint="choose a new folder for the scene", file=root)
    seen_by = make_cameras(cameras, seed=seed)
    vehicles = make_vehicles(options.vehicles, first_vehicle, key=(seed, 11))
    ways = _plan_ways(vehicles, len(seen_by), rng=np.random.default_rng((seed, 12)))
    frames = [_count_frames(passages) for passages in ways]
    with progress(total=sum(frames), what="filming", unit="frames") as bar:
        for number, (camera, passages) in enumerate(zip(seen_by, ways, strict=True)):
            rng = np.random.default_rng((seed, 13, number))
            folder = root / camera.camera_id
            boxes = _film(folder / "vdo.mp4", camera, passages, rng=rng, advance=bar.update)
            _write_boxes(folder, boxes, rng=rng)
    _write_times(root, seen_by, ways)
    return SyntheticScene(root, len(seen_by), len(vehicles), sum(map(len, ways)), sum(frames))


def _plan_ways(vehicles: Sequence[Vehicle], cameras: int, *, rng: np.random.Generator) -> list[list[Passage]]:
    """The passages before each camera; vehicles drive from the first to the last, but for local ones and misses."""
    ways: list[list[Passage]] = [[] for _ in range(cameras)]
    begin = 1.0
    for number, vehicle in enumerate(vehicles):
        start, lane = begin, number % len(_LANES)
        seen = [k for k in range(cameras) if rng.random() >= _MISSED]
        if number and rng.random() < _LOCAL:
            seen = [int(rng.integers(cameras))]
        elif len(seen) < 2:
            seen = list(range(cameras))
        for k in range(cameras):
            if k in seen:
                ways[k].append(Passage(vehicle, start, lane, side=1 if k % 2 else -1))
            start += _PASSAGE + float(rng.uniform(*_BETWEEN))
        begin += float(rng.uniform(*_FOLLOWING))
    return ways


def _start_of(passages: Sequence[Passage]) -> float:
    """When the video of a camera starts: a little before the first vehicle, at a frame of its own clock."""
    return math.floor(min((one.start for one in passages), default=1.0)) - 1.0


def _count_frames(passages: Sequence[Passage]) -> int:
    end = max((one.end for one in passages), default=2.0)
    return math.ceil((end - _start_of(passages)) * FPS) + 1


#: Frame number, vehicle, box.
SeenBox = tuple[int, str, Box]


def _film(
    path: Path,
    camera: Camera,
    passages: Sequence[Passage],
    *,
    rng: np.random.Generator,
    advance: Callable[[int], object],
) -> list[SeenBox]:
    """Write the video of a camera, and return the box of each vehicle in each frame."""
    import av

    background = paint_background(camera, _SIZE, rng=rng)
    start, found = _start_of(passages), []
    with atomic_path(path) as temporary, av.open(str(temporary), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "20", "g": "20", "threads": "1"})
        stream.width, stream.height = _SIZE
        stream.pix_fmt = "yuv420p"
        for k in range(_count_frames(passages)):
            image, boxes = _frame(camera, passages, start + k / FPS, background=background, rng=rng)
            found += [(k + 1, vehicle, box) for vehicle, box in boxes]
            frame = av.VideoFrame.from_image(image)
            frame.pts, frame.time_base = k, Fraction(1, FPS)
            container.mux(stream.encode(frame))
            advance(1)
        container.mux(stream.encode())
    return found


def _frame(
    camera: Camera,
    passages: Sequence[Passage],
    time: float,
    *,
    background: Image.Image,
    rng: np.random.Generator,
) -> tuple[Image.Image, list[tuple[str, Box]]]:
    """One frame, and the boxes of the vehicles that are in it, the far lane first."""
    present = sorted((one for one in passages if one.start <= time <= one.end), key=lambda one: one.lane)
    image, boxes = background, []
    for passage in present:
        view = _view(passage, camera, share=(time - passage.start) / _PASSAGE)
        image = _with_vehicle(image, passage.vehicle, camera, view=view)
        corners = np.concatenate([patch.corners for patch in passage.vehicle.patches])
        pixels = np.array(view.pixels(corners))
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        inside = np.clip(np.stack([low, high]), 0, _SIZE)
        width, height = inside[1] - inside[0]
        if width * height > 0.35 * np.prod(high - low):
            name = passage.vehicle.vehicle_id
            boxes.append((name, (float(inside[0, 0]), float(inside[0, 1]), float(width), float(height))))
    return develop(image, camera, rng=rng), boxes


def _view(passage: Passage, camera: Camera, *, share: float) -> View:
    """How the camera sees a vehicle that has driven this share of its way through the frame."""
    corners = np.concatenate([patch.corners for patch in passage.vehicle.patches])
    # It turns a little as it goes by.
    azimuth = camera.azimuth + passage.side * (share - 0.5) * 16
    eye, axes = place_eye(corners, camera, azimuth=azimuth, tilt=0.0)
    plane = project(corners, eye, axes)
    low, high = plane.min(axis=0), plane.max(axis=0)
    scale = camera.long_side * (0.86 + 0.12 * passage.lane) / float((high - low).max())
    across = share if passage.side > 0 else 1 - share
    middle = np.array([across * (_SIZE[0] + 60) - 30, _LANES[passage.lane] * _SIZE[1]])
    return View(eye, axes, _SIZE, scale, middle - (low + high) / 2 * scale)


def _with_vehicle(image: Image.Image, vehicle: Vehicle, camera: Camera, *, view: View) -> Image.Image:
    """The frame with the vehicle painted into it; only the part that it touches is painted."""
    corners = np.concatenate([patch.corners for patch in vehicle.patches])
    pixels = np.array(view.pixels(corners))
    left, top = np.clip(np.floor(pixels.min(axis=0)) - 16, 0, _SIZE).astype(int).tolist()
    right, bottom = np.clip(np.ceil(pixels.max(axis=0)) + 16, 0, _SIZE).astype(int).tolist()
    if right - left < 2 or bottom - top < 2:
        return image
    part = replace(view, size=(right - left, bottom - top), offset=view.offset - np.array([left, top]))
    (x0, y0, _), (x1, y1, _) = corners.min(axis=0) - 0.1, corners.max(axis=0) + 0.1
    ground = np.array([[x0, y0, 0], [x1, y0, 0], [x1, y1, 0], [x0, y1, 0]])
    shaded = with_shadow(image.crop((left, top, right, bottom)), part.pixels(ground))
    width, height = shaded.size
    canvas = shaded.resize((width * OVERSAMPLING, height * OVERSAMPLING), Image.Resampling.BILINEAR)
    paint_vehicle(canvas, vehicle, camera=camera, view=part)
    found = image.copy()
    found.paste(canvas.reduce(OVERSAMPLING), (left, top))
    return found


def _write_boxes(folder: Path, boxes: Sequence[SeenBox], *, rng: np.random.Generator) -> None:
    """The true boxes with the numbers of the vehicles, and what a tracker makes of them."""
    rows = [(frame, int(vehicle), *(round(number, 1) for number in box), 1) for frame, vehicle, box in boxes]
    _write_lines(folder / "gt/gt.txt", rows)
    _write_lines(folder / "mtsc/tracker.txt", _track(boxes, rng=rng))


def _track(boxes: Sequence[SeenBox], *, rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    """Boxes that are a little wide and a little off, ids in the order in which vehicles appear, gaps and losses."""
    ids: dict[str, int] = {}
    seen: dict[str, int] = {}
    lost = {vehicle: bool(rng.random() < _LOST) for vehicle in dict.fromkeys(vehicle for _, vehicle, _ in boxes)}
    following = 1
    for frame, vehicle, (x, y, width, height) in boxes:
        seen[vehicle] = seen.get(vehicle, 0) + 1
        if vehicle not in ids or (lost[vehicle] and seen[vehicle] == round(_PASSAGE * FPS / 2)):
            ids[vehicle], following = following, following + 1
        if rng.random() < _GAP:
            continue
        wide, tall = rng.uniform(1.06, 1.16, size=2)
        shift = rng.normal(0, 1.2, size=2)
        left, top = x - (wide - 1) * width / 2 + shift[0], y - (tall - 1) * height / 2 + shift[1]
        numbers = (round(float(number), 1) for number in (left, top, wide * width, tall * height))
        yield (frame, ids[vehicle], *numbers, round(float(rng.uniform(0.6, 0.99)), 2))


def _write_lines(path: Path, rows: Iterable[Sequence[object]]) -> None:
    write_text(path, "".join(f"{','.join(map(str, row))},-1,-1,-1\n" for row in rows))


def _write_times(root: Path, cameras: Sequence[Camera], ways: Sequence[Sequence[Passage]]) -> None:
    """``cameras.toml`` and ``ways.csv``, whose times leave the room that boxes at the edge of a frame need."""
    tables = [f"fps = {FPS}\n"]
    for camera, passages in zip(cameras, ways, strict=True):
        tables.append(f"[cameras.{camera.camera_id}]\nstart = {_start_of(passages)}\n")
    write_text(root / "cameras.toml", "\n".join(tables))
    rows = []
    for one in range(len(cameras)):
        for other in range(one + 1, len(cameras)):
            hops = other - one
            low, high = (hops * seconds + (hops - 1) * _PASSAGE for seconds in _BETWEEN)
            # A track that was lost ends before the passage does.
            rows.append(
                [cameras[one].camera_id, cameras[other].camera_id, round(low, 1), round(high + 2 * _PASSAGE, 1)]
            )
    write_csv(root / "ways.csv", ["camera_a", "camera_b", "min_s", "max_s"], rows)
