"""Cameras that differ in view, light and lens, and the images that they take of vehicles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from vreid_cli.synthetic.colours import PAINTS, Colour, near
from vreid_cli.synthetic.shapes import Floats, Part, Patch, Point
from vreid_cli.synthetic.vehicles import Vehicle

#: Images are painted this many times larger and then averaged down, which smooths the edges.
_OVERSAMPLING = 3
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


@dataclass(frozen=True)
class _Sight:
    """One glance of a camera at a vehicle: where the eye is, (3,), and its axes right, down, ahead as rows (3, 3)."""

    eye: Floats
    axes: Floats

    @classmethod
    def of(cls, camera: Camera, *, azimuth: float, roll: float, length: float, height: float) -> _Sight:
        """The eye on a sphere around the vehicle's middle, angles in degrees."""
        side, up, tilt = np.radians([azimuth, camera.elevation, roll])
        direction = np.array([np.cos(up) * np.cos(side), np.cos(up) * np.sin(side), np.sin(up)])
        middle = np.array([0.0, 0.0, height])
        right = np.array([-np.sin(side), np.cos(side), 0.0])
        down = np.cross(-direction, right)
        turned = np.cos(tilt) * right + np.sin(tilt) * down
        axes = np.stack([turned, np.cross(-direction, turned), -direction])
        return cls(middle + direction * camera.distance * length, axes)

    def project(self, points: Floats) -> Floats:
        """Points (k, 3) in metres to the image plane (k, 2)."""
        seen = (points - self.eye) @ self.axes.T
        flat: Floats = seen[:, :2] / seen[:, 2:]
        return flat


@dataclass(frozen=True)
class _Frame:
    """How the image plane becomes pixels: ``size`` (width, height), pixel = plane * scale + offset."""

    size: tuple[int, int]
    scale: float
    offset: Floats

    def pixels(self, plane: Floats, *, zoom: int = 1) -> list[Point]:
        """Pixel positions of points (k, 2) of the image plane, in an image enlarged ``zoom`` times."""
        return [(float(x), float(y)) for x, y in (plane * self.scale + self.offset) * zoom]


def _frame(plane: Floats, camera: Camera, *, rng: np.random.Generator) -> _Frame:
    """A crop around everything that is seen, (k, 2), as a detector would cut it: a little wide, a little off."""
    low, high = plane.min(axis=0), plane.max(axis=0)
    extent = high - low
    # The networks see a square: very long crops would lose both ends of the vehicle.
    wide = max(float(extent[0]), float(extent[1]) * 0.8) * rng.uniform(1.06, 1.2)
    tall = max(float(extent[1]) * rng.uniform(1.06, 1.2), wide / 1.35)
    long_side = float(np.clip(camera.long_side * rng.uniform(0.9, 1.1), 96, 160))
    scale = long_side / max(wide, tall)
    size = (max(round(wide * scale), 64), max(round(tall * scale), 64))
    shift = rng.uniform(-0.03, 0.03, size=2) * size
    return _Frame(size, scale, np.array(size) / 2 + shift - (low + high) / 2 * scale)


def _background(camera: Camera, size: tuple[int, int], *, rng: np.random.Generator) -> Image.Image:
    """Road with a coarse texture, the verge in the distance, and sometimes a lane line."""
    width, height = size
    horizon = height * float(np.clip(0.42 - camera.elevation / 75 + rng.uniform(-0.06, 0.06), 0.02, 0.4))
    slant = np.arange(width)[None, :] * rng.uniform(-0.08, 0.08)
    beyond = np.clip((horizon + slant - np.arange(height)[:, None]) / 3 + 0.5, 0, 1)[..., None]
    ground = np.asarray(camera.road) * (1 - beyond) + np.asarray(camera.verge) * beyond
    coarse = Image.fromarray(rng.integers(70, 186, size=(9, 9), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    texture = np.asarray(coarse, dtype=np.float64)[..., None] / 128 - 1
    grain = rng.normal(0, 0.02, size=(height, width, 1))
    pixels = ground * (1 + 0.16 * texture) + grain
    image = Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))
    if rng.random() < 0.5:
        draw, x = ImageDraw.Draw(image), float(rng.uniform(-0.1, 1.0)) * width
        lean, thick = float(rng.uniform(-0.5, 0.5)) * width, 0.035 * width
        line = [(x, height), (x + thick, height), (x + lean + thick / 2, horizon), (x + lean, horizon)]
        draw.polygon(line, fill=(206, 204, 196))
    return image


def _with_shadow(image: Image.Image, corners: Sequence[Point]) -> Image.Image:
    """The image darkened softly under the vehicle's outline on the ground."""
    mask = Image.new("L", image.size, 0)
    ImageDraw.Draw(mask).polygon(list(corners), fill=165)
    return Image.composite(Image.new("RGB", image.size, (22, 22, 26)), image, mask.filter(ImageFilter.GaussianBlur(3)))


