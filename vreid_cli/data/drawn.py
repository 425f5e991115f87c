"""A small labelled data set in VeRi-776's layout, drawn here: vehicles in 3-D, seen by cameras that differ.

Every vehicle is a handful of solids (body, cabin, cargo box) covered with flat patches (windows, lights, stripes).
A camera projects the patches, paints those that face it from back to front, and spoils the picture in its own way.
Several vehicles share each body and paint, so that only the smaller things tell them apart.
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from vreid_cli.errors import DataError, UsageError
from vreid_cli.runtime.progress import progress

Floats = NDArray[np.float64]
Colour = tuple[float, float, float]
Point = tuple[float, float]

#: Pictures are painted this many times larger and then averaged down, which smooths the edges.
_OVERSAMPLING = 3
#: Vehicles of one paint and body that are drawn one after the other.
_ALIKE = 3
_MARKS_PER_VEHICLE = (3, 5)
#: Frames within which vehicles pass for the first time.
_DAY = 90_000
#: How often a vehicle passes a camera, and how often it passes again.
_SEEN = 0.9
_COMES_BACK = 0.1
_GLASS: Colour = (0.13, 0.16, 0.19)
_RUBBER: Colour = (0.07, 0.07, 0.075)
_DARK: Colour = (0.10, 0.10, 0.11)

#: VeRi's names and numbers of the paints (``list_color.txt``), with a colour for each.
_PAINTS: tuple[tuple[int, Colour], ...] = (
    (1, (0.88, 0.72, 0.12)),
    (2, (0.88, 0.43, 0.10)),
    (3, (0.16, 0.40, 0.24)),
    (4, (0.50, 0.51, 0.53)),
    (5, (0.68, 0.11, 0.11)),
    (6, (0.13, 0.25, 0.60)),
    (7, (0.90, 0.90, 0.89)),
    (8, (0.70, 0.58, 0.36)),
    (9, (0.36, 0.24, 0.16)),
    (10, (0.13, 0.13, 0.14)),
)
_MARK_COLOURS: tuple[Colour, ...] = (
    (0.93, 0.93, 0.92),
    (0.10, 0.10, 0.11),
    (0.85, 0.12, 0.12),
    (0.95, 0.75, 0.10),
    (0.10, 0.35, 0.80),
    (0.10, 0.60, 0.30),
    (0.95, 0.45, 0.08),
)


@dataclass(frozen=True)
class DrawnSize:
    """How much is drawn.

    Attributes:
        train_vehicles: Vehicles to learn from.
        test_vehicles: Vehicles to look for; none of them is among the others.
        cameras: Cameras, each with its own view, light and background.
        images_per_track: Pictures of one passage of a vehicle before a camera; a few passages have one fewer.
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
    """What was drawn: the folder, and how many pictures and tracks it holds."""

    root: Path
    train_pictures: int
    test_pictures: int
    query_pictures: int
    train_tracks: int
    test_tracks: int


@dataclass(frozen=True)
class _Patch:
    """A flat polygon: (k, 3) corners in metres, x forward, y to the left, z up, and the way that it faces."""

    corners: Floats
    facing: Floats
    colour: Colour
    finish: Literal["paint", "glass", "lamp"] = "paint"


@dataclass(frozen=True)
class _Part:
    """Patches that are painted together; parts of a lower level first, then the farther ones."""

    level: int
    centre: Floats
    patches: tuple[_Patch, ...]


@dataclass(frozen=True)
class _Solid:
    """A profile (x, z) from the front's foot over the top to the rear's foot, as wide as ``low`` to ``high``.

    The half width changes evenly from the lowest to the highest corner, so both sides are flat.
    """

    profile: tuple[Point, ...]
    low: float
    high: float

    @property
    def _slope(self) -> float:
        heights = [z for _, z in self.profile]
        return (self.high - self.low) / (max(heights) - min(heights))

    @property
    def centre(self) -> Floats:
        """Middle of the corners, (3,)."""
        x, z = np.mean(np.asarray(self.profile), axis=0)
        return np.array([x, 0.0, z])

    def half_width(self, z: float) -> float:
        """Distance of the side from the middle plane at this height."""
        return self.low + self._slope * (z - min(height for _, height in self.profile))

    def sides(self, outline: Iterable[Point], colour: Colour, *, glass: bool = False) -> list[_Patch]:
        """The same outline (x, z) on the left and on the right side."""
        points = list(outline)
        finish: Literal["paint", "glass"] = "glass" if glass else "paint"
        patches = []
        for sign in (1.0, -1.0):
            corners = np.array([[x, sign * self.half_width(z), z] for x, z in points])
            facing = np.array([0.0, sign, -self._slope])
            patches.append(_Patch(corners, facing / np.linalg.norm(facing), colour, finish))
        return patches

    def across(
        self,
        edge: int,
        colour: Colour,
        *,
        along: Point = (0.0, 1.0),
        span: Point = (-1.0, 1.0),
        finish: Literal["paint", "glass", "lamp"] = "paint",
    ) -> _Patch:
        """A quadrilateral on the strip of a profile's edge.

        Args:
            edge: From corner ``edge`` to the next one.
            colour: Of the patch.
            along: Where it begins and ends on the edge, from 0 to 1.
            span: Where it begins and ends across the vehicle, from -1 (right) to 1 (left).
            finish: Kind of surface.
        """
        (x0, z0), (x1, z1) = self.profile[edge], self.profile[edge + 1]
        corners = []
        for t, order in ((along[0], span), (along[1], span[::-1])):
            x, z = x0 + t * (x1 - x0), z0 + t * (z1 - z0)
            corners += [[x, s * self.half_width(z), z] for s in order]
        facing = np.array([z1 - z0, 0.0, x0 - x1])
        if facing @ (np.array([x0, 0.0, z0]) - self.centre) < 0:
            facing = -facing
        return _Patch(np.array(corners), facing / max(float(np.linalg.norm(facing)), 1e-9), colour, finish)

    def shell(self, colour: Colour) -> list[_Patch]:
        """All faces but the underside."""
        strips = [self.across(edge, colour) for edge in range(len(self.profile) - 1)]
        return [*strips, *self.sides(self.profile, colour)]


