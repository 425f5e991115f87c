"""From settings to the data that several commands begin with. Imports neither torch nor pyarrow."""

from __future__ import annotations

import os
from pathlib import Path

from vreid_cli.config import Settings
from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.data.listing import DataFolders, Thinning
from vreid_cli.errors import UsageError
from vreid_cli.models.sources import require_default_weights
from vreid_cli.runtime.files import real_path
from vreid_cli.runtime.objects import as_path
from vreid_cli.types.images import Split
from vreid_cli.workflows.session import RunChoice, Session

DATA_VARIABLE = "VREID_DATA_DIR"
_THINNING = ("per_track", "choose", "min_size", "min_confidence")


def extraction_run(settings: Settings) -> RunChoice:
    """A run of its own. The data of one that is there may have moved, and its identity is checked by itself."""
    folders = ("data.data_dir", "data.query_dir", "data.gallery_dir")
    thinning = tuple(f"data.{name}" for name in _THINNING)
    free = (*folders, *thinning, "data.label_pattern", "model.arch", "model.weights", "model.output", "model.input")
    # Features that are made again may be those of another data set.
    return RunChoice(
        use_latest=False, free=(*free, "data.dataset", "data.subset") if settings.extract.restart else free
    )


def look_for_data(session: Session) -> None:
    """Refuse a folder that is not there, before seconds go by in which torch is imported.

    Raises:
        UsageError: The architecture has no weights of its own.
        DataError: As the layout says it.
    """
    folders = data_folders(session.settings)
    named = (folders.data_dir, folders.query_dir, folders.gallery_dir)
    if all(path is None or path.exists() for path in named):
        return
    check_subset(session)
    model = session.settings.model
    if model.weights is None and session.resolved.given("model.arch"):
        require_default_weights(model.arch)  # wrong usage is said first
    for split in chosen_splits(session):
        LAYOUTS[session.settings.data.dataset].read(folders, split)


def chosen_splits(session: Session) -> tuple[Split, ...]:
    """The splits to extract, each once: those of the layout, where none are given."""
    data = session.settings.data
    if not session.resolved.given("data.splits"):
        return LAYOUTS[data.dataset].splits
    return tuple(dict.fromkeys(data.splits))


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
    """Refuse a test list where the layout has none to choose from, and what only trackers' files have.

    Raises:
        UsageError: It was given all the same.
    """
    dataset = session.settings.data.dataset
    if session.resolved.given("data.subset") and not LAYOUTS[dataset].subsets:
        raise UsageError(
            f"{session.resolved.name('data.subset')}: the layout {dataset} has no test lists to choose from",
            hint=f"leave it out; those of {' and '.join(name for name in LAYOUTS if LAYOUTS[name].subsets)} have",
        )
    for key in ("track_file", *_THINNING) if dataset != "mot" else ():
        if session.resolved.typed(f"data.{key}"):
            raise UsageError(f"{session.resolved.name(f'data.{key}')}: only --dataset mot uses it", hint="leave it out")


def absolute(path: Path | None) -> str | None:
    """The path as a run keeps it."""
    return None if path is None else str(real_path(path))
