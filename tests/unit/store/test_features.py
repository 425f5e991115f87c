"""The feature store as a file format: what lies on the disk, in which order it is read, and who may write it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vreid_cli.errors import StoreError, VreidError
from vreid_cli.store.features import FeatureStore
from vreid_cli.store.formats import read_features
from vreid_cli.store.parts import PartFacts, Skipped
from vreid_cli.store.plan import PLAN_SCHEMA, Plan
from vreid_cli.types.images import ImageRecord

IDENTITY = {
    "architecture": "resnet18",
    "weights_digest": "abc",
    "transform": "t",
    "precision": "fp32",
    "backend": "torch",
}
RECORDED = {"batch_size": "8", "threads": "2", "torch": "2"}
WIDTH = 6


def record(track: str, number: int, vehicle: str | None = "0002", camera: str | None = "c001") -> ImageRecord:
    name = f"{track}/{number}.jpg"
    return ImageRecord(name, Path("nowhere") / name, track, vehicle, camera, number)


def some_features(rows: int, seed: int = 0, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


def make_plan(rows: Sequence[tuple[object, ...]]) -> Plan:
    columns = dict(zip(PLAN_SCHEMA.names, zip(*rows, strict=True), strict=True))
    return Plan(pa.table({name: list(values) for name, values in columns.items()}, schema=PLAN_SCHEMA))


def facts(**changes: object) -> PartFacts:
    return replace(PartFacts(IDENTITY, RECORDED, "images", "labels", ()), **changes)


def fill(store: FeatureStore, parts: Sequence[Sequence[ImageRecord]], *, complete: bool = True) -> list[np.ndarray]:
    written = []
    for number, records in enumerate(parts):
        features = some_features(len(records), seed=number)
        store.write_part(number, records, features=features, facts=facts())
        written.append(features)
    if complete:
        images = sum(len(records) for records in parts)
        store.write_complete([], facts={"images": images, "parts": len(parts), "image_root": "root", "dataset": "veri"})
    return written


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "features" / "gallery")


def refusal(action: Callable[[], object]) -> StoreError:
    with pytest.raises(StoreError) as caught:
        action()
    return caught.value


# -- parts --------------------------------------------------------------------------------------------------


def test_a_part_is_arrow_with_the_columns_of_the_contract(store: FeatureStore):
    records = [record("a", 1), record("a", 2, vehicle=None, camera=None), replace(record("b", 3), frame=None)]
    features = some_features(3)
    store.write_part(7, records, features=features, facts=facts())
    path = store.path / "part-00007.arrow"
    with pa.OSFile(str(path)) as source:
        reader = pa.ipc.open_file(source)
        assert reader.num_record_batches == 1
        batch = reader.get_batch(0)
    text = pa.utf8()
    assert list(zip(batch.schema.names, batch.schema.types, strict=True)) == [
        ("image_id", text),
        ("track_id", text),
        ("vehicle_id", text),
        ("camera_id", text),
        ("frame", pa.int64()),
        ("feature", pa.list_(pa.float32(), WIDTH)),
    ]
    assert all(field.nullable for field in batch.schema)
    rows = batch.drop_columns(["feature"]).to_pylist()
    assert rows[0] == {"image_id": "a/1.jpg", "track_id": "a", "vehicle_id": "0002", "camera_id": "c001", "frame": 1}
    assert rows[1]["vehicle_id"] is None
    assert rows[1]["camera_id"] is None
    assert rows[2]["frame"] is None
    assert np.array_equal(np.array(batch.column("feature").to_pylist(), np.float32), features)


def test_features_lie_uncompressed_and_are_mapped_not_copied(store: FeatureStore):
    features = some_features(500, width=200)
    store.write_part(0, [record("a", n) for n in range(500)], features=features, facts=facts())
    assert features.tobytes() in store.part_path(0).read_bytes()
    before = pa.total_allocated_bytes()
    rows = store.read_part(0)
    found = rows.features
    assert pa.total_allocated_bytes() - before < features.nbytes / 10
    assert not found.flags.owndata
    assert not found.flags.writeable
    assert found.dtype == np.float32
    assert np.array_equal(found, features)
    assert rows.batch.column("image_id")[3].as_py() == "a/3.jpg"


def test_mapped_features_outlive_their_file(store: FeatureStore):
    (features,) = fill(store, [[record("a", n) for n in range(50)]])
    found = store.read()
    for path in store.path.iterdir():
        path.unlink()
    assert np.array_equal(found.matrix.take(np.arange(50)), features)


def test_metadata_holds_identity_and_recorded(store: FeatureStore):
    skipped = (Skipped("a/9.jpg", "a", 'cannot be decoded: "ü"'), Skipped("b", None, "empty"))
    written = facts(skipped=skipped)
    store.write_part(0, [record("a", 1)], features=some_features(1), facts=written)
    with pa.OSFile(str(store.part_path(0))) as source:
        metadata = pa.ipc.open_file(source).schema.metadata
    assert json.loads(metadata[b"identity"]) == IDENTITY
    assert json.loads(metadata[b"recorded"]) == RECORDED
    assert store.read_facts(0) == written


def test_float16_parts_are_read_as_float32(store: FeatureStore):
    features = some_features(4)
    store.write_part(0, [record("a", n) for n in range(4)], features=features.astype(np.float16), facts=facts())
    store.write_part(1, [record("b", n) for n in range(4)], features=features, facts=facts())
    store.write_complete([], facts={})
    with pa.OSFile(str(store.part_path(0))) as source:
        assert pa.ipc.open_file(source).schema.field("feature").type == pa.list_(pa.float16(), WIDTH)
    found = store.read().matrix.take(np.arange(8))
    assert found.dtype == np.float32
    assert np.array_equal(found[:4], features.astype(np.float16).astype(np.float32))
    assert np.array_equal(found[4:], features)


def test_same_content_gives_the_same_bytes(store: FeatureStore):
    records = [record("a", n) for n in range(5)]
    store.write_part(0, records, features=some_features(5), facts=facts())
    before = store.part_path(0).read_bytes()
    shuffled = dict(reversed(IDENTITY.items()))
    store.write_part(0, records, features=some_features(5), facts=facts(identity=shuffled))
    assert store.part_path(0).read_bytes() == before


def test_part_without_rows(store: FeatureStore):
    store.write_part(0, [], features=np.empty((0, WIDTH), np.float32), facts=facts())
    (features,) = fill(FeatureStore(store.path.with_name("other")), [[record("a", 1)]])
    store.write_part(1, [record("a", 1)], features=features, facts=facts())
    store.write_complete([], facts={"images": 1, "parts": 2})
    found = store.read()
    assert list(found.image_id) == ["a/1.jpg"]
    assert np.array_equal(found.matrix.take(np.array([0])), features)


# -- plan, skipped, complete --------------------------------------------------------------------------------


def test_plan_has_the_columns_of_the_contract(store: FeatureStore):
    plan = make_plan([("a/1.jpg", "a", 123, 1_700_000_000_123_456_789, "ff" * 32, 0), ("b", None, -1, -1, "", 2)])
    store.write_plan(plan)
    table = pq.read_table(store.path / "plan.parquet")
    assert table.schema.names == ["image_id", "track_id", "size", "mtime", "sha256", "part"]
    text, integer = pa.utf8(), pa.int64()
    assert table.schema.types == [text, text, integer, integer, text, pa.int32()]
    assert table.to_pylist()[0]["mtime"] == 1_700_000_000_123_456_789
    assert store.read_plan() == plan


def test_no_plan_and_empty_plan(store: FeatureStore):
    assert store.read_plan() is None
    store.write_plan(Plan())
    assert store.read_plan() == Plan()


def test_skipped_is_csv(store: FeatureStore):
    skipped = [Skipped("a/1.jpg", "a", 'with, comma and "quotes"'), Skipped("b.jpg", None, "línea")]
    store.write_complete(skipped, facts={"images": 3})
    with (store.path / "skipped.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["image_id", "track_id", "reason"],
            ["a/1.jpg", "a", 'with, comma and "quotes"'],
            ["b.jpg", "", "línea"],
        ]
    assert json.loads((store.path / "complete.json").read_text())["schema"] == 2


def test_complete_is_left_alone_where_nothing_changed(store: FeatureStore):
    store.write_complete([], facts={"images": 3})
    before = [path.stat().st_ino for path in (store.complete_path, store.skipped_path)]
    store.write_complete([], facts={"images": 3})
    assert [path.stat().st_ino for path in (store.complete_path, store.skipped_path)] == before
    store.write_complete([], facts={"images": 4})
    assert store.read_complete()["images"] == 4


def test_clear_and_leftovers(store: FeatureStore):
    fill(store, [[record("a", 1)]])
    store.write_plan(Plan())
    leftover = store.path / ".part-00001.4711.tmp.arrow"
    leftover.write_bytes(b"half")
    mine = store.path / "notes.txt"
    mine.write_text("mine")
    assert store.part_numbers() == [0]
    store.remove_leftovers()
    assert not leftover.exists()
    leftover.write_bytes(b"half")
    store.clear()
    assert list(store.path.iterdir()) == [mine]


# -- reading ------------------------------------------------------------------------------------------------


def test_a_store_that_is_not_complete_is_refused(store: FeatureStore):
    fill(store, [[record("a", 1)]], complete=False)
    for read in (store.read, lambda: read_features(store.path)):
        error = refusal(read)
        assert "not complete" in error.message
        assert "vreid extract" in (error.hint or "")


def test_a_store_that_is_not_there(store: FeatureStore):
    assert "there are no features" in refusal(store.read).message


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_part_that_was_removed_after_the_end_is_missed(store: FeatureStore, lost: int):
    fill(store, [[record(track, 1)] for track in "abc"])
    store.part_path(lost).unlink()
    assert "complete.json" in refusal(store.read).message


def test_a_store_of_an_older_version_is_refused(store: FeatureStore):
    fill(store, [[record("a", 1)]])
    store.complete_path.write_text(store.complete_path.read_text().replace('"schema": 2', '"schema": 1'))
    error = refusal(store.read)
    assert "another version" in error.message
    assert "vreid extract --restart" in (error.hint or "")


def test_parts_of_other_columns_are_refused(store: FeatureStore):
    fill(store, [[record("a", 1)]])
    batch = pa.record_batch({"image_id": ["a"], "feature": [1.0]})
    with pa.OSFile(str(store.part_path(0)), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    assert "columns" in refusal(store.read).message


def test_parts_of_different_dimension_are_refused(store: FeatureStore):
    fill(store, [[record("a", 1)]], complete=False)
    store.write_part(1, [record("b", 1)], features=some_features(1, width=WIDTH + 1), facts=facts())
    store.write_complete([], facts={})
    assert "dimension" in refusal(store.read).message


def test_damaged_plan_is_refused_and_a_damaged_part_made_again(store: FeatureStore):
    fill(store, [[record("a", 1)]])
    store.plan_path.write_bytes(b"PAR1 nonsense PAR1")
    assert "remove it" in (refusal(store.read_plan).hint or "")
    store.part_path(0).write_bytes(store.part_path(0).read_bytes()[:-20])
    assert store.read_facts(0) is None
    assert "damaged" in refusal(store.read).message


@pytest.mark.slow
@pytest.mark.parametrize("name", ["part-00000.arrow", "plan.parquet", "complete.json"])
def test_damage_never_ends_in_a_crash(store: FeatureStore, name: str):
    records = [record("a", n) for n in range(7)]
    fill(store, [records])
    store.write_plan(make_plan([(r.image_id, r.track_id, 1, 2, "ab", 0) for r in records]))
    path = store.path / name
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), rng.integers(1, 8)):
            damaged[place] = rng.integers(256)
        path.unlink()  # a new file: an old one may still be mapped
        path.write_bytes(damaged[: rng.integers(1, len(content) + 1)] if rng.random() < 0.3 else damaged)
        for action in (store.read_plan, lambda: store.read_facts(0), store.read):
            try:
                action()
            except VreidError:
                continue


def oracle_order(records: Sequence[ImageRecord]) -> list[str]:
    """Gallery order by comparing one column after the other, from the last to the first, stably."""
    rows = sorted(records, key=lambda r: r.image_id)
    rows.sort(key=lambda r: -1 if r.frame is None else r.frame)
    rows.sort(key=lambda r: r.track_id or "")
    rows.sort(key=lambda r: r.camera_id or "")
    rows.sort(key=lambda r: r.vehicle_id or "")
    return [r.image_id for r in rows]


LABEL = st.sampled_from([None, "0002", "0010", "a", "Z", "é"])


@given(
    rows=st.lists(
        st.tuples(LABEL, LABEL, st.sampled_from("stu"), st.sampled_from([None, 0, 5, 12])), min_size=1, max_size=12
    ),
    cuts=st.lists(st.integers(0, 3), min_size=12, max_size=12),
)
def test_gallery_order_whatever_part_a_row_lies_in(
    tmp_path_factory: pytest.TempPathFactory, rows: list, cuts: list[int]
):
    records = [
        ImageRecord(f"{index}.jpg", Path(), track, vehicle, camera, frame)
        for index, (vehicle, camera, track, frame) in enumerate(rows)
    ]
    store = FeatureStore(tmp_path_factory.mktemp("order"))
    parts = [[r for r, cut in zip(records, cuts, strict=False) if cut == number] for number in range(4)]
    written = fill(store, parts)
    features = {
        r.image_id: row for part, block in zip(parts, written, strict=True) for r, row in zip(part, block, strict=True)
    }
    found = store.read()
    assert list(found.image_id) == oracle_order(records)
    expected = np.stack([features[image_id] for image_id in found.image_id])
    assert np.array_equal(found.matrix.take(np.arange(len(records))), expected)
    by_id = {r.image_id: r for r in records}
    assert list(found.vehicle_id) == [by_id[i].vehicle_id for i in found.image_id]
    assert list(found.camera_id) == [by_id[i].camera_id for i in found.image_id]
    assert list(found.track_id) == [by_id[i].track_id for i in found.image_id]


def test_part_added_later_sorts_in(store: FeatureStore):
    fill(store, [[record("a", 1, vehicle="0002"), record("c", 1, vehicle="0009")]], complete=False)
    store.write_part(1, [record("b", 1, vehicle="0005")], features=some_features(1), facts=facts())
    store.write_complete([], facts={})
    assert list(store.read().vehicle_id) == ["0002", "0005", "0009"]


def test_take_in_any_order_with_repeats(store: FeatureStore):
    written = np.concatenate(fill(store, [[record(track, n) for n in range(4)] for track in "abc"]))
    rows = np.array([11, 0, 5, 5, 3, 8])
    found = store.read().matrix.take(rows)
    assert np.array_equal(found, written[rows])
    found[:] = 0  # a copy of its own
    assert np.array_equal(store.read().matrix.take(rows), written[rows])
    assert store.read().matrix.take(np.array([], dtype=np.int64)).shape == (0, WIDTH)


def test_facts_of_a_feature_set(store: FeatureStore):
    fill(store, [[record("a", 1)]])
    found = store.read()
    assert (found.identity, found.image_root, found.dataset, found.protocol) == (IDENTITY, "root", "veri", "separate")
    store.write_complete([], facts={"images": 1, "parts": 1, "protocol": "gallery-tracks"})
    assert store.read().protocol == "gallery-tracks"
    store.write_complete([], facts={"images": 1, "parts": 1, "protocol": "unheard of"})
    assert "unheard of" in refusal(store.read).message
    store.write_complete([], facts={"images": 1, "parts": 1})
    assert found.source == str(store.path)
    assert found.dimension == WIDTH


# -- identity -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", list(IDENTITY))
def test_another_identity_names_the_field_that_differs(store: FeatureStore, field: str):
    fill(store, [[record("a", 1)]])
    store.check_identity(dict(reversed(IDENTITY.items())))
    error = refusal(lambda: store.check_identity({**IDENTITY, field: "other"}))
    assert field in error.message
    assert "'other'" in error.message
    assert f"'{IDENTITY[field]}'" in error.message
    assert "--restart" in (error.hint or "")
    assert "--run-dir" in (error.hint or "")


def test_every_part_is_asked_for_its_identity(store: FeatureStore):
    fill(store, [[record("a", 1)]])
    store.write_part(
        1, [record("b", 1)], features=some_features(1), facts=facts(identity={**IDENTITY, "precision": "bf16"})
    )
    assert "precision" in refusal(lambda: store.check_identity(IDENTITY)).message
    refusal(lambda: store.check_identity({**IDENTITY, "extra": "1"}))


# -- a full disk ------------------------------------------------------------------------------------------


def test_disk_that_fills_up_under_a_part_and_a_plan(
    store: FeatureStore, limited_files: Callable[[int], AbstractContextManager[None]]
):
    fill(store, [[record("a", 1)]])
    before = {path.name: path.read_bytes() for path in store.path.iterdir()}
    records = [record("a", n) for n in range(500)]
    with limited_files(3000):
        refusal(lambda: store.write_part(0, records, features=some_features(500), facts=facts()))
        rows = [(f"{n}{n * 7919}", "a", n, n, str(n * 31), 0) for n in range(5000)]
        refusal(lambda: store.write_plan(make_plan(rows)))
    assert {path.name: path.read_bytes() for path in store.path.iterdir()} == before


def test_opening_a_store_makes_no_texts(store: FeatureStore):
    fill(store, [[record("b", 0), record("b", 1)], [record("a", 0, vehicle=None)]])
    found = store.read()
    columns = (found.image_id, found.track_id, found.vehicle_id, found.camera_id)
    assert not any("texts" in vars(column) for column in columns)
    assert [column.tolist()[0] for column in columns] == ["a/0.jpg", "a", None, "c001"]
    assert found.track_id.codes.tolist() == [found.track_id.names.index(name).as_py() for name in ("a", "b", "b")]
