"""How the images of a gallery are indexed."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vreid_cli.types.index import Geometry, IndexKind
from vreid_cli.types.options import Auto, Options, Positive, option


class IndexOptions(Options):
    """``[index]``: which index, for which distance, and how much of it a search looks at.

    Examples:
        >>> IndexOptions(kind="flat").distance
        ('cosine',)
    """

    kind: Auto | IndexKind = option(
        "auto", "flat compares all images, ivf and ivf-pq the likely ones, hnsw follows a graph.", shown="by size"
    )
    distance: Annotated[tuple[Geometry, ...], Field(min_length=1)] = option(
        ("cosine",), "What is near: cosine for MCD and RSCR, euclidean for MED."
    )
    probes: Auto | Positive = option("auto", "Lists of an ivf, or nodes of an hnsw, that a search looks at.")
