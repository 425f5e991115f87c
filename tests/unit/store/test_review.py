"""Marks from CSV: what a page exports, what a spreadsheet makes of it, and what is no such table."""

from __future__ import annotations

from pathlib import Path

import pytest

import vreid_cli as vreid
from vreid_cli.errors import DataError

HEAD = "query_id,gallery_id,mark\n"


def read(folder: Path, text: str, *, encoding: str = "utf-8") -> vreid.ReviewedPairs:
    (folder / "reviewed.csv").write_bytes(text.encode(encoding))
    return vreid.read_review(folder / "reviewed.csv")


def test_marks_of_any_names_are_read(tmp_path: Path) -> None:
    found = read(tmp_path, HEAD + 'q1,"a, ""b""\nc",same\r\n 車 ,g2,different\nq1,g3,unsure\nq1,g3,unsure\n')
    assert found.marks == {("q1", 'a, "b"\nc'): True, (" 車 ", "g2"): False}
    assert found.unsure == 1
    assert found.source == "reviewed.csv"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_spreadsheets_table_is_read(tmp_path: Path, encoding: str) -> None:
    found = read(tmp_path, "mark;note;gallery_id;query_id\r\nSame;x;g;q\r\n", encoding=encoding)
    assert found.marks == {("q", "g"): True}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column 'query_id'"),
        ("query_id,mark\nq,same\n", "has no column 'gallery_id'"),
        (HEAD, "marks nothing"),
        (HEAD + "q,g,maybe\n", "line 2: unknown mark 'maybe'"),
        (HEAD + "q,g\n", "line 2: a query, a gallery item and a mark are needed"),
        (HEAD + ",g,same\n", "line 2: a query"),
        (HEAD + "q,g,same\nq,g,different\n", "line 3: q and g were marked otherwise before"),
        (HEAD + 'q,"g,same\n', "cannot be read as a table"),
    ],
)
def test_what_is_no_review_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, text)
    assert message in caught.value.message
    assert str(tmp_path / "reviewed.csv") == caught.value.file


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        vreid.read_review(tmp_path / "gone.csv")
    with pytest.raises(DataError, match="cannot be read as a table"):
        read(tmp_path, HEAD + "é,g,same\n", encoding="latin-1")
