"""Columns of labels, and columns of Arrow."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pyarrow as pa
import pytest

from vreid_cli.types.arrays import Labels, from_numpy, from_texts, text_array, to_numpy

TEXTS = ["b", None, "a", "b", "c", None, "a"]


def given_as(kind: str) -> Labels:
    if kind == "texts":
        return Labels.of(TEXTS)
    encoded = pa.array(TEXTS).dictionary_encode()
    return Labels(encoded.indices.fill_null(-1).to_numpy(), encoded.dictionary)


@pytest.mark.parametrize("kind", ["texts", "arrow"])
def test_labels_are_used_as_an_array_of_texts(kind: str):
    labels, array = given_as(kind), text_array(TEXTS)
    assert (list(labels), labels.tolist(), len(labels), labels.shape) == (TEXTS, TEXTS, len(TEXTS), array.shape)
    for rows in (np.array([5, 2, 2, 0]), np.array([], dtype=int), array == "b", slice(1, 4)):
        assert labels[rows].tolist() == array[rows].tolist()
        np.testing.assert_array_equal(labels[rows].codes, labels.codes[rows])
    assert [labels[row] for row in (0, 1, np.int64(4), -1)] == ["b", None, "c", "a"]
    for other in ("b", None, array[::-1], labels):
        np.testing.assert_array_equal(labels == other, array == np.asarray(other, dtype=object))
        np.testing.assert_array_equal(labels != other, array != np.asarray(other, dtype=object))
    np.testing.assert_array_equal(np.concatenate([labels, labels]), np.concatenate([array, array]))
    np.testing.assert_array_equal(labels.astype(str), array.astype(str))
    assert pickle.loads(pickle.dumps(labels)).tolist() == copy.deepcopy(labels).tolist() == TEXTS
    with pytest.raises(AttributeError, match="_nothing"):
        _ = labels._nothing


@pytest.mark.parametrize("kind", ["texts", "arrow"])
def test_labels_that_are_sought(kind: str):
    wanted = text_array(["z", "a", "b"])
    places = [-1 if text not in ("a", "b") else ["z", "a", "b"].index(text) for text in TEXTS]
    assert given_as(kind).find(wanted).tolist() == places
    assert given_as(kind).find(text_array([])).tolist() == [-1] * len(TEXTS)


def test_equal_labels_share_one_text():
    first, *_, last = [text for text in given_as("arrow") if text == "a"]
    assert first is last


@pytest.mark.parametrize("kind", ["int32", "int64", "uint64", "float16", "float32", "float64", "bool"])
@pytest.mark.parametrize("rows", [slice(0, 9), slice(3, 7), slice(4, 4)])
def test_columns_are_those_that_arrow_makes_of_numbers_and_back(kind: str, rows: slice):
    values = np.array([0, 3, -1, 7, 1, 0, 5, 2, 9]).astype(kind)
    column = pa.array(values)[rows]
    for given in (column, pa.chunked_array([column, column])):
        found, expected = to_numpy(given), given.to_numpy() if given is not column else given.to_numpy(False)
        np.testing.assert_array_equal(found, expected, strict=True)
    if kind != "bool":
        made = from_numpy(values[rows])
        made.validate(full=True)
        assert made.equals(column)
        assert from_numpy(values[::-2]).equals(pa.array(values[::-2]))


def test_absent_numbers_get_what_stands_for_them():
    column = pa.array([4, None, None, 7, 8, None], pa.int32())
    for given in (column, column[1:5], pa.chunked_array([column, column[2:]])):
        found, expected = to_numpy(given, absent=-1), given.fill_null(-1).to_numpy()
        np.testing.assert_array_equal(found, expected, strict=True)
        with pytest.raises(pa.ArrowException):
            to_numpy(given)
    with pytest.raises(pa.ArrowException):
        to_numpy(pa.array(["a"]))


def test_texts_become_a_column():
    made = from_texts(text_array([*TEXTS, "", "ü車"]))
    made.validate(full=True)
    assert made.equals(pa.array([*TEXTS, "", "ü車"], pa.utf8()))
    with pytest.raises(ValueError, match="surrogates"):
        from_texts(["\ud800"])
