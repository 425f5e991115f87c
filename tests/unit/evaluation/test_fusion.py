"""Several rankings as one: the known optimum, nothing lost to a ranking that says nothing, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ranked import lists
from scipy.optimize import minimize
from simulated import NEAR, Floats, drawn, scored, true_log_ratio, two_cameras
from sklearn.isotonic import IsotonicRegression

from vreid_cli.errors import DataError
from vreid_cli.evaluation.comparison import compare
from vreid_cli.evaluation.evaluate import evaluate
from vreid_cli.evaluation.fusion import FusedRanking, fuse
from vreid_cli.evaluation.options import EvaluationOptions
from vreid_cli.types.rankings import Ranking

COUNTING = EvaluationOptions(resamples=200)


def two_scores(vehicles: int, seed: int) -> tuple[list[Floats], list[Ranking]]:
    """Two distances of every pair, independent of each other given whether the vehicle is the same."""
    rng, same = np.random.default_rng(seed), np.eye(vehicles, dtype=bool)
    names = [f"v{number:03d}" for number in range(vehicles)]
    # Of another scale and shape: what counts is the ratio that a distance stands for.
    matrices = [drawn(rng, same), drawn(rng, same)]
    shown = [matrices[0], np.exp(matrices[1])]
    pairs = zip(shown, ("meanMCD50", "minMED"), strict=True)
    return matrices, [scored(matrix, names, names, metric=metric) for matrix, metric in pairs]


def table(ranking: Ranking) -> Floats:
    """(Q, G) distances."""
    found = np.full((len(ranking.queries), len(ranking.gallery)), np.nan)
    for block in ranking.blocks:
        found[block.query_index, block.gallery_index] = block.distance
    return found


def auroc(distance: Floats, same: np.ndarray) -> float:
    near, far = distance[same], np.sort(distance[~same])
    return float(1 - np.searchsorted(far, near).mean() / len(far))


def test_two_independent_scores_reach_the_known_optimum() -> None:
    matrices, rankings = two_scores(200, 0)
    same = np.eye(200, dtype=bool)
    fused = fuse(rankings, counting=COUNTING)
    best = -(true_log_ratio(matrices[0]) + true_log_ratio(matrices[1]))
    found = table(fused.ranking)
    alone = [auroc(matrix, same) for matrix in matrices]
    assert auroc(found, same) == pytest.approx(auroc(best, same), abs=0.002)
    assert auroc(found, same) > max(alone)
    optimum = scored(best - best.min(), list(rankings[0].queries.vehicles), list(rankings[0].gallery.vehicles))
    one, other = (evaluate(each, COUNTING) for each in (fused.ranking, optimum))
    difference = compare(one, other)
    assert difference is not None
    assert difference.interval is not None
    assert difference.interval.low <= 0.01
    assert one.mean_ap == pytest.approx(other.mean_ap, abs=0.02)
    assert one.mean_ap is not None
    for ranking in rankings:
        single = evaluate(ranking, COUNTING).mean_ap
        assert single is not None
        assert one.mean_ap > single + 0.02


def logistic(columns: Floats, target: Floats, ridge: float = 0.0) -> Floats:
    """Offset and factors of (m, n) columns that make the (n,) targets likeliest."""
    rows = np.concatenate([np.ones((1, columns.shape[1])), columns])

    def loss(factors: Floats) -> float:
        odds = factors @ rows
        return float((np.logaddexp(0, odds) - target * odds).sum() + ridge * factors @ factors / 2)

    return minimize(loss, np.zeros(len(rows)), method="BFGS", options={"gtol": 1e-7}).x


def ratio(distance: Floats, same: np.ndarray, at: Floats) -> Floats:
    """The log-likelihood ratio at distances: the mean of the isotonic and of Platt's, from (n,) labelled pairs."""
    order = np.argsort(distance)
    x, y = distance[order], same[order].astype(float)
    count, other = y.sum(), (1 - y).sum()
    ends = np.concatenate([[x[0]], x, [x[-1]]]), np.concatenate([[0.0], y, [1.0]])
    share = IsotonicRegression(increasing=False).fit(*ends).predict(x)
    steps = np.log(share / (1 - share)) - np.log((count + 1) / (other + 1))
    offset, slope = logistic((x[None] - 1.5), np.where(y > 0, (count + 1) / (count + 2), 1 / (other + 2)))
    return (np.interp(at, x, steps) + offset + slope * (at - 1.5) - np.log(count / other)) / 2


