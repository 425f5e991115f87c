"""The plan: columns on disk, the parts that they name, and where LRs lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vreid_cli.store.plan import PLAN_SCHEMA, Plan

COUNT = 2100


def make_plan(parts: list[int], contents: list[str] | None = None, first: int = 0) -> Plan:
    rows = range(first, first + len(parts))
    columns = {
        "image_id": [f"{row}.jpg" for row in rows],
        "track_id": [None if row % 3 else f"t{row}" for row in rows],
        "size": list(rows),
        "mtime": [-row for row in rows],
        "sha256": contents or ["ab" * row for row in rows],
        "part": parts,
    }
    return Plan(pa.table(columns, schema=PLAN_SCHEMA))


@pytest.fixture
def plan() -> Plan:
    return make_plan([number % 4 for number in range(COUNT)])


def test_parts_and_places(plan: Plan):
    assert len(plan) == COUNT
    assert plan.find(pa.array(["5.jpg", "none.jpg", "2099.jpg"])).tolist() == [5, -1, 2099]
    for part, members in plan.members():
        assert members.tolist() == list(range(part, COUNT, 4))
    assert plan.numbers("mtime").tolist() == [-row for row in range(COUNT)]
    assert Plan().members() == []
    assert Plan() == Plan()
    assert plan != Plan()


def test_contents_are_the_same_in_any_order_and_differ_with_any_file():
    plan, rows = make_plan([0, 0, 0]), np.arange(3)
    assert plan.contents(rows) == plan.contents(rows[::-1])
    assert plan.contents(rows) != plan.contents(rows[1:])
    assert plan.contents(rows) != make_plan([0, 0, 0], ["", "ab", "changed"]).contents(rows)
    assert plan.contents(rows) != make_plan([0, 0, 0], ["", "ab", "abab"], first=1).contents(rows)


def test_a_plan_in_pieces_is_written_to_the_same_bytes(plan: Plan, tmp_path: Path):
    plan.write(tmp_path / "whole")
    pieces = [plan.table.slice(start, end - start) for start, end in ((0, 3), (3, 1500), (1500, COUNT))]
    Plan(pa.concat_tables(pieces)).write(tmp_path / "pieces")
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "pieces").read_bytes()
    assert Plan.read(tmp_path / "whole") == plan


def digests(plan: Plan) -> dict[int, str]:
    return {part: plan.contents(rows) for part, rows in plan.members()}


def test_images_are_located_in_the_parts_that_confirm_the_plan():
    plan = make_plan([0, 0, 1, 1])
    assert plan.locate(digests(plan)).tolist() == [0, 0, 1, 1]
    assert plan.locate({0: digests(plan)[0], 1: "of other images"}).tolist() == [0, 0, -1, -1]
    assert plan.locate({}).tolist() == [-1] * 4


def test_an_older_plan_says_where_moved_images_lie():
    old, new = make_plan([0, 0, 1, 1]), make_plan([0, 1, 1, 1])
    assert new.locate(digests(old), others=[old]).tolist() == [0, 0, 1, 1]
    # Part 0 is as the new plan says already, part 1 still as the old one does.
    half = {0: digests(new)[0], 1: digests(old)[1]}
    assert new.locate(half, others=[old]).tolist() == [0, -1, 1, 1]
    # An image that changed since lies nowhere.
    changed = make_plan([0, 1, 1, 1], ["", "changed", "abab", "ababab"])
    assert changed.locate(digests(old), others=[old]).tolist() == [0, -1, 1, 1]
