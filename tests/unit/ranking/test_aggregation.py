"""From distances between images to distances between tracks, by hand and against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from ranked import DEFINITIONS, distances, features, options

from vreid_cli.ranking.aggregation import aggregate, aggregate_tracks, nearest_image, slot_layout
from vreid_cli.ranking.metrics import AGGREGATIONS
from vreid_cli.ranking.rank import rank
from vreid_cli.types.rankings import Definition


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_the_running_minimum_starts_again_with_each_gallery_image(definition: Definition) -> None:
    # Worked by hand on a line: from the query's 0 and 10 it is 1 and 9 to the gallery's 1, 7 and 3 to its 7.
    query, gallery = {"q": np.array([[0.0], [10.0]])}, {"r": np.array([[1.0], [7.0]])}
    rankings = rank(
        features(query),
        features(gallery),
        options("t2t", "minMED", "meanMED", "medMED", "meanMED50", definition=definition),
    )
    found = {name: distances(ranking)["q", "r"] for name, ranking in rankings.items()}
    by_hand = {
        # To the track 1 and 3; of two values floor(2/2) + 1 = 2 are kept.
        "paper": {"minMED": 1, "meanMED": 2, "medMED": 2, "meanMED50": 2},
        # Noted: 1, 1 for the image at 1; 7, 3 for the image at 7; the three smallest are 1, 1, 3.
        "released": {"minMED": 1, "meanMED": 3, "medMED": 2, "meanMED50": 5 / 3},
    }
    assert found == pytest.approx(by_hand[definition], rel=1e-6)


def test_aggregations_by_hand() -> None:
    # One gallery image at the origin of a line: the distances are the query's values.
    def value(metric: str, *points: float) -> float:
        query = {"q": np.array(points)[:, None]}
        return distances(rank(features(query), features({"r": np.zeros((1, 1))}), options("t2t", metric))[metric])[
            "q", "r"
        ]

    assert value("meanMED", 4, 1, 7) == 4
    assert value("medMED", 9, 1, 2) == 2
    assert value("medMED", 9, 1, 2, 5) == 3.5
    # floor(3/2) + 1 = 2 of three, floor(4/2) + 1 = 3 of four, floor(5/2) + 1 = 3 of five, all of one and two.
    assert value("meanMED50", 9, 1, 2) == 1.5
    assert value("meanMED50", 9, 1, 2, 6) == 3
    assert value("medMED50", 9, 1, 2, 6) == 2
    assert value("medMED50", 9, 8, 1, 2, 6) == 2
    assert value("medMED50", 9, 1, 2) == 1.5
    assert value("meanMED50", 5) == value("medMED50", 5) == 5
    assert value("meanMED50", 5, 7) == value("medMED50", 5, 7) == 6


def test_aggregating_changes_no_distances() -> None:
    values = torch.rand(5, 7)
    before = values.clone()
    queries, items, singles = (slot_layout(np.array(lengths)) for lengths in ([2, 3], [4, 1, 2], [1, 1, 1]))
    aggregate_tracks(values, queries, items, AGGREGATIONS, running=True)
    nearest = nearest_image(values, items, out=torch.empty(5, 3))
    aggregate_tracks(nearest, queries, singles, AGGREGATIONS, running=False)
    assert torch.equal(values, before)


@pytest.mark.parametrize("count", [*range(1, 14), 31, 49, 64, 65, 90])
def test_any_number_of_values(count: int) -> None:
    values: NDArray[np.float32] = np.random.default_rng(count).integers(0, 9, size=(count, 500)).astype(np.float32)
    ordered = np.sort(values, axis=0)
    half = ordered[: count // 2 + 1]
    expected = {
        "min": ordered[0],
        "mean": values.mean(axis=0),
        "med": np.median(values, axis=0),
        "mean50": half.mean(axis=0),
        "med50": np.median(half, axis=0),
    }
    slots = torch.from_numpy(values).unbind(0)
    together = aggregate(slots, expected)
    for name, wanted in expected.items():
        # Alone, only the comparators that this one needs are left.
        (alone,) = aggregate(slots, (name,)).values()
        for found in (together[name], alone):
            np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (2, 3), (3, 5), (5, 2), (7, 4), (6, 6), (8, 8), (13, 5)])
def test_runs_that_rise_are_merged_to_what_sorting_gives(shape: tuple[int, int]) -> None:
    runs, length = shape
    values = (
        torch.rand(runs, length, 50, generator=torch.Generator().manual_seed(0)).round(decimals=1).sort(dim=1).values
    )
    found = aggregate(values.flatten(0, 1).unbind(0), AGGREGATIONS, run=length)
    ordered = np.sort(values.flatten(0, 1).numpy(), axis=0)
    for name, places in AGGREGATIONS.items():
        expected = ordered[list(places(runs * length))].mean(axis=0)
        np.testing.assert_allclose(found[name].numpy(), expected, rtol=1e-6, err_msg=name)
