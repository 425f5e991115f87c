"""Extraction: what is computed, what is kept byte for byte, and what happens to bad images and full memories."""

from __future__ import annotations

import csv
import ctypes
import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data._utils.pin_memory import pin_memory

from vreid_cli.config import Layer
from vreid_cli.data.decoding import BadImageError, decode_rgb
from vreid_cli.data.listing import DataFolders, Listing
from vreid_cli.data.tracks import read_tracks
from vreid_cli.data.veri import read_veri
from vreid_cli.errors import DataError, DeviceError, StoreError, VreidError, WeightsError
from vreid_cli.extraction import effort as effort_module
from vreid_cli.extraction import loading, planning
from vreid_cli.extraction.extract import ExtractionOptions, SplitSummary, extract_split
from vreid_cli.extraction.forward import Extractor, Pending, choose_batch_size, measure_batch_size
from vreid_cli.extraction.loading import Batch, ImageDataset, load_batches
from vreid_cli.models.backbones import BACKBONES, Backbone
from vreid_cli.models.network import build_random
from vreid_cli.models.transforms import Transform
from vreid_cli.models.weights import LoadedNetwork, weights_digest
from vreid_cli.runtime.workers import choose_workers, follow_parent
from vreid_cli.store.features import FeatureStore
from vreid_cli.store.runs import RunDirectory
from vreid_cli.workflows.extract import ExtractReport, choose_run, extract
from vreid_cli.workflows.session import resolve_session

SMALL = Transform(resize=40, crop=32)
CPU = torch.device("cpu")
#: Batches of another size choose other kernels (the contract's 1e-6).
BATCH_TOLERANCE = 1e-6


def _build_tiny() -> nn.Module:
    layers = [nn.Conv2d(3, 12, 5, stride=2), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 10, 3)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 5))


TINY = Backbone(
    name="tiny",
    dimension=10,
    transform=SMALL,
    build=_build_tiny,
    head="6",
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Killed(BaseException):
    """Stands for the end of the process at a named place."""


class CountingExtractor(Extractor):
    """Notes how many images each batch holds."""

    def __init__(self, batch_size: int = 4) -> None:
        network = build_random(TINY, seed=0).eval()
        super().__init__(LoadedNetwork(network, SMALL, "random", weights_digest(network)), CPU, batch_size=batch_size)
        self.network = network
        self.batches: list[int] = []

    def submit(self, pixels: torch.Tensor) -> Pending:
        self.batches.append(len(pixels))
        return super().submit(pixels)


@dataclass
class Bench:
    """A folder of images, a store, and one extraction after the other."""

    data: Path
    store: FeatureStore
    part_images: int = 4
    reader: Callable[[DataFolders, str], Listing] = read_tracks
    extractor: CountingExtractor = field(default_factory=CountingExtractor)

    def run(self, store: FeatureStore | None = None, **changes: object) -> SplitSummary:
        options = ExtractionOptions(
            identity={"architecture": "tiny"},
            recorded={"batch_size": "4"},
            facts={"dataset": "tracks", "weights": "random"},
            transform=SMALL,
            part_images=self.part_images,
            workers=0,
            max_pixels=1_000_000,
            strict=False,
        )
        self.extractor = CountingExtractor()
        return extract_split(
            store or self.store,
            self.reader(DataFolders(self.data), "gallery"),
            extractor=self.extractor,
            options=replace(options, **changes),
        )

    @property
    def computed(self) -> int:
        """Images that went through the network in the last run, however it ended."""
        return sum(self.extractor.batches)

    def files(self, store: FeatureStore | None = None) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (store or self.store).path.iterdir()}

    def parts(self, store: FeatureStore | None = None) -> dict[str, bytes]:
        return {name: content for name, content in self.files(store).items() if name.startswith("part-")}

    def features(self, store: FeatureStore | None = None) -> dict[str, np.ndarray]:
        found = (store or self.store).read()
        return dict(zip(found.image_id, found.matrix.take(np.arange(len(found))), strict=True))

    def image(self, name: str) -> Path:
        return self.data / "gallery" / name


