"""The user's cache folder, for downloads and exported networks."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

#: Names another cache folder.
CACHE_VARIABLE = "VREID_CACHE_DIR"


def cache_folder(chosen: Path | None = None) -> Path:
    """The chosen folder, else ``$VREID_CACHE_DIR``, else the platform's (Linux: ``~/.cache/vreid``).

    The folder may not exist yet.

    Examples:
        >>> cache_folder(Path("mine"))
        PosixPath('mine')
    """
    if chosen is not None:
        return chosen
    return Path(os.environ.get(CACHE_VARIABLE) or user_cache_path("vreid", appauthor=False))
