"""Columns of labels."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pyarrow as pa
import pytest

from vreid_cli.types.arrays import Labels, text_array

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
