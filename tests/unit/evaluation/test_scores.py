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
from numpy.typing import NDArray
from oracles import Entry
from sklearn.metrics import average_precision_score

from vreid_cli.errors import DataError
from vreid_cli.evaluation.scores import Evaluation, QueryScores, score_queries, summarise
from vreid_cli.types.arrays import text_array
from vreid_cli.types.rankings import Coverage
from vreid_cli.types.truth import ApRule, JudgedRows, SameCamera

TOLERANCE = 1e-9
RANKS = (1, 2, 3, 5, 10, 50)
RULES: tuple[ApRule, ...] = ("rectangle", "trapezoid")
POLICIES: tuple[SameCamera, ...] = ("drop", "keep")
SEEDS = st.integers(0, 2**32 - 1)


# -- building ------------------------------------------------------------------------------------------------


def judged(lists: Sequence[Sequence[Entry]], labelled: Sequence[bool] | None = None) -> JudgedRows:
    """Whole lists, nearest first."""
    entries = [entry for rows in lists for entry in rows]

    def flags(name: str) -> NDArray[np.bool_]:
        return np.array([getattr(entry, name) for entry in entries], dtype=bool)

    ranks = [np.arange(1, len(rows) + 1) for rows in lists]
    return JudgedRows(
        query_ids=text_array([f"q{i}" for i in range(len(lists))]),
        vehicles=text_array(["v" if known else None for known in labelled or [True] * len(lists)]),
        query=np.repeat(np.arange(len(lists)), [len(rows) for rows in lists]).astype(np.int32),
        rank=np.concatenate([np.empty(0, dtype=np.int64), *ranks]).astype(np.int32),
        same_vehicle=flags("same_vehicle"),
        same_camera=flags("same_camera"),
        is_self=flags("is_self"),
    )


def listed_only(rows: JudgedRows, keep: NDArray[np.bool_]) -> JudgedRows:
    """Some of the rows, at their true ranks."""
    names = ("query", "rank", "same_vehicle", "same_camera", "is_self")
    return replace(rows, **{name: getattr(rows, name)[keep] for name in names})


def scored(
    rows: JudgedRows | Sequence[JudgedRows],
    *,
    same_camera: SameCamera = "drop",
    ap_rule: ApRule = "rectangle",
    coverage: Coverage = "full",
    ranks: Sequence[int] = RANKS,
) -> Evaluation:
    blocks = [rows] if isinstance(rows, JudgedRows) else rows
    scores = [score_queries(block, same_camera=same_camera, ap_rule=ap_rule) for block in blocks]
    return summarise(scores, ranks=ranks, coverage=coverage)


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


@pytest.mark.parametrize("ap_rule", RULES)
@pytest.mark.parametrize("same_camera", POLICIES)
@settings(max_examples=60)
@given(made=WORLDS)
def test_agrees_with_the_oracle(ap_rule: ApRule, same_camera: SameCamera, made: World) -> None:
    found = scored(judged(made.lists, made.labelled), same_camera=same_camera, ap_rule=ap_rule)
    expected = oracles.evaluate(made.lists, same_camera=same_camera, ap_rule=ap_rule, ranks=RANKS)
    assert_agrees(found, expected)
    assert found.total_queries == len(made.lists)
    assert found.unlabelled_queries == made.labelled.count(False)


@settings(max_examples=60)
@given(made=WORLDS, cut=st.integers(0, 8))
def test_blocks_of_queries_score_as_one(made: World, cut: int) -> None:
    cut = min(cut, len(made.lists))
    blocks = [judged(made.lists[:cut], made.labelled[:cut]), judged(made.lists[cut:], made.labelled[cut:])]
    whole, parted = scored(judged(made.lists, made.labelled)), scored(blocks)
    assert same(whole.mean_ap, parted.mean_ap)
    assert same(whole.mean_inp, parted.mean_inp)
    assert replace(whole, mean_ap=None, mean_inp=None) == replace(parted, mean_ap=None, mean_inp=None)


