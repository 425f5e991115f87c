"""A ranking in memory against its own labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vreid_cli.evaluation.scores import Evaluation, score_queries, summarise
from vreid_cli.types.arrays import BoolArray, Int64Array, shared_codes
from vreid_cli.types.rankings import Ranking
from vreid_cli.types.truth import ApRule, JudgedRows, SameCamera


def evaluate_ranking(
    ranking: Ranking,
    *,
    same_camera: SameCamera = "drop",
    ap_rule: ApRule = "rectangle",
    ranks: Sequence[int] = (1, 5, 10, 20),
) -> Evaluation:
    """Score a ranking in memory.

    Args:
        ranking: As :func:`vreid_cli.ranking.rank.rank` returns it.
        same_camera: ``drop`` leaves out items of the query's vehicle by the query's camera; ``keep`` counts them.
        ap_rule: ``rectangle`` or ``trapezoid``.
        ranks: Ranks at which CMC is wanted.

    Returns:
        mAP, mINP and CMC as fractions over the valid queries, with the counts behind them.
    """
    scores = [score_queries(rows, same_camera=same_camera, ap_rule=ap_rule) for rows in judge(ranking)]
    return summarise(scores, ranks=ranks, coverage=ranking.facts.coverage, query_count=len(ranking.queries))


def judge(ranking: Ranking) -> Iterator[JudgedRows]:
    """The ranked lists, block by block, with what evaluation must know of each row."""
    vehicles = shared_codes(ranking.queries.vehicles, ranking.gallery.vehicles)
    cameras = shared_codes(ranking.queries.cameras, ranking.gallery.cameras)
    selves = _self_pairs(ranking)
    for block in ranking.blocks:
        queries, query = np.unique(block.query_index, return_inverse=True)
        own, other = (index.astype(np.int64) for index in (block.query_index, block.gallery_index))
        yield JudgedRows(
            query_ids=ranking.queries.ids[queries],
            vehicles=ranking.queries.vehicles[queries],
            query=query.astype(np.int32),
            rank=block.rank,
            same_vehicle=_agree(vehicles, own, other),
            same_camera=_agree(cameras, own, other),
            is_self=np.isin(own * len(ranking.gallery) + other, selves),
            distance=block.distance,
            cameras=ranking.queries.cameras[queries],
            gallery_cameras=ranking.gallery.cameras[other],
        )


def _agree(codes: tuple[Int64Array, Int64Array], own: Int64Array, other: Int64Array) -> BoolArray:
    agree: BoolArray = (codes[0][own] == codes[1][other]) & (codes[0][own] >= 0)
    return agree


def _self_pairs(ranking: Ranking) -> Int64Array:
    """Query position times the size of the gallery, plus gallery position, of each self."""
    query_position = {name: index for index, name in enumerate(ranking.queries.ids)}
    position = {name: index for index, name in enumerate(ranking.gallery.ids)}
    size = len(ranking.gallery)
    pairs = [
        query_position[query] * size + position[item] for query, items in ranking.facts.selves.items() for item in items
    ]
    return np.array(pairs, dtype=np.int64)
