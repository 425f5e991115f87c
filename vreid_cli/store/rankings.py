"""Rankings as Parquet: long form, dictionary-encoded, streamed query by query, described by their metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vreid_cli.errors import StoreError
from vreid_cli.runtime.files import atomic_path
from vreid_cli.types.arrays import TextArray, text_array
from vreid_cli.types.rankings import RankedItem, RankingBlock, RankingFacts
from vreid_cli.types.tracks import Items
from vreid_cli.types.truth import JudgedRows, SameCamera

_TEXT_COLUMNS = (
    "query_id",
    "query_vehicle",
    "query_camera",
    "gallery_id",
    "gallery_vehicle",
    "gallery_camera",
)
_DICTIONARY = pa.dictionary(pa.int32(), pa.utf8())
RANKING_SCHEMA = pa.schema(
    [
        ("query_id", _DICTIONARY),
        ("query_vehicle", _DICTIONARY),
        ("query_camera", _DICTIONARY),
        ("rank", pa.int32()),
        ("gallery_id", _DICTIONARY),
        ("gallery_vehicle", _DICTIONARY),
        ("gallery_camera", _DICTIONARY),
        ("distance", pa.float32()),
    ]
)
#: Facts that are no text, kept as JSON.
_NO_TEXT = (
    *("query_identity", "gallery_identity", "selves", "rerank", "query_lengths"),
    *("gallery_size", "query_count", "top_k", "threshold", "alpha"),
    *("trial", "trial_seed"),
)
_READ_ROWS = 1 << 20
#: What Arrow raises over damaged bytes, depending on where they are.
_DAMAGE = (pa.ArrowException, OSError, ValueError, IndexError, KeyError)
#: Rows read beyond those that are asked for, because junk among them is left out.
_WINDOW = 32
#: Names of a gallery of millions still fit one dictionary page, instead of being written out row by row.
_DICTIONARY_BYTES = 256 << 20


class RankingWriter:
    """Appends blocks of ranked lists to an open Parquet file."""

    def __init__(self, writer: pq.ParquetWriter, queries: Items, gallery: Items) -> None:
        self._writer = writer
        self._query_columns = [_encode(column) for column in (queries.ids, queries.vehicles, queries.cameras)]
        self._gallery_columns = [_encode(column) for column in (gallery.ids, gallery.vehicles, gallery.cameras)]

    def append(self, block: RankingBlock) -> None:
        """Write one block as one row group."""
        query_index, gallery_index = pa.array(block.query_index), pa.array(block.gallery_index)
        columns = [
            *(column.take(query_index) for column in self._query_columns),
            pa.array(block.rank),
            *(column.take(gallery_index) for column in self._gallery_columns),
            pa.array(block.distance),
        ]
        table = pa.table(columns, schema=self._writer.schema)
        self._writer.write_table(table, row_group_size=max(1, len(table)))


@contextmanager
def write_ranking(path: Path, facts: RankingFacts, *, queries: Items, gallery: Items) -> Iterator[RankingWriter]:
    """Write a ranking block by block; the file appears when the last one is there.

    Raises:
        StoreError: The file cannot be written.
    """
    schema = RANKING_SCHEMA.with_metadata(facts_to_metadata(facts))
    options = {"compression": "zstd", "use_dictionary": list(_TEXT_COLUMNS)}
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, schema, dictionary_pagesize_limit=_DICTIONARY_BYTES, **options) as writer,
    ):
        yield RankingWriter(writer, queries, gallery)


def _encode(column: TextArray) -> pa.DictionaryArray:
    return pa.array(column, pa.utf8()).dictionary_encode()


def facts_to_dict(facts: RankingFacts) -> dict[str, Any]:
    """Facts by name, fit for JSON; those that are not known are left out."""
    return {name: value for name, value in asdict(facts).items() if value is not None}


def facts_from_dict(values: Mapping[str, Any]) -> RankingFacts:
    """Read back what :func:`facts_to_dict` wrote; unknown names are left out.

    Raises:
        ValueError, TypeError: A value is not what it should be.
    """
    known = {field.name: values[field.name] for field in fields(RankingFacts) if field.name in values}
    known["selves"] = {query: tuple(items) for query, items in known.get("selves", {}).items()}
    return RankingFacts(**known)


def facts_to_metadata(facts: RankingFacts) -> dict[str, str]:
    """Facts as a schema's metadata: text as it is, everything else as JSON."""
    values = facts_to_dict(facts)
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in values.items()
    }


