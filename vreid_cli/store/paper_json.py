"""The JSON of the paper's code: features by track, and rankings by query track."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid_cli.errors import DataError, StoreError
from vreid_cli.runtime.files import atomic_path, read_json_object
from vreid_cli.store.rankings import count_ranks, facts_from_dict, facts_to_dict
from vreid_cli.types.arrays import text_array
from vreid_cli.types.features import ArrayMatrix, FeatureSet, number_images
from vreid_cli.types.metric_names import join_metric_name, split_metric_name
from vreid_cli.types.rankings import RankedItem, RankingBlock, RankingFacts
from vreid_cli.types.tracks import Items
from vreid_cli.types.truth import JudgedRows, SameCamera

#: Reads vehicle and camera from a name; each None where the name does not say it.
LabelReader = Callable[[str], tuple[str | None, str | None]]

OWN_KEY = "vreid"


def read_features_json(path: Path, labels: LabelReader) -> FeatureSet:
    """Features ``{track_id: [[float, …], …]}`` in the order of the keys.

    Args:
        path: The file.
        labels: Reads vehicle and camera from a track's name.

    Returns:
        Features (N, D) in float32, images named ``<track>#<position>``.

    Raises:
        StoreError: The file is missing or no JSON object.
        DataError: It does not hold rows of equal length of finite numbers.
    """
    tracks = read_json_object(path)
    if isinstance(tracks.get("tracks"), Mapping):
        raise DataError(f"{path} holds a ranking, not features", hint="features are {track: [[…], …]}", file=path)
    if not tracks:
        raise DataError(f"{path} holds no tracks", file=path)
    matrices = [_matrix(track, rows, path) for track, rows in tracks.items()]
    widths = {matrix.shape[1]: track for matrix, track in zip(matrices, tracks, strict=True)}
    if len(widths) > 1:
        found = "; ".join(f"{width} in track {track}" for width, track in sorted(widths.items())[:3])
        raise DataError(f"{path}: features of different width: {found}", file=path)
    track_ids = [track for track, matrix in zip(tracks, matrices, strict=True) for _ in matrix]
    known = {track: labels(track) for track in tracks}
    return FeatureSet(
        matrix=ArrayMatrix(np.concatenate(matrices)),
        image_id=text_array(number_images(track_ids)),
        track_id=text_array(track_ids),
        vehicle_id=text_array([known[track][0] for track in track_ids]),
        camera_id=text_array([known[track][1] for track in track_ids]),
        source=str(path),
    )


def _matrix(track: str, rows: Any, path: Path) -> NDArray[np.float32]:
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{path}: track {track} holds no list of features", file=path)
    width = len(rows[0]) if isinstance(rows[0], list) else 0
    for position, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != width or not row:
            found = f"{len(row)} numbers" if isinstance(row, list) else f"a {type(row).__name__}"
            raise DataError(
                f"{path}: track {track}, image {position}: {found} where a list of {width or 'some'} is needed",
                hint="every image of a file needs the same number of features",
                file=path,
            )
    # NumPy would take "1.5" and true for numbers.
    if any(type(value) not in (int, float) for row in rows for value in row):
        raise DataError(f"{path}: track {track} holds something that is no number", file=path)
    try:
        matrix = np.array(rows, dtype=np.float64)
    except OverflowError:
        raise DataError(f"{path}: track {track} holds a number that is too large", file=path) from None
    # Beyond float32's range counts as infinite: that is how it would be computed with.
    with np.errstate(over="ignore"):
        single = matrix.astype(np.float32)
    finite = np.isfinite(single).all(axis=1)
    if not finite.all():
        position = int(np.argmin(finite))
        raise DataError(f"{path}: track {track}, image {position}: a feature is not finite", file=path)
    return single


def write_features_json(path: Path, tracks: Iterable[tuple[str, NDArray[np.float32]]]) -> None:
    """Write tracks, each a name and its (N, D) features, one track a line, without holding them all."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("{")
        for index, (track, rows) in enumerate(tracks):
            file.write(",\n" if index else "\n")
            file.write(f"{json.dumps(track, ensure_ascii=False)}: {json.dumps(rows.astype(float).tolist())}")
        file.write("\n}\n")


class JsonRankingWriter:
    """Collects the lists of the paper's JSON; the file is written at the end."""

    def __init__(self, facts: RankingFacts, queries: Items, gallery: Items) -> None:
        self._queries, self._gallery = queries, gallery
        metric, aggregation = split_metric_name(facts.metric)
        cameras = {
            side: {name: camera for name, camera in zip(items.ids, items.cameras, strict=True) if camera is not None}
            for side, items in (("query", queries), ("gallery", gallery))
        }
        self._tracks: dict[str, Any] = {}
        self._content = {
            "metric": metric,
            "aggregation": aggregation,
            "tracks": self._tracks,
            OWN_KEY: {**facts_to_dict(facts), "camera_ids": cameras},
        }

    def append(self, block: RankingBlock) -> None:
        """Add the lists of a block."""
        for query, rank, item, distance in zip(
            block.query_index.tolist(),
            block.rank.tolist(),
            block.gallery_index.tolist(),
            block.distance.tolist(),
            strict=True,
        ):
            name = self._queries.ids[query]
            entry = self._tracks.setdefault(name, {"class": self._queries.vehicles[query], "ranking": {}})
            entry["ranking"][str(rank)] = {
                "id": self._gallery.ids[item],
                "class": self._gallery.vehicles[item],
                "distance": distance,
            }

    def write(self, path: Path) -> None:
        """Write the file, atomically."""
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            json.dump(self._content, file, indent=1, ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True)
class _Entry:
    query: str
    vehicle: str | None
    items: tuple[tuple[int, str, str | None, float], ...]


class JsonRanking:
    """A ranking in the paper's JSON.

    Args:
        path: The file.
        labels: Reads a camera from a name where the file does not say it.

    Raises:
        StoreError: The file is missing or damaged, or holds no ranking.
    """

    def __init__(self, path: Path, labels: LabelReader) -> None:
        self.path = path
        content = read_json_object(path)
        tracks = content.get("tracks")
        if not isinstance(tracks, Mapping):
            raise StoreError(f"{path} is no ranking: it has no object 'tracks'", file=path)
        try:
            self._entries = [_read_entry(query, entry) for query, entry in tracks.items()]
            self.facts, cameras = _read_facts(content, self._entries)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"{path} is no ranking: {type(error).__name__} {error}", file=path) from None
        self._query_camera = _CameraReader(cameras.get("query"), labels)
        self._gallery_camera = _CameraReader(cameras.get("gallery"), labels)

    def query_ids(self) -> list[str]:
        """Names of the queries, in their order."""
        return [entry.query for entry in self._entries]

    def judged(self, *, with_ids: bool = False) -> Iterator[JudgedRows]:
        """The ranked lists, with what evaluation must know of each row."""
        for entry in self._entries:
            camera = self._query_camera(entry.query)
            selves = self.facts.selves.get(entry.query, ())
            names = [name for _, name, _, _ in entry.items]
            cameras = [self._gallery_camera(name) for name in names]
            yield JudgedRows(
                query_ids=text_array([entry.query]),
                vehicles=text_array([entry.vehicle]),
                query=np.zeros(len(names), dtype=np.int32),
                rank=np.array([rank for rank, *_ in entry.items], dtype=np.int32),
                same_vehicle=_flags(v == entry.vehicle and v is not None for _, _, v, _ in entry.items),
                same_camera=_flags(camera is not None and other == camera for other in cameras),
                is_self=_flags(name in selves for name in names),
                distance=np.array([distance for *_, distance in entry.items], dtype=np.float32),
                cameras=text_array([camera]),
                gallery_cameras=text_array(cameras),
                gallery_ids=text_array(names) if with_ids else None,
            )

    def nearest(self, queries: Sequence[str], *, top: int, same_camera: SameCamera) -> dict[str, list[RankedItem]]:
        """The nearest items of some queries, without self and (under ``drop``) junk: by query id, in rank order.

        Ranks are counted without what was left out.
        """
        entries = {entry.query: entry for entry in self._entries}
        lists = {query: self._ranked_items(entries[query]) if query in entries else [] for query in queries}
        return {query: count_ranks(items, self.facts, same_camera=same_camera)[:top] for query, items in lists.items()}

    def _ranked_items(self, entry: _Entry) -> list[RankedItem]:
        camera = self._query_camera(entry.query)
        return [
            RankedItem(entry.query, entry.vehicle, camera, rank, name, vehicle, self._gallery_camera(name), distance)
            for rank, name, vehicle, distance in entry.items
        ]


