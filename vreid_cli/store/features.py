"""The feature store: Arrow parts of whole tracks, the plan they follow, and the mark that they are complete.

Layout of ``features/<split>/``: ``plan.parquet`` (which image belongs to which part, and what its file
looked like), ``part-00000.arrow`` … (one record batch each, uncompressed, memory-mapped), ``skipped.csv``
and, last of all, ``complete.json``.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vreid_cli.errors import StoreError
from vreid_cli.runtime.arrow import gallery_order
from vreid_cli.runtime.files import atomic_path, read_json_object, write_csv, write_json
from vreid_cli.runtime.objects import ObjectPath
from vreid_cli.store.parts import (
    AGAIN,
    CHANGED,
    PartFacts,
    Skipped,
    StoredPart,
    damaged,
    read_facts,
    read_part,
    write_part,
)
from vreid_cli.store.plan import Plan
from vreid_cli.types.arrays import Float32Array, Int64Array, Labels, as_float32, in_one_piece, to_numpy
from vreid_cli.types.features import FeatureMatrix, FeatureSet, QueryProtocol
from vreid_cli.types.images import ImageRecord

_RESTART = "use --restart to make the features again, or another --run-dir"
#: Bytes of features that are read again to verify them whenever a store is opened: a quarter of a second.
CHEAP_TO_VERIFY = 256 << 20
#: Parts that are read at a time: while one is copied from an object store, or Arrow checks its labels, others go on.
_AT_A_TIME = 8
#: Of ``complete.json``: 2 since it says the protocol of the data set.
_SCHEMA = 2


class PartedMatrix:
    """Features in memory-mapped parts.

    Another process does not get them but opens the store by itself: ``store`` and its ``version`` say which.

    Attributes:
        order: (N,) int64, from gallery order to rows as the parts hold them, one part after the other.
    """

    def __init__(
        self,
        parts: Sequence[NDArray[np.floating]],
        *,
        order: Int64Array,
        dimension: int,
        store: FeatureStore,
        version: str,
    ) -> None:
        self._parts = list(parts)
        self._store = store
        self._version = version
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self.order = order
        self._dimension = dimension

    def __reduce__(self) -> tuple[object, ...]:
        """The same features, if they are there."""
        return _open_again, (self._store, self._version)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows N and dimension D."""
        return len(self.order), self._dimension

    def take(self, rows: Int64Array) -> Float32Array:
        """Copy the rows at these positions of gallery order, in this order, as float32."""
        stored = self.order[rows]
        part_index = np.searchsorted(self._starts, stored, side="right") - 1
        if len(rows) and (part_index == part_index[0]).all():
            # As nearly always: without a second copy.
            one = self._parts[part_index[0]].take(stored - self._starts[part_index[0]], axis=0)
            return as_float32(one)
        kind = np.result_type(*{part.dtype for part in self._parts} or {np.dtype(np.float32)})
        taken = np.empty((len(rows), self._dimension), dtype=kind)
        for index in np.unique(part_index):
            here = part_index == index
            taken[here] = self._parts[index].take(stored[here] - self._starts[index], axis=0)
        return as_float32(taken)


