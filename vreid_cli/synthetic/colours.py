"""Colours of paints and materials."""

from __future__ import annotations

import numpy as np

Colour = tuple[float, float, float]

GLASS: Colour = (0.13, 0.16, 0.19)
DARK: Colour = (0.10, 0.10, 0.11)

#: VeRi's names and numbers of the paints (``list_color.txt``), with a colour for each.
PAINTS: tuple[tuple[int, Colour], ...] = (
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


def near(colour: Colour, spread: float, *, rng: np.random.Generator) -> Colour:
    """A colour that differs evenly by up to ``spread``, within what a surface can have."""
    shift = rng.uniform(-spread, spread)
    red, green, blue = (float(np.clip(channel + shift, 0.03, 0.97)) for channel in colour)
    return red, green, blue
