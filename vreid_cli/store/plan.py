"""The plan of a split: which image belongs to which part, and what its file looked like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vreid_cli.errors import StoreError
from vreid_cli.runtime.arrow import release_memory
from vreid_cli.runtime.files import atomic_path
from vreid_cli.types.arrays import Int32Array, Int64Array

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
#: Rows that are objects at a time, where rows are gone through.
_BLOCK = 1024

#: Id of an image and digest of its content: as long as both are the same, so is its LR.
Content = tuple[str, str]


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One image of the plan.

    Attributes:
        image_id: Id of the image.
        track_id: Its passage.
        size: Bytes of its file; -1 where there is none.
        mtime: When its file was last changed, in nanoseconds; -1 where there is none.
        sha256: Digest of its content; empty where it cannot be read.
        part: Number of the part that holds it.
    """

    image_id: str
    track_id: str | None
    size: int
    mtime: int
    sha256: str
    part: int


class Plan(Sequence[PlanRow]):
    """The rows of a plan in columns; a row is made when it is asked for.

    Args:
        table: Of :data:`PLAN_SCHEMA`.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    @classmethod
    def of(cls, rows: Sequence[PlanRow]) -> Plan:
        """The plan with these rows."""
        columns = {name: [getattr(row, name) for row in rows] for name in PLAN_SCHEMA.names}
        return cls(pa.table(columns, schema=PLAN_SCHEMA))

    @classmethod
    def read(cls, path: Path) -> Plan | None:
        """Read it; None if there is none.

        Raises:
            StoreError: It is damaged.
        """
        if not path.is_file():
            return None
        try:
            table = pq.read_table(path, schema=PLAN_SCHEMA)
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
            pq.write_table(self.table.combine_chunks() if several else self.table, temporary)
        release_memory()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> PlanRow: ...

    @overload
    def __getitem__(self, index: slice) -> Plan: ...

    def __getitem__(self, index: int | slice) -> PlanRow | Plan:
        if isinstance(index, slice):
            return Plan(self.table.take(pa.array(np.arange(len(self))[index])))
        row = range(len(self))[index]
        return PlanRow(*(column[row].as_py() for column in self.table.columns))

    def __iter__(self) -> Iterator[PlanRow]:
        for batch in self.table.to_batches(max_chunksize=_BLOCK):
            yield from (PlanRow(*row) for row in zip(*(column.to_pylist() for column in batch.columns), strict=True))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Plan):
            return bool(self.table.equals(other.table))
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # compared by value, as other sequences that are no tuples

    @property
    def parts(self) -> Int32Array:
        """(N,) int32 number of the part of each image."""
        numbers: Int32Array = self.table.column("part").to_numpy()
        return numbers

    def members(self) -> list[tuple[int, Int64Array]]:
        """Each part, by number, with the positions of its rows, rising."""
        if not len(self):
            return []
        parts = self.parts
        order = np.argsort(parts, kind="stable").astype(np.int64, copy=False)
        numbers, starts = np.unique(parts[order], return_index=True)
        return list(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True))

    def contents(self, rows: Int64Array) -> list[Content]:
        """Id and digest of the content of the images at these positions."""
        some = self.table.select(["image_id", "sha256"]).take(pa.array(rows))
        return list(zip(*(column.to_pylist() for column in some.columns), strict=True))

    def find(self, image_ids: pa.Array | pa.ChunkedArray) -> Int64Array:
        """(M,) int64 position of each id (utf8); -1 where it is none of this plan."""
        found = pc.index_in(image_ids, value_set=self.table.column("image_id"))
        positions: Int64Array = found.fill_null(-1).cast(pa.int64()).to_numpy()
        return positions
