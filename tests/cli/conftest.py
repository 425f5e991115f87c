"""A tiny labelled set, weights that fit it, and a run of it, made once for all tests of the command line."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny import EXTRACT, TRACKS, Vreid, draw_tracks, save_weights

from vreid_cli.__main__ import main
from vreid_cli.cli.app import run


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint."""
    return save_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """A folder with ``data/``, and ``runs/`` with an extracted run; tests take copies."""
    folder = tmp_path_factory.mktemp("made")
    draw_tracks(folder / "data", TRACKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run([*EXTRACT, "--data-dir", "data", "--weights", str(weights)]) == 0
    return folder


@pytest.fixture
def vreid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Vreid:
    """Runs commands in an empty folder, with nothing of the developer's own settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VREID_DATA_DIR", raising=False)
    monkeypatch.setenv("VREID_CACHE_DIR", str(tmp_path / "cache"))
    return Vreid(capsys)


@pytest.fixture
def ready(vreid: Vreid, made: Path, tmp_path: Path) -> Path:
    """The extracted run's folder, in a current folder of its own: the images stay where they were made."""
    shutil.copytree(made / "runs", tmp_path / "runs")
    return Path("runs/tracks-resnet18-tiny")


@pytest.fixture
def program() -> Iterator[Callable[[], object]]:
    """The command line in this process, as the program runs it: not looking for garbage, as tests that follow do."""
    yield main
    gc.unfreeze()
    gc.enable()
