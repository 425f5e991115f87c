"""The file that the AI City Challenge takes: a line a query, the numbers of its nearest gallery images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np

from vreid_cli.errors import DataError
from vreid_cli.runtime.files import atomic_path
from vreid_cli.types.rankings import BlockWriter, RankingBlock, RankingFacts
from vreid_cli.types.tracks import Items

#: How many of the nearest images the challenge looks at.
LISTED = 100


@contextmanager
def write_submission(path: Path, facts: RankingFacts, *, queries: Items, gallery: Items) -> Iterator[BlockWriter]:
    """Write a line for each query, in the order of the queries; empty where a query lists nothing.

    Args:
        path: The file.
        facts: How the ranking is made, which a submission does not say.
        queries: The queries.
        gallery: The gallery images, named by numbers.

    Raises:
        DataError: The name of a gallery image is no number, or two have the same.
        StoreError: The file cannot be written.
    """
    owners: dict[int, str] = {}
    for name in gallery.ids:
        number = _number(name, path)
        if number in owners:
            raise DataError(
                f"{path}: the gallery images {owners[number]} and {name} both have the number {number}",
                hint="a submission needs a number for each; for others use .parquet or .json",
                file=path,
            )
        owners[number] = name
    numbers = np.array(list(owners), dtype=np.int64)
    with atomic_path(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as file:
        written = 0

        def write(block: RankingBlock) -> None:
            nonlocal written
            # What --top-k lists beyond its nearest, at its true rank, is ground truth and no part of the answer.
            near = block.rank <= LISTED
            query, own = block.query_index[near], numbers[block.gallery_index[near]]
            if len(query):
                bounds = np.searchsorted(query, np.arange(written, query[-1] + 2))
                for start, end in pairwise(bounds):
                    file.write(" ".join(map(str, own[start:end])) + "\n")
                written = int(query[-1]) + 1

        yield write
        file.write("\n" * (len(queries) - written))


def _number(name: str, path: Path) -> int:
    stem = PurePosixPath(name).stem
    if not (stem.isascii() and stem.isdecimal()):
        raise DataError(
            f"{path}: the gallery image {name} has no number for a name",
            hint="a submission needs names like 000001.jpg; for others use .parquet or .json",
            file=path,
        )
    return int(stem)
