"""From settings to folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from vreid_cli.config import Layer, Settings, resolve
from vreid_cli.workflows.inputs import DATA_VARIABLE, data_folders


def settings(**data: object) -> Settings:
    return resolve([Layer("test", {"data": data})]).settings


def test_where_the_images_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    assert data_folders(settings()).data_dir == Path("VeRi")
    assert data_folders(settings(dataset="vric")).data_dir is None
    monkeypatch.setenv(DATA_VARIABLE, "/data/VeRi")
    assert data_folders(settings()).data_dir == Path("/data/VeRi")
    assert data_folders(settings(dataset="vric")).data_dir == Path("/data/VeRi")
    assert data_folders(settings(data_dir="here")).data_dir == Path("here")
    named = data_folders(settings(dataset="tracks", query_dir="q", gallery_dir="g"))
    assert (named.data_dir, named.query_dir, named.gallery_dir) == (None, Path("q"), Path("g"))


def test_a_subset_is_for_layouts_that_have_test_lists() -> None:
    assert data_folders(settings(dataset="vehicleid", subset=800)).subset == 800
    assert data_folders(settings(dataset="vric", subset=800)).subset is None
