"""``vreid.rank`` and ``vreid rank`` on the same features: the same numbers, facts and warnings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import Vreid, columns, draw, save_weights

import vreid_cli as library
from vreid_cli.ranking.planning import plan_ranking

#: Passages: vehicle, camera, images. Vehicle 1 passes camera 1 twice.
PASSAGES = [(1, 1, 2), (1, 1, 3), (1, 2, 2), (2, 1, 1), (2, 3, 4), (3, 2, 2), (3, 1, 2)]


@pytest.fixture(scope="module")
def veri(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of VeRi's shape; the first image of four passages is a query, and one query is in no passage."""
    root = tmp_path_factory.mktemp("veri") / "VeRi"
    lines = []
    for number, (vehicle, camera, images) in enumerate(PASSAGES):
        names = [f"{vehicle:04d}_c{camera:03d}_{100 * number + image:08d}_0.jpg" for image in range(images)]
        lines.append(" ".join([f"{vehicle:04d}_c{camera:03d}_t{number}", *names]))
        for image, name in enumerate(names):
            path = draw(root / "image_test" / name, hue=vehicle, seed=10 * number + image)
            if image == 0 and number in (0, 2, 4, 6):
                (root / "image_query").mkdir(exist_ok=True)
                (root / "image_query" / name).write_bytes(path.read_bytes())
    (root / "test_track.txt").write_text("\n".join(lines))
    return root


def extract(vreid: Vreid, veri: Path) -> None:
    weights = save_weights(Path("tiny.safetensors"))
    vreid("extract", "--data-dir", veri, "--arch", "resnet18", "--weights", weights, "--run-dir", "run")


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["passage", "camera"])
def test_a_data_set_in_memory_ranks_as_its_run_does(vreid: Vreid, veri: Path, unit: str) -> None:
    extract(vreid, veri)
    network = library.load_network("tiny.safetensors")
    sides = [library.extract(library.read_images(veri, split), network) for split in ("query", "gallery")]
    ranking = library.rank(*sides, library.RankingOptions(track_unit=unit))["meanMCD50"]
    report = vreid.json("rank", "--run-dir", "run", "--track-unit", unit)
    stored = library.read_ranking(report["outputs"][0])
    # Features in memory have no version that a run could be newer than.
    assert ranking.facts == replace(stored.facts, query_version=None, gallery_version=None)
    assert library.evaluate(ranking) == library.evaluate(stored)
    mine, theirs = (np.concatenate([block.distance for block in one.blocks]) for one in (ranking, stored))
    assert np.array_equal(mine, theirs)


def assert_same(vreid: Vreid, query: str, gallery: str, *arguments: str, **options: Any) -> list[str]:
    """Rank both ways; returns the warnings."""
    sides = [library.read_features(Path(path)) for path in (query, gallery)]
    rankings = library.rank(*sides, library.RankingOptions(**options))
    files = ("--query-features", query, "--gallery-features", gallery, "--output", "out", "--force")
    report = vreid.json("rank", *files, *arguments)
    assert [Path(path).stem.split("-")[1] for path in report["outputs"]] == list(rankings)
    for path, ranking in zip(report["outputs"], rankings.values(), strict=True):
        assert library.read_ranking(path).facts == ranking.facts
        rows = columns(Path(path))
        for name, values in {
            "query_id": [ranking.queries.ids[i] for block in ranking.blocks for i in block.query_index],
            "gallery_id": [ranking.gallery.ids[i] for block in ranking.blocks for i in block.gallery_index],
            "rank": [int(rank) for block in ranking.blocks for rank in block.rank],
            "distance": [float(value) for block in ranking.blocks for value in block.distance],
        }.items():
            assert rows[name] == values
    told = list(dict.fromkeys(warning for ranking in rankings.values() for warning in ranking.warnings))
    assert report["warnings"] == told
    assert all(warning in vreid.err for warning in told)
    return told


