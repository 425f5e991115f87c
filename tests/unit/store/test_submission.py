"""The file that the AI City Challenge takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vreid_cli.errors import DataError
from vreid_cli.store.submission import LISTED, write_submission
from vreid_cli.types.arrays import text_array
from vreid_cli.types.rankings import RankingBlock, RankingFacts
from vreid_cli.types.tracks import Items


def items(names: list[str]) -> Items:
    absent = text_array([None] * len(names))
    return Items(text_array(names), absent, absent)


def block(rows: list[tuple[int, int, int]]) -> RankingBlock:
    query, rank, item = (np.array(column, dtype=np.int32) for column in zip(*rows, strict=True))
    return RankingBlock(query, rank, item, np.zeros(len(rows), dtype=np.float32))


def test_a_line_a_query(tmp_path: Path) -> None:
    path = tmp_path / "track2.txt"
    gallery = items(["000010.jpg", "a/000007.png", "3"])
    with write_submission(path, RankingFacts(), queries=items(list("qrstu")), gallery=gallery) as write:
        write(block([(1, 1, 2), (1, 2, 0), (2, 1, 1)]))
        write(block([(3, 1, 0)]))
        assert not path.exists()
    # A query that lists nothing has an empty line: the others must not move up.
    assert path.read_text() == "\n3 10\n7\n10\n\n"


def test_no_more_than_the_challenge_looks_at(tmp_path: Path) -> None:
    path = tmp_path / "track2.txt"
    gallery = items([f"{number}.jpg" for number in range(1, 151)])
    # A same-vehicle item that is listed at its true rank beyond the nearest is ground truth.
    lists = [(query, rank, 150 - rank) for query in (0, 1) for rank in (*range(1, 100), 130)]
    with write_submission(path, RankingFacts(), queries=items(["q", "r"]), gallery=gallery) as write:
        write(block([(0, rank + 1, rank) for rank in range(150)]))
        write(block([row for row in lists if row[0] == 1]))
    first, second = path.read_text().splitlines()
    assert first.split() == [str(number) for number in range(1, LISTED + 1)]
    assert second.split() == [str(151 - rank) for rank in range(1, 100)]


def test_a_name_that_is_no_number(tmp_path: Path) -> None:
    path = tmp_path / "track2.txt"
    with (
        pytest.raises(DataError, match=r"the gallery image c001_1\.jpg has no number"),
        write_submission(path, RankingFacts(), queries=items(["q"]), gallery=items(["1.jpg", "c001_1.jpg"])),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