@settings(max_examples=60)
@given(seed=SEEDS, size=st.integers(1, 60))
def test_rectangle_is_scikit_learns_average_precision_without_ties(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.random(size) < 0.3
    assume(positive.any())
    entries = [Entry(bool(hit), False, False) for hit in positive]
    expected = average_precision_score(positive, -np.arange(size))
    assert same(scored(judged([entries])).mean_ap, float(expected))


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
        scored(judged(lists, made.labelled), same_camera=same_camera, ap_rule=ap_rule) for lists in (made.lists, moved)
    )
    assert one == other


@settings(max_examples=40)
@given(made=WORLDS, seed=SEEDS)
def test_the_order_of_items_behind_the_last_positive_changes_nothing(made: World, seed: int) -> None:
    longer = [[*entries, *items("-c-")[: seed % 4]] for entries in made.lists]
    one, other = (scored(judged(lists, made.labelled)) for lists in (made.lists, longer))
    assert one == other


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
        (scores,) = [score_queries(judged([items(text)]), same_camera="drop", ap_rule=rule)]  # type: ignore[arg-type]
        assert scores.average_precision == pytest.approx([expected], abs=TOLERANCE)
        assert scores.inverse_penalty == pytest.approx([inp], abs=TOLERANCE)
        assert scores.first_positive.tolist() == [first]
        assert scores.junk.tolist() == [text.count("j") + text.count("s")]
        assert scores.listed.tolist() == [len(text) - text.count("j") - text.count("s")]


def test_keep_counts_junk_as_positive_but_never_the_query_itself() -> None:
    found = scored(judged([items("sj-+")]), same_camera="keep")
    assert (found.mean_ap, found.mean_inp, found.cmc[1]) == (pytest.approx((1 + 2 / 3) / 2), pytest.approx(2 / 3), 1)
    assert (found.positives, found.junk) == (2, 1)


def test_a_self_of_another_label_is_left_out_too() -> None:
    stranger = Entry(False, False, True)
    for policy in POLICIES:
        assert scored(judged([[stranger, *items("+")]]), same_camera=policy).mean_ap == 1


def test_a_missing_camera_is_never_junk() -> None:
    # What a missing camera is to evaluation: no same camera.
    assert scored(judged([[Entry(True, False, False)]])).junk == 0


def test_queries_without_a_positive_are_counted_but_not_averaged() -> None:
    found = scored(judged([items("-+"), items("--"), items("sj-"), items("-c")]))
    assert (found.valid_queries, found.total_queries, found.unlabelled_queries) == (1, 4, 0)
    assert (found.mean_ap, found.cmc[1], found.cmc[2]) == (0.5, 0, 1)


def test_a_query_without_any_row_is_counted() -> None:
    rows = judged([items("+"), [], items("-+"), []])
    found = scored(rows)
    assert (found.valid_queries, found.total_queries) == (2, 4)
    assert found.mean_ap == 0.75


def test_nothing_to_average_is_none_and_not_a_number() -> None:
    for lists in ([], [items("--j")], [[]]):
        found = scored(judged(lists))
        assert (found.mean_ap, found.mean_inp, found.valid_queries) == (None, None, 0)
        assert set(found.cmc.values()) == {None}
        assert found.total_queries == len(lists)
    assert scored([]).total_queries == 0


def test_nothing_warns_of_divisions(recwarn: pytest.WarningsRecorder) -> None:
    for rule in RULES:
        scored(judged([items("--"), items("+-"), []]), ap_rule=rule)
    assert not recwarn.list


def test_scores_of_queries_without_positives_are_nan() -> None:
    scores = score_queries(judged([items("-"), items("+")]), same_camera="drop", ap_rule="trapezoid")
    assert np.isnan(scores.average_precision).tolist() == [True, False]
    assert np.isnan(scores.inverse_penalty).tolist() == [True, False]


# -- lists that leave items out ------------------------------------------------------------------------------


