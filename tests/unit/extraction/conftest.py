"""A folder of images with a store, and one thread: the operations are so small that threads only wait."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from extraction_bench import VERI, Bench, draw, make_bench, write_tracks

from vreid_cli.data.veri import read_veri
from vreid_cli.store.features import FeatureStore


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose content was read for its digest."""
    names: list[str] = []
    file_digest = hashlib.file_digest

    def note(file: Any, digest: str) -> Any:
        names.append(Path(file.name).name)
        return file_digest(file, digest)

    monkeypatch.setattr(hashlib, "file_digest", note)
    return names


@pytest.fixture
def veri(tmp_path: Path) -> Bench:
    names = [name for names in VERI.values() for name in names]
    for seed, name in enumerate(names):
        draw(tmp_path / "data" / "image_test" / name, seed)
    write_tracks(tmp_path / "data", VERI)
    return Bench(tmp_path / "data", FeatureStore(tmp_path / "store"), part_images=3, reader=read_veri)
