"""Indexes of images: every kind finds what is near, wherever it was kept, and damage is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import vreid_cli as vreid
from vreid_cli.errors import DataError, MissingExtraError, StoreError
from vreid_cli.store.image_index import IndexFolder, choose_kind
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.index import Geometry, IndexKind


def made(images: int = 1500, *, width: int = 9, seed: int = 0, scale: float = 1.0) -> FeatureSet:
    rng = np.random.default_rng(seed)
    rows = (rng.normal(size=(images // 5, 1, width)) + 0.2 * rng.normal(size=(images // 5, 5, width))).reshape(
        -1, width
    )
    rows *= scale * rng.uniform(0.5, 2, size=(len(rows), 1))
    return FeatureSet.from_arrays(rows.astype(np.float32), track_id=[f"t{i // 5:04d}" for i in range(len(rows))])


def distances(features: FeatureSet, images: np.ndarray, distance: Geometry) -> np.ndarray:
    rows = features.matrix.take(np.arange(len(features))).astype(np.float64)
    if distance == "euclidean":
        return np.linalg.norm(images[:, None] - rows[None], axis=2)
    return 1 - (images @ rows.T) / np.linalg.norm(images, axis=1)[:, None] / np.linalg.norm(rows, axis=1)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("kind", ["flat", "ivf", "ivf-pq", "hnsw"])
def test_every_kind_finds_most_of_the_nearest(kind: IndexKind, distance: Geometry) -> None:
    features = made(scale=1e6 if distance == "euclidean" else 1.0)
    images = features.matrix.take(np.arange(0, 1500, 60)) * np.float32(1.01)
    index = vreid.build_index(features, vreid.IndexOptions(kind=kind, distance=distance))
    apart = distances(features, images, distance)
    found, rows = index.search(images, 20)
    expected = np.argsort(apart, axis=1)[:, :20]
    share = np.mean([len(np.intersect1d(*pair)) / 20 for pair in zip(rows, expected, strict=True)])
    assert share >= {"flat": 1, "ivf": 0.95, "ivf-pq": 0.5, "hnsw": 0.95}[kind]
    assert (np.diff(found, axis=1) >= 0).all()
    if kind != "ivf-pq":
        # Kept as float16, which has 11 bits.
        size = 1.0 if distance == "cosine" else float(np.linalg.norm(images, axis=1).max())
        np.testing.assert_allclose(found, np.take_along_axis(apart, rows, axis=1), atol=size * 2**-10)
    if kind != "hnsw":
        every = index.search(images, len(features))[1]
        assert (np.sort(every, axis=1) == np.arange(len(features))).all()


def test_the_same_seed_gives_the_same_index_and_probes_decide_what_is_looked_at() -> None:
    features = made()
    images = features.matrix.take(np.arange(0, 1500, 100))
    one, same = (vreid.build_index(features, vreid.IndexOptions(kind="ivf"), seed=4) for _ in range(2))
    for found, again in zip(one.search(images, 9), same.search(images, 9), strict=True):
        np.testing.assert_array_equal(found, again)
    few = vreid.build_index(features, vreid.IndexOptions(kind="ivf", probes=1), seed=4)
    assert (few.search(images, 9)[0] >= one.search(images, 9)[0]).all()
    assert (few.search(images, 9)[0] > one.search(images, 9)[0]).any()


def test_a_zero_vector_has_cosine_zero_and_what_is_not_finite_is_named() -> None:
    rows = np.array([[1.0, 0], [0, 0], [-1, 0]], dtype=np.float32)
    features = FeatureSet.from_arrays(rows, track_id=["a", "b", "c"])
    found, order = vreid.build_index(features).search(rows[:1], 3)
    assert (found.tolist(), order.tolist()) == ([[0, 1, 2]], [[0, 1, 2]])
    rows[1, 1] = np.nan
    with pytest.raises(DataError, match="the feature of image b#0 is not finite"):
        vreid.build_index(features)


def test_the_kind_follows_from_the_size() -> None:
    assert [choose_kind(n) for n in (1, 50_000, 50_001, 200_000, 200_001)] == ["flat", "flat", "ivf", "ivf", "ivf-pq"]


@pytest.mark.parametrize("kind", ["flat", "ivf", "ivf-pq", "hnsw"])
def test_what_is_kept_and_added_to_finds_the_same(tmp_path: Path, kind: IndexKind) -> None:
    features, folder = made(), IndexFolder(tmp_path)
    images = features.matrix.take(np.arange(0, 1500, 100))
    rows = np.arange(len(features))[::-1]
    first = vreid.build_index(features.select(np.arange(1000)), vreid.IndexOptions(kind=kind))
    folder.write(first)
    more = folder.read("cosine", add=True)
    assert more.facts == first.facts
    more.add(features.select(np.arange(1000, 1500)))
    folder.write(more.with_parts((("contents", "labels"),)))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["cosine-2.faiss", "cosine.json"]
    kept = folder.read("cosine", rows=rows)
    assert (len(kept), kept.facts.parts) == (1500, (("contents", "labels"),))
    first.add(features.select(np.arange(1000, 1500)))
    for asked in (5, 1500):
        one, other = (index.search(images, asked) for index in (first, kept))
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(np.where(one[1] < 0, -1, rows[one[1]]), other[1])


def test_damage_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = IndexFolder(tmp_path)
    with pytest.raises(StoreError, match="there is no index for the euclidean distance") as caught:
        folder.read("euclidean")
    assert caught.value.hint == "make it: vreid index --distance euclidean"
    path = folder.write(vreid.build_index(made()))
    whole, facts = path.read_bytes(), folder.facts_path("cosine")
    with pytest.raises(StoreError, match="it holds 1,500 images, not 3"):
        folder.read("cosine", rows=np.arange(3))
    path.write_bytes(whole[:-9])
    with pytest.raises(StoreError, match=r"damaged: it has [\d,]+ bytes, not"):
        folder.read("cosine")
    path.write_bytes(whole[:-1] + b"\1")
    for look in (folder.read, folder.verify):
        with pytest.raises(StoreError, match=r"are not those that were written \(the checksum differs\)"):
            look("cosine")
    with monkeypatch.context() as patch:
        patch.setattr("vreid_cli.store.image_index.CHEAP_TO_VERIFY", 0)
        assert len(folder.read("cosine")) == 1500
        with pytest.raises(StoreError, match="the checksum differs"):
            folder.verify("cosine")
    path.write_bytes(b"\0" * len(whole))
    with pytest.raises(StoreError, match="is damaged"):
        folder.read("cosine")
    path.unlink()
    with pytest.raises(StoreError, match="it is not there"):
        folder.read("cosine")
    said = json.loads(facts.read_text())
    odd = {"parts": 3, "schema": 9, "kind": "x", "distance": 1, "dimension": "8", "scale": 0, "identity": [1], "new": 1}
    for content in ({}, {**said, "scale": 10**400}, *({**said, key: value} for key, value in odd.items())):
        facts.write_text(json.dumps(content))
        with pytest.raises(StoreError, match="is damaged"):
            folder.read_facts("cosine")
    monkeypatch.setattr("vreid_cli.runtime.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="an index needs faiss"):
        vreid.build_index(made())
