"""Track 2 of the AI City Challenge from a tiny tree of its layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from trees import refusal, rows, touch, write

from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.data.listing import DataFolders

XML = """<?xml version="1.0" encoding="gb2312"?>
<TrainingImages Version="1.0">
  <Items number="1"><!-- 车 -->
    <Item imageName="000001.jpg" vehicleID="0001" cameraID="c001" />
    <Item imageName="000002.jpg" vehicleID="0001" cameraID="" />
  </Items>
</TrainingImages>
"""


@pytest.fixture
def aicity(tmp_path: Path) -> Path:
    touch(tmp_path, *(f"image_query/{number:06d}.jpg" for number in (1, 2)))
    touch(tmp_path, *(f"image_test/{number:06d}.jpg" for number in (1, 2, 3, 4)))
    touch(tmp_path, *(f"image_train/{number:06d}.jpg" for number in (1, 2, 3)))
    write(tmp_path / "test_track.txt", "000003.jpg 000001.jpg", "000002.jpg")
    write(tmp_path / "train_track.txt", "000001.jpg 000002.jpg", "000003.jpg")
    (tmp_path / "train_label.xml").write_bytes(XML.encode("gb2312"))
    return tmp_path


def test_aicity(aicity: Path) -> None:
    listing = LAYOUTS["aicity"].read(DataFolders(aicity), "gallery")
    assert listing.image_root == (aicity / "image_test").resolve()
    assert rows(listing) == [
        ("000004.jpg", "000004", None, None),
        ("000001.jpg", "track00001", None, None),
        ("000003.jpg", "track00001", None, None),
        ("000002.jpg", "track00002", None, None),
    ]
    assert listing.warnings == ("1 image in no listed track, each a track of its own: 000004.jpg",)
    query = LAYOUTS["aicity"].read(DataFolders(aicity), "query")
    assert (rows(query), query.warnings) == (
        [("000001.jpg", "000001", None, None), ("000002.jpg", "000002", None, None)],
        (),
    )


def test_aicity_train(aicity: Path) -> None:
    listing = LAYOUTS["aicity"].read(DataFolders(aicity), "train")
    assert rows(listing) == [
        ("000003.jpg", "track00002", None, None),
        ("000002.jpg", "track00001", "0001", None),
        ("000001.jpg", "track00001", "0001", "c001"),
    ]
    assert listing.warnings == ("1 image not in train_label.xml, unlabelled: 000003.jpg",)
    (aicity / "train_label.xml").unlink()
    assert "no train_label.xml" in LAYOUTS["aicity"].read(DataFolders(aicity), "train").warnings[0]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (XML.replace("</Items>", "").encode("gb2312"), "is not valid XML"),
        (XML.replace("gb2312", "ascii").encode("gb2312"), "is not valid XML"),
        (XML.replace("gb2312", "klingon").encode("utf-8"), "does not know: unknown encoding: klingon"),
        (b"", "is not valid XML"),
        (b"<TrainingImages/>", "holds no items"),
        (b'<Items><Item vehicleID="1"/></Items>', "item 1 has no imageName"),
    ],
)
def test_aicity_labels_that_are_none(aicity: Path, content: bytes, told: str) -> None:
    (aicity / "train_label.xml").write_bytes(content)
    error = refusal("aicity", DataFolders(aicity), "train")
    assert told in error.message
    assert error.file == str(aicity / "train_label.xml")


def test_aicity_labels_without_a_declaration(aicity: Path) -> None:
    (aicity / "train_label.xml").write_bytes(XML.partition("\n")[2].encode())
    assert [row[2] for row in rows(LAYOUTS["aicity"].read(DataFolders(aicity), "train"))] == [None, "0001", "0001"]


def test_aicity_lists_that_do_not_fit(aicity: Path) -> None:
    write(aicity / "test_track.txt", "000001.jpg 000002.jpg", "", "000002.jpg 000077.jpg", "000003.jpg 000004.jpg")
    write(aicity / "name_test.txt", "000001.jpg", "000002.jpg", "000003.jpg")
    listing = LAYOUTS["aicity"].read(DataFolders(aicity), "gallery")
    # The number is that of the line, blank ones counted, so that it can be found in an editor.
    assert [row[1] for row in rows(listing)] == ["track00001", "track00001", "track00004"]
    assert listing.warnings == (
        "1 image of image_test not in name_test.txt, left out: 000004.jpg",
        "1 image in two tracks of test_track.txt, the first counts: 000002.jpg",
        "2 images in test_track.txt and not in the split: 000004.jpg, 000077.jpg",
    )
    write(aicity / "test_track.txt", "1 2", "3")
    assert "names no image of the split" in refusal("aicity", DataFolders(aicity), "gallery").message
    (aicity / "test_track.txt").unlink()
    listing = LAYOUTS["aicity"].read(DataFolders(aicity), "gallery")
    assert [row[1] for row in rows(listing)] == ["000001", "000002", "000003"]
    assert any("no test_track.txt" in warning for warning in listing.warnings)
