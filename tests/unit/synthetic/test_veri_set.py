"""The synthetic set against what VeRi-776's layout demands, read back by brute force."""

from __future__ import annotations

import hashlib
import re
import xml.etree.ElementTree as ET
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from vreid_cli.errors import DataError, UsageError
from vreid_cli.synthetic.options import SyntheticOptions
from vreid_cli.synthetic.veri_set import SyntheticSet, render_veri

NAME = re.compile(r"^\d{4}_c\d{3}_\d{8}_\d\.jpg$")
TRACK = re.compile(r"^\d{4}_c\d{3}_t\d{4}$")
SIZE = SyntheticOptions(train_vehicles=7, test_vehicles=6, cameras=4, images_per_track=3)
SMALLEST = SyntheticOptions(train_vehicles=2, test_vehicles=2, cameras=2, images_per_track=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SyntheticSet:
    return render_veri(tmp_path_factory.mktemp("synthetic") / "new" / "VeRi", SIZE, seed=5)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def lines_of(path: Path) -> list[str]:
    text = path.read_bytes().decode("ascii")
    assert text.endswith("\r\n")
    assert text.count("\n") == text.count("\r\n")
    return text.split("\r\n")[:-1]


def tracks_of(path: Path) -> dict[str, list[str]]:
    lines = lines_of(path)
    assert all(line.endswith(".jpg ") for line in lines)
    tracks = {line.split()[0]: line.split()[1:] for line in lines}
    assert len(tracks) == len(lines)
    return tracks


def tree_digest(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        if path.is_file():
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def test_the_root_holds_veris_folders_and_lists_and_nothing_else(made: SyntheticSet) -> None:
    folders = {"image_train", "image_query", "image_test"}
    names = {"name_train.txt", "name_query.txt", "name_test.txt"}
    others = {"train_track.txt", "test_track.txt", "gt_index.txt", "jk_index.txt", "train_label.xml", "test_label.xml"}
    assert set(names_in(made.root)) == folders | names | others


@pytest.mark.parametrize("split", ["train", "query", "test"])
def test_names_have_veris_form_and_the_lists_name_the_folders_images(made: SyntheticSet, split: str) -> None:
    names = names_in(made.root / f"image_{split}")
    assert all(NAME.match(name) for name in names)
    assert lines_of(made.root / f"name_{split}.txt") == names


def test_the_counts_are_those_of_the_folders_and_lists(made: SyntheticSet) -> None:
    root = made.root
    assert made.train_images == len(names_in(root / "image_train"))
    assert made.test_images == len(names_in(root / "image_test"))
    assert made.query_images == len(names_in(root / "image_query"))
    assert made.train_tracks == len(lines_of(root / "train_track.txt"))
    assert made.test_tracks == len(lines_of(root / "test_track.txt"))


def test_train_and_test_vehicles_are_as_many_as_asked_and_disjoint(made: SyntheticSet) -> None:
    train = {name[:4] for name in names_in(made.root / "image_train")}
    test = {name[:4] for name in names_in(made.root / "image_test")}
    assert (len(train), len(test)) == (SIZE.train_vehicles, SIZE.test_vehicles)
    assert not train & test


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_vehicle_is_seen_by_two_cameras_or_more(made: SyntheticSet, split: str) -> None:
    cameras = defaultdict(set)
    for name in names_in(made.root / f"image_{split}"):
        cameras[name[:4]].add(name[5:9])
    assert all(len(seen) >= 2 for seen in cameras.values())
    assert set().union(*cameras.values()) == {f"c{k:03d}" for k in range(1, SIZE.cameras + 1)}


def test_each_vehicle_and_camera_has_one_query_and_it_is_a_test_image(made: SyntheticSet) -> None:
    queries = names_in(made.root / "image_query")
    assert sorted(name[:9] for name in queries) == sorted({name[:9] for name in names_in(made.root / "image_test")})
    for name in queries:
        in_test = made.root / "image_test" / name
        assert (made.root / "image_query" / name).read_bytes() == in_test.read_bytes()


@pytest.mark.parametrize("split", ["train", "test"])
def test_tracks_hold_each_image_once_and_one_vehicle_at_one_camera(made: SyntheticSet, split: str) -> None:
    tracks = tracks_of(made.root / f"{split}_track.txt")
    assert all(TRACK.match(track) for track in tracks)
    assert sorted(name for names in tracks.values() for name in names) == names_in(made.root / f"image_{split}")
    for track, names in tracks.items():
        assert 1 <= len(names) <= SIZE.images_per_track
        assert {name[:9] for name in names} == {track[:9]}
        assert names == sorted(names)


@pytest.mark.parametrize("split", ["train", "test"])
def test_some_vehicle_passes_one_camera_twice_at_different_times(made: SyntheticSet, split: str) -> None:
    passages = defaultdict(list)
    for track, names in tracks_of(made.root / f"{split}_track.txt").items():
        frames = [int(name[10:18]) for name in names]
        passages[track[:9]].append((min(frames), max(frames)))
    twice = [sorted(spans) for spans in passages.values() if len(spans) > 1]
    assert twice
    assert all(earlier[1] < later[0] for spans in twice for earlier, later in pairwise(spans))


def test_good_and_junk_positions_agree_with_the_names(made: SyntheticSet) -> None:
    gallery = lines_of(made.root / "name_test.txt")
    queries = lines_of(made.root / "name_query.txt")
    good, junk = lines_of(made.root / "gt_index.txt"), lines_of(made.root / "jk_index.txt")
    assert len(good) == len(junk) == len(queries)
    for query, good_row, junk_row in zip(queries, good, junk, strict=True):
        same_vehicle = {k + 1 for k, name in enumerate(gallery) if name[:4] == query[:4]}
        same_both = {k + 1 for k, name in enumerate(gallery) if name[:9] == query[:9]}
        assert [int(k) for k in good_row.split()] == sorted(same_vehicle - same_both)
        assert [int(k) for k in junk_row.split()] == sorted(same_both)
        assert gallery.index(query) + 1 in same_both


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_xml_names_every_image_with_its_labels(made: SyntheticSet, split: str) -> None:
    path = made.root / f"{split}_label.xml"
    text = path.read_bytes().decode("gb2312")
    assert text.startswith('<?xml version="1.0" encoding="gb2312" ?>\r\n')
    # expat knows no gb2312, as readers of the release find out too.
    items = ET.fromstring(text.partition("?>")[2])[0]
    assert items.get("number") == str(len(items))
    assert [item.get("imageName") for item in items] == names_in(made.root / f"image_{split}")
    kinds = defaultdict(set)
    for item in items:
        name = str(item.get("imageName"))
        assert (item.get("vehicleID"), item.get("cameraID")) == (name[:4], name[5:9])
        kinds[name[:4]].add((item.get("colorID"), item.get("typeID")))
    assert all(len(of_vehicle) == 1 for of_vehicle in kinds.values())
    # Paint and body alone must not identify a vehicle.
    assert len({kind for of_vehicle in kinds.values() for kind in of_vehicle}) < len(kinds)


def test_images_are_colour_jpegs_of_a_crops_size_with_something_in_them(made: SyntheticSet) -> None:
    sizes = set()
    for path in (made.root / "image_test").iterdir():
        with Image.open(path) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
            sizes.add(image.size)
            assert np.asarray(image).std() > 8
    assert all(min(size) >= 48 and max(size) <= 160 for size in sizes)
    assert len(sizes) > 3


def test_cameras_see_the_same_vehicle_under_different_light(made: SyntheticSet) -> None:
    means = defaultdict(list)
    for path in (made.root / "image_test").iterdir():
        with Image.open(path) as image:
            means[path.name[5:9]].append(np.asarray(image, dtype=float).mean(axis=(0, 1)))
    centres = [np.mean(of_camera, axis=0) for of_camera in means.values()]
    gaps = [np.abs(a - b).max() for k, a in enumerate(centres) for b in centres[:k]]
    assert min(gaps) > 5


def test_the_same_seed_renders_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    size = SyntheticOptions(train_vehicles=3, test_vehicles=2, cameras=2, images_per_track=2)
    digests = []
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        np.random.seed(len(digests))  # noqa: NPY002 - the global state must not matter
        render_veri(tmp_path / folder, size, seed=seed)
        digests.append(tree_digest(tmp_path / folder))
    assert digests[0] == digests[1] != digests[2]


def test_the_global_random_state_is_left_alone(tmp_path: Path) -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    render_veri(tmp_path / "set", SMALLEST, seed=0)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_the_smallest_set_is_whole(tmp_path: Path) -> None:
    made = render_veri(tmp_path, SMALLEST, seed=0)  # an empty folder will do
    # Two vehicles before two cameras, and the first of them twice; every track has its one image.
    assert (made.train_tracks, made.test_tracks) == (made.train_images, made.test_images)
    assert made.test_tracks >= 5
    assert made.query_images == 4


def test_a_folder_that_holds_something_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match="not an empty folder") as caught:
        render_veri(tmp_path, SMALLEST, seed=0)
    assert caught.value.file == str(tmp_path)
    assert names_in(tmp_path) == ["mine.txt"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").write_text("a file")
    with pytest.raises(DataError, match="not an empty folder"):
        render_veri(tmp_path / "set", SMALLEST, seed=0)


def test_a_folder_that_cannot_be_made_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    with pytest.raises(DataError, match="cannot be written"):
        render_veri(tmp_path / "file" / "set", SMALLEST, seed=0)


@pytest.mark.parametrize(
    "size",
    [
        {"train_vehicles": 1},
        {"test_vehicles": 1},
        {"train_vehicles": 9999},
        {"cameras": 1},
        {"cameras": 1000},
        {"images_per_track": 0},
        {"images_per_track": 101},
    ],
    ids=str,
)
def test_impossible_sizes_are_refused(size: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        SyntheticOptions(**size)


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="seed"):
        render_veri(tmp_path / "set", SMALLEST, seed=-1)
