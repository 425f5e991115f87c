"""Columns and arrays: dtypes by name, NumPy's and Arrow's, and labels as numbers.

``to_numpy`` and ``pa.array`` of Arrow itself import pandas where that is installed (apache/arrow#34994), which takes
longer than looking at a small run. What such commands do goes through the functions here, which do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

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


def as_float32(numbers: NDArray[np.floating]) -> Float32Array:
    """The numbers as float32; copied only where they are something else.

    Examples:
        >>> as_float32(np.array([[0.5]], dtype=np.float16)).dtype
        dtype('float32')
    """
    if numbers.dtype != np.float16:
        return numbers.astype(np.float32, copy=False)
    import torch

    widened: Float32Array = torch.from_numpy(numbers).float().numpy()
    return widened


def text_array(values: Sequence[str | None]) -> TextArray:
    """A column of ids: dtype object, so that ``None`` stays ``None``.

    Examples:
        >>> text_array(["c001", None]).tolist()
        ['c001', None]
    """
    column = np.empty(len(values), dtype=object)
    column[:] = list(values)
    return column


def in_one_piece(column: Any) -> Any:
    """(N,) an Arrow column as an array; copied only where it comes in several pieces.

    ``combine_chunks`` of Arrow itself copies a single piece, too.

    Examples:
        >>> import pyarrow as pa
        >>> in_one_piece(pa.chunked_array([["c001"], ["c002"]])).to_pylist()
        ['c001', 'c002']
    """
    import pyarrow as pa

    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def to_numpy(column: Any, *, absent: float | None = None) -> NDArray[Any]:
    """(N,) a column of numbers or truth values, not copied where nothing is absent.

    Args:
        column: An Arrow array, in one piece or several.
        absent: What stands for a number that is absent; None where none is.

    Raises:
        pyarrow.ArrowException: The column is of another type, or a number is absent.

    Examples:
        >>> import pyarrow as pa
        >>> to_numpy(pa.array([True, False])), to_numpy(pa.array([1, None, 3])[1:], absent=-1)
        (array([ True, False]), array([-1,  3]))
    """
    import pyarrow as pa  # not for the help's sake, which reads this module

    whole = in_one_piece(column)
    if pa.types.is_boolean(whole.type):  # bits there, bytes here
        return np.from_dlpack(whole.cast(pa.uint8())).view(np.bool_)
    if absent is None or not whole.null_count:
        return np.from_dlpack(whole)
    numbers = pa.Array.from_buffers(whole.type, len(whole), [None, whole.buffers()[1]], offset=whole.offset)
    return np.where(to_numpy(whole.is_valid()), np.from_dlpack(numbers), absent)


def from_numpy(values: NDArray[Any]) -> Any:
    """(N,) numbers as an Arrow array, not copied.

    Examples:
        >>> from_numpy(np.arange(3)).to_pylist()
        [0, 1, 2]
    """
    import pyarrow as pa

    numbers = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(numbers.dtype), len(numbers), [None, pa.py_buffer(numbers)])


def from_texts(texts: Iterable[str | None]) -> Any:
    """(N,) texts as an Arrow array of utf8.

    Examples:
        >>> from_texts(["c001", None]).to_pylist()
        ['c001', None]
    """
    import pyarrow as pa

    builder = pa.lib.StringBuilder()
    builder.append_values(texts)
    return builder.finish()


@dataclass(frozen=True, eq=False)
class Labels(Sequence[str | None]):
    """A column of ids or labels that is used as a :data:`TextArray` is, and keeps numbers until texts are asked for.

    A million of Python's texts take longer to make than a store takes to open, and few are ever looked at.

    Attributes:
        codes: (N,) whole numbers: where each entry's text stands in ``names``; -1 where it is absent.
        names: The texts, in a NumPy or an Arrow array: each once, so that equal labels have equal codes. Image ids,
            which are distinct by themselves, may stand here as they come.

    Examples:
        >>> labels = Labels.of(["c001", None, "c001"])
        >>> labels.codes.tolist(), labels[2], labels[1:].tolist(), (labels == "c001").tolist()
        ([0, -1, 0], 'c001', [None, 'c001'], [True, False, True])
    """

    codes: Int32Array | Int64Array
    names: Any

    @classmethod
    def of(cls, texts: Sequence[str | None] | TextArray) -> Labels:
        """The column of these texts."""
        codes: dict[str | None, int] = {None: -1}
        numbers = np.fromiter((codes.setdefault(text, len(codes) - 1) for text in texts), np.int64, len(texts))
        del codes[None]
        return cls(numbers, text_array(list(codes)))

    @cached_property
    def texts(self) -> TextArray:
        """(N,) the texts as Python's own; None where absent. Equal labels share one."""
        used = np.zeros(len(self.names) + 1, dtype=np.bool_)
        used[self.codes] = True
        where = np.flatnonzero(used[:-1])
        table = np.full(len(used), None, dtype=object)
        table[where] = self.names.take(where if isinstance(self.names, np.ndarray) else from_numpy(where)).tolist()
        texts: TextArray = table[self.codes]
        return texts

    def find(self, texts: TextArray) -> Int64Array:
        """(N,) int64: where each entry stands among these texts, of which none occurs twice; -1 for none of them."""
        import pyarrow.compute as pc

        names = from_texts(self.names) if isinstance(self.names, np.ndarray) else self.names
        found = to_numpy(pc.index_in(names, value_set=from_texts(texts).cast(names.type)), absent=-1)
        places: Int64Array = np.append(found, -1)[self.codes].astype(np.int64)
        return places

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: Any) -> Any:
        codes = self.codes[rows]
        if np.ndim(codes):
            return Labels(codes, self.names)
        return None if codes < 0 else str(self.names[int(codes)])

    def __iter__(self) -> Iterator[Any]:
        return iter(self.texts)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.texts, dtype=dtype, copy=copy)

    def __eq__(self, other: object) -> Any:
        return self.texts == np.asarray(other, dtype=object)

    def __ne__(self, other: object) -> Any:
        return self.texts != np.asarray(other, dtype=object)

    def __getattr__(self, name: str) -> Any:
        # Whatever else an array of texts has.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.texts, name)


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