@pytest.mark.parametrize("ap_rule", RULES)
@pytest.mark.parametrize("same_camera", POLICIES)
@settings(max_examples=40)
@given(made=WORLDS, top_k=st.integers(0, 10))
def test_positives_give_exactly_the_numbers_of_full_lists(
    ap_rule: ApRule, same_camera: SameCamera, made: World, top_k: int
) -> None:
    # A self of another vehicle than its query is a contradiction of labels, and not what rank lists.
    lists = [[replace(e, is_self=e.is_self and e.same_vehicle) for e in entries] for entries in made.lists]
    full = judged(lists, made.labelled)
    some = listed_only(full, (full.rank <= top_k) | full.same_vehicle)
    one, other = (
        scored(rows, same_camera=same_camera, ap_rule=ap_rule, coverage=coverage)  # type: ignore[arg-type]
        for rows, coverage in ((full, "full"), (some, "positives"))
    )
    assert one == other


@pytest.mark.parametrize("same_camera", POLICIES)
@settings(max_examples=60)
@given(made=WORLDS, top_k=st.integers(1, 10))
def test_top_k_refuses_what_it_cannot_know(same_camera: SameCamera, made: World, top_k: int) -> None:
    full = judged(made.lists, [True] * len(made.lists))
    cut = scored(listed_only(full, full.rank <= top_k), same_camera=same_camera, coverage="top-k", ranks=range(1, 15))
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
    full = judged([items("---------+")])
    some = listed_only(full, np.isin(full.rank, [1, 2, 3, 9]))
    assert scored(some, coverage="top-k", ranks=(3, 4)).cmc == {3: 0, 4: None}


def test_unlabelled_queries_say_nothing_about_the_safe_rank() -> None:
    full = judged([items("-+-"), items("-")], labelled=[True, False])
    found = scored(full, coverage="top-k", ranks=(1, 2, 3, 4))
    assert found.cmc == {1: 0, 2: 1, 3: 1, 4: None}
    assert (found.valid_queries, found.total_queries, found.unlabelled_queries) == (1, 2, 1)


def test_a_labelled_query_without_rows_leaves_no_safe_rank() -> None:
    assert scored(judged([items("+"), []]), coverage="top-k", ranks=(1,)).cmc == {1: None}


# -- lists that are not what they should be ------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [[1, 3, 2], [1, 1, 2], [2, 1, 3], [1, 2, 2], [0, 1, 2], [-1, 1, 2]])
def test_ranks_that_do_not_rise_from_1_are_an_error_that_names_the_query(ranks: list[int]) -> None:
    good = judged([items("-+"), items("+-+"), items("+")])
    wrong = replace(good, rank=np.array([1, 2, *ranks, 1], dtype=np.int32))
    with pytest.raises(DataError, match=r"\bq1\b"):
        score_queries(wrong, same_camera="drop", ap_rule="rectangle")


def test_ranks_fall_between_queries_only() -> None:
    lists = [items("+-"), items("-+"), items("+")]
    assert scored(judged(lists)).valid_queries == 3


def test_scoring_changes_no_input() -> None:
    rows = judged([items("s-j+"), items("+--")])
    before = {name: getattr(rows, name).copy() for name in ("query", "rank", "same_vehicle", "same_camera", "is_self")}
    for name in before:
        getattr(rows, name).flags.writeable = False
    for policy in POLICIES:
        for rule in RULES:
            scored(rows, same_camera=policy, ap_rule=rule)
    assert all(np.array_equal(getattr(rows, name), array) for name, array in before.items())


def test_ranks_of_a_large_gallery_do_not_overflow() -> None:
    last = 2**31 - 1
    rows = judged([items("-+")])
    rows = replace(rows, rank=np.array([1, last], dtype=np.int32))
    found = scored(rows, coverage="positives")
    assert found.mean_ap == found.mean_inp == pytest.approx(1 / last)


def test_cmc_never_falls_with_the_rank() -> None:
    made = world(3, queries=40, gallery=60)
    cmc: dict[int, Any] = dict(scored(judged(made.lists, made.labelled), ranks=range(1, 61)).cmc)
    assert list(cmc.values()) == sorted(cmc.values())
    assert cmc[60] == 1


def test_scores_are_by_query_in_their_order() -> None:
    scores: QueryScores = score_queries(judged([items("-+"), items("+")]), same_camera="drop", ap_rule="rectangle")
    assert list(scores.query_ids) == ["q0", "q1"]
    assert scores.average_precision.tolist() == [0.5, 1]
