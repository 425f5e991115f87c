"""Which data set, and where it lies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.types.images import Split
from vreid_cli.types.options import DATA, Choice, Options, Positive, option

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
    data_dir: Path | None = option(
        None,
        "Folder of the data set, or the manifest of --dataset csv.",
        metavar="DIR",
        panel=DATA,
        shown=f"$VREID_DATA_DIR, else {LAYOUTS['veri'].default_dir}",
    )
    query_dir: Path | None = option(
        None, f"Folder of the query tracks, of --dataset {_OWN_FOLDERS}.", metavar="DIR", panel=DATA
    )
    gallery_dir: Path | None = option(
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
    label_pattern: str | None = option(
        None,
        "Reads labels from names: a regular expression with groups 'vehicle' and 'camera'.",
        metavar="REGEX",
        panel=DATA,
        shown="names like 0002_c002_…",
    )
