"""Processes that decode: how many, and that they die with their parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

import pytest

from vreid_cli.errors import StoreError
from vreid_cli.runtime.workers import choose_workers, explain_dead_workers, follow_parent


@pytest.mark.parametrize(
    ("cores", "on_cpu", "training", "workers"),
    [
        (2, True, False, 0),  # between batches: the network's threads wait for each other
        (2, True, True, 1),
        (4, True, False, 1),
        (32, True, False, 4),
        (2, False, False, 2),
        (64, False, False, 16),
    ],
)
def test_workers_leave_the_cores_to_the_network(
    monkeypatch: pytest.MonkeyPatch, cores: int, on_cpu: bool, training: bool, workers: int
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cores)))
    assert choose_workers("auto", images=10_000, on_cpu=on_cpu, training=training) == workers


def test_a_number_is_a_number_and_few_images_need_none():
    assert choose_workers(3, images=1, on_cpu=True) == 3
    assert choose_workers("auto", images=10, on_cpu=False) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers inherit nothing")
def test_workers_die_with_their_parent(tmp_path: Path):
    # One that lived on would hold the run's lock, and the same command typed again would be refused.
    asked = tmp_path / "asked"
    child = os.fork()
    if child == 0:
        follow_parent(0)
        found = ctypes.c_int()
        ctypes.CDLL(None).prctl(2, ctypes.byref(found))  # PR_GET_PDEATHSIG
        asked.write_text(f"{found.value} {signal.getsignal(signal.SIGINT)!r}")
        os._exit(0)
    os.waitpid(child, 0)
    assert asked.read_text() == f"{int(signal.SIGKILL)} {signal.SIG_IGN!r}"


def test_an_error_of_a_worker_comes_without_its_traceback() -> None:
    told = "Caught StoreError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  ...\n"
    with pytest.raises(StoreError) as caught, explain_dead_workers(kept="parts are kept"):
        raise StoreError(f"{told}vreid_cli.errors.StoreError: s3://b/1.jpg: the store cannot be reached\n")
    assert caught.value.message == "s3://b/1.jpg: the store cannot be reached"
    assert "parts are kept" in str(caught.value.hint)
    with pytest.raises(StoreError, match=r"^s3://b/1.jpg: no permission$"), explain_dead_workers(kept=""):
        raise StoreError("s3://b/1.jpg: no permission")
