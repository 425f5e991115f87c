"""Identities as files: Parquet with what made them, and the same rows as CSV.

Format: docs/definitions.md#identities-file.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from vreid_cli.errors import DataError
from vreid_cli.runtime.files import atomic_path, local_file, refuse_huge
from vreid_cli.runtime.objects import as_path
from vreid_cli.types.arrays import text_array
from vreid_cli.types.escaping import for_spreadsheet, from_spreadsheet
from vreid_cli.types.identities import Identities, TrackTimes
from vreid_cli.types.tracks import Items

_TEXT, _FRAME, _SECONDS = pa.utf8(), pa.int64(), pa.float64()
SCHEMA = pa.schema(
    [
        ("identity", pa.int32()),
        ("track", _TEXT),
        ("camera", _TEXT),
        ("first_frame", _FRAME),
        ("last_frame", _FRAME),
        ("start_s", _SECONDS),
        ("end_s", _SECONDS),
        ("images", pa.int64()),
        ("confidence", pa.float64()),
        ("probability", pa.float64()),
        ("vehicle", _TEXT),
        ("split", _TEXT),
    ]
)
#: What tables of identities are read from.
IDENTITY_ENDINGS = (".parquet", ".csv")
_REQUIRED = ("identity", "track")
_FACTS, _WARNINGS = b"facts", b"warnings"


def write_identities(path: Path, found: Identities) -> list[Path]:
    """Write the table as Parquet, and as CSV beside it.

    Args:
        path: Ends in ``.parquet``.
        found: The identities.

    Returns:
        Both files.

    Raises:
        StoreError: A file cannot be written.
    """
    table = _to_table(found)
    metadata = {_FACTS: json.dumps(dict(found.facts)), _WARNINGS: json.dumps(found.warnings)}
    with atomic_path(path) as temporary:
        pq.write_table(table.replace_schema_metadata(metadata), temporary, write_page_checksum=True)
    other = path.with_suffix(".csv")
    with atomic_path(other) as temporary:
        pa_csv.write_csv(_in_text(table, for_spreadsheet), temporary, pa_csv.WriteOptions(quoting_style="needed"))
    return [path, other]


def is_identities(path: Path) -> bool:
    """Whether a file is a table of identities, by its columns; False where it cannot be read.

    Examples:
        >>> is_identities(Path("nowhere.parquet"))
        False
    """
    try:
        return set(_REQUIRED) <= set(_read_names(path))
    except (OSError, ValueError, csv.Error, pa.ArrowException):
        return False


def read_identity_facts(path: Path) -> Mapping[str, Any]:
    """How identities were made; empty where the file does not say it.

    Raises:
        DataError: The file is no readable Parquet.
    """
    try:
        with local_file(path) as local:
            return _facts(pq.read_schema(local))
    except (OSError, ValueError, RecursionError, pa.ArrowException) as error:
        raise _damaged(path, error) from None


def _facts(schema: pa.Schema) -> Mapping[str, Any]:
    """How identities were made.

    Raises:
        ValueError, RecursionError: The metadata are damaged.
    """
    facts: dict[str, Any] = json.loads((schema.metadata or {}).get(_FACTS, b"{}"))
    if not isinstance(facts, dict):
        raise ValueError("it does not say how it was made")
    return facts


def _damaged(path: Path, why: object) -> DataError:
    hint = "make it again with vreid associate --force"
    return DataError(f"{path} cannot be read as identities: {why}", hint=hint, file=path)


def _read_parquet(path: Path) -> pa.Table:
    # read_table would import pyarrow.dataset, and that pandas where it is installed.
    table = pq.ParquetFile(path, page_checksum_verification=True).read()
    table.validate(full=True)
    return table


def read_identities(path: str | Path) -> Identities:
    """Read identities, Parquet or CSV, by the ending; columns that are left out are unknown.

    Raises:
        DataError: The file is missing, damaged, or lacks a column that must be there.
    """
    path = as_path(path)
    if not path.is_file():
        raise DataError(f"there are no identities {path}", hint="make them with vreid associate", file=path)
    try:
        with local_file(path) as local:
            table = _read_csv(local) if path.suffix.lower() == ".csv" else _read_parquet(local)
        lacking = [name for name in _REQUIRED if name not in table.column_names]
        if lacking:
            raise DataError(f"{path} has no column '{lacking[0]}'", hint="it is no table of identities", file=path)
        known = {name: table.column(name).cast(SCHEMA.field(name).type) for name in _columns_of(table)}
        facts = _facts(table.schema)  # of the same file, whoever replaces it meanwhile; a CSV says nothing
    except (OSError, ValueError, RecursionError, pa.ArrowException) as error:
        raise _damaged(path, error) from None
    if any(known[name].null_count for name in _REQUIRED):
        raise DataError(f"{path} has a row without identity or track", hint="fill it in", file=path)
    return _from_columns(known, rows=len(table), facts=facts, source=path)


def _to_table(found: Identities) -> pa.Table:
    times = found.times
    columns = {
        "identity": found.identity,
        "track": found.tracks.ids,
        "camera": found.tracks.cameras,
        "first_frame": pa.array(times.first, mask=times.first < 0),
        "last_frame": pa.array(times.last, mask=times.last < 0),
        "start_s": pa.array(times.start, from_pandas=True),
        "end_s": pa.array(times.end, from_pandas=True),
        "images": found.images,
        "confidence": pa.array(found.confidence, from_pandas=True),
        "probability": pa.array(found.probability, from_pandas=True),
        "vehicle": found.tracks.vehicles,
        "split": found.split,
    }
    return pa.table({name: pa.array(column, SCHEMA.field(name).type) for name, column in columns.items()})


def _from_columns(known: Mapping[str, Any], *, rows: int, facts: Mapping[str, Any], source: Path) -> Identities:
    def texts(name: str) -> Any:
        return text_array(known[name].to_pylist() if name in known else [None] * rows)

    def numbers(name: str, absent: float, kind: type) -> Any:
        filled = known[name].fill_null(absent).to_numpy() if name in known else np.full(rows, absent)
        return filled.astype(kind)

    times = TrackTimes(
        *(numbers(name, -1, np.int64) for name in ("first_frame", "last_frame")),
        *(numbers(name, np.nan, np.float64) for name in ("start_s", "end_s")),
    )
    return Identities(
        tracks=Items(texts("track"), texts("vehicle"), texts("camera")),
        identity=numbers("identity", 0, np.int32),
        images=numbers("images", 1, np.int64),
        times=times,
        confidence=numbers("confidence", np.nan, np.float64),
        probability=numbers("probability", np.nan, np.float64),
        split=texts("split"),
        facts=facts,
        source=source,
    )


def _columns_of(table: pa.Table) -> list[str]:
    return [name for name in SCHEMA.names if name in table.column_names]


def _read_names(path: Path) -> list[str]:
    if path.suffix.lower() != ".csv":
        with local_file(path) as local:
            names: list[str] = pq.read_schema(local).names
        return names
    refuse_huge(path)
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file), [])


def _read_csv(path: Path) -> pa.Table:
    # As text where it is text: a camera "001" is not the number 1.
    kinds = {field.name: field.type for field in SCHEMA}
    options = pa_csv.ConvertOptions(column_types=kinds, strings_can_be_null=True, null_values=[""])
    return _in_text(pa_csv.read_csv(path, convert_options=options), from_spreadsheet)


def _in_text(table: pa.Table, change: Callable[[str], str]) -> pa.Table:
    """A table whose texts are changed."""
    for position, field in enumerate(table.schema):
        if field.type == _TEXT:
            cells = [cell and change(cell) for cell in table.column(position).to_pylist()]
            table = table.set_column(position, field, pa.array(cells, _TEXT))
    return table