@dataclass(frozen=True)
class _Body:
    """Measures of one kind of vehicle, in metres.

    Attributes:
        type_id: VeRi's number of the kind (``list_type.txt``).
        lower: Eight corners: bumper's foot, nose, bonnet's front and rear, deck's front and rear, tail, foot.
        cabin: Four corners: windscreen's foot and top, rear window's top and foot.
        half_width: Of the body.
        roof: Half width of the roof.
        wheels: Where the axles are.
        radius: Of the wheels.
        windows: Side windows, as fractions of the cabin from front to rear.
        cargo: Box behind the cabin: its rear and front end, its floor and roof.
    """

    type_id: int
    lower: tuple[Point, ...]
    cabin: tuple[Point, ...]
    half_width: float
    roof: float
    wheels: tuple[float, ...]
    radius: float
    windows: tuple[Point, ...]
    cargo: tuple[float, float, float, float] | None = None


# fmt: off
_BODIES: tuple[_Body, ...] = (
    _Body(  # sedan
        1, ((2.25, .28), (2.32, .52), (2.22, .76), (1.0, .94), (-1.55, 1.0), (-2.2, .95), (-2.3, .62), (-2.22, .3)),
        ((1.05, .93), (.2, 1.43), (-.85, 1.44), (-1.65, .99)),
        .89, .64, (1.4, -1.35), .34, ((.16, .5), (.54, .86)),
    ),
    _Body(  # hatchback
        4, ((1.95, .28), (2.02, .54), (1.9, .8), (1.05, .98), (-1.75, 1.05), (-1.82, 1.04), (-1.98, .65), (-1.9, .3)),
        ((1.1, .97), (.3, 1.5), (-1.2, 1.5), (-1.8, 1.04)),
        .87, .64, (1.25, -1.25), .33, ((.14, .48), (.52, .82)),
    ),
    _Body(  # suv
        2, ((2.15, .38), (2.25, .7), (2.15, 1.0), (1.1, 1.14), (-2.05, 1.18), (-2.12, 1.17), (-2.24, .8), (-2.15, .4)),
        ((1.15, 1.12), (.45, 1.74), (-1.75, 1.76), (-2.1, 1.17)),
        .95, .72, (1.4, -1.35), .39, ((.12, .38), (.41, .67), (.71, .93)),
    ),
    _Body(  # van
        3, ((2.3, .32), (2.42, .65), (2.3, 1.0), (1.8, 1.18), (-2.3, 1.2), (-2.37, 1.19), (-2.44, .7), (-2.36, .32)),
        ((1.85, 1.16), (1.1, 2.0), (-2.25, 2.05), (-2.38, 1.19)),
        .97, .84, (1.5, -1.5), .35, ((.08, .3), (.34, .62), (.66, .94)),
    ),
    _Body(  # pickup
        6, ((2.45, .42), (2.56, .74), (2.45, 1.02), (1.25, 1.14), (-2.42, 1.12), (-2.5, 1.11), (-2.56, .8), (-2.5, .5)),
        ((1.3, 1.13), (.68, 1.73), (-.45, 1.75), (-.72, 1.12)),
        .96, .74, (1.6, -1.55), .4, ((.14, .5), (.55, .92)),
    ),
    _Body(  # bus
        7, ((3.5, .35), (3.6, .8), (3.57, 1.3), (3.55, 1.35), (-3.5, 1.35), (-3.55, 1.35), (-3.6, .8), (-3.55, .35)),
        ((3.55, 1.34), (3.4, 2.85), (-3.45, 2.85), (-3.55, 1.34)),
        1.2, 1.12, (2.3, -2.1), .45, ((.03, .15), (.17, .33), (.35, .51), (.53, .69), (.71, .85), (.87, .98)),
    ),
    _Body(  # truck
        8, ((2.75, .45), (2.85, .8), (2.8, 1.22), (2.75, 1.27), (1.25, 1.27), (1.2, 1.27), (1.17, .8), (1.17, .5)),
        ((2.76, 1.26), (2.5, 2.1), (1.4, 2.15), (1.2, 1.26)),
        1.05, .92, (2.0, -1.1, -2.0), .44, ((.2, .72),), cargo=(-2.8, 1.05, .85, 2.65),
    ),
)
# fmt: on


