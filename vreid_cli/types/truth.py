"""What evaluation must know of ranked lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vreid_cli.types.arrays import BoolArray, Float32Array, TextArray

SameCamera = Literal["drop", "keep"]


ApRule = Literal["rectangle", "trapezoid"]


WithoutPositive = Literal["skip", "zero"]


@dataclass(frozen=True, eq=False)
class JudgedRows:
    """Whole ranked lists of some queries, with what evaluation must know of each listed item.

    Attributes:
        query_ids: (n,) the queries.
        vehicles: (n,) vehicle of each query; None where unknown.
        query: (R,) int32 position of the row's query among the n, rising.
        rank: (R,) int32 true rank, 1-based, rising within a query.
        same_vehicle: (R,) whether the item shows the query's vehicle; False where unlabelled.
        same_camera: (R,) whether the query's camera saw it; False where a camera is unknown.
        is_self: (R,) whether the item is the query itself.
        distance: (R,) float32; None where only ranks are known.
        cameras: (n,) camera of each query, None where unknown; None where cameras were not read.
        gallery_cameras: (R,) camera of each item, likewise.
        gallery_ids: (R,) name of each item; None where they were not asked for.
    """

    query_ids: TextArray
    vehicles: TextArray
    query: NDArray[np.int32]
    rank: NDArray[np.int32]
    same_vehicle: BoolArray
    same_camera: BoolArray
    is_self: BoolArray
    distance: Float32Array | None = None
    cameras: TextArray | None = None
    gallery_cameras: TextArray | None = None
    gallery_ids: TextArray | None = None


@dataclass(frozen=True)
class ImageTruth:
    """What a data set says of each query image.

    Attributes:
        source: The files that say it.
        gallery: The images that they are about.
        good: For each query image, those of its vehicle by other cameras.
        junk: For each query image, those that are left out.
    """

    source: str
    gallery: frozenset[str]
    good: Mapping[str, frozenset[str]]
    junk: Mapping[str, frozenset[str]]
