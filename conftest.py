"""What tests and the examples in docstrings share: a cache of their own, and a folder of their own for examples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.doctest import DoctestItem


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's cache out of the tests: an export that lies there would change what ``auto`` chooses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VREID_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _own_folder(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run each example in an empty folder, so that it can write files by short names."""
    if not isinstance(request.node, DoctestItem):
        yield
        return
    folder: Path = request.getfixturevalue("tmp_path")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield
