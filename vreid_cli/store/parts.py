"""A part of the feature store: some whole tracks in one Arrow file, with what made them and a checksum.

A part is one record batch, uncompressed and memory-mapped; its schema's metadata says what made it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vreid_cli.errors import StoreError
from vreid_cli.runtime.files import atomic_path, local_file
from vreid_cli.runtime.objects import ObjectPath
from vreid_cli.types.arrays import Float32Array, Int64Array, TextArray, from_numpy, to_numpy
from vreid_cli.types.images import ImageRecord

_LABEL_COLUMNS = ("image_id", "track_id", "vehicle_id", "camera_id")
_PART_COLUMNS = (*_LABEL_COLUMNS, "frame", "feature")
#: What a part is where its checksum differs.
CHANGED = "its rows are not those that were written (the checksum differs)"
#: What brings back what is damaged.
AGAIN = "run vreid extract again: what is damaged is made again"


@dataclass(frozen=True)
class Skipped:
    """An image that could not be used, and why."""

    image_id: str
    track_id: str | None
    reason: str


@dataclass(frozen=True)
class PartFacts:
    """What a part's schema says about it, read without its features.

    Attributes:
        identity: What made the features; another identity means other features.
        recorded: What does not change what the features mean (batch, threads, versions).
        contents: Digest over ids and contents of its images.
        labels: Digest over its rows' ids and labels, in their order.
        skipped: Images of this part that could not be used.
        checksum: CRC-32 of its rows, written with them; empty in parts of before there was one.
    """

    identity: Mapping[str, str]
    recorded: Mapping[str, str]
    contents: str
    labels: str
    skipped: tuple[Skipped, ...]
    checksum: str = field(default="", compare=False)

    def to_metadata(self) -> dict[str, str]:
        """Schema metadata: each fact as JSON text."""
        skipped = [[s.image_id, s.track_id, s.reason] for s in self.skipped]
        return {
            "identity": json.dumps(dict(self.identity), sort_keys=True),
            "recorded": json.dumps(dict(self.recorded), sort_keys=True),
            "contents": self.contents,
            "labels": self.labels,
            "skipped": json.dumps(skipped, ensure_ascii=False),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes]) -> PartFacts:
        """Read back what :meth:`to_metadata` wrote; KeyError or ValueError if it is something else."""
        texts = {key.decode(): value.decode() for key, value in metadata.items()}
        skipped = tuple(Skipped(*entry) for entry in json.loads(texts["skipped"]))
        identity, recorded = json.loads(texts["identity"]), json.loads(texts["recorded"])
        checksum = texts.get("checksum", "")
        return cls(identity, recorded, texts["contents"], texts["labels"], skipped, checksum)


class StoredPart:
    """The rows of a part, memory-mapped: they can be read even after its file was replaced.

    Args:
        batch: The part.
        facts: What it says about itself.
    """

    def __init__(self, batch: pa.RecordBatch, facts: PartFacts) -> None:
        self.batch = batch
        self.facts = facts

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    @property
    def dimension(self) -> int:
        """Length D of a feature."""
        return int(self.batch.schema.types[-1].list_size)

    def distinct(self, name: str) -> set[str]:
        """The values of a label, without absent ones."""
        return {value for value in self.batch.column(name).unique().to_pylist() if value is not None}

    @property
    def features(self) -> Float32Array:
        """(N, D) read-only."""
        # flatten() respects slices and copies nothing; .values would ignore them.
        flat: Float32Array = to_numpy(self.batch.column("feature").flatten())
        return flat.reshape(len(self), self.dimension)

    def is_intact(self) -> bool:
        """Whether its rows are those that were written, as far as a checksum tells; reads all of them."""
        return not self.facts.checksum or checksum_rows(self.batch) == self.facts.checksum

    def find(self, image_ids: Sequence[str] | TextArray) -> Int64Array:
        """(M,) int64 row of each image; -1 where the part does not hold it."""
        found = pc.index_in(pa.array(image_ids, pa.utf8()), value_set=self.batch.column("image_id"))
        return to_numpy(found, absent=-1).astype(np.int64)


def checksum_rows(batch: pa.RecordBatch) -> str:
    """CRC-32 of a part's labels and features, as eight digits."""
    *labels, feature = batch.columns
    found = zlib.crc32(json.dumps([column.to_pylist() for column in labels]).encode())
    return f"{zlib.crc32(to_numpy(feature.flatten()).data, found):08x}"


def write_part(path: Path, records: Sequence[ImageRecord], *, features: Float32Array, facts: PartFacts) -> None:
    """Write one part: a row a record, features (len(records), D) float32; whole or not at all."""
    flat = from_numpy(features.reshape(-1))
    columns: dict[str, Any] = {
        name: pa.array([getattr(record, name) for record in records], pa.utf8()) for name in _LABEL_COLUMNS
    }
    columns["frame"] = pa.array([record.frame for record in records], pa.int64())
    columns["feature"] = pa.FixedSizeListArray.from_arrays(flat, features.shape[1])
    batch = pa.record_batch(columns)
    batch = batch.replace_schema_metadata({**facts.to_metadata(), "checksum": checksum_rows(batch)})
    with (
        atomic_path(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, batch.schema) as writer,
    ):
        writer.write_batch(batch)


def read_facts(path: Path) -> PartFacts | None:
    """What a part says about itself; None if it is not there or is damaged, so that it is made again."""
    try:
        with _open_footer(path) as source:
            return PartFacts.from_metadata(pa.ipc.open_file(source).schema.metadata or {})
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError):
        return None


def read_part(path: Path) -> StoredPart:
    """The rows of a part.

    Raises:
        StoreError: It is missing or damaged.
    """
    try:
        # The batch keeps the map alive for as long as any array looks into it.
        with local_file(path) as local:
            batch = pa.ipc.open_file(pa.memory_map(str(local))).get_batch(0)
        # Damaged offsets would crash the process. This looks at the labels only, not at the features.
        batch.validate(full=True)
        names = tuple(batch.schema.names)
    except (OSError, ValueError, IndexError, pa.ArrowException) as error:
        raise damaged(path, error) from None
    *labels, feature = batch.schema.types or [None]
    known = pa.types.is_fixed_size_list(feature) and feature.value_type in (pa.float32(), pa.float16())
    if not known or (names, labels) != (_PART_COLUMNS, [*[pa.utf8()] * 4, pa.int64()]):
        raise damaged(path, f"its columns are {', '.join(names)}, or of other types")
    try:
        return StoredPart(batch, PartFacts.from_metadata(batch.schema.metadata or {}))
    except (KeyError, ValueError, TypeError):
        raise damaged(path, "it does not say what made it") from None


def damaged(path: Path, reason: object) -> StoreError:
    """What to raise of a part, or of another file of the store, that cannot be read."""
    return StoreError(f"{path} is damaged: {reason}", hint=AGAIN, file=path)


@contextmanager
def _open_footer(path: Path) -> Iterator[pa.NativeFile]:
    """A part whose schema is to be read, and no more of it."""
    if isinstance(path, ObjectPath):
        with path.open_ranges() as file, pa.PythonFile(file, mode="r") as source:
            yield source
    else:
        with pa.memory_map(str(path)) as source:
            yield source
