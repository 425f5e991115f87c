"""Cameras that differ in view, light and lens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vreid_cli.synthetic.colours import Colour, near
from vreid_cli.synthetic.geometry import Floats

#: Views that the cameras take in turn: both ends and both sides of a vehicle.
_AZIMUTHS = (38.0, 145.0, -52.0, -128.0, 80.0, -20.0, 165.0, -95.0)
_ROADS: tuple[Colour, ...] = ((0.42, 0.42, 0.43), (0.56, 0.53, 0.48), (0.33, 0.35, 0.38), (0.62, 0.62, 0.60))
_VERGES: tuple[Colour, ...] = ((0.30, 0.38, 0.22), (0.60, 0.57, 0.50), (0.42, 0.45, 0.50), (0.45, 0.42, 0.30))


@dataclass(frozen=True)
class Camera:
    """Where a camera stands and how it sees.

    Attributes:
        camera_id: As in the names of the images.
        azimuth: From where it sees the vehicles, in degrees: 0 is the front, 90 the left side.
        elevation: How far it looks down, in degrees.
        distance: From the vehicle, in lengths of the vehicle.
        sun: Unit vector towards the light, (3,).
        gain: Brightness.
        gamma: Below 1 for a washed-out, above 1 for a hard image.
        cast: Gains of red, green and blue.
        haze: Share of grey veil.
        blur: Radius in pixels.
        noise: Standard deviation, of 255.
        road: Colour of the road.
        verge: Colour of what lies behind it.
        long_side: Usual length of the images' long side in pixels.
        quality: Of the JPEG.
    """

    camera_id: str
    azimuth: float
    elevation: float
    distance: float
    sun: Floats
    gain: float
    gamma: float
    cast: Colour
    haze: float
    blur: float
    noise: float
    road: Colour
    verge: Colour
    long_side: float
    quality: int


def make_cameras(count: int, *, seed: int) -> list[Camera]:
    """Cameras whose conditions are spread evenly, in an order that depends on the seed."""
    rng = np.random.default_rng([seed, 0])
    even = (np.arange(count) + 0.5) / count
    light, tint, haze, softness = (rng.permutation(even) for _ in range(4))
    cameras = []
    for k in range(count):
        hue, angle = 2 * np.pi * tint[k], rng.uniform(0, 2 * np.pi)
        cast = 1 + 0.13 * np.cos(hue + np.array([0.0, 2.1, 4.2]))
        sun = np.array([np.cos(angle), np.sin(angle), rng.uniform(0.8, 1.8)])
        cameras.append(
            Camera(
                camera_id=f"c{k + 1:03d}",
                azimuth=_AZIMUTHS[k % len(_AZIMUTHS)] + rng.uniform(-6, 6),
                elevation=rng.uniform(14, 30),
                distance=rng.uniform(2.2, 3.6),
                sun=sun / np.linalg.norm(sun),
                gain=0.62 + 0.62 * light[k],
                gamma=rng.uniform(0.85, 1.2),
                cast=(float(cast[0]), float(cast[1]), float(cast[2])),
                haze=0.22 * haze[k],
                blur=0.2 + 0.7 * softness[k],
                noise=rng.uniform(2.0, 7.0),
                road=near(_ROADS[k % len(_ROADS)], 0.06, rng=rng),
                verge=near(_VERGES[int(rng.integers(len(_VERGES)))], 0.06, rng=rng),
                long_side=rng.uniform(118, 148),
                quality=int(rng.integers(78, 93)),
            )
        )
    return cameras