@dataclass(frozen=True)
class _Form:
    """The solids of one vehicle, for marks to be put on."""

    body: _Body
    lower: _Solid
    cabin: _Solid
    cargo: _Solid | None

    @property
    def flank(self) -> _Solid:
        """The solid with the largest side: the cargo box if there is one."""
        return self.cargo or self.lower

    def on_flank(self, across: Point, up: Point) -> list[Point]:
        """A rectangle on the flank; fractions from rear to front and from bottom to top."""
        xs, zs = zip(*self.flank.profile, strict=True)
        x0, x1 = (min(xs) + t * (max(xs) - min(xs)) for t in across)
        # A car's flank is usable only up to its bonnet.
        foot, top = min(zs) + 0.02, (max(zs) if self.cargo else self.lower.profile[2][1]) - 0.03
        z0, z1 = (foot + t * (top - foot) for t in up)
        return [(x0, z0), (x1, z0), (x1, z1), (x0, z1)]

    def window(self, along: Point, up: Point) -> list[Point]:
        """A quadrilateral on the cabin's side; fractions from front to rear and from foot to roof."""
        front_foot, front_top, rear_top, rear_foot = (np.array(corner) for corner in self.cabin.profile)
        corners = []
        for u, v in ((along[0], up[0]), (along[1], up[0]), (along[1], up[1]), (along[0], up[1])):
            foot = front_foot + u * (rear_foot - front_foot)
            point = foot + v * (front_top + u * (rear_top - front_top) - foot)
            corners.append((float(point[0]), float(point[1])))
        return corners


@dataclass(frozen=True)
class _Vehicle:
    """A vehicle ready to be seen."""

    vehicle_id: str
    colour_id: int
    type_id: int
    parts: tuple[_Part, ...]


@dataclass(frozen=True)
class _Marks:
    """Patches that a mark adds: on the lower body, the cabin, the cargo box, and on top of everything."""

    lower: tuple[_Patch, ...] = ()
    cabin: tuple[_Patch, ...] = ()
    cargo: tuple[_Patch, ...] = ()
    parts: tuple[_Part, ...] = ()


def _flank_marks(form: _Form, patches: Iterable[_Patch]) -> _Marks:
    return _Marks(cargo=tuple(patches)) if form.cargo else _Marks(lower=tuple(patches))


def _stripe(form: _Form, colour: Colour, *, rng: np.random.Generator) -> _Marks:
    """One or two lines along the flank, low or high."""
    foot = float(rng.choice([0.2, 0.42, 0.64]))
    patches = form.flank.sides(form.on_flank((0.03, 0.97), (foot, foot + 0.2)), colour)
    if rng.random() < 0.4:
        patches += form.flank.sides(form.on_flank((0.03, 0.97), (foot + 0.26, foot + 0.34)), colour)
    return _flank_marks(form, patches)


def _logo(form: _Form, colour: Colour, *, rng: np.random.Generator) -> _Marks:
    """A disc, lozenge or triangle on the doors."""
    xs = [x for x, _ in form.on_flank((0.0, 1.0), (0.0, 1.0))]
    zs = [z for _, z in form.on_flank((0.0, 1.0), (0.0, 1.0))]
    radius = 0.42 * (max(zs) - min(zs))
    middle = min(xs) + float(rng.choice([0.35, 0.5, 0.62])) * (max(xs) - min(xs))
    corners = int(rng.choice([16, 4, 3]))
    angles = np.arange(corners) * 2 * np.pi / corners + np.pi / 2
    height = (max(zs) + min(zs)) / 2
    outer = [(middle + radius * float(np.cos(a)), height + radius * float(np.sin(a))) for a in angles]
    inner = [(middle + (x - middle) * 0.5, height + (z - height) * 0.5) for x, z in outer]
    contrast = (0.95, 0.95, 0.95) if sum(colour) < 1.5 else (0.12, 0.12, 0.14)
    return _flank_marks(form, [*form.flank.sides(outer, colour), *form.flank.sides(inner, contrast)])


def _numbers(form: _Form, colour: Colour, *, rng: np.random.Generator) -> _Marks:
    """Blocks like figures in a row on the flank and on the roof."""
    count = int(rng.integers(2, 5))
    start = float(rng.uniform(0.25, 0.45))
    patches: list[_Patch] = []
    roof: list[_Patch] = []
    for position in range(count):
        left = start + 0.085 * position
        low = 0.3 + 0.22 * float(rng.random() < 0.5)
        patches += form.flank.sides(form.on_flank((left, left + 0.055), (low, 0.85)), colour)
        side = -0.5 + 0.28 * position
        roof.append(form.cabin.across(1, colour, along=(0.3, 0.7), span=(side, side + 0.16)))
    flank = _flank_marks(form, patches)
    return _Marks(lower=flank.lower, cargo=flank.cargo, cabin=tuple(roof))


def _two_tone(form: _Form, colour: Colour, *, rng: np.random.Generator) -> _Marks:
    """The lower part of the body in another paint, bumpers too."""
    top = float(rng.uniform(0.35, 0.6))
    patches = form.lower.sides([(x, z) for x, z in _cut_below(form.lower.profile, top)], colour)
    for edge in (0, 6):
        patches.append(form.lower.across(edge, colour))
    return _Marks(lower=tuple(patches))


