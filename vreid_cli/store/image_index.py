"""An index of images by FAISS: which are nearest to an image, without a look at all of them.

It only proposes: distances that it knows may be rounded, and the exact ones are computed from the features. Kinds,
sizes and the rule that chooses one: ``docs/scale.md``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from vreid_cli.errors import DataError, StoreError, first_line, require_type
from vreid_cli.runtime.extras import require_extra
from vreid_cli.runtime.files import atomic_path, local_file, read_json_object, write_json
from vreid_cli.store.options import IndexOptions
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
        facts, file, size = self._read_facts(path)
        try:
            if file.stat().st_size != size:
                raise _damaged(file, f"it has {file.stat().st_size:,} bytes, not {size:,}")
            with local_file(file) as near:
                index = faiss.read_index(str(near), 0 if add else faiss.IO_FLAG_MMAP_IFC)
        except FileNotFoundError:
            raise _damaged(file, "it is not there") from None
        except (OSError, RuntimeError) as error:
            raise _damaged(file, first_line(error)) from None
        if rows is not None and len(rows) != index.ntotal:
            raise _damaged(file, f"it holds {index.ntotal:,} images, not {len(rows):,}")
        return ImageIndex(index, facts, rows=rows, probes=probes)

    def read_facts(self, distance: Geometry) -> IndexFacts | None:
        """What an index says that it holds; None where there is none.

        Raises:
            StoreError: That is damaged.
        """
        path = self.facts_path(distance)
        return self._read_facts(path)[0] if path.is_file() else None

    def file(self, distance: Geometry) -> Path:
        """FAISS's file of an index that is there."""
        return self._read_facts(self.facts_path(distance))[1]

    def _read_facts(self, path: Path) -> tuple[IndexFacts, Path, int]:
        found = read_json_object(path)
        try:
            if found.pop("schema") != _SCHEMA:
                raise _damaged(path, "it was written by another version of vreid")
            file, size = self.path / Path(found.pop("file")).name, int(found.pop("bytes"))
            parts = tuple((str(contents), str(labels)) for contents, labels in found.pop("parts"))
            return IndexFacts(**found, parts=parts), file, size
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(path, first_line(error)) from None

    def write(self, index: ImageIndex) -> Path:
        """Keep an index in the place of an earlier one for its distance, whole or not at all.

        Raises:
            StoreError: It cannot be written.
        """
        facts_path, distance = self.facts_path(index.distance), index.distance
        # The new file has another name than the old one, so that the JSON alone decides which is meant.
        old = self.path.glob(f"{distance}-*.faiss")
        numbers = [int(path.stem.rpartition("-")[2]) for path in old if path.stem.rpartition("-")[2].isdigit()]
        file = self.path / f"{distance}-{max(numbers, default=0) + 1}.faiss"
        with atomic_path(file) as temporary:
            index.write(temporary)
        content = {"schema": _SCHEMA, "file": file.name, "bytes": file.stat().st_size, **asdict(index.facts)}
        write_json(facts_path, content)
        for path in self.path.glob(f"{distance}-*.faiss"):
            if path != file:
                path.unlink(missing_ok=True)
        return file


def _damaged(path: Path, reason: object) -> StoreError:
    return StoreError(f"the index {path} is damaged: {reason}", hint=_AGAIN, file=path)
