"""Box-level ID measures against motmetrics, with one numbering of frames for all cameras."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vreid_cli.evaluation.box_identities import evaluate_boxes
from vreid_cli.types.arrays import text_array
from vreid_cli.types.tracker import TrackerBoxes, iou

#: Camera, frame, id, place.
BOXES = st.lists(
    st.tuples(st.sampled_from(["c1", "c2"]), st.integers(1, 3), st.integers(1, 4), st.integers(0, 3)),
    min_size=1,
    max_size=14,
    unique_by=lambda box: box[:3],
)


def made(rows: list[tuple[str, int, int, int]]) -> dict[str, TrackerBoxes]:
    found = {}
    for camera in ("c1", "c2"):
        own = [row for row in rows if row[0] == camera]
        boxes = np.array([(20 * place, 3 * place, 30, 20) for *_, place in own], dtype=float).reshape(-1, 4)
        frames = np.array([frame for _, frame, *_ in own], dtype=np.int64)
        found[camera] = TrackerBoxes(frames, text_array([str(one) for _, _, one, _ in own]), boxes, np.ones(len(own)))
    return found


@settings(max_examples=15)
@given(found=BOXES, true=BOXES)
def test_scores_are_those_of_motmetrics(
    found: list[tuple[str, int, int, int]], true: list[tuple[str, int, int, int]]
) -> None:
    motmetrics = pytest.importorskip("motmetrics")
    one, other = made(found), made(true)
    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    for camera in ("c1", "c2"):
        for frame in range(1, 4):
            own, wanted = (side[camera].select(side[camera].frame == frame) for side in (one, other))
            distance = 1 - iou(wanted.box, own.box)
            distance[distance > 0.5] = np.nan
            accumulator.update([int(k) for k in wanted.track], [int(k) for k in own.track], distance)
    names = {"idf1": "idf1", "idp": "precision", "idr": "recall"}
    theirs = motmetrics.metrics.create().compute(accumulator, metrics=list(names), name="x")
    ours = evaluate_boxes(one, other)
    for name, own_name in names.items():
        assert getattr(ours, own_name) == pytest.approx(float(theirs[name]["x"]))


def test_a_camera_without_truth_only_has_wrong_boxes() -> None:
    one, other = made([("c1", 1, 1, 0), ("c2", 1, 1, 0)]), made([("c1", 1, 5, 0)])
    found = evaluate_boxes(one, {"c1": other["c1"]})
    assert (found.precision, found.recall, found.found, found.true) == (0.5, 1.0, 2, 1)
    assert np.isnan(evaluate_boxes({}, {}).idf1)
