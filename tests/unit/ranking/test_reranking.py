"""k-reciprocal re-ranking against the same algorithm in dense matrices and sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from ranked import table, within

from vreid_cli import FeatureSet, RankingOptions, evaluate, rank
from vreid_cli.ranking import reranking

Floats = NDArray[np.floating]
#: The mixed distances lie between 0 and 1 and come from float32.
TOLERANCE = 2e-6


def vehicles(rng: np.random.Generator, count: int, *, kinds: int, width: int = 8) -> tuple[Floats, NDArray[np.int64]]:
    centres = rng.normal(size=(kinds, width))
    kind = rng.integers(0, kinds, size=count)
    return (centres[kind] + 0.6 * rng.normal(size=(count, width))).astype(np.float32), kind


def named(rows: Floats, start: int, kinds: NDArray[np.int64] | None = None) -> FeatureSet:
    names = [f"i{start + index:04d}" for index in range(len(rows))]
    labels = None if kinds is None else [str(kind) for kind in kinds]
    cameras = None if kinds is None else [f"c{start + index}" for index in range(len(rows))]
    return FeatureSet.from_arrays(rows, track_id=names, image_id=names, vehicle_id=labels, camera_id=cameras)


def distances(one: Floats, metric: str) -> Floats:
    return np.array([[oracles.image_distance(a, b, metric) for b in one] for a in one])


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(1, 9),
    gallery=st.integers(1, 40),
    k1=st.integers(1, 25),
    k2=st.integers(1, 9),
    weight=st.sampled_from([0.0, 0.3, 1.0]),
    metric=st.sampled_from(["MED", "MCD"]),
    budget=st.sampled_from([1, 2**30]),
)
def test_images_agree_with_the_oracle(
    seed: int, queries: int, gallery: int, k1: int, k2: int, weight: float, metric: str, budget: int
) -> None:
    rows, _ = vehicles(np.random.default_rng(seed), queries + gallery, kinds=5)
    chosen = RankingOptions(task="i2i", metric=(metric,), rerank=True, k1=k1, k2=k2, lambda_value=weight)
    found = within(budget, named(rows[:queries], 0), named(rows[queries:], queries), chosen)[metric]
    between = distances(rows, metric)
    np.fill_diagonal(between, 0)
    expected = oracles.rerank(between, queries, k1=k1, k2=k2, lambda_value=weight)
    np.testing.assert_allclose(table(found), expected, atol=TOLERANCE)


def test_small_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = vehicles(np.random.default_rng(1), 90, kinds=6)
    chosen = RankingOptions(task="i2i", metric=("MED",), rerank=True)
    whole = table(rank(named(rows[:20], 0), named(rows[20:], 20), chosen)["MED"])
    monkeypatch.setattr(reranking, "_PAIRS", 7)
    pieces = table(rank(named(rows[:20], 0), named(rows[20:], 20), chosen)["MED"])
    np.testing.assert_allclose(pieces, whole, atol=1e-7)


def test_distances_that_were_not_kept_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    rows, _ = vehicles(rng, 160, kinds=20)
    # Tracks of one to three images: the distance of two is not symmetric. Two are alike.
    rows[7:9] = rows[20:22]
    ids = [f"t{index:03d}" for index in np.sort(rng.integers(0, 80, size=160))]
    sides = [FeatureSet.from_arrays(rows[part], track_id=ids[part]) for part in (slice(0, 40), slice(40, 160))]
    chosen = RankingOptions(metric=("meanMED", "minMCD"), rerank=True, k1=8, k2=3)
    with_all = within(1, *sides, chosen)
    monkeypatch.setattr(reranking, "_KEPT", 1)
    computed: list[int] = []

    def spy(pool: Any, pairs: NDArray[np.int64]) -> Any:
        computed.append(len(pairs))
        return compute(pool, pairs)

    compute = reranking._compute
    monkeypatch.setattr(reranking, "_compute", spy)
    with_nearest = within(1, *sides, chosen)
    assert computed[0] > 20
    for metric, ranking in with_all.items():
        np.testing.assert_allclose(table(with_nearest[metric]), table(ranking), atol=1e-6)


def test_tracks_by_several_metrics_at_once() -> None:
    rng = np.random.default_rng(2)
    tracks = [vehicles(rng, int(rng.integers(1, 5)), kinds=1)[0] for _ in range(30)]
    sides = [
        FeatureSet.from_arrays(
            np.concatenate(tracks[part]),
            track_id=[f"t{index:02d}" for index in range(30)[part] for _ in tracks[index]],
        )
        for part in (slice(0, 8), slice(8, 30))
    ]
    metrics = ("meanMED50", "medMCD")
    found = rank(*sides, RankingOptions(metric=metrics, rerank=True, k1=6, k2=3))
    for metric in metrics:
        # Between tracks the distance is not symmetric: row i is from i.
        between = np.array([[oracles.paper_distance(a, b, metric) for b in tracks] for a in tracks])
        expected = oracles.rerank(between, 8, k1=6, k2=3, lambda_value=0.3)
        np.testing.assert_allclose(table(found[metric]), expected, atol=TOLERANCE)
        assert found[metric].facts.rerank == {"k1": 6, "k2": 3, "lambda_value": 0.3}


def test_items_that_are_all_alike() -> None:
    rows = np.ones((12, 4), dtype=np.float32)
    found = rank(
        named(rows[:3], 0),
        named(rows[3:], 3),
        RankingOptions(task="i2i", metric=("MED",), rerank=True),
    )["MED"]
    assert np.isfinite(table(found)).all()
    assert np.ptp(table(found)) == 0


def test_neighbours_help_where_single_distances_do_not() -> None:
    rows, kinds = vehicles(np.random.default_rng(3), 240, kinds=12, width=6)
    chosen: dict[str, Any] = {"task": "i2i", "metric": ("MED",)}
    sides = named(rows[:40], 0, kinds[:40]), named(rows[40:], 40, kinds[40:])
    plain, again = (evaluate(rank(*sides, RankingOptions(**chosen, rerank=again))["MED"]) for again in (False, True))
    assert plain.mean_ap is not None
    assert again.mean_ap is not None
    assert again.mean_ap > plain.mean_ap + 0.02


@pytest.mark.parametrize("limits", [{"top_k": 4}, {"threshold": 0.5}, {"cameras": "other"}])
def test_limits_apply_to_the_new_ranks(limits: dict[str, Any]) -> None:
    rows, _ = vehicles(np.random.default_rng(4), 60, kinds=6)
    sides = named(rows[:10], 0), named(rows[10:], 10)
    chosen: dict[str, Any] = {"task": "i2i", "metric": ("MED",), "rerank": True}
    whole = table(rank(*sides, RankingOptions(**chosen))["MED"])
    cut = rank(*sides, RankingOptions(**chosen, **limits))["MED"]
    for block in cut.blocks:
        np.testing.assert_array_equal(whole[block.query_index, block.gallery_index].astype(np.float32), block.distance)
    listed = sum(len(block.rank) for block in cut.blocks)
    expected = {"top_k": 40, "threshold": int((whole <= 0.5).sum()), "cameras": whole.size}
    assert listed == expected[next(iter(limits))]
