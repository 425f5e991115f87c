"""What distinguishes a vehicle from others of its body and paint: stripes, loads, stickers, damage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vreid_cli.synthetic.bodies import Body
from vreid_cli.synthetic.colours import DARK, GLASS, Colour
from vreid_cli.synthetic.geometry import Patch, PatchGroup, Point, Solid


@dataclass(frozen=True)
class _Marks:
    """Patches that a mark adds: on the lower body, the cabin, the cargo box, and on top of everything."""

    lower: tuple[Patch, ...] = ()
    cabin: tuple[Patch, ...] = ()
    cargo: tuple[Patch, ...] = ()
    groups: tuple[PatchGroup, ...] = ()


def _flank_marks(body: Body, patches: Iterable[Patch]) -> _Marks:
    return _Marks(cargo=tuple(patches)) if body.cargo else _Marks(lower=tuple(patches))


def _stripe(body: Body, colour: Colour, *, rng: np.random.Generator) -> _Marks:
    """One or two lines along the flank, low or high."""
    foot = float(rng.choice([0.2, 0.42, 0.64]))
    patches = body.flank.sides(body.on_flank((0.03, 0.97), (foot, foot + 0.2)), colour)
    if rng.random() < 0.4:
        patches += body.flank.sides(body.on_flank((0.03, 0.97), (foot + 0.26, foot + 0.34)), colour)
    return _flank_marks(body, patches)


def _logo(body: Body, colour: Colour, *, rng: np.random.Generator) -> _Marks:
    """A disc, lozenge or triangle on the doors."""
    xs = [x for x, _ in body.on_flank((0.0, 1.0), (0.0, 1.0))]
    zs = [z for _, z in body.on_flank((0.0, 1.0), (0.0, 1.0))]
    radius = 0.42 * (max(zs) - min(zs))
    middle = min(xs) + float(rng.choice([0.35, 0.5, 0.62])) * (max(xs) - min(xs))
    corners = int(rng.choice([16, 4, 3]))
    angles = np.arange(corners) * 2 * np.pi / corners + np.pi / 2
    height = (max(zs) + min(zs)) / 2
    outer = [(middle + radius * float(np.cos(a)), height + radius * float(np.sin(a))) for a in angles]
    inner = [(middle + (x - middle) * 0.5, height + (z - height) * 0.5) for x, z in outer]
    contrast = (0.95, 0.95, 0.95) if sum(colour) < 1.5 else (0.12, 0.12, 0.14)
    return _flank_marks(body, [*body.flank.sides(outer, colour), *body.flank.sides(inner, contrast)])


def _numbers(body: Body, colour: Colour, *, rng: np.random.Generator) -> _Marks:
    """Blocks like figures in a row on the flank and on the roof."""
    count = int(rng.integers(2, 5))
    start = float(rng.uniform(0.25, 0.45))
    patches: list[Patch] = []
    roof: list[Patch] = []
    for position in range(count):
        left = start + 0.085 * position
        low = 0.3 + 0.22 * float(rng.random() < 0.5)
        patches += body.flank.sides(body.on_flank((left, left + 0.055), (low, 0.85)), colour)
        side = -0.5 + 0.28 * position
        roof.append(body.cabin.across(1, colour, along=(0.3, 0.7), span=(side, side + 0.16)))
    flank = _flank_marks(body, patches)
    return _Marks(lower=flank.lower, cargo=flank.cargo, cabin=tuple(roof))


def _two_tone(body: Body, colour: Colour, *, rng: np.random.Generator) -> _Marks:
    """The lower part of the body in another paint, bumpers too."""
    top = float(rng.uniform(0.35, 0.6))
    patches = body.lower.sides([(x, z) for x, z in _cut_below(body.lower.profile, top)], colour)
    for edge in (0, 6):
        patches.append(body.lower.across(edge, colour))
    return _Marks(lower=tuple(patches))


def _cut_below(profile: Sequence[Point], fraction: float) -> list[Point]:
    """The part of a profile below a fraction of its height."""
    heights = [z for _, z in profile]
    limit = min(heights) + fraction * (max(heights) - min(heights))
    return [(x, min(z, limit)) for x, z in profile]


def _painted_roof(body: Body, colour: Colour, *, rng: np.random.Generator) -> _Marks:
    """A roof, and perhaps pillars, of another colour."""
    patches = [body.cabin.across(1, colour)]
    if rng.random() < 0.6:
        patches += body.cabin.sides(body.window((0.0, 1.0), (0.86, 1.0)), colour)
    return _Marks(cabin=tuple(patches))


def _racing_stripes(body: Body, colour: Colour, *, rng: np.random.Generator) -> _Marks:
    """Bands from nose to tail."""
    half = float(rng.uniform(0.12, 0.2))
    spans = [(-half, half)] if rng.random() < 0.4 else [(-2.4 * half, -0.6 * half), (0.6 * half, 2.4 * half)]
    lower = tuple(body.lower.across(edge, colour, span=span) for edge in (1, 2, 4, 5) for span in spans)
    return _Marks(lower=lower, cabin=tuple(body.cabin.across(1, colour, span=span) for span in spans))


def _sunroof(body: Body, colour: Colour, *, rng: np.random.Generator) -> _Marks:
    """A dark pane in the roof, of one of three lengths."""
    end = float(rng.choice([0.4, 0.6, 0.85]))
    pane = body.cabin.across(1, GLASS, along=(0.12, end), span=(-0.62, 0.62), finish="glass")
    return _Marks(cabin=(pane,))


def _roof_load(body: Body, colour: Colour, *, rng: np.random.Generator) -> _Marks:
    """A rack with bars, a box, or a sign across the roof."""
    (front, top), (rear, _) = body.cabin.profile[1], body.cabin.profile[2]
    length, width = front - rear, body.kind.roof
    kind = int(rng.integers(3))
    if kind == 0:
        bars = [(front - t * length, 0.05, 0.12, width * 0.92) for t in (0.15, 0.5, 0.85)]
        return _Marks(
            groups=tuple(_block(x, top, half_length=half, size=(height, w), colour=DARK) for x, half, height, w in bars)
        )
    middle = front - length * (0.5 if kind == 1 else 0.25)
    half, height, side = (0.34 * length, 0.26, width * 0.62) if kind == 1 else (0.13, 0.2, width * 0.72)
    return _Marks(groups=(_block(middle, top, half_length=half, size=(height, side), colour=colour),))


def _block(x: float, z: float, *, half_length: float, size: Point, colour: Colour) -> PatchGroup:
    """A box that stands on the roof at this place; ``size`` is its height and half width."""
    height, half_width = size
    x0, x1 = x - half_length, x + half_length
    solid = Solid(((x1, z), (x1 - 0.03, z + height), (x0 + 0.03, z + height), (x0, z)), half_width, half_width)
    return PatchGroup(2, solid.centre, tuple(solid.shell(colour)))


def _visor(body: Body, colour: Colour, *, rng: np.random.Generator) -> _Marks:
    """A band over both windows, and stickers in a corner of them."""
    depth = float(rng.uniform(0.14, 0.24))
    side = -0.7 if rng.random() < 0.5 else 0.45
    patches = [
        body.cabin.across(0, colour, along=(1 - depth, 0.98), span=(-0.86, 0.86)),
        body.cabin.across(2, colour, along=(0.02, depth), span=(-0.86, 0.86)),
        body.cabin.across(0, (0.9, 0.9, 0.9), along=(0.2, 0.38), span=(side, side + 0.25)),
    ]
    return _Marks(cabin=tuple(patches))


def _spots(body: Body, colour: Colour, *, rng: np.random.Generator) -> _Marks:
    """Patches of filler or rust, the same number on either side."""
    rust = (0.42, 0.25, 0.15) if rng.random() < 0.5 else (0.62, 0.62, 0.60)
    patches: list[Patch] = []
    for _ in range(int(rng.integers(2, 5))):
        left, low = float(rng.uniform(0.08, 0.8)), float(rng.uniform(0.1, 0.6))
        outline = body.on_flank((left, left + rng.uniform(0.06, 0.12)), (low, low + rng.uniform(0.15, 0.35)))
        skew = 0.04 * (outline[1][0] - outline[0][0])
        patches += body.flank.sides([(x + skew * (-1) ** k, z) for k, (x, z) in enumerate(outline)], rust)
    bonnet = float(rng.uniform(-0.7, 0.4))
    patches_lower = (body.lower.across(2, rust, along=(0.3, 0.7), span=(bonnet, bonnet + 0.3)),)
    flank = _flank_marks(body, patches)
    return _Marks(lower=(*flank.lower, *patches_lower), cargo=flank.cargo)


def _slanted_band(body: Body, colour: Colour, *, rng: np.random.Generator) -> _Marks:
    """A band that rises over the rear or the front of the flank."""
    start = float(rng.choice([0.12, 0.55, 0.7]))
    width = float(rng.uniform(0.08, 0.16))
    (x0, z0), (x1, _), (_, z1), _ = body.on_flank((start, start + width), (0.0, 1.0))
    lean = 0.5 * (z1 - z0)
    return _flank_marks(body, body.flank.sides([(x0, z0), (x1, z0), (x1 + lean, z1), (x0 + lean, z1)], colour))


class _Mark(Protocol):
    """What distinguishes a vehicle; ``colour`` contrasts with the paint."""

    def __call__(self, body: Body, colour: Colour, *, rng: np.random.Generator) -> _Marks:
        """The patches to be added."""


MARKS: tuple[_Mark, ...] = (
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
