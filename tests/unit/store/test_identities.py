"""Tables of identities: what is written is read back, from Parquet and from CSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vreid_cli.errors import DataError
from vreid_cli.store.identities import is_identities, read_identities, read_identity_facts, write_identities
from vreid_cli.types.arrays import text_array
from vreid_cli.types.identities import Identities, TrackTimes
from vreid_cli.types.tracks import Items

NAMES = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=5)
ROWS = st.lists(
    st.tuples(
        st.integers(1, 5),
        NAMES,
        st.none() | NAMES,
        st.none() | st.sampled_from(["001", "c,1", 'a "b"']),
        st.integers(-1, 9),
        st.floats(0, 9) | st.just(np.nan),
    ),
    max_size=5,
)


def made(rows: list[tuple[int, str, str | None, str | None, int, float]]) -> Identities:
    identity, track, vehicle, camera, frame, seconds = zip(*rows, strict=True) if rows else ((),) * 6
    frames, times = np.array(frame, dtype=np.int64), np.array(seconds, dtype=np.float64)
    return Identities(
        Items(text_array(track), text_array(vehicle), text_array(camera)),
        np.array(identity, dtype=np.int32),
        np.arange(len(rows), dtype=np.int64),
        TrackTimes(frames, frames, times, times),
        times,
        times / 2,
        text_array(camera),
        {"metric": "MCD", "threshold": 0.5},
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(rows=ROWS)
def test_what_is_written_is_read_back(
    tmp_path: Path, rows: list[tuple[int, str, str | None, str | None, int, float]]
) -> None:
    found = made(rows)
    paths = write_identities(tmp_path / "x.parquet", found)
    assert [path.name for path in paths] == ["x.parquet", "x.csv"]
    for path in paths:
        assert is_identities(path)
        again = read_identities(path)
        for name in ("ids", "vehicles", "cameras"):
            assert getattr(again.tracks, name).tolist() == getattr(found.tracks, name).tolist()
        assert again.identity.tolist() == found.identity.tolist()
        assert again.images.tolist() == found.images.tolist()
        assert again.split.tolist() == found.split.tolist()
        for name in ("first", "last", "start", "end"):
            np.testing.assert_array_equal(getattr(again.times, name), getattr(found.times, name))
        np.testing.assert_array_equal(again.confidence, found.confidence)
    assert read_identity_facts(paths[0]) == found.facts


def test_what_is_no_table_of_identities_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there are no identities"):
        read_identities(tmp_path / "x.parquet")
    bad = tmp_path / "x.parquet"
    bad.write_bytes(b"PAR1 and nothing else")
    assert not is_identities(bad)
    with pytest.raises(DataError, match="cannot be read"):
        read_identities(bad)
    other = tmp_path / "y.csv"
    other.write_text("identity,name\n1,a\n")
    assert not is_identities(other)
    with pytest.raises(DataError, match="has no column 'track'"):
        read_identities(other)
