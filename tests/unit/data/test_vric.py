"""VRIC from a tiny tree of its layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from trees import refusal, rows, touch, write

from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.data.listing import DataFolders


@pytest.fixture
def vric(tmp_path: Path) -> Path:
    for name, images in {"train": ["t.jpg"], "probe": ["p.jpg"], "gallery": ["g1.jpg", "g2.jpg"]}.items():
        write(tmp_path / f"vric_{name}.txt", *(f"{image} {len(images)} {index}" for index, image in enumerate(images)))
        touch(tmp_path / f"{name}_images", *images)
    return tmp_path


def test_vric(vric: Path) -> None:
    listing = LAYOUTS["vric"].read(DataFolders(vric), "gallery")
    assert rows(listing) == [("g1.jpg", "2_0", "2", "0"), ("g2.jpg", "2_1", "2", "1")]
    assert listing.image_root == (vric / "gallery_images").resolve()
    (warning,) = listing.warnings
    assert "no list of tracks" in warning
    assert rows(LAYOUTS["vric"].read(DataFolders(vric), "query")) == [("p.jpg", "1_0", "1", "0")]
    assert rows(LAYOUTS["vric"].read(DataFolders(vric), "train")) == [("t.jpg", "1_0", "1", "0")]


def test_vric_that_does_not_fit(vric: Path) -> None:
    (vric / "gallery_images" / "g2.jpg").unlink()
    assert any("g2.jpg" in warning for warning in LAYOUTS["vric"].read(DataFolders(vric), "gallery").warnings)
    write(vric / "vric_gallery.txt", "g1.jpg 2")
    assert "line 1: expected 'image vehicle camera'" in refusal("vric", DataFolders(vric), "gallery").message
    (vric / "vric_probe.txt").unlink()
    assert "there is no list" in refusal("vric", DataFolders(vric), "query").message
