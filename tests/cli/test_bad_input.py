"""Bad input of every kind, from the command line: what is said, what it ends with, and what is kept."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import EXTRACT, Vreid, draw, draw_tracks, save_weights

from vreid_cli.store.features import FeatureStore

RUN = Path("runs/tracks-resnet18-tiny")


@pytest.fixture
def data() -> Path:
    """A small set in the current folder, which is the test's own."""
    return draw_tracks(Path("data"), {"query/0001_c001": 2, "gallery/0001_c002": 2, "gallery/0002_c002": 1})


@pytest.fixture
def extract(vreid: Vreid, weights: Path) -> tuple[str | Path, ...]:
    """``vreid extract`` of the set, all but ``--data-dir``."""
    return (*EXTRACT, "--weights", weights)


def skipped_images(split: str) -> list[dict[str, str]]:
    with (RUN / "features" / split / "skipped.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def images_of(split: str) -> list[str]:
    return sorted(FeatureStore(RUN / "features" / split).read().image_id)


# -- folders ---------------------------------------------------------------------------------------------------


def empty_folder() -> None:
    Path("data").mkdir()


def empty_sides() -> None:
    for side in ("query", "gallery"):
        Path("data", side).mkdir(parents=True)


def loose_images() -> None:
    draw(Path("data/query/a.jpg"))
    draw_tracks(Path("data"), {"gallery/0001_c002": 1})


def two_queries() -> None:
    draw_tracks(Path("data"), {"query1/0001_c001": 1, "query2/0001_c001": 1, "gallery/0001_c002": 1})


def a_file() -> None:
    Path("data").write_text("not a folder")


@pytest.mark.parametrize(
    ("make", "message", "hint"),
    [
        (lambda: None, "there is no folder data", "--data-dir"),
        (a_file, "data is not a folder", "--data-dir"),
        (empty_folder, "data holds no folder query*/", "--query-dir"),
        (empty_sides, "data/query holds no images", "query/<track>/<image>.jpg"),
        (loose_images, "data/query holds only images outside any track folder (a.jpg)", "a folder per track"),
        (two_queries, "data holds several folders for the query tracks: query1, query2", "--query-dir"),
    ],
)
def test_a_folder_that_is_not_what_it_should_be(
    vreid: Vreid, extract: tuple[str | Path, ...], make: Callable[[], None], message: str, hint: str
) -> None:
    make()
    error = vreid.error(*extract, "--data-dir", "data")
    assert error["message"] == message
    assert hint in error["hint"]
    assert (error["file"] or "").startswith("data")
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: None, "there is no folder VeRi"),
        (lambda: Path("VeRi/image_query").mkdir(parents=True), "VeRi/image_query holds no images with VeRi's names"),
        (lambda: draw(Path("VeRi/image_query/car.jpg")), "VeRi/image_query holds no images with VeRi's names"),
    ],
)
def test_a_folder_that_is_no_veri(vreid: Vreid, make: Callable[[], None], message: str) -> None:
    make()
    error = vreid.error("extract", "--weights", "random")
    assert error["message"] == message
    assert "image_query/, image_test/" in error["hint"]
    assert not Path("runs").exists()


# -- images --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_images_of_every_kind_are_used(vreid: Vreid, extract: tuple[str | Path, ...], data: Path) -> None:
    names = {mode: f"{mode}.{'jpg' if mode == 'CMYK' else 'png'}" for mode in ("L", "LA", "P", "RGBA", "CMYK", "1")}
    for mode, name in names.items():
        Image.open(data / "query/0001_c001/0.png").convert(mode).save(data / "query/0001_c001" / name)
    report = vreid.json(*extract, "--data-dir", data)
    assert (report["skipped"], report["warnings"]) == ([], [])
    assert {f"0001_c001/{name}" for name in names.values()} <= set(images_of("query"))


def cut_short(path: Path) -> None:
    path.write_bytes(draw(path).read_bytes()[:500])


