"""Manifests: tables of images and of boxes in frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from trees import refusal, rows

from vreid_cli.data.boxes import locate_image
from vreid_cli.data.listing import DataFolders
from vreid_cli.data.manifest import read_manifest
from vreid_cli.errors import DataError


def manifest(folder: Path, *lines: str) -> DataFolders:
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return DataFolders(folder)


def test_a_manifest(tmp_path: Path) -> None:
    folders = manifest(
        tmp_path,
        "path,split,track,vehicle,camera,frame,x,y,w,h",
        "./frames/1.jpg,gallery,t7,v1,c1,12,10,20,30.0,40.5",
        "frames//1.jpg,Test,t8,,,,0,0,5,5",
        "crops/a.jpg,query",
        ",,,,,,,,,",
        "b.jpg,train,,,c9,3,,,,",
        "c.jpg,,,,,,,,,",
    )
    listing = read_manifest(folders, "gallery")
    assert (listing.warnings, listing.image_root) == ((), tmp_path.resolve())
    lone, other, boxed = listing.records
    assert (boxed.image_id, boxed.box, boxed.frame) == ("frames/1.jpg#xywh=10,20,30,40.5", (10, 20, 30, 40.5), 12)
    assert boxed.path == tmp_path / "frames/1.jpg"
    # An empty cell is absent; a row without a track is one of its own.
    assert rows(listing) == [
        ("c.jpg", "c.jpg", None, None),
        ("frames/1.jpg#xywh=0,0,5,5", "t8", None, None),
        ("frames/1.jpg#xywh=10,20,30,40.5", "t7", "v1", "c1"),
    ]
    assert (lone.box, lone.frame, other.frame) == (None, None, None)
    assert rows(read_manifest(folders, "query")) == [("crops/a.jpg", "crops/a.jpg", None, None)]
    assert rows(read_manifest(folders, "train")) == [("b.jpg", "b.jpg", None, "c9")]


def test_the_manifest_may_be_named_and_have_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes('\ufeffpath, vehicle\r\n"a,b.jpg",0001\r\n'.encode())
    assert rows(read_manifest(DataFolders(path), "gallery")) == [("a,b.jpg", "a,b.jpg", "0001", None)]
    assert "manifest.csv" in refusal("csv", DataFolders(tmp_path), "gallery").message


def test_paths_outside_the_folder_of_the_manifest(tmp_path: Path) -> None:
    inside, outside = tmp_path / "data" / "b.jpg", tmp_path / "c.jpg"
    inside.parent.mkdir()
    folders = manifest(inside.parent, "path", "x/../../a.jpg", str(inside), str(outside))
    listing = read_manifest(folders, "gallery")
    # The same file has one name, however it was given.
    assert {row[0] for row in rows(listing)} == {"../a.jpg", "b.jpg", outside.as_posix()}
    places = {locate_image(listing.image_root, row[0]) for row in rows(listing)}
    assert {Path(place).resolve() for place in places if isinstance(place, Path)} == {
        (tmp_path / "a.jpg").resolve(),
        inside.resolve(),
        outside.resolve(),
    }


def test_without_a_column_split_all_is_gallery(tmp_path: Path) -> None:
    folders = manifest(tmp_path, "path,track", "a.jpg,1", "b.jpg,1")
    assert [row[:2] for row in rows(read_manifest(folders, "gallery"))] == [("a.jpg", "1"), ("b.jpg", "1")]
    error = refusal("csv", folders, "query")
    assert "has no column 'split'" in error.message
    assert "add the column" in (error.hint or "")


def test_unknown_columns_and_repeated_rows_are_one_warning_each(tmp_path: Path) -> None:
    folders = manifest(tmp_path, "path,score,colour,track", "a.jpg,1,red,t", "a.jpg,2,red,t", "./a.jpg,3,,t")
    listing = read_manifest(folders, "gallery")
    assert len(listing.records) == 1
    unknown, repeated = listing.warnings
    assert "unknown columns, ignored: score, colour" in unknown
    assert repeated == "2 rows of manifest.csv like an earlier one, each counts once: line 3, line 4"


BOXED = "path,split,frame,x,y,w,h"
BAD_LINES: Mapping[str, tuple[str, str]] = {
    "no path": (",gallery,,,,,", "has no path"),
    "split": ("a.jpg,validation,,,,,", "split 'validation' is none of query, gallery, test, train"),
    "number": ("a.jpg,,,1,2,three,4", "w 'three' is no number"),
    "infinite": ("a.jpg,,,1,inf,3,4", "y 'inf' is no number"),
    "frame": ("a.jpg,,1.5,,,,", "frame '1.5' is no whole number"),
    "long frame": ("a.jpg,,9999999999999999999,,,,", "is no whole number"),
    "half a box": ("a.jpg,,,1,2,,", "half a box: x, y without w, h"),
    "no width": ("a.jpg,,,1,2,0,4", "an empty box: w 0, h 4"),
    "negative": ("a.jpg,,,1,2,3,-4", "an empty box: w 3, h -4"),
    "cells": ("a.jpg,,,1,2,3,4,5", "8 cells, but 7 columns"),
    "box in the path": ('"a.jpg#xywh=1,2,3,4",,,,,,', "ends in a box"),
}


@pytest.mark.parametrize(("line", "told"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_row_that_cannot_be_used(tmp_path: Path, line: str, told: str) -> None:
    error = refusal("csv", manifest(tmp_path, BOXED, "ok.jpg,,,,,,", "", line), "gallery")
    assert isinstance(error, DataError)
    assert f"{tmp_path / 'manifest.csv'}, line 4: " in error.message
    assert told in error.message
    assert error.file == str(tmp_path / "manifest.csv")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["image,track", "a.jpg,1"], "has no column 'path': its first line is 'image, track'"),
        (["path;track", "a.jpg;1"], "its first line is 'path;track'"),
        ([], "has no column 'path'"),
        (["path,track,track", "a.jpg,1,2"], "has two columns 'track'"),
        (["path,track", "a.jpg,1", "a.jpg,2"], "line 3: a.jpg is in line 2 already, with other labels"),
        (["path,split", "a.jpg,query"], "has no rows of the split gallery"),
    ],
)
def test_a_manifest_that_cannot_be_used(tmp_path: Path, lines: Iterable[str], told: str) -> None:
    assert told in refusal("csv", manifest(tmp_path, *lines), "gallery").message


def test_a_manifest_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_bytes(b"path\n\xff\xfe.jpg\n")
    assert "is not UTF-8" in refusal("csv", DataFolders(tmp_path), "gallery").message
    (tmp_path / "manifest.csv").write_bytes(b"path\n" + b"a" * 200_000 + b"\n")
    assert "line 2: no valid CSV" in refusal("csv", DataFolders(tmp_path), "gallery").message