def facts_from_metadata(metadata: Mapping[str, str]) -> RankingFacts:
    """Read back what :func:`facts_to_metadata` wrote.

    Raises:
        ValueError, TypeError: A value is not what it should be.
    """
    return facts_from_dict({name: json.loads(text) if name in _NO_TEXT else text for name, text in metadata.items()})


class ParquetRanking:
    """A ranking on disk, read in pieces.

    Args:
        path: The Parquet file.

    Raises:
        StoreError: The file is missing, damaged, or holds no ranking.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise StoreError(f"there is no ranking {path}", hint="make one with vreid rank", file=path)
        try:
            schema = pq.read_schema(path)
            metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
            facts = facts_from_metadata(metadata)
            missing = [name for name in RANKING_SCHEMA.names if name not in schema.names]
            if missing:
                raise StoreError(f"{path} is no ranking: it has no column {', '.join(missing)}", file=path)
            self._file = pq.ParquetFile(path, read_dictionary=list(_TEXT_COLUMNS))
        except (*_DAMAGE, TypeError) as error:
            raise StoreError(f"{path} is no ranking: {error}", file=path) from None
        self.facts = facts if "coverage" in metadata else replace(facts, **self._measure_coverage())

    def _measure_coverage(self) -> dict[str, Any]:
        """What a file that we did not write covers: all, only if every query lists every item that any lists."""
        queries: dict[str, int] = {}
        items: dict[str, int] = {}
        listed = np.zeros(0, dtype=np.int64)
        for table in self._tables(["query_id", "gallery_id"]):
            counts = np.bincount(_codes(table, "query_id", queries), minlength=len(listed))
            counts[: len(listed)] += listed
            listed = counts
            _codes(table, "gallery_id", items)
        full = bool((listed == len(items)).all())
        return {"coverage": "full" if full else "top-k", "gallery_size": len(items), "query_count": len(queries)}

    def judged(self, *, with_ids: bool = False) -> Iterator[JudgedRows]:
        """Whole ranked lists, a number of queries at a time, with what evaluation must know of each row."""
        rest: pa.Table | None = None
        for table in self._tables(RANKING_SCHEMA.names):
            table = table if rest is None else pa.concat_tables([rest, table], promote_options="permissive")
            last = _last_query_start(table)
            rest = table.slice(last)
            if last:
                yield _judge(table.slice(0, last), self.facts, with_ids=with_ids)
        if rest is not None and len(rest):
            yield _judge(rest, self.facts, with_ids=with_ids)

    def query_ids(self) -> list[str]:
        """Names of the queries, in their order."""
        names: dict[str, None] = {}
        for table in self._tables(["query_id"]):
            names |= dict.fromkeys(table.column("query_id").unique().to_pylist())
        return list(names)

    def nearest(self, queries: Sequence[str], *, top: int, same_camera: SameCamera) -> dict[str, list[RankedItem]]:
        """The nearest items of some queries, without self and (under ``drop``) junk: by query id, in rank order.

        Ranks are counted without what was left out.
        """
        window = top + _WINDOW
        while True:
            condition = [("query_id", "in", list(queries)), ("rank", "<=", window)]
            rows = [RankedItem(**row) for row in self._rows_where(condition)]
            lists = {query: [row for row in rows if row.query_id == query] for query in queries}
            counted = {query: count_ranks(items, self.facts, same_camera=same_camera) for query, items in lists.items()}
            # A query whose first rows are mostly junk needs more of them.
            if all(len(counted[query]) >= top or len(lists[query]) < window for query in queries):
                return {query: items[:top] for query, items in counted.items()}
            window *= 4

    def _rows_where(self, condition: Any) -> list[dict[str, Any]]:
        with _telling_of_damage(self.path):
            rows: list[dict[str, Any]] = pq.read_table(
                self.path, columns=RANKING_SCHEMA.names, filters=condition
            ).to_pylist()
        return rows

    def _tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        batches = self._file.iter_batches(batch_size=_READ_ROWS, columns=list(columns))
        while True:
            with _telling_of_damage(self.path):
                batch = next(batches, None)
                if batch is None:
                    return
                batch.validate(full=True)
            yield pa.Table.from_batches([batch])


@contextmanager
def _telling_of_damage(path: Path) -> Iterator[None]:
    """Turn what Arrow raises over damaged bytes into our own error."""
    try:
        yield
    except _DAMAGE as error:
        raise StoreError(f"{path} is damaged: {error}", hint="make it again with vreid rank", file=path) from None


def count_ranks(items: Sequence[RankedItem], facts: RankingFacts, *, same_camera: SameCamera) -> list[RankedItem]:
    """One query's items in rank order without self and (under ``drop``) junk, ranked anew."""
    kept = []
    removed = 0
    for item in sorted(items, key=lambda item: item.rank):
        same_vehicle = item.query_vehicle is not None and item.query_vehicle == item.gallery_vehicle
        seen = item.query_camera is not None and item.query_camera == item.gallery_camera
        if item.gallery_id in facts.selves.get(item.query_id, ()) or (same_camera == "drop" and same_vehicle and seen):
            removed += 1
        else:
            kept.append(replace(item, rank=item.rank - removed))
    return kept


