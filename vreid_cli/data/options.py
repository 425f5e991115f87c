"""Which data set, and where it lies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from vreid_cli.types.images import Split
from vreid_cli.types.options import Options, Positive

DatasetName = Literal["veri", "vehicleid", "veri-wild", "vric", "aicity", "tracks", "csv"]


class DataOptions(Options):
    """``[data]``: the data set, its folders, and how labels are read from names."""

    dataset: DatasetName = "veri"
    data_dir: Path | None = None
    query_dir: Path | None = None
    gallery_dir: Path | None = None
    subset: Positive | None = None
    splits: Annotated[tuple[Split, ...], Field(min_length=1)] = ("query", "gallery")
    label_pattern: str | None = None
