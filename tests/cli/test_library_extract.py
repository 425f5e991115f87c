"""The same extraction by the library and by the command: the same numbers, the same warnings."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny import EXTRACT, Vreid

import vreid_cli as vreid_library
from vreid_cli.store.runs import RunDirectory
from vreid_cli.types.features import MEANINGLESS


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
