"""Whether two files of the same kind say the same: byte for byte, within rounding, or not."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vreid_cli.errors import VreidError
from vreid_cli.types.amounts import amount

#: Of the largest number beside it: twice what other threads and batches change (docs/definitions.md#tolerances).
ROUNDING = 2e-6
#: What differs whenever something is made again: when, how quickly, where, and by which version.
_OF_THE_MOMENT = frozenset({"time", "seconds", "versions", "ranking", "run_dir", "mtime"})


def difference(one: Path, other: Path) -> str | None:
    """How a file differs from another beyond rounding, in words; None where it does not.

    Args:
        one: A file of a run; its ending says how it is read. What cannot be read as numbers must be the same bytes.
        other: The file to compare it with.

    Examples:
        >>> _ = Path("a.json").write_text('{"mAP": 0.5, "seconds": 3}')
        >>> _ = Path("b.json").write_text('{"mAP": 0.50000001, "seconds": 4}')
        >>> _ = Path("c.json").write_text('{"mAP": 0.6, "seconds": 4}')
        >>> difference(Path("a.json"), Path("b.json")), difference(Path("a.json"), Path("c.json"))
        (None, 'mAP is 0.6, not 0.5')
    """
    if one.read_bytes() == other.read_bytes():
        return None
    read = _READERS.get(one.suffix.lower())
    if read is None:
        return "its bytes are others"
    try:
        return _compare(read(one), read(other), "")
    except (VreidError, OSError, ValueError, KeyError) as error:
        return f"it cannot be compared: {error}"


def _compare(one: Any, other: Any, where: str) -> str | None:
    """The first difference of two values, which may be nested."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and one.dtype.kind == other.dtype.kind == "f":
        return _compare_arrays(one, other, where)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        same = one.shape == other.shape and bool((one == other).all())
        return None if same else f"{where} has other entries"
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        names = [name for name in dict.fromkeys([*one, *other]) if name not in _OF_THE_MOMENT]
        return _first(_compare(one.get(name), other.get(name), f"{where}.{name}".strip(".")) for name in names)
    if isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            return f"{where} has {amount(len(other), 'entry')}, not {len(one)}"
        pairs = enumerate(zip(one, other, strict=True))
        return _first(_compare(a, b, f"{where}[{number}]") for number, (a, b) in pairs)
    if isinstance(one, int | float) and isinstance(other, int | float) and math.isclose(one, other, rel_tol=ROUNDING):
        return None
    if isinstance(one, str) and isinstance(other, str) and "/" in one and Path(one).name == Path(other).name:
        return None  # a path: the runs lie in different folders
    return None if one == other else f"{where} is {other}, not {one}"


def _compare_arrays(one: np.ndarray, other: np.ndarray, where: str) -> str | None:
    if one.shape != other.shape:
        return f"{where} has shape {other.shape}, not {one.shape}"
    scale = float(np.abs(one[np.isfinite(one)]).max(initial=0))
    if np.allclose(one, other, rtol=ROUNDING, atol=ROUNDING * scale, equal_nan=True):
        return None
    with np.errstate(invalid="ignore"):
        worst = float(np.nanmax(np.abs(one.astype(np.float64) - other)))
    return f"{where} differs by up to {worst:.3g}, where the largest number is {scale:.3g}"


def _first(found: Iterator[str | None]) -> str | None:
    return next((one for one in found if one is not None), None)


# -- reading -------------------------------------------------------------------------------------------------


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _table(path: Path) -> Any:
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: _number(cell) for name, cell in row.items()} for row in csv.DictReader(file)]


def _number(cell: Any) -> Any:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return cell


def _columns(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.ParquetFile(path).read()
    table = pa.table({name: _plain(table.column(name)) for name in table.column_names if name not in _OF_THE_MOMENT})
    if {"query_id", "gallery_id", "rank"} <= set(table.column_names):
        # Items that are equally near to a rounding error may have changed places: what counts is how far each is.
        table = table.sort_by([("query_id", "ascending"), ("gallery_id", "ascending")]).drop_columns(["rank"])
    return {name: table.column(name).to_numpy() for name in table.column_names}


def _plain(column: Any) -> Any:
    import pyarrow as pa

    return column.cast(pa.utf8()) if pa.types.is_dictionary(column.type) else column


def _part(path: Path) -> Any:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        batch = pa.ipc.open_file(source).get_batch(0)
        columns = {name: np.array(batch.column(name).to_pylist()) for name in batch.schema.names if name != "feature"}
        return {**columns, "feature": batch.column("feature").flatten().to_numpy().astype(np.float32)}


def _tensors(path: Path) -> Any:
    from safetensors.numpy import load_file

    return load_file(path)


def _arrays(path: Path) -> Any:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


_READERS: Mapping[str, Callable[[Path], Any]] = {
    ".json": _json,
    ".csv": _table,
    ".parquet": _columns,
    ".arrow": _part,
    ".safetensors": _tensors,
    ".npz": _arrays,
}