BAD_IMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut.jpg": (cut_short, "cannot be decoded"),
    "empty.jpg": (lambda path: path.touch(), "the file is empty"),
    "long.png": (lambda path: Image.new("RGB", (300, 2)).save(path), "one side is over 50 times the other"),
    "text.jpg": (lambda path: path.write_text("no image at all"), "not an image in a known format"),
}


@pytest.mark.slow
def test_bad_images_are_named_skipped_and_counted(vreid: Vreid, extract: tuple[str | Path, ...], data: Path) -> None:
    for name, (make, _) in BAD_IMAGES.items():
        make(data / "gallery/0001_c002" / name)
    told = vreid(*extract, "--data-dir", data)
    lines = {
        name: line
        for line in vreid.err.splitlines()
        for name in BAD_IMAGES
        if line.startswith("skipped data") and f"/0001_c002/{name}: " in line
    }
    assert "3 images in 2 tracks, 4 images skipped" in told
    assert f"{RUN}/features/gallery/skipped.csv" in told
    entries = vreid.json(*extract, "--data-dir", data)["skipped"]
    for entry, (name, (_, reason)) in zip(entries, BAD_IMAGES.items(), strict=True):
        assert reason in lines[name]
        assert (entry["split"], entry["image_id"], entry["track_id"]) == ("gallery", f"0001_c002/{name}", "0001_c002")
        assert reason in entry["reason"]
    told_keys = ("image_id", "track_id", "reason")
    assert skipped_images("gallery") == [{key: entry[key] for key in told_keys} for entry in entries]
    vreid("rank")
    assert vreid.json("evaluate")["results"][0]["gallery_size"] == 2


def test_strict_stops_at_a_bad_image_and_keeps_what_was_done(
    vreid: Vreid, extract: tuple[str | Path, ...], data: Path
) -> None:
    (data / "gallery/0002_c002/bad.jpg").write_text("no image")
    command = (*extract, "--data-dir", data, "--set", "extract.part_images=1")
    error = vreid.error(*command, "--strict")
    assert error["message"].startswith("data/gallery/0002_c002/bad.jpg: not an image")
    assert "the parts that were finished are kept" in error["hint"]
    assert (RUN / "features/query/complete.json").is_file()
    assert (RUN / "features/gallery/part-00000.arrow").is_file()
    assert not (RUN / "features/gallery/complete.json").exists()
    assert vreid.error("rank")["message"] == f"the features in {RUN}/features/gallery are not complete"
    for side in ("--query-features", "--gallery-features"):  # a folder of images is not a store that is not complete
        assert vreid.error("rank", side, data, "-o", "r.json")["message"] == f"there are no features in {data}"
    told = vreid(*command)
    assert "query: 2 images in 1 track, nothing to compute" in told
    assert "1 computed now" in told


def test_a_track_without_a_readable_image_is_named_and_left_out(
    vreid: Vreid, extract: tuple[str | Path, ...], data: Path
) -> None:
    (data / "gallery/0003_c003").mkdir()
    (data / "gallery/0003_c003/bad.jpg").write_text("no image")
    (data / "gallery/0004_c003").mkdir()
    vreid(*extract, "--data-dir", data)
    warning = f"tracks of {(data / 'gallery').resolve()} without a readable image, left out: 0003_c003"
    assert warning in vreid.err
    assert "without an image: 0004_c003" in vreid.err
    assert warning in vreid.json(*extract, "--data-dir", data)["warnings"]
    vreid("rank")
    assert vreid.json("evaluate")["results"][0]["gallery_size"] == 2


def test_a_split_without_any_readable_image_is_an_error_and_the_other_split_is_kept(
    vreid: Vreid, extract: tuple[str | Path, ...], data: Path
) -> None:
    for path in data.glob("gallery/*/*"):
        path.write_text("no image")
    error = vreid.error(*extract, "--data-dir", data)
    assert error["message"].startswith("of 3 images in ")
    assert "0001_c002/0.png: not an image" in error["message"]
    assert images_of("query") == ["0001_c001/0.png", "0001_c001/1.png"]


