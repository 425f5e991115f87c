"""The JSON of the paper's code: features by track, and rankings by query track (docs/definitions.md#paper-json)."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid_cli.errors import DataError, StoreError
from vreid_cli.runtime.files import atomic_path, read_json_object
from vreid_cli.store.rankings import measure_coverage, refuse_non_finite
from vreid_cli.types.amounts import amount
from vreid_cli.types.arrays import text_array
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.labels import LabelPattern
from vreid_cli.types.metric_names import join_metric_name, split_metric_name
from vreid_cli.types.rankings import NO_MATCH, BlockWriter, Ranking, RankingBlock, RankingFacts
from vreid_cli.types.tracks import Items

OWN_KEY = "vreid"
_LAST_RANK = np.iinfo(np.int32).max

# -- features ------------------------------------------------------------------------------------------------


def read_features_json(path: Path, label_pattern: str | None = None) -> FeatureSet:
    """Features ``{track_id: [[float, …], …]}`` in the order of the keys.

    Args:
        path: The file.
        label_pattern: Reads vehicle and camera from a track's name; None: names like ``0002_c002_…``.

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
    pattern = LabelPattern.compile(label_pattern)
    labels = {track: pattern.read(track) for track in tracks}
    return FeatureSet.from_arrays(
        np.concatenate(matrices),
        track_id=track_ids,
        vehicle_id=[labels[track].vehicle_id for track in track_ids],
        camera_id=[labels[track].camera_id for track in track_ids],
        source=str(path),
    )


def _matrix(track: str, rows: Any, path: Path) -> NDArray[np.float32]:
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{path}: track {track} holds no list of features", file=path)
    width = len(rows[0]) if isinstance(rows[0], list) else 0
    for position, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != width or not row:
            found = amount(len(row), "number") if isinstance(row, list) else f"a {type(row).__name__}"
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


def write_features_json(path: Path, features: FeatureSet) -> None:
    """Write the images of each track together, one track a line, without holding them all.

    Raises:
        StoreError: The file cannot be written.
    """
    rows_of: dict[str, list[int]] = {}
    for row, track in enumerate(features.track_id):
        rows_of.setdefault(str(track), []).append(row)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("{")
        for index, (track, rows) in enumerate(rows_of.items()):
            values = features.matrix.take(np.array(rows, dtype=np.int64)).astype(float).tolist()
            file.write(",\n" if index else "\n")
            file.write(f"{json.dumps(track, ensure_ascii=False)}: {json.dumps(values)}")
        file.write("\n}\n")


# -- rankings ------------------------------------------------------------------------------------------------


@contextmanager
def write_ranking_json(path: Path, facts: RankingFacts, *, queries: Items, gallery: Items) -> Iterator[BlockWriter]:
    """Collect a ranking; the file is written at the end.

    Raises:
        StoreError: The file cannot be written.
    """
    tracks: dict[str, Any] = {}

    def collect(block: RankingBlock) -> None:
        sure = facts.probability(block.distance)
        probability = [None] * len(block.rank) if sure is None else sure.tolist()
        rows = zip(*(column.tolist() for column in vars(block).values()), probability, strict=True)
        for query, rank, item, distance, chance in rows:
            entry = tracks.setdefault(queries.ids[query], {"class": queries.vehicles[query], "ranking": {}})
            # JSON has no number for what is infinitely far: no match.
            near = distance if math.isfinite(distance) else None
            found = {"id": gallery.ids[item], "class": gallery.vehicles[item], "distance": near}
            entry["ranking"][str(rank)] = found if chance is None or near is None else {**found, "probability": chance}

    yield collect
    metric, aggregation = split_metric_name(facts.metric)
    cameras = {
        side: {name: camera for name, camera in zip(items.ids, items.cameras, strict=True) if camera is not None}
        for side, items in (("query", queries), ("gallery", gallery))
    }
    own = {**facts.to_stored(), "camera_ids": cameras}
    content = {"metric": metric, "aggregation": aggregation, "tracks": tracks, OWN_KEY: own}
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, ensure_ascii=False, allow_nan=False)