def _cut_below(profile: Sequence[Point], fraction: float) -> list[Point]:
    """The part of a profile below a fraction of its height."""
    heights = [z for _, z in profile]
    limit = min(heights) + fraction * (max(heights) - min(heights))
    return [(x, min(z, limit)) for x, z in profile]


def _painted_roof(form: _Form, colour: Colour, *, rng: np.random.Generator) -> _Marks:
    """A roof, and perhaps pillars, of another colour."""
    patches = [form.cabin.across(1, colour)]
    if rng.random() < 0.6:
        patches += form.cabin.sides(form.window((0.0, 1.0), (0.86, 1.0)), colour)
    return _Marks(cabin=tuple(patches))


def _racing_stripes(form: _Form, colour: Colour, *, rng: np.random.Generator) -> _Marks:
    """Bands from nose to tail."""
    half = float(rng.uniform(0.12, 0.2))
    spans = [(-half, half)] if rng.random() < 0.4 else [(-2.4 * half, -0.6 * half), (0.6 * half, 2.4 * half)]
    lower = tuple(form.lower.across(edge, colour, span=span) for edge in (1, 2, 4, 5) for span in spans)
    return _Marks(lower=lower, cabin=tuple(form.cabin.across(1, colour, span=span) for span in spans))


def _sunroof(form: _Form, colour: Colour, *, rng: np.random.Generator) -> _Marks:
    """A dark pane in the roof, of one of three lengths."""
    end = float(rng.choice([0.4, 0.6, 0.85]))
    pane = form.cabin.across(1, _GLASS, along=(0.12, end), span=(-0.62, 0.62), finish="glass")
    return _Marks(cabin=(pane,))


def _roof_load(form: _Form, colour: Colour, *, rng: np.random.Generator) -> _Marks:
    """A rack with bars, a box, or a sign across the roof."""
    (front, top), (rear, _) = form.cabin.profile[1], form.cabin.profile[2]
    length, width = front - rear, form.body.roof
    kind = int(rng.integers(3))
    if kind == 0:
        bars = [(front - t * length, 0.05, 0.12, width * 0.92) for t in (0.15, 0.5, 0.85)]
        return _Marks(
            parts=tuple(_block(x, top, half_length=half, size=(height, w), colour=_DARK) for x, half, height, w in bars)
        )
    middle = front - length * (0.5 if kind == 1 else 0.25)
    half, height, side = (0.34 * length, 0.26, width * 0.62) if kind == 1 else (0.13, 0.2, width * 0.72)
    return _Marks(parts=(_block(middle, top, half_length=half, size=(height, side), colour=colour),))


def _block(x: float, z: float, *, half_length: float, size: Point, colour: Colour) -> _Part:
    """A box that stands on the roof at this place; ``size`` is its height and half width."""
    height, half_width = size
    x0, x1 = x - half_length, x + half_length
    solid = _Solid(((x1, z), (x1 - 0.03, z + height), (x0 + 0.03, z + height), (x0, z)), half_width, half_width)
    return _Part(2, solid.centre, tuple(solid.shell(colour)))


def _visor(form: _Form, colour: Colour, *, rng: np.random.Generator) -> _Marks:
    """A band over both windows, and stickers in a corner of them."""
    depth = float(rng.uniform(0.14, 0.24))
    side = -0.7 if rng.random() < 0.5 else 0.45
    patches = [
        form.cabin.across(0, colour, along=(1 - depth, 0.98), span=(-0.86, 0.86)),
        form.cabin.across(2, colour, along=(0.02, depth), span=(-0.86, 0.86)),
        form.cabin.across(0, (0.9, 0.9, 0.9), along=(0.2, 0.38), span=(side, side + 0.25)),
    ]
    return _Marks(cabin=tuple(patches))


def _spots(form: _Form, colour: Colour, *, rng: np.random.Generator) -> _Marks:
    """Patches of filler or rust, the same number on either side."""
    rust = (0.42, 0.25, 0.15) if rng.random() < 0.5 else (0.62, 0.62, 0.60)
    patches: list[_Patch] = []
    for _ in range(int(rng.integers(2, 5))):
        left, low = float(rng.uniform(0.08, 0.8)), float(rng.uniform(0.1, 0.6))
        outline = form.on_flank((left, left + rng.uniform(0.06, 0.12)), (low, low + rng.uniform(0.15, 0.35)))
        skew = 0.04 * (outline[1][0] - outline[0][0])
        patches += form.flank.sides([(x + skew * (-1) ** k, z) for k, (x, z) in enumerate(outline)], rust)
    bonnet = float(rng.uniform(-0.7, 0.4))
    patches_lower = (form.lower.across(2, rust, along=(0.3, 0.7), span=(bonnet, bonnet + 0.3)),)
    flank = _flank_marks(form, patches)
    return _Marks(lower=(*flank.lower, *patches_lower), cargo=flank.cargo)


