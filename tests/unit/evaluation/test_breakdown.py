"""Scores of parts of a ranking."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lists import ranking_of
from oracles import Entry
from oracles import evaluate as brute_force
from worlds import WORLDS, World

from vreid_cli.evaluation.evaluate import evaluate
from vreid_cli.evaluation.options import EvaluationOptions

RANKS = (1, 3, 5)


@settings(max_examples=30)
@given(made=WORLDS, same_camera=st.sampled_from(["drop", "keep"]))
def test_camera_pairs_are_scored_as_if_nothing_else_were_there(made: World, same_camera: Any) -> None:
    found = evaluate(
        made.ranking(), EvaluationOptions(same_camera=same_camera, ranks=RANKS, by=("camera",), resamples=100)
    ).camera_pairs
    assert found is not None
    for gallery in ("c0", "c1", "c2"):
        items = [i for i, camera in enumerate(made.gallery_cameras) if camera == gallery]
        lists = made.lists(items)
        for own in ("c0", "c1", "c2"):
            chosen = [entries for entries, camera in zip(lists, made.query_cameras, strict=True) if camera == own]
            expected = brute_force(chosen, same_camera=same_camera, ap_rule="rectangle", ranks=RANKS)
            if not expected.valid:
                assert (own, gallery) not in found
                continue
            assert found[own, gallery].mean_ap == pytest.approx(expected.mean_ap, abs=1e-9)
            assert found[own, gallery].cmc == pytest.approx(expected.cmc, abs=1e-9)
            assert found[own, gallery].valid_queries == expected.valid


def test_track_lengths() -> None:
    right, wrong = Entry(True, False, False), Entry(False, False, False)
    lists = [[right, wrong], [wrong, right], [right], [wrong]]
    lengths = {"q0": 3, "q1": 3, "q2": 6, "q3": 1}
    options = EvaluationOptions(by=("length",), resamples=100)
    found = evaluate(ranking_of(lists, query_lengths=lengths), options).lengths
    assert found is not None
    assert {length: (part.mean_ap, part.valid_queries) for length, part in found.items()} == {3: (0.75, 2), 6: (1, 1)}
    assert evaluate(ranking_of(lists, query_lengths=lengths, coverage="top-k"), options).lengths is None
    assert evaluate(ranking_of(lists), options).lengths is None
