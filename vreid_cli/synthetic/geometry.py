"""Solids whose faces carry flat patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vreid_cli.synthetic.colours import Colour

Floats = NDArray[np.float64]
Point = tuple[float, float]
Finish = Literal["paint", "glass", "lamp"]


@dataclass(frozen=True)
class Patch:
    """A flat polygon on a solid: (k, 3) corners in metres, x forward, y to the left, z up; and the way it faces."""

    solid: Solid
    corners: Floats
    facing: Floats
    colour: Colour
    finish: Finish = "paint"


@dataclass(frozen=True)
class Solid:
    """A profile (x, z) from the front's foot over the top to the rear's foot, as wide as ``low`` to ``high``.

    The half width changes evenly from the lowest to the highest corner, so both sides are flat. Patches of a solid
    are painted together: those of a lower level first, then those of the farther solids.
    """

    profile: tuple[Point, ...]
    low: float
    high: float
    level: int = 1

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

    def sides(self, outline: Sequence[Point], colour: Colour, *, finish: Finish = "paint") -> list[Patch]:
        """The same outline (x, z) on the left and on the right side."""
        patches = []
        for sign in (1.0, -1.0):
            corners = np.array([[x, sign * self.half_width(z), z] for x, z in outline])
            facing = np.array([0.0, sign, -self._slope])
            patches.append(Patch(self, corners, facing / np.linalg.norm(facing), colour, finish))
        return patches

    def across(
        self,
        edge: int,
        colour: Colour,
        *,
        along: Point = (0.0, 1.0),
        span: Point = (-1.0, 1.0),
        finish: Finish = "paint",
    ) -> Patch:
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
        return Patch(self, np.array(corners), facing / max(float(np.linalg.norm(facing)), 1e-9), colour, finish)

    def shell(self, colour: Colour) -> list[Patch]:
        """All faces but the underside."""
        strips = [self.across(edge, colour) for edge in range(len(self.profile) - 1)]
        return [*strips, *self.sides(self.profile, colour)]
