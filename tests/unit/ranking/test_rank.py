"""The library's one function for ranking: what it refuses, and the facts and warnings that it returns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from oracles import track_distance
from ranked import close, distances, images, labelled_sides, options

from vreid_cli.errors import DataError
from vreid_cli.ranking.options import RankingOptions
from vreid_cli.ranking.planning import plan_ranking
from vreid_cli.ranking.rank import rank, rank_blocks
from vreid_cli.ranking.trials import split_trial
from vreid_cli.types.arrays import text_array
from vreid_cli.types.features import MEANINGLESS, ArrayMatrix, FeatureSet


def test_coverage_says_what_is_listed() -> None:
    query, gallery = labelled_sides()
    unlabelled = replace(query, vehicle_id=text_array([None] * len(query)))

    def coverage(side: FeatureSet, top_k: int | None) -> str:
        return rank(side, gallery, options("i2i", "MED", top_k=top_k))["MED"].facts.coverage

    assert [coverage(query, k) for k in (None, 30, 31, 29)] == ["full", "full", "full", "positives"]
    assert [coverage(unlabelled, k) for k in (None, 30, 3)] == ["full", "full", "top-k"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_inputs_are_never_changed(dtype: type[np.floating]) -> None:
    rng = np.random.default_rng(53)
    arrays = [rng.normal(size=(20, 6)).astype(dtype) for _ in range(2)]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    query, gallery = (images(array, prefix) for array, prefix in zip(arrays, "qr", strict=True))
    for task, definition in (("t2t", "paper"), ("t2t", "released"), ("i2t", "paper"), ("i2i", "paper")):
        rank(query, gallery, options(task, definition=definition))  # type: ignore[arg-type]
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))


@pytest.mark.parametrize("empty", ["query", "gallery"])
def test_an_empty_side_is_an_error(empty: str) -> None:
    sides = {name: images(np.ones((0 if name == empty else 2, 3)), name[0]) for name in ("query", "gallery")}
    with pytest.raises(DataError, match=f"{empty}.*no features"):
        rank(sides["query"], sides["gallery"])


def test_features_without_a_dimension_are_an_error() -> None:
    with pytest.raises(DataError, match="no dimension"):
        rank(images(np.ones((2, 0)), "q"), images(np.ones((2, 0)), "r"))


def test_different_dimensions_are_an_error() -> None:
    with pytest.raises(DataError, match=r"3 dimensions.*4"):
        rank(images(np.ones((2, 3)), "q"), images(np.ones((2, 4)), "r"))


def test_different_identities_are_an_error_that_names_the_field() -> None:
    one = {"architecture": "densenet201", "weights": "abc"}
    query, gallery = images(np.ones((2, 3)), "q"), images(np.ones((2, 3)), "r")
    with pytest.raises(DataError, match="weights is 'abc' and 'def'"):
        rank(replace(query, identity=one), replace(gallery, identity={**one, "weights": "def"}))
    with pytest.raises(DataError, match="precision"):
        rank(replace(query, identity=one), replace(gallery, identity={**one, "precision": "fp16"}))
    for other in (dict(reversed(one.items())), None):
        facts = rank(replace(query, identity=one), replace(gallery, identity=other))["meanMCD50"].facts
        assert (facts.query_identity, facts.gallery_identity) == (one, other)


def test_features_of_any_width_of_float_come_out_as_float32() -> None:
    rows = np.random.default_rng(61).normal(size=(5, 4)).astype(np.float16)
    wide = FeatureSet(
        ArrayMatrix(rows), *(text_array([f"{p}{i}" for i in range(5)]) for p in "it"), *(text_array([None] * 5),) * 2
    )
    found = rank(wide, wide, options("t2t", "meanMED"))["meanMED"]
    assert all(block.distance.dtype == np.float32 and block.rank.dtype == np.int32 for block in found.blocks)
    single = {f"t{i}": rows[i : i + 1] for i in range(5)}
    for (q, r), value in distances(found).items():
        assert close(value, track_distance(single[q], single[r], "meanMED", "paper"), "meanMED")


def test_blocks_report_how_many_queries_they_held() -> None:
    query, gallery = labelled_sides()
    advanced: list[int] = []
    job = replace(plan_ranking(query, gallery, options("i2i")), budget=8000)
    blocks = rank_blocks(job, advance=advanced.append)
    held = [len(np.unique(ranked.by_metric["MED"].query_index)) for ranked in blocks]
    assert advanced == held
    assert sum(held) == len(query) == job.steps
    assert len(held) > 1


def test_the_metric_follows_from_the_task_where_none_is_named() -> None:
    query, gallery = labelled_sides()
    for task, metric in (("t2t", "meanMCD50"), ("i2t", "MCD"), ("i2i", "MCD")):
        assert list(rank(query, gallery, RankingOptions(task=task))) == [metric]  # type: ignore[arg-type]


def test_the_two_sides_of_a_trial() -> None:
    rng = np.random.default_rng(67)
    names = [f"i{n}" for n in range(30)]
    whole = FeatureSet.from_arrays(
        rng.normal(size=(30, 4)), track_id=names, image_id=names, vehicle_id=[str(n % 5) for n in range(30)]
    )
    query, gallery = split_trial(whole, seed=3, trial=2)
    facts = rank(query, gallery, RankingOptions(task="i2i"))["MCD"].facts
    assert (facts.trial, facts.trial_seed, facts.query_source) == (2, 3, "gallery")
    assert (facts.query_count, facts.gallery_size) == (25, 5)
    with pytest.raises(DataError, match="different trials"):
        rank(query, split_trial(whole, seed=3, trial=1)[1], RankingOptions(task="i2i"))


def test_random_weights_are_a_warning() -> None:
    query, gallery = labelled_sides()
    assert rank(query, gallery)["meanMCD50"].warnings == ()
    assert rank(query, replace(gallery, weights="random"))["meanMCD50"].warnings == (MEANINGLESS,)


@pytest.mark.parametrize(
    "wrong",
    [
        {"top_k": 0},
        {"threshold": -1.0},
        {"threshold": float("nan")},
        {"alpha": 0.0},
        {"cameras": "some"},
        {"task": "t2i"},
        {"definition": "Paper"},
        {"track_unit": "vehicle"},
        {"k1": 0},
        {"lambda_value": 2.0},
    ],
)
def test_options_that_make_no_sense_are_named(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        RankingOptions(**wrong)
