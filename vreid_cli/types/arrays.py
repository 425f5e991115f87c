"""Columns and arrays: dtypes by name, and labels as numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid_cli.errors import DataError

Float32Array = NDArray[np.float32]
Int32Array = NDArray[np.int32]
Int64Array = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
#: A column of ids or labels: dtype object, each a ``str`` or ``None``.
TextArray = NDArray[np.object_]


def as_matrix(values: ArrayLike, *, name: str) -> NDArray[np.floating]:
    """A matrix of numbers, whatever it was given as; copied only where it is no array of floats.

    Args:
        values: An array, or lists of numbers.
        name: What messages call it.

    Raises:
        DataError: It is none.

    Examples:
        >>> as_matrix([[1, 2], [3, 4]], name="features").dtype
        dtype('float64')
    """
    try:
        matrix = np.asarray(values)
        numbers = matrix if np.issubdtype(matrix.dtype, np.floating) else matrix.astype(np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"{name}: these are no numbers in rows of one length: {error}") from None
    if numbers.ndim != 2:
        raise DataError(
            f"{name}: needs rows and columns, not an array of shape {numbers.shape}",
            hint="of a single row make a matrix with array[None]",
        )
    return numbers


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
