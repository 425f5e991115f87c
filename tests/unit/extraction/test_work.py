"""Changed labels: parts are rewritten from the rows that the store holds, and nothing is computed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from extraction_bench import VERI, Bench, expected_tracks, tracks_of, write_tracks
from kills import Killed, die_at

from vreid_cli.data.tracks import read_tracks


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
    assert (
        list(veri.store.read_part(0).batch.column("image_id").to_pylist())[-1] == moved
    )  # rows of a part stay in gallery order


#: An image of one part is put into a track of another: the first part grows, the second shrinks.
ACROSS = {
    **VERI,
    "0001_c001_t0002": ["0001_c001_00000500_0.jpg", "0002_c003_00000030_0.jpg"],
    "0002_c003_t0001": ["0002_c003_00000010_0.jpg"],
}


def assert_only_moved(veri: Bench, features: dict[str, np.ndarray]) -> None:
    """Nothing was computed; the tracks are those of ACROSS, with the features that were there."""
    assert veri.computed == 0
    assert tracks_of(veri.store) == expected_tracks(ACROSS)
    found = veri.features()
    assert found.keys() == features.keys()
    assert all(np.array_equal(found[image_id], features[image_id]) for image_id in features)


def test_image_that_changes_its_part_is_not_computed(veri: Bench):
    veri.run()
    features = veri.features()
    assert len(veri.store.part_numbers()) == 2
    write_tracks(veri.data, ACROSS)
    veri.run()
    assert_only_moved(veri, features)
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
    assert_only_moved(veri, features)
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