def test_a_image_that_becomes_bad_loses_only_its_own_features(
    vreid: Vreid, extract: tuple[str | Path, ...], data: Path
) -> None:
    vreid(*extract, "--data-dir", data)
    (data / "gallery/0001_c002/1.png").write_text("no image any more")
    vreid(*extract, "--data-dir", data)
    assert images_of("gallery") == ["0001_c002/0.png", "0002_c002/0.png"]
    assert [entry["image_id"] for entry in skipped_images("gallery")] == ["0001_c002/1.png"]


# -- weights ---------------------------------------------------------------------------------------------------


def test_weights_that_do_not_fit_name_the_first_keys_and_leave_no_run(vreid: Vreid, data: Path, weights: Path) -> None:
    command = ("extract", "--dataset", "tracks", "--data-dir", data)
    error = vreid.error(*command, "--arch", "vgg16", "--weights", weights)
    assert "is for resnet18, not for vgg16" in error["message"]
    assert error["file"] == str(weights)
    error = vreid.error(*command, "--weights", "nowhere.pth", "--arch", "resnet18")
    assert error["message"] == "there is no weights file nowhere.pth"
    assert "imagenet, random" in error["hint"]
    cut = save_weights(Path("cut.safetensors"))
    cut.write_bytes(cut.read_bytes()[:10_000])
    assert "is damaged" in vreid.error(*command, "--arch", "resnet18", "--weights", cut)["message"]
    assert not Path("runs").exists()


# -- features from elsewhere -----------------------------------------------------------------------------------

GOOD = {"0001_c001": [[1.0, 0.0], [0.5, 0.5]], "0002_c001": [[0.0, 1.0]]}


def save_json(name: str, content: object) -> Path:
    path = Path(name)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a": [[1.0, 2.0], [1.0]]}, ["track a, image 1", "1 number where a list of 2 is needed"]),
        ({"a": [[1.0, 2.0]], "b": [[1.0]]}, ["features of different width", "track a", "track b"]),
        ('{"a": [[1.0, NaN]]}', ["track a, image 0", "not finite"]),
        ('{"a": [[1.0, 2.0], [1.0, Infinity]]}', ["track a, image 1", "not finite"]),
        ('{"a": [[1.0, 1e39]]}', ["track a, image 0", "not finite"]),
        ({"a": [["x", 1.0]]}, ["track a", "no number"]),
        ({"a": []}, ["track a", "no list of features"]),
        ({"a": [1.0, 2.0]}, ["track a, image 0", "a float"]),
        ({}, ["holds no tracks"]),
        ([], ["holds a list, not an object"]),
        ('{"a": [[1.0,', ["not valid JSON"]),
        ({"tracks": {}}, ["holds a ranking, not features"]),
    ],
)
@pytest.mark.parametrize("side", ["query", "gallery"])
def test_a_json_that_holds_no_features_is_named_and_nothing_is_written(
    vreid: Vreid, content: object, words: list[str], side: str
) -> None:
    good, bad = save_json("good.json", GOOD), save_json("bad.json", content)
    files = {"query": good, "gallery": good, side: bad}
    error = vreid.error(
        "rank", "--query-features", files["query"], "--gallery-features", files["gallery"], "-o", "out.json"
    )
    assert "bad.json" in error["message"]
    assert all(word in error["message"] for word in words), error["message"]
    assert error["file"] == "bad.json"
    assert sorted(path.name for path in Path().iterdir()) == ["bad.json", "good.json"]


def test_query_and_gallery_of_different_dimension(vreid: Vreid) -> None:
    save_json("q.json", GOOD)
    save_json("g.json", {"0001_c002": [[1.0, 2.0, 3.0]]})
    error = vreid.error("rank", "--query-features", "q.json", "--gallery-features", "g.json", "-o", "r.json")
    assert error["message"] == "the query's features have 2 dimensions, the gallery's 3"
    assert error["hint"] == "both must come from the same network"
    assert not Path("r.json").exists()


