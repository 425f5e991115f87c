"""The plan: which part an image belongs to, and when its file is read."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from extraction_bench import IMAGES, TRACKS, Bench, draw

from vreid_cli.extraction.planning import as_utf8
from vreid_cli.store.features import FeatureStore


def test_parts_hold_whole_tracks(bench: Bench):
    bench.run()
    sizes = []
    for number in bench.store.part_numbers():
        image_ids = bench.store.read_part(number).batch.column("image_id").to_pylist()
        sizes.append(len(image_ids))
        tracks = {image_id.split("/")[0] for image_id in image_ids}
        assert len(image_ids) == sum(TRACKS[track] for track in tracks)
    assert sizes == [5, 5, 4]
    assert bench.store.read_complete()["parts"] == 3


def test_passages_before_one_camera_stay_in_one_part(tmp_path: Path):
    for passage in range(4):
        for number in range(3):
            draw(tmp_path / "data" / "gallery" / f"0001_c001_t{passage}" / f"{number}.png", passage * 3 + number)
    draw(tmp_path / "data" / "gallery" / "0001_c002_t9" / "0.png", 99)
    bench = Bench(tmp_path / "data", FeatureStore(tmp_path / "store"))
    bench.run()
    assert [len(bench.store.read_part(number)) for number in bench.store.part_numbers()] == [12, 1]


def test_plan_says_what_the_files_look_like(bench: Bench):
    bench.run()
    plan = bench.store.read_plan()
    assert plan is not None
    rows = {row["image_id"]: row for row in plan.table.to_pylist()}
    assert set(rows) == set(bench.features())
    for image_id, row in rows.items():
        stat = bench.image(image_id).stat()
        assert (row["size"], row["mtime"]) == (stat.st_size, stat.st_mtime_ns)
        assert row["sha256"] == hashlib.sha256(bench.image(image_id).read_bytes()).hexdigest()
        assert row["track_id"] == image_id.split("/")[0]
        assert image_id in bench.store.read_part(row["part"]).batch.column("image_id").to_pylist()


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
    assert bench.changed_parts(before) == ["part-00001.arrow"]
    changed = [image_id for image_id, row in bench.features().items() if not np.array_equal(row, features[image_id])]
    assert changed == ["0004_c001/2.png"]


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
    assert bench.changed_parts(before) == ["part-00000.arrow"]
    assert "0001_c001/7.png" in bench.features()


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


@pytest.mark.parametrize("most", [2**31 - 1, 400])
def test_long_text_is_cut_into_chunks(most: int):
    values = [None if number == 17 else f"{number}é" * (number % 5) for number in range(100)]
    column = as_utf8(pa.array(values, pa.large_utf8()), most=most)
    assert (column.type, column.to_pylist()) == (pa.utf8(), values)
    assert (column.num_chunks > 1) == (most == 400)
    column.validate(full=True)
