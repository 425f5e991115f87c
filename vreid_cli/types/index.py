"""What an index of images is, for options and messages."""

from __future__ import annotations

from typing import Literal

#: ``flat``: every image is compared. ``ivf``: images lie in lists around centres, and the nearest lists are compared.
#: ``ivf-pq``: the same with compressed images. ``hnsw``: a graph of neighbours is followed.
IndexKind = Literal["flat", "ivf", "ivf-pq", "hnsw"]
#: What is near: a small angle, or a small Euclidean distance.
Geometry = Literal["cosine", "euclidean"]
