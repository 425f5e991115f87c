"""Features in a LanceDB database: what is written is read back, and other programs find in it what ours would."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import vreid_cli as vreid
from vreid_cli.errors import DataError, MissingExtraError, StoreError
from vreid_cli.store.formats import read_features, write_features
from vreid_cli.types.features import COLUMNS, FeatureSet

lancedb = pytest.importorskip("lancedb")


@pytest.fixture
def features() -> FeatureSet:
    rows = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    labels = {"vehicle_id": [None, *"11223344"], "camera_id": [*"xyxyxyxy", None], "frame": [*range(8), -1]}
    found = FeatureSet.from_arrays(rows, track_id=[f"ü{n // 2}" for n in range(9)], **labels)
    identity = {"architecture": "resnet18", "weights_digest": "12"}
    return replace(
        found, identity=identity, dataset="veri", weights="mine", image_root="/data", protocol="gallery-tracks"
    )


def test_what_is_written_is_read_back(features: FeatureSet, tmp_path: Path) -> None:
    path = tmp_path / "cars.lancedb"
    for written in (features.select(np.arange(3)), features):  # the second takes the first one's place
        write_features(path, written)
        again = read_features(path)
        every = np.arange(len(written))
        np.testing.assert_array_equal(again.matrix.take(every), written.matrix.take(every))
        for name in (*COLUMNS, "frame"):
            assert getattr(again, name).tolist() == getattr(written, name).tolist()
        for name in ("identity", "dataset", "weights", "image_root", "protocol", "version"):
            assert getattr(again, name) == getattr(written, name)
    assert [entry.name for entry in tmp_path.iterdir()] == ["cars.lancedb"]


@pytest.mark.parametrize(("metric", "kind", "power"), [("MCD", "cosine", 1), ("MED", "l2", 2)])
def test_its_distances_are_ours(features: FeatureSet, tmp_path: Path, metric: str, kind: str, power: int) -> None:
    path = tmp_path / "cars.lancedb"
    write_features(path, features)
    table = lancedb.connect(path).open_table("features")
    assert metric in json.loads(table.schema.metadata[b"vreid"])["distances"][kind]
    query = FeatureSet.from_arrays(np.ones((1, 5), dtype=np.float32), track_id=["q"])
    ranking = vreid.rank(query, features, vreid.RankingOptions(task="i2i", metric=metric))[metric]
    (block,) = ranking.blocks
    found = table.search(np.ones(5, dtype=np.float32)).distance_type(kind).limit(9).to_arrow()
    assert found.column("image_id").to_pylist() == ranking.gallery.ids[block.gallery_index].tolist()
    np.testing.assert_allclose(found.column("_distance").to_numpy(), block.distance**power, rtol=1e-4, atol=1e-6)


def test_a_flipped_bit_is_found_and_named(features: FeatureSet, tmp_path: Path) -> None:
    path = tmp_path / "cars.lancedb"
    write_features(path, features)
    (file,) = path.glob("features.lance/data/*")
    whole = file.read_bytes()
    place = whole.index(features.matrix.take(np.arange(1)).tobytes())
    for offset in (3, 11):
        content = bytearray(whole)
        content[place + offset] ^= 0x01
        file.write_bytes(content)
        with pytest.raises(StoreError, match="is damaged: its rows are not those that were written"):
            read_features(path)
    file.write_bytes(whole)
    # What another program adds is read, and no longer compared.
    row = {"image_id": "new", "track_id": "t", "vehicle_id": None, "camera_id": None, "frame": None}
    lancedb.connect(path).open_table("features").add([{**row, "vector": [1.0] * 5}])
    assert len(read_features(path)) == 10


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{", "its metadata: Expecting property name"),
        ("[1]", "its metadata: 'list' object"),
        ('{"identity": [1]}', "its metadata: 'list' object"),
        ('{"weights": 3}', "its metadata: a fact is no text"),
    ],
)
def test_metadata_that_are_none_are_named(tmp_path: Path, said: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        read_features(foreign(tmp_path / "cars.lancedb", [1.0, 2.0], said))


def foreign(path: Path, vector: list[float | None], said: str = "{}") -> Path:
    """A table of one row, by another program."""
    columns = [*((name, pa.utf8()) for name in COLUMNS), ("frame", pa.int64()), ("vector", pa.list_(pa.float32(), 2))]
    schema = pa.schema(columns, metadata={"vreid": said})
    table = pa.table([["i"], ["t"], [None], [None], [1], [vector]], schema=schema)
    lancedb.connect(path).create_table("features", data=table, schema=schema, on_bad_vectors="null")
    return path


@pytest.mark.parametrize(
    ("vector", "message"),
    [([1.0, float("inf")], "image i is not finite"), ([1.0, None], "a row lacks its")],
)
def test_vectors_that_are_none_are_named(tmp_path: Path, vector: list[float | None], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_features(foreign(tmp_path / "cars.lancedb", vector))


def test_what_is_no_such_database_is_named(
    features: FeatureSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cars.lancedb"
    with pytest.raises(DataError, match="there are no features at"):
        read_features(path)
    path.mkdir()
    with pytest.raises(DataError, match="has no table 'features'; it has none"):
        read_features(path)
    lancedb.connect(path).create_table("features", [{"image_id": "a", "vector": [1.0, 2.0]}])
    with pytest.raises(DataError, match="has no column 'track_id' of utf8"):
        read_features(path)
    write_features(path, features)
    for part in (path / "features.lance" / "data").iterdir():
        part.write_bytes(b"no data")
    with pytest.raises(StoreError, match="is damaged"):
        read_features(path)
    monkeypatch.setattr("vreid_cli.runtime.extras.find_spec", lambda name: None)
    for work in (lambda: read_features(path), lambda: write_features(path, features)):
        with pytest.raises(MissingExtraError, match="needs lancedb") as caught:
            work()
        assert 'pip install "vreid[lancedb]"' in str(caught.value.hint)