def test_the_list_of_an_unknown_vehicle_is_that_of_textbook_fits_to_all_others() -> None:
    rng, names = np.random.default_rng(11), [f"v{number:02d}" for number in range(20)]
    same = np.eye(20, dtype=bool)
    whole = [drawn(rng, np.concatenate([same, same[:1]])).astype(np.float32) for _ in range(2)]
    fused = fuse([scored(matrix, [*names, None], names) for matrix in whole], counting=COUNTING)
    known = [matrix[:20].astype(np.float64).reshape(-1) for matrix in whole]
    of_pairs, of_query = (
        np.stack([ratio(one, same.reshape(-1), at) for one, at in zip(known, places, strict=True)])
        for places in (known, [matrix[20].astype(np.float64) for matrix in whole])
    )
    factors = logistic(of_pairs, same.reshape(-1).astype(float), ridge=1e-3)
    assert fused.weights == pytest.approx(factors[1:], rel=1e-3)
    evidence = factors[0] - np.log(1 / 19) + factors[1:] @ of_query
    assert table(fused.ranking)[20] == pytest.approx(np.log1p(np.exp(-evidence)), rel=2e-3)


def test_two_scores_of_one_worth_weigh_alike_and_one_that_says_nothing_costs_little() -> None:
    _, rankings = two_scores(200, 1)
    one, other = fuse(rankings, counting=COUNTING).weights
    assert one == pytest.approx(other, rel=0.3)
    noise = np.random.default_rng(2).normal(NEAR, 0.3, (200, 200)).clip(0)
    names = list(rankings[0].queries.vehicles)
    useless = fuse([rankings[0], scored(noise, names, names, metric="RSCR")], counting=COUNTING)
    assert useless.weights[0] == pytest.approx(1, abs=0.2)
    # Its factor may be any, for its ratios are near 0 everywhere: what counts is what becomes of the lists.
    plain = evaluate(rankings[0], COUNTING).mean_ap
    assert evaluate(useless.ranking, COUNTING).mean_ap == pytest.approx(plain, abs=0.03)


def test_a_ranking_with_itself_keeps_its_order() -> None:
    _, rankings = two_scores(40, 3)
    fused = fuse([rankings[0], rankings[0]], counting=COUNTING)
    before, after = lists(rankings[0]), lists(fused.ranking)
    assert {q: [item for item, *_ in rows] for q, rows in after.items()} == {
        q: [item for item, *_ in rows] for q, rows in before.items()
    }
    for rows in after.values():
        assert [rank for _, rank, _ in rows] == list(range(1, 41))
        distances = [distance for *_, distance in rows]
        assert distances == sorted(distances)
        assert distances[0] >= 0


def test_the_order_of_queries_and_items_in_a_file_does_not_matter() -> None:
    _, (one, other) = two_scores(30, 4)
    turned = np.arange(30)[::-1]
    (block,) = other.blocks
    items = {side: getattr(other, side) for side in ("queries", "gallery")}
    moved = {side: type(part)(*(column[turned] for column in vars(part).values())) for side, part in items.items()}
    block = replace(block, query_index=turned[block.query_index], gallery_index=turned[block.gallery_index])
    shuffled = replace(other, blocks=(block,), **moved)
    assert lists(fuse([one, shuffled], counting=COUNTING).ranking) == lists(
        fuse([one, other], counting=COUNTING).ranking
    )


