"""Which vehicles are learned and which are held out."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toys import records

from vreid_cli.errors import DataError, UsageError
from vreid_cli.training.vehicles import check_held_out, divide, fingerprint, number_vehicles


def test_the_vehicles_with_the_smallest_digests_are_held_out():
    names = [f"car_{k}" for k in range(20)]
    divided = divide(records(*names, *names, None), held_out=7)
    expected = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:7]
    assert {record.vehicle_id for record in divided.held_out} == set(expected)
    assert len(divided.held_out) == 14
    assert {record.vehicle_id for record in divided.learned} == set(names) - set(expected)
    assert divided.unlabelled == 1
    share = divide(records(*names), held_out=0.31)
    assert {record.vehicle_id for record in share.held_out} == set(expected)
    assert not divide(records(*names), held_out=0).held_out


@pytest.mark.parametrize(
    ("names", "held_out", "error"),
    [
        ((None, None), 0, DataError),
        (("a", "b", "c"), 2, DataError),
        (("a", "b", "c", "d"), 1, DataError),
        (("a", "b", "c", "d"), 9, DataError),
        (("a", "b", "c", "d"), 2.5, UsageError),
    ],
)
def test_what_cannot_be_divided_is_refused(names, held_out, error):
    with pytest.raises(error) as caught:
        divide(records(*names), held_out=held_out)
    assert "held" in caught.value.message or "nothing to learn" in caught.value.message


def test_vehicles_are_numbered_by_name():
    classes, labels = number_vehicles(records("b", "a", "b", "c"))
    assert classes == ["a", "b", "c"]
    assert labels.tolist() == [1, 0, 1, 2]
    assert labels.dtype == np.int64


def test_the_fingerprint_tells_images_labels_and_sizes_apart(tmp_path: Path):
    for k in range(2):
        (tmp_path / f"{k}.png").write_bytes(b"x" * (k + 1))
    first = fingerprint(records("a", "b", folder=tmp_path))
    assert fingerprint(records("a", "b", folder=tmp_path)) == first
    assert fingerprint(records("a", "c", folder=tmp_path)) != first
    assert fingerprint(records("a", folder=tmp_path)) != first
    (tmp_path / "1.png").write_bytes(b"longer")
    assert fingerprint(records("a", "b", folder=tmp_path)) != first


@pytest.mark.parametrize(
    ("vehicles", "cameras", "found"),
    [("ab", "12", False), ("aabb", "1122", False), ("aabb", "1222", True), ("aab", "1-1", True), ("", "", True)],
)
def test_held_out_vehicles_must_be_seen_by_two_cameras(vehicles: str, cameras: str, found: bool):
    images = [
        replace(record, camera_id=None if camera == "-" else camera)
        for record, camera in zip(records(*vehicles), cameras, strict=True)
    ]
    if found:
        check_held_out(images)
    else:
        with pytest.raises(DataError, match="by two cameras"):
            check_held_out(images)