def _slanted_band(form: _Form, colour: Colour, *, rng: np.random.Generator) -> _Marks:
    """A band that rises over the rear or the front of the flank."""
    start = float(rng.choice([0.12, 0.55, 0.7]))
    width = float(rng.uniform(0.08, 0.16))
    (x0, z0), (x1, _), (_, z1), _ = form.on_flank((start, start + width), (0.0, 1.0))
    lean = 0.5 * (z1 - z0)
    return _flank_marks(form, form.flank.sides([(x0, z0), (x1, z0), (x1 + lean, z1), (x0 + lean, z1)], colour))


class _Mark(Protocol):
    """Something that tells a vehicle from its like; ``colour`` contrasts with the paint."""

    def __call__(self, form: _Form, colour: Colour, *, rng: np.random.Generator) -> _Marks:
        """The patches to be added."""


_MARKS: tuple[_Mark, ...] = (
    _stripe,
    _logo,
    _numbers,
    _two_tone,
    _painted_roof,
    _racing_stripes,
    _sunroof,
    _roof_load,
    _visor,
    _spots,
    _slanted_band,
)


def _wheels(form: _Form, rim: Colour) -> list[_Patch]:
    """Arches, tyres, rims and hubs on both sides; the treads, seen from the front, are :func:`_treads`."""
    radius, patches = form.body.radius, []
    turn = np.linspace(0, 2 * np.pi, 22, endpoint=False)
    for axle in form.body.wheels:
        for size, colour in ((1.16, _DARK), (1.0, _RUBBER), (0.64, rim), (0.2, _DARK)):
            disc = [(axle + radius * size * float(np.cos(a)), radius * (1 + size * float(np.sin(a)))) for a in turn]
            patches += form.lower.sides([(x, max(z, 0.0)) for x, z in disc], colour)
    return patches


def _treads(form: _Form) -> _Part:
    """What is seen of the tyres below the bumpers, and the dark underside."""
    half, radius, patches = form.body.half_width, form.body.radius, []
    for axle in (form.body.wheels[0], form.body.wheels[-1]):
        for sign, facing in ((1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)):
            outer, inner = sign * half, sign * (half - 0.24)
            x = axle + facing * radius * 0.7
            corners = np.array([[x, y, z] for y, z in ((outer, 0), (inner, 0), (inner, radius), (outer, radius))])
            patches.append(_Patch(corners, np.array([facing, 0.0, 0.0]), _RUBBER))
    x0, x1 = min(x for x, _ in form.flank.profile) + 0.2, max(x for x, _ in form.lower.profile) - 0.2
    # No higher than the nose, or it would show above a sloping bonnet.
    top = form.lower.profile[1][1]
    belly = _Solid(((x1, 0.18), (x1, top), (x0, top), (x0, 0.18)), half * 0.86, half * 0.86)
    return _Part(0, belly.centre, (*belly.shell(_DARK), *patches))


def _lights(form: _Form, *, wide: bool, grille: Colour) -> list[_Patch]:
    """Head lamps, tail lamps, grille, bumpers' lips and plates."""
    lower, inner = form.lower, 0.5 if wide else 0.66
    lamp, tail, plate = (0.98, 0.97, 0.88), (0.78, 0.06, 0.06), (0.20, 0.34, 0.72)
    patches = [
        lower.across(0, _DARK, along=(0.0, 0.4)),
        lower.across(6, _DARK, along=(0.6, 1.0)),
        lower.across(1, grille, along=(0.15, 0.85), span=(-inner + 0.08, inner - 0.08)),
        lower.across(0, plate, along=(0.45, 0.95), span=(-0.25, 0.25)),
        lower.across(5, plate, along=(0.45, 0.85), span=(-0.25, 0.25)),
    ]
    for sign in (-1.0, 1.0):
        span = (sign * inner, sign * 0.95)
        patches.append(lower.across(1, lamp, along=(0.25, 0.9), span=span, finish="lamp"))
        patches.append(lower.across(5, tail, along=(0.1, 0.8), span=span, finish="lamp"))
    return patches


def _panel_lines(form: _Form, paint: Colour) -> list[_Patch]:
    """Door gaps and handles, sill, and a fold along the flank."""
    shade: Colour = (paint[0] * 0.55, paint[1] * 0.55, paint[2] * 0.55)
    lower, (x0, foot), (x1, _) = form.lower, form.lower.profile[-1], form.lower.profile[0]
    belt = min(form.lower.profile[3][1], form.lower.profile[4][1])
    patches = lower.sides([(x0, foot), (x1, foot), (x1, foot + 0.08), (x0, foot + 0.08)], _DARK)
    for start, end in (*form.body.windows, (form.body.windows[-1][1], 0.0)):
        x = form.window((start, end), (0.0, 1.0))[0][0]
        patches += lower.sides([(x - 0.012, foot), (x + 0.012, foot), (x + 0.012, belt), (x - 0.012, belt)], shade)
        handle = [(x - 0.3, belt - 0.14), (x - 0.12, belt - 0.14), (x - 0.12, belt - 0.1), (x - 0.3, belt - 0.1)]
        if end:
            patches += lower.sides(handle, shade)
    return patches


