"""Identities scored box by box, over all cameras at once. Definition: docs/definitions.md#scores-of-identities."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vreid_cli.evaluation.identities import BoxScores, match_one_to_one
from vreid_cli.types.arrays import Int64Array, shared_codes, text_array
from vreid_cli.types.tracker import MATCH_IOU, TrackerBoxes, boxes_by_frame, iou


def evaluate_boxes(
    found: Mapping[str, TrackerBoxes], truth: Mapping[str, TrackerBoxes], *, min_iou: float = MATCH_IOU
) -> BoxScores:
    """Score boxes whose ids are the same for a vehicle before all cameras (Ristani et al. 2016).

    Identities and vehicles are matched one to one so that most boxes lie on each other, by an IoU of at least
    ``min_iou``, in one frame of one camera.

    Args:
        found: Boxes with global ids, by camera.
        truth: True boxes with the ids of vehicles, by camera.
        min_iou: Overlap from which two boxes lie on each other.

    Examples:
        >>> ids = np.array(["7"], dtype=object)
        >>> boxes = TrackerBoxes(np.array([1]), ids, np.array([[0.0, 0, 9, 9]]), np.ones(1))
        >>> evaluate_boxes({"c1": boxes}, {"c1": boxes}).idf1
        1.0
    """
    rows: list[Int64Array] = []
    names = [text_array([str(one) for boxes in side.values() for one in boxes.track]) for side in (found, truth)]
    codes = [shared_codes(column, column[:0])[0] for column in names]
    starts = [np.cumsum([0, *(len(boxes) for boxes in side.values())]) for side in (found, truth)]
    begin = [dict(zip(side, start.tolist(), strict=False)) for side, start in zip((found, truth), starts, strict=True)]
    for camera in found.keys() & truth.keys():
        one, other = found[camera], truth[camera]
        for own, true in boxes_by_frame(one, other):
            hit = np.argwhere(iou(one.box[own], other.box[true]) >= min_iou)
            rows.append(
                np.stack(
                    [codes[0][begin[0][camera] + own[hit[:, 0]]], codes[1][begin[1][camera] + true[hit[:, 1]]]], axis=1
                )
            )
    cells, count = np.unique(np.concatenate(rows) if rows else np.empty((0, 2), np.int64), axis=0, return_counts=True)
    matched = count[match_one_to_one(cells[:, 0], cells[:, 1], count.astype(np.float64))].sum() if len(cells) else 0
    totals = [len(column) for column in names]

    def ratio(top: float, bottom: float) -> float:
        return float(top / bottom) if bottom else float("nan")

    return BoxScores(
        ratio(2 * matched, sum(totals)), ratio(matched, totals[0]), ratio(matched, totals[1]), totals[0], totals[1]
    )
