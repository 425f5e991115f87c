"""Feature sets made for ranking, and rankings read back as plain lists and tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from oracles import MCD_ABSOLUTE, MED_RELATIVE, TRACK_METRICS, image_distance, track_distance

from vreid_cli.ranking.options import RankingOptions
from vreid_cli.ranking.planning import plan_ranking
from vreid_cli.ranking.rank import collect, rank
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.rankings import Definition, Ranking, Task

Floats = NDArray[np.floating]
DEFINITIONS: tuple[Definition, ...] = ("paper", "released")
#: A query's rows as (gallery item, rank, distance).
Listed = list[tuple[str, int, float]]


# -- making --------------------------------------------------------------------------------------------------


def features(
    tracks: Mapping[str, Floats], *, cameras: Mapping[str, str] | None = None, vehicles: Mapping[str, str] | None = None
) -> FeatureSet:
    """One row an image, track after track."""
    track_id = [name for name, rows in tracks.items() for _ in rows]
    return FeatureSet.from_arrays(
        np.concatenate(list(tracks.values())).astype(np.float32),
        track_id=track_id,
        vehicle_id=[vehicles.get(name) for name in track_id] if vehicles else None,
        camera_id=[cameras.get(name) for name in track_id] if cameras else None,
    )


def images(rows: Floats, prefix: str) -> FeatureSet:
    """Images with names of their own, each its own track."""
    names = [f"{prefix}{number:04d}" for number in range(len(rows))]
    return FeatureSet.from_arrays(rows, track_id=names, image_id=names)


def random_tracks(
    rng: np.random.Generator, prefix: str, *, count: int, width: int, longest: int = 12
) -> dict[str, Floats]:
    """Tracks of one to ``longest`` images."""
    lengths = rng.integers(1, longest + 1, size=count)
    return {f"{prefix}{i:03d}": rng.normal(size=(n, width)).astype(np.float32) for i, n in enumerate(lengths)}


def labelled_sides(seed: int = 47) -> tuple[FeatureSet, FeatureSet]:
    """Images of few vehicles and cameras, some of them unknown, with many equal distances."""
    rng = np.random.default_rng(seed)

    def side(prefix: str, count: int) -> FeatureSet:
        labels = [f"v{n}" if n else None for n in rng.integers(0, 4, size=count)]
        cameras = [f"c{n}" if n else None for n in rng.integers(0, 4, size=count)]
        names = [f"{prefix}{i:02d}" for i in range(count)]
        rows = rng.integers(-2, 3, size=(count, 3)).astype(np.float32)
        return FeatureSet.from_arrays(rows, track_id=names, image_id=names, vehicle_id=labels, camera_id=cameras)

    return side("q", 12), side("r", 30)


def options(task: Task = "t2t", *metrics: str, **others: Any) -> RankingOptions:
    """Options by task and metrics; without metrics all of MED and MCD."""
    every = tuple(TRACK_METRICS) if task == "t2t" else ("MED", "MCD")
    return RankingOptions(task=task, metric=metrics or every, **others)


def changed(chosen: RankingOptions, **others: Any) -> RankingOptions:
    """The same options but for some."""
    return RankingOptions(**(chosen.model_dump() | others))


def within(budget: int, query: FeatureSet, gallery: FeatureSet, chosen: RankingOptions) -> dict[str, Ranking]:
    """Rank with so many bytes for working arrays."""
    return collect(replace(plan_ranking(query, gallery, chosen), budget=budget))


# -- made data of many kinds ------------------------------------------------------------------------------


def nearly_parallel(rng: np.random.Generator, rows: int, width: int) -> Floats:
    """Directions that differ by little."""
    spread = 10.0 ** rng.integers(-4, 0)
    return np.linspace(0.5, 1.5, width) + spread * rng.normal(size=(rows, width))


def of_any_length(rng: np.random.Generator, rows: int, width: int) -> Floats:
    """As an untrained network makes them: the lengths differ more than the directions."""
    return nearly_parallel(rng, rows, width) * rng.uniform(0.5, 2, size=(rows, 1))


def clustered(rng: np.random.Generator, rows: int, width: int) -> Floats:
    """Pairs at every share of the spread, those where digits begin to be lost among them."""
    centres = np.random.default_rng(width).normal(size=(4, width))
    spread = rng.choice([0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7], size=(rows, 1))
    return centres[rng.integers(0, 4, size=rows)] + spread * rng.normal(size=(rows, width))


def copies(rng: np.random.Generator, rows: int, width: int) -> Floats:
    """Equal rows, multiples of each other, rows that are nearly so, and rows of zeros."""
    originals = np.random.default_rng(width).normal(size=(9, width))
    made = originals[rng.integers(0, 9, size=rows)] * rng.choice([1.0, 0.25, 3.0, 0.7], size=(rows, 1))
    made += rng.choice([0.0, 0.0, 1e-5, 1e-3], size=(rows, 1)) * rng.normal(size=(rows, width))
    made[rng.random(rows) < 0.1] = 0
    return made


KINDS: dict[str, Callable[[np.random.Generator, int, int], Floats]] = {
    "normal": lambda rng, rows, width: rng.normal(size=(rows, width)),
    "positive": lambda rng, rows, width: np.maximum(rng.normal(size=(rows, width)), 0),
    "nearly parallel": nearly_parallel,
    "of any length": of_any_length,
    "clustered": clustered,
    "copies": copies,
    "large": lambda rng, rows, width: 1e12 * rng.normal(size=(rows, width)),
    "small": lambda rng, rows, width: 1e-12 * rng.normal(size=(rows, width)),
}


def named_side(rows: Floats, prefix: str, rng: np.random.Generator) -> FeatureSet:
    """Tracks of one to eight images; a name tells the place of its row."""
    lengths = rng.integers(1, 9, size=len(rows))
    track_id = np.repeat([f"{prefix}{number:04d}" for number in range(len(rows))], lengths)[: len(rows)]
    names = [f"{prefix}{number:04d}" for number in range(len(rows))]
    return FeatureSet.from_arrays(rows.astype(np.float32), track_id=list(track_id), image_id=names, source=prefix)


def two_sides(
    kind: str, seed: int, width: int, *, queries: int = 70, items: int = 150
) -> tuple[FeatureSet, FeatureSet]:
    """Query and gallery of one kind."""
    rng = np.random.default_rng(seed)
    query, gallery = (KINDS[kind](rng, rows, width) for rows in (queries, items))
    return named_side(query, "q", rng), named_side(gallery, "r", rng)


# -- reading -------------------------------------------------------------------------------------------------


def lists(ranking: Ranking) -> dict[str, Listed]:
    """Each query's rows."""
    found: dict[str, Listed] = {str(name): [] for name in ranking.queries.ids}
    for block in ranking.blocks:
        for query, item, place, distance in zip(
            block.query_index, block.gallery_index, block.rank, block.distance, strict=True
        ):
            found[ranking.queries.ids[query]].append((ranking.gallery.ids[item], int(place), float(distance)))
    return found