def _cabin_patches(form: _Form, paint: Colour, *, glass: Colour, panel_van: bool) -> list[_Patch]:
    """Roof and pillars in the paint, windows in the glass."""
    cabin = form.cabin
    patches = cabin.shell(paint)
    patches.append(cabin.across(0, glass, along=(0.06, 0.94), span=(-0.88, 0.88), finish="glass"))
    patches.append(cabin.across(2, glass, along=(0.08, 0.8), span=(-0.84, 0.84), finish="glass"))
    windows = form.body.windows[:1] if panel_van else form.body.windows
    for start, end in windows:
        patches += cabin.sides(form.window((start, end), (0.08, 0.86)), glass, glass=True)
    return patches


def _make_form(body: _Body, rng: np.random.Generator) -> _Form:
    """The body with a length and height of its own, within a few per cent."""
    long, high = 1 + rng.uniform(-0.05, 0.05), 1 + rng.uniform(-0.05, 0.06)

    def stretched(profile: Sequence[Point]) -> tuple[Point, ...]:
        return tuple((x * long, z * high) for x, z in profile)

    lower = _Solid(stretched(body.lower), body.half_width * 0.97, body.half_width)
    cabin = _Solid(stretched(body.cabin), body.half_width * 0.95, body.roof)
    cargo = None
    if body.cargo is not None:
        rear, front, floor, roof = body.cargo
        profile = ((front, floor), (front, roof), (rear, roof), (rear, floor))
        cargo = _Solid(stretched(profile), body.half_width * 1.06, body.half_width * 1.06)
    return _Form(body, lower, cabin, cargo)


def _cargo_part(cargo: _Solid, colour: Colour, *, marks: Iterable[_Patch]) -> _Part:
    """The box of a truck, with its rear doors."""
    gap: Colour = (colour[0] * 0.6, colour[1] * 0.6, colour[2] * 0.6)
    doors = cargo.across(2, gap, along=(0.05, 0.95), span=(-0.02, 0.02))
    return _Part(1, cargo.centre, (*cargo.shell(colour), doors, *marks))


def _bed(form: _Form, cover: Colour) -> list[_Patch]:
    """A pickup's open or covered bed, seen from above."""
    (x0, z), (x1, _) = form.lower.profile[5], form.cabin.profile[3]
    half = form.body.half_width * 0.84
    corners = np.array([[x, y, z + 0.005] for x, y in ((x0, -half), (x1, -half), (x1, half), (x0, half))])
    return [_Patch(corners, np.array([0.0, 0.0, 1.0]), cover)]


def _make_vehicle(
    vehicle_id: str, body: _Body, *, paint_id: int, paint: Colour, marks: Sequence[int], rng: np.random.Generator
) -> _Vehicle:
    """A vehicle of this body and paint with the marks at these positions of :data:`_MARKS`."""
    paint = _near(paint, 0.03, rng=rng)
    form = _make_form(body, rng)
    rim = _MARK_COLOURS[0] if rng.random() < 0.35 else _near((0.55, 0.56, 0.58), 0.25, rng=rng)
    glass = _near(_GLASS, 0.05, rng=rng)
    added = []
    for position in marks:
        contrasting = [c for c in _MARK_COLOURS if float(np.abs(np.subtract(c, paint)).sum()) > 0.5]
        colour = contrasting[int(rng.integers(len(contrasting)))]
        added.append(_MARKS[position](form, colour, rng=rng))
    grille = _DARK if rng.random() < 0.6 else (0.62, 0.63, 0.65)
    lower = [*form.lower.shell(paint), *_panel_lines(form, paint)]
    lower += [patch for mark in added for patch in mark.lower]
    lower += [*_wheels(form, rim), *_lights(form, wide=bool(rng.random() < 0.5), grille=grille)]
    if body.type_id == 6:
        lower += _bed(form, _near((0.3, 0.3, 0.3), 0.25, rng=rng))
    panel_van = body.type_id == 3 and bool(rng.random() < 0.5)
    cabin = _cabin_patches(form, paint, glass=glass, panel_van=panel_van)
    cabin += [patch for mark in added for patch in mark.cabin]
    # The cabin stands on the body, but beside a truck's box.
    parts = [_treads(form), _Part(1, form.lower.centre, tuple(lower))]
    parts.append(_Part(1 if form.cargo else 2, form.cabin.centre, tuple(cabin)))
    if form.cargo:
        box = _near((0.82, 0.82, 0.80), 0.12, rng=rng) if rng.random() < 0.7 else paint
        parts.append(_cargo_part(form.cargo, box, marks=[patch for mark in added for patch in mark.cargo]))
    parts += [part for mark in added for part in mark.parts]
    return _Vehicle(vehicle_id, paint_id, body.type_id, tuple(parts))


def _near(colour: Colour, spread: float, *, rng: np.random.Generator) -> Colour:
    """A colour that differs evenly by up to ``spread``, within what a surface can have."""
    shift = rng.uniform(-spread, spread)
    red, green, blue = (float(np.clip(channel + shift, 0.03, 0.97)) for channel in colour)
    return red, green, blue


