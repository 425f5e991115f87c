"""Columns and arrays: dtypes by name, and labels as numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]
Int32Array = NDArray[np.int32]
Int64Array = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
#: A column of ids or labels: dtype object, each a ``str`` or ``None``.
TextArray = NDArray[np.object_]


def text_array(values: Sequence[str | None]) -> TextArray:
    """A column of ids: dtype object, so that ``None`` stays ``None``.

    Examples:
        >>> text_array(["c001", None]).tolist()
        ['c001', None]
    """
    column = np.empty(len(values), dtype=object)
    column[:] = list(values)
    return column


def shared_codes(one: TextArray, other: TextArray) -> tuple[Int64Array, Int64Array]:
    """Two columns of labels as numbers, the same number for the same label; -1 where absent.

    Examples:
        >>> one, other = shared_codes(text_array(["a", None, "b"]), text_array(["b", "c"]))
        >>> one.tolist(), other.tolist()
        ([0, -1, 1], [1, 2])
    """
    codes: dict[str | None, int] = {None: -1}

    def encode(column: TextArray) -> Int64Array:
        return np.fromiter((codes.setdefault(label, len(codes) - 1) for label in column), np.int64, len(column))

    return encode(one), encode(other)
