"""Random galleries of one image a vehicle: VehicleID's protocol, whose scores are means over several draws."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vreid_cli.errors import DataError
from vreid_cli.types.arrays import Int64Array, shared_codes
from vreid_cli.types.features import FeatureSet


class Draw(NamedTuple):
    """Positions among the images of a feature set, rising.

    Attributes:
        queries: (N_q,) all images but the gallery's.
        gallery: (N_r,) one image of each vehicle.
    """

    queries: Int64Array
    gallery: Int64Array


def draw_gallery(images: FeatureSet, *, seed: int, draw: int) -> Draw:
    """Choose one image of each vehicle at random as the gallery; all others are queries.

    A vehicle with a single image is in the gallery only.

    Args:
        images: Labelled images.
        seed: Seed of all draws, at least 0.
        draw: Number of the draw, from 0: seed and number alone decide, whatever else is drawn.

    Raises:
        DataError: An image has no vehicle, or no vehicle has two images.
    """
    codes, _ = shared_codes(images.vehicle_id, images.vehicle_id)
    if (codes < 0).any():
        name = images.image_id[int(np.argmax(codes < 0))]
        raise DataError(f"{images.source}: image {name} has no vehicle, so no gallery can be drawn", file=images.source)
    # Vehicles by their first appearance, and the images of each in gallery order.
    rows = np.argsort(codes, kind="stable").astype(np.int64)
    counts = np.bincount(codes)
    starts = np.cumsum(counts) - counts
    chosen = rows[starts + np.random.default_rng([seed, draw]).integers(0, counts)]
    queries = np.delete(np.arange(len(codes), dtype=np.int64), chosen)
    if not len(queries):
        raise DataError(
            f"{images.source}: no vehicle has two images, so none is left to be a query", file=images.source
        )
    return Draw(queries, np.sort(chosen))
