"""``show`` for the library: which queries, whose images, and what it warns of."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sheets import paint

import vreid_cli as vreid
from vreid_cli.errors import DataError, UsageError, VreidError
from vreid_cli.types.features import MEANINGLESS, FeatureSet
from vreid_cli.types.rankings import Ranking

#: Vehicle and camera of each track; every track has two images.
QUERIES = {"q1": ("1", "c1"), "q2": ("2", "c1"), "q3": (None, None)}
GALLERY = {"g1": ("1", "c2"), "g1own": ("1", "c1"), "g2": ("2", "c2"), "g3": (None, None)}


def features(root: Path, tracks: dict[str, tuple[str | None, str | None]], *, seed: int) -> FeatureSet:
    for track in tracks:
        paint(root / track, 2)
    rows = [track for track in tracks for _ in range(2)]
    made = FeatureSet.from_arrays(
        np.random.default_rng(seed).normal(size=(len(rows), 4)),
        track_id=rows,
        image_id=[f"{track}/{number:03}.png" for track in tracks for number in range(2)],
        vehicle_id=[tracks[track][0] for track in rows],
        camera_id=[tracks[track][1] for track in rows],
        source=root.name,
    )
    return replace(made, image_root=str(root))


@pytest.fixture
def query(tmp_path: Path) -> FeatureSet:
    return features(tmp_path / "query", QUERIES, seed=1)


@pytest.fixture
def gallery(tmp_path: Path) -> FeatureSet:
    return features(tmp_path / "gallery", GALLERY, seed=2)


@pytest.fixture
def ranking(query: FeatureSet, gallery: FeatureSet) -> Ranking:
    return vreid.rank(query, gallery)["meanMCD50"]


def shown(sheet: vreid.Sheet) -> dict[str, list[str]]:
    """The names of the items on a sheet with their images."""
    return {strip.item.name: [Path(image).parent.name for image in strip.images] for strip in sheet.strips}


def test_each_query_stands_before_its_nearest_with_their_own_images(
    ranking: Ranking, query: FeatureSet, gallery: FeatureSet
) -> None:
    sheet = vreid.show(ranking, "q1", query=query, gallery=gallery, options=vreid.ShowOptions(top=9))
    assert set(shown(sheet)) == {"q1", "g1", "g2", "g3"}  # g1own is junk
    assert all(images == [name, name] for name, images in shown(sheet).items())
    assert sheet.warnings == ()
    kept = vreid.show(ranking, ["q1"], query=query, gallery=gallery, same_camera="keep")
    assert "g1own" in shown(kept)
    assert [item.gallery_id for item in kept.nearest["q1"]] == [strip.item.name for strip in kept.strips[1:]]


def test_captions_name_vehicle_and_camera(ranking: Ranking, query: FeatureSet, gallery: FeatureSet) -> None:
    strips = vreid.show(ranking, ["q1", "q3"], query=query, gallery=gallery).strips
    captions = {strip.item.name: strip.item.caption for strip in strips}
    assert captions["q1"] == "vehicle 1 · camera c1"
    assert captions["g2"] == "vehicle 2 · camera c2"
    assert captions["q3"] == captions["g3"] == ""


def test_queries_that_are_whole_gallery_tracks_show_all_their_images(gallery: FeatureSet) -> None:
    gallery = replace(gallery, protocol="gallery-tracks")
    query = gallery.select(np.array([0, 4]))
    ranking = vreid.rank(query, gallery)["meanMCD50"]
    queries = [strip for strip in vreid.show(ranking, query=query, gallery=gallery).strips if strip.item.rank is None]
    assert [(strip.item.name, len(strip.images)) for strip in queries] == [("g1", 2), ("g2", 2)]


def test_marks_say_which_show_the_querys_vehicle(ranking: Ranking, query: FeatureSet, gallery: FeatureSet) -> None:
    sheet = vreid.show(ranking, query=query, gallery=gallery, same_camera="keep")
    verdicts = {}
    for strip in sheet.strips:
        if strip.item.rank is None:
            of = strip.item.name
        else:
            verdicts[of, strip.item.name] = strip.item.verdict.name
    assert verdicts["q1", "g1"] == verdicts["q1", "g1own"] == "MATCH"
    assert verdicts["q1", "g2"] == "DIFFERENT"
    assert verdicts["q1", "g3"] == verdicts["q3", "g1"] == "UNLABELLED"


def test_queries_by_name_by_pattern_or_the_first(ranking: Ranking, query: FeatureSet, gallery: FeatureSet) -> None:
    def queries(names: list[str] | None, most: int = 8) -> list[str]:
        options = vreid.ShowOptions(max_queries=most, top=1)
        return list(vreid.show(ranking, names, query=query, gallery=gallery, options=options).nearest)

    assert queries(None, 2) == ["q1", "q2"]
    assert queries(["q3", "q?"], 1) == ["q3", "q1", "q2"]
    with pytest.raises(UsageError, match="has no query 'q9'") as caught:
        queries(["q9"])
    assert "q1" in str(caught.value.hint)


def test_a_folder_of_images_does_as_well(
    ranking: Ranking, query: FeatureSet, gallery: FeatureSet, tmp_path: Path
) -> None:
    by_features = vreid.show(ranking, query=query, gallery=gallery)
    by_folder = vreid.show(ranking, query=tmp_path / "query", gallery=str(tmp_path / "gallery"))
    assert by_folder._repr_png_() == by_features._repr_png_()
    assert by_folder.warnings == by_features.warnings == ()


def test_images_that_are_missing_are_warned_of(
    ranking: Ranking, query: FeatureSet, gallery: FeatureSet, tmp_path: Path
) -> None:
    (tmp_path / "gallery" / "g1" / "001.png").unlink()
    (warning,) = vreid.show(ranking, query=query, gallery=gallery).warnings
    assert warning.endswith("g1/001.png: the file is not there")
    shutil.rmtree(tmp_path / "gallery" / "g2")
    (warning,) = vreid.show(ranking, query=tmp_path / "query", gallery=tmp_path / "gallery").warnings
    assert "no image of 1 name, such as g2" in warning


def test_images_of_something_else_are_refused(
    ranking: Ranking, query: FeatureSet, gallery: FeatureSet, tmp_path: Path
) -> None:
    def refusal(**sides: FeatureSet | Path) -> VreidError:
        with pytest.raises(DataError) as caught:
            vreid.show(ranking, **sides)  # type: ignore[arg-type]
        return caught.value

    (tmp_path / "empty").mkdir()
    assert "nothing that" in refusal(gallery=tmp_path / "empty").message
    assert "does not say where its images are" in refusal(gallery=replace(gallery, image_root=None)).message
    assert "any more" in refusal(gallery=replace(gallery, image_root="nowhere"), query=query).message


def test_features_of_another_network_are_doubtful(query: FeatureSet, gallery: FeatureSet) -> None:
    made = [replace(side, identity={"architecture": "a"}, weights="random") for side in (query, gallery)]
    ranking = vreid.rank(*made)["meanMCD50"]
    other = replace(gallery, identity={"architecture": "b"})
    warnings = vreid.show(ranking, query=query, gallery=other).warnings
    assert warnings[0] == MEANINGLESS
    assert "was not made from gallery" in warnings[1]


def test_single_images_are_shown_for_image_tasks(query: FeatureSet, gallery: FeatureSet) -> None:
    for task, images in (("i2t", 2), ("i2i", 1)):
        ranking = vreid.rank(query, gallery, vreid.RankingOptions(task=task, metric=("MCD",)))["MCD"]
        strips = vreid.show(ranking, ["q1/000.png"], query=query, gallery=gallery).strips
        assert [len(strip.images) for strip in strips] == [1, *[images] * (len(strips) - 1)]
