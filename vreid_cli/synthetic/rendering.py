"""Images of vehicles as cameras see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from vreid_cli.synthetic.cameras import Camera
from vreid_cli.synthetic.colours import PAINTS
from vreid_cli.synthetic.geometry import Floats, Patch, Point
from vreid_cli.synthetic.vehicles import Vehicle

#: Images are painted this many times larger and then averaged down, which smooths the edges.
OVERSAMPLING = 3


@dataclass(frozen=True)
class View:
    """One glance of a camera at a vehicle.

    Attributes:
        eye: (3,) where the camera is.
        axes: (3, 3) its directions right, down and ahead as rows.
        size: Width and height of the image in pixels.
        scale: Pixels of a unit of the image plane.
        offset: (2,) pixel of the middle of the image plane.
    """

    eye: Floats
    axes: Floats
    size: tuple[int, int]
    scale: float
    offset: Floats

    def pixels(self, points: Floats, *, zoom: int = 1) -> list[Point]:
        """Pixel positions of points (k, 3) in metres, in an image enlarged ``zoom`` times."""
        plane = project(points, self.eye, self.axes)
        return [(float(x), float(y)) for x, y in (plane * self.scale + self.offset) * zoom]


def project(points: Floats, eye: Floats, axes: Floats) -> Floats:
    """Points (k, 3) in metres to the image plane (k, 2)."""
    seen = (points - eye) @ axes.T
    flat: Floats = seen[:, :2] / seen[:, 2:]
    return flat


def place_eye(corners: Floats, camera: Camera, *, azimuth: float, tilt: float) -> tuple[Floats, Floats]:
    """(3,) where the camera is, on a sphere around the vehicle's middle, and (3, 3) its directions; degrees."""
    length, height = float(np.ptp(corners[:, 0])), float(corners[:, 2].max())
    side, up, lean = np.radians([azimuth, camera.elevation, tilt])
    direction = np.array([np.cos(up) * np.cos(side), np.cos(up) * np.sin(side), np.sin(up)])
    right = np.array([-np.sin(side), np.cos(side), 0.0])
    turned = np.cos(lean) * right + np.sin(lean) * np.cross(-direction, right)
    axes = np.stack([turned, np.cross(-direction, turned), -direction])
    return np.array([0.0, 0.0, height / 2]) + direction * camera.distance * length, axes


def _look(corners: Floats, camera: Camera, *, azimuth: float, rng: np.random.Generator) -> View:
    """A crop around all corners (k, 3), as a detector would cut it: a little wide, a little off."""
    eye, axes = place_eye(corners, camera, azimuth=azimuth, tilt=rng.normal(0, 1.5))
    plane = project(corners, eye, axes)
    low, high = plane.min(axis=0), plane.max(axis=0)
    extent = high - low
    # The networks see a square: very long crops would lose both ends of the vehicle.
    wide = max(float(extent[0]), float(extent[1]) * 0.8) * rng.uniform(1.06, 1.2)
    tall = max(float(extent[1]) * rng.uniform(1.06, 1.2), wide / 1.35)
    long_side = float(np.clip(camera.long_side * rng.uniform(0.9, 1.1), 96, 160))
    scale = long_side / max(wide, tall)
    size = (max(round(wide * scale), 64), max(round(tall * scale), 64))
    shift = rng.uniform(-0.03, 0.03, size=2) * size
    return View(eye, axes, size, scale, np.array(size) / 2 + shift - (low + high) / 2 * scale)


def paint_background(camera: Camera, size: tuple[int, int], *, rng: np.random.Generator) -> Image.Image:
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
        pen, x = ImageDraw.Draw(image), float(rng.uniform(-0.1, 1.0)) * width
        lean, thick = float(rng.uniform(-0.5, 0.5)) * width, 0.035 * width
        line = [(x, height), (x + thick, height), (x + lean + thick / 2, horizon), (x + lean, horizon)]
        pen.polygon(line, fill=(206, 204, 196))
    return image


def with_shadow(image: Image.Image, corners: Sequence[Point]) -> Image.Image:
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


