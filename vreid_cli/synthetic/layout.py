"""The set on disk: who passes which camera when, and VeRi's names, folders and lists."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vreid_cli.errors import DataError, UsageError
from vreid_cli.runtime.progress import progress
from vreid_cli.synthetic.rendering import Camera, make_cameras, take_image
from vreid_cli.synthetic.vehicles import Vehicle, make_vehicles

#: Frames within which vehicles pass for the first time.
_DAY = 90_000
#: How often a vehicle passes a camera, and how often it passes again.
_SEEN = 0.9
_COMES_BACK = 0.1


@dataclass(frozen=True)
class DrawnSize:
    """How much is drawn.

    Attributes:
        train_vehicles: Vehicles to learn from.
        test_vehicles: Vehicles to look for; none of them is among the others.
        cameras: Cameras, each with its own view, light and background.
        images_per_track: Images of one passage of a vehicle before a camera; a few passages have one fewer.
    """

    train_vehicles: int = 64
    test_vehicles: int = 20
    cameras: int = 4
    images_per_track: int = 3

    def __post_init__(self) -> None:
        limits = {"train_vehicles": 1, "test_vehicles": 1, "cameras": 2, "images_per_track": 1}
        for name, least in limits.items():
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        # The names hold four digits for a vehicle and three for a camera.
        if self.train_vehicles + self.test_vehicles > 9999 or self.cameras > 999:
            raise UsageError("VeRi's names have room for 9999 vehicles and 999 cameras")
        # A longer passage would run into the vehicle's next one before the same camera.
        if self.images_per_track > 100:
            raise UsageError(f"images_per_track is {self.images_per_track}; it must be at most 100")


@dataclass(frozen=True)
class DrawnSet:
    """What was drawn: the folder, and how many images and tracks it holds."""

    root: Path
    train_images: int
    test_images: int
    query_images: int
    train_tracks: int
    test_tracks: int


@dataclass(frozen=True)
class _Passage:
    """A vehicle comes before a camera, at this frame."""

    vehicle: Vehicle
    camera: Camera
    start: int


@dataclass(frozen=True)
class _Shot:
    """One image to be taken, from this azimuth in degrees."""

    name: str
    track: str
    vehicle: Vehicle
    camera: Camera
    azimuth: float

    @property
    def pair(self) -> tuple[str, str]:
        """Vehicle and camera."""
        return self.vehicle.vehicle_id, self.camera.camera_id


def draw_veri(root: Path, size: DrawnSize, *, seed: int) -> DrawnSet:
    """Draw a data set in VeRi-776's layout, with all its lists; the same size and seed give the same bytes.

    The bytes hold for one version of NumPy and Pillow.

    Args:
        root: Folder to write into; made if need be.
        size: How much to draw.
        seed: Makes vehicles, cameras and images; not negative.

    Raises:
        UsageError: The seed is negative.
        DataError: ``root`` is no folder or not empty, or cannot be written.
    """
    if seed < 0:
        raise UsageError(f"seed is {seed}; it must be at least 0")
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise DataError(f"{root} is not an empty folder", hint="choose a new folder for the drawn set", file=root)
    train, test = _plan_splits(size, seed=seed)
    queries = _choose_queries(test, key=(seed, 3))
    try:
        with progress(total=len(train) + len(test), what="drawing", unit="img") as bar:
            for number, (split, shots) in enumerate((("train", train), ("test", test))):
                for _ in _take(shots, root / f"image_{split}", key=(seed, 4, number)):
                    bar.update(1)
                _write_lists(root, split, shots=shots)
        (root / "image_query").mkdir()
        for query in queries:
            shutil.copyfile(root / "image_test" / query.name, root / "image_query" / query.name)
        _write_truth(root, queries, shots=test)
    except OSError as error:
        raise DataError(f"{root} cannot be written: {error.strerror or error}", file=root) from error
    return DrawnSet(
        root=root,
        train_images=len(train),
        test_images=len(test),
        query_images=len(queries),
        train_tracks=len({shot.track for shot in train}),
        test_tracks=len({shot.track for shot in test}),
    )


def _plan_splits(size: DrawnSize, *, seed: int) -> tuple[list[_Shot], list[_Shot]]:
    """The images of the train and of the test vehicles, seen by the same cameras."""
    cameras, clock = make_cameras(size.cameras, seed=seed), Counter[str]()
    splits = []
    for number, (first, count) in enumerate(((1, size.train_vehicles), (1 + size.train_vehicles, size.test_vehicles))):
        vehicles = make_vehicles(count, first, key=(seed, 1, number))
        key = (seed, 2, number)
        splits.append(_plan_shots(vehicles, cameras, clock=clock, images=size.images_per_track, key=key))
    train, test = splits
    return train, test


def _plan_shots(
    vehicles: Sequence[Vehicle], cameras: Sequence[Camera], *, clock: Counter[str], images: int, key: Sequence[int]
) -> list[_Shot]:
    """Every image of these vehicles, in the order of the names; ``key`` seeds, ``clock`` numbers the tracks."""
    rng = np.random.default_rng(key)
    passages = _plan_passages(vehicles, cameras, rng=rng)
    # Tracks are numbered along each camera's own clock, so that a number alone is not unique, as in VeRi.
    passages.sort(key=lambda passage: (passage.camera.camera_id, passage.start))
    shots = []
    for passage in passages:
        camera_id = passage.camera.camera_id
        clock[camera_id] += 1
        track = f"{passage.vehicle.vehicle_id}_{camera_id}_t{clock[camera_id]:04d}"
        shots += _plan_track(passage, track, images=images, rng=rng)
    return sorted(shots, key=lambda shot: shot.name)


def _plan_passages(
    vehicles: Sequence[Vehicle], cameras: Sequence[Camera], *, rng: np.random.Generator
) -> list[_Passage]:
    """Which vehicle passes which camera when: most cameras, at least two, now and then twice."""
    passages: list[_Passage] = []
    for vehicle in vehicles:
        seen = [k for k in range(len(cameras)) if rng.random() < _SEEN]
        if len(seen) < 2:
            seen = sorted(rng.choice(len(cameras), size=2, replace=False).tolist())
        for k in seen:
            start = int(rng.integers(_DAY))
            passages.append(_Passage(vehicle, cameras[k], start))
            # The very first comes back always, so that the smallest set too has a pair of two tracks.
            if len(passages) == 1 or rng.random() < _COMES_BACK:
                passages.append(_Passage(vehicle, cameras[k], start + int(rng.integers(_DAY // 50, _DAY))))
    return passages


def _plan_track(passage: _Passage, track: str, *, images: int, rng: np.random.Generator) -> list[_Shot]:
    """Images of one passage: the vehicle turns a little as it goes by."""
    count = max(images - int(rng.random() < 0.25), 1)
    azimuth, turn = passage.camera.azimuth + rng.normal(0, 7), rng.uniform(-3.5, 3.5)
    frame, shots = passage.start, []
    for k in range(count):
        name = f"{passage.vehicle.vehicle_id}_{passage.camera.camera_id}_{frame:08d}_{int(rng.integers(2))}.jpg"
        shots.append(_Shot(name, track, passage.vehicle, passage.camera, azimuth + k * turn))
        frame += 5 * int(rng.integers(1, 4))
    return shots


def _choose_queries(shots: Sequence[_Shot], *, key: Sequence[int]) -> list[_Shot]:
    """One image of each vehicle and camera, mostly the first, in the order of the names."""
    rng = np.random.default_rng(key)
    pairs: dict[tuple[str, str], list[_Shot]] = defaultdict(list)
    for shot in shots:
        pairs[shot.pair].append(shot)
    return [pair[0 if rng.random() < 0.85 else int(rng.integers(len(pair)))] for pair in pairs.values()]


def _take(shots: Sequence[_Shot], folder: Path, *, key: Sequence[int]) -> Iterator[Path]:
    """Write the images, each made from its own place in the sequence; gives each path once it is written."""
    folder.mkdir(parents=True)
    for position, shot in enumerate(shots):
        rng = np.random.default_rng([*key, position])
        image = take_image(shot.vehicle, shot.camera, azimuth=shot.azimuth, rng=rng)
        path = folder / shot.name
        image.save(path, quality=shot.camera.quality)
        yield path


def _write_lists(root: Path, split: str, *, shots: Sequence[_Shot]) -> None:
    """``name_<split>.txt``, ``<split>_track.txt`` and ``<split>_label.xml``."""
    tracks: dict[str, list[str]] = defaultdict(list)
    for shot in shots:
        tracks[shot.track].append(shot.name)
    _write_lines(root / f"name_{split}.txt", [shot.name for shot in shots])
    _write_lines(root / f"{split}_track.txt", [f"{track} {' '.join(names)} " for track, names in tracks.items()])
    items = [
        f'        <Item imageName="{shot.name}" vehicleID="{shot.vehicle.vehicle_id}" '
        f'cameraID="{shot.camera.camera_id}" colorID="{shot.vehicle.colour_id}" typeID="{shot.vehicle.type_id}" />'
        for shot in shots
    ]
    element = "TrainingImages" if split == "train" else "TestImages"
    head = ['<?xml version="1.0" encoding="gb2312" ?>', f'<{element} Version="1.0">']
    lines = [*head, f'    <Items number="{len(shots)}">', *items, "    </Items>", f"</{element}>"]
    _write_lines(root / f"{split}_label.xml", lines)


def _write_truth(root: Path, queries: Sequence[_Shot], *, shots: Sequence[_Shot]) -> None:
    """``name_query.txt``, and the good and junk positions in ``name_test.txt`` for each query, counted from 1."""
    _write_lines(root / "name_query.txt", [query.name for query in queries])
    good, junk = [], []
    for query in queries:
        same = [(k, shot) for k, shot in enumerate(shots, 1) if shot.vehicle is query.vehicle]
        good.append("".join(f"{k} " for k, shot in same if shot.pair != query.pair))
        junk.append("".join(f"{k} " for k, shot in same if shot.pair == query.pair))
    _write_lines(root / "gt_index.txt", good)
    _write_lines(root / "jk_index.txt", junk)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    """Lines that end as in the release, with CR and LF; everything in them is ASCII, and so gb2312 too."""
    path.write_bytes("".join(f"{line}\r\n" for line in lines).encode("ascii"))
