"""Tiny trees of data sets, and what a reader lists of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.data.listing import DataFolders, Listing
from vreid_cli.errors import VreidError
from vreid_cli.types.images import Split

Row = tuple[str, str | None, str | None, str | None]


def touch(root: Path, *names: str) -> None:
    """Make empty files; readers look at names, not into images."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write(path: Path, *lines: str) -> Path:
    """A list as the releases have them: CRLF, and spaces before it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line} \r\n" for line in lines).encode())
    return path


def ids(listing: Listing) -> list[str]:
    return [record.image_id for record in listing.records]


def rows(listing: Listing) -> list[Row]:
    return [(r.image_id, r.track_id, r.vehicle_id, r.camera_id) for r in listing.records]


def refusal(dataset: str, folders: DataFolders, split: Split = "gallery") -> VreidError:
    """The error of a reader, which says what to do about it."""
    with pytest.raises(VreidError) as caught:
        LAYOUTS[dataset].read(folders, split)
    assert caught.value.hint
    return caught.value
