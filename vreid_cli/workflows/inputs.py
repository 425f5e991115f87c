"""From settings to the data that several commands begin with."""

from __future__ import annotations

import os
from pathlib import Path

from vreid_cli.config import Settings
from vreid_cli.data.layouts import WITH_SUBSETS
from vreid_cli.data.listing import DataFolders
from vreid_cli.errors import UsageError
from vreid_cli.workflows.session import Session

DATA_VARIABLE = "VREID_DATA_DIR"


def data_folders(settings: Settings) -> DataFolders:
    """Where the images lie; without ``--data-dir`` the folder that ``$VREID_DATA_DIR`` names."""
    data = settings.data
    named = data.query_dir is not None or data.gallery_dir is not None
    data_dir = data.data_dir
    if data_dir is None and not named:
        data_dir = Path(os.environ[DATA_VARIABLE]) if os.environ.get(DATA_VARIABLE) else None
    return DataFolders(data_dir, data.query_dir, data.gallery_dir, data.label_pattern, chosen_subset(settings))


def chosen_subset(settings: Settings) -> int | None:
    """The test list, of a layout that has several."""
    return settings.data.subset if settings.data.dataset in WITH_SUBSETS else None


def check_subset(session: Session) -> None:
    """Refuse a test list where the layout has none to choose from.

    Raises:
        UsageError: It was given all the same.
    """
    dataset = session.settings.data.dataset
    if session.resolved.given("data.subset") and dataset not in WITH_SUBSETS:
        raise UsageError(
            f"{session.resolved.name('data.subset')}: the layout {dataset} has no test lists to choose from",
            hint=f"leave it out; those of {' and '.join(sorted(WITH_SUBSETS))} have",
        )


def absolute(path: Path | None) -> str | None:
    """The path as a run keeps it."""
    return None if path is None else str(path.resolve())
