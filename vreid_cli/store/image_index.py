"""An index of images by FAISS: which are nearest to an image, without a look at all of them.

It only proposes: distances that it knows may be rounded, and the exact ones are computed from the features. Kinds,
sizes and the rule that chooses one: ``docs/scale.md``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np

from vreid_cli.errors import DataError, StoreError, first_line, require_type
from vreid_cli.runtime.extras import require_extra
from vreid_cli.runtime.files import atomic_path, checksum_file, local_file, read_json_object, write_json
from vreid_cli.runtime.objects import ObjectPath
from vreid_cli.store.features import CHEAP_TO_VERIFY
from vreid_cli.store.options import IndexOptions
from vreid_cli.types.amounts import amount
from vreid_cli.types.arrays import Float32Array, Int64Array
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.index import Geometry, IndexKind

_SCHEMA = 1
#: Images up to which all are compared, and up to which they are not compressed.
_FLAT, _UNCOMPRESSED = 50_000, 200_000
#: Images that a centre is learned from; FAISS asks for 39 at least.
_PER_CENTRE = 64
#: Part of the lists that a search looks at, and the fewest. Compressed images are compared very quickly.
_PROBED, _FEWEST_PROBES = {"ivf": 1 / 16, "ivf-pq": 1 / 4}, 16
#: Images added at a time, and numbers of those that centres are learned from.
_BATCH, _SAMPLE_NUMBERS = 8192, 1 << 27
#: Numbers of an image that are compressed together; widths are filled up with zeros to a multiple.
_TOGETHER = 2
_AGAIN = "make it again: vreid index"


@dataclass(frozen=True)
class IndexFacts:
    """What an index holds.

    Attributes:
        kind: How it finds neighbours.
        distance: What is near.
        dimension: Length D of a feature.
        seed: Of the sample that centres are learned from.
        scale: Power of two that features are multiplied by, so that their largest number is about 1.
        images: Number of images that the centres were chosen for.
        identity: What made the features.
        parts: Digests of each part of the store, in the order in which they were added; empty for features in memory.
    """

    kind: IndexKind
    distance: Geometry
    dimension: int
    seed: int
    scale: float
    images: int
    identity: Mapping[str, str]
    parts: tuple[tuple[str, str], ...] = ()


class ImageIndex:
    """Images by nearness; made by :func:`build_index`, kept by :class:`IndexFolder`.

    Args:
        index: FAISS's own.
        facts: What it holds.
        rows: (N,) row of the gallery that each image is, in the order in which they were added; None for that order.
        probes: Lists or nodes that a search looks at.
    """

    def __init__(
        self, index: Any, facts: IndexFacts, *, rows: Int64Array | None = None, probes: int | str = "auto"
    ) -> None:
        self._index, self.facts, self._rows, self._probes = index, facts, rows, probes

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def distance(self) -> Geometry:
        """What is near."""
        return self.facts.distance

    def add(self, features: FeatureSet) -> None:
        """Add images, a batch at a time.

        Raises:
            DataError: A feature is not finite.
        """
        for rows in _batches(features):
            self._index.add(_prepare(rows, self.facts))

    def search(self, images: Float32Array, count: int) -> tuple[Float32Array, Int64Array]:
        """The images of the gallery that are nearest to each of (Q, D) images, as far as the index knows.

        The more are asked for, the more of the index is looked at: ``count = len(index)`` finds all of them.

        Returns:
            (Q, count) distances, rising, and rows of the gallery; -1 where no more were found.
        """
        import faiss

        count = min(count, len(self))
        self._look_at(faiss, count)
        found, places = self._index.search(_prepare(images, self.facts), count)
        cosine = self.distance == "cosine"
        distance = 1 - found if cosine else np.sqrt(np.maximum(found, 0)) / np.float32(self.facts.scale)
        if self._rows is not None:
            places = np.where(places >= 0, self._rows[places], -1)
        return distance.astype(np.float32, copy=False), places

    def _look_at(self, faiss: Any, count: int) -> None:
        if self.facts.kind == "flat":
            return
        if self.facts.kind == "hnsw":
            self._index.hnsw.efSearch = max(count, 64 if self._probes == "auto" else int(self._probes))
            return
        ivf = faiss.extract_index_ivf(self._index)
        lists = int(ivf.nlist)
        auto = max(_FEWEST_PROBES, int(lists * _PROBED[self.facts.kind]))
        wanted = auto if self._probes == "auto" else int(self._probes)
        # However few lists are looked at, they must hold what is asked for.
        ivf.nprobe = min(lists, max(wanted, math.ceil(2 * lists * count / max(1, len(self)))))

    def write(self, path: Path) -> None:
        """Write FAISS's file."""
        import faiss

        faiss.write_index(self._index, str(path))

    def with_parts(self, parts: tuple[tuple[str, str], ...]) -> Self:
        """The same, which says that it holds these parts of a store."""
        return type(self)(self._index, replace(self.facts, parts=parts), rows=self._rows, probes=self._probes)


