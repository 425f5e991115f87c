"""Images gathered into what is ranked, whole query tracks, and selves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from oracles import track_distance
from ranked import DEFINITIONS, changed, close, distances, features, images, options, order, random_tracks

from vreid_cli.errors import DataError
from vreid_cli.ranking.planning import plan_ranking
from vreid_cli.ranking.rank import collect, rank
from vreid_cli.types.arrays import text_array
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.rankings import Task


def test_the_camera_unit_merges_passages_that_are_not_adjacent() -> None:
    rng = np.random.default_rng(37)
    passages = random_tracks(rng, "p", count=6, width=4)
    vehicles = dict(zip(passages, ["v1", "v2", "v1", "v1", "v2", "v1"], strict=True))
    cameras = dict(zip(passages, ["c1", "c1", "c2", "c1", "c1", "c1"], strict=True))
    gallery = features(passages, vehicles=vehicles, cameras=cameras)
    merged = {
        "v1_c1": np.concatenate([passages[p] for p in ("p000", "p003", "p005")]),
        "v2_c1": np.concatenate([passages[p] for p in ("p001", "p004")]),
        "v1_c2": passages["p002"],
    }
    query = random_tracks(rng, "q", count=2, width=4)
    labels = {"q000": "v1", "q001": "v9"}
    queries = features(query, vehicles=labels, cameras=dict.fromkeys(query, "c7"))
    for definition in DEFINITIONS:
        chosen = changed(options("t2t", definition=definition), track_unit="camera")
        for metric, ranking in rank(queries, gallery, chosen).items():
            assert list(ranking.gallery.ids) == list(merged)
            assert list(ranking.gallery.vehicles) == ["v1", "v2", "v1"]
            assert list(ranking.gallery.cameras) == ["c1", "c1", "c2"]
            for (q, r), found in distances(ranking).items():
                name = {"v1_c7": "q000", "v9_c7": "q001"}[q]
                assert close(found, track_distance(query[name], merged[r], metric, definition), metric)


def test_interleaved_images_of_a_track_are_gathered_in_their_order() -> None:
    rng = np.random.default_rng(41)
    rows = rng.normal(size=(9, 3)).astype(np.float32)
    names = ["b", "a", "b", "c", "a", "b", "c", "c", "c"]
    gallery = FeatureSet.from_arrays(rows, track_id=names)
    tracks = {name: rows[[i for i, n in enumerate(names) if n == name]] for name in "bac"}
    query = {"q": rng.normal(size=(3, 3))}
    for definition in DEFINITIONS:
        for metric, ranking in rank(features(query), gallery, options("t2t", definition=definition)).items():
            assert list(ranking.gallery.ids) == ["b", "a", "c"]
            for (q, r), found in distances(ranking).items():
                assert close(found, track_distance(query[q].astype(np.float32), tracks[r], metric, definition), metric)


def with_images(side: FeatureSet, root: str | None) -> FeatureSet:
    return replace(side, image_root=root)


def test_whole_query_tracks_are_taken_from_the_gallery() -> None:
    rng = np.random.default_rng(43)
    rows = rng.normal(size=(7, 3)).astype(np.float32)
    names = [f"i{n}.jpg" for n in range(7)]
    track_id = ["a", "a", "b", "b", "b", "c", "d"]
    gallery = with_images(FeatureSet.from_arrays(rows, track_id=track_id, image_id=names), "/images")
    # Query images of the tracks c and a, two of a; one that is nowhere; their own features are not looked at.
    picked = ["i5.jpg", "i1.jpg", "gone.jpg", "i0.jpg"]
    query = with_images(FeatureSet.from_arrays(np.zeros((4, 3)), track_id=["x"] * 4, image_id=picked), "/images")
    job = plan_ranking(replace(query, protocol="gallery-tracks"), gallery, options("t2t", "meanMED"))
    ranking = collect(job)["meanMED"]
    assert list(ranking.queries.ids) == ["a", "c"]
    (warning,) = ranking.warnings
    assert "1 query image in" in warning
    assert "gone.jpg" in warning
    assert ranking.facts.query_source == "gallery"
    assert dict(ranking.facts.selves) == {"a": ("a",), "c": ("c",)}
    assert close(distances(ranking)["a", "b"], track_distance(rows[:2], rows[2:5], "meanMED", "paper"), "meanMED")


@pytest.mark.parametrize(
    ("query_root", "gallery_root", "has_self"),
    [("/a", "/a", True), ("/a", "/b", False), (None, "/a", False), (None, None, False)],
)
def test_a_self_is_the_same_image_file_never_an_equal_name(
    query_root: str | None, gallery_root: str | None, has_self: bool
) -> None:
    names = ["i0", "i1", "i2"]
    gallery = FeatureSet.from_arrays(np.eye(3), track_id=["s", "t", "t"], image_id=names)
    query = FeatureSet.from_arrays(np.eye(3)[:2], track_id=["s", "t"], image_id=names[:2])
    query, gallery = with_images(query, query_root), with_images(gallery, gallery_root)
    expected: dict[Task, dict[str, tuple[str, ...]]] = {
        "i2i": {"i0": ("i0",), "i1": ("i1",)},
        "i2t": {"i0": ("s",), "i1": ("t",)},
        "t2t": {"s": ("s",), "t": ("t",)},
    }
    for task, selves in expected.items():
        ranking = next(iter(rank(query, gallery, options(task)).values()))
        assert dict(ranking.facts.selves) == (selves if has_self else {})


def test_an_image_without_a_track_is_an_error_between_tracks_only() -> None:
    rows = np.eye(3)
    names = ["a", "b", "c"]
    gallery = FeatureSet.from_arrays(rows, track_id=["t", None, "u"], image_id=names)
    with pytest.raises(DataError, match="image b has no track"):
        rank(images(rows, "q"), gallery)
    assert order(rank(images(rows, "q"), gallery, options("i2i", "MED"))["MED"], "q0001")[0] == "b"


def test_the_camera_unit_needs_labels() -> None:
    gallery = FeatureSet.from_arrays(np.eye(2), track_id=["t", "u"], vehicle_id=["1", "2"], camera_id=["c", None])
    with pytest.raises(DataError, match="u#0 has no vehicle or no camera"):
        rank(images(np.eye(2), "q"), gallery, changed(options(), track_unit="camera"))


@pytest.mark.parametrize(("label", "what"), [("vehicle_id", "vehicles"), ("camera_id", "cameras")])
def test_a_track_with_several_labels_is_an_error(label: str, what: str) -> None:
    gallery = FeatureSet.from_arrays(np.eye(3), track_id=["t", "u", "t"])
    gallery = replace(gallery, **{label: text_array(["1", "2", "3"])})
    with pytest.raises(DataError, match=f"track t holds images of several {what}: 1 and 3"):
        rank(images(np.eye(3), "q"), gallery)


@pytest.mark.parametrize("side", ["query", "gallery"])
def test_images_of_one_name_are_an_error_where_images_are_ranked(side: str) -> None:
    # A list belongs to its query's name, and selves to the items' names: two of one name cannot be told apart.
    sides = {name: images(np.eye(3), name[0]) for name in ("query", "gallery")}
    sides[side] = replace(sides[side], image_id=text_array(["0.jpg", "1.jpg", "0.jpg"]))
    with pytest.raises(DataError, match=r"0\.jpg"):
        rank(sides["query"], sides["gallery"], options("i2i", "MED"))
    rank(sides["query"], sides["gallery"], options("t2t", "minMED"))
