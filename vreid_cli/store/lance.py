"""Features as a LanceDB database: a folder with one table, a row an image, that needs no server.

The table ``features`` has the columns ``image_id, track_id, vehicle_id, camera_id`` (utf8), ``frame`` (int64) and
``vector`` (fixed-size list of float32). Its metadata ``vreid`` says what made the vectors and what distances mean.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from vreid_cli.errors import DataError, StoreError, first_line
from vreid_cli.runtime.extras import require_extra
from vreid_cli.runtime.files import explain_write_errors
from vreid_cli.runtime.objects import ObjectPath
from vreid_cli.types.arrays import text_array
from vreid_cli.types.features import COLUMNS, ArrayMatrix, FeatureSet, QueryProtocol

TABLE, VECTOR = "features", "vector"
#: What LanceDB's distances are of ours.
MEANING = {
    "cosine": "MCD of two images: 1 - cosine",
    "l2": "the square of MED of two images: of the Euclidean distance",
}
_FACTS = ("image_root", "dataset", "weights", "version")
_BATCH = 8192


def write_features_lance(path: Path, features: FeatureSet) -> None:
    """Write all features with their labels, what made them and what distances mean, a batch at a time.

    Raises:
        MissingExtraError: LanceDB is not installed.
        StoreError: The folder cannot be written.
    """
    require_extra("lancedb", ["lancedb"], needed_by=f"{path.name}")
    import lancedb

    facts: dict[str, Any] = {name: getattr(features, name) for name in _FACTS}
    facts |= {"identity": features.identity and dict(features.identity), "protocol": features.protocol}
    vector = pa.list_(pa.float32(), features.dimension)
    schema = pa.schema(
        [*((name, pa.utf8()) for name in COLUMNS), ("frame", pa.int64()), (VECTOR, vector)],
        metadata={"vreid": json.dumps({**facts, "distances": MEANING})},
    )
    with _whole_folder(path) as folder:
        try:
            lancedb.connect(folder).create_table(TABLE, data=_batches(features, schema), schema=schema)
        except (RuntimeError, ValueError) as error:
            raise StoreError(f"{path} cannot be written: {first_line(error)}", file=path) from None


def _batches(features: FeatureSet, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(features), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(features)))
        columns = [pa.array(getattr(features, name)[rows], pa.utf8()) for name in COLUMNS]
        frame = np.full(len(rows), -1) if features.frame is None else features.frame[rows]
        columns.append(pa.array(frame, pa.int64(), mask=frame < 0))
        flat = pa.array(features.matrix.take(rows).reshape(-1))
        columns.append(pa.FixedSizeListArray.from_arrays(flat, features.dimension))
        yield pa.record_batch(columns, schema=schema)


@contextmanager
def _whole_folder(path: Path) -> Iterator[str]:
    """A folder beside ``path`` that takes its place when the block ends without an error."""
    if isinstance(path, ObjectPath):
        raise StoreError(f"{path}: a LanceDB database is written to this machine", hint="give a folder", file=path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        with explain_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield str(temporary)
            shutil.rmtree(path, ignore_errors=True)
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_features_lance(path: Path, label_pattern: str | None = None) -> FeatureSet:
    """Features (N, D) of the table ``features``, in memory, in the order of its rows; labels as it holds them.

    Raises:
        MissingExtraError: LanceDB is not installed.
        DataError: There is no such table, or it has other columns.
        StoreError: It is damaged.
    """
    require_extra("lancedb", ["lancedb"], needed_by=f"{path.name}")
    import lancedb

    if not path.is_dir():  # connecting would make it
        raise DataError(
            f"there are no features at {path}", hint="export them: vreid export features --to lancedb", file=path
        )
    names = sorted(folder.stem for folder in path.glob("*.lance"))
    if TABLE not in names:
        hint = "vreid export features --to lancedb makes one"
        raise DataError(f"{path} has no table '{TABLE}'; it has {', '.join(names) or 'none'}", hint=hint, file=path)
    try:
        table = lancedb.connect(str(path)).open_table(TABLE).to_arrow()
    except (RuntimeError, ValueError, OSError) as error:
        raise StoreError(f"{path} is damaged: {first_line(error)}", hint="export it again", file=path) from None
    return _from_table(table, path)


def _from_table(table: pa.Table, path: Path) -> FeatureSet:
    wanted = {**dict.fromkeys(COLUMNS, "utf8"), "frame": "int64", VECTOR: "a fixed-size list of float32"}
    kinds = {"utf8": pa.types.is_string, "int64": pa.types.is_int64, wanted[VECTOR]: _is_vector}
    for name, kind in wanted.items():
        if name not in table.column_names or not kinds[kind](table.schema.field(name).type):
            raise DataError(f"{path}: the table '{TABLE}' has no column '{name}' of {kind}", file=path)
    found = json.loads((table.schema.metadata or {}).get(b"vreid", b"{}"))
    protocol = found.get("protocol")
    vectors = table.column(VECTOR).combine_chunks()
    matrix = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(table), vectors.type.list_size)
    labels: dict[str, Any] = {name: text_array(table.column(name).to_pylist()) for name in COLUMNS}
    return FeatureSet(
        matrix=ArrayMatrix(matrix),
        **labels,
        frame=table.column("frame").fill_null(-1).to_numpy(),
        source=str(path),
        identity=found.get("identity"),
        protocol=protocol if protocol in get_args(QueryProtocol) else "separate",
        **{name: found.get(name) for name in _FACTS},
    )


def _is_vector(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind) and pa.types.is_float32(kind.value_type))
