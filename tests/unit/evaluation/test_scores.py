"""Scores against an oracle that walks every list, against scikit-learn, and against what must never change them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import oracles
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lists import means, ranking_of, split_by_query
from oracles import Entry
from sklearn.metrics import average_precision_score

from vreid_cli.errors import DataError
from vreid_cli.evaluation.evaluate import Evaluation, evaluate
from vreid_cli.evaluation.options import EvaluationOptions
from vreid_cli.types.arrays import text_array
from vreid_cli.types.rankings import Ranking
from vreid_cli.types.truth import ApRule, SameCamera

TOLERANCE = 1e-9
RANKS = (1, 2, 3, 5, 10, 50)
RULES: tuple[ApRule, ...] = ("rectangle", "trapezoid")
POLICIES: tuple[SameCamera, ...] = ("drop", "keep")
SEEDS = st.integers(0, 2**32 - 1)


# -- building ------------------------------------------------------------------------------------------------


def scored(
    ranking: Ranking,
    *,
    same_camera: SameCamera = "drop",
    ap_rule: ApRule = "rectangle",
    ranks: Sequence[int] = RANKS,
) -> Evaluation:
    options = EvaluationOptions(same_camera=same_camera, ap=ap_rule, ranks=tuple(ranks), resamples=100)
    return evaluate(ranking, options)


def items(text: str) -> list[Entry]:
    """``+`` a positive, ``-`` another vehicle, ``j`` junk, ``s`` the query itself, ``c`` a stranger in its camera."""
    kinds = {
        "+": Entry(True, False, False),
        "-": Entry(False, False, False),
        "j": Entry(True, True, False),
        "s": Entry(True, True, True),
        "c": Entry(False, True, False),
    }
    return [kinds[letter] for letter in text]


@dataclass(frozen=True)
class World:
    """Random labels and distances, and the lists that follow from them by a stable sort."""

    lists: list[list[Entry]]
    labelled: list[bool]


def world(seed: int, *, queries: int, gallery: int) -> World:
    """Ties, junk, selves, distractors, unlabelled items and missing cameras on both sides."""
    rng = np.random.default_rng(seed)

    def labels(count: int, kinds: int, prefix: str) -> list[str | None]:
        return [None if rng.random() < 0.15 else f"{prefix}{rng.integers(kinds)}" for _ in range(count)]

    # The gallery's vehicles 3 to 5 are nobody's: distractors. Some queries' vehicle may be nowhere.
    vehicles, cameras = labels(gallery, 6, "v"), labels(gallery, 3, "c")
    own_vehicles, own_cameras = labels(queries, 3, "v"), labels(queries, 3, "c")
    lists = []
    for vehicle, camera in zip(own_vehicles, own_cameras, strict=True):
        order = np.argsort(rng.integers(0, 6, size=gallery), kind="stable")
        self_at = int(rng.integers(gallery)) if rng.random() < 0.5 else -1
        lists.append(
            [
                Entry(
                    vehicle is not None and vehicles[i] == vehicle,
                    camera is not None and cameras[i] == camera,
                    i == self_at,
                )
                for i in order
            ]
        )
    return World(lists, [vehicle is not None for vehicle in own_vehicles])


def same(found: float | None, expected: float | None) -> bool:
    if found is None or expected is None:
        return found is expected
    return math.isclose(found, expected, rel_tol=0, abs_tol=TOLERANCE)


def assert_agrees(found: Evaluation, expected: oracles.Scores) -> None:
    assert same(found.mean_ap, expected.mean_ap)
    assert same(found.mean_inp, expected.mean_inp)
    assert found.cmc.keys() == expected.cmc.keys()
    assert all(same(found.cmc[k], expected.cmc[k]) for k in expected.cmc)
    assert (found.valid_queries, found.positives, found.junk) == (expected.valid, expected.positives, expected.junk)


WORLDS = st.builds(world, seed=SEEDS, queries=st.integers(1, 8), gallery=st.integers(1, 25))


# -- against oracles -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("ap_rule", RULES)
@pytest.mark.parametrize("same_camera", POLICIES)
@settings(max_examples=60)
@given(made=WORLDS)
def test_agrees_with_the_oracle(ap_rule: ApRule, same_camera: SameCamera, made: World) -> None:
    found = scored(ranking_of(made.lists, made.labelled), same_camera=same_camera, ap_rule=ap_rule)
    expected = oracles.evaluate(made.lists, same_camera=same_camera, ap_rule=ap_rule, ranks=RANKS)
    assert_agrees(found, expected)
    assert found.total_queries == len(made.lists)
    assert found.unlabelled_queries == made.labelled.count(False)


@settings(max_examples=60)
@given(made=WORLDS)
def test_blocks_of_queries_score_as_one(made: World) -> None:
    ranking = ranking_of(made.lists, made.labelled)
    assert means(scored(ranking)) == means(scored(split_by_query(ranking)))


@settings(max_examples=60)
@given(seed=SEEDS, size=st.integers(1, 60))
def test_rectangle_is_scikit_learns_average_precision_without_ties(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.random(size) < 0.3
    assume(positive.any())
    entries = [Entry(bool(hit), False, False) for hit in positive]
    expected = average_precision_score(positive, -np.arange(size))
    assert same(scored(ranking_of([entries])).mean_ap, float(expected))


@pytest.mark.slow
@pytest.mark.parametrize("ap_rule", RULES)
@pytest.mark.parametrize("same_camera", POLICIES)
@settings(max_examples=40)
@given(made=WORLDS, seed=SEEDS)
def test_moving_what_is_left_out_changes_no_metric(
    ap_rule: ApRule, same_camera: SameCamera, made: World, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    moved = []
    for entries in made.lists:
        stays = [entry for entry in entries if not entry.left_out(same_camera)]
        for entry in entries:
            if entry.left_out(same_camera):
                stays.insert(int(rng.integers(len(stays) + 1)), entry)
        moved.append(stays)
    one, other = (
        scored(ranking_of(lists, made.labelled), same_camera=same_camera, ap_rule=ap_rule)
        for lists in (made.lists, moved)
    )
    assert means(one) == means(other)


@settings(max_examples=40)
@given(made=WORLDS, seed=SEEDS)
def test_the_order_of_items_behind_the_last_positive_changes_nothing(made: World, seed: int) -> None:
    longer = [[*entries, *items("-c-")[: seed % 4]] for entries in made.lists]
    one, other = (scored(ranking_of(lists, made.labelled)) for lists in (made.lists, longer))
    assert means(one) == means(other)


# -- by hand -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rectangle", "trapezoid", "inp", "first"),
    [
        ("+", 1, 1, 1, 1),
        ("+++", 1, 1, 1, 1),
        ("-+", 1 / 2, (0 + 1 / 2) / 2, 1 / 2, 2),
        ("+-+", (1 + 2 / 3) / 2, (1 + (1 / 2 + 2 / 3) / 2) / 2, 2 / 3, 1),
        ("--+-+", (1 / 3 + 2 / 5) / 2, ((0 + 1 / 3) / 2 + (1 / 4 + 2 / 5) / 2) / 2, 2 / 5, 3),
        ("sj-+", 1 / 2, 1 / 4, 1 / 2, 2),
        ("-sj+", 1 / 2, 1 / 4, 1 / 2, 2),
        ("sjjj+j", 1, 1, 1, 1),
        ("c+", 1 / 2, 1 / 4, 1 / 2, 2),
    ],
)
def test_one_query_by_hand(text: str, rectangle: float, trapezoid: float, inp: float, first: int) -> None:
    for rule, expected in (("rectangle", rectangle), ("trapezoid", trapezoid)):
        scores = scored(ranking_of([items(text)]), ap_rule=rule).queries  # type: ignore[arg-type]
        assert scores.average_precision == pytest.approx([expected], abs=TOLERANCE)
        assert scores.inverse_penalty == pytest.approx([inp], abs=TOLERANCE)
        assert scores.first_positive.tolist() == [first]
        assert scores.junk.tolist() == [text.count("j") + text.count("s")]
        assert scores.listed.tolist() == [len(text) - text.count("j") - text.count("s")]


def test_keep_counts_junk_as_positive_but_never_the_query_itself() -> None:
    found = scored(ranking_of([items("sj-+")]), same_camera="keep")
    assert (found.mean_ap, found.mean_inp, found.cmc[1]) == (pytest.approx((1 + 2 / 3) / 2), pytest.approx(2 / 3), 1)
    assert (found.positives, found.junk) == (2, 1)


def test_a_self_of_another_label_is_left_out_too() -> None:
    stranger = Entry(False, False, True)
    for policy in POLICIES:
        assert scored(ranking_of([[stranger, *items("+")]]), same_camera=policy).mean_ap == 1


def test_a_missing_camera_is_never_junk() -> None:
    ranking = ranking_of([items("j+")])
    assert scored(ranking).junk == 1
    for side in ("queries", "gallery"):
        unknown = replace(getattr(ranking, side), cameras=text_array([None] * len(getattr(ranking, side))))
        assert scored(replace(ranking, **{side: unknown})).junk == 0


def test_queries_without_a_positive_are_counted_but_not_averaged() -> None:
    found = scored(ranking_of([items("-+"), items("--"), items("sj-"), items("-c")]))
    assert (found.valid_queries, found.total_queries, found.unlabelled_queries) == (1, 4, 0)
    assert (found.mean_ap, found.cmc[1], found.cmc[2]) == (0.5, 0, 1)


def test_a_query_without_any_row_is_counted() -> None:
    rows = ranking_of([items("+"), [], items("-+"), []])
    found = scored(rows)
    assert (found.valid_queries, found.total_queries) == (2, 4)
    assert found.mean_ap == 0.75


def test_nothing_to_average_is_none_and_not_a_number() -> None:
    for lists in ([], [items("--j")], [[]]):
        found = scored(ranking_of(lists))
        assert (found.mean_ap, found.mean_inp, found.valid_queries) == (None, None, 0)
        assert set(found.cmc.values()) == {None}
        assert found.total_queries == len(lists)
    assert scored(ranking_of([])).total_queries == 0


def test_nothing_warns_of_divisions(recwarn: pytest.WarningsRecorder) -> None:
    for rule in RULES:
        scored(ranking_of([items("--"), items("+-"), []]), ap_rule=rule)
    assert not recwarn.list


def test_scores_of_queries_without_positives_are_nan() -> None:
    scores = scored(ranking_of([items("-"), items("+")]), ap_rule="trapezoid").queries
    assert np.isnan(scores.average_precision).tolist() == [True, False]
    assert np.isnan(scores.inverse_penalty).tolist() == [True, False]


# -- lists that leave items out ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("ap_rule", RULES)
@pytest.mark.parametrize("same_camera", POLICIES)
@settings(max_examples=40)
@given(made=WORLDS, top_k=st.integers(0, 10))
def test_positives_give_exactly_the_numbers_of_full_lists(
    ap_rule: ApRule, same_camera: SameCamera, made: World, top_k: int
) -> None:
    # A self of another vehicle than its query is a contradiction of labels, and not what rank lists.
    lists = [[replace(e, is_self=e.is_self and e.same_vehicle) for e in entries] for entries in made.lists]
    place = np.array([place for entries in lists for place in range(1, len(entries) + 1)])
    keep = (place <= top_k) | np.array([entry.same_vehicle for entries in lists for entry in entries])
    full = ranking_of(lists, made.labelled)
    some = ranking_of(lists, made.labelled, coverage="positives", keep=keep, query_count=len(lists))
    one, other = (scored(ranking, same_camera=same_camera, ap_rule=ap_rule) for ranking in (full, some))
    # Queries of which nothing is listed are in no block, so their labels are not known.
    some_have = {field: value for field, value in means(other).items() if field != "unlabelled_queries"}
    assert some_have.items() <= means(one).items()


@pytest.mark.parametrize("same_camera", POLICIES)
@settings(max_examples=60)
@given(made=WORLDS, top_k=st.integers(1, 10))
def test_top_k_refuses_what_it_cannot_know(same_camera: SameCamera, made: World, top_k: int) -> None:
    place = np.array([place for entries in made.lists for place in range(1, len(entries) + 1)])
    cut = scored(
        ranking_of(made.lists, coverage="top-k", keep=place <= top_k), same_camera=same_camera, ranks=range(1, 15)
    )
    assert cut.mean_ap is cut.mean_inp is None
    counts = [len(oracles.counted(entries[:top_k], same_camera)) for entries in made.lists]
    hits = [oracles.counted(entries, same_camera) for entries in made.lists]
    for k, found in cut.cmc.items():
        if k > min(counts):
            assert found is None
        else:
            assert same(found, sum(any(hit[:k]) for hit in hits) / len(hits))


def test_the_safe_rank_ends_at_the_first_gap() -> None:
    # Ranks 1, 2, 3 and 9 are listed: what stands at 4 is unknown, though four items are known.
    keep = np.isin(np.arange(1, 11), [1, 2, 3, 9])
    some = ranking_of([items("---------+")], coverage="top-k", keep=keep)
    assert scored(some, ranks=(3, 4)).cmc == {3: 0, 4: None}


def test_unlabelled_queries_say_nothing_about_the_safe_rank() -> None:
    full = ranking_of([items("-+-"), items("-")], labelled=[True, False], coverage="top-k")
    found = scored(full, ranks=(1, 2, 3, 4))
    assert found.cmc == {1: 0, 2: 1, 3: 1, 4: None}
    assert (found.valid_queries, found.total_queries, found.unlabelled_queries) == (1, 2, 1)


# -- lists that are not what they should be ------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [[1, 3, 2], [1, 1, 2], [2, 1, 3], [1, 2, 2], [0, 1, 2], [-1, 1, 2]])
def test_ranks_that_do_not_rise_from_1_are_an_error_that_names_the_query(ranks: list[int]) -> None:
    wrong = ranking_of([items("-+"), items("+-+"), items("+")], ranks=[1, 2, *ranks, 1])
    with pytest.raises(DataError, match=r"\bq1\b"):
        scored(wrong)


def test_ranks_fall_between_queries_only() -> None:
    lists = [items("+-"), items("-+"), items("+")]
    assert scored(ranking_of(lists)).valid_queries == 3


def test_scoring_changes_no_input() -> None:
    ranking = ranking_of([items("s-j+"), items("+--")])
    (block,) = ranking.blocks
    before = {name: array.copy() for name, array in vars(block).items()}
    for array in vars(block).values():
        array.flags.writeable = False
    for policy in POLICIES:
        for rule in RULES:
            scored(ranking, same_camera=policy, ap_rule=rule)
    assert all(np.array_equal(getattr(block, name), array) for name, array in before.items())


def test_ranks_of_a_large_gallery_do_not_overflow() -> None:
    last = 2**31 - 1
    found = scored(ranking_of([items("-+")], ranks=[1, last], coverage="positives"))
    assert found.mean_ap == found.mean_inp == pytest.approx(1 / last)


def test_cmc_never_falls_with_the_rank() -> None:
    made = world(3, queries=40, gallery=60)
    cmc: dict[int, Any] = dict(scored(ranking_of(made.lists, made.labelled), ranks=range(1, 61)).cmc)
    assert list(cmc.values()) == sorted(cmc.values())
    assert cmc[60] == 1


def test_scores_are_by_query_in_their_order() -> None:
    scores = scored(ranking_of([items("-+"), items("+")])).queries
    assert list(scores.query_ids) == ["q0", "q1"]
    assert scores.average_precision.tolist() == [0.5, 1]
