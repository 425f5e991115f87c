"""Where the time goes."""

from __future__ import annotations

import time

import pytest

from vreid_cli.extraction.timings import Timings


def test_seconds_add_up_by_stage(monkeypatch: pytest.MonkeyPatch):
    clock = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    timings = Timings(workers=2)
    with timings.on("wait"):
        pass
    with pytest.raises(KeyError), timings.on("wait"):
        raise KeyError
    with timings.on("compute"):
        pass
    assert (timings.wait, timings.compute, timings.write, timings.main) == (2, 1, 0, 3)


def test_what_is_taken_is_counted_once():
    timings = Timings(1, 2, 3, 4, workers=2)
    assert timings.take() == Timings(1, 2, 3, 4, workers=2)
    assert timings == Timings(workers=2)
    assert Timings(1, 2, 3, 4, 5) + Timings(10, 20, 30, 40, 2) == Timings(11, 22, 33, 44, 5)
