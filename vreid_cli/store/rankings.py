"""Rankings as Parquet: long form, dictionary-encoded, streamed query by query, described by their metadata."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vreid_cli.errors import StoreError
from vreid_cli.runtime.files import atomic_path, local_file
from vreid_cli.types.arrays import TextArray, from_numpy, from_texts, text_array, to_numpy
from vreid_cli.types.rankings import NO_MATCH, BlockWriter, Coverage, Ranking, RankingBlock, RankingFacts
from vreid_cli.types.tracks import Items

_QUERY = ("query_id", "query_vehicle", "query_camera")
_GALLERY = ("gallery_id", "gallery_vehicle", "gallery_camera")
_LISTS = ("query_id", "rank", "gallery_id", "distance")
_DICTIONARY = pa.dictionary(pa.int32(), pa.utf8())
RANKING_SCHEMA = pa.schema(
    [
        *((name, _DICTIONARY) for name in _QUERY),
        ("rank", pa.int32()),
        *((name, _DICTIONARY) for name in _GALLERY),
        ("distance", pa.float32()),
    ]
)
#: One more column, where a calibration gives distances probabilities; reading computes it from the distance.
_PROBABILITY = pa.field("probability", pa.float32())
_READ_ROWS = 1 << 20
_CHECKSUM = "checksum"
_AGAIN = "make it again with vreid rank --force"
#: What Arrow raises over damaged bytes, depending on where they are.
_DAMAGE = (pa.ArrowException, OSError, ValueError, IndexError, KeyError)
#: Names of a gallery of millions still fit one dictionary page, instead of being written out row by row.
_DICTIONARY_BYTES = 256 << 20

# -- writing -------------------------------------------------------------------------------------------------


@contextmanager
def write_ranking_parquet(path: Path, facts: RankingFacts, *, queries: Items, gallery: Items) -> Iterator[BlockWriter]:
    """Write a ranking block by block, each a row group; the file appears when the last one is there.

    Raises:
        StoreError: The file cannot be written.
    """
    query_columns, gallery_columns = _encode(queries), _encode(gallery)
    schema = RANKING_SCHEMA if facts.calibration is None else RANKING_SCHEMA.append(_PROBABILITY)
    metadata = facts.to_metadata()
    schema = schema.with_metadata({**metadata, _CHECKSUM: _checksum(metadata)})
    # The least and the largest of a row group's names tell nobody anything, and take longer than the rest.
    numbers = [field.name for field in schema if not pa.types.is_dictionary(field.type)]
    options = {
        "compression": "zstd",
        "use_dictionary": [*_QUERY, *_GALLERY],
        "write_statistics": numbers,
        "write_page_checksum": True,
    }
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, schema, dictionary_pagesize_limit=_DICTIONARY_BYTES, **options) as writer,
    ):

        def write(block: RankingBlock) -> None:
            query_index, gallery_index = from_numpy(block.query_index), from_numpy(block.gallery_index)
            columns = [
                *(column.take(query_index) for column in query_columns),
                from_numpy(block.rank),
                *(column.take(gallery_index) for column in gallery_columns),
                from_numpy(block.distance),
            ]
            probability = facts.probability(block.distance)
            if probability is not None:
                columns.append(pa.array(probability, from_pandas=True))  # null for no match
            writer.write_table(pa.table(columns, schema=schema), row_group_size=max(1, len(block.rank)))

        yield write


def _encode(items: Items) -> list[pa.DictionaryArray]:
    return [from_texts(column).dictionary_encode() for column in (items.ids, items.vehicles, items.cameras)]


# -- reading -------------------------------------------------------------------------------------------------


def read_ranking_parquet(path: Path, label_pattern: str | None = None) -> Ranking:
    """Open a ranking; its lists stay on disk and are read in pieces.

    Args:
        path: The Parquet file.
        label_pattern: Not needed: the file holds its labels.

    Raises:
        StoreError: The file is missing, damaged, or holds no ranking.
    """
    file, facts = _open(path)
    table = _Table(path, file)
    queries, query_ids = table.items(_QUERY)
    # A full ranking's first lists name the whole gallery; what follows need not be looked at.
    described = b"coverage" in (file.schema_arrow.metadata or {})
    enough = facts.gallery_size if described and facts.coverage == "full" else None
    gallery, gallery_ids = table.items(_GALLERY, enough=enough)
    lists = _Lists(table, query_ids, gallery_ids)
    if not described:
        facts = replace(
            facts,
            coverage=measure_coverage(lists, len(queries), len(gallery)),
            gallery_size=len(gallery),
            query_count=len(queries),
        )
    return Ranking(facts, queries, gallery, blocks=lists, source=str(path))


def read_facts_parquet(path: Path) -> RankingFacts:
    """How a ranking was made, without a look at its lists.

    Raises:
        StoreError: The file is missing, damaged, or holds no ranking.
    """
    return _open(path)[1]


def _open(path: Path) -> tuple[pq.ParquetFile, RankingFacts]:
    if not path.is_file():
        raise StoreError(f"there is no ranking {path}", hint="make one with vreid rank", file=path)
    try:
        with local_file(path) as local:
            # Opened once: whoever replaces the file meanwhile changes neither what it says nor its lists.
            source = pa.OSFile(str(local), "r")
            schema = pq.read_schema(source)
            metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
            if metadata.pop(_CHECKSUM, None) not in (None, _checksum(metadata)):
                raise ValueError("what it says about itself is not what was written (the checksum differs)")
            facts = RankingFacts.from_metadata(metadata)
            missing = [name for name in RANKING_SCHEMA.names if name not in schema.names]
            if missing:
                raise _no_ranking(path, f"it has no column {', '.join(missing)}")
            file = pq.ParquetFile(source, read_dictionary=[*_QUERY, *_GALLERY], page_checksum_verification=True)
    except _DAMAGE as error:
        raise _no_ranking(path, error) from None
    return file, facts


def _checksum(metadata: Mapping[str, str]) -> str:
    """CRC-32 of what a ranking says about itself; pages of rows have checksums of Parquet's own."""
    return f"{zlib.crc32(json.dumps(metadata, sort_keys=True).encode()):08x}"


