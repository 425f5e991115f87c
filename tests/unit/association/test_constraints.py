"""Which pairs can be one vehicle, against a rule written for one pair."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vreid_cli.association.constraints import make_constraints
from vreid_cli.errors import DataError, UsageError
from vreid_cli.types.arrays import text_array
from vreid_cli.types.identities import Clock, TrackTimes, TravelWindow

Track = tuple[str | None, int, int]
CAMERAS = ("a", "b", "c")
TRACKS = st.lists(
    st.tuples(st.sampled_from([*CAMERAS, None]), st.integers(0, 40), st.integers(0, 9)).map(
        lambda one: (one[0], one[1], one[1] + one[2])
    ),
    min_size=1,
    max_size=12,
)
WINDOWS = st.dictionaries(
    st.tuples(st.sampled_from(CAMERAS), st.sampled_from(CAMERAS)),
    st.tuples(st.integers(-10, 20), st.integers(0, 20)).map(lambda one: (one[0], one[0] + one[1])),
    max_size=4,
)


def can_be_one(
    one: Track, other: Track, windows: dict[tuple[str, str], tuple[int, int]], *, other_cameras: bool
) -> bool:
    """The rule for one pair, with one frame a second."""
    if one[0] is not None and one[0] == other[0]:
        if other_cameras:
            return False
        if set(range(one[1], one[2] + 1)) & set(range(other[1], other[2] + 1)):
            return False
    given = [(a, b) for a, b in ((one, other), (other, one)) if (a[0], b[0]) in windows]
    return not given or any(
        windows[a[0], b[0]][0] <= b[1] - a[2] <= windows[a[0], b[0]][1]  # type: ignore[index]
        for a, b in given
    )


@given(tracks=TRACKS, windows=WINDOWS, other_cameras=st.booleans())
@example(tracks=[("a", 0, 3), ("a", 2, 5)], windows={}, other_cameras=False)  # frame 0 is one as any other
@example(tracks=[("a", 0, 0), ("b", 5, 5)], windows={("a", "b"): (5, 5)}, other_cameras=False)  # both ends belong to it
def test_every_pair_is_judged_by_the_rule(
    tracks: list[Track], windows: dict[tuple[str, str], tuple[int, int]], other_cameras: bool
) -> None:
    seen = {camera for camera, *_ in tracks}
    windows = {pair: span for pair, span in windows.items() if set(pair) <= seen}
    if other_cameras and seen == {None}:
        return
    cameras = text_array([camera for camera, *_ in tracks])
    first, last = (np.array([track[k] for track in tracks], dtype=np.int64) for k in (1, 2))
    times = TrackTimes.on_clocks(first, last, cameras=cameras, clocks={camera: Clock(1.0) for camera in CAMERAS})
    travel = [TravelWindow(*pair, *map(float, span)) for pair, span in windows.items()]
    found = make_constraints(cameras, times, which="other" if other_cameras else "all", windows=travel)
    one, other = np.triu_indices(len(tracks), 1)
    wanted = [
        can_be_one(tracks[a], tracks[b], windows, other_cameras=other_cameras) for a, b in zip(one, other, strict=True)
    ]
    assert found.possible(one, other).tolist() == wanted
    assert found.possible(other, one).tolist() == wanted


def test_tracks_without_times_are_free() -> None:
    found = make_constraints(text_array(["a", "a"]), TrackTimes.unknown(2))
    assert found.possible(np.array([0]), np.array([1])).tolist() == [True]


def refused(windows: list[TravelWindow], *, clocks: dict[str, Clock]) -> DataError:
    frames = np.array([1, 2])
    times = TrackTimes.on_clocks(frames, frames, cameras=["a", "b"], clocks=clocks)
    with pytest.raises(DataError) as caught:
        make_constraints(text_array(["a", "b"]), times, windows=windows)
    return caught.value


def test_windows_that_make_no_sense_are_refused_by_their_line() -> None:
    clocks = {"a": Clock(10.0), "b": Clock(10.0)}
    error = refused([TravelWindow("a", "x", 1, 2, "t.csv, line 2")], clocks=clocks)
    assert error.message == "t.csv, line 2: no track is of camera 'x'"
    assert error.hint is not None
    assert "Known: a, b" in error.hint
    error = refused([TravelWindow("a", "b", 3, 2, "t.csv, line 2")], clocks=clocks)
    assert "t.csv, line 2: the shortest time 3 s is above the longest 2 s" in error.message
    rows = [TravelWindow("a", "b", 1, 2, "t.csv, line 2"), TravelWindow("a", "b", 1, 3, "t.csv, line 5")]
    assert "t.csv, line 5: from a to b it contradicts t.csv, line 2 (1 to 2 s)" in refused(rows, clocks=clocks).message
    error = refused([TravelWindow("a", "b", 1, 2, "t.csv, line 2")], clocks={"a": Clock(10.0)})
    assert "the tracks of camera 'b' have no time in seconds" in error.message
    assert error.hint is not None
    assert "[cameras.b]" in error.hint


def test_other_cameras_need_cameras() -> None:
    with pytest.raises(UsageError, match="no camera of any track is known"):
        make_constraints(text_array([None]), TrackTimes.unknown(1), which="other")
