"""Random galleries of one image a vehicle: VehicleID's protocol, whose scores are means over several trials."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vreid_cli.errors import DataError, require_type
from vreid_cli.types.arrays import shared_codes
from vreid_cli.types.features import FeatureSet


def split_trial(features: FeatureSet, *, seed: int = 0, trial: int = 0) -> tuple[FeatureSet, FeatureSet]:
    """Split one set into queries and a gallery of one random image of each vehicle.

    All other images are queries, so a vehicle with a single image is in the gallery only. Both sets keep the order
    of the images and carry ``trial`` and ``trial_seed``.

    Args:
        features: (N, D) features of labelled images.
        seed: Seed of all trials, at least 0.
        trial: Number of the trial, from 0. Seed and number alone decide, whatever else is split.

    Returns:
        The queries and the gallery.

    Raises:
        DataError: An image has no vehicle, or no vehicle has two images.

    Example:
        >>> import numpy as np
        >>> import vreid_cli as vreid
        >>> features = vreid.FeatureSet.from_arrays(
        ...     np.eye(5), track_id=[None] * 5, image_id=list("vwxyz"), vehicle_id=["1", "1", "1", "2", "2"]
        ... )
        >>> query, gallery = vreid.split_trial(features, seed=0, trial=0)
        >>> len(query), len(gallery), sorted(gallery.vehicle_id)
        (3, 2, ['1', '2'])
    """
    require_type(features, FeatureSet, name="features", hint="of an array: vreid.FeatureSet.from_arrays(array)")
    codes, _ = shared_codes(features.vehicle_id.texts, features.vehicle_id.texts)
    if (codes < 0).any():
        name = features.image_id[int(np.argmax(codes < 0))]
        raise DataError(
            f"{features.source}: image {name} has no vehicle, so no gallery can be chosen", file=features.source
        )
    # Vehicles by their first appearance, and the images of each in gallery order.
    rows = np.argsort(codes, kind="stable").astype(np.int64)
    counts = np.bincount(codes)
    starts = np.cumsum(counts) - counts
    chosen = np.sort(rows[starts + np.random.default_rng([seed, trial]).integers(0, counts)])
    others = np.delete(np.arange(len(codes), dtype=np.int64), chosen)
    if not len(others):
        raise DataError(
            f"{features.source}: no vehicle has two images, so none is left to be a query", file=features.source
        )
    whole = replace(features, trial=trial, trial_seed=seed)
    return whole.select(others), whole.select(chosen)