def test_query_and_gallery_of_different_networks(vreid: Vreid, extract: tuple[str | Path, ...], data: Path) -> None:
    vreid(*extract, "--data-dir", data)
    vreid(*EXTRACT, "--data-dir", data, "--weights", "random", "--run-dir", "other", "--split", "gallery")
    error = vreid.error("rank", "--run-dir", RUN, "--gallery-features", "other/features/gallery", "-o", "r.json")
    assert "made differently: transform" in error["message"]
    assert not Path("r.json").exists()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"feature": np.ones((2, 2))}, ["no array 'features'"]),
        ({"features": np.ones(3)}, ["not (N, D) numbers"]),
        ({"features": np.array([[1.0, np.nan]])}, ["row 0", "not finite"]),
        ({"features": np.ones((2, 2)), "track_id": np.array(["a"])}, ["'track_id' has shape (1,)"]),
        ({"features": np.ones((1, 2)), "track_id": np.array(["a"], dtype=object)}, ["damaged or is no .npz"]),
    ],
)
def test_an_npz_that_holds_no_features(vreid: Vreid, arrays: dict[str, Any], words: list[str]) -> None:
    save_json("good.json", GOOD)
    np.savez("bad.npz", **arrays)
    error = vreid.error("rank", "--query-features", "bad.npz", "--gallery-features", "good.json", "-o", "r.json")
    assert all(word in error["message"] for word in words), error["message"]
    assert error["file"] == "bad.npz"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.json", "there is no file nowhere.json"),
        ("nowhere.npz", "there is no file nowhere.npz"),
        ("nowhere", "there are no features at nowhere"),
        ("good.txt", "good.txt is no feature file that is known"),
    ],
)
def test_features_that_are_not_there(vreid: Vreid, name: str, message: str) -> None:
    save_json("good.json", GOOD)
    save_json("good.txt", GOOD)
    error = vreid.error("rank", "--query-features", "good.json", "--gallery-features", name, "-o", "r.json")
    assert error["message"] == message


def test_an_unknown_metric_changes_no_ranking_that_is_there(vreid: Vreid) -> None:
    save_json("good.json", GOOD)
    command = ("rank", "--query-features", "good.json", "--gallery-features", "good.json", "-o", "r.json")
    vreid(*command)
    before = Path("r.json").read_bytes()
    error = vreid.error(*command, "--metric", "meanMCD5", code=2)
    assert "did you mean 'meanMCD50'?" in error["hint"]
    assert Path("r.json").read_bytes() == before


def test_a_zero_feature_is_counted_and_warned_about(vreid: Vreid) -> None:
    save_json("q.json", {"0001_c001": [[0.0, 0.0], [1.0, 0.0]]})
    save_json("g.json", {"0001_c002": [[1.0, 0.0]], "0002_c002": [[0.0, 0.0]]})
    command = ("rank", "--query-features", "q.json", "--gallery-features", "g.json", "-o", "r.json")
    (warning,) = vreid.json(*command)["warnings"]
    assert warning.startswith("2 images have a zero LR")
    rows = json.loads(Path("r.json").read_text())["tracks"]["0001_c001"]["ranking"]
    assert [rows[rank]["id"] for rank in ("1", "2")] == ["0001_c002", "0002_c002"]
    assert rows["2"]["distance"] == pytest.approx(1.0)


def test_a_ranking_whose_ranks_do_not_rise_is_named(vreid: Vreid) -> None:
    rows = {"1": {"id": "b", "class": "1", "distance": 0.1}, "01": {"id": "c", "class": "2", "distance": 0.2}}
    content = {"metric": "MCD", "aggregation": "min", "tracks": {"a": {"class": "1", "ranking": rows}}}
    save_json("twice.json", content)
    error = vreid.error("evaluate", "twice.json")
    assert "twice.json" in error["message"]
    assert error["file"] == "twice.json"