def build_index(features: FeatureSet, options: IndexOptions | None = None, *, seed: int = 0) -> ImageIndex:
    """Index the images of a gallery, for ``vreid.rank(…, index=…)``.

    Args:
        features: (N, D) features; they stay where they are and are read in batches.
        options: The kind, and the first of its distances.
        seed: Of the sample that centres are learned from.

    Raises:
        MissingExtraError: FAISS is not installed.
        DataError: There are no features, or one is not finite.

    Examples:
        >>> features = FeatureSet.from_arrays(np.eye(3, dtype=np.float32), track_id=["a", "b", "c"])
        >>> index = build_index(features)
        >>> index.search(np.array([[0.0, 2.0, 1.0]], dtype=np.float32), 2)[1].tolist()
        [[1, 2]]
    """
    options = options or IndexOptions()
    require_type(features, FeatureSet, name="features", hint="of an array: vreid.FeatureSet.from_arrays(array)")
    index = new_index(features, options, distance=options.distance[0], seed=seed)
    index.add(features)
    return index


def new_index(features: FeatureSet, options: IndexOptions, *, distance: Geometry, seed: int) -> ImageIndex:
    """An index that is ready for these features, and holds none yet; arguments and errors of :func:`build_index`."""
    require_extra("faiss", ["faiss"], needed_by="an index")
    import faiss

    if not len(features):
        raise DataError(f"{features.source} holds no features", file=features.source)
    kind = choose_kind(len(features)) if options.kind == "auto" else options.kind
    lists = _count_lists(len(features), features.dimension)
    sample = _sample(features, most=_PER_CENTRE * lists, seed=seed)
    peak = float(np.abs(sample).max())
    scale = 2.0 ** -math.frexp(peak)[1] if peak > 0 else 1.0
    facts = IndexFacts(
        kind, distance, features.dimension, seed, scale, images=len(features), identity=dict(features.identity or {})
    )
    width = _filled(features.dimension)
    metric = faiss.METRIC_INNER_PRODUCT if distance == "cosine" else faiss.METRIC_L2
    recipes = {
        "flat": "Flat",
        "ivf": f"IVF{lists},SQfp16",
        # Turned at random, all numbers of a vector matter alike: else codes would be spent on those that hardly vary.
        "ivf-pq": f"RR{width},IVF{lists},PQ{width // _TOGETHER}x4fs",
        "hnsw": "HNSW32,SQfp16",
    }
    index = faiss.index_factory(width, recipes[kind], metric)
    if not index.is_trained:
        index.train(_prepare(sample, facts))
    return ImageIndex(index, facts, probes=options.probes)


def choose_kind(images: int) -> IndexKind:
    """The kind of index for so many images.

    Examples:
        >>> [choose_kind(images) for images in (11_579, 100_000, 1_000_000)]
        ['flat', 'ivf', 'ivf-pq']
    """
    return "flat" if images <= _FLAT else "ivf" if images <= _UNCOMPRESSED else "ivf-pq"