class _CameraReader:
    """A name's camera: as the file says, else as the name does."""

    def __init__(self, known: Mapping[str, str] | None, labels: LabelReader) -> None:
        self._known = known
        self._labels = labels

    def __call__(self, name: str) -> str | None:
        return self._known.get(name) if self._known is not None else self._labels(name)[1]


def _flags(values: Iterable[bool]) -> NDArray[np.bool_]:
    return np.fromiter(values, dtype=bool)


def _read_entry(query: str, entry: Mapping[str, Any]) -> _Entry:
    rows = []
    for rank, item in entry["ranking"].items():
        vehicle = item.get("class")
        rows.append((int(rank), str(item["id"]), None if vehicle is None else str(vehicle), float(item["distance"])))
    own = entry.get("class")
    return _Entry(query, None if own is None else str(own), tuple(sorted(rows, key=lambda row: row[0])))


def _read_facts(
    content: Mapping[str, Any], entries: Sequence[_Entry]
) -> tuple[RankingFacts, Mapping[str, Mapping[str, str]]]:
    own = content.get(OWN_KEY)
    if own is not None:
        return facts_from_dict(own), own.get("camera_ids") or {}
    # The paper's own files do not say how they were made: full only if every query lists the same items.
    listed = {frozenset(name for _, name, _, _ in entry.items) for entry in entries}
    coverage = "full" if len(listed) <= 1 else "top-k"
    size = max((len(names) for names in listed), default=0)
    metric = join_metric_name(content.get("metric"), content.get("aggregation"))
    return RankingFacts(metric=metric, coverage=coverage, gallery_size=size), {}  # type: ignore[arg-type]
