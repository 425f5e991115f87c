"""The cache folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from vreid_cli.runtime.cache import cache_folder


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"VREID_CACHE_DIR": "/a"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/vreid"),
        ({"VREID_CACHE_DIR": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"HOME": "/c"}, "/c/.cache/vreid"),
    ],
)
def test_cache_folder(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str):
    for name in ("VREID_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)
    assert cache_folder(Path("mine")) == Path("mine")
