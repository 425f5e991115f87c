"""Rankings by candidates: the exact metric on what an index proposes, compared with whole rankings and by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import oracles
import pytest
from ranked import DEFINITIONS, labelled_sides, lists, random_tracks
from ranked import features as features_of

import vreid_cli as vreid
from vreid_cli.errors import DataError, UsageError
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.rankings import Definition, Ranking, Task

TRACKS = ("meanMCD50", "minMED", "RSCR")
IMAGES = ("MCD", "MED")


def indexes(gallery: FeatureSet) -> list[vreid.ImageIndex]:
    both = ("cosine", "euclidean")
    return [vreid.build_index(gallery, vreid.IndexOptions(kind="flat", distance=one)) for one in both]


def sides(seed: int = 3, *, width: int = 12) -> tuple[FeatureSet, FeatureSet]:
    rng = np.random.default_rng(seed)
    query, gallery = (random_tracks(rng, prefix, count=n, width=width) for prefix, n in (("q", 9), ("r", 60)))
    return features_of(query), features_of(gallery)


def names_of(features: FeatureSet, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """What images of either side belong to: query and gallery item."""
    names = features.image_id if task == "i2i" else features.track_id
    return (features.track_id if task == "t2t" else features.image_id), names


def nearest_by_hand(
    query: FeatureSet, gallery: FeatureSet, task: Task, *, cosine: bool, count: int
) -> dict[str, set[str]]:
    """Each query's items with the nearest images, by a loop."""
    one, other = (side.matrix.take(np.arange(len(side))).astype(np.float64) for side in (query, gallery))
    if cosine:
        one, other = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (one, other))
    apart = np.linalg.norm(one[:, None] - other[None], axis=2)
    owners, items = names_of(query, task)[0], names_of(gallery, task)[1]
    found = {}
    for name in dict.fromkeys(owners):
        best = {item: apart[owners == name][:, items == item].min() for item in dict.fromkeys(items)}
        found[name] = set(sorted(best, key=lambda item: best[item])[:count])
    return found


def ranked(query: FeatureSet, gallery: FeatureSet, metrics: Sequence[str], **options: object) -> dict[str, Ranking]:
    chosen = vreid.RankingOptions(metric=tuple(metrics), **options)
    return vreid.rank(query, gallery, chosen, indexes=indexes(gallery))


