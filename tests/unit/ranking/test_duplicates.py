"""Gallery items made of the very same images."""

from __future__ import annotations

import numpy as np
import torch
from ranked import features, random_tracks

from vreid_cli.ranking.duplicates import Duplicates, checksums, find_duplicates
from vreid_cli.ranking.tracks import group_tracks


def found_in(tracks: dict[str, np.ndarray]) -> list[int]:
    """For each track the first one equal to it."""
    side = features(tracks)
    items = group_tracks(side, "passage")
    sums = checksums(torch.from_numpy(side.matrix.take(items.rows))).numpy()
    return find_duplicates(side.matrix, items, checksums=sums).first.tolist()


def test_only_equal_tracks_are_duplicates() -> None:
    rng = np.random.default_rng(3)
    tracks = random_tracks(rng, "t", count=5, width=4, longest=3)
    tracks["again"] = tracks["t001"].copy()
    tracks["reversed"] = np.concatenate([tracks["t001"], tracks["t002"]])[::-1].copy()
    tracks["begins alike"] = np.concatenate([tracks["t003"], tracks["t004"]])
    tracks["last"] = tracks["t001"].copy()
    assert found_in(tracks) == [0, 1, 2, 3, 4, 1, 6, 7, 1]


def test_a_block_is_taken_by_its_own_items_and_by_later_ones_like_them() -> None:
    # Items 2, 5 and 9 are like item 1, and 7 is like 3.
    duplicates = Duplicates(np.array([0, 1, 1, 3, 4, 1, 6, 3, 8, 1]))
    assert duplicates.of(0, 4).tolist() == [0, 1, 2, 5, 9, 3, 7]
    assert duplicates.of(4, 7).tolist() == [4, 6]
    assert duplicates.of(7, 10).tolist() == [8]


def test_a_selection_counts_within_itself() -> None:
    duplicates = Duplicates(np.array([0, 1, 1, 3, 4, 1, 6, 3, 8, 1]))
    assert duplicates.select(np.array([2, 3, 5, 7, 8])).first.tolist() == [0, 1, 0, 1, 4]


def test_checksums_tell_rows_of_float16_apart():
    rows = np.random.default_rng(0).standard_normal((20_000, 16)).astype(np.float16).astype(np.float32)
    assert len(np.unique(checksums(torch.from_numpy(rows)).numpy())) == len(rows)


def test_the_same_images_in_another_order_are_another_item():
    rows = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert found_in({"a": rows, "b": rows[::-1], "c": rows}) == [0, 1, 0]
