"""What all tests share: the released sample's folder, and Hypothesis' profile."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
#: Scripts to run by hand; pytest need not import them to look for examples.
collect_ignore = ["benchmarks"]

# The same examples in every run: a failure then belongs to the change that was made, not to luck.
settings.register_profile("vreid", deadline=None, derandomize=True, database=None)
settings.load_profile("vreid")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the authors' released sample and VeRi's lists; it is no part of the repository."""
    folder = Path(os.environ.get("VREID_SHARED") or ROOT.parent / "shared")
    if not (folder / "reference").is_dir() or not (folder / "veri_lists").is_dir():
        message = f"no released sample and VeRi lists in {folder}: name their folder with VREID_SHARED"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """Sees the program's log even if a command ran before in this process, which keeps it to stderr."""
    monkeypatch.setattr(logging.getLogger("vreid"), "propagate", True)
    caplog.set_level(logging.DEBUG, logger="vreid")
    return caplog


LimitFiles = Callable[[int], AbstractContextManager[None]]


@pytest.fixture
def limited_files() -> LimitFiles:
    """Lets the system refuse to write files beyond a size: as near to a full disk as a test may come.

    Only within the ``with`` block: outside it pytest may be writing its own long report to a file.
    """
    resource = pytest.importorskip("resource")

    @contextmanager
    def limit(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Many small operations: threads would wait for each other more than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