def paint_vehicle(canvas: Image.Image, vehicle: Vehicle, *, camera: Camera, view: View) -> None:
    """Paint the patches that face the eye, solids from low to high and from far to near."""
    pen = ImageDraw.Draw(canvas)

    def order(patch: Patch) -> tuple[int, float]:
        return patch.solid.level, -float(np.linalg.norm(patch.solid.centre - view.eye))

    for patch in sorted(vehicle.patches, key=order):
        if patch.facing @ (view.eye - patch.corners[0]) > 0:
            pen.polygon(view.pixels(patch.corners, zoom=OVERSAMPLING), fill=_shade(patch, camera))


def _occlude(canvas: Image.Image, rng: np.random.Generator) -> None:
    """Now and then a pole, leaves, or another vehicle's edge in front."""
    (width, height), pen, kind = canvas.size, ImageDraw.Draw(canvas), rng.random()
    if kind < 0.07:
        x, thick = float(rng.uniform(0.1, 0.9)) * width, float(rng.uniform(0.03, 0.07)) * width
        grey = int(rng.integers(60, 150))
        pen.polygon([(x, 0), (x + thick, 0), (x + thick, height), (x, height)], fill=(grey, grey, grey + 6))
    elif kind < 0.14:
        corner = np.array([width * float(rng.integers(2)), height * 0.05])
        for _ in range(40):
            x, y = corner + rng.normal(0, [width * 0.14, height * 0.16])
            size, green = float(rng.uniform(0.02, 0.05)) * width, int(rng.integers(60, 120))
            pen.ellipse([x - size, y - size, x + size, y + size * 0.8], fill=(green // 2, green, green // 3))
    elif kind < 0.2:
        red, green, blue = (int(c * 200) for c in PAINTS[int(rng.integers(len(PAINTS)))][1])
        reach, left = float(rng.uniform(0.12, 0.24)) * width, rng.random() < 0.5
        edge = (0.0, reach) if left else (width - reach, float(width))
        box = (edge[0], height * 0.72, edge[1], height * 1.2)
        pen.rounded_rectangle(box, radius=reach * 0.3, fill=(red, green, blue))


def develop(image: Image.Image, camera: Camera, *, rng: np.random.Generator) -> Image.Image:
    """Blur, light, colour cast, haze and noise of the camera, a little different in every image."""
    soft = image.filter(ImageFilter.GaussianBlur(float(camera.blur * rng.uniform(0.8, 1.2))))
    pixels = np.asarray(soft, dtype=np.float64) / 255
    pixels = np.clip(pixels * np.asarray(camera.cast) * camera.gain * rng.uniform(0.93, 1.07), 0, 1) ** camera.gamma
    pixels = pixels * (1 - camera.haze) + 0.72 * camera.haze
    pixels = pixels * 255 + rng.normal(0, camera.noise, size=pixels.shape)
    return Image.fromarray(np.clip(pixels.round(), 0, 255).astype(np.uint8))


def render_vehicle(vehicle: Vehicle, camera: Camera, *, azimuth: float, rng: np.random.Generator) -> Image.Image:
    """One image of the vehicle, seen from about this azimuth in degrees."""
    corners = np.concatenate([patch.corners for patch in vehicle.patches])
    view = _look(corners, camera, azimuth=azimuth, rng=rng)
    (x0, y0, _), (x1, y1, _) = corners.min(axis=0) - 0.1, corners.max(axis=0) + 0.1
    ground = np.array([[x0, y0, 0], [x1, y0, 0], [x1, y1, 0], [x0, y1, 0]])
    image = with_shadow(paint_background(camera, view.size, rng=rng), view.pixels(ground))
    width, height = view.size
    canvas = image.resize((width * OVERSAMPLING, height * OVERSAMPLING), Image.Resampling.BILINEAR)
    paint_vehicle(canvas, vehicle, camera=camera, view=view)
    _occlude(canvas, rng)
    developed = develop(canvas.reduce(OVERSAMPLING), camera, rng=rng)
    if rng.random() >= 0.1:
        return developed
    # A vehicle that leaves the view: the image without up to a sixth of one side.
    lost = round(developed.width * float(rng.uniform(0.06, 0.16)))
    left, right = (lost, 0) if rng.random() < 0.5 else (0, lost)
    return developed.crop((left, 0, developed.width - right, developed.height))
