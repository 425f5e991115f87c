"""Who passes which camera when, and the images that follow from it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vreid_cli.synthetic.cameras import Camera
from vreid_cli.synthetic.vehicles import Vehicle

#: Frames within which vehicles pass for the first time.
_DAY = 90_000
#: How often a vehicle passes a camera, and how often it passes again.
_SEEN = 0.9
_COMES_BACK = 0.1


@dataclass(frozen=True)
class Shot:
    """One image to render, with VeRi's names for it and its track; the azimuth is in degrees."""

    name: str
    track: str
    vehicle: Vehicle
    camera: Camera
    azimuth: float

    @property
    def pair(self) -> tuple[str, str]:
        """Vehicle and camera."""
        return self.vehicle.vehicle_id, self.camera.camera_id


def plan_shots(
    vehicles: Sequence[Vehicle],
    cameras: Sequence[Camera],
    *,
    images_per_track: int,
    clock: Counter[str],
    rng: np.random.Generator,
) -> list[Shot]:
    """Every image of these vehicles, in the order of the names.

    Args:
        vehicles: Each passes most of the cameras, at least two, and some of them twice.
        cameras: Who sees them.
        images_per_track: Images of one passage; a few passages have one fewer.
        clock: The last number of a track by camera; counts on.
        rng: Chooses passages, frames and views.
    """
    passages = list(_pass_by(vehicles, cameras, rng))
    # Tracks are numbered along each camera's own clock, so that a number alone is not unique, as in VeRi.
    passages.sort(key=lambda passage: (passage[1].camera_id, passage[2]))
    shots: list[Shot] = []
    for vehicle, camera, frame in passages:
        clock[camera.camera_id] += 1
        track = f"{vehicle.vehicle_id}_{camera.camera_id}_t{clock[camera.camera_id]:04d}"
        count = max(images_per_track - int(rng.random() < 0.25), 1)
        # The vehicle turns a little as it goes by.
        azimuth, turn = camera.azimuth + rng.normal(0, 7), rng.uniform(-3.5, 3.5)
        for k in range(count):
            name = f"{vehicle.vehicle_id}_{camera.camera_id}_{frame:08d}_{int(rng.integers(2))}.jpg"
            shots.append(Shot(name, track, vehicle, camera, azimuth + k * turn))
            frame += 5 * int(rng.integers(1, 4))
    return sorted(shots, key=lambda shot: shot.name)


def choose_queries(shots: Sequence[Shot], rng: np.random.Generator) -> list[Shot]:
    """One image of each vehicle and camera, mostly the first, in the order of the names."""
    pairs: dict[tuple[str, str], list[Shot]] = defaultdict(list)
    for shot in shots:
        pairs[shot.pair].append(shot)
    return [pair[0 if rng.random() < 0.85 else int(rng.integers(len(pair)))] for pair in pairs.values()]


def _pass_by(
    vehicles: Sequence[Vehicle], cameras: Sequence[Camera], rng: np.random.Generator
) -> Iterator[tuple[Vehicle, Camera, int]]:
    """Vehicle, camera and first frame of each passage."""
    first = True
    for vehicle in vehicles:
        seen = [k for k in range(len(cameras)) if rng.random() < _SEEN]
        if len(seen) < 2:
            seen = sorted(rng.choice(len(cameras), size=2, replace=False).tolist())
        for k in seen:
            start = int(rng.integers(_DAY))
            yield vehicle, cameras[k], start
            # The very first comes back always, so that the smallest set too has a pair of two tracks.
            if first or rng.random() < _COMES_BACK:
                yield vehicle, cameras[k], start + int(rng.integers(_DAY // 50, _DAY))
            first = False