def _no_ranking(path: Path, why: object) -> StoreError:
    return StoreError(f"{path} is damaged or no ranking: {why}", hint=_AGAIN, file=path)


def measure_coverage(blocks: Iterable[RankingBlock], queries: int, gallery: int) -> Coverage:
    """What a file covers that does not say so: all, only if every query lists every item that any lists."""
    listed = np.zeros(queries, dtype=np.int64)
    for block in blocks:
        pairs = np.unique(block.query_index.astype(np.int64) * max(1, gallery) + block.gallery_index)
        listed += np.bincount(pairs // max(1, gallery), minlength=queries)
    return "full" if bool((listed == gallery).all()) else "top-k"


@dataclass(frozen=True)
class _Table:
    """A Parquet file whose damage is raised as our own error."""

    path: Path
    file: pq.ParquetFile

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with _raising_damage(self.path):
            for batch in self.file.iter_batches(batch_size=_READ_ROWS, columns=list(columns)):
                batch.validate(full=True)
                yield batch

    def items(self, columns: Sequence[str], *, enough: int | None = None) -> tuple[Items, pa.Array]:
        """The queries or gallery items in the order in which they first come, and their ids as Arrow holds them.

        ``enough`` says how many there are.
        """
        parts: list[list[TextArray]] = [[text_array([])] for _ in columns]
        known = pa.nulls(0, pa.utf8())
        for batch in self.batches(columns):
            ids = batch.column(columns[0]).dictionary_encode()
            if ids.null_count:
                raise _no_ranking(self.path, f"some rows have no {columns[0]}")
            codes = to_numpy(ids.indices)
            first = np.full(len(ids.dictionary), len(codes))
            first[codes[::-1]] = np.arange(len(codes))[::-1]  # the first place of each name is written last
            fresh = to_numpy(pc.index_in(ids.dictionary, value_set=known).is_null())
            rows = from_numpy(np.sort(first[fresh & (first < len(codes))]))
            for part, name in zip(parts, columns, strict=True):
                part.append(text_array(batch.column(name).take(rows).to_pylist()))
            known = pa.concat_arrays([known, ids.take(rows).cast(pa.utf8())])
            if enough is not None and len(known) >= enough:
                break
        return Items(*(np.concatenate(part) for part in parts)), known


@dataclass(frozen=True, eq=False)
class _Lists:
    """The ranked lists of a file, read in pieces each time that they are gone through."""

    table: _Table
    queries: pa.Array
    gallery: pa.Array

    def __iter__(self) -> Iterator[RankingBlock]:
        # A number of queries at a time: the last list of a piece may go on in the next.
        rest: RankingBlock | None = None
        seen = -1
        for batch in self.table.batches(_LISTS):
            with _raising_damage(self.table.path):
                block = self._block(batch) if rest is None else _join(rest, self._block(batch))
            back = np.diff(block.query_index, prepend=seen) < 0
            if back.any():
                query = self.queries[int(block.query_index[np.argmax(back)])]
                path = self.table.path
                raise StoreError(f"{path} lists query {query} in several places", hint=_AGAIN, file=path)
            last = int(np.searchsorted(block.query_index, block.query_index.max(initial=0)))
            rest = block.select(slice(last, None))
            if last:
                seen = int(block.query_index[last - 1])
                yield block.select(slice(0, last))
        if rest is not None and len(rest.rank):
            yield rest

    def _block(self, batch: pa.RecordBatch) -> RankingBlock:
        block = RankingBlock(
            query_index=_positions(batch, "query_id", self.queries),
            rank=to_numpy(batch.column("rank")),
            gallery_index=_positions(batch, "gallery_id", self.gallery),
            distance=to_numpy(batch.column("distance")),
        )
        refuse_non_finite(block, self.queries.to_pylist, self.gallery.to_pylist, path=self.table.path)
        return block


def refuse_non_finite(
    block: RankingBlock, queries: Callable[[], list[str]], gallery: Callable[[], list[str]], *, path: Path
) -> None:
    """Refuse a distance that is no number; only the item that stands for no match is infinitely far.

    Args:
        block: Rows of the file.
        queries: Gives the names of the queries.
        gallery: Gives those of the gallery.
        path: The file.

    Raises:
        StoreError: There is one.
    """
    odd = ~np.isfinite(block.distance)
    if odd.any() and NO_MATCH in (names := gallery()):
        odd &= np.isnan(block.distance) | (block.gallery_index != names.index(NO_MATCH))
    if odd.any():
        at = int(np.argmax(odd))
        where = f"query {queries()[block.query_index[at]]}, rank {block.rank[at]}"
        raise StoreError(f"{path}: {where}: its distance is no finite number", hint=_AGAIN, file=path)


def _join(one: RankingBlock, other: RankingBlock) -> RankingBlock:
    return RankingBlock(*map(np.concatenate, zip(vars(one).values(), vars(other).values(), strict=True)))


def _positions(batch: pa.RecordBatch, name: str, names: pa.Array) -> NDArray[np.int32]:
    """(R,) position of each row's name among all names."""
    column = batch.column(name).dictionary_encode()
    found = pc.index_in(column.dictionary.cast(pa.utf8()), value_set=names)
    positions: NDArray[np.int32] = to_numpy(found.take(column.indices))
    return positions


@contextmanager
def _raising_damage(path: Path) -> Iterator[None]:
    """Turn what Arrow raises over damaged bytes into our own error."""
    try:
        yield
    except _DAMAGE as error:
        raise StoreError(f"{path} is damaged: {error}", hint=_AGAIN, file=path) from None
