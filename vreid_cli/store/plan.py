"""The plan of a split: which image belongs to which part, and what its file looked like."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vreid_cli.errors import StoreError
from vreid_cli.runtime.arrow import release_memory
from vreid_cli.runtime.files import atomic_path, local_file, refuse_folder
from vreid_cli.types.arrays import BoolArray, Int32Array, Int64Array, from_numpy, to_numpy

#: ``size`` (bytes) and ``mtime`` (nanoseconds) are -1 where there is no file, ``sha256`` is empty where it cannot be
#: read; ``part`` is the number of the part that holds the image.
PLAN_SCHEMA = pa.schema(
    [
        ("image_id", pa.utf8()),
        ("track_id", pa.utf8()),
        ("size", pa.int64()),
        ("mtime", pa.int64()),
        ("sha256", pa.utf8()),
        ("part", pa.int32()),
    ]
)
_MAY_BE_ABSENT = "track_id"
_LOOK_AGAIN = "remove it and run the same vreid extract again: parts that hold what they should are kept"


class Plan:
    """A row an image, in columns.

    Args:
        table: Of :data:`PLAN_SCHEMA`; None for a plan without images.
    """

    def __init__(self, table: pa.Table | None = None) -> None:
        self.table = PLAN_SCHEMA.empty_table() if table is None else table

    @classmethod
    def read(cls, path: Path) -> Plan | None:
        """Read it; None if there is none.

        Raises:
            StoreError: It is damaged.
        """
        refuse_folder(path)
        if not path.is_file():
            return None
        try:
            # read_table would import pyarrow.dataset, and that pandas where it is installed.
            with local_file(path) as local:
                table = pq.ParquetFile(local, page_checksum_verification=True).read().cast(PLAN_SCHEMA)
            # Damaged text would be found only when it is used.
            table.validate(full=True)
            gaps = [name for name in table.column_names if name != _MAY_BE_ABSENT and table.column(name).null_count]
            if gaps:
                raise ValueError(f"{gaps[0]} is not always there")
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise StoreError(f"{path} is damaged: {error}", hint=_LOOK_AGAIN, file=path) from None
        release_memory()
        return cls(table)

    def write(self, path: Path) -> None:
        """Write it, atomically."""
        with atomic_path(path) as temporary:
            # One chunk a column: where they end would show in the file. Even a single one would be copied.
            several = any(column.num_chunks > 1 for column in self.table.columns)
            table = self.table.combine_chunks() if several else self.table
            pq.write_table(table, temporary, write_page_checksum=True)
        release_memory()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and bool(self.table.equals(other.table))

    __hash__ = None  # type: ignore[assignment]  # compared by value

    def numbers(self, name: str) -> Int64Array:
        """(N,) int64 column ``size`` or ``mtime``."""
        column: Int64Array = to_numpy(self.table.column(name))
        return column

    def stamps(self) -> Int64Array:
        """(2, N) int64 size and time of the file of each image."""
        return np.stack([self.numbers("size"), self.numbers("mtime")])

    @property
    def parts(self) -> Int32Array:
        """(N,) int32 number of the part of each image."""
        numbers: Int32Array = to_numpy(self.table.column("part"))
        return numbers

    def members(self) -> list[tuple[int, Int64Array]]:
        """Each part, by number, with the positions of its rows, rising."""
        return group(self.parts)

    def contents(self, rows: Int64Array) -> str:
        """Digest over ids and file contents of the images at these positions, whatever their order.

        As long as it is the same, so are their LRs.
        """
        some = self.table.select(["image_id", "sha256"]).take(from_numpy(rows))
        return digest_rows(sorted(zip(*(column.to_pylist() for column in some.columns), strict=True)))

    def find(self, image_ids: pa.Array | pa.ChunkedArray) -> Int64Array:
        """(M,) int64 position of each id (utf8); -1 where it is none of this plan."""
        found = pc.index_in(image_ids, value_set=self.table.column("image_id"))
        return to_numpy(found, absent=-1).astype(np.int64)

    def locate(self, digests: Mapping[int, str], *, others: Iterable[Plan] = ()) -> Int32Array:
        """(N,) int32 part on disk in which the LR of each image lies; -1 where it lies in none.

        A plan is believed about a part only as far as the part confirms it: after an interruption the plan is
        new already and some parts are still old.

        Args:
            digests: For each part on disk, the :meth:`contents` that it was written with.
            others: Other plans that the parts may have been made by; what the later ones say counts.
        """
        located = np.full(len(self), -1, dtype=np.int32)
        for other in (*others, self):
            confirmed = other._confirmed(digests)
            if not confirmed.any():
                continue
            rows = np.arange(len(self)) if other is self else other.find(self.table.column("image_id"))
            here = np.flatnonzero(rows >= 0)
            here = here[confirmed[rows[here]]]
            if other is not self:
                here = here[self._same_content(here, other, rows[here])]
            located[here] = other.parts[rows[here]]
        return located

    def _confirmed(self, digests: Mapping[int, str]) -> BoolArray:
        """(N,) whether the part that holds an image was written with the images that this plan says."""
        confirmed = np.zeros(len(self), dtype=np.bool_)
        for part, rows in self.members() if digests else ():
            confirmed[rows] = part in digests and digests[part] == self.contents(rows)
        return confirmed

    def _same_content(self, rows: Int64Array, other: Plan, other_rows: Int64Array) -> BoolArray:
        here, there = (
            plan.table.column("sha256").take(from_numpy(positions))
            for plan, positions in ((self, rows), (other, other_rows))
        )
        same: BoolArray = to_numpy(pc.equal(here, there))
        return same


def group(parts: Int32Array) -> list[tuple[int, Int64Array]]:
    """Each number that occurs, rising, with the positions where it does.

    Example:
        >>> group(np.array([3, 0, 3], dtype=np.int32))
        [(0, array([1])), (3, array([0, 2]))]
    """
    if not len(parts):
        return []
    order = np.argsort(parts, kind="stable").astype(np.int64, copy=False)
    numbers, starts = np.unique(parts[order], return_index=True)
    return list(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True))


def digest_rows(rows: Iterable[tuple[object, ...]]) -> str:
    """SHA-256 over rows of plain values, in their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr(row).encode())
    return digest.hexdigest()