def _count_lists(images: int, dimension: int) -> int:
    """Lists of an ivf: twice the root of the number of images, as far as the sample goes round."""
    most = min(images, _SAMPLE_NUMBERS // dimension) // _PER_CENTRE
    return max(1, min(int(2 * images**0.5), most))


def _filled(dimension: int) -> int:
    return -(-dimension // _TOGETHER) * _TOGETHER


def _sample(features: FeatureSet, *, most: int, seed: int) -> Float32Array:
    count = min(len(features), max(most, 1024))
    rows = np.sort(np.random.default_rng(seed).choice(len(features), count, replace=False))
    return _finite(features, rows)


def _batches(features: FeatureSet) -> Iterator[Float32Array]:
    for start in range(0, len(features), _BATCH):
        yield _finite(features, np.arange(start, min(start + _BATCH, len(features))))


def _finite(features: FeatureSet, rows: Int64Array) -> Float32Array:
    """The features at these rows.

    Raises:
        DataError: One is not finite.
    """
    taken = features.matrix.take(rows)
    bad = ~np.isfinite(taken).all(axis=1)
    if bad.any():
        raise DataError(
            f"{features.source}: the feature of image {features.image_id[rows[int(np.argmax(bad))]]} is not finite",
            hint="extract it again, or remove the image",
            file=features.source,
        )
    return taken


def _prepare(rows: Float32Array, facts: IndexFacts) -> Float32Array:
    """(n, D) features as the index takes them; they are not changed."""
    made = np.zeros((len(rows), _filled(facts.dimension)), dtype=np.float32)
    np.multiply(rows, np.float32(facts.scale), out=made[:, : facts.dimension])
    if facts.distance == "cosine":
        lengths = np.linalg.norm(made, axis=1, keepdims=True)
        # A zero vector stays one: its cosine with everything is 0.
        np.divide(made, lengths, out=made, where=lengths > 0)
    return made


@dataclass(frozen=True)
class _Kept:
    """An index on the disk: what it holds, FAISS's file, its bytes, and their CRC-32; empty where it has none."""

    facts: IndexFacts
    file: Path
    size: int
    checksum: str

    def check(self, *, only_if_cheap: bool = False) -> None:
        """Compare the file with what is said of it.

        Raises:
            StoreError: It is another one.
        """
        try:
            size = self.file.stat().st_size
            if size != self.size:
                raise _damaged(self.file, f"it has {amount(size, 'byte')}, not {self.size:,}")
            cheap = size <= CHEAP_TO_VERIFY and not isinstance(self.file, ObjectPath)
            if self.checksum and (cheap or not only_if_cheap) and checksum_file(self.file) != self.checksum:
                raise _damaged(self.file, "its bytes are not those that were written (the checksum differs)")
        except FileNotFoundError:
            raise _damaged(self.file, "it is not there") from None
        except OSError as error:
            raise _damaged(self.file, first_line(error)) from None


class IndexFolder:
    """The folder ``index/`` of a run: for each distance a file of FAISS, and a JSON that names and describes it.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def facts_path(self, distance: Geometry) -> Path:
        """The file that describes the index for a distance, and says that it is whole."""
        return self.path / f"{distance}.json"

    def read(
        self, distance: Geometry, *, rows: Int64Array | None = None, probes: int | str = "auto", add: bool = False
    ) -> ImageIndex:
        """The index for a distance.

        Args:
            distance: Which.
            rows: (N,) row of the gallery that each image is.
            probes: As of :class:`ImageIndex`.
            add: Whether more is to be added; else it may stay on the disk.

        Raises:
            MissingExtraError: FAISS is not installed.
            StoreError: There is none, or it is damaged.
        """
        require_extra("faiss", ["faiss"], needed_by="an index")
        import faiss

        path = self.facts_path(distance)
        if not path.is_file():
            more = "" if distance == "cosine" else f" --distance {distance}"
            hint = f"make it: vreid index{more}"
            raise StoreError(f"there is no index for the {distance} distance in {self.path}", hint=hint, file=path)
        kept = self._read_facts(path)
        kept.check(only_if_cheap=True)
        try:
            with local_file(kept.file) as near:
                index = faiss.read_index(str(near), 0 if add else faiss.IO_FLAG_MMAP_IFC)
        except (OSError, RuntimeError) as error:
            raise _damaged(kept.file, first_line(error)) from None
        if index.d != _filled(kept.facts.dimension):
            raise _damaged(kept.file, f"its vectors have {index.d} numbers, not {_filled(kept.facts.dimension)}")
        if rows is not None and len(rows) != index.ntotal:
            raise _damaged(kept.file, f"it holds {amount(index.ntotal, 'image')}, not {len(rows):,}")
        return ImageIndex(index, kept.facts, rows=rows, probes=probes)

    def verify(self, distance: Geometry, *, only_if_cheap: bool = False) -> None:
        """Compare an index that is there with its checksum; FAISS is not needed.

        Args:
            distance: Which.
            only_if_cheap: Whether to compare only its size, where more would take longer than a moment, or a transfer.

        Raises:
            StoreError: It is damaged.
        """
        self._read_facts(self.facts_path(distance)).check(only_if_cheap=only_if_cheap)

    def read_facts(self, distance: Geometry) -> IndexFacts | None:
        """What an index says that it holds; None where there is none.

        Raises:
            StoreError: That is damaged.
        """
        path = self.facts_path(distance)
        return self._read_facts(path).facts if path.is_file() else None

    def file(self, distance: Geometry) -> Path:
        """FAISS's file of an index that is there."""
        return self._read_facts(self.facts_path(distance)).file

    def _read_facts(self, path: Path) -> _Kept:
        try:
            found = read_json_object(path)
        except StoreError as error:
            error.hint = _AGAIN
            raise
        try:
            if found.pop("schema") != _SCHEMA:
                raise _damaged(path, "it was written by another version of vreid")
            file, size = self.path / Path(found.pop("file")).name, int(found.pop("bytes"))
            checksum = str(found.pop("checksum", ""))
            parts = tuple((str(contents), str(labels)) for contents, labels in found.pop("parts"))
            return _Kept(_validated(IndexFacts(**found, parts=parts)), file, size, checksum)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise _damaged(path, first_line(error)) from None

    def write(self, index: ImageIndex) -> Path:
        """Keep an index in the place of an earlier one for its distance, whole or not at all.

        Raises:
            StoreError: It cannot be written.
        """
        facts_path, distance = self.facts_path(index.distance), index.distance
        # The new file has another name than the old one, so that the JSON alone decides which is meant.
        old = self.path.glob(f"{distance}-*.faiss") if facts_path.is_file() else ()
        numbers = [int(path.stem.rpartition("-")[2]) for path in old if path.stem.rpartition("-")[2].isdigit()]
        file = self.path / f"{distance}-{max(numbers, default=0) + 1}.faiss"
        with atomic_path(file) as temporary:
            index.write(temporary)
        about = {"file": file.name, "bytes": file.stat().st_size, "checksum": checksum_file(file)}
        write_json(facts_path, {"schema": _SCHEMA, **about, **asdict(index.facts)})
        for path in self.path.glob(f"{distance}-*.faiss"):
            if path != file:
                with suppress(OSError):  # it is in nobody's way
                    path.unlink()
        return file


def _validated(facts: IndexFacts) -> IndexFacts:
    """The facts, as a file says them.

    Raises:
        TypeError, ValueError: One is not what it should be.
    """
    if facts.kind not in get_args(IndexKind) or facts.distance not in get_args(Geometry):
        raise ValueError(f"it knows no index of the kind '{facts.kind}' for the distance '{facts.distance}'")
    if not all(type(number) is int for number in (facts.dimension, facts.seed, facts.images)):
        raise TypeError("a number of it is none")
    if facts.dimension < 1 or not 0 < float(facts.scale) < math.inf:
        raise ValueError(f"vectors of {facts.dimension} numbers, scaled by {facts.scale}")
    return replace(facts, identity=dict(facts.identity))


def _damaged(path: Path, reason: object) -> StoreError:
    return StoreError(f"the index {path} is damaged: {reason}", hint=_AGAIN, file=path)