@pytest.mark.parametrize("unit", ["passage", "camera"])
def test_veris_query_tracks_are_whole_gallery_tracks(vreid: Vreid, veri: Path, unit: str) -> None:
    extract(vreid, veri)
    sides = ("run/features/query", "run/features/gallery")
    arguments = ("--metric", "all", "--track-unit", unit)
    assert assert_same(vreid, *sides, *arguments, metric="all", track_unit=unit) == []
    queries = plan_ranking(*(library.read_features(Path(side)) for side in sides)).query.items.items.ids
    assert len(queries) == 4
    found = columns(Path(f"out/t2t-minMED{'-camera' if unit == 'camera' else ''}.parquet"))
    # Each query track holds its own images in the gallery.
    assert [distance for rank, distance in zip(found["rank"], found["distance"], strict=True) if rank == 1] == [0] * 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("--task", "i2i"), {"task": "i2i"}),
        (("--task", "i2t", "--metric", "MED,rscr", "--top-k", "2"), {"task": "i2t", "metric": "MED,RSCR", "top_k": 2}),
        (("--definition", "released", "--cameras", "other"), {"definition": "released", "cameras": "other"}),
        (("--rerank", "--set", "rank.k1=3", "--threshold", "0.5"), {"rerank": True, "k1": 3, "threshold": 0.5}),
    ],
)
def test_every_task_and_option(vreid: Vreid, veri: Path, arguments: tuple[str, ...], options: dict[str, Any]) -> None:
    extract(vreid, veri)
    if "metric" in options:
        options = options | {"metric": options["metric"].split(",")}
    assert_same(vreid, "run/features/query", "run/features/gallery", *arguments, **options)


def test_a_lost_query_image_is_the_same_warning(vreid: Vreid, veri: Path, tmp_path: Path) -> None:
    (tmp_path / "VeRi").symlink_to(veri)
    lines = (veri / "test_track.txt").read_text().splitlines()
    elsewhere = tmp_path / "copy"
    elsewhere.mkdir()
    for folder in ("image_query", "image_test"):
        (elsewhere / folder).mkdir()
        for path in (veri / folder).iterdir():
            (elsewhere / folder / path.name).write_bytes(path.read_bytes())
    gone = lines[-1].split()[1]
    (elsewhere / "test_track.txt").write_text("\n".join(lines))
    (elsewhere / "image_test" / gone).unlink()
    extract(vreid, elsewhere)
    (warning,) = assert_same(vreid, "run/features/query", "run/features/gallery")
    assert "1 query image in no gallery track" in warning
    assert gone in warning


def test_features_of_any_origin_and_zero_vectors(vreid: Vreid) -> None:
    rng = np.random.default_rng(1)
    for name, tracks in (("q", 3), ("g", 6)):
        rows = {f"{n:04d}_c00{tracks}": (0.1 * rng.normal(size=(2, 4))).tolist() for n in range(tracks)}
        rows["0000_c009"] = [[0, 0, 0, 0]]
        Path(f"{name}.json").write_text(json.dumps(rows))
    told = assert_same(vreid, "q.json", "g.json", "--metric", "RSCR,minMCD,minMED", metric=["RSCR", "minMCD", "minMED"])
    assert ["every code is zero" in warning for warning in told] == [True, False]
    assert "2 images have a zero LR" in told[1]


def test_trials(vreid: Vreid, tmp_path: Path) -> None:
    root = tmp_path / "VehicleID"
    lines = []
    for vehicle in range(3):
        for image in range(3):
            name = f"{10 * vehicle + image:07d}"
            draw(root / "image" / f"{name}.jpg", hue=vehicle, seed=image)
            lines.append(f"{name} {vehicle}")
    (root / "train_test_split").mkdir()
    (root / "train_test_split" / "test_list_800.txt").write_text("\n".join(lines))
    weights = save_weights(Path("tiny.safetensors"))
    data = ("--dataset", "vehicleid", "--data-dir", root, "--subset", "800")
    vreid("extract", *data, "--arch", "resnet18", "--weights", weights, "--run-dir", "run")
    vreid("rank", "--run-dir", "run", "--task", "i2i", "--seed", "5", "--set", "rank.trials=2")
    for trial in range(2):
        sides = library.split_trial(library.read_features(Path("run/features/gallery")), seed=5, trial=trial)
        ranking = library.rank(*sides, library.RankingOptions(task="i2i"))["MCD"]
        path = Path(f"run/rankings/i2i-MCD-trial{trial:02d}.parquet")
        assert library.read_ranking(path).facts == ranking.facts
        assert columns(path)["distance"] == [float(d) for block in ranking.blocks for d in block.distance]
