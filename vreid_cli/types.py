"""The nouns that every stage shares: images, feature sets, tracks, rankings.

Ids and labels are text, kept verbatim; an absent label is ``None``. ``..._index`` is a position in an array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

Split = Literal["query", "gallery", "train"]
Task = Literal["t2t", "i2t", "i2i"]
Definition = Literal["paper", "released"]
TrackUnit = Literal["passage", "camera"]
Coverage = Literal["full", "positives", "top-k"]
SameCamera = Literal["drop", "keep"]
ApRule = Literal["rectangle", "trapezoid"]
WithoutPositive = Literal["skip", "zero"]

#: The name of weights that were never trained: what comes from them means nothing.
RANDOM_WEIGHTS = "random"

SPLITS: tuple[Split, ...] = get_args(Split)

Float32Array = NDArray[np.float32]
Int32Array = NDArray[np.int32]
Int64Array = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
#: A column of ids or labels: dtype object, each a ``str`` or ``None``.
TextArray = NDArray[np.object_]
#: A part of a frame: left, top, width, height in pixels.
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One crop on disk, with the labels that its data set gives it.

    Attributes:
        image_id: Stable relative path of the picture (VeRi: the file name).
        path: Where the picture lies now.
        track_id: The passage that it belongs to.
        vehicle_id: Identity, or None where unlabelled.
        camera_id: Camera, or None where unknown.
        frame: Frame number, or None where unknown.
        box: The part of the picture that is the crop, or None where that is all of it.
    """

    image_id: str
    path: Path
    track_id: str | None = None
    vehicle_id: str | None = None
    camera_id: str | None = None
    frame: int | None = None
    box: Box | None = None

    def sort_key(self) -> tuple[str, str, str, int, str]:
        """Gallery order: vehicle, camera, passage, frame, image_id; absent values first."""
        frame = -1 if self.frame is None else self.frame
        return (self.vehicle_id or "", self.camera_id or "", self.track_id or "", frame, self.image_id)


class FeatureMatrix(Protocol):
    """Rows of latent representations that may lie in memory or in memory-mapped files."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows N and width D."""

    def take(self, rows: Int64Array) -> Float32Array:
        """The rows at these positions, in this order, as a (len(rows), D) float32 array of its own."""


@dataclass(frozen=True, slots=True)
class ArrayMatrix:
    """A feature matrix in memory: (N, D), any float dtype."""

    array: NDArray[np.floating]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows N and width D."""
        rows, width = self.array.shape
        return rows, width

    def take(self, rows: Int64Array) -> Float32Array:
        """The rows at these positions, in this order, copied to float32."""
        return np.asarray(self.array[rows], dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class SelectedMatrix:
    """Some rows of another feature matrix, which stay where they are."""

    matrix: FeatureMatrix
    rows: Int64Array

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows N and width D."""
        return len(self.rows), self.matrix.shape[1]

    def take(self, rows: Int64Array) -> Float32Array:
        """The rows at these positions of the selection, in this order, copied to float32."""
        return self.matrix.take(self.rows[rows])


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features with their ids and labels, in gallery order.

    Attributes:
        matrix: (N, D) latent representations.
        image_id: (N,) ids of the images.
        track_id: (N,) passage of each image, or None.
        vehicle_id: (N,) identity of each image, or None.
        camera_id: (N,) camera of each image, or None.
        source: Where the set comes from, for messages.
        identity: What made the features (architecture, weights digest, …); None where unknown.
        picture_root: Folder that the image ids are relative to; None where the pictures are unknown.
            Two images are the same picture only if root and id together name the same file.
        dataset: Name of the layout that the pictures come from; None where unknown.
        weights: What the weights were called (``veri``, ``random``, a file name); None where unknown.
    """

    matrix: FeatureMatrix
    image_id: TextArray
    track_id: TextArray
    vehicle_id: TextArray
    camera_id: TextArray
    source: str = "memory"
    identity: Mapping[str, str] | None = None
    picture_root: str | None = None
    dataset: str | None = None
    weights: str | None = None

    def __post_init__(self) -> None:
        rows = self.matrix.shape[0]
        for name in ("image_id", "track_id", "vehicle_id", "camera_id"):
            if len(getattr(self, name)) != rows:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries for {rows} rows")

    def __len__(self) -> int:
        return self.matrix.shape[0]

    @property
    def width(self) -> int:
        """Length D of each latent representation."""
        return self.matrix.shape[1]

    @property
    def meaningless(self) -> bool:
        """Whether the features come from random weights, so that nothing follows from them."""
        return self.weights == RANDOM_WEIGHTS

    def select(self, rows: Int64Array) -> FeatureSet:
        """The images at these positions, in this order; their features are not copied."""
        return replace(
            self,
            matrix=SelectedMatrix(self.matrix, rows),
            image_id=self.image_id[rows],
            track_id=self.track_id[rows],
            vehicle_id=self.vehicle_id[rows],
            camera_id=self.camera_id[rows],
        )

    @classmethod
    def from_arrays(
        cls,
        features: NDArray[np.floating],
        *,
        track_id: Sequence[str | None],
        image_id: Sequence[str] | None = None,
        vehicle_id: Sequence[str | None] | None = None,
        camera_id: Sequence[str | None] | None = None,
        source: str = "memory",
    ) -> FeatureSet:
        """Feature set from an (N, D) array and lists of N ids; labels that are left out are absent.

        Image ids that are left out become ``<track_id>#<position in the track>``.
        """
        rows = len(features)
        if image_id is None:
            image_id = number_images(track_id)
        absent: list[None] = [None] * rows
        return cls(
            matrix=ArrayMatrix(features),
            image_id=text_array(image_id),
            track_id=text_array(track_id),
            vehicle_id=text_array(vehicle_id or absent),
            camera_id=text_array(camera_id or absent),
            source=source,
        )


def text_array(values: Sequence[str | None]) -> TextArray:
    """A column of ids: dtype object, so that ``None`` stays ``None``."""
    column = np.empty(len(values), dtype=object)
    column[:] = list(values)
    return column


def shared_codes(one: TextArray, other: TextArray) -> tuple[Int64Array, Int64Array]:
    """Two columns of labels as numbers, the same number for the same label; -1 where absent."""
    codes: dict[str | None, int] = {None: -1}

    def encode(column: TextArray) -> Int64Array:
        return np.fromiter((codes.setdefault(label, len(codes) - 1) for label in column), np.int64, len(column))

    return encode(one), encode(other)


def number_images(track_ids: Sequence[str | None]) -> list[str]:
    """Names for images that have none: ``<track>#0``, ``<track>#1``, … within each track."""
    seen: dict[str | None, int] = {}
    names = []
    for track in track_ids:
        position = seen.get(track, 0)
        seen[track] = position + 1
        names.append(f"{track}#{position}")
    return names


