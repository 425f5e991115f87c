"""Trackers' files: what they say, their faults by file and line, and the same file with other ids."""

from __future__ import annotations

import bz2
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from videos import write_lines

from vreid_cli.data.trackers import TRACKER_FORMATS, read_mot_text, read_ottrk, read_ultralytics_labels, tracker_format
from vreid_cli.errors import DataError
from vreid_cli.types.tracker import TrackerBoxes

NUMBER = st.floats(-50, 500).map(lambda x: round(x, 3))
SIZE = st.floats(0, 300).map(lambda x: round(x, 3))
ROWS = st.lists(
    st.tuples(st.integers(1, 99), st.integers(0, 9), NUMBER, NUMBER, SIZE, SIZE, st.floats(0, 1)),
    min_size=1,
    max_size=9,
)


def table(boxes: TrackerBoxes) -> list[tuple[object, ...]]:
    return [
        (int(frame), track, *box.tolist(), float(confidence))
        for frame, track, box, confidence in zip(boxes.frame, boxes.track, boxes.box, boxes.confidence, strict=True)
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(rows=ROWS, tail=st.sampled_from([(), (-1, -1, -1), (1, 0.5)]), blanks=st.booleans())
def test_mot_lines_are_read_as_they_stand(
    tmp_path: Path, rows: list[tuple[Any, ...]], tail: tuple[object, ...], blanks: bool
) -> None:
    path = write_lines(tmp_path / "a.txt", [(*row, *tail) for row in rows])
    if blanks:
        path.write_text("\ufeff" + path.read_text().replace("\n", " \r\n\n").replace(",", ", "), encoding="utf-8")
    assert table(read_mot_text(path)) == [(row[0], str(row[1]), *row[2:]) for row in rows]


def test_words_instead_of_commas_and_no_confidence(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("3 7 1 2 30 40\n4 7 1 2 30 40 -1\n5 -1 1 2 30 40 0.9\n6.0 8.0 1 2 30 40 0.5\n")
    boxes = read_mot_text(path)
    assert boxes.track.tolist() == ["7", "7", "8"]
    assert boxes.frame.tolist() == [3, 4, 6]
    assert [math.isnan(value) for value in boxes.confidence] == [True, True, False]
    assert boxes.spans() == {"7": (3, 4), "8": (6, 6)}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2,3,4,5", "5 columns, at least 6 are needed"),
        ("0,2,3,4,5,6", "frame 0: frames are counted from 1"),
        (f"{'9' * 30},2,3,4,5,6", f"frame {'9' * 30}: frames are counted from 1"),
        ("1,2,3,4,-5,6", "a box of negative size: w -5, h 6"),
        ("1,2.5,3,4,5,6", "id '2.5' is no whole number"),
        ("1,2,3,four,5,6", "y 'four' is no number"),
        ("1,2,3,nan,5,6", "y 'nan' is no number"),
        ("1,2,3,4,5,6,sure", "confidence 'sure' is no number"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(f"1,1,1,1,9,9\n\n{line}\n")
    with pytest.raises(DataError) as caught:
        read_mot_text(path)
    assert caught.value.message == f"{path}, line 3: {message}"
    assert caught.value.file == str(path)


def test_ids_of_any_length_stay_apart(tmp_path: Path) -> None:
    ids = ["9007199254740993", "9007199254740992", "1" * 40]
    path = write_lines(tmp_path / "a.txt", [(1, name, 1, 1, 9, 9) for name in ids])
    assert read_mot_text(path).track.tolist() == ids


def test_labels_of_impossible_frames_are_named(tmp_path: Path) -> None:
    for number in ("0", "9" * 30):
        (tmp_path / f"a_{number}.txt").write_text("0 0.5 0.5 0.1 0.1 7")
        with pytest.raises(DataError, match=f"frame {number}: frames are counted from 1"):
            read_ultralytics_labels(tmp_path, (10, 10))
        (tmp_path / f"a_{number}.txt").unlink()


def test_detections_without_ids_are_no_tracks(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "det.txt", [(1, -1, 2, 3, 4, 5, 0.5)])
    with pytest.raises(DataError, match="holds detections without ids"):
        read_mot_text(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="is not text"):
        read_mot_text(path)
    with pytest.raises(DataError, match="there is no file"):
        read_mot_text(tmp_path / "gone.txt")


def test_ultralytics_shares_become_pixels(tmp_path: Path) -> None:
    (tmp_path / "vdo_2.txt").write_text("2 0.5 0.25 0.5 0.5 7\n")
    (tmp_path / "vdo_10.txt").write_text("2 0.5 0.25 0.5 0.5 0.75 8\n0 0.1 0.1 0.1 0.1\n")
    found = table(read_ultralytics_labels(tmp_path, (200, 100)))
    assert found[0][:6] == (2, "7", 50.0, 0.0, 100.0, 50.0)
    assert found[1] == (10, "8", 50.0, 0.0, 100.0, 50.0, 0.75)
    assert len(found) == 2
    assert tracker_format(tmp_path) is TRACKER_FORMATS["ultralytics"]
    (tmp_path / "vdo_10.txt").write_text("2 0.5 0.25 0.5\n")
    with pytest.raises(DataError, match=r"vdo_10.txt, line 1: 4 columns"):
        read_ultralytics_labels(tmp_path, (200, 100))
    (tmp_path / "other_1.txt").write_text("")
    with pytest.raises(DataError, match="labels of several videos: other, vdo"):
        read_ultralytics_labels(tmp_path, (200, 100))


def write_ottrk(path: Path, version: str, detections: list[dict[str, object]]) -> Path:
    content = {"metadata": {"otdet_version": version}, "data": {"detections": detections}}
    path.write_bytes(bz2.compress(json.dumps(content).encode()))
    return path


SEEN = {"frame": 4, "track-id": 7, "x": 10, "y": 20, "w": 4, "h": 6, "confidence": 0.5, "class": "car"}


@pytest.mark.parametrize(("version", "corner"), [("1.0", (8, 17)), ("1.1", (10, 20)), ("1.2", (10, 20))])
def test_the_corner_of_an_ottrk_box_depends_on_its_version(
    tmp_path: Path, version: str, corner: tuple[int, int]
) -> None:
    path = write_ottrk(tmp_path / "c1.ottrk", version, [SEEN])
    assert table(read_ottrk(path)) == [(4, "7", *map(float, corner), 4.0, 6.0, 0.5)]
    assert tracker_format(path) is TRACKER_FORMATS["ottrk"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w": -1}, "detection 2: a box of negative size"),
        ({"x": "left"}, "detection 2: x 'left' is no number"),
        ({"frame": None}, "detection 2: frame 'None' is no number"),
        ({"frame": -3}, "detection 2: frame -3: frames are counted from 1"),
        ({"w": 10**400}, "detection 2: w '10+' is no number"),
    ],
)
def test_a_bad_detection_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = write_ottrk(tmp_path / "c1.ottrk", "1.2", [SEEN, {**SEEN, **change}])
    with pytest.raises(DataError, match=message):
        read_ottrk(path)
    write_ottrk(path, "1.2", [{"frame": 1}])
    with pytest.raises(DataError, match="detection 1 has no 'track-id'"):
        read_ottrk(path)
    path.write_bytes(b"no bzip2")
    with pytest.raises(DataError, match=r"is no \.ottrk"):
        read_ottrk(path)


def test_each_format_is_written_again_with_other_ids(tmp_path: Path) -> None:
    text = write_lines(
        tmp_path / "a.txt", [(1, 7, 1, 2, 30, 40, 0.5, -1), (2, 8, 1, 2, 30, 40, 0.5, -1), (2, -1, 0, 0, 1, 1)]
    )
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "vdo_1.txt").write_text("2 0.5 0.25 0.5 0.5 0.75 7\n0 0.1 0.1 0.1 0.1\n")
    (labels / "vdo_2.txt").write_text("2 0.5 0.25 0.5 0.5 0.75 8\n")
    packed = write_ottrk(tmp_path / "a.ottrk", "1.0", [{**SEEN, "frame": 1}, {**SEEN, "frame": 2, "track-id": 8}])
    for path in (text, labels, packed):
        one = tracker_format(path)
        assert one is not None
        output = tmp_path / "again" / path.name
        one.rewrite(path, output, {"7": 501, "8": 502})
        before, after = (one.read(place, (100, 100)) for place in (path, output))
        assert after.track.tolist() == ["501", "502"]
        np.testing.assert_array_equal(after.box, before.box)
        np.testing.assert_array_equal(after.frame, before.frame)
        np.testing.assert_array_equal(after.confidence, before.confidence)
    assert (tmp_path / "again/a.txt").read_text().splitlines()[0] == "1,501,1,2,30,40,0.5,-1"
