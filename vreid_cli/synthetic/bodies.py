"""Kinds of vehicles, and the solids of single ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vreid_cli.synthetic.geometry import Point, Solid


@dataclass(frozen=True)
class BodyType:
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
BODY_TYPES: tuple[BodyType, ...] = (
    BodyType(  # sedan
        1, ((2.25, .28), (2.32, .52), (2.22, .76), (1.0, .94), (-1.55, 1.0), (-2.2, .95), (-2.3, .62), (-2.22, .3)),
        ((1.05, .93), (.2, 1.43), (-.85, 1.44), (-1.65, .99)),
        .89, .64, (1.4, -1.35), .34, ((.16, .5), (.54, .86)),
    ),
    BodyType(  # hatchback
        4, ((1.95, .28), (2.02, .54), (1.9, .8), (1.05, .98), (-1.75, 1.05), (-1.82, 1.04), (-1.98, .65), (-1.9, .3)),
        ((1.1, .97), (.3, 1.5), (-1.2, 1.5), (-1.8, 1.04)),
        .87, .64, (1.25, -1.25), .33, ((.14, .48), (.52, .82)),
    ),
    BodyType(  # suv
        2, ((2.15, .38), (2.25, .7), (2.15, 1.0), (1.1, 1.14), (-2.05, 1.18), (-2.12, 1.17), (-2.24, .8), (-2.15, .4)),
        ((1.15, 1.12), (.45, 1.74), (-1.75, 1.76), (-2.1, 1.17)),
        .95, .72, (1.4, -1.35), .39, ((.12, .38), (.41, .67), (.71, .93)),
    ),
    BodyType(  # van
        3, ((2.3, .32), (2.42, .65), (2.3, 1.0), (1.8, 1.18), (-2.3, 1.2), (-2.37, 1.19), (-2.44, .7), (-2.36, .32)),
        ((1.85, 1.16), (1.1, 2.0), (-2.25, 2.05), (-2.38, 1.19)),
        .97, .84, (1.5, -1.5), .35, ((.08, .3), (.34, .62), (.66, .94)),
    ),
    BodyType(  # pickup
        6, ((2.45, .42), (2.56, .74), (2.45, 1.02), (1.25, 1.14), (-2.42, 1.12), (-2.5, 1.11), (-2.56, .8), (-2.5, .5)),
        ((1.3, 1.13), (.68, 1.73), (-.45, 1.75), (-.72, 1.12)),
        .96, .74, (1.6, -1.55), .4, ((.14, .5), (.55, .92)),
    ),
    BodyType(  # bus
        7, ((3.5, .35), (3.6, .8), (3.57, 1.3), (3.55, 1.35), (-3.5, 1.35), (-3.55, 1.35), (-3.6, .8), (-3.55, .35)),
        ((3.55, 1.34), (3.4, 2.85), (-3.45, 2.85), (-3.55, 1.34)),
        1.2, 1.12, (2.3, -2.1), .45, ((.03, .15), (.17, .33), (.35, .51), (.53, .69), (.71, .85), (.87, .98)),
    ),
    BodyType(  # truck
        8, ((2.75, .45), (2.85, .8), (2.8, 1.22), (2.75, 1.27), (1.25, 1.27), (1.2, 1.27), (1.17, .8), (1.17, .5)),
        ((2.76, 1.26), (2.5, 2.1), (1.4, 2.15), (1.2, 1.26)),
        1.05, .92, (2.0, -1.1, -2.0), .44, ((.2, .72),), cargo=(-2.8, 1.05, .85, 2.65),
    ),
)
# fmt: on


@dataclass(frozen=True)
class Body:
    """The solids of one vehicle."""

    kind: BodyType
    lower: Solid
    cabin: Solid
    cargo: Solid | None

    @property
    def flank(self) -> Solid:
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


def make_body(kind: BodyType, rng: np.random.Generator) -> Body:
    """A body of this kind with a length and height of its own, within a few per cent."""
    long, high = 1 + rng.uniform(-0.05, 0.05), 1 + rng.uniform(-0.05, 0.06)

    def stretched(profile: Sequence[Point]) -> tuple[Point, ...]:
        return tuple((x * long, z * high) for x, z in profile)

    lower = Solid(stretched(kind.lower), kind.half_width * 0.97, kind.half_width)
    # The cabin stands on the body, but beside a truck's box.
    cabin = Solid(stretched(kind.cabin), kind.half_width * 0.95, kind.roof, level=1 if kind.cargo else 2)
    cargo = None
    if kind.cargo is not None:
        rear, front, floor, roof = kind.cargo
        profile = ((front, floor), (front, roof), (rear, roof), (rear, floor))
        cargo = Solid(stretched(profile), kind.half_width * 1.06, kind.half_width * 1.06)
    return Body(kind, lower, cabin, cargo)