@dataclass(frozen=True, eq=False)
class Items:
    """What is ranked or ranks: images or tracks with their labels, each (n,) dtype object."""

    ids: TextArray
    vehicles: TextArray
    cameras: TextArray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Tracks:
    """Images of a feature set gathered into items: item i owns ``rows[offsets[i]:offsets[i + 1]]``.

    Attributes:
        items: The n items with their labels, in gallery order.
        rows: Positions in the feature set, items one after the other (int64).
        offsets: (n + 1,) int64, rising.
    """

    items: Items
    rows: Int64Array
    offsets: Int64Array

    def __len__(self) -> int:
        return len(self.items)

    @property
    def lengths(self) -> Int64Array:
        """(n,) number of images of each item."""
        return np.diff(self.offsets)

    def select(self, positions: Int64Array) -> Tracks:
        """The items at these positions, in this order."""
        lengths = self.lengths[positions]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        starts = np.repeat(self.offsets[positions] - offsets[:-1], lengths)
        rows = self.rows[np.arange(offsets[-1], dtype=np.int64) + starts]
        items = Items(
            ids=self.items.ids[positions],
            vehicles=self.items.vehicles[positions],
            cameras=self.items.cameras[positions],
        )
        return Tracks(items=items, rows=rows, offsets=offsets)


