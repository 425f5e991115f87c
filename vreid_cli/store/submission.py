"""The file that the AI City Challenge takes: a line a query, the numbers of its nearest gallery images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TextIO

import numpy as np

from vreid_cli.errors import DataError
from vreid_cli.runtime.files import atomic_path
from vreid_cli.types.arrays import Int64Array
from vreid_cli.types.rankings import RankingBlock, RankingFacts
from vreid_cli.types.tracks import Items

#: How many of the nearest images the challenge looks at.
LISTED = 100


class SubmissionWriter:
    """Writes a line for each query, in the order of the queries; empty where a query lists nothing.

    Args:
        file: Open for writing text.
        numbers: (n,) number of each gallery image.
        queries: How many queries there are.
    """

    def __init__(self, file: TextIO, numbers: Int64Array, queries: int) -> None:
        self._file = file
        self._numbers = numbers
        self._queries = queries
        self._written = 0

    def append(self, block: RankingBlock) -> None:
        """Write the lines of a block."""
        # What --top-k lists beyond its nearest, at its true rank, is ground truth and no part of the answer.
        near = block.rank <= LISTED
        query, numbers = block.query_index[near], self._numbers[block.gallery_index[near]]
        if len(query):
            bounds = np.searchsorted(query, np.arange(self._written, query[-1] + 2))
            for start, end in pairwise(bounds):
                self._file.write(" ".join(map(str, numbers[start:end])) + "\n")
            self._written = int(query[-1]) + 1

    def finish(self) -> None:
        """Write the lines of the queries that are left."""
        self._file.write("\n" * (self._queries - self._written))


@contextmanager
def write_submission(path: Path, facts: RankingFacts, *, queries: Items, gallery: Items) -> Iterator[SubmissionWriter]:
    """Write a submission block by block; the file appears when the last one is there.

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
        writer = SubmissionWriter(file, numbers, len(queries))
        yield writer
        writer.finish()


def _number(name: str, path: Path) -> int:
    stem = PurePosixPath(name).stem
    if not (stem.isascii() and stem.isdecimal()):
        raise DataError(
            f"{path}: the gallery image {name} has no number for a name",
            hint="a submission needs names like 000001.jpg; for others use .parquet or .json",
            file=path,
        )
    return int(stem)
