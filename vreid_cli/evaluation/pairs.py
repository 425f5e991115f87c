"""The labelled pairs of rankings: distance, same vehicle or not, and whose vehicles they are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid_cli.errors import DataError
from vreid_cli.evaluation.judging import WRONG, Judge, Kinds, positive
from vreid_cli.evaluation.options import EvaluationOptions
from vreid_cli.types.arrays import BoolArray, Int64Array, TextArray
from vreid_cli.types.rankings import Ranking, RankingBlock

FloatArray = NDArray[np.float64]
#: Of more pairs of different vehicles a random part is kept, and each of it stands for several.
MOST_DIFFERENT = 1_000_000


@dataclass(frozen=True, eq=False)
class LabelledPairs:
    """Pairs of a query and a gallery item whose vehicles are known, nearest first.

    Attributes:
        distance: (n,) rising.
        same: (n,) whether both show one vehicle.
        weight: (n,) how many pairs each stands for.
        query_vehicle: (n,) number of the query's vehicle, from 0.
        gallery_vehicle: (n,) number of the gallery item's vehicle; -1 where it is unknown.
        vehicles: (V,) names of the queries' vehicles, by their numbers.
        queries: Labelled queries.
    """

    distance: FloatArray
    same: BoolArray
    weight: FloatArray
    query_vehicle: Int64Array
    gallery_vehicle: Int64Array
    vehicles: tuple[str, ...]
    queries: int

    def __len__(self) -> int:
        return len(self.distance)

    @property
    def same_count(self) -> float:
        """Pairs of the same vehicle."""
        return float(self.weight[self.same].sum())

    @property
    def different_count(self) -> float:
        """Pairs of different vehicles."""
        return float(self.weight[~self.same].sum())

    @property
    def share_same(self) -> float:
        """Share of the pairs that are of the same vehicle."""
        return self.same_count / max(1.0, self.same_count + self.different_count)

    @property
    def expected(self) -> float:
        """Gallery items that show a query's vehicle, on average."""
        return self.same_count / max(1, self.queries)

    @property
    def paired_vehicles(self) -> int:
        """Vehicles of queries that have a pair of the same vehicle."""
        return len(np.unique(self.query_vehicle[self.same]))

    @property
    def digest(self) -> str:
        """SHA-256 of the names of the queries' vehicles."""
        return hashlib.sha256("\n".join(sorted(self.vehicles)).encode()).hexdigest()


def labelled_pairs(
    rankings: Sequence[Ranking], options: EvaluationOptions | None = None, *, seed: int
) -> LabelledPairs:
    """The pairs of some rankings that scores count: without self, junk and unlabelled queries.

    Args:
        rankings: All made alike; a vehicle's name means the same vehicle in each of them.
        options: How to count.
        seed: Chooses among more than a million pairs of different vehicles.

    Raises:
        DataError: A ranking does not list every item.
    """
    options = options or EvaluationOptions()
    for ranking in rankings:
        if ranking.facts.coverage != "full":
            raise DataError(
                f"{ranking.source} does not list every gallery item, so its pairs are a biased sample",
                hint="rank without --top-k, --threshold and --min-probability",
                file=ranking.source,
            )
    size = sum(len(ranking.queries) * len(ranking.gallery) for ranking in rankings)
    collector = PairCollector(options, pairs=size, seed=seed)
    for ranking in rankings:
        judge, side = Judge(ranking), collector.side(ranking)
        for block in ranking.blocks:
            side.add(block, judge(block.query_index, block.gallery_index))
    return collector.pairs()


class PairCollector:
    """Collects the pairs of one ranking or several, block by block.

    Args:
        options: How to count.
        pairs: How many pairs there are at most.
        seed: Chooses among too many.
    """

    def __init__(self, options: EvaluationOptions, *, pairs: int, seed: int) -> None:
        self._same_camera = options.same_camera
        self._kept = min(1.0, MOST_DIFFERENT / max(1, pairs))
        self._rng = np.random.default_rng([seed, 2])
        self._numbers: dict[str | None, int] = {None: -1}
        self._queried: set[int] = set()
        self._queries = 0
        self._columns: list[tuple[NDArray[np.generic], ...]] = []

    def side(self, ranking: Ranking) -> RankingPairs:
        """What takes the blocks of one ranking."""
        query, gallery = (self._number(items.vehicles) for items in (ranking.queries, ranking.gallery))
        known = query[query >= 0]
        self._queried.update(known.tolist())
        self._queries += len(known)
        return RankingPairs(self, query, gallery)

    def take(self, block: RankingBlock, kinds: Kinds, vehicles: tuple[Int64Array, Int64Array]) -> None:
        """Keep the pairs of a block that count."""
        same = positive(kinds, self._same_camera)
        different = kinds == WRONG
        if self._kept < 1:
            different &= self._rng.random(len(kinds)) < self._kept
        rows = same | different
        weight = np.where(same, 1.0, 1 / self._kept)
        query, gallery = vehicles[0][block.query_index], vehicles[1][block.gallery_index]
        columns = (block.distance.astype(np.float64), same, weight, query, gallery)
        self._columns.append(tuple(column[rows] for column in columns))

    def pairs(self) -> LabelledPairs:
        """All that were kept, nearest first."""
        empty = (np.empty(0), np.empty(0, bool), np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))
        joined = [np.concatenate(parts) for parts in zip(*(self._columns or [empty]), strict=True)]
        order = np.argsort(joined[0], kind="stable")
        distance, same, weight, query, gallery = (column[order] for column in joined)
        # The vehicles of queries come first, so that their numbers are places in the list of names.
        names = {number: str(name) for name, number in self._numbers.items() if number >= 0}
        asked = sorted(self._queried)
        ordered = [*asked, *(number for number in names if number not in self._queried)]
        place = np.full(len(names) + 1, -1, dtype=np.int64)
        place[ordered] = np.arange(len(ordered))
        vehicles = tuple(names[number] for number in asked)
        return LabelledPairs(distance, same, weight, place[query], place[gallery], vehicles, self._queries)

    def _number(self, names: TextArray) -> Int64Array:
        """(n,) number of each vehicle; -1 where it is unknown."""
        numbers = self._numbers
        return np.fromiter((numbers.setdefault(name, len(numbers) - 1) for name in names), np.int64, len(names))


@dataclass(frozen=True, eq=False)
class RankingPairs:
    """Takes the blocks of one ranking."""

    collector: PairCollector
    query_vehicles: Int64Array
    gallery_vehicles: Int64Array

    def add(self, block: RankingBlock, kinds: Kinds) -> None:
        """Keep the pairs of a block whose rows are of these kinds."""
        self.collector.take(block, kinds, (self.query_vehicles, self.gallery_vehicles))


def vehicle_folds(pairs: LabelledPairs, *, folds: int, seed: int) -> Int64Array:
    """(V,) the fold of each query vehicle: as equal in number as can be, at random.

    Vehicles that have a pair of the same vehicle are dealt first, so that every fold has its share of them.
    """
    rng = np.random.default_rng([seed, 3])
    count = len(pairs.vehicles)
    paired = np.isin(np.arange(count), pairs.query_vehicle[pairs.same])
    order = np.lexsort((rng.random(count), ~paired))
    fold = np.empty(count, dtype=np.int64)
    fold[order] = np.arange(count) % folds
    return fold
