"""Tracked boxes in frames that are in memory: the features of their crops as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import save_weights

import vreid_cli as vreid
from vreid_cli.errors import DataError


@dataclass
class Found:
    xyxy: np.ndarray
    tracker_id: np.ndarray | None


def test_features_are_those_of_the_crops(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    network = vreid.load_network(save_weights(tmp_path / "tiny.safetensors"), arch="resnet18")
    frames, paths = [], []
    for number in (4, 5):
        pixels = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
        boxes = np.array([[5.0, 6, 45, 36], [30, 10, 79, 50], [200, 10, 240, 50]])
        frames.append((number, pixels[..., ::-1], Found(boxes, np.array([7, 9, 11]))))
        for track, (x0, y0, x1, y1) in zip((7, 9), boxes.astype(int), strict=False):
            paths.append(tmp_path / f"{number}-{track}.png")
            Image.fromarray(pixels[y0:y1, x0:x1]).save(paths[-1])
    features = vreid.extract_detections(frames, network, camera="c1")
    assert features.track_id.tolist() == ["c1_7", "c1_9", "c1_7", "c1_9"]
    assert features.frame is not None
    assert features.frame.tolist() == [4, 4, 5, 5]
    (warning,) = features.warnings
    assert warning.startswith("2 boxes of camera c1 cannot be used, left out: frame 4, track 11: ")
    wanted = vreid.extract(paths, network)
    assert (features.identity, features.weights) == (wanted.identity, wanted.weights)  # so that they are never mixed
    rows = np.arange(4)
    np.testing.assert_allclose(features.matrix.take(rows), wanted.matrix.take(rows), rtol=1e-5, atol=1e-6)
    same = vreid.extract_detections([(n, p[..., ::-1], f) for n, p, f in frames], network, camera="c1", channels="rgb")
    np.testing.assert_array_equal(same.matrix.take(rows), features.matrix.take(rows))
    found = vreid.associate(features, vreid.AssociationOptions(threshold=0.001))
    assert len(found) == 2


def test_boxes_without_tracks_are_refused(tmp_path: Path) -> None:
    network = vreid.load_network(save_weights(tmp_path / "tiny.safetensors"), arch="resnet18")
    frame = (1, np.zeros((60, 80, 3), np.uint8), Found(np.array([[5.0, 6, 45, 36]]), None))
    with pytest.raises(DataError, match="no box of camera c1 can be used"):
        vreid.extract_detections([frame], network, camera="c1")
    with pytest.raises(DataError, match="'bgr' or 'rgb'"):
        vreid.extract_detections([frame], network, camera="c1", channels="hsv")
