"""VERI-Wild from a tiny tree of its layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from trees import refusal, rows, touch, write

from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.data.listing import DataFolders
from vreid_cli.errors import UsageError

INFO = ("id/image;Camera ID;Time;Model;Type;Color", "00001/000001;2;2018-03-11 14:47:59;Benz;SUV;white")


@pytest.fixture
def wild(tmp_path: Path) -> Path:
    lists = tmp_path / "train_test_split"
    write(lists / "test_3000.txt", "00001/000001", "00001/000002", "00002/000003.jpg", "00002/000004")
    write(lists / "test_3000_query.txt", "00001/000002.jpg")
    write(lists / "train_list.txt", "00009/000009")
    write(
        lists / "vehicle_info.txt",
        *INFO,
        "00001/000002;3;2018;Benz;SUV;white",
        "00002/000003;10;2018;宝马;SUV;黑",
        "00002/000004;10;2018;x;y;z",
        "00009/000009;1;2018;x;y;z",
    )
    touch(tmp_path / "images", "00001/000001.jpg", "00001/000002.jpg", "00002/000003.jpg", "00002/000004.jpg")
    touch(tmp_path / "images", "00009/000009.jpg")
    return tmp_path


def test_veri_wild(wild: Path) -> None:
    folders = DataFolders(wild, subset=3000)
    listing = LAYOUTS["veri-wild"].read(folders, "gallery")
    assert listing.image_root == (wild / "images").resolve()
    assert rows(listing) == [
        ("00001/000001.jpg", "00001_2", "00001", "2"),
        ("00002/000003.jpg", "00002_10", "00002", "10"),
        ("00002/000004.jpg", "00002_10", "00002", "10"),
    ]
    left_out, tracks = listing.warnings
    assert left_out == "1 image of test_3000.txt among the queries, left out: 00001/000002.jpg"
    assert "all images of a vehicle by one camera count as one track" in tracks
    assert rows(LAYOUTS["veri-wild"].read(folders, "query")) == [("00001/000002.jpg", "00001_3", "00001", "3")]
    assert rows(LAYOUTS["veri-wild"].read(folders, "train")) == [("00009/000009.jpg", "00009_1", "00009", "1")]
    assert all(record.path.is_file() for record in listing.records)


def test_veri_wild_without_cameras(wild: Path) -> None:
    (wild / "train_test_split" / "vehicle_info.txt").unlink()
    listing = LAYOUTS["veri-wild"].read(DataFolders(wild, subset=3000), "gallery")
    assert rows(listing)[1:] == [(name, name, "00002", None) for name in ("00002/000003.jpg", "00002/000004.jpg")]
    assert any("no vehicle_info.txt" in warning and "cameras are unknown" in warning for warning in listing.warnings)


def test_veri_wild_with_some_cameras(wild: Path) -> None:
    path = wild / "train_test_split" / "vehicle_info.txt"
    # Models in another encoding are not read, so they cannot disturb.
    path.write_bytes("\n".join([*INFO, "00002/000003.jpg;10;2018;宝马;SUV;黑"]).encode("gb2312"))
    listing = LAYOUTS["veri-wild"].read(DataFolders(wild, subset=3000), "gallery")
    assert [row[3] for row in rows(listing)] == ["2", None, "10"]
    assert "1 image without a camera in vehicle_info.txt, each a track of its own: 00002/000004" in listing.warnings
    write(path, *INFO, "00002/000003,10,2018")
    error = refusal("veri-wild", DataFolders(wild, subset=3000), "gallery")
    assert "line 3: expected 'id/image;Camera ID;…'" in error.message


def test_veri_wild_that_does_not_fit(wild: Path) -> None:
    lists = wild / "train_test_split"
    write(lists / "test_5000.txt", "00001/000001", "00005/000007")
    error = refusal("veri-wild", DataFolders(wild), "gallery")
    assert isinstance(error, UsageError)
    assert "3000, 5000" in (error.hint or "")
    assert "test_5000_query.txt" in refusal("veri-wild", DataFolders(wild, subset=5000), "gallery").message
    write(lists / "test_5000_query.txt", "00001/000001")
    listing = LAYOUTS["veri-wild"].read(DataFolders(wild, subset=5000), "gallery")
    assert "1 name in test_5000.txt without an image in images: 00005/000007.jpg" in listing.warnings
    write(lists / "test_5000.txt", "00001/000001")
    assert "nothing but the queries" in refusal("veri-wild", DataFolders(wild, subset=5000), "gallery").message
    write(lists / "test_5000.txt", "000001")
    error = refusal("veri-wild", DataFolders(wild, subset=5000), "gallery")
    assert "expected lines 'vehicle/image', found '000001.jpg'" in error.message
