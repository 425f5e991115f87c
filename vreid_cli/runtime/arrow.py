"""Arrow's memory: which allocator it uses, and when it returns memory to the system."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from vreid_cli.types.arrays import Int32Array, Int64Array, from_numpy, in_one_piece, to_numpy

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
        table: An Arrow table with these columns; labels as plain text, or dictionary-encoded with each text once.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    # Few texts are compared, and many numbers.
    keys = {name: from_numpy(_ranks(table.column(name))) for name in ("vehicle_id", "camera_id", "track_id")}
    keys["frame"] = from_numpy(to_numpy(table.column("frame"), absent=-1))
    keys["image_id"] = in_one_piece(table.column("image_id"))
    order = pc.sort_indices(pa.record_batch(keys), sort_keys=[(name, "ascending") for name in keys])
    return to_numpy(order).astype(np.int64)


def _ranks(column: Any) -> Int32Array:
    """(N,) int32 that sort as a column's texts do; an absent one as an empty one."""
    import pyarrow.compute as pc

    encoded = in_one_piece(column).dictionary_encode()
    texts = encoded.dictionary
    ranks = np.zeros(len(texts) + 1, dtype=np.int32)  # the last stands for what is absent
    ranks[to_numpy(pc.sort_indices(texts))] = np.arange(1, len(ranks))
    ranks[:-1][to_numpy(pc.binary_length(texts)) == 0] = 0
    own: Int32Array = ranks[to_numpy(encoded.indices, absent=-1)]
    return own
