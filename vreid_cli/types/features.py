"""Latent representations with the ids and labels of their images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid_cli.errors import DataError
from vreid_cli.types.amounts import amount
from vreid_cli.types.arrays import Float32Array, Int64Array, Labels, as_matrix

#: The name of weights that were never trained: what comes from them means nothing.
RANDOM_WEIGHTS = "random"
#: The warning that everything carries which comes from such weights.
MEANINGLESS = "random weights: the features, and all that follows from them, mean nothing"

#: What a feature set says of each image.
COLUMNS = ("image_id", "track_id", "vehicle_id", "camera_id")

#: How queries and gallery come about. ``separate``: they are splits of their own. ``gallery-tracks``: query images lie
#: in gallery tracks, and those whole tracks are the queries between tracks (VeRi). ``random-gallery``: there is one
#: split; each trial takes one image of every vehicle at random as the gallery, the others are queries (VehicleID).
#: ``every-track``: there is one split, and each of its tracks is a query for the others.
QueryProtocol = Literal["separate", "gallery-tracks", "random-gallery", "every-track"]


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


@dataclass(frozen=True, slots=True, eq=False)
class JoinedMatrix:
    """Feature matrices of one width, one below the other, which stay where they are."""

    matrices: tuple[FeatureMatrix, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows N and width D."""
        return sum(matrix.shape[0] for matrix in self.matrices), self.matrices[0].shape[1]

    def take(self, rows: Int64Array) -> Float32Array:
        """The rows at these positions, in this order, copied to float32."""
        taken = np.empty((len(rows), self.shape[1]), dtype=np.float32)
        start = 0
        for matrix in self.matrices:
            here = (rows >= start) & (rows < start + matrix.shape[0])
            taken[here] = matrix.take(rows[here] - start)
            start += matrix.shape[0]
        return taken


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features with their ids and labels, in gallery order.

    Attributes:
        matrix: (N, D) latent representations.
        image_id: (N,) ids of the images. These columns may be given as any sequence of texts, and are used as an array
            of them.
        track_id: (N,) passage of each image, or None.
        vehicle_id: (N,) identity of each image, or None.
        camera_id: (N,) camera of each image, or None.
        frame: (N,) int64 frame number of each image, -1 where unknown; None where all are.
        source: Where the set comes from, for messages.
        identity: What made the features (architecture, weights digest, …); None where unknown.
        version: Digest over what they were made by and from and how they are labelled; None where unknown. A ranking of
            another version is older than these features.
        image_root: Folder that the image ids are relative to; None where the images are unknown.
            Two images are the same image only if root and id together name the same file.
        dataset: Name of the layout that the images come from; None where unknown.
        protocol: How that layout says that queries and gallery come about.
        weights: What the weights were called (``veri``, ``random``, a file name); None where unknown.
        warnings: What is doubtful about them.
        trial: Number of the random split (:func:`~vreid_cli.ranking.trials.split_trial`) that the set is a side of,
            from 0; None where nothing was split.
        trial_seed: The seed of that split.
    """

    matrix: FeatureMatrix
    image_id: Labels
    track_id: Labels
    vehicle_id: Labels
    camera_id: Labels
    source: str = "memory"
    identity: Mapping[str, str] | None = None
    image_root: str | None = None
    dataset: str | None = None
    weights: str | None = None
    protocol: QueryProtocol = "separate"
    warnings: tuple[str, ...] = ()
    trial: int | None = None
    trial_seed: int | None = None
    frame: Int64Array | None = None
    version: str | None = None

    def __post_init__(self) -> None:
        rows = self.matrix.shape[0]
        for name in COLUMNS:
            column = getattr(self, name)
            if len(column) != rows:
                raise ValueError(f"{name} has {amount(len(column), 'entry')} for {amount(rows, 'row')}")
            if not isinstance(column, Labels):
                object.__setattr__(self, name, Labels.of(column))
        if self.frame is not None and len(self.frame) != rows:
            raise ValueError(f"frame has {amount(len(self.frame), 'entry')} for {amount(rows, 'row')}")

    def __len__(self) -> int:
        return self.matrix.shape[0]

    @property
    def dimension(self) -> int:
        """Length D of each latent representation."""
        return self.matrix.shape[1]

    @property
    def meaningless(self) -> bool:
        """Whether the features come from random weights, so that nothing follows from them."""
        return self.weights == RANDOM_WEIGHTS

    def at(self, folder: str | Path) -> FeatureSet:
        """The same features, whose images lie in this folder.

        An image is found by its ``image_id`` there. Where files without names of images number them, the folder
        holds a folder of as many images for each track.
        """
        return replace(self, image_root=str(folder))

    def select(self, rows: Int64Array) -> FeatureSet:
        """The images at these positions, in this order; their features are not copied."""
        columns = {name: getattr(self, name)[rows] for name in COLUMNS}
        frame = None if self.frame is None else self.frame[rows]
        return replace(self, matrix=SelectedMatrix(self.matrix, rows), frame=frame, **columns)

    @classmethod
    def from_arrays(
        cls,
        features: ArrayLike,
        *,
        track_id: Sequence[str | None],
        image_id: Sequence[str] | None = None,
        vehicle_id: Sequence[str | None] | None = None,
        camera_id: Sequence[str | None] | None = None,
        frame: Sequence[int] | None = None,
        source: str = "memory",
    ) -> FeatureSet:
        """Feature set from an (N, D) array and lists of N ids; labels that are left out are absent.

        Image ids that are left out become ``<track_id>#<position in the track>``.

        Raises:
            DataError: The features are no matrix of numbers, or a list has another length.

        Examples:
            >>> features = FeatureSet.from_arrays(np.eye(3), track_id=["a", "a", "b"], vehicle_id=["1", "1", "2"])
            >>> len(features), features.dimension, features.image_id.tolist()
            (3, 3, ['a#0', 'a#1', 'b#0'])
        """
        matrix = as_matrix(features, name="features")
        absent: list[None] = [None] * len(matrix)
        columns = {"track_id": track_id, "image_id": image_id, "vehicle_id": vehicle_id, "camera_id": camera_id}
        for name, column in columns.items():
            if column is not None and len(column) != len(matrix):
                raise DataError(
                    f"{name} has {amount(len(column), 'entry')} for {amount(len(matrix), 'row')} of features"
                )
        return cls(
            matrix=ArrayMatrix(matrix),
            image_id=Labels.of(number_images(track_id) if image_id is None else image_id),
            track_id=Labels.of(track_id),
            vehicle_id=Labels.of(vehicle_id or absent),
            camera_id=Labels.of(camera_id or absent),
            frame=None if frame is None else np.asarray(frame, dtype=np.int64),
            source=source,
        )


def join_features(sides: Mapping[str, FeatureSet]) -> FeatureSet:
    """Several feature sets as one; where two have a track of the same name, all names begin with that of their set.

    Args:
        sides: Feature sets of one dimension, by name.

    Raises:
        DataError: They were made by different networks.

    Examples:
        >>> one, two = (FeatureSet.from_arrays(np.eye(2)[:1], track_id=["a"], source=name) for name in ("one", "two"))
        >>> join_features({"one": one, "two": two}).track_id.tolist()
        ['one/a', 'two/a']
    """
    first, *others = sides.values()
    if not others:
        return first
    for other in others:
        one, two = dict(first.identity or {}), dict(other.identity or {})
        known = first.identity is not None and other.identity is not None
        if first.dimension != other.dimension or (known and one != two):
            raise DataError(
                f"{first.source} and {other.source} were made by different networks",
                hint="extract both with the same architecture, weights and transform",
                file=other.source,
            )
    tracks = [set(side.track_id) - {None} for side in sides.values()]
    clash = sum(map(len, tracks)) > len(set().union(*tracks))
    names = [
        f"{name}/{track}" if clash and track is not None else track
        for name, side in sides.items()
        for track in side.track_id
    ]
    frames = [np.full(len(side), -1, np.int64) if side.frame is None else side.frame for side in sides.values()]
    return replace(
        first,
        matrix=JoinedMatrix(tuple(side.matrix for side in sides.values())),
        image_id=Labels.of(np.concatenate([side.image_id for side in sides.values()])),
        track_id=Labels.of(names),
        vehicle_id=Labels.of(np.concatenate([side.vehicle_id for side in sides.values()])),
        camera_id=Labels.of(np.concatenate([side.camera_id for side in sides.values()])),
        frame=np.concatenate(frames),
        source=", ".join(side.source for side in sides.values()),
        image_root=first.image_root if len({side.image_root for side in sides.values()}) == 1 else None,
        warnings=tuple(dict.fromkeys(warning for side in sides.values() for warning in side.warnings)),
    )


def number_images(track_ids: Sequence[str | None]) -> list[str]:
    """Names for images that have none: ``<track>#0``, ``<track>#1``, … within each track.

    Examples:
        >>> number_images(["a", "b", "a", None])
        ['a#0', 'b#0', 'a#1', '#0']
    """
    positions: dict[str | None, Iterator[int]] = defaultdict(count)
    return [f"{track or ''}#{next(positions[track])}" for track in track_ids]