@pytest.mark.parametrize("task", ["t2t", "i2t", "i2i"])
def test_the_nearest_items_are_ranked_as_they_are_among_all(task: Task) -> None:
    query, gallery = sides()
    metrics = TRACKS if task == "t2t" else IMAGES
    whole, some = (ranked(query, gallery, metrics, task=task, candidates=n) for n in (None, 7))
    for metric in metrics:
        expected = nearest_by_hand(query, gallery, task, cosine="MED" not in metric, count=7)
        own, all_of = lists(some[metric]), lists(whole[metric])
        assert own.keys() == all_of.keys() == expected.keys()
        for name, rows in own.items():
            assert {item for item, _, _ in rows} == expected[name]
            among = [(item, distance) for item, _, distance in all_of[name] if item in expected[name]]
            assert [item for item, _, _ in rows] == [item for item, _ in among]
            assert [rank for _, rank, _ in rows] == list(range(1, 8))
            np.testing.assert_allclose([d for *_, d in rows], [d for _, d in among], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_almost_all_candidates_of_whole_numbers_rank_bit_for_bit_as_all(definition: Definition) -> None:
    # Squared distances of whole numbers are exact however they are computed; many are equal.
    rng = np.random.default_rng(8)
    query, gallery = (
        features_of({f"{p}{i:02d}": rng.integers(0, 3, (rng.integers(1, 5), 6)) for i in range(n)})
        for p, n in (("q", 8), ("r", 50))
    )
    metrics = ("minMED", "medMED50")
    whole, some = (ranked(query, gallery, metrics, definition=definition, candidates=n) for n in (None, 49))
    for metric in metrics:
        for name, rows in lists(some[metric]).items():
            left = {item for item, _, _ in rows}
            assert len(left) == 49
            expected = [(item, distance) for item, _, distance in lists(whole[metric])[name] if item in left]
            assert [(item, distance) for item, _, distance in rows] == expected


def test_as_many_candidates_as_items_are_the_exact_ranking() -> None:
    query, gallery = labelled_sides()
    for count in (len(set(gallery.track_id)), 10_000):
        whole, same = (ranked(query, gallery, ("meanMCD50",), candidates=n)["meanMCD50"] for n in (None, count))
        assert same.facts == whole.facts
        for one, other in zip(same.blocks, whole.blocks, strict=True):
            for column in vars(one):
                np.testing.assert_array_equal(getattr(one, column), getattr(other, column))


def test_facts_say_how_many_candidates_there_were_and_cut_the_scores() -> None:
    query, gallery = labelled_sides()
    ranking = ranked(query, gallery, ("minMED",), candidates=5)["minMED"]
    assert (ranking.facts.candidates, ranking.facts.coverage) == (5, "top-k")
    assert "candidates 5" in ranking.facts.in_words()
    found = vreid.evaluate(ranking)
    assert (found.mean_ap, found.mean_inp, found.cmc[20]) == (None, None, None)
    assert found.cmc[1] is not None
    assert any("5 candidates of an index" in warning for warning in found.warnings)


def test_candidates_come_from_other_cameras_where_only_those_are_ranked() -> None:
    query, gallery = labelled_sides()
    ranking = ranked(query, gallery, ("minMED",), candidates=6, cameras="other")["minMED"]
    whole = ranked(query, gallery, ("minMED",), cameras="other")["minMED"]
    lengths = {name: min(6, len(rows)) for name, rows in lists(whole).items()}
    assert {name: len(rows) for name, rows in lists(ranking).items()} == lengths


@pytest.mark.parametrize("metric", ["meanMED50", "minMCD"])
def test_each_query_is_re_ranked_with_its_candidates(metric: str) -> None:
    query, gallery = sides()
    numbers = {"k1": 4, "k2": 2, "lambda_value": 0.3}
    plain = ranked(query, gallery, (metric,), candidates=9)[metric]
    again = ranked(query, gallery, (metric,), candidates=9, rerank=True, **numbers)[metric]
    assert again.facts.rerank == {**numbers, "candidates": 9}

    def images(side: FeatureSet, track: str) -> np.ndarray:
        return side.matrix.take(np.flatnonzero(np.asarray(side.track_id) == track)).astype(np.float64)

    for name, rows in lists(again).items():
        items = [item for item, _, _ in lists(plain)[name]]
        assert {item for item, _, _ in rows} == set(items)
        pool = [images(query, name), *(images(gallery, item) for item in items)]
        between = np.array([[oracles.track_distance(a, b, metric, "paper") for b in pool] for a in pool])
        (expected,) = oracles.rerank(between, 1, **numbers)
        found = {item: distance for item, _, distance in rows}
        np.testing.assert_allclose([found[item] for item in items], expected, atol=1e-4)
        assert [distance for _, _, distance in rows] == sorted(found.values())


def test_of_the_candidates_the_nearest_are_listed() -> None:
    query, gallery = sides()
    some, few = (ranked(query, gallery, ("minMED",), candidates=9, top_k=k)["minMED"] for k in (None, 4))
    assert lists(few) == {name: rows[:4] for name, rows in lists(some).items()}


def test_what_does_not_go_together_is_refused() -> None:
    query, gallery = sides()
    options = vreid.RankingOptions(candidates=5)
    with pytest.raises(UsageError, match="there is no index for the cosine distance"):
        vreid.rank(query, gallery, options)
    with pytest.raises(DataError, match=r"the index holds 3 images, the gallery \d+"):
        vreid.rank(query, gallery, options, indexes=indexes(gallery.select(np.arange(3))))
