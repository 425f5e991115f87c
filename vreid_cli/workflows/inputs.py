"""From settings to the data that several commands begin with."""

from __future__ import annotations

import os
from pathlib import Path

from vreid_cli.config import Settings
from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.data.listing import DataFolders, Thinning
from vreid_cli.errors import UsageError
from vreid_cli.runtime.objects import as_path
from vreid_cli.workflows.session import Session

DATA_VARIABLE = "VREID_DATA_DIR"


def data_folders(settings: Settings) -> DataFolders:
    """Where the images lie.

    Without ``--data-dir`` that is the folder that ``$VREID_DATA_DIR`` names, else the layout's default.
    """
    data = settings.data
    data_dir = data.data_dir
    if data_dir is None and data.query_dir is None and data.gallery_dir is None:
        default = os.environ.get(DATA_VARIABLE) or LAYOUTS[data.dataset].default_dir
        data_dir = None if default is None else as_path(default)
    return DataFolders(
        data_dir,
        data.query_dir,
        data.gallery_dir,
        data.label_pattern,
        chosen_subset(settings),
        data.track_file,
        Thinning(data.per_track, data.choose, data.min_size, data.min_confidence),
    )


def chosen_subset(settings: Settings) -> int | None:
    """The test list, of a layout that has several."""
    return settings.data.subset if LAYOUTS[settings.data.dataset].subsets else None


def check_subset(session: Session) -> None:
    """Refuse a test list where the layout has none to choose from.

    Raises:
        UsageError: It was given all the same.
    """
    dataset = session.settings.data.dataset
    if session.resolved.given("data.subset") and not LAYOUTS[dataset].subsets:
        raise UsageError(
            f"{session.resolved.name('data.subset')}: the layout {dataset} has no test lists to choose from",
            hint=f"leave it out; those of {' and '.join(name for name in LAYOUTS if LAYOUTS[name].subsets)} have",
        )


def absolute(path: Path | None) -> str | None:
    """The path as a run keeps it."""
    return None if path is None else str(path.resolve())