def _shade(patch: Patch, camera: Camera) -> tuple[int, int, int]:
    """Colour of a patch under the camera's light."""
    if patch.finish == "lamp":
        lit: Floats = np.asarray(patch.colour)
    else:
        towards = max(0.0, float(patch.facing @ camera.sun))
        sky = max(0.0, float(patch.facing[2]))
        lit = np.asarray(patch.colour) * (0.56 + 0.46 * towards + 0.1 * sky)
        # Panes and paint mirror the sky, panes more so.
        lit = lit + (0.2 if patch.finish == "glass" else 0.05) * sky
    red, green, blue = (np.clip(lit, 0, 1) * 255).round().astype(int).tolist()
    return red, green, blue


def _paint_vehicle(canvas: Image.Image, vehicle: Vehicle, *, camera: Camera, sight: _Sight, frame: _Frame) -> None:
    """Paint the patches that face the eye, parts from low to high and from far to near."""
    draw = ImageDraw.Draw(canvas)

    def order(part: Part) -> tuple[int, float]:
        return part.level, -float(np.linalg.norm(part.centre - sight.eye))

    for part in sorted(vehicle.parts, key=order):
        for patch in part.patches:
            if patch.facing @ (sight.eye - patch.corners[0]) > 0:
                outline = frame.pixels(sight.project(patch.corners), zoom=_OVERSAMPLING)
                draw.polygon(outline, fill=_shade(patch, camera))


def _occlude(canvas: Image.Image, rng: np.random.Generator) -> None:
    """Now and then a pole, leaves, or another vehicle's edge in front."""
    (width, height), draw, kind = canvas.size, ImageDraw.Draw(canvas), rng.random()
    if kind < 0.07:
        x, thick = float(rng.uniform(0.1, 0.9)) * width, float(rng.uniform(0.03, 0.07)) * width
        grey = int(rng.integers(60, 150))
        draw.polygon([(x, 0), (x + thick, 0), (x + thick, height), (x, height)], fill=(grey, grey, grey + 6))
    elif kind < 0.14:
        corner = np.array([width * float(rng.integers(2)), height * 0.05])
        for _ in range(40):
            x, y = corner + rng.normal(0, [width * 0.14, height * 0.16])
            size, green = float(rng.uniform(0.02, 0.05)) * width, int(rng.integers(60, 120))
            draw.ellipse([x - size, y - size, x + size, y + size * 0.8], fill=(green // 2, green, green // 3))
    elif kind < 0.2:
        red, green, blue = (int(c * 200) for c in PAINTS[int(rng.integers(len(PAINTS)))][1])
        reach, left = float(rng.uniform(0.12, 0.24)) * width, rng.random() < 0.5
        edge = (0.0, reach) if left else (width - reach, float(width))
        box = (edge[0], height * 0.72, edge[1], height * 1.2)
        draw.rounded_rectangle(box, radius=reach * 0.3, fill=(red, green, blue))


def _develop(image: Image.Image, camera: Camera, *, rng: np.random.Generator) -> Image.Image:
    """Blur, light, colour cast, haze and noise of the camera, a little different in every image."""
    soft = image.filter(ImageFilter.GaussianBlur(float(camera.blur * rng.uniform(0.8, 1.2))))
    pixels = np.asarray(soft, dtype=np.float64) / 255
    pixels = np.clip(pixels * np.asarray(camera.cast) * camera.gain * rng.uniform(0.93, 1.07), 0, 1) ** camera.gamma
    pixels = pixels * (1 - camera.haze) + 0.72 * camera.haze
    pixels = pixels * 255 + rng.normal(0, camera.noise, size=pixels.shape)
    return Image.fromarray(np.clip(pixels.round(), 0, 255).astype(np.uint8))


def take_image(vehicle: Vehicle, camera: Camera, *, azimuth: float, rng: np.random.Generator) -> Image.Image:
    """One image of the vehicle, seen from about this azimuth in degrees."""
    corners = np.concatenate([patch.corners for part in vehicle.parts for patch in part.patches])
    length, height = float(np.ptp(corners[:, 0])), float(corners[:, 2].max())
    sight = _Sight.of(camera, azimuth=azimuth, roll=rng.normal(0, 1.5), length=length, height=height / 2)
    frame = _frame(sight.project(corners), camera, rng=rng)
    (x0, y0, _), (x1, y1, _) = corners.min(axis=0) - 0.1, corners.max(axis=0) + 0.1
    ground = np.array([[x0, y0, 0], [x1, y0, 0], [x1, y1, 0], [x0, y1, 0]])
    image = _with_shadow(_background(camera, frame.size, rng=rng), frame.pixels(sight.project(ground)))
    width, height_px = frame.size
    canvas = image.resize((width * _OVERSAMPLING, height_px * _OVERSAMPLING), Image.Resampling.BILINEAR)
    _paint_vehicle(canvas, vehicle, camera=camera, sight=sight, frame=frame)
    _occlude(canvas, rng)
    developed = _develop(canvas.reduce(_OVERSAMPLING), camera, rng=rng)
    return _cut_off(developed, rng) if rng.random() < 0.1 else developed


def _cut_off(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The image without up to a sixth of one side: a vehicle that leaves the view."""
    width, height = image.size
    lost = round(width * float(rng.uniform(0.06, 0.16)))
    return image.crop((lost, 0, width, height) if rng.random() < 0.5 else (0, 0, width - lost, height))