def _make_vehicles(count: int, first: int, *, key: Sequence[int]) -> list[_Vehicle]:
    """Vehicles numbered from ``first``, in threes of one body and paint that differ in their marks."""
    rng = np.random.default_rng(key)
    vehicles: list[_Vehicle] = []
    while len(vehicles) < count:
        body = _BODIES[(len(vehicles) // _ALIKE) % len(_BODIES)]
        paint_id, paint = _PAINTS[int(rng.integers(len(_PAINTS)))]
        for _ in range(min(_ALIKE, count - len(vehicles))):
            number = int(rng.integers(_MARKS_PER_VEHICLE[0], _MARKS_PER_VEHICLE[1] + 1))
            marks = sorted(rng.choice(len(_MARKS), size=number, replace=False).tolist())
            name = f"{first + len(vehicles):04d}"
            vehicles.append(_make_vehicle(name, body, paint_id=paint_id, paint=paint, marks=marks, rng=rng.spawn(1)[0]))
    return vehicles


@dataclass(frozen=True)
class _Camera:
    """Where a camera stands and how it sees.

    Attributes:
        camera_id: As in the names of the pictures.
        azimuth: From where it sees the vehicles, in degrees: 0 is the front, 90 the left side.
        elevation: How far it looks down, in degrees.
        distance: From the vehicle, in lengths of the vehicle.
        sun: Unit vector towards the light, (3,).
        gain: Brightness.
        gamma: Below 1 for a washed-out, above 1 for a hard picture.
        cast: Gains of red, green and blue.
        haze: Share of grey veil.
        blur: Radius in pixels.
        noise: Standard deviation, of 255.
        road: Colour of the road.
        verge: Colour of what lies behind it.
        long_side: Usual length of the pictures' long side in pixels.
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


#: Views that the cameras take in turn: both ends and both sides of a vehicle.
_AZIMUTHS = (38.0, 145.0, -52.0, -128.0, 80.0, -20.0, 165.0, -95.0)
_ROADS: tuple[Colour, ...] = ((0.42, 0.42, 0.43), (0.56, 0.53, 0.48), (0.33, 0.35, 0.38), (0.62, 0.62, 0.60))
_VERGES: tuple[Colour, ...] = ((0.30, 0.38, 0.22), (0.60, 0.57, 0.50), (0.42, 0.45, 0.50), (0.45, 0.42, 0.30))


def _make_cameras(count: int, *, seed: int) -> list[_Camera]:
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
            _Camera(
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
                road=_near(_ROADS[k % len(_ROADS)], 0.06, rng=rng),
                verge=_near(_VERGES[int(rng.integers(len(_VERGES)))], 0.06, rng=rng),
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
    def of(cls, camera: _Camera, *, azimuth: float, roll: float, length: float, height: float) -> _Sight:
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
        """Pixel positions of points (k, 2) of the image plane, in a picture enlarged ``zoom`` times."""
        return [(float(x), float(y)) for x, y in (plane * self.scale + self.offset) * zoom]


def _frame(plane: Floats, camera: _Camera, *, rng: np.random.Generator) -> _Frame:
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


def _background(camera: _Camera, size: tuple[int, int], *, rng: np.random.Generator) -> Image.Image:
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
    picture = Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))
    if rng.random() < 0.5:
        draw, x = ImageDraw.Draw(picture), float(rng.uniform(-0.1, 1.0)) * width
        lean, thick = float(rng.uniform(-0.5, 0.5)) * width, 0.035 * width
        line = [(x, height), (x + thick, height), (x + lean + thick / 2, horizon), (x + lean, horizon)]
        draw.polygon(line, fill=(206, 204, 196))
    return picture


def _with_shadow(picture: Image.Image, corners: Sequence[Point]) -> Image.Image:
    """The picture darkened softly under the vehicle's outline on the ground."""
    mask = Image.new("L", picture.size, 0)
    ImageDraw.Draw(mask).polygon(list(corners), fill=165)
    return Image.composite(
        Image.new("RGB", picture.size, (22, 22, 26)), picture, mask.filter(ImageFilter.GaussianBlur(3))
    )


def _shade(patch: _Patch, camera: _Camera) -> tuple[int, int, int]:
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


def _paint_vehicle(canvas: Image.Image, vehicle: _Vehicle, *, camera: _Camera, sight: _Sight, frame: _Frame) -> None:
    """Paint the patches that face the eye, parts from low to high and from far to near."""
    draw = ImageDraw.Draw(canvas)

    def order(part: _Part) -> tuple[int, float]:
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
        red, green, blue = (int(c * 200) for c in _PAINTS[int(rng.integers(len(_PAINTS)))][1])
        reach, left = float(rng.uniform(0.12, 0.24)) * width, rng.random() < 0.5
        edge = (0.0, reach) if left else (width - reach, float(width))
        box = (edge[0], height * 0.72, edge[1], height * 1.2)
        draw.rounded_rectangle(box, radius=reach * 0.3, fill=(red, green, blue))


def _develop(picture: Image.Image, camera: _Camera, *, rng: np.random.Generator) -> Image.Image:
    """Blur, light, colour cast, haze and noise of the camera, a little different in every picture."""
    soft = picture.filter(ImageFilter.GaussianBlur(float(camera.blur * rng.uniform(0.8, 1.2))))
    pixels = np.asarray(soft, dtype=np.float64) / 255
    pixels = np.clip(pixels * np.asarray(camera.cast) * camera.gain * rng.uniform(0.93, 1.07), 0, 1) ** camera.gamma
    pixels = pixels * (1 - camera.haze) + 0.72 * camera.haze
    pixels = pixels * 255 + rng.normal(0, camera.noise, size=pixels.shape)
    return Image.fromarray(np.clip(pixels.round(), 0, 255).astype(np.uint8))


def _take_picture(vehicle: _Vehicle, camera: _Camera, *, azimuth: float, rng: np.random.Generator) -> Image.Image:
    """One picture of the vehicle, seen from about this azimuth in degrees."""
    corners = np.concatenate([patch.corners for part in vehicle.parts for patch in part.patches])
    length, height = float(np.ptp(corners[:, 0])), float(corners[:, 2].max())
    sight = _Sight.of(camera, azimuth=azimuth, roll=rng.normal(0, 1.5), length=length, height=height / 2)
    frame = _frame(sight.project(corners), camera, rng=rng)
    (x0, y0, _), (x1, y1, _) = corners.min(axis=0) - 0.1, corners.max(axis=0) + 0.1
    ground = np.array([[x0, y0, 0], [x1, y0, 0], [x1, y1, 0], [x0, y1, 0]])
    picture = _with_shadow(_background(camera, frame.size, rng=rng), frame.pixels(sight.project(ground)))
    width, height_px = frame.size
    canvas = picture.resize((width * _OVERSAMPLING, height_px * _OVERSAMPLING), Image.Resampling.BILINEAR)
    _paint_vehicle(canvas, vehicle, camera=camera, sight=sight, frame=frame)
    _occlude(canvas, rng)
    developed = _develop(canvas.reduce(_OVERSAMPLING), camera, rng=rng)
    return _cut_off(developed, rng) if rng.random() < 0.1 else developed


def _cut_off(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture without up to a sixth of one side: a vehicle that leaves the view."""
    width, height = picture.size
    lost = round(width * float(rng.uniform(0.06, 0.16)))
    return picture.crop((lost, 0, width, height) if rng.random() < 0.5 else (0, 0, width - lost, height))


@dataclass(frozen=True)
class _Passage:
    """A vehicle comes before a camera, at this frame."""

    vehicle: _Vehicle
    camera: _Camera
    start: int


@dataclass(frozen=True)
class _Shot:
    """One picture to be taken, from this azimuth in degrees."""

    name: str
    track: str
    vehicle: _Vehicle
    camera: _Camera
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
        seed: Makes vehicles, cameras and pictures; not negative.

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
        train_pictures=len(train),
        test_pictures=len(test),
        query_pictures=len(queries),
        train_tracks=len({shot.track for shot in train}),
        test_tracks=len({shot.track for shot in test}),
    )


def _plan_splits(size: DrawnSize, *, seed: int) -> tuple[list[_Shot], list[_Shot]]:
    """The pictures of the train and of the test vehicles, seen by the same cameras."""
    cameras, clock = _make_cameras(size.cameras, seed=seed), Counter[str]()
    splits = []
    for number, (first, count) in enumerate(((1, size.train_vehicles), (1 + size.train_vehicles, size.test_vehicles))):
        vehicles = _make_vehicles(count, first, key=(seed, 1, number))
        key = (seed, 2, number)
        splits.append(_plan_shots(vehicles, cameras, clock=clock, images=size.images_per_track, key=key))
    train, test = splits
    return train, test


def _plan_shots(
    vehicles: Sequence[_Vehicle], cameras: Sequence[_Camera], *, clock: Counter[str], images: int, key: Sequence[int]
) -> list[_Shot]:
    """Every picture of these vehicles, in the order of the names; ``key`` seeds, ``clock`` numbers the tracks."""
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
    vehicles: Sequence[_Vehicle], cameras: Sequence[_Camera], *, rng: np.random.Generator
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
    """Pictures of one passage: the vehicle turns a little as it goes by."""
    count = max(images - int(rng.random() < 0.25), 1)
    azimuth, turn = passage.camera.azimuth + rng.normal(0, 7), rng.uniform(-3.5, 3.5)
    frame, shots = passage.start, []
    for k in range(count):
        name = f"{passage.vehicle.vehicle_id}_{passage.camera.camera_id}_{frame:08d}_{int(rng.integers(2))}.jpg"
        shots.append(_Shot(name, track, passage.vehicle, passage.camera, azimuth + k * turn))
        frame += 5 * int(rng.integers(1, 4))
    return shots


def _choose_queries(shots: Sequence[_Shot], *, key: Sequence[int]) -> list[_Shot]:
    """One picture of each vehicle and camera, mostly the first, in the order of the names."""
    rng = np.random.default_rng(key)
    pairs: dict[tuple[str, str], list[_Shot]] = defaultdict(list)
    for shot in shots:
        pairs[shot.pair].append(shot)
    return [pair[0 if rng.random() < 0.85 else int(rng.integers(len(pair)))] for pair in pairs.values()]


def _take(shots: Sequence[_Shot], folder: Path, *, key: Sequence[int]) -> Iterator[Path]:
    """Write the pictures, each made from its own place in the sequence; gives each path once it is written."""
    folder.mkdir(parents=True)
    for position, shot in enumerate(shots):
        rng = np.random.default_rng([*key, position])
        picture = _take_picture(shot.vehicle, shot.camera, azimuth=shot.azimuth, rng=rng)
        path = folder / shot.name
        picture.save(path, quality=shot.camera.quality)
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
