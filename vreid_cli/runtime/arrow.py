"""Arrow's memory: which allocator it uses, and when it returns memory to the system."""

from __future__ import annotations

import os
from typing import Any

from vreid_cli.types.arrays import Int64Array

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


def gallery_order(table: Any) -> Int64Array:
    """(N,) int64 rows of a table in gallery order: vehicle, camera, passage, frame, image_id; absent values first.

    Bytes of UTF-8 sort as their characters do.

    Args:
        table: An Arrow table with these columns, labels as plain text.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    absent: dict[str, str | int] = {"frame": -1}
    names = ("vehicle_id", "camera_id", "track_id", "frame", "image_id")
    keys = pa.table({name: pc.fill_null(table.column(name), absent.get(name, "")) for name in names})
    order: Int64Array = (
        pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in names]).to_numpy().astype("int64")
    )
    return order
