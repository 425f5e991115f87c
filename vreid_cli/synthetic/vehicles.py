"""Whole vehicles: a body with its paint, wheels, lights, windows and marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vreid_cli.synthetic.bodies import BODY_TYPES, Body, BodyType, make_body
from vreid_cli.synthetic.colours import DARK, GLASS, PAINTS, Colour, near
from vreid_cli.synthetic.geometry import Patch, Solid
from vreid_cli.synthetic.marks import MARKS

#: Vehicles of one paint and body that come one after the other.
_ALIKE = 3
_MARKS_PER_VEHICLE = (3, 5)
_RUBBER: Colour = (0.07, 0.07, 0.075)
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
class Vehicle:
    """A vehicle ready to be seen."""

    vehicle_id: str
    colour_id: int
    type_id: int
    patches: tuple[Patch, ...]


def _wheels(body: Body, rim: Colour) -> list[Patch]:
    """Arches, tyres, rims and hubs on both sides; the treads, seen from the front, are :func:`_treads`."""
    radius, patches = body.kind.radius, []
    turn = np.linspace(0, 2 * np.pi, 22, endpoint=False)
    for axle in body.kind.wheels:
        for size, colour in ((1.16, DARK), (1.0, _RUBBER), (0.64, rim), (0.2, DARK)):
            disc = [(axle + radius * size * float(np.cos(a)), radius * (1 + size * float(np.sin(a)))) for a in turn]
            patches += body.lower.sides([(x, max(z, 0.0)) for x, z in disc], colour)
    return patches


def _treads(body: Body) -> list[Patch]:
    """What is seen of the tyres below the bumpers, and the dark underside."""
    half, radius = body.kind.half_width, body.kind.radius
    x0, x1 = min(x for x, _ in body.flank.profile) + 0.2, max(x for x, _ in body.lower.profile) - 0.2
    # No higher than the nose, or it would show above a sloping bonnet.
    top = body.lower.profile[1][1]
    belly = Solid(((x1, 0.18), (x1, top), (x0, top), (x0, 0.18)), half * 0.86, half * 0.86, level=0)
    patches = belly.shell(DARK)
    for axle in (body.kind.wheels[0], body.kind.wheels[-1]):
        for sign, facing in ((1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)):
            outer, inner = sign * half, sign * (half - 0.24)
            x = axle + facing * radius * 0.7
            corners = np.array([[x, y, z] for y, z in ((outer, 0), (inner, 0), (inner, radius), (outer, radius))])
            patches.append(Patch(belly, corners, np.array([facing, 0.0, 0.0]), _RUBBER))
    return patches


def _lights(body: Body, *, wide: bool, grille: Colour) -> list[Patch]:
    """Head lamps, tail lamps, grille, bumpers' lips and plates."""
    lower, inner = body.lower, 0.5 if wide else 0.66
    lamp, tail, plate = (0.98, 0.97, 0.88), (0.78, 0.06, 0.06), (0.20, 0.34, 0.72)
    patches = [
        lower.across(0, DARK, along=(0.0, 0.4)),
        lower.across(6, DARK, along=(0.6, 1.0)),
        lower.across(1, grille, along=(0.15, 0.85), span=(-inner + 0.08, inner - 0.08)),
        lower.across(0, plate, along=(0.45, 0.95), span=(-0.25, 0.25)),
        lower.across(5, plate, along=(0.45, 0.85), span=(-0.25, 0.25)),
    ]
    for sign in (-1.0, 1.0):
        span = (sign * inner, sign * 0.95)
        patches.append(lower.across(1, lamp, along=(0.25, 0.9), span=span, finish="lamp"))
        patches.append(lower.across(5, tail, along=(0.1, 0.8), span=span, finish="lamp"))
    return patches


def _panel_lines(body: Body, paint: Colour) -> list[Patch]:
    """Door gaps and handles, sill, and a fold along the flank."""
    shade: Colour = (paint[0] * 0.55, paint[1] * 0.55, paint[2] * 0.55)
    lower, (x0, foot), (x1, _) = body.lower, body.lower.profile[-1], body.lower.profile[0]
    belt = min(body.lower.profile[3][1], body.lower.profile[4][1])
    patches = lower.sides([(x0, foot), (x1, foot), (x1, foot + 0.08), (x0, foot + 0.08)], DARK)
    for start, end in (*body.kind.windows, (body.kind.windows[-1][1], 0.0)):
        x = body.window((start, end), (0.0, 1.0))[0][0]
        patches += lower.sides([(x - 0.012, foot), (x + 0.012, foot), (x + 0.012, belt), (x - 0.012, belt)], shade)
        handle = [(x - 0.3, belt - 0.14), (x - 0.12, belt - 0.14), (x - 0.12, belt - 0.1), (x - 0.3, belt - 0.1)]
        if end:
            patches += lower.sides(handle, shade)
    return patches