def draw(path: Path, seed: int, size: tuple[int, int] = (48, 44)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    coarse.resize(size, Image.Resampling.BICUBIC).save(path)


#: Six tracks of vehicles of their own: with four images a part they make parts of 5, 5 and 4 images.
TRACKS = {"0001_c001": 2, "0002_c001": 3, "0003_c002": 1, "0004_c001": 4, "0005_c003": 3, "0006_c001": 1}
IMAGES = sum(TRACKS.values())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    seed = 0
    for track, count in TRACKS.items():
        for number in range(count):
            draw(tmp_path / "data" / "gallery" / track / f"{number}.png", seed)
            seed += 1
    return Bench(tmp_path / "data", FeatureStore(tmp_path / "store"))


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose content was read for its digest."""
    names: list[str] = []
    hash_file = planning._hash_file
    monkeypatch.setattr(planning, "_hash_file", lambda path: (names.append(path.name), hash_file(path))[1])
    return names


def by_hand(path: Path) -> np.ndarray:
    """The LR of one image, alone."""
    extractor = CountingExtractor()
    pixels = SMALL.crop_uint8(decode_rgb(path, max_pixels=10**6))
    with torch.inference_mode():
        return extractor.network.trunk(SMALL.normalise(pixels[None])).numpy()[0]


# -- the plain run ------------------------------------------------------------------------------------------


def test_features_are_those_of_each_image_alone(bench: Bench):
    summary = bench.run()
    assert (summary.images, summary.computed, summary.tracks) == (IMAGES, IMAGES, len(TRACKS))
    assert (summary.skipped, summary.empty_tracks) == ((), ())
    features = bench.features()
    assert len(features) == IMAGES
    assert len({row.tobytes() for row in features.values()}) == IMAGES
    for image_id, row in features.items():
        np.testing.assert_allclose(row, by_hand(bench.image(image_id)), rtol=1e-5, atol=BATCH_TOLERANCE)


def test_the_back_end_is_ready_before_images_are_decoded_and_only_where_there_are_any(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    order: list[str] = []
    monkeypatch.setattr(Extractor, "prepare", lambda self: order.append("prepare"))
    monkeypatch.setattr(loading, "decode_rgb", lambda *a, **o: (order.append("decode"), decode_rgb(*a, **o))[1])
    bench.run()
    assert order == ["prepare", *["decode"] * IMAGES]
    bench.run()
    assert len(order) == 1 + IMAGES


def test_parts_hold_whole_tracks(bench: Bench):
    bench.run()
    sizes = []
    for number in bench.store.part_numbers():
        image_ids = bench.store.read_part(number).image_id
        sizes.append(len(image_ids))
        tracks = {image_id.split("/")[0] for image_id in image_ids}
        assert len(image_ids) == sum(TRACKS[track] for track in tracks)
    assert sizes == [5, 5, 4]
    assert bench.store.read_complete()["parts"] == 3


def test_batches_never_cross_parts(bench: Bench):
    bench.run()
    assert bench.extractor.batches == [4, 1, 4, 1, 4]


def test_passages_before_one_camera_stay_in_one_part(tmp_path: Path):
    for passage in range(4):
        for number in range(3):
            draw(tmp_path / "data" / "gallery" / f"0001_c001_t{passage}" / f"{number}.png", passage * 3 + number)
    draw(tmp_path / "data" / "gallery" / "0001_c002_t9" / "0.png", 99)
    bench = Bench(tmp_path / "data", FeatureStore(tmp_path / "store"))
    bench.run()
    assert [len(bench.store.read_part(number).image_id) for number in bench.store.part_numbers()] == [12, 1]


def test_plan_says_what_the_files_look_like(bench: Bench):
    bench.run()
    rows = {row.image_id: row for row in bench.store.read_plan() or ()}
    assert set(rows) == set(bench.features())
    for image_id, row in rows.items():
        stat = bench.image(image_id).stat()
        assert (row.size, row.mtime) == (stat.st_size, stat.st_mtime_ns)
        assert row.track_id == image_id.split("/")[0]
        assert image_id in bench.store.read_part(row.part).image_id


# -- going on -----------------------------------------------------------------------------------------------


def test_second_run_computes_nothing_and_changes_no_byte(bench: Bench, hashed: list[str]):
    bench.run()
    before = bench.files()
    times = {path.name: path.stat().st_mtime_ns for path in bench.store.path.iterdir()}
    hashed.clear()
    summary = bench.run()
    assert (bench.computed, summary.computed, summary.images) == (0, 0, IMAGES)
    assert hashed == []
    assert bench.files() == before
    assert {path.name: path.stat().st_mtime_ns for path in bench.store.path.iterdir()} == times


def die_at(monkeypatch: pytest.MonkeyPatch, seam: str) -> None:
    """Let the next run end at a named place."""
    name, _, call = seam.partition(" ")
    original = getattr(FeatureStore, name)
    left = int(call or 1)

    def method(self: FeatureStore, *args: object, **options: object) -> object:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed(seam)
        return original(self, *args, **options)

    monkeypatch.setattr(FeatureStore, name, method)


#: Where a run may die, and how many images are left to compute then.
SEAMS = {
    "write_plan": IMAGES,
    "write_part 1": IMAGES,
    "write_part 2": IMAGES - 5,
    "write_part 3": IMAGES - 10,
    "write_complete": 0,
}


@pytest.mark.parametrize(("seam", "left"), SEAMS.items())
def test_killed_run_goes_on_to_the_same_bytes(bench: Bench, monkeypatch: pytest.MonkeyPatch, seam: str, left: int):
    undisturbed = FeatureStore(bench.store.path.with_name("undisturbed"))
    bench.run(undisturbed)
    with monkeypatch.context() as patch:
        die_at(patch, seam)
        with pytest.raises(Killed):
            bench.run()
    assert not bench.store.is_complete()
    bench.run()
    assert bench.computed == left
    assert bench.files() == bench.files(undisturbed)


def test_killed_while_writing_a_part(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    undisturbed = FeatureStore(bench.store.path.with_name("undisturbed"))
    bench.run(undisturbed)

    def die(self: Path, target: Path) -> Path:
        if target.name == "part-00001.arrow":
            shutil.copy(self, self.with_name(".part-00001.4711.tmp.arrow"))  # a kill removes nothing
            raise Killed
        return replace_file(self, target)

    replace_file = Path.replace
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", die)
        with pytest.raises(Killed):
            bench.run()
    assert set(bench.parts()) == {"part-00000.arrow"}
    bench.run()
    assert bench.computed == IMAGES - 5
    assert bench.files() == bench.files(undisturbed)  # without the leftover


@pytest.mark.parametrize("damage", ["removed", "cut short"])
def test_lost_part_is_made_again_to_the_same_bytes(bench: Bench, damage: str):
    bench.run()
    before = bench.files()
    path = bench.store.part_path(1)
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(before[path.name][:-100])
    bench.run()
    assert bench.computed == 5
    assert bench.files() == before


def test_damaged_mark_of_completeness_is_written_anew(bench: Bench):
    bench.run()
    before = bench.files()
    bench.store.complete_path.write_bytes(b"{")
    bench.run()
    assert bench.computed == 0
    assert bench.files() == before


def test_lost_plan_costs_a_look_at_the_files_only(bench: Bench, hashed: list[str]):
    bench.run()
    before = bench.files()
    bench.store.plan_path.unlink()
    hashed.clear()
    bench.run()
    assert bench.computed == 0
    assert len(hashed) == IMAGES
    assert bench.files() == before


def test_touched_image_is_hashed_but_not_computed(bench: Bench, hashed: list[str]):
    bench.run()
    before = bench.parts()
    path = bench.image("0004_c001/2.png")
    os.utime(path, ns=(1, 1))
    hashed.clear()
    bench.run()
    assert bench.computed == 0
    assert hashed == ["2.png"]
    assert bench.parts() == before
    hashed.clear()
    bench.run()
    assert hashed == []


def test_changed_image_has_only_its_part_made_again(bench: Bench, hashed: list[str]):
    bench.run()
    before, features = bench.parts(), bench.features()
    draw(bench.image("0004_c001/2.png"), seed=777)
    hashed.clear()
    summary = bench.run()
    assert hashed == ["2.png"]
    assert (bench.computed, summary.computed) == (5, 5)
    after = bench.parts()
    assert [name for name in before if after[name] != before[name]] == ["part-00001.arrow"]
    changed = [image_id for image_id, row in bench.features().items() if not np.array_equal(row, features[image_id])]
    assert changed == ["0004_c001/2.png"]


def test_store_is_not_complete_while_it_changes(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    bench.run()
    draw(bench.image("0004_c001/2.png"), seed=777)
    with monkeypatch.context() as patch:
        die_at(patch, "write_part")
        with pytest.raises(Killed):
            bench.run()
    with pytest.raises(StoreError, match="not complete"):
        bench.store.read()
    bench.run()
    assert bench.computed == 5
    np.testing.assert_allclose(
        bench.features()["0004_c001/2.png"], by_hand(bench.image("0004_c001/2.png")), rtol=1e-5, atol=BATCH_TOLERANCE
    )


def test_new_track_makes_a_new_part(bench: Bench):
    bench.run()
    before = bench.parts()
    draw(bench.image("0003_c001/0.png"), seed=500)  # sorts between the others
    draw(bench.image("0009_c001/0.png"), seed=501)
    summary = bench.run()
    assert (bench.computed, summary.tracks) == (2, len(TRACKS) + 2)
    after = bench.parts()
    assert set(after) - set(before) == {"part-00003.arrow"}
    assert all(after[name] == before[name] for name in before)
    assert list(bench.store.read().image_id) == sorted(bench.features())


def test_new_image_of_an_old_track_has_its_part_made_again(bench: Bench):
    bench.run()
    before = bench.parts()
    draw(bench.image("0001_c001/7.png"), seed=500)
    bench.run()
    assert bench.computed == 6
    after = bench.parts()
    assert [name for name in after if after[name] != before.get(name)] == ["part-00000.arrow"]
    assert "0001_c001/7.png" in bench.features()


def test_removed_image_costs_no_computing(bench: Bench):
    bench.run()
    before, features = bench.parts(), bench.features()
    bench.image("0002_c001/1.png").unlink()
    summary = bench.run()
    assert (bench.computed, summary.images, summary.tracks) == (0, IMAGES - 1, len(TRACKS))
    del features["0002_c001/1.png"]
    found = bench.features()
    assert found.keys() == features.keys()
    assert all(np.array_equal(found[image_id], features[image_id]) for image_id in features)
    after = bench.parts()
    assert [name for name in before if after[name] != before[name]] == ["part-00000.arrow"]


def test_removed_tracks_take_their_part_with_them(bench: Bench):
    bench.run()
    before = bench.parts()
    for track in ("0003_c002", "0004_c001"):
        shutil.rmtree(bench.image(track))
    summary = bench.run()
    assert (bench.computed, summary.tracks) == (0, 4)
    del before["part-00001.arrow"]
    assert bench.parts() == before
    assert len(bench.features()) == IMAGES - 5


def test_moved_folder_costs_nothing(bench: Bench):
    bench.run()
    before = bench.parts()
    moved = bench.data.rename(bench.data.with_name("moved"))
    bench.data = moved
    summary = bench.run()
    assert (bench.computed, summary.images) == (0, IMAGES)
    assert bench.parts() == before
    assert bench.store.read().image_root == str((moved / "gallery").resolve())


def test_copied_folder_is_hashed_and_costs_no_computing(bench: Bench, hashed: list[str]):
    bench.run()
    before = bench.parts()
    copied = bench.data.with_name("copied")
    shutil.copytree(bench.data, copied, copy_function=shutil.copyfile)
    bench.data = copied
    hashed.clear()
    bench.run()
    assert (bench.computed, len(hashed)) == (0, IMAGES)
    assert bench.parts() == before


# -- changed labels -----------------------------------------------------------------------------------------

VERI = {
    "0001_c001_t0001": ["0001_c001_00000010_0.jpg", "0001_c001_00000020_0.jpg"],
    "0001_c001_t0002": ["0001_c001_00000500_0.jpg"],
    "0002_c003_t0001": ["0002_c003_00000010_0.jpg", "0002_c003_00000030_0.jpg"],
    "0002_c004_t0001": ["0002_c004_00000010_0.jpg"],
}


def write_tracks(data: Path, tracks: dict[str, list[str]]) -> None:
    (data / "test_track.txt").write_text("".join(f"{track} {' '.join(names)} \r\n" for track, names in tracks.items()))


@pytest.fixture
def veri(tmp_path: Path) -> Bench:
    names = [name for names in VERI.values() for name in names]
    for seed, name in enumerate(names):
        draw(tmp_path / "data" / "image_test" / name, seed)
    write_tracks(tmp_path / "data", VERI)
    return Bench(tmp_path / "data", FeatureStore(tmp_path / "store"), part_images=3, reader=read_veri)


def tracks_of(store: FeatureStore) -> dict[str, str]:
    found = store.read()
    return dict(zip(found.image_id, found.track_id, strict=True))


def expected_tracks(tracks: dict[str, list[str]]) -> dict[str, str]:
    return {name: track for track, names in tracks.items() for name in names}


def test_renamed_track_is_rewritten_not_computed(veri: Bench, hashed: list[str]):
    veri.run()
    before, features = veri.parts(), veri.features()
    changed = {("0002_c003_t0777" if track == "0002_c003_t0001" else track): names for track, names in VERI.items()}
    write_tracks(veri.data, changed)
    hashed.clear()
    veri.run()
    assert (veri.computed, hashed) == (0, [])
    assert tracks_of(veri.store) == expected_tracks(changed)
    after = veri.parts()
    assert [name for name in before if after[name] != before[name]] == ["part-00001.arrow"]
    assert all(np.array_equal(row, features[image_id]) for image_id, row in veri.features().items())
    veri.run()
    assert veri.parts() == after


def test_image_that_changes_its_track_takes_its_features_along(veri: Bench):
    veri.run()
    features = veri.features()
    moved = "0001_c001_00000010_0.jpg"
    changed = {**VERI, "0001_c001_t0001": ["0001_c001_00000020_0.jpg"], "0001_c001_t0009": [moved]}
    write_tracks(veri.data, changed)
    veri.run()
    assert veri.computed == 0
    assert tracks_of(veri.store) == expected_tracks(changed)
    assert all(np.array_equal(row, features[image_id]) for image_id, row in veri.features().items())
    assert list(veri.store.read_part(0).image_id)[-1] == moved  # rows of a part stay in gallery order


#: An image of one part is put into a track of another: the first part grows, the second shrinks.
ACROSS = {
    **VERI,
    "0001_c001_t0002": ["0001_c001_00000500_0.jpg", "0002_c003_00000030_0.jpg"],
    "0002_c003_t0001": ["0002_c003_00000010_0.jpg"],
}


def test_image_that_changes_its_part_is_not_computed(veri: Bench):
    veri.run()
    features = veri.features()
    assert len(veri.store.part_numbers()) == 2
    write_tracks(veri.data, ACROSS)
    veri.run()
    assert veri.computed == 0
    assert tracks_of(veri.store) == expected_tracks(ACROSS)
    found = veri.features()
    assert found.keys() == features.keys()
    assert all(np.array_equal(found[image_id], features[image_id]) for image_id in features)
    write_tracks(veri.data, VERI)
    veri.run()
    assert veri.computed == 0
    assert tracks_of(veri.store) == expected_tracks(VERI)


@pytest.mark.parametrize("seam", ["write_plan", "write_part 1", "write_part 2", "write_complete"])
def test_killed_while_rewriting(veri: Bench, monkeypatch: pytest.MonkeyPatch, seam: str):
    veri.run()
    features = veri.features()
    write_tracks(veri.data, ACROSS)
    with monkeypatch.context() as patch:
        die_at(patch, seam)
        with pytest.raises(Killed):
            veri.run()
    if seam != "write_plan":
        assert not veri.store.is_complete()
    veri.run()
    assert veri.computed == 0
    assert tracks_of(veri.store) == expected_tracks(ACROSS)
    found = veri.features()
    assert found.keys() == features.keys()
    assert all(np.array_equal(found[image_id], features[image_id]) for image_id in features)
    assert not veri.store.replaced_plan_path.exists()


def test_list_of_tracks_that_comes_later(veri: Bench):
    (veri.data / "test_track.txt").unlink()
    veri.run()
    write_tracks(veri.data, VERI)
    veri.run()
    assert veri.computed == 0
    assert tracks_of(veri.store) == expected_tracks(VERI)


def test_labels_by_another_pattern_are_rewritten_with_the_skipped(bench: Bench):
    bench.image("0002_c001/1.png").write_bytes(b"no image")
    bench.run()
    features = bench.features()
    pattern = r"^0*(?P<vehicle>\d+)_(?P<camera>c\d+)"
    bench.reader = lambda folders, split: read_tracks(replace(folders, label_pattern=pattern), split)
    summary = bench.run()
    assert bench.computed == 0
    assert set(bench.store.read().vehicle_id) == set("123456")
    assert [entry.image_id for entry in summary.skipped] == ["0002_c001/1.png"]
    assert all(np.array_equal(row, features[image_id]) for image_id, row in bench.features().items())


# -- bad images -------------------------------------------------------------------------------------------


def skipped_rows(store: FeatureStore) -> list[list[str]]:
    with store.skipped_path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


def test_bad_images_are_skipped_with_a_reason(bench: Bench):
    good = bench.image("0004_c001/0.png").read_bytes()
    bench.image("0004_c001/0.png").write_bytes(good[: len(good) // 2])
    bench.image("0002_c001/1.png").write_bytes(b"this is no image")
    bench.image("0003_c002/0.png").write_bytes(b"")
    summary = bench.run()
    assert (summary.images, summary.computed, summary.tracks) == (IMAGES - 3, IMAGES - 3, len(TRACKS) - 1)
    assert summary.empty_tracks == ("0003_c002",)
    rows = {image_id: (track, reason) for image_id, track, reason in skipped_rows(bench.store)}
    assert set(rows) == {"0004_c001/0.png", "0002_c001/1.png", "0003_c002/0.png"}
    assert rows["0002_c001/1.png"][0] == "0002_c001"
    assert "not an image" in rows["0002_c001/1.png"][1]
    assert "truncated" in rows["0004_c001/0.png"][1]
    assert "empty" in rows["0003_c002/0.png"][1]
    assert bench.store.read_complete()["skipped"] == 3
    assert not set(rows) & set(bench.features())
    again = bench.run()
    assert (bench.computed, again.computed) == (0, 0)
    assert (again.skipped, again.empty_tracks) == (summary.skipped, summary.empty_tracks)


def test_mended_image_has_only_its_part_made_again(bench: Bench):
    path = bench.image("0003_c002/0.png")
    good = path.read_bytes()
    path.write_bytes(b"")
    bench.run()
    path.write_bytes(good)
    summary = bench.run()
    assert (bench.computed, summary.images, summary.skipped) == (5, IMAGES, ())
    assert skipped_rows(bench.store) == []


def test_image_that_vanished_and_came_back(veri: Bench):
    name = "0002_c003_00000010_0.jpg"
    (veri.data / "name_test.txt").write_text("\n".join(expected_tracks(VERI)))
    content = (veri.data / "image_test" / name).read_bytes()
    (veri.data / "image_test" / name).unlink()
    summary = veri.run()
    assert [(entry.image_id, entry.reason) for entry in summary.skipped] == [(name, "the file is not there")]
    (veri.data / "image_test" / name).write_bytes(content)
    assert veri.run().skipped == ()
    assert veri.computed == 3


def test_permission_that_came_later(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    # Neither size nor time tell that a file has become readable; and root may read everything, so it is played.
    path = bench.image("0003_c002/0.png")

    def refuse(asked: Path, **options: int) -> Image.Image:
        if asked == path:
            raise BadImageError("no permission to read the file")
        return decode_rgb(asked, **options)

    hash_file = planning._hash_file
    with monkeypatch.context() as patch:
        patch.setattr(planning, "_hash_file", lambda asked: "" if asked == path else hash_file(asked))
        patch.setattr(loading, "decode_rgb", refuse)
        assert len(bench.run().skipped) == 1
        bench.run()
        assert bench.computed == 0
    assert bench.run().skipped == ()
    assert "0003_c002/0.png" in bench.features()


def test_limit_of_pixels_that_is_raised_later(bench: Bench):
    draw(bench.image("0003_c002/0.png"), seed=4, size=(300, 200))
    (entry,) = bench.run(max_pixels=50_000).skipped
    assert "300 x 200" in entry.reason
    bench.run(max_pixels=50_000)
    assert bench.computed == 0
    summary = bench.run(max_pixels=60_000)
    assert (bench.computed, summary.skipped) == (5, ())  # its part alone


def test_strict_stops_at_the_first_and_keeps_finished_parts(bench: Bench):
    undisturbed = FeatureStore(bench.store.path.with_name("undisturbed"))
    bench.run(undisturbed)
    bad = bench.image("0005_c003/1.png")
    good = bad.read_bytes()
    bad.write_bytes(b"no image")
    with pytest.raises(DataError) as caught:
        bench.run(strict=True)
    assert str(bad) in caught.value.message
    assert caught.value.file == str(bad)
    assert "--strict" in (caught.value.hint or "")
    assert not bench.store.is_complete()
    kept = bench.parts()
    assert set(kept) == {"part-00000.arrow", "part-00001.arrow"}
    bad.write_bytes(good)
    bench.run(strict=True)
    assert bench.computed == 4
    assert bench.parts() == bench.parts(undisturbed)


def test_strict_stops_at_what_was_skipped_before(bench: Bench):
    bad = bench.image("0005_c003/1.png")
    good = bad.read_bytes()
    bad.write_bytes(b"no image")
    bench.run()
    before = bench.files()
    with pytest.raises(DataError, match="not an image"):
        bench.run(strict=True)
    assert (bench.computed, bench.files()) == (0, before)
    bad.write_bytes(good)
    assert bench.run(strict=True).skipped == ()


def test_strict_does_not_mind_what_is_gone(bench: Bench):
    bad = bench.image("0005_c003/1.png")
    bad.write_bytes(b"no image")
    bench.run()
    bad.unlink()
    assert bench.run(strict=True).skipped == ()
    assert bench.computed == 0


def test_a_part_of_bad_images_only(bench: Bench):
    for number in range(TRACKS["0004_c001"]):
        bench.image(f"0004_c001/{number}.png").write_bytes(b"")
    bench.image("0003_c002/0.png").write_bytes(b"")
    summary = bench.run()
    assert summary.empty_tracks == ("0003_c002", "0004_c001")
    assert len(bench.features()) == IMAGES - 5
    bench.run()
    assert bench.computed == 0


def test_all_images_bad(bench: Bench):
    for path in bench.data.rglob("*.png"):
        path.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(DataError) as caught:
            bench.run()
        assert f"none of the {IMAGES} images" in caught.value.message
        assert "the file is empty" in caught.value.message
        assert not bench.store.is_complete()


# -- memory, workers, bad networks --------------------------------------------------------------------------


class SmallMemory:
    """Plays a device that holds only so many images."""

    def __init__(self, extractor: CountingExtractor, *, holds: int, error: Exception) -> None:
        self._latent = extractor.network.latent
        self._holds = holds
        self._error = error
        self.tried: list[int] = []

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.tried.append(len(images))
        if len(images) > self._holds:
            raise self._error
        return self._latent(images)


OUT_OF_MEMORY = {
    "cuda": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 5.00 GB)"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried"),
}


@pytest.mark.parametrize("kind", list(OUT_OF_MEMORY))
def test_out_of_memory_halves_the_batches(kind: str):
    pixels = torch.randint(0, 256, (21, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    expected = torch.cat([CountingExtractor().compute(piece) for piece in pixels.split(8)])
    extractor = CountingExtractor(batch_size=8)
    memory = SmallMemory(extractor, holds=2, error=OUT_OF_MEMORY[kind])
    extractor.network.latent = memory
    found = torch.cat([extractor.compute(piece) for piece in pixels.split(8)])
    torch.testing.assert_close(found, expected, rtol=BATCH_TOLERANCE, atol=BATCH_TOLERANCE)
    assert extractor.batch_size == 2
    # Two failures lead from 8 to 2; from the next batch on nobody tries more again.
    first = memory.tried[: memory.tried.index(2) + 2]
    assert first == [8, 4, 2, 2]
    assert sum(size for size in memory.tried if size <= 2) == 21
    assert max(memory.tried[-8:]) == 2


def test_out_of_memory_in_the_middle_of_a_run(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    undisturbed = FeatureStore(bench.store.path.with_name("undisturbed"))
    bench.run(undisturbed)

    class Poor(CountingExtractor):
        def __init__(self) -> None:
            super().__init__()
            self.network.latent = SmallMemory(self, holds=1, error=OUT_OF_MEMORY["cuda"])

    monkeypatch.setitem(globals(), "CountingExtractor", Poor)
    bench.run()
    expected, found = bench.features(undisturbed), bench.features()
    assert found.keys() == expected.keys()
    for image_id, row in expected.items():
        np.testing.assert_allclose(found[image_id], row, rtol=BATCH_TOLERANCE, atol=BATCH_TOLERANCE)


def test_too_little_memory_for_one_image():
    extractor = CountingExtractor()
    extractor.network.latent = SmallMemory(extractor, holds=0, error=OUT_OF_MEMORY["cuda"])
    with pytest.raises(DeviceError, match="single image"):
        extractor.compute(torch.zeros(4, 3, 32, 32, dtype=torch.uint8))


def test_other_errors_of_the_network_are_not_hidden():
    extractor = CountingExtractor()
    extractor.network.latent = SmallMemory(extractor, holds=0, error=RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        extractor.compute(torch.zeros(4, 3, 32, 32, dtype=torch.uint8))


def test_lrs_that_are_not_finite_are_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    extractor = CountingExtractor()
    extractor.network.latent = lambda images: torch.full((len(images), 10), float("inf"))
    with pytest.raises(WeightsError, match="not finite"):
        extractor.compute(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))


@pytest.mark.parametrize("size", [1, 3, 8, 50])
def test_batch_size_changes_nothing_beyond_rounding(size: int):
    pixels = torch.randint(0, 256, (13, 3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    extractor = CountingExtractor(batch_size=size)
    found = torch.cat([extractor.compute(piece) for piece in pixels.split(size)])
    expected = torch.cat([extractor.compute(image[None]) for image in pixels])
    torch.testing.assert_close(found, expected, rtol=BATCH_TOLERANCE, atol=BATCH_TOLERANCE)


def test_workers_make_the_same_bytes(bench: Bench):
    bench.image("0002_c001/1.png").write_bytes(b"no image")
    bench.run()
    other = FeatureStore(bench.store.path.with_name("workers"))
    bench.run(other, workers=2)
    assert bench.files(other) == bench.files()


@pytest.mark.parametrize("workers", [0, 1])
def test_effort_says_where_the_time_went(bench: Bench, monkeypatch: pytest.MonkeyPatch, workers: int):
    # Clocks that count calls: what is timed then shows in whole numbers.
    ticks = itertools.count()
    monkeypatch.setattr(effort_module, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    bench.image("0002_c001/1.png").write_bytes(b"no image")
    effort = bench.run(workers=workers).effort
    batches, parts = len(bench.extractor.batches), 3
    # Of each batch its way to the device, with the forward pass, and its way back are timed.
    assert (effort.compute, effort.write) == (2 * batches, parts)
    assert effort.wait == batches
    assert effort.workers == workers
    assert 0 < effort.decode < 60
    assert effort.main == effort.wait + effort.compute + effort.write
    again = bench.run(workers=workers).effort
    assert (again.wait, again.compute, again.decode, again.write) == (0, 0, 0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers inherit nothing")
def test_workers_die_with_their_parent(tmp_path: Path):
    # One that lived on would hold the run's lock, and the same command typed again would be refused.
    asked = tmp_path / "asked"
    child = os.fork()
    if child == 0:
        follow_parent(0)
        found = ctypes.c_int()
        ctypes.CDLL(None).prctl(2, ctypes.byref(found))  # PR_GET_PDEATHSIG
        asked.write_text(f"{found.value} {signal.getsignal(signal.SIGINT)!r}")
        os._exit(0)
    os.waitpid(child, 0)
    assert asked.read_text() == f"{int(signal.SIGKILL)} {signal.SIG_IGN!r}"


def test_dead_worker_is_told_in_words(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loading, "decode_rgb", lambda *_args, **_options: os._exit(9))
    with pytest.raises(VreidError, match="decodes images died") as caught:
        bench.run(workers=1)
    assert "--workers 0" in (caught.value.hint or "")


def test_error_inside_a_living_worker_is_not_taken_for_its_death(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    def fail(*_args: object, **_options: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(loading, "decode_rgb", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        bench.run(workers=1)


def test_loader_keeps_the_order_and_separates_the_bad(bench: Bench):
    bench.image("0002_c001/1.png").write_bytes(b"no image")
    records = read_tracks(DataFolders(bench.data), "gallery").records
    dataset = ImageDataset(records, SMALL, max_pixels=10**6)
    batches = list(load_batches(dataset, [[0, 1, 2], [3, 4], [5]], workers=0, pin_memory=False))
    assert [batch.indices for batch in batches] == [[0, 1, 2], [4], [5]]
    assert [index for batch in batches for index, _ in batch.bad] == [3]
    expected = SMALL.crop_uint8(decode_rgb(records[4].path, max_pixels=10**6))
    assert torch.equal(batches[1].pixels[0], expected)
    (only_bad,) = load_batches(dataset, [[3]], workers=0, pin_memory=False)
    assert (only_bad.indices, len(only_bad.bad)) == ([], 1)


def test_batches_are_pinned_as_torch_asks_for_it(monkeypatch: pytest.MonkeyPatch):
    pinned: list[int] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: (pinned.append(len(tensor)), tensor)[1])
    batch = Batch([3, 4], torch.zeros(2, 3, 8, 8, dtype=torch.uint8), [(5, "empty")], 0.5)
    found = pin_memory(batch)
    assert pinned == [2]
    assert (found.indices, found.bad, found.decode_seconds) == (batch.indices, batch.bad, batch.decode_seconds)


def test_choices_left_to_vreid():
    assert choose_workers(3, images=1, on_cpu=True) == 3
    assert choose_workers("auto", images=10, on_cpu=False) == 0
    extractor = CountingExtractor()
    loaded = LoadedNetwork(extractor.network, SMALL, "random", "")
    assert choose_batch_size(5, loaded, device=CPU) == 5
    assert choose_batch_size("auto", loaded, device=CPU) == 8


@pytest.mark.parametrize(
    ("cores", "on_cpu", "training", "workers"),
    [
        (2, True, False, 0),  # between batches: the network's threads wait for each other
        (2, True, True, 1),
        (4, True, False, 1),
        (32, True, False, 4),
        (2, False, False, 2),
        (64, False, False, 16),
    ],
)
def test_workers_leave_the_cores_to_the_network(
    monkeypatch: pytest.MonkeyPatch, cores: int, on_cpu: bool, training: bool, workers: int
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cores)))
    assert choose_workers("auto", images=10_000, on_cpu=on_cpu, training=training) == workers


@dataclass
class PlayedMemory:
    """Plays the memory of a CUDA device, in bytes."""

    free: int
    held: int = 0
    used: int = 0
    peak: int = 0

    def play(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (self.free, 10**12))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: self.held)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _device: self.used)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _device: self.peak)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _device: None)


@pytest.mark.parametrize(
    ("free", "held", "batch"),
    [
        (10**9, 0, 32),  # 60 images of 10 MB in six tenths of it
        (10**9, 100_000_000, 64),  # torch holds 80 MB more that it does not use
        (10**6, 0, 8),  # less than that is worth no batch: out of memory then halves it
        (10**11, 0, 256),
    ],
)
def test_a_gpu_batch_fits_what_a_small_one_took(monkeypatch: pytest.MonkeyPatch, free: int, held: int, batch: int):
    extractor = CountingExtractor(batch_size=8)
    PlayedMemory(free, held or 20_000_000, used=20_000_000, peak=100_000_000).play(monkeypatch)
    assert measure_batch_size(extractor) == batch
    assert extractor.batches == [8]


def test_a_gpu_too_small_for_a_small_batch(monkeypatch: pytest.MonkeyPatch):
    extractor = CountingExtractor(batch_size=8)
    extractor.network.latent = SmallMemory(extractor, holds=2, error=OUT_OF_MEMORY["cuda"])
    PlayedMemory(free=10**11).play(monkeypatch)
    assert measure_batch_size(extractor) == 2


def test_a_gpu_batch_by_the_table(monkeypatch: pytest.MonkeyPatch):
    PlayedMemory(free=2**30).play(monkeypatch)
    network = build_random(BACKBONES["resnet18"], seed=0)
    halved = Transform(resize=128, crop=112)
    for transform, batch in ((BACKBONES["resnet18"].transform, 16), (halved, 64)):
        loaded = LoadedNetwork(network, transform, "random", "")
        assert choose_batch_size("auto", loaded, device=torch.device("cuda")) == batch


# -- batches on their way -----------------------------------------------------------------------------------


class AheadExtractor(CountingExtractor):
    """Plays a device that works on while the next batches are prepared."""

    def __init__(self, ahead: int) -> None:
        super().__init__()
        self._far = ahead
        self.events: list[tuple[str, int]] = []

    @property
    def ahead(self) -> int:
        return self._far

    def submit(self, pixels: torch.Tensor) -> Pending:
        number = len(self.batches)
        pending = super().submit(pixels)
        self.events.append(("submitted", number))

        def fetch() -> torch.Tensor:
            self.events.append(("fetched", number))
            return pending()

        return fetch


@pytest.mark.parametrize("ahead", [1, 2, 9])
def test_batches_are_submitted_ahead_and_kept_apart(bench: Bench, monkeypatch: pytest.MonkeyPatch, ahead: int):
    bench.image("0002_c001/1.png").write_bytes(b"no image")
    bench.run()
    other = FeatureStore(bench.store.path.with_name("ahead"))
    monkeypatch.setitem(globals(), "CountingExtractor", lambda: AheadExtractor(ahead))
    bench.run(other)
    assert bench.files(other) == bench.files()
    events = bench.extractor.events
    count = len(events) // 2
    assert [number for kind, number in events if kind == "fetched"] == list(range(count))
    for number in range(count):
        # When a batch is waited for, so many more are on their way.
        before = events[: events.index(("fetched", number))]
        assert sum(kind == "submitted" for kind, _ in before) == min(count, number + 1 + ahead)


# -- the whole command --------------------------------------------------------------------------------------


def run_command(bench: Bench, run_dir: Path, **extra: dict[str, object]) -> ExtractReport:
    values: dict[str, dict[str, object]] = {
        "run": {"run_dir": str(run_dir)},
        "data": {"dataset": "tracks", "data_dir": str(bench.data), "splits": ["gallery"]},
        "model": {"arch": "resnet18", "weights": "random"},
        "runtime": {"device": "cpu"},
    }
    for section, table in extra.items():
        values[section] = {**values.get(section, {}), **table}
    return extract(resolve_session([Layer("test", values)], choose_run=choose_run))


@pytest.fixture
def few(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Two tracks only, for the network of real size; what the command leaves in the current folder goes away."""
    monkeypatch.chdir(bench.data.parent)
    # A kept export of the developer's own must not decide what computes.
    monkeypatch.setenv("VREID_CACHE_DIR", str(bench.data.parent / "cache"))
    for track in list(TRACKS)[2:]:
        shutil.rmtree(bench.image(track))
    return bench


def test_command_goes_on_and_names_what_made_the_run(few: Bench, tmp_path: Path):
    report = run_command(few, tmp_path / "run")
    assert report.splits is not None
    assert report.splits["gallery"].computed == 5
    run = RunDirectory(tmp_path / "run")
    info = run.read_info()
    assert (info["dataset"], info["architecture"], info["weights"]) == ("tracks", "resnet18", "random")
    facts = run.features("gallery").read_facts(0)
    assert facts is not None
    assert set(facts.identity) == {"architecture", "weights_digest", "transform", "precision", "backend"}
    assert {name: info[name] for name in facts.identity} == dict(facts.identity)
    assert {"batch_size", "threads", "torch", "vreid"} <= set(facts.recorded)
    before = few.files(run.features("gallery"))
    moved = few.data.rename(few.data.with_name("moved"))
    few.data = moved
    report = run_command(few, tmp_path / "run")
    assert report.splits is not None
    assert report.splits["gallery"].computed == 0
    after = few.files(run.features("gallery"))
    assert [name for name in before if after[name] != before[name]] == ["complete.json"]
    assert run.read_info()["data_dir"] == str(moved)
    assert run.features("gallery").read().image_root == str((moved / "gallery").resolve())


def test_command_refuses_another_identity_until_restart(few: Bench, tmp_path: Path):
    run_command(few, tmp_path / "run")
    store = RunDirectory(tmp_path / "run").features("gallery")
    before = few.files(store)
    with pytest.raises(StoreError, match="weights_digest") as caught:
        run_command(few, tmp_path / "run", run={"run_dir": str(tmp_path / "run"), "seed": 5})
    assert "--restart" in (caught.value.hint or "")
    assert few.files(store) == before
    report = run_command(few, tmp_path / "run", run={"seed": 5}, extract={"restart": True})
    assert report.splits is not None
    assert report.splits["gallery"].computed == 5
    assert few.parts(store) != {name: before[name] for name in few.parts(store)}


def test_a_restart_that_is_refused_costs_nothing(few: Bench, tmp_path: Path):
    run_command(few, tmp_path / "run")
    shutil.copytree(few.data / "gallery", few.data / "query")
    run_command(few, tmp_path / "run", data={"splits": ["query"]})
    store = RunDirectory(tmp_path / "run").features("gallery")
    before = few.files(store)
    # The query split would keep the old network's features beside the gallery's new ones.
    with pytest.raises(StoreError, match="query holds features of another weights_digest"):
        run_command(few, tmp_path / "run", run={"seed": 5}, extract={"restart": True})
    assert few.files(store) == before


def test_command_refuses_a_run_that_is_in_use(few: Bench, tmp_path: Path):
    with (
        RunDirectory(tmp_path / "run").locked(),
        pytest.raises(StoreError, match="another vreid is working"),
    ):
        run_command(few, tmp_path / "run")


def test_command_reports_what_was_skipped(few: Bench, tmp_path: Path):
    for number in range(TRACKS["0001_c001"]):
        few.image(f"0001_c001/{number}.png").write_bytes(b"")
    report = run_command(few, tmp_path / "run")
    assert [entry["image_id"] for entry in report.skipped] == ["0001_c001/0.png", "0001_c001/1.png"]
    assert report.skipped[0]["split"] == "gallery"
    assert any("0001_c001" in warning for warning in report.warnings)


def test_same_extraction_by_itself_is_the_same_to_the_bit(few: Bench, tmp_path: Path):
    run_command(few, tmp_path / "one")
    run_command(few, tmp_path / "two")
    one, two = (few.parts(RunDirectory(tmp_path / name).features("gallery")) for name in ("one", "two"))
    assert one == two
