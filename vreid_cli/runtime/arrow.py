"""Arrow's memory: which allocator it uses, and when it returns memory to the system."""

from __future__ import annotations

import os

_POOL = "ARROW_DEFAULT_MEMORY_POOL"


def share_memory() -> None:
    """Let Arrow allocate as Python and torch do. Call it before pyarrow is imported; the user's own choice stays.

    Arrow's own allocator reserves several times what a plan takes, which no other part of the process can use. The
    shared one fills the room that loading the network left.
    """
    os.environ.setdefault(_POOL, "system")


def release_memory() -> None:
    """Return freed memory to the system."""
    import pyarrow as pa  # only after share_memory chose the allocator

    pa.default_memory_pool().release_unused()