@dataclass(frozen=True)
class RankingFacts:
    """How a ranking was made; a fact that is not known is None.

    Attributes:
        dataset: Name of the data set's layout.
        task: ``t2t``, ``i2t`` or ``i2i``.
        metric: One of the paper's names, as ``meanMCD50``.
        definition: ``paper`` or ``released``.
        track_unit: ``passage`` or ``camera``.
        query_source: The split that the query items were taken from.
        query_identity: What made the query's features.
        gallery_identity: What made the gallery's features.
        weights: What the network's weights were called.
        coverage: ``full``: every gallery item is listed; ``positives``: at least every same-vehicle item,
            at its true rank; ``top-k``: the nearest only.
        gallery_size: Number of gallery items, listed or not.
        query_count: Number of queries, also those that list nothing.
        draw: Number of the random draw that chose gallery and queries, from 0; None where nothing was drawn.
        draw_seed: The seed of that draw.
        cameras: ``all``, or ``other`` where items of the query's own camera were never ranked.
        top_k: How many of the nearest are listed, where that was limited.
        threshold: Largest distance that is listed, where that was limited.
        alpha: RSCR's weight of the codes' absolute values.
        rerank: The numbers of k-reciprocal re-ranking, ``k1``, ``k2`` and ``lambda_value``, where that was done.
        query_lengths: Number of images of each query track.
        selves: For each query, the gallery items that are the query itself.
    """

    dataset: str | None = None
    task: Task | None = None
    metric: str | None = None
    definition: Definition | None = None
    track_unit: TrackUnit | None = None
    query_source: str | None = None
    query_identity: Mapping[str, str] | None = None
    gallery_identity: Mapping[str, str] | None = None
    weights: str | None = None
    coverage: Coverage = "full"
    gallery_size: int = 0
    query_count: int | None = None
    draw: int | None = None
    draw_seed: int | None = None
    cameras: str = "all"
    top_k: int | None = None
    threshold: float | None = None
    alpha: float | None = None
    rerank: Mapping[str, float] | None = None
    query_lengths: Mapping[str, int] = field(default_factory=dict)
    selves: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def listed(self) -> str | None:
        """What is listed, in words; None where that is every item."""
        if self.coverage == "full":
            return None
        nearest = [f"the {self.top_k:,} nearest"] if self.top_k is not None else []
        within = [f"what is no farther than {self.threshold:g}"] if self.threshold is not None else []
        limits = " of ".join([*nearest, *within]) or "some items"
        vehicle = " and the query's vehicle" if self.coverage == "positives" else ""
        return f"only {limits}{vehicle} listed"

    @property
    def recipe(self) -> tuple[str, ...]:
        """The numbers that belong to the metric, in words."""
        alpha = (f"α {self.alpha:g}",) if self.alpha is not None else ()
        numbers = " ".join(f"{name} {value:g}" for name, value in (self.rerank or {}).items())
        return (*alpha, *((f"re-ranked ({numbers})",) if self.rerank else ()))

    @property
    def meaningless(self) -> bool:
        """Whether random weights made the features, so that nothing follows from the ranking."""
        return self.weights == RANDOM_WEIGHTS


@dataclass(frozen=True, eq=False)
class RankingBlock:
    """Whole ranked lists of consecutive queries, one row a listed gallery item, nearest first.

    Attributes:
        query_index: (R,) int32 position of the query in the ranking, rising.
        rank: (R,) int32, 1-based, rising within a query; gaps where items are not listed.
        gallery_index: (R,) int32 position of the gallery item.
        distance: (R,) float32.
    """

    query_index: Int32Array
    rank: Int32Array
    gallery_index: Int32Array
    distance: Float32Array


@dataclass(frozen=True, eq=False)
class Ranking:
    """A whole ranking in memory: facts, the labelled items of both sides, and the ranked lists in blocks."""

    facts: RankingFacts
    queries: Items
    gallery: Items
    blocks: tuple[RankingBlock, ...]


@dataclass(frozen=True, slots=True)
class RankedItem:
    """One row of a ranking, for showing it."""

    query_id: str
    query_vehicle: str | None
    query_camera: str | None
    rank: int
    gallery_id: str
    gallery_vehicle: str | None
    gallery_camera: str | None
    distance: float


@dataclass(frozen=True, eq=False)
class JudgedRows:
    """Whole ranked lists of some queries, with what evaluation must know of each listed item.

    Attributes:
        query_ids: (n,) the queries.
        vehicles: (n,) vehicle of each query; None where unknown.
        query: (R,) int32 position of the row's query among the n, rising.
        rank: (R,) int32 true rank, 1-based, rising within a query.
        same_vehicle: (R,) whether the item shows the query's vehicle; False where unlabelled.
        same_camera: (R,) whether the query's camera saw it; False where a camera is unknown.
        is_self: (R,) whether the item is the query itself.
        distance: (R,) float32; None where only ranks are known.
        cameras: (n,) camera of each query, None where unknown; None where cameras were not read.
        gallery_cameras: (R,) camera of each item, likewise.
        gallery_ids: (R,) name of each item; None where they were not asked for.
    """

    query_ids: TextArray
    vehicles: TextArray
    query: NDArray[np.int32]
    rank: NDArray[np.int32]
    same_vehicle: BoolArray
    same_camera: BoolArray
    is_self: BoolArray
    distance: Float32Array | None = None
    cameras: TextArray | None = None
    gallery_cameras: TextArray | None = None
    gallery_ids: TextArray | None = None


@dataclass(frozen=True)
class PictureTruth:
    """What a data set says of each query picture.

    Attributes:
        source: The files that say it.
        gallery: The pictures that they are about.
        good: For each query picture, those of its vehicle by other cameras.
        junk: For each query picture, those that are left out.
    """

    source: str
    gallery: frozenset[str]
    good: Mapping[str, frozenset[str]]
    junk: Mapping[str, frozenset[str]]
