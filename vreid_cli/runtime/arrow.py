"""Where Arrow has its memory from, and when it gives it back."""

from __future__ import annotations

import os

_POOL = "ARROW_DEFAULT_MEMORY_POOL"


def share_memory() -> None:
    """Let Arrow allocate as Python and torch do, before it is imported; a pool that the user names stays.

    Its own allocator keeps room of its own, several times what a plan takes, that no other part of the process
    can use. The shared one fills what loading the network has left.
    """
    os.environ.setdefault(_POOL, "system")


def release_memory() -> None:
    """Give back to the system what was freed and is kept for the next allocation."""
    import pyarrow as pa  # not before it is known which pool it takes

    pa.default_memory_pool().release_unused()
