"""The layout ``mot``: which boxes are used, what they show, and what is wrong with a scene."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import draw
from videos import draw_scene, make_frames, write_lines, write_video

import vreid_cli as vreid
from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.data.listing import DataFolders, Listing, Thinning
from vreid_cli.data.mot import clip, label_by_truth, thin
from vreid_cli.data.scene import find_recordings
from vreid_cli.errors import DataError, UsageError
from vreid_cli.types.tracker import TrackerBoxes, iou


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_scene(tmp_path_factory.mktemp("scene"), video=False)


@pytest.fixture
def scene(drawn: Path, tmp_path: Path) -> Path:
    shutil.copytree(drawn, tmp_path / "scene")
    return tmp_path / "scene"


def read(root: Path, *, track_file: str | None = "mtsc/*", **more: object) -> Listing:
    folders = DataFolders(root, track_file=track_file, thinning=Thinning(**more))  # type: ignore[arg-type]
    return LAYOUTS["mot"].read(folders, "gallery")


def test_ids_of_cameras_are_told_apart_and_truth_names_the_vehicles(scene: Path) -> None:
    listing = read(scene)
    labels = {(r.track_id, r.camera_id, r.vehicle_id) for r in listing.records}
    assert labels == {("c1_1", "c1", "11"), ("c1_2", "c1", "12"), ("c2_2", "c2", "11"), ("c2_1", "c2", "12")}
    assert len(listing.records) == 4 * 16
    assert listing.protocol == "every-track"
    first = listing.records[0]
    assert first.image_id == "c1/img1/000001.png#xywh=6,8,30,24"
    assert first.path == scene / "c1/img1/000001.png"
    assert {r.frame for r in listing.records if r.track_id == "c1_1"} >= {1, 24}
    # Without ground truth nobody knows them; where it is the tracks themselves, it names them too.
    assert {r.vehicle_id for r in read(scene, track_file="gt/gt.txt").records} == {"11", "12"}
    for camera in ("c1", "c2"):
        (scene / camera / "gt/gt.txt").unlink()
    assert {r.vehicle_id for r in read(scene).records} == {None}


def test_boxes_that_cannot_be_used_are_counted(scene: Path) -> None:
    lines = [
        *((1, 7, 100, 8, 60, 24, 0.9), (2, 7, -20, -20, 40, 40, 0.9)),  # clipped
        *((3, 7, 10, 10, 9, 30, 0.9), (4, 7, 10, 10, 30, 30, 0.2)),  # small, unsure
        *((5, 7, 300, 10, 30, 30, 0.9), (6, 7, 10, 10, 0, 30, 0.9)),  # outside, empty
        *((1, 7, 1, 1, 30, 30, 0.9), (99, 7, 10, 10, 30, 30, 0.9), (1, 8, 10, 10, 3, 3, 0.9)),  # repeated, no frame
    ]
    write_lines(scene / "c1/mtsc/sort.txt", lines)
    listing = read(scene, min_confidence=0.5)
    own = [r for r in listing.records if r.camera_id == "c1"]
    assert [r.box for r in own] == [(100, 8, 20, 24), (0, 0, 20, 20)]
    assert sorted(listing.warnings) == [
        "1 box less sure than --min-confidence 0.5, left out",
        "1 box of a frame that is not there, left out (such as frame 99 of c1: img1/ has none)",
        "1 box outside the frame, left out",
        "1 box repeated in one frame, left out",
        "1 box without a size, left out",
        "1 track without a box that can be used, left out",
        "2 boxes smaller than --min-size 16, left out",
    ]
    with pytest.raises(DataError, match=r"no box of .* is left"):
        read(scene, min_size=500)


BOXES = st.lists(st.tuples(*[st.integers(-20, 120)] * 2, *[st.integers(0, 60)] * 2), min_size=1, max_size=6)


@given(BOXES)
def test_what_is_clipped_is_what_is_seen(boxes: list[tuple[int, int, int, int]]) -> None:
    for (x, y, w, h), found in zip(boxes, clip(np.array(boxes, dtype=float), (100, 80)), strict=True):
        inside = np.zeros((300, 300), dtype=bool)
        inside[y + 100 : y + h + 100, x + 100 : x + w + 100] = True
        area = int(inside[100:180, 100:200].sum())
        assert found[2] * found[3] == area


@given(BOXES, BOXES)
def test_overlap_is_counted_in_pixels(one: list[tuple[int, ...]], other: list[tuple[int, ...]]) -> None:
    def mask(box: tuple[int, ...]) -> np.ndarray:
        found = np.zeros((300, 300), dtype=bool)
        found[box[1] + 100 : box[1] + box[3] + 100, box[0] + 100 : box[0] + box[2] + 100] = True
        return found

    found = iou(np.array(one, dtype=float), np.array(other, dtype=float))
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            union = (mask(a) | mask(b)).sum()
            assert found[i, j] == pytest.approx((mask(a) & mask(b)).sum() / union if union else 0)


@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=40), st.integers(1, 6), st.sampled_from(["even", "largest"])
)
def test_thinning_keeps_ends_or_the_largest(tracks: list[str], most: int, choose: str) -> None:
    rng = np.random.default_rng(len(tracks))
    area = rng.integers(1, 99, size=len(tracks)).astype(float)
    boxes = np.column_stack([np.zeros((len(tracks), 2)), area, np.ones(len(tracks))])
    frames = rng.permutation(len(tracks)).astype(np.int64)
    made = TrackerBoxes(frames, np.array(tracks, dtype=object), boxes, area)
    rows = thin(made, boxes, Thinning(per_track=most, choose=choose))  # type: ignore[arg-type]
    assert len(set(rows.tolist())) == len(rows)
    for track in set(tracks):
        own = sorted((k for k in range(len(tracks)) if tracks[k] == track), key=lambda k: frames[k])
        kept = [k for k in rows.tolist() if tracks[k] == track]
        assert len(kept) == min(most, len(own))
        assert [frames[k] for k in kept] == sorted(frames[k] for k in kept)
        if choose == "largest":
            assert sorted(area[kept]) == sorted(sorted(area[own])[-len(kept) :])
        elif len(kept) > 1:
            assert (kept[0], kept[-1]) == (own[0], own[-1])


def test_a_track_shows_the_vehicle_that_most_of_its_boxes_overlap() -> None:
    def made(rows: list[tuple[int, str, float]]) -> TrackerBoxes:
        frame, track, x = zip(*rows, strict=True)
        boxes = np.array([(left, 0, 10, 10) for left in x], dtype=float)
        return TrackerBoxes(np.array(frame), np.array(track, dtype=object), boxes, np.ones(len(rows)))

    truth = made([*((f, "a", 0) for f in range(1, 7)), *((f, "b", 20) for f in range(1, 7))])
    tracked = [
        (1, "1", 1.0),
        (2, "1", 2.0),
        (3, "1", 20.0),
        (1, "2", 21.0),
        (2, "2", 50.0),
        (4, "3", 4.0),
        (9, "4", 0.0),
    ]
    assert label_by_truth(made(tracked), truth) == {"1": "a"}


def test_cameras_are_found_in_scenarios_and_beside_each_other(tmp_path: Path) -> None:
    video = write_video(tmp_path / "one.mp4", make_frames(4))
    for camera in ("S01/c001", "S01/c002", "S02/c003"):
        (tmp_path / "train" / camera / "mtsc").mkdir(parents=True)
        shutil.copy(video, tmp_path / "train" / camera / "vdo.avi")
        write_lines(tmp_path / "train" / camera / "mtsc/sort.txt", [(1, 1, 1, 1, 30, 30)])
        write_lines(tmp_path / "train" / camera / "det/det.txt", [(1, -1, 1, 1, 30, 30)])
        (tmp_path / "train" / camera / "calibration.txt").write_text("1 2;3 4")
    assert [one.camera for one in find_recordings(tmp_path / "train")] == ["c001", "c002", "c003"]
    flat = tmp_path / "flat"
    flat.mkdir()
    for camera in ("north", "south"):
        shutil.copy(video, flat / f"{camera}.mp4")
        write_lines(flat / f"{camera}.txt", [(1, 1, 1, 1, 30, 30)])
    assert [(one.camera, one.tracks.name) for one in find_recordings(flat)] == [
        ("north", "north.txt"),
        ("south", "south.txt"),
    ]
    alone = tmp_path / "alone"
    (alone / "labels").mkdir(parents=True)
    shutil.copy(video, alone / "vdo.mp4")
    (alone / "labels/vdo_1.txt").write_text("2 0.5 0.5 0.5 0.5 3\n")
    (one,) = find_recordings(alone)
    assert (one.camera, one.boxes().track.tolist(), one.clock()) == ("alone", ["3"], vreid.Clock(10.0))


def test_what_is_missing_in_a_scene_is_named(scene: Path) -> None:
    with pytest.raises(DataError, match=r"camera c1 has no 'x/\*.txt'"):
        read(scene, track_file="x/*.txt")
    write_lines(scene / "c1/mtsc/other.txt", [(1, 1, 1, 1, 30, 30)])
    with pytest.raises(
        DataError, match=r"camera c1 has several files of tracks: mtsc/other\.txt, mtsc/sort\.txt"
    ) as caught:
        read(scene)
    assert caught.value.hint is not None
    assert "--track-file 'mtsc/other.txt'" in caught.value.hint
    (scene / "c1/mtsc/other.txt").unlink()
    shutil.rmtree(scene / "c2/img1")
    with pytest.raises(DataError, match=r"c2 holds tracks, but neither a video nor frames in img1/"):
        read(scene)
    shutil.rmtree(scene / "c2")
    draw(scene / "c1/img1/first.png")
    with pytest.raises(DataError, match=r"first\.png: its name is no frame number"):
        read(scene)
    (scene / "c1/img1/first.png").unlink()
    write_lines(scene / "c1/mtsc/sort.txt", [])
    with pytest.raises(DataError, match=r"sort.txt holds no track"):
        read(scene)
    shutil.rmtree(scene / "c1")
    with pytest.raises(DataError, match="holds no camera"):
        read(scene)
    with pytest.raises(UsageError, match="each track of the gallery is a query"):
        LAYOUTS["mot"].read(DataFolders(scene), "query")


def test_sequences_state_their_frame_rate(scene: Path) -> None:
    (scene / "c1/seqinfo.ini").write_text("[Sequence]\nname=c1\nframeRate=25\n")
    clocks = {one.camera: one.clock() for one in find_recordings(scene, track_file="mtsc/*")}
    assert clocks == {"c1": vreid.Clock(25.0), "c2": None}
    (scene / "c1/seqinfo.ini").write_text("frameRate: fast")
    with pytest.raises(DataError, match=r"seqinfo\.ini cannot be read"):
        find_recordings(scene, track_file="mtsc/*")[0].clock()
