"""Labels in names."""

from __future__ import annotations

import re

import pytest

from vreid_cli.errors import UsageError
from vreid_cli.types.labels import LabelPattern, NameLabels


@pytest.mark.parametrize(
    ("name", "vehicle", "camera", "frame"),
    [
        ("0002_c002_00030600_0.jpg", "0002", "c002", 30600),
        ("0002_c002", "0002", "c002", None),
        ("0002_c002_t0175", "0002", "c002", None),
        ("0776_c020_", "0776", "c020", None),
        ("0002_c0021", None, None, None),
        ("0002_c002.jpg", None, None, None),
        ("002_c002_0", None, None, None),
        ("x0002_c002_0", None, None, None),
        ("0002_C002_0", None, None, None),
        ("0002-c002", None, None, None),
        ("", None, None, None),
        ("0002_c002_99999999999999999999_0.jpg", "0002", "c002", None),  # no 64-bit integer
    ],
)
def test_labels_in_names(name: str, vehicle: str | None, camera: str | None, frame: int | None):
    assert LabelPattern.compile(None).read(name) == NameLabels(vehicle, camera, frame)


@pytest.mark.parametrize("vehicle", ["0002", "2", "", "12345"])
@pytest.mark.parametrize("camera", ["c002", "c2", "c0020"])
@pytest.mark.parametrize("rest", ["", "_", "_t1", "_00000001_0.jpg", ".jpg", "x"])
def test_default_pattern_is_that_of_the_contract(vehicle: str, camera: str, rest: str):
    name = f"{vehicle}_{camera}{rest}"
    expected = re.search(r"^\d{4}_c\d{3}(_|$)", name) is not None
    assert (LabelPattern.compile(None).read(name).vehicle_id is not None) == expected


def test_own_pattern_is_searched_anywhere():
    pattern = LabelPattern.compile(r"(?P<vehicle>[a-z]+_\d+)_cam(?P<camera>\d)")
    assert pattern.read("xx/car_12_cam2.jpg") == NameLabels("car_12", "2", None)


def test_empty_groups_are_no_labels():
    pattern = LabelPattern.compile(r"^(?P<vehicle>\d*)-(?P<camera>c\d)?")
    assert pattern.read("-") == NameLabels(None, None, None)
    assert pattern.read("7-") == NameLabels("7", None, None)


@pytest.mark.parametrize("pattern", ["(", r"(?P<camera>\d)", "no groups"])
def test_pattern_that_cannot_be_used(pattern: str):
    with pytest.raises(UsageError, match="--label-pattern") as caught:
        LabelPattern.compile(pattern)
    assert "(?P<vehicle>" in str(caught.value.hint)