def _cabin_patches(body: Body, paint: Colour, *, glass: Colour, panel_van: bool) -> list[Patch]:
    """Roof and pillars in the paint, windows in the glass."""
    cabin = body.cabin
    patches = cabin.shell(paint)
    patches.append(cabin.across(0, glass, along=(0.06, 0.94), span=(-0.88, 0.88), finish="glass"))
    patches.append(cabin.across(2, glass, along=(0.08, 0.8), span=(-0.84, 0.84), finish="glass"))
    windows = body.kind.windows[:1] if panel_van else body.kind.windows
    for start, end in windows:
        patches += cabin.sides(body.window((start, end), (0.08, 0.86)), glass, finish="glass")
    return patches


def _box(cargo: Solid, colour: Colour) -> list[Patch]:
    """The box of a truck, with its rear doors."""
    gap: Colour = (colour[0] * 0.6, colour[1] * 0.6, colour[2] * 0.6)
    return [*cargo.shell(colour), cargo.across(2, gap, along=(0.05, 0.95), span=(-0.02, 0.02))]


def _bed(body: Body, cover: Colour) -> list[Patch]:
    """A pickup's open or covered bed, seen from above."""
    (x0, z), (x1, _) = body.lower.profile[5], body.cabin.profile[3]
    half = body.kind.half_width * 0.84
    corners = np.array([[x, y, z + 0.005] for x, y in ((x0, -half), (x1, -half), (x1, half), (x0, half))])
    return [Patch(body.lower, corners, np.array([0.0, 0.0, 1.0]), cover)]


def _make_vehicle(
    vehicle_id: str, kind: BodyType, *, paint_id: int, paint: Colour, marks: Sequence[int], rng: np.random.Generator
) -> Vehicle:
    """A vehicle of this body and paint with the marks at these positions of :data:`MARKS`."""
    paint = near(paint, 0.03, rng=rng)
    body = make_body(kind, rng)
    rim = _MARK_COLOURS[0] if rng.random() < 0.35 else near((0.55, 0.56, 0.58), 0.25, rng=rng)
    glass = near(GLASS, 0.05, rng=rng)
    marked: list[Patch] = []
    for position in marks:
        contrasting = [c for c in _MARK_COLOURS if float(np.abs(np.subtract(c, paint)).sum()) > 0.5]
        colour = contrasting[int(rng.integers(len(contrasting)))]
        marked += MARKS[position](body, colour, rng=rng)
    grille = DARK if rng.random() < 0.6 else (0.62, 0.63, 0.65)
    lights = _lights(body, wide=bool(rng.random() < 0.5), grille=grille)
    bed = _bed(body, near((0.3, 0.3, 0.3), 0.25, rng=rng)) if kind.type_id == 6 else []
    panel_van = kind.type_id == 3 and bool(rng.random() < 0.5)
    patches = [*_treads(body), *body.lower.shell(paint), *_panel_lines(body, paint)]
    patches += _cabin_patches(body, paint, glass=glass, panel_van=panel_van)
    if body.cargo:
        patches += _box(body.cargo, near((0.82, 0.82, 0.80), 0.12, rng=rng) if rng.random() < 0.7 else paint)
    # Wheels and lights show over a mark.
    patches += [*marked, *_wheels(body, rim), *lights, *bed]
    return Vehicle(vehicle_id, paint_id, kind.type_id, tuple(patches))


def make_vehicles(count: int, first: int, *, key: Sequence[int]) -> list[Vehicle]:
    """Vehicles numbered from ``first``, in threes of one body and paint that differ in their marks."""
    rng = np.random.default_rng(key)
    vehicles: list[Vehicle] = []
    while len(vehicles) < count:
        kind = BODY_TYPES[(len(vehicles) // _ALIKE) % len(BODY_TYPES)]
        paint_id, paint = PAINTS[int(rng.integers(len(PAINTS)))]
        for _ in range(min(_ALIKE, count - len(vehicles))):
            number = int(rng.integers(_MARKS_PER_VEHICLE[0], _MARKS_PER_VEHICLE[1] + 1))
            marks = sorted(rng.choice(len(MARKS), size=number, replace=False).tolist())
            name = f"{first + len(vehicles):04d}"
            vehicles.append(_make_vehicle(name, kind, paint_id=paint_id, paint=paint, marks=marks, rng=rng.spawn(1)[0]))
    return vehicles
