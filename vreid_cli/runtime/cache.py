"""The user's cache folder: downloaded weights, and what was measured on this machine."""

from __future__ import annotations

import os
from pathlib import Path

#: Names another cache folder.
CACHE_VARIABLE = "VREID_CACHE_DIR"


def cache_folder() -> Path:
    """``$VREID_CACHE_DIR``, else ``vreid`` in ``$XDG_CACHE_HOME`` or in ``~/.cache``; it may not exist yet."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vreid"