def read_ranking_json(path: Path, label_pattern: str | None = None) -> Ranking:
    """Read a ranking in the paper's JSON.

    Args:
        path: The file.
        label_pattern: Reads a camera from a name where the file does not say it; None: names like ``0002_c002_…``.

    Raises:
        StoreError: The file is missing or damaged, or holds no ranking.
    """
    pattern = LabelPattern.compile(label_pattern)
    content = read_json_object(path)
    tracks = content.get("tracks")
    if not isinstance(tracks, Mapping):
        raise StoreError(f"{path} is no ranking: it has no object 'tracks'", file=path)
    own = content.get(OWN_KEY)
    queries: dict[str, str | None] = {}
    gallery: dict[str, str | None] = {}
    position: dict[str, int] = {}
    rows: list[tuple[int, int, int, float]] = []
    try:
        for query, entry in tracks.items():
            queries[query] = _text(entry.get("class"))
            _check_items(query, entry["ranking"].values(), gallery)
            for rank, item in entry["ranking"].items():
                name = str(item["id"])
                gallery.setdefault(name, _text(item.get("class")))
                at = position.setdefault(name, len(position))
                distance = math.inf if name == NO_MATCH else float(item["distance"])
                rows.append((len(queries) - 1, _rank(rank), at, distance))
        facts = RankingFacts(metric=join_metric_name(content.get("metric"), content.get("aggregation")))
        cameras: Mapping[str, Mapping[str, str]] = {}
        if own is not None:
            facts, cameras = RankingFacts.from_stored(own), own.get("camera_ids") or {}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = error if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
        raise StoreError(f"{path} is no ranking: {why}", file=path) from None

    def items(side: str, vehicles: Mapping[str, str | None]) -> Items:
        known = cameras.get(side)
        found = [pattern.read(name).camera_id if known is None else known.get(name) for name in vehicles]
        return Items(text_array(list(vehicles)), text_array(list(vehicles.values())), text_array(found))

    block = _block(rows)
    refuse_non_finite(block, lambda: list(queries), lambda: list(gallery), path=path)
    if own is None:
        # The paper's own files do not say how they were made.
        coverage = measure_coverage([block], len(queries), len(gallery))
        facts = replace(facts, coverage=coverage, gallery_size=len(gallery))
    return Ranking(facts, items("query", queries), items("gallery", gallery), blocks=(block,), source=str(path))


def _check_items(query: str, items: Collection[Any], known: Mapping[str, str | None]) -> None:
    """Refuse a list that names an item twice, or whose items are of other vehicles than in the lists before.

    Raises:
        ValueError: It does.
    """
    names = [str(item["id"]) for item in items]
    if len(set(names)) < len(names):
        raise ValueError(f"the list of query {query} names item {max(names, key=names.count)} twice")
    for name, item in zip(names, items, strict=True):
        if None not in (one := {known.get(name), _text(item.get("class"))}) and len(one) > 1:
            raise ValueError(f"item {name} is of two vehicles: {', '.join(sorted(map(str, one)))}")


def _block(rows: list[tuple[int, int, int, float]]) -> RankingBlock:
    """The lists in the order of their ranks, whatever that of the keys is."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    query, rank, item = table[:, :3].astype(np.int32).T
    order = np.lexsort((rank, query))
    with np.errstate(over="ignore"):  # beyond float32's range counts as infinite
        return RankingBlock(query[order], rank[order], item[order], table[order, 3].astype(np.float32))


def _rank(text: str) -> int:
    rank = int(text)
    if not 0 <= rank <= _LAST_RANK:  # whether they rise from 1, evaluation looks
        raise ValueError(f"'{text[:20]}' is no rank")
    return rank


def _text(value: object) -> str | None:
    return None if value is None else str(value)
