"""Per-query scores as a table: Parquet or CSV, by the ending."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vreid_cli.errors import UsageError
from vreid_cli.runtime.files import atomic_path
from vreid_cli.types.escaping import for_spreadsheet

ENDINGS = (".parquet", ".csv")


def check_table_path(path: Path) -> None:
    """Refuse an ending that says no format, before any work is done.

    Raises:
        UsageError: It is another.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"--per-query {path}: unknown ending '{path.suffix}'", hint="known: .parquet, .csv")


def write_query_scores(path: Path, columns: Mapping[str, NDArray[np.generic]]) -> None:
    """Write columns of one length, atomically; NaN becomes an absent value.

    Raises:
        StoreError: The file cannot be written.
    """
    is_csv = path.suffix.lower() == ".csv"
    cells = {name: [*map(for_spreadsheet, column)] if is_csv else column for name, column in columns.items()}
    table = pa.table({name: pa.array(column, from_pandas=True) for name, column in cells.items()})
    with atomic_path(path) as temporary:
        if is_csv:
            pa_csv.write_csv(table, temporary)
        else:
            pq.write_table(table, temporary)