def distances(ranking: Ranking) -> dict[tuple[str, str], float]:
    """By names of query and gallery item."""
    return {(query, item): value for query, rows in lists(ranking).items() for item, _, value in rows}


def order(ranking: Ranking, query: str) -> list[str]:
    """A query's gallery items, nearest first."""
    return [item for item, _, _ in lists(ranking)[query]]


def table(ranking: Ranking, *, of: str = "distance") -> NDArray[np.float64]:
    """(queries, items) distances or ranks; NaN for what is not listed."""
    values = np.full((len(ranking.queries), len(ranking.gallery)), np.nan)
    for block in ranking.blocks:
        values[block.query_index, block.gallery_index] = getattr(block, of)
    return values


# -- comparing with the oracles ------------------------------------------------------------------------------


def close(found: float, expected: float, metric: str) -> bool:
    """Within what the contract allows: MED relative, MCD absolute."""
    if "MED" in metric:
        return abs(found - expected) <= MED_RELATIVE * expected
    return abs(found - expected) <= MCD_ABSOLUTE


def assert_sorted_by_gallery_order(ranking: Ranking) -> None:
    """Full lists: ranks 1 to n, distances rise, ties in the order of the gallery."""
    place = {name: i for i, name in enumerate(ranking.gallery.ids)}
    for rows in lists(ranking).values():
        assert [r for _, r, _ in rows] == list(range(1, len(place) + 1))
        keys = [(distance, place[item]) for item, _, distance in rows]
        assert keys == sorted(keys)


def assert_track_distances(
    query: Mapping[str, Floats], gallery: Mapping[str, Floats], definition: Definition, *, budget: int = 2**28
) -> None:
    """All ten metrics between tracks."""
    rankings = within(budget, features(query), features(gallery), options("t2t", definition=definition))
    assert list(rankings) == list(TRACK_METRICS)
    for metric, ranking in rankings.items():
        for (q, r), found in distances(ranking).items():
            expected = track_distance(query[q], gallery[r], metric, definition)
            assert close(found, expected, metric), (metric, q, r, found, expected)


def assert_image_distances(query: Floats, gallery: Floats) -> None:
    """MED and MCD between images."""
    for metric, ranking in rank(images(query, "q"), images(gallery, "r"), options("i2i")).items():
        for (q, r), found in distances(ranking).items():
            expected = image_distance(query[int(q[1:])], gallery[int(r[1:])], metric)
            assert close(found, expected, metric), (metric, q, r, found, expected)
