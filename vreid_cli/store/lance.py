"""Features as a LanceDB database: a folder with one table, a row an image, that needs no server.

The table ``features`` has the columns ``image_id, track_id, vehicle_id, camera_id`` (utf8), ``frame`` (int64) and
``vector`` (fixed-size list of float32). Its metadata ``vreid`` says what made the vectors, what distances mean, and a
checksum of the rows, which holds for as long as another program neither adds nor removes any.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from vreid_cli.errors import DataError, StoreError, first_line
from vreid_cli.runtime.extras import require_extra
from vreid_cli.runtime.files import explain_write_errors, refuse_huge
from vreid_cli.runtime.objects import ObjectPath
from vreid_cli.store.parts import CHANGED, checksum_rows
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
_AGAIN = "export it again"


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
    schema = pa.schema([*((name, pa.utf8()) for name in COLUMNS), ("frame", pa.int64()), (VECTOR, vector)])
    facts |= {"rows": len(features), "checksum": _checksum(_batches(features, schema)), "distances": MEANING}
    schema = schema.with_metadata({"vreid": json.dumps(facts)})
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


def _checksum(batches: Iterable[pa.RecordBatch]) -> str:
    """CRC-32 of all rows, in batches of the same size when they are written and when they are read."""
    return f"{zlib.crc32(' '.join(map(checksum_rows, batches)).encode()):08x}"


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
        for file in (path / f"{TABLE}.lance").rglob("*"):
            refuse_huge(file)  # where LanceDB runs out of memory it ends the process
        table = lancedb.connect(str(path)).open_table(TABLE).to_arrow()
    except Exception as error:  # noqa: BLE001 - damage can make Rust panic, which is an error of no known kind
        raise _damaged(path, first_line(error)) from None
    return _from_table(table, path)


def _damaged(path: Path, why: str) -> StoreError:
    return StoreError(f"{path} is damaged: {why}", hint=_AGAIN, file=path)


def _from_table(table: pa.Table, path: Path) -> FeatureSet:
    wanted = {**dict.fromkeys(COLUMNS, "utf8"), "frame": "int64", VECTOR: "a fixed-size list of float32"}
    kinds = {"utf8": pa.types.is_string, "int64": pa.types.is_int64, wanted[VECTOR]: _is_vector}
    for name, kind in wanted.items():
        if name not in table.column_names or not kinds[kind](table.schema.field(name).type):
            raise DataError(f"{path}: the table '{TABLE}' has no column '{name}' of {kind}", file=path)
    table = table.select(list(wanted)).combine_chunks()
    vectors = table.column(VECTOR).combine_chunks()
    if vectors.null_count or vectors.flatten().null_count or table.column("image_id").null_count:
        raise DataError(f"{path}: a row lacks its image_id or its {VECTOR}", hint="remove the row", file=path)
    found = _facts(table, path)
    protocol: Any = found.get("protocol")
    matrix = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(table), vectors.type.list_size)
    if not (finite := np.isfinite(matrix).all(axis=1)).all():
        name = table.column("image_id")[int(np.argmin(finite))]
        raise DataError(f"{path}: the {VECTOR} of image {name} is not finite", hint="remove the row", file=path)
    labels: dict[str, Any] = {name: text_array(table.column(name).to_pylist()) for name in COLUMNS}
    return FeatureSet(
        matrix=ArrayMatrix(matrix),
        **labels,
        frame=table.column("frame").fill_null(-1).to_numpy(),
        source=str(path),
        identity=found.get("identity"),
        protocol=protocol if protocol in get_args(QueryProtocol) else "separate",
        **{name: found[name] for name in _FACTS if name in found},
    )


def _facts(table: pa.Table, path: Path) -> dict[str, Any]:
    """What the metadata say; nothing, where another program made the table.

    Raises:
        StoreError: They are damaged, or speak of other rows.
    """
    try:
        found = json.loads((table.schema.metadata or {}).get(b"vreid", b"{}"))
        texts = [found.get(name) for name in _FACTS] + list((found.get("identity") or {}).values())
        if not all(isinstance(text, str | None) for text in texts):
            raise ValueError("a fact is no text")
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise _damaged(path, f"its metadata: {first_line(error)}") from None
    if found.get("rows") == len(table) and found.get("checksum") != _checksum(table.to_batches(_BATCH)):
        raise _damaged(path, CHANGED)
    return dict(found)


def _is_vector(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind) and pa.types.is_float32(kind.value_type))
