"""Batches of vehicles and images, against their definition."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vreid_cli.errors import DataError, UsageError
from vreid_cli.training.batches import check_batches, plan_epoch, random_source
from vreid_cli.training.options import TrainingOptions


@given(
    counts=st.lists(st.integers(2, 9), min_size=4, max_size=20),
    per_vehicle=st.integers(2, 4),
    vehicles=st.integers(2, 4),
    seed=st.integers(0, 99),
)
def test_a_batch_holds_k_images_of_each_of_p_vehicles(counts, per_vehicle, vehicles, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    size = {"batch_size": per_vehicle * vehicles, "per_vehicle": per_vehicle}
    batches = plan_epoch(labels, **size, pieces=1, random=random_source(seed))
    assert batches
    seen: Counter[int] = Counter()
    for batch in batches:
        classes = labels[batch].reshape(vehicles, per_vehicle)
        assert (classes == classes[:, :1]).all()
        assert len(set(classes[:, 0])) == vehicles
        for row, label in zip(batch.reshape(vehicles, per_vehicle), classes[:, 0], strict=True):
            # Only vehicles with fewer than K images repeat one within a batch.
            assert len(set(row)) == min(per_vehicle, counts[label])
        seen.update(batch.tolist())
    # No image comes oftener than filling up a vehicle's last hand explains.
    assert max(seen.values()) <= 1 + -(-per_vehicle // 2)
    left = [
        label for label, count in enumerate(counts) if sum(seen[row] for row in np.flatnonzero(labels == label)) < count
    ]
    assert len(left) < vehicles, "P vehicles still had images, so there was another batch in them"


@given(count=st.integers(4, 60), size=st.integers(2, 12), pieces=st.integers(1, 3), seed=st.integers(0, 9))
def test_images_in_random_order_come_once_an_epoch(count, size, pieces, seed):
    labels = np.zeros(count, dtype=np.int64)
    batches = plan_epoch(labels, batch_size=size * pieces, per_vehicle=0, pieces=pieces, random=random_source(seed))
    rows = [row for batch in batches for row in batch.tolist()]
    assert len(set(rows)) == len(rows)
    assert all(len(batch) % pieces == 0 and len(batch) >= 2 * pieces for batch in batches)
    assert all(len(batch) == size * pieces for batch in batches[:-1])
    assert count - len(rows) < 2 * pieces + pieces


def test_epochs_differ_and_the_same_epoch_is_the_same():
    labels = np.repeat(np.arange(6), 4)
    for per_vehicle in (0, 2):
        plans = [
            np.concatenate(
                plan_epoch(labels, batch_size=8, per_vehicle=per_vehicle, pieces=1, random=random_source(1, n))
            )
            for n in (1, 1, 2)
        ]
        assert (plans[0] == plans[1]).all()
        assert plans[0].tolist() != plans[2].tolist()


@pytest.mark.parametrize(
    ("counts", "size", "per_vehicle", "passes", "processes", "error", "expected"),
    [
        ([3, 1, 3, 1], 4, 2, 1, 1, DataError, "2 of 4 have one: v1, v3"),
        ([3], 4, 0, 1, 1, DataError, "1 vehicle"),
        ([3, 3], 6, 2, 1, 1, UsageError, "3 vehicles x 2 images: there are 2"),
        ([3, 3, 3], 5, 2, 1, 1, UsageError, "not two vehicles or more with 2 images each"),
        ([3, 3, 3], 2, 2, 1, 1, UsageError, "not two vehicles or more"),
        ([3, 3, 3, 3], 12, 4, 2, 1, UsageError, "for each of 2 forward passes"),
        ([3, 3], 7, 0, 2, 1, UsageError, "cannot be divided into 2 equal pieces"),
        ([3, 3], 7, 0, 1, 2, UsageError, "2 processes x 1 pass,"),
        ([3, 3, 3, 3], 4, 2, 2, 2, UsageError, "4 equal pieces of two"),
        ([1, 1], 8, 0, 2, 1, DataError, "2 images cannot fill 2 pieces"),
    ],
)
def test_what_makes_no_batches_is_refused(counts, size, per_vehicle, passes, processes, error, expected):
    labels = np.repeat(np.arange(len(counts)), counts)
    names = [f"v{k}" for k in range(len(counts))]
    options = TrainingOptions(batch_size=size, per_vehicle=per_vehicle, accumulate=passes)
    with pytest.raises(error, match=expected) as caught:
        check_batches(names, labels, options=options, processes=processes)
    assert caught.value.hint or error is DataError


def test_the_hint_about_batches_is_right():
    labels = np.repeat(np.arange(5), 3)
    names = [f"v{k}" for k in range(5)]

    def options(size: int) -> TrainingOptions:
        return TrainingOptions(batch_size=size, per_vehicle=2, accumulate=2)

    with pytest.raises(UsageError) as caught:
        check_batches(names, labels, options=options(24), processes=1)
    best = int(str(caught.value.hint).rpartition(" ")[2])
    assert best == 8
    check_batches(names, labels, options=options(best), processes=1)
