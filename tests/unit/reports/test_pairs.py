"""Why a match: which pair is explained, what is refused, and what is drawn."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sheets import BLUE, paint, pixel

import vreid_cli as vreid
from vreid_cli.errors import DataError, UsageError
from vreid_cli.ranking.metrics import known_metrics
from vreid_cli.ranking.pairs import explain_pair
from vreid_cli.reports.sheets.pair import PairDrawing, PairSide, draw_pair, heat_colours
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.rankings import Ranking

TRACKS = {"query": {"q1": 3, "q2": 2}, "gallery": {"g1": 4, "g2": 1, "own": 2}}


def made(root: Path, side: str) -> FeatureSet:
    """Three numbers an image, and its file."""
    rows = [track for track, count in TRACKS[side].items() for _ in range(count)]
    names = [
        str(path.relative_to(root)) for track, count in TRACKS[side].items() for path in paint(root / track, count)
    ]
    features = FeatureSet.from_arrays(
        np.random.default_rng(len(side)).normal(size=(len(rows), 3)).astype(np.float32),
        track_id=rows,
        image_id=names,
        vehicle_id=["1" if track in ("q1", "g1", "own") else "2" for track in rows],
        camera_id=["a" if side == "query" or track == "own" else "b" for track in rows],
        source=side,
    )
    return features.at(root)


@pytest.fixture
def both(tmp_path: Path) -> dict[str, FeatureSet]:
    return {side: made(tmp_path / side, side) for side in ("query", "gallery")}


def listed(ranking: Ranking) -> dict[tuple[str, str], float]:
    (block,) = ranking.blocks
    rows = zip(block.query_index, block.gallery_index, block.distance, strict=True)
    return {(ranking.queries.ids[q], ranking.gallery.ids[g]): float(d) for q, g, d in rows}


@pytest.mark.parametrize(
    "chosen",
    [
        *(vreid.RankingOptions(metric="all", definition=definition) for definition in ("paper", "released")),
        *(vreid.RankingOptions(task=task, metric="all") for task in ("i2t", "i2i")),
        vreid.RankingOptions(track_unit="camera"),
    ],
    ids=["paper", "released", "i2t", "i2i", "camera"],
)
def test_every_pair_gives_the_rankings_distance(both: dict[str, FeatureSet], chosen: vreid.RankingOptions) -> None:
    for ranking in vreid.rank(**both, options=chosen).values():
        for (query, item), distance in listed(ranking).items():
            view = vreid.explain(ranking, query, item, **both)
            assert view.distances.value == pytest.approx(distance, rel=1e-4, abs=2e-6)
            assert view.match is not None
            assert view.match.item.distance == distance
            assert view.definition == chosen.definition


def test_the_ranks_and_what_is_left_out_are_said(both: dict[str, FeatureSet]) -> None:
    ranking = vreid.rank(**both)["meanMCD50"]
    found = {item: vreid.explain(ranking, "q1", item, **both).match for item in TRACKS["gallery"]}
    kinds = {name: (one.kind, one.left_out) for name, one in found.items() if one is not None}
    assert kinds == {"g1": ("right", False), "g2": ("wrong", False), "own": ("junk", True)}
    assert sorted(one.item.rank for one in found.values() if one and not one.left_out) == [1, 2]
    cut = vreid.rank(**both, options=vreid.RankingOptions(top_k=1))["meanMCD50"]
    gone = [
        (query, item) for query in TRACKS["query"] for item in TRACKS["gallery"] if (query, item) not in listed(cut)
    ]
    assert gone
    for query, item in gone:
        view = vreid.explain(cut, query, item, **both)
        assert view.match is None
        assert view.distances.value == pytest.approx(listed(ranking)[query, item], abs=2e-6)


def test_what_does_not_fit_is_refused(both: dict[str, FeatureSet]) -> None:
    ranking = vreid.rank(**both)["meanMCD50"]
    with pytest.raises(UsageError, match="has no query 'q3'") as caught:
        vreid.explain(ranking, "q3", "g1", **both)
    assert "did you mean" in str(caught.value.hint)
    with pytest.raises(UsageError, match="has no gallery item 'g11'"):
        vreid.explain(ranking, "q1", "g11", **both)
    gallery = both["gallery"]
    others = replace(gallery, matrix=FeatureSet.from_arrays(np.ones((7, 3)), track_id=["x"] * 7).matrix)
    with pytest.raises(DataError, match="but the features of gallery give") as refused:
        vreid.explain(ranking, "q1", "g1", query=both["query"], gallery=others)
    assert "made from" in str(refused.value.hint)
    with pytest.raises(DataError, match="holds no features of g1"):
        vreid.explain(ranking, "q1", "g1", query=both["query"], gallery=gallery.select(np.array([4])))
    wide = replace(gallery, matrix=FeatureSet.from_arrays(np.ones((7, 4)), track_id=["x"] * 7).matrix)
    with pytest.raises(DataError, match="3 and 4 dimensions"):
        vreid.explain(ranking, "q1", "g1", query=both["query"], gallery=wide)
    with pytest.raises(DataError, match="does not say by which metric"):
        vreid.explain(replace(ranking, facts=replace(ranking.facts, metric=None)), "q1", "g1", **both)
    with pytest.raises(DataError, match="no metric of the task t2t"):
        vreid.explain(replace(ranking, facts=replace(ranking.facts, metric="mine")), "q1", "g1", **both)


def test_a_re_ranked_pair_shows_the_distance_before(both: dict[str, FeatureSet]) -> None:
    chosen = vreid.RankingOptions(rerank=True, k1=2, k2=1)
    again, before = vreid.rank(**both, options=chosen)["meanMCD50"], vreid.rank(**both)["meanMCD50"]
    view = vreid.explain(again, "q1", "g1", **both)
    assert view.distances.value == pytest.approx(listed(before)["q1", "g1"], abs=2e-6)
    assert view.match is not None
    assert view.match.item.distance == listed(again)["q1", "g1"]


@pytest.mark.parametrize("definition", ["paper", "released"])
def test_an_unknown_definition_is_found_by_its_distances(
    both: dict[str, FeatureSet], definition: Any, tmp_path: Path
) -> None:
    ranking = vreid.rank(**both, options=vreid.RankingOptions(definition=definition))["meanMCD50"]
    foreign = replace(ranking, facts=replace(ranking.facts, definition=None, task=None, track_unit=None))
    assert vreid.explain(foreign, "q1", "g1", **both).definition == definition


# -- drawing -------------------------------------------------------------------------------------------------


def test_the_images_stand_along_the_sides_and_the_cells_are_coloured_by_distance(tmp_path: Path) -> None:
    red, blue = paint(tmp_path / "r", 2, colour=(250, 0, 0)), paint(tmp_path / "b", 3, colour=BLUE)
    query, gallery = np.array([[0.0], [9.0]]), np.array([[0.0], [1.0], [20.0]])
    pair = explain_pair(query, gallery, known_metrics("t2t")["minMED"])
    image, missing = draw_pair(PairDrawing(pair, PairSide("q", red), PairSide("g", blue), ("note",)), most=9)
    assert missing == ()
    found = np.asarray(image).reshape(-1, 3)
    reds, blues = ((found == colour).all(axis=1).sum() for colour in ((250, 0, 0), BLUE))
    assert 1.4 < blues / reds < 1.6  # three images against two of the same size
    for colour in heat_colours(pair.cells, "MED").reshape(-1, 3):
        assert (found == colour).all(axis=1).sum() > 1000


def test_what_decides_is_framed(tmp_path: Path) -> None:
    query, gallery = np.array([[0.0], [9.0]]), np.array([[0.0], [1.0], [20.0]])
    pair = explain_pair(query, gallery, known_metrics("t2t")["minMED"])
    plain = replace(pair, counts=np.zeros_like(pair.counts))

    def drawn(one: Any) -> np.ndarray[Any, Any]:
        image, _ = draw_pair(PairDrawing(one, PairSide("q", ()), PairSide("g", ()), ()), most=9)
        return np.asarray(image.crop((0, 0, image.width, 500)), dtype=np.int16)

    changed = np.argwhere(np.abs(drawn(pair) - drawn(plain)).max(axis=2) > 0)
    # The first cell, and the first image of each side: nothing right of or below them.
    cell = np.argwhere((drawn(plain) == heat_colours(pair.cells, "MED")[0, 0]).all(axis=2))
    assert changed.max(axis=0).tolist() == pytest.approx(cell.max(axis=0).tolist(), abs=3)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 40), (150, 3), (400, 400)])
def test_a_map_of_any_size_fits_its_sheet(rows: int, columns: int) -> None:
    rng = np.random.default_rng(1)
    pair = explain_pair(rng.normal(size=(rows, 4)), rng.normal(size=(columns, 4)), known_metrics("t2t")["meanMCD50"])
    image, _ = draw_pair(PairDrawing(pair, PairSide("q" * 200, ()), PairSide("<b>", ()), ()), most=100)
    assert image.width <= 1800
    assert image.height <= 3400


def test_heat_falls_in_lightness() -> None:
    colours = heat_colours(np.linspace(0, 1, 50), "MED").astype(float)
    lightness = colours @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) < 0).all()
    assert heat_colours(np.array([-2.0, 0.0]), "code").tolist() == heat_colours(np.array([0.0, 2.0]), "MED").tolist()


def test_images_that_are_gone_leave_a_note_not_an_error(both: dict[str, FeatureSet], tmp_path: Path) -> None:
    ranking = vreid.rank(**both)["meanMCD50"]
    (tmp_path / "gallery/g1/000.png").unlink()
    (tmp_path / "gallery/g1/001.png").write_bytes(b"")
    warnings = vreid.explain(ranking, "q1", "g1", **both).warnings
    assert [warning.rpartition(": ")[2] for warning in warnings] == ["the file is not there", "the file is empty"]
    shutil.rmtree(tmp_path / "gallery")
    view = vreid.explain(ranking, "q1", "g1", **both)
    assert len(view.warnings) == 4
    bare = {side: replace(one, image_root=None) for side, one in both.items()}
    assert vreid.explain(ranking, "q1", "g1", **bare).warnings == ()


def test_numbered_features_take_the_images_of_the_tracks_folder(both: dict[str, FeatureSet], tmp_path: Path) -> None:
    files = {}
    for side, features in both.items():
        tracks: dict[str, list[list[float]]] = {}
        for track, row in zip(features.track_id, features.matrix.take(np.arange(len(features))), strict=True):
            tracks.setdefault(track, []).append(row.astype(float).tolist())
        (tmp_path / f"{side}.json").write_text(json.dumps(tracks))
        files[side] = vreid.read_features(tmp_path / f"{side}.json").at(tmp_path / side)
    ranking = vreid.rank(**files)["meanMCD50"]
    shown = np.asarray(vreid.explain(ranking, "q1", "g1", **files).image).reshape(-1, 3)
    assert (shown == BLUE).all(axis=1).sum() > 1000
    paint(tmp_path / "gallery/g1", 5)  # one image more than the file has features: nobody knows which is which
    paint(tmp_path / "query/q1", 1, colour=(1, 2, 3))
    changed = np.asarray(vreid.explain(ranking, "q1", "g1", **files).image)
    assert 0 < (changed == BLUE).all(axis=2).sum() < (shown == BLUE).all(axis=1).sum() / 2


def test_it_is_saved_as_a_png(both: dict[str, FeatureSet], tmp_path: Path) -> None:
    view = vreid.explain(vreid.rank(**both)["meanMCD50"], "q1", "g1", **both)
    view.save(tmp_path / "pair.png")
    saved = Image.open(tmp_path / "pair.png").convert("RGB")
    assert saved.size == view.image.size
    assert pixel(saved, 5, 5) == (255, 255, 255)
    assert view._repr_png_() == (tmp_path / "pair.png").read_bytes()