class FeatureStore:
    """The features of one split in a run directory.

    Args:
        path: Its folder.

    Attributes:
        complete_path: The file whose presence says that nothing is missing.
        plan_path: The plan.
        replaced_plan_path: The plan before it, for as long as parts may be left that were made by that.
        skipped_path: The list of images that could not be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.complete_path = path / "complete.json"
        self.plan_path = path / "plan.parquet"
        self.replaced_plan_path = path / "plan-replaced.parquet"
        self.skipped_path = path / "skipped.csv"

    def __reduce__(self) -> tuple[object, ...]:
        """Another process, in whatever folder it works, gets the same store."""
        return FeatureStore, (self.path.absolute(),)

    def part_path(self, part: int) -> Path:
        """The file of a part."""
        return self.path / f"part-{part:05d}.arrow"

    def stamp(self, part: int) -> tuple[int, int] | None:
        """What changes whenever the part is written; None where it is not there."""
        try:
            stat = self.part_path(part).stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns

    def part_numbers(self) -> list[int]:
        """Numbers of the parts that are on disk, rising."""
        return sorted(int(path.stem.removeprefix("part-")) for path in self.path.glob("part-*.arrow"))

    def is_complete(self) -> bool:
        """Whether extraction came to its end."""
        return self.complete_path.is_file()

    def remove_leftovers(self) -> None:
        """Remove files that a killed run had not finished writing; only for whoever holds the run's lock."""
        for path in self.path.glob(".*.tmp.*"):
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove everything that this class writes; the mark of completeness goes first."""
        self.complete_path.unlink(missing_ok=True)
        self.remove_leftovers()
        for part in self.part_numbers():
            self.part_path(part).unlink()
        for path in (self.plan_path, self.replaced_plan_path, self.skipped_path):
            path.unlink(missing_ok=True)

    # -- the plan ---------------------------------------------------------------------------------------

    def read_plan(self) -> Plan | None:
        """The plan of an earlier run; None if there was none.

        Raises:
            StoreError: It is damaged.
        """
        return Plan.read(self.plan_path)

    def read_replaced_plan(self) -> Plan | None:
        """The plan that some parts may still follow, after an interruption; None if there is none."""
        try:
            return Plan.read(self.replaced_plan_path)
        except StoreError:
            return None  # it only spares computing

    def keep_replaced_plan(self) -> None:
        """Keep the plan that is about to be replaced; one that is kept already stays: its parts are the older ones."""
        if self.plan_path.is_file() and not self.replaced_plan_path.is_file():
            with atomic_path(self.replaced_plan_path) as temporary:
                temporary.write_bytes(self.plan_path.read_bytes())

    def drop_replaced_plan(self) -> None:
        """Remove it, once every part follows the plan."""
        self.replaced_plan_path.unlink(missing_ok=True)

    def write_plan(self, plan: Plan) -> None:
        """Write the plan, atomically."""
        plan.write(self.plan_path)

    # -- the parts --------------------------------------------------------------------------------------

    def write_part(
        self, part: int, records: Sequence[ImageRecord], *, features: Float32Array, facts: PartFacts
    ) -> None:
        """Write one part: a row a record, features (len(records), D) float32; whole or not at all."""
        write_part(self.part_path(part), records, features=features, facts=facts)

    def read_facts(self, part: int) -> PartFacts | None:
        """What a part says about itself; None if it is not there or is damaged, so that it is made again."""
        return read_facts(self.part_path(part))

    def read_part(self, part: int) -> StoredPart:
        """The rows of a part.

        Raises:
            StoreError: It is missing or damaged.
        """
        try:
            return read_part(self.part_path(part))
        except StoreError as error:
            error.hint = self.remedy(part)
            raise

    def remedy(self, part: int) -> str:
        """What brings a damaged part back: extraction alone, where it sees that the part is damaged."""
        seen = self._is_cheap_to_verify() or self.read_facts(part) is None
        return AGAIN if seen else f"remove it, then {AGAIN}"

    def _is_cheap_to_verify(self) -> bool:
        """Whether all rows can be read in a moment, and without a transfer."""
        files = (self.part_path(number) for number in self.part_numbers())
        return not isinstance(self.path, ObjectPath) and (
            sum(path.stat().st_size for path in files if path.is_file()) <= CHEAP_TO_VERIFY
        )

    def changed_parts(self, *, only_if_cheap: bool = False) -> list[int]:
        """Numbers of the parts whose rows are not those that were written, or cannot be read.

        Args:
            only_if_cheap: Whether to look at none, where that would take longer than a moment, or a transfer.
        """
        if only_if_cheap and not self._is_cheap_to_verify():
            return []
        return [number for number in self.part_numbers() if not self._is_intact(number)]

    def _is_intact(self, part: int) -> bool:
        try:
            return self.read_part(part).is_intact()
        except StoreError:
            return False

    def digests(self) -> tuple[tuple[str, str], ...]:
        """What each part says of the contents and the labels of its rows, in the order of the parts."""
        facts = [self.read_facts(part) for part in self.part_numbers()]
        return tuple((one.contents, one.labels) for one in facts if one is not None)

    def version(self) -> str | None:
        """What :attr:`FeatureSet.version` of these features is, read without them; None where a part is damaged."""
        facts = [self.read_facts(part) for part in self.part_numbers()]
        known = [one for one in facts if one is not None]
        return _version(known) if known and len(known) == len(facts) else None

    def check_identity(self, identity: Mapping[str, str]) -> None:
        """Make sure that what is there was made as what would be added.

        Raises:
            StoreError: A part was made otherwise; names the field that differs.
        """
        for part in self.part_numbers():
            found = self.read_facts(part)
            if found is None or dict(found.identity) == dict(identity):
                continue
            own = found.identity
            field = next(key for key in (*identity, *own) if identity.get(key) != own.get(key))
            raise StoreError(
                f"{self.path} holds features of another {field}: '{own.get(field)}', not '{identity.get(field)}'",
                hint="use --restart to make them again, or another --run-dir to keep both",
                file=self.path,
            )

    # -- the end ----------------------------------------------------------------------------------------

    def write_complete(self, skipped: Sequence[Skipped], *, facts: Mapping[str, Any]) -> None:
        """List what was skipped, then mark the store complete; nothing is written if it says so already."""
        content = {"schema": _SCHEMA, **facts}
        if self._says(content):
            return
        rows = [(one.image_id, one.track_id, one.reason) for one in skipped]
        write_csv(self.skipped_path, ["image_id", "track_id", "reason"], rows)
        write_json(self.complete_path, content)

    def _says(self, content: Mapping[str, Any]) -> bool:
        """Whether ``complete.json`` has this content; where it is damaged it has not, and is written again."""
        try:
            return self.is_complete() and read_json_object(self.complete_path) == content
        except StoreError:
            return False

    def read_complete(self) -> dict[str, Any]:
        """The facts of a complete store.

        Raises:
            StoreError: There is no store, or it is not complete.
        """
        if not (self.is_complete() or self.plan_path.exists() or self.part_numbers()):
            raise StoreError(
                f"there are no features in {self.path}", hint="make them with vreid extract", file=self.path
            )
        if not self.is_complete():
            raise StoreError(
                f"the features in {self.path} are not complete",
                hint="run the same vreid extract again: it goes on where it stopped",
                file=self.path,
            )
        facts = read_json_object(self.complete_path)
        if "schema" not in facts:
            raise StoreError(
                f"{self.complete_path} is damaged: it does not say what is there",
                hint="run the same vreid extract again: it writes it, and computes only what is missing",
                file=self.complete_path,
            )
        if facts["schema"] != _SCHEMA:
            raise StoreError(
                f"the features in {self.path} were written by another version of vreid",
                hint="make them again: vreid extract --restart",
                file=self.complete_path,
            )
        return facts

    def read(self) -> FeatureSet:
        """All features of a complete store, memory-mapped, in gallery order.

        Those of an object store are copied first, to files that are gone as soon as nobody maps them any more.

        Raises:
            StoreError: The store is missing, incomplete or damaged, or is written to meanwhile.
        """
        facts = self.read_complete()
        try:
            parts = self._read_parts(facts)
        except StoreError:
            self._check_still(facts)
            raise
        self._check_still(facts)
        dimensions = {part.dimension for part in parts}
        if len(dimensions) != 1:
            raise StoreError(f"the parts in {self.path} differ in dimension: {sorted(dimensions)}", hint=_RESTART)
        labels = _encode([part.batch.drop_columns(["feature"]).replace_schema_metadata() for part in parts])
        order, version = gallery_order(labels), _version(part.facts for part in parts)
        return FeatureSet(
            matrix=PartedMatrix(
                [part.features for part in parts], order=order, dimension=dimensions.pop(), store=self, version=version
            ),
            image_id=Labels(order, in_one_piece(labels.column("image_id"))),
            track_id=_labels(labels.column("track_id"), order),
            vehicle_id=_labels(labels.column("vehicle_id"), order),
            camera_id=_labels(labels.column("camera_id"), order),
            frame=to_numpy(labels.column("frame"), absent=-1)[order],
            source=str(self.path),
            version=version,
            identity=parts[0].facts.identity,
            image_root=facts.get("image_root"),
            dataset=facts.get("dataset"),
            weights=facts.get("weights"),
            protocol=_protocol(facts, self.complete_path),
        )

    def _read_parts(self, facts: Mapping[str, Any]) -> list[StoredPart]:
        """All parts, as far as a moment allows compared with their checksums.

        Raises:
            StoreError: One is missing, damaged or changed.
        """
        numbers = self.part_numbers()
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            parts = list(pool.map(self.read_part, numbers))
        self._check_counts(facts, parts)
        cheap = sum(part.batch.nbytes for part in parts) <= CHEAP_TO_VERIFY
        for number, part in zip(numbers, parts, strict=True):
            if cheap and not part.is_intact():
                error = damaged(self.part_path(number), CHANGED)
                error.hint = self.remedy(number)
                raise error
        return parts

    def _check_still(self, facts: Mapping[str, Any]) -> None:
        """Refuse parts that an extraction has replaced meanwhile, and some of which may be older than others."""
        if not self._says(facts):
            raise StoreError(
                f"the features in {self.path} were written to while they were read",
                hint="wait until vreid extract has finished there, then run the same command again",
                file=self.path,
            )

    def _check_counts(self, facts: Mapping[str, Any], parts: Sequence[StoredPart]) -> None:
        """A part that was removed after the end would otherwise be missed by nobody."""
        found = {"parts": len(parts), "images": sum(map(len, parts))}
        for name, number in found.items():
            if facts.get(name, number) != number:
                raise StoreError(
                    f"the {name} in {self.path} are not as many as complete.json says: {number}, not {facts[name]}",
                    hint="run the same vreid extract again: it makes what is missing",
                    file=self.path,
                )


def _open_again(store: FeatureStore, version: str) -> FeatureMatrix:
    """The features of a store, for a worker that ranks them.

    Raises:
        StoreError: They are not there, or not those that the ranking began with.
    """
    if not store.path.is_dir():
        hint = "every machine must see the run directory under the same path"
        raise StoreError(f"{platform.node()} does not see {store.path}", hint=hint, file=store.path)
    found = store.read()
    if found.version != version:
        hint = "rank again, once nobody writes to them"
        raise StoreError(f"the features in {store.path} changed while they were ranked", hint=hint, file=store.path)
    return found.matrix


def _version(parts: Iterable[PartFacts]) -> str:
    """Digest over what the features were made by and from, and how they are labelled."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(json.dumps([dict(part.identity), part.contents, part.labels], sort_keys=True).encode())
    return digest.hexdigest()


def _protocol(facts: Mapping[str, Any], path: Path) -> QueryProtocol:
    found = facts.get("protocol", "separate")
    if found not in get_args(QueryProtocol):
        raise damaged(path, f"it knows no protocol '{found}'")
    protocol: QueryProtocol = found
    return protocol


def _encode(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """The rows of all parts in one piece, labels dictionary-encoded; column beside column."""
    table = pa.Table.from_batches(batches)

    def encode(name: str) -> pa.Array:
        column = table.column(name)
        return in_one_piece(column.dictionary_encode() if name in ("track_id", "vehicle_id", "camera_id") else column)

    with ThreadPoolExecutor() as pool:
        return pa.table(dict(zip(table.column_names, pool.map(encode, table.column_names), strict=True)))


def _labels(column: pa.ChunkedArray, order: Int64Array) -> Labels:
    encoded = in_one_piece(column)
    return Labels(to_numpy(encoded.indices, absent=-1)[order], encoded.dictionary)
