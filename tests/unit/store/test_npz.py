"""Features as .npz, of any model."""

from __future__ import annotations

import io
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vreid_cli.errors import DataError, StoreError, VreidError
from vreid_cli.ranking.options import RankingOptions
from vreid_cli.ranking.rank import rank
from vreid_cli.store.formats import read_features, write_features
from vreid_cli.types.features import FeatureSet

NO_LABELS = "(?P<vehicle>(?!))"


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_npz_features(tmp_path: Path) -> None:
    path = npz(
        tmp_path / "f.npz",
        features=np.arange(6, dtype=np.float16).reshape(3, 2),
        image_id=np.array(["a.jpg", "b.jpg", "c.jpg"]),
        track_id=np.array(["t", "t", ""]),
        vehicle_id=np.array(["1", "", "0002"]),
        camera_id=np.array(["c1", "c2", ""]),
        extra=np.array(7),
    )
    found = read_features(path)
    assert found.matrix.take(np.array([2, 0])).tolist() == [[4, 5], [0, 1]]
    assert list(found.image_id) == ["a.jpg", "b.jpg", "c.jpg"]
    assert list(found.track_id) == ["t", "t", None]
    assert list(found.vehicle_id) == ["1", None, "0002"]
    assert list(found.camera_id) == ["c1", "c2", None]
    assert (found.identity, found.image_root) == (None, None)


def test_npz_labels_are_read_from_names_where_they_are_left_out(tmp_path: Path) -> None:
    features = np.ones((2, 3))
    by_track = read_features(npz(tmp_path / "t.npz", features=features, track_id=np.array(["0001_c001", "x"])))
    assert (list(by_track.vehicle_id), list(by_track.camera_id)) == (["0001", None], ["c001", None])
    by_image = read_features(npz(tmp_path / "i.npz", features=features, image_id=np.array(["0007_c003_1.jpg", "y"])))
    assert (list(by_image.vehicle_id), list(by_image.camera_id)) == (["0007", None], ["c003", None])
    assert list(by_image.track_id) == [None, None]


def test_npz_is_written_and_read_back(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    made = FeatureSet.from_arrays(
        rows,
        track_id=["t", "t", "u"],
        image_id=["ä", "b", "c"],
        vehicle_id=["0001", None, "2"],
        camera_id=[None, "c", "d"],
    )
    path = tmp_path / "f.npz"
    write_features(path, replace(made, identity={"architecture": "resnet18"}))
    found = read_features(path, label_pattern=NO_LABELS)
    assert np.array_equal(found.matrix.take(np.arange(3)), rows)
    for name in ("image_id", "track_id", "vehicle_id", "camera_id"):
        assert list(getattr(found, name)) == list(getattr(made, name))
    with np.load(path, allow_pickle=False) as file:
        assert str(file["architecture"]) == "resnet18"


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"feature": np.ones((2, 2))}, "no array 'features'"),
        ({}, "no array 'features'"),
        ({"features": np.ones(3)}, r"shape \(3,\)"),
        ({"features": np.ones((2, 2, 2))}, r"shape \(2, 2, 2\)"),
        ({"features": np.array([["a", "b"]])}, r"not \(N, D\) numbers"),
        ({"features": np.ones((2, 2), dtype=complex)}, "complex"),
        ({"features": np.ones((2, 2), dtype=bool)}, "bool"),
        ({"features": np.array([[1.0, 2], [np.nan, 1]])}, "row 1 of 'features' is not finite"),
        ({"features": np.array([[np.inf, 2], [0, 1]])}, "row 0 of 'features' is not finite"),
        ({"features": np.ones((2, 2)), "track_id": np.array(["a"])}, "'track_id'"),
        ({"features": np.ones((2, 2)), "vehicle_id": np.array([["a", "b"]])}, "'vehicle_id'"),
        ({"features": np.ones((2, 2)), "image_id": np.array(["a", ""])}, "'image_id' is empty"),
    ],
)
def test_npz_features_that_are_wrong(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    path = npz(tmp_path / "f.npz", **arrays)
    with pytest.raises(DataError, match=said) as caught:
        read_features(path)
    assert str(path) in caught.value.message


class Trap:
    """What must never come alive."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was opened",)


def test_nothing_in_an_npz_is_unpickled(tmp_path: Path) -> None:
    objects = np.empty(2, dtype=object)
    objects[:] = [Trap(), Trap()]
    for arrays in ({"features": objects}, {"features": np.ones((2, 2)), "track_id": objects}):
        path = npz(tmp_path / "f.npz", **arrays)
        with pytest.raises(DataError, match=r"plain arrays") as caught:
            read_features(path)
        assert caught.value.hint is not None
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError):
        read_features(path)


def corrupted() -> bytes:
    """A compressed archive whose first member does not begin as deflate begins."""
    target = io.BytesIO()
    np.savez_compressed(target, features=np.ones((40, 8)))
    content = bytearray(target.getvalue())
    content[30 + content[26] + content[28]] = 0x07
    return bytes(content)


def encrypted() -> bytes:
    """An archive whose members say that they are encrypted."""
    target = io.BytesIO()
    np.savez(target, features=np.ones((2, 2)))
    with zipfile.ZipFile(target) as archive:
        offset = archive.start_dir
    content = bytearray(target.getvalue())
    content[6] |= 1
    content[offset + 8] |= 1
    return bytes(content)


def plain_npy() -> bytes:
    target = io.BytesIO()
    np.save(target, np.ones((2, 2)))
    return target.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"nonsense", id="text"),
        pytest.param(b"PK\x03\x04" + b"\0" * 30, id="broken archive"),
        pytest.param(plain_npy(), id="npy"),
        pytest.param(corrupted(), id="corrupted"),
        pytest.param(encrypted(), id="encrypted"),
    ],
)
def test_a_damaged_npz(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "f.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"f\.npz"):
        read_features(path)


@pytest.mark.parametrize("name", ["f.npz", "f.json", "folder", "f.parquet"])
def test_features_that_are_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises((DataError, StoreError), match=r"there (is|are) no") as caught:
        read_features(tmp_path / name)
    assert caught.value.file == str(tmp_path / name)


@pytest.mark.parametrize("ending", ["npz", "json"])
def test_a_folder_by_the_name_of_a_file(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"f.{ending}").mkdir()
    with pytest.raises(VreidError):
        read_features(tmp_path / f"f.{ending}")


def test_texts_as_bytes_are_texts(tmp_path: Path) -> None:
    path = npz(tmp_path / "f.npz", features=np.ones((1, 2)), track_id=np.array([b"0001_c001"]))
    found = read_features(path)
    assert (list(found.track_id), list(found.vehicle_id)) == (["0001_c001"], ["0001"])


def test_npz_features_beyond_float32_are_not_finite(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = npz(tmp_path / "f.npz", features=np.array([[1.0, 1e39]]))
    with pytest.raises(DataError, match="not finite"):
        read_features(path)
    assert not recwarn.list


def test_features_from_files_have_no_self(tmp_path: Path) -> None:
    path = npz(tmp_path / "f.npz", features=np.eye(3), track_id=np.array(["a", "b", "c"]))
    side = read_features(path)
    assert not rank(side, side, RankingOptions(metric=("minMED",)))["minMED"].facts.selves
