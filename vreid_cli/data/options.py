"""Which data set, and where it lies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from vreid_cli.types.images import Split
from vreid_cli.types.options import DATA, Options, Positive, option

DatasetName = Literal["veri", "vehicleid", "veri-wild", "vric", "aicity", "tracks", "csv"]


class DataOptions(Options):
    """``[data]``: the data set, its folders, and how labels are read from names."""

    dataset: DatasetName = option(
        "veri",
        "Layout of the data set: veri, vehicleid, veri-wild, vric, aicity, tracks (a folder per track) or "
        "csv (a table of images, or of boxes in frames).",
        metavar="NAME",
        panel=DATA,
    )
    data_dir: Path | None = option(
        None,
        "Folder of the data set, or the manifest of --dataset csv.",
        metavar="DIR",
        panel=DATA,
        shown="$VREID_DATA_DIR, else VeRi",
    )
    query_dir: Path | None = option(
        None, "Folder of the query tracks, of --dataset tracks.", metavar="DIR", panel=DATA, shown=""
    )
    gallery_dir: Path | None = option(
        None,
        "Folder of the gallery tracks, of --dataset tracks.",
        flag="--gallery-dir --test-dir",
        metavar="DIR",
        panel=DATA,
        shown="",
    )
    subset: Positive | None = option(
        None,
        "Which test list, by its size: 800, 1600, … of vehicleid, 3000, … of veri-wild.",
        panel=DATA,
        shown="the only one",
    )
    splits: Annotated[tuple[Split, ...], Field(min_length=1)] = option(
        ("query", "gallery"), "What to extract.", flag="--split", panel=DATA
    )
    label_pattern: str | None = option(
        None,
        "Reads labels from names: a regular expression with groups 'vehicle' and 'camera'.",
        metavar="REGEX",
        panel=DATA,
        shown="names like 0002_c002_…",
    )
