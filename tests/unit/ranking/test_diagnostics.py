"""What is noticed while distances are computed, and the warnings that follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ranked import changed, features, images, options, within

from vreid_cli.ranking.diagnostics import Diagnostics, warnings_of
from vreid_cli.ranking.metrics import parse_metrics
from vreid_cli.ranking.planning import plan_ranking
from vreid_cli.ranking.rank import rank, rank_blocks
from vreid_cli.types.rankings import Ranking


def zeros_told(ranking: Ranking) -> list[int]:
    """The numbers of zero vectors that the warnings name."""
    return [int(warning.split()[0]) for warning in ranking.warnings if "zero LR" in warning]


def test_zero_vectors_are_counted_once_on_each_side() -> None:
    query, gallery = np.ones((4, 3)), np.ones((200, 3))
    query[[0, 2]] = 0
    gallery[[0, 2, 150]] = 0
    # Small blocks look at every gallery image several times; the rows 0 and 2 are zero on both sides.
    for budget in (1, 2**28):
        found = within(budget, images(query, "q"), images(gallery, "r"), options("i2i"))
        assert (len(found["MCD"].blocks) > 1) == (budget == 1)
        assert zeros_told(found["MCD"]) == [5]
        assert found["MED"].warnings == ()


def test_zero_vectors_of_a_set_ranked_against_itself_are_counted_once() -> None:
    same = images(np.vstack([np.zeros((2, 3)), np.ones((3, 3))]), "i")
    assert zeros_told(rank(same, same, options("i2i", "MCD"))["MCD"]) == [2]


def test_the_diagnostics_of_blocks_add_up() -> None:
    query = images(np.vstack([np.zeros((2, 3)), np.ones((3, 3))]), "q")
    gallery = images(np.vstack([np.zeros((1, 3)), 9 * np.eye(3)]), "r")
    job = replace(plan_ranking(query, gallery, options("i2i", "MCD", "RSCR")), budget=1)
    blocks = [ranked.diagnostics for ranked in rank_blocks(job)]
    assert len(blocks) == 5
    total = sum(blocks, Diagnostics())
    assert total.zero_vectors == 3
    whole = [ranked.diagnostics for ranked in rank_blocks(replace(job, budget=2**28))]
    assert whole == [total]


@pytest.mark.parametrize("tracks", [True, False])
def test_codes_that_are_all_zero_are_a_warning(tracks: bool) -> None:
    rows = np.eye(4) / 2
    query, gallery = (features({"a": rows[:2], "b": rows[2:]}) for _ in range(2))
    chosen = options("t2t" if tracks else "i2i", "RSCR")
    (warning,) = rank(query, gallery, chosen)["RSCR"].warnings
    assert "every code is zero" in warning
    assert rank(query, gallery, changed(chosen, alpha=0.01))["RSCR"].warnings == ()


def test_warnings_concern_their_metric_alone() -> None:
    found = Diagnostics(zero_vectors=3, nonzero_codes=1, unsolved_codes=7)
    told = {
        metric.name: warnings_of(found, metric, options("t2t"))
        for metric in parse_metrics(["minMED", "minMCD", "RSCR"], "t2t")
    }
    assert told["minMED"] == ()
    assert "3 images" in "".join(told["minMCD"])
    assert "7 sparse codes" in "".join(told["RSCR"])
