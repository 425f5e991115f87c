"""Extraction into memory: the same numbers as the store's, from folders, paths and listings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from extraction_bench import IMAGES, Bench, draw, load_tiny

from vreid_cli.data.listing import DataFolders
from vreid_cli.data.veri import read_veri
from vreid_cli.errors import DataError, UsageError
from vreid_cli.extraction.extract import extract
from vreid_cli.extraction.options import ExtractionOptions
from vreid_cli.runtime.options import RuntimeOptions
from vreid_cli.types.features import FeatureSet

#: As :class:`Bench` extracts.
OPTIONS = ExtractionOptions(part_images=4, batch_size=4, workers=0)
ON_CPU = RuntimeOptions(device="cpu")


def rows(features: FeatureSet) -> np.ndarray:
    return features.matrix.take(np.arange(len(features)))


def run(images: Any, **options: object) -> FeatureSet:
    return extract(images, load_tiny(), options=OPTIONS.model_copy(update=options), runtime=ON_CPU)


def check_same(found: FeatureSet, stored: FeatureSet) -> None:
    assert np.array_equal(rows(found), rows(stored))
    for name in ("image_id", "track_id", "vehicle_id", "camera_id"):
        assert list(getattr(found, name)) == list(getattr(stored, name))
    assert found.image_root == stored.image_root


def test_a_folder_of_tracks_has_the_features_of_its_store_bit_for_bit(bench: Bench):
    bench.image("0002_c001/1.png").write_bytes(b"no image")
    bench.image("0003_c002/0.png").write_bytes(b"")
    summary = bench.run()
    found = run(bench.data / "gallery")
    check_same(found, bench.store.read())
    assert found.warnings[:-1] == summary.warnings
    assert "0002_c001/1.png (not an image" in found.warnings[0]
    assert "left out: 0003_c002" in found.warnings[1]
    assert "random weights" in found.warnings[-1]
    assert found.identity is not None
    assert found.identity["architecture"] == "tiny"


def test_a_listing_of_a_reader(veri: Bench):
    veri.run()
    check_same(run(read_veri(DataFolders(veri.data), "gallery"), part_images=3), veri.store.read())


def test_a_flat_folder_and_paths_give_images_without_tracks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    names = ["0002_c001_00000010_0.png", "0001_c003_00000020_0.png", "mine.png"]
    for seed, name in enumerate(names):
        draw(tmp_path / "images" / name, seed)
    (tmp_path / "images" / "notes.txt").write_text("no image")
    found = run(tmp_path / "images")
    assert list(found.image_id) == ["mine.png", names[1], names[0]]  # gallery order
    assert list(found.track_id) == [None] * 3
    assert list(found.vehicle_id) == [None, "0001", "0002"]
    assert list(found.camera_id) == [None, "c003", "c001"]
    monkeypatch.chdir(tmp_path)
    check_same(run([Path("images") / name for name in names]), found)
    check_same(run([str(tmp_path / "images" / name) for name in names]), found)


def test_paths_of_several_folders_are_relative_to_what_they_share(bench: Bench):
    found = run([bench.image("0001_c001/0.png"), bench.image("0004_c001/2.png")])
    assert list(found.image_id) == ["0001_c001/0.png", "0004_c001/2.png"]
    assert found.image_root == str((bench.data / "gallery").resolve())


def test_an_image_that_is_not_there_is_left_out(bench: Bench):
    found = run([bench.image("0001_c001/0.png"), bench.image("0001_c001/9.png")])
    assert list(found.image_id) == ["0.png"]
    assert "9.png (the file is not there)" in found.warnings[0]


class Backwards:
    """An engine that works on each part by itself, the last one first."""

    def map(self, work: Any, parts: Sequence[Any]) -> Iterator[Any]:
        for part in reversed(parts):
            yield from work([part])


def test_another_engine_changes_nothing(bench: Bench):
    bench.run()
    features = extract(bench.data / "gallery", load_tiny(), options=OPTIONS, runtime=ON_CPU, engine=Backwards())
    check_same(features, bench.store.read())


def test_what_cannot_be_is_refused(bench: Bench, tmp_path: Path):
    with pytest.raises(DataError, match="no images were named"):
        run([])
    with pytest.raises(DataError, match="there is no folder"):
        run(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no such arithmetic"):
        run(bench.data / "gallery", precision="tf32")
    bench.image("0002_c001/1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1\.png: not an image"):
        run(bench.data / "gallery", strict=True)
    for path in bench.data.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=f"of {IMAGES} images in .* none can be used"):
        run(bench.data / "gallery")
