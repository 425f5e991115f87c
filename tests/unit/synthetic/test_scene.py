"""The synthetic scene: its files agree with each other, and a seed makes it again."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from vreid_cli.data.clocks import read_clocks, read_travel_times
from vreid_cli.data.mot import label_by_truth
from vreid_cli.data.scene import find_recordings
from vreid_cli.data.trackers import read_mot_text
from vreid_cli.data.video import read_frames
from vreid_cli.errors import DataError
from vreid_cli.synthetic.options import SceneOptions
from vreid_cli.synthetic.scene import render_scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scene") / "made"
    render_scene(root, SceneOptions(vehicles=3), cameras=3, first_vehicle=41, seed=5)
    return root


def test_boxes_lie_on_the_vehicles_that_move(scene: Path) -> None:
    for recording in find_recordings(scene, track_file="mtsc/*"):
        truth = read_mot_text(scene / recording.camera / "gt/gt.txt")
        assert set(truth.track) <= {"41", "42", "43"}
        assert recording.video is not None
        frames = {
            k: np.asarray(image).astype(int)
            for k, image in read_frames(recording.frames, range(1, 999))
            if not isinstance(image, str)
        }
        assert truth.frame.max() <= len(frames) == recording.video.frames
        empty = np.median([frames[k] for k in frames], axis=0)
        for frame, box in zip(truth.frame.tolist(), truth.box, strict=True):
            x, y, w, h = (round(float(number)) for number in box)
            inside = np.abs(frames[frame] - empty)[y : y + h, x : x + w].mean()
            assert inside > 12


def test_each_track_is_of_one_vehicle_and_ids_begin_with_one(scene: Path) -> None:
    for recording in find_recordings(scene, track_file="mtsc/*"):
        boxes = recording.boxes()
        assert sorted(map(int, set(boxes.track)))[0] == 1
        labels = label_by_truth(boxes, read_mot_text(scene / recording.camera / "gt/gt.txt"))
        assert set(labels) == set(boxes.track)


def test_travel_times_hold_between_all_passages(scene: Path) -> None:
    cameras = [path.name for path in sorted(scene.iterdir()) if path.is_dir()]
    clocks, warnings = read_clocks(scene / "cameras.toml", cameras)
    assert warnings == []
    windows = {(one.camera_a, one.camera_b): one for one in read_travel_times(scene / "ways.csv")}
    spans = {camera: read_mot_text(scene / camera / "gt/gt.txt").spans() for camera in cameras}
    checked = 0
    for (one, other), window in windows.items():
        for vehicle in spans[one].keys() & spans[other].keys():
            start = clocks[other].seconds(np.array([spans[other][vehicle][0]]))
            end = clocks[one].seconds(np.array([spans[one][vehicle][1]]))
            assert window.min_s <= float((start - end)[0]) <= window.max_s
            checked += 1
    assert checked >= 3


def test_a_seed_makes_the_same_again(scene: Path, tmp_path: Path) -> None:
    render_scene(tmp_path / "again", SceneOptions(vehicles=3), cameras=3, first_vehicle=41, seed=5)
    for path in sorted(scene.rglob("*.*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "again" / path.relative_to(scene)).read_bytes(), path.name
    with pytest.raises(DataError, match="is not an empty folder"):
        render_scene(tmp_path / "again", seed=5)
    assert next(csv.reader((scene / "ways.csv").open())) == ["camera_a", "camera_b", "min_s", "max_s"]
