"""Traffic between cameras, against walking over each vehicle's tracks."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vreid_cli.association.travel import count_traffic
from vreid_cli.reports.traffic import plot_traffic, write_traffic
from vreid_cli.types.arrays import text_array
from vreid_cli.types.identities import Clock, Identities, TrackTimes
from vreid_cli.types.tracks import Items

ROWS = st.lists(
    st.tuples(st.integers(1, 4), st.sampled_from(["a", "b", "c", None]), st.integers(1, 50), st.integers(0, 5)),
    max_size=12,
    unique_by=lambda row: row[2],
)
Row = tuple[int, str | None, int, int]


def made(rows: list[Row]) -> Identities:
    identity, cameras, first, length = zip(*rows, strict=True) if rows else ((), (), (), ())
    names = text_array([f"t{k}" for k in range(len(rows))])
    start = np.array(first, dtype=np.int64)
    clocks = {camera: Clock(1.0) for camera in "abc"}
    last = start + np.array(length, dtype=np.int64)
    times = TrackTimes.on_clocks(start, last, cameras=text_array(cameras), clocks=clocks)
    tracks = Items(names, text_array([None] * len(rows)), text_array(cameras))
    ones, unknown = np.ones(len(rows), np.int64), np.full(len(rows), np.nan)
    return Identities(tracks, np.array(identity, dtype=np.int32), ones, times, unknown, unknown, names)


@given(ROWS)
def test_trips_hops_and_times_are_those_of_a_walk(rows: list[Row]) -> None:
    trips: Counter[tuple[str, str]] = Counter()
    hops: Counter[tuple[str, str]] = Counter()
    gaps: dict[tuple[str, str], list[float]] = {}
    once = 0
    for identity in {row[0] for row in rows}:
        way = sorted(
            (first, camera, first + length) for own, camera, first, length in rows if own == identity and camera
        )
        once += len(way) == 1
        if len(way) > 1:
            trips[way[0][1], way[-1][1]] += 1
        for (_, one, end), (start, other, _) in itertools.pairwise(way):
            hops[one, other] += 1
            gaps.setdefault((one, other), []).append(float(start - end))
    found = count_traffic(made(rows))
    pairs = [(one, other) for one in found.cameras for other in found.cameras]
    assert found.trips.reshape(-1).tolist() == [trips[pair] for pair in pairs]
    assert found.hops.reshape(-1).tolist() == [hops[pair] for pair in pairs]
    assert {pair: sorted(seconds.tolist()) for pair, seconds in found.seconds.items()} == {
        pair: sorted(seconds) for pair, seconds in gaps.items()
    }
    assert found.once == once


def test_files_hold_what_was_counted(tmp_path: Path) -> None:
    rows: list[Row] = [
        (1, "a", 1, 1),
        (1, "b", 12, 1),
        (1, "c", 30, 2),
        (2, "a", 3, 1),
        (2, "b", 24, 3),
        (3, "c", 9, 1),
    ]
    matrix, hops = write_traffic(tmp_path / "cars", count_traffic(made(rows)))
    assert list(csv.reader(matrix.open())) == [
        ["from", "a", "b", "c"],
        ["a", "0", "1", "1"],
        ["b", "0", "0", "0"],
        ["c", "0", "0", "0"],
    ]
    read = {(row["from"], row["to"]): row for row in csv.DictReader(hops.open())}
    assert set(read) == {("a", "b"), ("b", "c")}
    assert (read["a", "b"]["vehicles"], float(read["a", "b"]["p50_s"])) == ("2", 15.0)
    assert float(read["b", "c"]["min_s"]) == 17.0


@pytest.mark.parametrize("rows", [[], [(1, "a", 1, 1), (1, "b", 12, 1)]])
def test_the_plot_is_a_file(tmp_path: Path, rows: list[Row]) -> None:
    plot_traffic(tmp_path / "x.png", count_traffic(made(rows)))
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
