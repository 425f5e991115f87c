"""Whether two files of the same kind say the same: byte for byte, within rounding, or not."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vreid_cli.errors import VreidError
from vreid_cli.types.amounts import amount

#: Of the largest number beside it: twice what other threads and batches change (docs/definitions.md#tolerances).
ROUNDING = 2e-6
#: The ranks of a ranking: items that are equally near to a rounding error may have changed places. What counts is how
#: far each is.
_RANKS = "ranks"
#: What may differ whenever something is made again, by its name, and what that is.
_OF_THE_MOMENT = {
    **{"time": "times", "seconds": "times", "mtime": "times", "versions": "versions", "run_dir": "paths"},
    _RANKS: "order of what is equally near",
}


@dataclass(frozen=True)
class Difference:
    """How a file differs from another of other bytes.

    Attributes:
        harmful: The first difference that counts, in words; None where there is none.
        harmless: What else differs: ``metadata``, ``order of what is equally near``, ``paths``, ``rounding``,
            ``times``, ``versions``.
    """

    harmful: str | None
    harmless: tuple[str, ...] = ()


def difference(one: Path, other: Path) -> Difference | None:
    """How a file differs from another; None where it is the same byte for byte.

    Args:
        one: A file of a run; its ending says how it is read. What cannot be read as numbers must be the same bytes.
        other: The file to compare it with.

    Examples:
        >>> _ = Path("a.json").write_text('{"mAP": 0.5, "seconds": 3}')
        >>> _ = Path("b.json").write_text('{"mAP": 0.50000001, "seconds": 4}')
        >>> _ = Path("c.json").write_text('{"mAP": 0.6, "seconds": 4}')
        >>> difference(Path("a.json"), Path("b.json"))
        Difference(harmful=None, harmless=('rounding', 'times'))
        >>> difference(Path("a.json"), Path("c.json")).harmful
        'mAP is 0.6, not 0.5'
    """
    if one.read_bytes() == other.read_bytes():
        return None
    read = _READERS.get(one.suffix.lower())
    if read is None:
        return Difference("its bytes are others")
    harmless: set[str] = set()
    try:
        harmful = _compare(read(one), read(other), "", harmless)
    except (VreidError, OSError, ValueError, KeyError) as error:
        harmful = f"it cannot be compared: {error}"
    return Difference(harmful, tuple(sorted(harmless or {"metadata"})))


def _compare(one: Any, other: Any, where: str, harmless: set[str]) -> str | None:
    """The first difference of two values, which may be nested; adds what differs without harm."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and one.dtype.kind == other.dtype.kind == "f":
        return _compare_arrays(one, other, where, harmless)
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return None if _same(one, other) else f"{where} has other entries"
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        names = dict.fromkeys([*one, *other])
        moment = [name for name in names if name in _OF_THE_MOMENT]
        harmless |= {_OF_THE_MOMENT[name] for name in moment if not _same(one.get(name), other.get(name))}
        return _first(
            _compare(one.get(name), other.get(name), f"{where}.{name}".strip("."), harmless)
            for name in names
            if name not in _OF_THE_MOMENT
        )
    if isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            return f"{where} has {amount(len(other), 'entry')}, not {len(one)}"
        pairs = enumerate(zip(one, other, strict=True))
        return _first(_compare(a, b, f"{where}[{number}]", harmless) for number, (a, b) in pairs)
    if _same(one, other):
        return None
    if isinstance(one, int | float) and isinstance(other, int | float) and math.isclose(one, other, rel_tol=ROUNDING):
        harmless.add("rounding")
        return None
    if isinstance(one, str) and isinstance(other, str) and "/" in one and Path(one).name == Path(other).name:
        harmless.add("paths")  # the runs lie in different folders
        return None
    return f"{where} is {other}, not {one}"


def _same(one: Any, other: Any) -> bool:
    arrays = isinstance(one, np.ndarray) or isinstance(other, np.ndarray)
    return np.array_equal(one, other) if arrays else bool(one == other)


def _compare_arrays(one: np.ndarray, other: np.ndarray, where: str, harmless: set[str]) -> str | None:
    if one.shape != other.shape:
        return f"{where} has shape {other.shape}, not {one.shape}"
    if np.array_equal(one, other, equal_nan=True):
        return None
    harmless.add("rounding")
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
    content = json.loads(path.read_text(encoding="utf-8"))
    lists = content.get("tracks") if isinstance(content, dict) else None
    if not isinstance(lists, dict) or not all(isinstance(one, dict) and "ranking" in one for one in lists.values()):
        return content
    return {**content, "tracks": {query: _by_item(one["ranking"]) for query, one in lists.items()}}


def _by_item(ranking: Mapping[str, Any]) -> Any:
    """A list of the paper's JSON in columns, by the items' names."""
    items = sorted(ranking.items(), key=lambda entry: str(entry[1]["id"]))
    columns = {name: np.array([str(item[name]) for _, item in items]) for name in ("id", "class")}
    distance = np.array([item["distance"] for _, item in items], dtype=np.float64)
    return {**columns, "distance": distance, _RANKS: np.array([rank for rank, _ in items])}


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
    table = pa.table({name: _plain(table.column(name)) for name in table.column_names})
    if {"query_id", "gallery_id", "rank"} <= set(table.column_names):
        table = table.sort_by([("query_id", "ascending"), ("gallery_id", "ascending")])
        table = table.rename_columns({"rank": _RANKS})
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
