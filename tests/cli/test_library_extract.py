"""The same extraction by the library and by the command: the same numbers, the same warnings."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import EXTRACT, Vreid

import vreid_cli as vreid_library
from vreid_cli.store.runs import RunDirectory
from vreid_cli.types.features import MEANINGLESS
from vreid_cli.types.images import ImageRecord


@pytest.fixture
def data(vreid: Vreid, made: Path) -> Path:
    """Images of the test's own: a bad one, a track without a good one, a track without images."""
    data = Path(shutil.copytree(made / "data", "data"))
    (data / "gallery/0004_c001/1.png").write_bytes(b"no image")
    (data / "gallery/0009_c001/0.png").write_bytes(b"")
    (data / "gallery/0010_c001").mkdir()
    return data


@pytest.mark.parametrize("part_images", [512, 4])
def test_command_and_library_extract_the_same(vreid: Vreid, weights: Path, data: Path, part_images: int) -> None:
    chosen = ("--data-dir", data, "--weights", weights, "--split", "gallery", "--device", "cpu")
    report = vreid.json(*EXTRACT, *chosen, "--set", f"extract.part_images={part_images}")
    stored = RunDirectory(Path(report["run_dir"])).features("gallery").read()

    network = vreid_library.load_network(weights)
    found = vreid_library.extract(
        data / "gallery",
        network,
        options=vreid_library.ExtractionOptions(part_images=part_images),
        runtime=vreid_library.RuntimeOptions(device="cpu"),
    )

    rows = np.arange(len(stored))
    assert np.array_equal(found.matrix.take(rows), stored.matrix.take(rows))
    for name in ("image_id", "track_id", "vehicle_id", "camera_id"):
        assert list(getattr(found, name)) == list(getattr(stored, name))
    assert (found.identity, found.image_root, found.weights) == (stored.identity, stored.image_root, stored.weights)
    assert list(found.warnings) == report["warnings"]
    assert len(found.warnings) == 3
    assert len(report["skipped"]) == 2


def test_random_weights_warn_both_ways(vreid: Vreid, made: Path) -> None:
    vreid_arguments = ("--data-dir", made / "data", "--weights", "random", "--split", "query", "--device", "cpu")
    report = vreid.json(*EXTRACT, *vreid_arguments)
    network = vreid_library.load_network("random", arch="resnet18")
    found = vreid_library.extract(made / "data" / "query", network, runtime=vreid_library.RuntimeOptions(device="cpu"))
    assert list(found.warnings) == report["warnings"] == [MEANINGLESS]


def test_records_bring_their_own_labels_and_boxes(weights: Path, made: Path, tmp_path: Path) -> None:
    path = next((made / "data" / "gallery").rglob("*.png")).absolute()
    records = [
        ImageRecord("a", path, "t1", "7", "north", 3),
        ImageRecord("b", path, "t2", "8", "south", 4, box=(1.0, 2.0, 20.0, 16.0)),
    ]
    network = vreid_library.load_network(weights)
    found = vreid_library.extract(records, network)
    assert list(found.image_id) == [path.name, f"{path.name}#xywh=1,2,20,16"]
    assert (list(found.track_id), list(found.vehicle_id)) == (["t1", "t2"], ["7", "8"])
    with Image.open(path) as image:
        image.convert("RGB").crop((1, 2, 21, 18)).save(tmp_path / "crop.png")
    alone = vreid_library.extract([tmp_path / "crop.png"], network)
    np.testing.assert_allclose(found.matrix.take(np.array([1])), alone.matrix.take(np.array([0])), rtol=1e-5, atol=1e-5)