def test_a_query_is_weighed_without_its_own_vehicle() -> None:
    _, rankings = two_scores(30, 5)
    before = fuse(rankings, counting=COUNTING)
    # One vehicle that contradicts all others: its own list is that of the fit without it.
    odd = [replace(ranking, blocks=tuple(_with_distance(ranking, 0, 0))) for ranking in rankings]
    after = fuse(odd, counting=COUNTING)
    changed = [item for item in lists(before.ranking)["q0"] if item[0] != "g0"]
    assert [item for item, *_ in changed] == [item for item, *_ in lists(after.ranking)["q0"] if item != "g0"]
    assert [round(d, 5) for *_, d in changed] == [round(d, 5) for i, _, d in lists(after.ranking)["q0"] if i != "g0"]
    assert before.weights != after.weights


def test_a_query_is_weighed_without_what_others_have_to_do_with_its_vehicle() -> None:
    _, rankings = two_scores(30, 5)
    # What the queries of all other vehicles say of the first one's item.
    odd = [_moved(ranking, slice(1, None), 0) for ranking in rankings]
    before, after = (lists(fuse(each, counting=COUNTING).ranking) for each in (rankings, odd))
    assert before["q0"] == after["q0"]
    assert [row for row in before["q1"] if row[0] != "g0"] != [row for row in after["q1"] if row[0] != "g0"]


def _moved(ranking: Ranking, queries: slice, item: int) -> Ranking:
    matrix = table(ranking)
    matrix[queries, item] = 0.3
    names = list(ranking.queries.vehicles)
    return replace(ranking, blocks=scored(matrix, names, names).blocks)


def _with_distance(ranking: Ranking, query: int, item: int) -> Any:
    matrix = table(ranking)
    matrix[query, item] = matrix.max() * 1.5
    names = list(ranking.queries.vehicles)
    return scored(matrix, names, names).blocks


def test_an_unlabelled_query_is_none_of_a_vehicle_that_is_called_none() -> None:
    rng, same = np.random.default_rng(0), np.eye(60, dtype=bool)
    matrices = [drawn(rng, same), drawn(rng, same)]

    def fused(called: str) -> Floats:
        names = [called, *(f"v{number:03d}" for number in range(59))]
        queries = [*names[:-1], None]
        return table(fuse([scored(matrix, queries, names) for matrix in matrices], counting=COUNTING).ranking)

    np.testing.assert_array_equal(fused("None"), fused("Nobody"))


def test_facts_say_what_was_fused_and_only_what_both_share() -> None:
    _, (one, other) = two_scores(30, 6)
    found: FusedRanking = fuse([one, other], counting=COUNTING)
    facts = found.ranking.facts
    assert facts.metric == "meanMCD50+minMED"
    assert facts.identity == one.facts.identity
    assert facts.text("fusion").startswith("meanMCD50 × ")
    assert len(found.fold_weights) == 10
    elsewhere = replace(other, facts=replace(other.facts, gallery_identity={"architecture": "vgg16"}, weights="veri"))
    facts = fuse([one, elsewhere], counting=COUNTING).ranking.facts
    assert facts.identity is None
    assert "vgg16 veri minMED × " in facts.text("fusion")


@pytest.mark.parametrize(
    ("rankings", "message"),
    [
        ([two_cameras(20)], "one ranking alone cannot be fused"),
        ([two_cameras(20), two_cameras(21)], "differ in their queries, such as q20"),
        ([two_cameras(20), two_cameras(20, coverage="positives")], "does not list every gallery item"),
        ([two_cameras(9), two_cameras(9, 1)], "shows 9 vehicles twice"),
        ([scored(np.ones((20, 20)), [None] * 20, ["a"] * 20)] * 2, "no query says which vehicle it shows"),
    ],
)
def test_what_cannot_be_fused_is_refused(rankings: list[Ranking], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fuse(rankings)
