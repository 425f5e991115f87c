"""One pair computed again: against the oracles, against the ranking, and against what it says of itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import MCD_ABSOLUTE, MED_RELATIVE, TRACK_METRICS, image_distance, residual_norm, track_distance
from ranked import DEFINITIONS, KINDS, Floats, distances, features, options

from vreid_cli.ranking import metrics
from vreid_cli.ranking.metrics import Metric, known_metrics
from vreid_cli.ranking.pairs import PairDistances, explain_pair, image_distances, thin_pair
from vreid_cli.ranking.rank import rank
from vreid_cli.types.rankings import Definition

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(1, 7)


def sides(seed: int, queries: int, items: int, *, kind: str = "normal", width: int = 5) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    one, other = (KINDS[kind](rng, rows, width).astype(np.float32) for rows in (queries, items))
    return one, other


def mean_of_counted(pair: PairDistances) -> float:
    """The value by a walk over the cells."""
    counted = [
        float(pair.cells[row, column])
        for row in range(pair.cells.shape[0])
        for column in range(pair.cells.shape[1])
        for _ in range(pair.counts[row, column])
    ]
    return math.fsum(counted) / len(counted)


@pytest.mark.parametrize("definition", DEFINITIONS)
@settings(max_examples=25)
@given(seed=SEEDS, queries=SIZES, items=SIZES)
def test_each_metric_is_the_oracles_and_the_mean_of_what_counts(
    definition: Definition, seed: int, queries: int, items: int
) -> None:
    query, gallery = sides(seed, queries, items)
    for name in TRACK_METRICS:
        pair = explain_pair(query, gallery, known_metrics("t2t")[name], definition=definition)
        assert pair.value == pytest.approx(track_distance(query, gallery, name, definition), rel=1e-12, abs=1e-12)
        assert pair.value == pytest.approx(mean_of_counted(pair), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("definition", DEFINITIONS)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=5)
@given(seed=SEEDS, queries=SIZES, items=SIZES)
def test_each_value_is_the_rankings(kind: str, definition: Definition, seed: int, queries: int, items: int) -> None:
    query, gallery = sides(seed, queries, items, kind=kind)
    rankings = rank(features({"q": query}), features({"r": gallery}), options("t2t", definition=definition))
    for name, ranking in rankings.items():
        value = explain_pair(query, gallery, known_metrics("t2t")[name], definition=definition).value
        (found,) = distances(ranking).values()
        tolerance = {"rel": MED_RELATIVE} if "MED" in name else {"abs": MCD_ABSOLUTE}
        assert value == pytest.approx(found, **tolerance)


@settings(max_examples=25)
@given(seed=SEEDS, queries=SIZES, items=SIZES)
def test_by_the_paper_each_kept_image_counts_once_for_its_nearest(seed: int, queries: int, items: int) -> None:
    query, gallery = sides(seed, queries, items)
    pair = explain_pair(query, gallery, known_metrics("t2t")["meanMCD50"])
    nearest = [min(image_distance(image, other, "MCD") for other in gallery) for image in query]
    kept = sorted(range(queries), key=nearest.__getitem__)[: queries // 2 + 1]
    assert pair.decisive(0).tolist() == sorted(kept)
    assert pair.counts.sum() == len(kept)
    for row in kept:
        assert pair.counts[row, int(pair.cells[row].argmin())] == 1


@settings(max_examples=25)
@given(seed=SEEDS, queries=SIZES, items=SIZES)
def test_moving_gallery_images_moves_what_counts(seed: int, queries: int, items: int) -> None:
    query, gallery = sides(seed, queries, items)
    order = np.random.default_rng(seed).permutation(items)
    metric = known_metrics("t2t")["medMED50"]
    one, moved = explain_pair(query, gallery, metric), explain_pair(query, gallery[order], metric)
    assert moved.counts.tolist() == one.counts[:, order].tolist()
    assert moved.value == one.value


@settings(max_examples=15)
@given(seed=SEEDS, queries=st.integers(1, 4), items=st.integers(1, 5), alpha=st.sampled_from([0.1, 1.0]))
def test_rscr_is_what_the_codes_leave(seed: int, queries: int, items: int, alpha: float) -> None:
    query, gallery = sides(seed, queries, items, width=8)
    pair = explain_pair(query, gallery, Metric("RSCR", "RSCR"), alpha=alpha)
    assert pair.shows == "code"
    assert not pair.counts.any()
    left = np.linalg.norm(query.astype(np.float64) - pair.cells @ gallery.astype(np.float64))
    assert pair.value == pytest.approx(left, rel=1e-9)
    assert pair.value == pytest.approx(residual_norm(query, gallery, alpha), rel=1e-4)


@pytest.mark.parametrize("distance", ["MED", "MCD"])
@pytest.mark.parametrize("scale", [1.0, 1e30, 1e-30])
def test_cells_are_distances_of_images_of_any_size(distance: str, scale: float) -> None:
    query, gallery = sides(3, 4, 5)
    query[1], gallery[2] = 0, 0
    cells = image_distances(*(side.astype(np.float64) * scale for side in (query, gallery)), distance)
    for i, image in enumerate(query):
        for j, other in enumerate(gallery):
            expected = image_distance(image, other, distance) * (scale if distance == "MED" else 1)
            assert cells[i, j] == pytest.approx(expected, rel=1e-12)


def city_block(query: Any, gallery: Any) -> Any:
    import torch

    return torch.cdist(query, gallery, p=1)


def test_a_distance_of_the_table_is_explained_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(metrics.DISTANCES, "MCB", metrics.Distance("images", "test_pairs:city_block"))
    monkeypatch.setitem(metrics.DISTANCES, "MWT", metrics.Distance("tracks", "test_pairs:nothing"))
    monkeypatch.setattr("vreid_cli.ranking.pairs.load", lambda name: city_block)
    query, gallery = sides(5, 3, 2)
    pair = explain_pair(query, gallery, known_metrics("t2t")["minMCB"])
    assert pair.value == pytest.approx(np.abs(query[:, None] - gallery[None]).sum(axis=2).min(), rel=1e-6)
    whole = explain_pair(query, gallery, Metric("MWT", "MWT"))
    assert whole.value is None
    assert "no single images decide" in whole.spelled


@settings(max_examples=25)
@given(seed=SEEDS, queries=st.integers(1, 30), items=st.integers(1, 30), most=st.integers(1, 30))
def test_long_tracks_are_thinned_to_what_decides_and_others(seed: int, queries: int, items: int, most: int) -> None:
    query, gallery = sides(seed, queries, items)
    pair = explain_pair(query, gallery, known_metrics("t2t")["meanMED50"])
    for side, (kept, count) in enumerate(zip(thin_pair(pair, most), pair.cells.shape, strict=True)):
        assert len(kept) == min(most, count)
        assert len(set(kept.tolist())) == len(kept)
        assert kept.tolist() == sorted(kept.tolist())
        decisive = set(pair.decisive(side).tolist())
        assert (decisive <= set(kept.tolist())) if len(decisive) <= most else (set(kept.tolist()) <= decisive)


def test_the_value_is_spelled_out() -> None:
    query, gallery = np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]), np.array([[0.0, 0.0]])

    def spelled(name: str, definition: Definition = "paper") -> str:
        return explain_pair(query, gallery, known_metrics("t2t")[name], definition=definition).spelled

    assert spelled("meanMED50") == "meanMED50 = (0.0000 + 5.0000) / 2 = 2.5000"
    assert spelled("medMED") == "medMED = 5.0000, between query image 2 and gallery image 1"
    assert spelled("meanMED") == "meanMED = (0.0000 + 5.0000 + 10.00) / 3 = 5.0000"
    assert spelled("meanMED", "released") == "meanMED = 0.0000, between query image 1 and gallery image 1"
    turned = explain_pair(query[::-1], gallery, known_metrics("t2t")["meanMED"], definition="released")
    assert turned.spelled == "meanMED = (0.0000 + 5.0000 + 10.00) / 3 = 5.0000"
    long = explain_pair(np.arange(60.0)[:, None], np.zeros((1, 1)), known_metrics("t2t")["meanMED"]).spelled
    assert "… 48 more …" in long
    assert long.endswith("/ 60 = 29.50")
