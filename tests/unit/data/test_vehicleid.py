"""VehicleID from a tiny tree of its layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from trees import refusal, rows, touch, write

from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.data.listing import DataFolders
from vreid_cli.errors import DataError, UsageError


@pytest.fixture
def vehicleid(tmp_path: Path) -> Path:
    lists = tmp_path / "train_test_split"
    write(lists / "test_list_800.txt", "0000003 12", "0000001 7", "0000002 7", "")
    write(lists / "train_list.txt", "0000009 1")
    touch(tmp_path / "image", *(f"{number:07d}.jpg" for number in (1, 2, 3, 9)))
    return tmp_path


def test_vehicleid(vehicleid: Path) -> None:
    listing = LAYOUTS["vehicleid"].read(DataFolders(vehicleid, subset=800), "gallery")
    assert listing.warnings == ()
    assert listing.image_root == (vehicleid / "image").resolve()
    # Text order of vehicles, as everywhere; no cameras, and each image a track of its own.
    assert rows(listing) == [
        ("0000003.jpg", "0000003.jpg", "12", None),
        ("0000001.jpg", "0000001.jpg", "7", None),
        ("0000002.jpg", "0000002.jpg", "7", None),
    ]
    assert all(record.path.is_file() for record in listing.records)
    assert rows(LAYOUTS["vehicleid"].read(DataFolders(vehicleid), "train")) == [
        ("0000009.jpg", "0000009.jpg", "1", None)
    ]


def test_which_test_list(vehicleid: Path) -> None:
    (warning,) = LAYOUTS["vehicleid"].read(DataFolders(vehicleid), "gallery").warnings
    assert warning == "test_list_800.txt is the only test list and was taken (--subset 800)"
    error = refusal("vehicleid", DataFolders(vehicleid, subset=1600), "gallery")
    assert isinstance(error, DataError)
    assert error.message.startswith("--subset 1600")
    assert error.message.endswith("holds 800")
    write(vehicleid / "train_test_split" / "test_list_13164.txt", "0000001 7")
    write(vehicleid / "train_test_split" / "test_list_2400.txt", "0000001 7")
    error = refusal("vehicleid", DataFolders(vehicleid), "gallery")
    assert isinstance(error, UsageError)
    assert "800, 2400, 13164" in (error.hint or "")  # by size, not by text
    assert len(LAYOUTS["vehicleid"].read(DataFolders(vehicleid, subset=2400), "gallery").records) == 1


def test_vehicleid_lists_and_images_that_contradict(vehicleid: Path) -> None:
    path = vehicleid / "train_test_split" / "test_list_800.txt"
    write(path, "0000001 7", "0000001 7", "0000002 7", "0000002 8", "0000003.jpg 9", "0000003 9", "0000004 9")
    listing = LAYOUTS["vehicleid"].read(DataFolders(vehicleid, subset=800), "gallery")
    assert [(row[0], row[2]) for row in rows(listing)] == [
        ("0000001.jpg", "7"),
        ("0000002.jpg", "7"),
        ("0000003.jpg", "9"),
        ("0000004.jpg", "9"),
    ]
    assert listing.warnings == (
        "2 images named twice in test_list_800.txt, each counts once: 0000001.jpg (line 2), 0000003.jpg (line 6)",
        "1 image labelled in two ways in test_list_800.txt, the first counts: 0000002.jpg (line 4)",
        "1 name in test_list_800.txt without an image in image: 0000004.jpg",
    )


@pytest.mark.parametrize("line", ["0000001", "0000001 7 c001"])
def test_a_line_of_another_shape(vehicleid: Path, line: str) -> None:
    path = write(vehicleid / "train_test_split" / "test_list_800.txt", "0000001 7", line)
    error = refusal("vehicleid", DataFolders(vehicleid, subset=800), "gallery")
    assert "line 2: expected 'image vehicle'" in error.message
    assert error.file == str(path)


def test_an_empty_list_and_none(vehicleid: Path) -> None:
    write(vehicleid / "train_test_split" / "test_list_800.txt")
    assert "names no images" in refusal("vehicleid", DataFolders(vehicleid), "gallery").message
    (vehicleid / "train_test_split" / "train_list.txt").unlink()
    assert "train_list.txt" in refusal("vehicleid", DataFolders(vehicleid), "train").message
