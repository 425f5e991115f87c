"""Constrained average linkage against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from partitions import link_by_brute_force, silhouette_by_brute_force
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from vreid_cli.association.confidence import silhouettes
from vreid_cli.association.linkage import SparsePairs, agglomerate

SEEDS = st.integers(0, 2**32 - 1)


class Case:
    """Random distances, many of them equal, and pairs that are impossible."""

    def __init__(self, seed: int, *, items: int, levels: int = 6, excluded: float = 0.2) -> None:
        rng = np.random.default_rng(seed)
        # Eighths and means of few of them are exact, so that ties are ties whatever the order of summing.
        upper = np.triu(rng.integers(0, levels, size=(items, items)), 1) / 8
        self.distance = (upper + upper.T).astype(np.float32)
        cannot = np.triu(rng.random((items, items)) < excluded, 1)
        self.cannot = cannot | cannot.T

    def possible(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return ~self.cannot[one, other]

    def pairs(self, reach: float) -> SparsePairs:
        keep = np.triu((self.distance <= reach) & ~self.cannot, 1)
        one, other = (ends.astype(np.int32) for ends in np.nonzero(keep))
        return SparsePairs(len(self.distance), one, other, self.distance[one, other], reach)


CASES = st.builds(
    Case,
    SEEDS,
    items=st.integers(1, 14),
    levels=st.sampled_from([2, 4, 9]),
    excluded=st.sampled_from([0.0, 0.1, 0.3, 0.7]),
)


@given(case=CASES, threshold=st.sampled_from([0.0, 0.125, 0.25, 0.5]), reach=st.sampled_from([1.5, 2.0, 8.0]))
def test_it_is_what_brute_force_finds(case: Case, threshold: float, reach: float) -> None:
    most = threshold * reach or 1 / 64
    found = agglomerate(case.pairs(most), threshold=threshold, possible=case.possible).tolist()
    wanted = link_by_brute_force(
        case.distance, threshold=threshold, reach=most, possible=lambda a, b: not case.cannot[a, b]
    )
    assert found == wanted


@given(case=CASES, threshold=st.floats(0, 1))
def test_no_cluster_holds_an_impossible_pair(case: Case, threshold: float) -> None:
    labels = agglomerate(case.pairs(2 * threshold + 0.01), threshold=threshold, possible=case.possible)
    together = labels[:, None] == labels
    assert not (together & case.cannot).any()


@given(seed=SEEDS, items=st.integers(2, 40), threshold=st.floats(0.1, 0.9))
def test_without_constraints_it_is_scipys_average_linkage(seed: int, items: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    points = rng.random((items, 2)).astype(np.float32)
    distance = np.linalg.norm(points[:, None] - points, axis=2).astype(np.float32)
    one, other = (ends.astype(np.int32) for ends in np.triu_indices(items, 1))
    far = float(distance.max()) + 1
    found = agglomerate(
        SparsePairs(items, one, other, distance[one, other], far),
        threshold=threshold,
        possible=lambda a, b: np.ones(len(a), dtype=bool),
    )
    tree = linkage(squareform(distance.astype(np.float64), checks=False), "average")
    if np.abs(tree[:, 2] - threshold).min() > 1e-6:
        wanted = fcluster(tree, threshold, "distance")
        assert ((found[:, None] == found) == (wanted[:, None] == wanted)).all()


@given(case=CASES, threshold=st.sampled_from([0.125, 0.25, 0.5]))
def test_the_order_of_the_pairs_does_not_matter(case: Case, threshold: float) -> None:
    pairs = case.pairs(2 * threshold)
    order = np.random.default_rng(0).permutation(len(pairs.one))
    mixed = SparsePairs(pairs.count, pairs.other[order], pairs.one[order], pairs.value[order], pairs.reach)
    found, again = (agglomerate(p, threshold=threshold, possible=case.possible) for p in (pairs, mixed))
    assert found.tolist() == again.tolist()


@given(case=CASES, threshold=st.sampled_from([0.125, 0.25, 0.5]))
def test_confidence_is_the_silhouette_of_distances_up_to_the_reach(case: Case, threshold: float) -> None:
    pairs = case.pairs(2 * threshold)
    labels = agglomerate(pairs, threshold=threshold, possible=case.possible)
    capped = np.where(case.cannot, pairs.reach, np.minimum(case.distance, pairs.reach))
    wanted = [silhouette_by_brute_force(capped, labels.tolist(), item) for item in range(pairs.count)]
    if len(set(labels.tolist())) > 1:
        np.testing.assert_allclose(silhouettes(pairs, labels), wanted, rtol=1e-6, atol=1e-9)


def test_far_pairs_of_a_large_cluster_count_as_the_reach() -> None:
    # 0 and 1 are one; 2 is near 0 and far from 1: (0.2 + 0.6) / 2 is not within 0.3, (0.2 + 10) / 2 even less.
    distance = np.array([[0, 0.1, 0.2], [0.1, 0, 10], [0.2, 10, 0]], dtype=np.float32)
    one, other = np.array([0, 0], dtype=np.int32), np.array([1, 2], dtype=np.int32)

    def cut(reach: float) -> list[int]:
        pairs = SparsePairs(3, one, other, distance[one, other], reach)
        return agglomerate(pairs, threshold=0.3, possible=lambda a, b: np.ones(len(a), dtype=bool)).tolist()

    assert cut(0.6) == [0, 0, 1]
    assert cut(0.35) == [0, 0, 0]


@pytest.mark.parametrize("items", [0, 1])
def test_few_items(items: int) -> None:
    nothing = np.empty(0, dtype=np.int32)
    pairs = SparsePairs(items, nothing, nothing, nothing.astype(np.float32), 1.0)
    found = agglomerate(pairs, threshold=0.5, possible=lambda a, b: np.ones(len(a), dtype=bool))
    assert found.tolist() == [0] * items