def _last_query_start(table: pa.Table) -> int:
    """First row of the last query, whose list may go on in the next piece."""
    codes = _codes(table, "query_id", {})
    changes = np.flatnonzero(codes[1:] != codes[:-1])
    return int(changes[-1]) + 1 if len(changes) else 0


def _judge(table: pa.Table, facts: RankingFacts, *, with_ids: bool) -> JudgedRows:
    shared: dict[str, dict[str, int]] = {"ids": {}, "vehicles": {}, "cameras": {}}
    query_id = _codes(table, "query_id", shared["ids"])
    starts = np.flatnonzero(np.concatenate([[True], query_id[1:] != query_id[:-1]]))
    query = np.repeat(np.arange(len(starts), dtype=np.int32), np.diff([*starts, len(query_id)]))
    gallery_id = _codes(table, "gallery_id", shared["ids"])
    vehicles = [_codes(table, name, shared["vehicles"]) for name in ("query_vehicle", "gallery_vehicle")]
    cameras = [_codes(table, name, shared["cameras"]) for name in ("query_camera", "gallery_camera")]
    names = list(shared["ids"])
    return JudgedRows(
        query_ids=text_array([names[code] for code in query_id[starts]]),
        vehicles=_names(table, "query_vehicle", starts),
        query=query,
        rank=table.column("rank").to_numpy(),
        same_vehicle=(vehicles[0] == vehicles[1]) & (vehicles[0] >= 0),
        same_camera=(cameras[0] == cameras[1]) & (cameras[0] >= 0),
        is_self=_is_self(query_id, gallery_id, shared["ids"], selves=facts.selves),
        distance=table.column("distance").to_numpy(),
        cameras=_names(table, "query_camera", starts),
        gallery_cameras=_names(table, "gallery_camera"),
        gallery_ids=_names(table, "gallery_id") if with_ids else None,
    )


def _names(table: pa.Table, name: str, rows: np.ndarray | None = None) -> TextArray:
    """A text column, or some of its rows; None where there is no value."""
    column = table.column(name)
    chosen = column if rows is None else column.take(pa.array(rows))
    codes: dict[str, int] = {}
    numbers = _codes(pa.table({name: chosen}), name, codes)
    named: TextArray = text_array([*codes, None])[numbers]
    return named


def _is_self(
    query_id: np.ndarray, gallery_id: np.ndarray, codes: Mapping[str, int], *, selves: Mapping[str, tuple[str, ...]]
) -> np.ndarray:
    """Rows whose gallery item is the query itself."""
    size = len(codes) + 1
    pairs = [codes[q] * size + codes[g] for q, items in selves.items() for g in items if q in codes and g in codes]
    found: np.ndarray = np.isin(query_id.astype(np.int64) * size + gallery_id, np.array(pairs, dtype=np.int64))
    return found


def _codes(table: pa.Table, name: str, known: dict[str, int]) -> np.ndarray:
    """A text column as numbers, the same number for the same text in every column that shares ``known``."""
    pieces = []
    for chunk in table.column(name).chunks:
        encoded = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
        values = encoded.dictionary.to_pylist()
        numbers = np.array([known.setdefault(value, len(known)) for value in values] + [-1], dtype=np.int64)
        pieces.append(numbers[encoded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)])
    return np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int64)
