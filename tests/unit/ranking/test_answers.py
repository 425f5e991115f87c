"""What of ranked lists is an answer, against filtering whole lists."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ranked import changed, features, labelled_sides, lists, options, random_tracks

from vreid_cli.errors import DataError, UsageError
from vreid_cli.ranking.answers import AnswerRules
from vreid_cli.ranking.rank import rank
from vreid_cli.types.arrays import text_array
from vreid_cli.types.calibrations import Calibration, FittedOn
from vreid_cli.types.rankings import NO_MATCH, RankingBlock
from vreid_cli.types.tracks import Items


def falling(metric: str, farthest: float, **others: Any) -> Calibration:
    """A ratio of 9 at distance 0 that falls to 1/9 at the farthest."""
    ends = float(np.log(9))
    return Calibration(
        task="t2t",
        metric=metric,
        definition="paper",
        track_unit="passage",
        distances=(0.0, farthest),
        log_ratios=(ends, -ends),
        expected=1.0,
        fitted_on=FittedOn(dataset=None, vehicles=10, digest="", queries=10, same=10, different=90),
        **others,
    )


CALIBRATIONS = (falling("meanMED", 6.0), falling("meanMCD", 1.5))
CHOSEN = options("t2t", "meanMED", "meanMCD", expected=15)


def test_only_what_is_probable_enough_is_listed_and_all_of_the_querys_vehicle() -> None:
    query, gallery = labelled_sides()
    whole = rank(query, gallery, CHOSEN, calibrations=CALIBRATIONS)
    cut = rank(query, gallery, changed(CHOSEN, min_probability=0.7), calibrations=CALIBRATIONS)
    vehicles = {
        name: vehicle for side in (query, gallery) for name, vehicle in zip(side.image_id, side.vehicle_id, strict=True)
    }
    for metric, calibration in zip(whole, CALIBRATIONS, strict=True):
        facts = cut[metric].facts
        assert facts.coverage == "positives"
        assert facts.prior == 15 / len(gallery)
        assert 0 < sum(map(len, lists(cut[metric]).values())) < sum(map(len, lists(whole[metric]).values()))
        for name, rows in lists(whole[metric]).items():
            said = calibration.probability(np.array([d for *_, d in rows]), prior=15 / len(gallery))
            expected = [
                row
                for row, probability in zip(rows, said, strict=True)
                if probability >= 0.7 or (vehicles[name] is not None and vehicles[name] == vehicles[row[0]])
            ]
            assert lists(cut[metric])[name] == expected


@pytest.mark.parametrize("limit", [{"threshold": 2.0}, {"min_probability": 0.7}])
def test_where_nothing_is_near_a_row_says_no_match(limit: dict[str, float]) -> None:
    query, gallery = labelled_sides()
    chosen = changed(options("t2t", "meanMED", expected=15), **limit)
    near, answers = (
        rank(query, gallery, changed(chosen, no_match=wanted), calibrations=CALIBRATIONS[:1])["meanMED"]
        for wanted in (False, True)
    )
    assert answers.facts.coverage == "top-k"
    assert answers.facts.gallery_size == len(gallery)
    farthest = 2.0 if "threshold" in limit else CALIBRATIONS[0].farthest(0.7, prior=15 / len(gallery))
    assert farthest is not None
    without = 0
    for name, rows in lists(near).items():
        expected = [row for row in rows if row[2] <= farthest] or [(NO_MATCH, 1, np.inf)]
        without += expected[0][0] == NO_MATCH
        assert lists(answers)[name] == expected
    assert 0 < without < len(query)


def test_the_query_itself_is_no_match() -> None:
    tracks = random_tracks(np.random.default_rng(0), "t", count=6, width=4, longest=1)
    side = features(tracks)

    side = replace(side, image_root="here", protocol="gallery-tracks")
    found = rank(side, side, options("t2t", "minMED", threshold=1e-6, no_match=True))["minMED"]
    for name, rows in lists(found).items():
        assert rows == [(name, 1, pytest.approx(0, abs=1e-6)), (NO_MATCH, 2, np.inf)]


@pytest.mark.parametrize(
    ("chosen", "error", "message"),
    [
        ({"min_probability": 0.9, "threshold": 0.5}, UsageError, "--threshold and --min-probability"),
        ({"no_match": True}, UsageError, "what is near enough to be a match"),
        ({"no_match": True, "threshold": 0.5, "top_k": 3}, UsageError, "--no-match and --top-k"),
        (
            {"min_probability": 0.9, "metric": ("minMED",)},
            DataError,
            "a calibration of meanMED does not fit: its metric",
        ),
        ({"expected": 30}, UsageError, "the gallery has 30 items, fewer must show the vehicle"),
    ],
)
def test_what_cannot_be_answered_is_refused(chosen: dict[str, Any], error: type[Exception], message: str) -> None:
    query, gallery = labelled_sides()
    with pytest.raises(error, match=message):
        rank(query, gallery, changed(options("t2t", "meanMED"), **chosen), calibrations=CALIBRATIONS[:1])


def test_a_probability_needs_a_calibration() -> None:
    query, gallery = labelled_sides()
    with pytest.raises(DataError, match="no calibration gives meanMED, meanMCD probabilities"):
        rank(query, gallery, options("t2t", "meanMED", "meanMCD", min_probability=0.5))


def test_a_later_block_counts_its_queries_from_its_own_beginning() -> None:
    nobody = text_array([None] * 4)
    queries, gallery = (
        Items(text_array([*names]), nobody[: len(names)], nobody[: len(names)]) for names in ("abcd", "xy")
    )
    rules = AnswerRules(queries, gallery, selves={}, no_match=True)
    third = np.array([3], dtype=np.int32)
    block = RankingBlock(third, third // 3, third - 3, np.array([0.5], dtype=np.float32))
    found = rules(block, range(2, 4), farthest=1.0)
    assert found.query_index.tolist() == [2, 3]
    assert found.gallery_index.tolist() == [2, 0]  # the item that stands for none, and x
    assert found.rank.tolist() == [1, 1]
