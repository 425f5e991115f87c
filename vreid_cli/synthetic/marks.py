"""What distinguishes a vehicle from others of its body and paint: stripes, loads, stickers, damage."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vreid_cli.synthetic.bodies import Body
from vreid_cli.synthetic.colours import DARK, GLASS, Colour
from vreid_cli.synthetic.geometry import Patch, Solid


def _stripe(body: Body, colour: Colour, *, rng: np.random.Generator) -> list[Patch]:
    """One or two lines along the flank, low or high."""
    foot = float(rng.choice([0.2, 0.42, 0.64]))
    patches = body.flank.sides(body.on_flank((0.03, 0.97), (foot, foot + 0.2)), colour)
    if rng.random() < 0.4:
        patches += body.flank.sides(body.on_flank((0.03, 0.97), (foot + 0.26, foot + 0.34)), colour)
    return patches


def _logo(body: Body, colour: Colour, *, rng: np.random.Generator) -> list[Patch]:
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
    return [*body.flank.sides(outer, colour), *body.flank.sides(inner, contrast)]


def _numbers(body: Body, colour: Colour, *, rng: np.random.Generator) -> list[Patch]:
    """Blocks like figures in a row on the flank and on the roof."""
    count = int(rng.integers(2, 5))
    start = float(rng.uniform(0.25, 0.45))
    patches: list[Patch] = []
    for position in range(count):
        left = start + 0.085 * position
        low = 0.3 + 0.22 * float(rng.random() < 0.5)
        patches += body.flank.sides(body.on_flank((left, left + 0.055), (low, 0.85)), colour)
        side = -0.5 + 0.28 * position
        patches.append(body.cabin.across(1, colour, along=(0.3, 0.7), span=(side, side + 0.16)))
    return patches


def _two_tone(body: Body, colour: Colour, *, rng: np.random.Generator) -> list[Patch]:
    """The lower part of the body in another paint, bumpers too."""
    heights = [z for _, z in body.lower.profile]
    top = min(heights) + float(rng.uniform(0.35, 0.6)) * (max(heights) - min(heights))
    patches = body.lower.sides([(x, min(z, top)) for x, z in body.lower.profile], colour)
    return [*patches, body.lower.across(0, colour), body.lower.across(6, colour)]


def _painted_roof(body: Body, colour: Colour, *, rng: np.random.Generator) -> list[Patch]:
    """A roof, and perhaps pillars, of another colour."""
    patches = [body.cabin.across(1, colour)]
    if rng.random() < 0.6:
        patches += body.cabin.sides(body.window((0.0, 1.0), (0.86, 1.0)), colour)
    return patches


def _racing_stripes(body: Body, colour: Colour, *, rng: np.random.Generator) -> list[Patch]:
    """Bands from nose to tail."""
    half = float(rng.uniform(0.12, 0.2))
    spans = [(-half, half)] if rng.random() < 0.4 else [(-2.4 * half, -0.6 * half), (0.6 * half, 2.4 * half)]
    strips = [*((body.lower, edge) for edge in (1, 2, 4, 5)), (body.cabin, 1)]
    return [solid.across(edge, colour, span=span) for solid, edge in strips for span in spans]


def _sunroof(body: Body, colour: Colour, *, rng: np.random.Generator) -> list[Patch]:
    """A dark pane in the roof, of one of three lengths."""
    end = float(rng.choice([0.4, 0.6, 0.85]))
    return [body.cabin.across(1, GLASS, along=(0.12, end), span=(-0.62, 0.62), finish="glass")]


def _roof_load(body: Body, colour: Colour, *, rng: np.random.Generator) -> list[Patch]:
    """A rack with bars, a box, or a sign across the roof."""
    (front, top), (rear, _) = body.cabin.profile[1], body.cabin.profile[2]
    length, width = front - rear, body.kind.roof
    kind = int(rng.integers(3))
    # Of each block: its middle as a share of the roof's length, half its length, height, half its width.
    blocks = (
        [(t, 0.05, 0.12, width * 0.92) for t in (0.15, 0.5, 0.85)],
        [(0.5, 0.34 * length, 0.26, width * 0.62)],
        [(0.25, 0.13, 0.2, width * 0.72)],
    )[kind]
    patches = []
    for middle, half, height, side in blocks:
        x0, x1 = front - middle * length - half, front - middle * length + half
        profile = ((x1, top), (x1 - 0.03, top + height), (x0 + 0.03, top + height), (x0, top))
        patches += Solid(profile, side, side, level=2).shell(colour if kind else DARK)
    return patches


def _visor(body: Body, colour: Colour, *, rng: np.random.Generator) -> list[Patch]:
    """A band over both windows, and stickers in a corner of them."""
    depth = float(rng.uniform(0.14, 0.24))
    side = -0.7 if rng.random() < 0.5 else 0.45
    return [
        body.cabin.across(0, colour, along=(1 - depth, 0.98), span=(-0.86, 0.86)),
        body.cabin.across(2, colour, along=(0.02, depth), span=(-0.86, 0.86)),
        body.cabin.across(0, (0.9, 0.9, 0.9), along=(0.2, 0.38), span=(side, side + 0.25)),
    ]


def _spots(body: Body, colour: Colour, *, rng: np.random.Generator) -> list[Patch]:
    """Patches of filler or rust, the same number on either side."""
    rust = (0.42, 0.25, 0.15) if rng.random() < 0.5 else (0.62, 0.62, 0.60)
    patches: list[Patch] = []
    for _ in range(int(rng.integers(2, 5))):
        left, low = float(rng.uniform(0.08, 0.8)), float(rng.uniform(0.1, 0.6))
        outline = body.on_flank((left, left + rng.uniform(0.06, 0.12)), (low, low + rng.uniform(0.15, 0.35)))
        skew = 0.04 * (outline[1][0] - outline[0][0])
        patches += body.flank.sides([(x + skew * (-1) ** k, z) for k, (x, z) in enumerate(outline)], rust)
    bonnet = float(rng.uniform(-0.7, 0.4))
    return [*patches, body.lower.across(2, rust, along=(0.3, 0.7), span=(bonnet, bonnet + 0.3))]


def _slanted_band(body: Body, colour: Colour, *, rng: np.random.Generator) -> list[Patch]:
    """A band that rises over the rear or the front of the flank."""
    start = float(rng.choice([0.12, 0.55, 0.7]))
    width = float(rng.uniform(0.08, 0.16))
    (x0, z0), (x1, _), (_, z1), _ = body.on_flank((start, start + width), (0.0, 1.0))
    lean = 0.5 * (z1 - z0)
    return body.flank.sides([(x0, z0), (x1, z0), (x1 + lean, z1), (x0 + lean, z1)], colour)


#: From a body, a colour that contrasts with its paint, and ``rng`` to the patches of a mark.
MARKS: tuple[Callable[..., list[Patch]], ...] = (
    *(_stripe, _logo, _numbers, _two_tone, _painted_roof, _racing_stripes),
    *(_sunroof, _roof_load, _visor, _spots, _slanted_band),
)
