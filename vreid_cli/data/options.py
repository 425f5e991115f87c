"""Which data set, and where it lies."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.runtime.options import Location
from vreid_cli.types.images import Split
from vreid_cli.types.options import DATA, Choice, NotNegative, Options, Positive, option

#: A split; VeRi calls its gallery "test".
SplitName = Annotated[Split, BeforeValidator(lambda name: "gallery" if name == "test" else name)]
DatasetName = Annotated[str, Choice(LAYOUTS)]

_SUBSETS = "; ".join(f"{', '.join(map(str, one.subsets))} of {one.name}" for one in LAYOUTS.values() if one.subsets)
_OWN_FOLDERS = " and ".join(one.name for one in LAYOUTS.values() if one.own_folders)


class DataOptions(Options):
    """``[data]``: the data set, its folders, and how labels are read from names."""

    dataset: DatasetName = option(
        "veri",
        f"Layout of the data set: {', '.join(one.title for one in LAYOUTS.values())}.",
        metavar="NAME",
        panel=DATA,
    )
    data_dir: Location | None = option(
        None,
        "Folder of the data set, or the manifest of --dataset csv.",
        metavar="DIR",
        panel=DATA,
        shown=f"$VREID_DATA_DIR, else {LAYOUTS['veri'].default_dir}",
    )
    query_dir: Location | None = option(
        None, f"Folder of the query tracks, of --dataset {_OWN_FOLDERS}.", metavar="DIR", panel=DATA
    )
    gallery_dir: Location | None = option(
        None,
        f"Folder of the gallery tracks, of --dataset {_OWN_FOLDERS}.",
        flag="--gallery-dir --test-dir",
        metavar="DIR",
        panel=DATA,
    )
    subset: Positive | None = option(
        None,
        f"Which test list, by its size: {_SUBSETS}.",
        panel=DATA,
        shown="the only one",
    )
    splits: Annotated[tuple[SplitName, ...], Field(min_length=1)] = option(
        ("query", "gallery"), "What to extract.", flag="--split", panel=DATA
    )
    track_file: str | None = option(
        None,
        "The tracker's file in the folder of each camera, of --dataset mot; * stands for anything.",
        metavar="PATH",
        panel=DATA,
        shown="the only one, else gt/gt.txt",
    )
    per_track: Positive = option(16, "Most images of a track, of --dataset mot.", panel=DATA)
    choose: Literal["even", "largest"] = option(
        "even", "Which boxes of a longer track are used: evenly spread ones, or the largest.", panel=DATA
    )
    min_size: NotNegative = option(16.0, "Smallest width and height of a box in pixels, of --dataset mot.", panel=DATA)
    min_confidence: NotNegative = option(0.0, "Least confidence of a box, of --dataset mot.", panel=DATA)
    label_pattern: str | None = option(
        None,
        "Reads labels from names: a regular expression with groups 'vehicle' and 'camera'.",
        metavar="REGEX",
        panel=DATA,
        shown="names like 0002_c002_…",
    )
