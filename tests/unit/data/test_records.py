"""Images and plans in columns: they are to say what the objects would, at a fraction of the memory."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vreid_cli.data.boxes import name_crop
from vreid_cli.data.listing import ListingBuilder, make_listing
from vreid_cli.data.records import Records
from vreid_cli.extraction.parts import planned_parts
from vreid_cli.extraction.planning import make_plan
from vreid_cli.types.images import Box, ImageRecord

ROOT = Path("somewhere")
LABEL = st.none() | st.sampled_from(["", "a", "b", "é", "🚗", "\uffff"])


def image(name: str, *labels: str | None, frame: int | None = None, box: Box | None = None) -> ImageRecord:
    track, vehicle, camera = (*labels, None, None, None)[:3]
    return ImageRecord(name if box is None else name_crop(name, box), ROOT / name, track, vehicle, camera, frame, box)


@pytest.fixture
def mixed() -> list[ImageRecord]:
    """Images in gallery order, more of them than are objects at a time."""
    made = [
        image(f"{number:04d}.jpg", f"t{number // 7}", f"v{number // 90}", f"c{number // 20 % 3}", frame=number)
        for number in range(2500)
    ]
    return sorted(made, key=ImageRecord.sort_key)


def columns_of(records: list[ImageRecord]) -> Records:
    return make_listing(records, ROOT).records


@given(
    st.lists(
        st.tuples(st.text("ab/é🚗", min_size=1, max_size=4), LABEL, LABEL, LABEL, st.none() | st.integers(0, 3)),
        min_size=1,
        max_size=12,
        unique_by=lambda row: row[0],
    )
)
def test_gallery_order_is_that_of_the_records(rows: list[tuple[str, str | None, str | None, str | None, int | None]]):
    made = [ImageRecord(row[0], ROOT / row[0], *row[1:]) for row in rows]
    assert list(columns_of(made)) == sorted(made, key=ImageRecord.sort_key)


def test_they_are_a_sequence(mixed: list[ImageRecord]):
    records = columns_of(mixed[::-1])
    assert records == mixed
    assert len(records) == len(mixed)
    assert (records[0], records[1700], records[-1]) == (mixed[0], mixed[1700], mixed[-1])
    assert records[5:2000:3] == mixed[5:2000:3]
    assert records[5:2000:3][1:][0] == mixed[8]
    assert records != mixed[1:]
    with pytest.raises(IndexError):
        records[len(mixed)]
    # Where processes are not forked, or work in another folder, they get the records this way.
    found = [replace(record, path=record.path.absolute()) for record in mixed[3:9]]
    assert pickle.loads(pickle.dumps(records[3:9])) == found


def test_selections_share_the_columns(mixed: list[ImageRecord]):
    records = columns_of(mixed)
    chosen = np.array([2400, 3, 3, 1200])
    some = records.select(chosen)
    assert some == [mixed[row] for row in chosen]
    assert some.image_ids().to_pylist() == [mixed[row].image_id for row in chosen]
    assert Records.join([some, records[:2], some[1:]]) == [*some, *mixed[:2], *list(some)[1:]]
    codes = records.codes("track_id")
    assert len(set(codes.tolist())) == len({record.track_id for record in mixed})
    assert some.codes("track_id").tolist() == codes[chosen].tolist()
    assert columns_of([image("a", None), image("b", "t")]).codes("track_id").tolist() == [-1, 0]


def test_crops_of_one_frame_are_one_file():
    boxes: list[Box | None] = [None, (0, 0, 5, 5), (1.5, 2, 3, 4.25)]
    made = [image(name, "t", box=box) for name in ("f/1.jpg", "/g/2.jpg") for box in boxes]
    records = columns_of(made)
    names, owner = records.files()
    assert sorted(names.to_pylist()) == ["/g/2.jpg", "f/1.jpg"]
    for index, record in enumerate(records):
        assert Path(records.locate(names[int(owner[index])].as_py())) == record.path
        assert (record.path, record.box) in {(one.path, one.box) for one in made}
        assert records.place(index) == (record.path, record.box)
    # Only where ids are known to tell boxes do they: elsewhere that may be a file's name.
    odd = ImageRecord("a#xywh=1,2,3,4", ROOT / "a#xywh=1,2,3,4", "t")
    assert list(columns_of([odd])) == [odd]


def many(count: int) -> ListingBuilder:
    builder = ListingBuilder()
    for number in range(count):
        track = f"{number // 10:06d}_c001"
        builder.add(f"{track}/{number % 10}.png", track, vehicle_id=track[:6], camera_id="c001")
    return builder


Made = TypeVar("Made")


def held(make: Callable[[], Made]) -> tuple[Made, int]:
    """What is made, and the bytes that Python and Arrow hold for it."""
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    made = make()
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return made, grown + pa.total_allocated_bytes() - before


@pytest.mark.slow
def test_a_image_costs_few_bytes(tmp_path: Path):
    count = 20_000
    listing, size = held(lambda: many(count).finish(tmp_path))
    assert size < 60 * count  # as objects: 600 and more
    plan = make_plan(listing.records, None, part_images=512)
    assert plan.table.nbytes < 150 * count
    parts, size = held(lambda: planned_parts(listing.records, plan))
    assert len(parts) == -(-count // 520)  # whole tracks of ten
    assert size < 16 * count
