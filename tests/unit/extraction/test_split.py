"""One split into its store: what is computed, what is kept byte for byte, and what a kill leaves behind."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from extraction_bench import BATCH_TOLERANCE, IMAGES, TRACKS, Bench, draw, lr_of
from kills import Killed, die_at

from vreid_cli.data.records import Records
from vreid_cli.errors import DataError, StoreError
from vreid_cli.extraction.options import ExtractionOptions
from vreid_cli.extraction.parts import first_parts
from vreid_cli.extraction.split import commit_parts


def test_features_are_those_of_each_image_alone(bench: Bench):
    summary = bench.run()
    assert (summary.images, summary.computed, summary.tracks) == (IMAGES, IMAGES, len(TRACKS))
    assert (summary.skipped, summary.warnings) == ((), ())
    features = bench.features()
    assert len(features) == IMAGES
    assert len({row.tobytes() for row in features.values()}) == IMAGES
    for image_id, row in features.items():
        np.testing.assert_allclose(row, lr_of(bench.image(image_id)), rtol=1e-5, atol=BATCH_TOLERANCE)


def test_batches_never_cross_parts(bench: Bench):
    bench.run()
    assert bench.inference.batches == [4, 1, 4, 1, 4]


def test_the_network_gets_ready_only_where_something_is_to_be_computed(bench: Bench):
    bench.run()
    assert bench.inference.events[0] == "prepare"
    bench.run()
    assert bench.inference.events == []


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
    undisturbed = bench.undisturbed()
    with monkeypatch.context() as patch:
        die_at(patch, seam)
        with pytest.raises(Killed):
            bench.run()
    assert not bench.store.is_complete()
    bench.run()
    assert bench.computed == left
    assert bench.files() == bench.files(undisturbed)


def test_killed_while_writing_a_part(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    undisturbed = bench.undisturbed()

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


def test_damaged_mark_of_completeness_is_written_again(bench: Bench):
    bench.run()
    before = bench.files()
    bench.store.complete_path.write_bytes(b"{")
    bench.run()
    assert bench.computed == 0
    assert bench.files() == before


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
        bench.features()["0004_c001/2.png"], lr_of(bench.image("0004_c001/2.png")), rtol=1e-5, atol=BATCH_TOLERANCE
    )


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
    assert bench.changed_parts(before) == ["part-00000.arrow"]


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


def test_a_machine_that_does_not_see_the_folders_says_so(bench: Bench, tmp_path: Path):
    parts = first_parts(bench.listing().records, part_images=4)
    how = {"inference": bench.inference, "options": ExtractionOptions(workers=0)}
    with pytest.raises(StoreError, match=f"does not see {bench.store.path}") as caught:
        next(commit_parts(parts, store=bench.store, **how))
    assert "under the same paths" in str(caught.value.hint)
    bench.run()
    shutil.move(bench.data / "gallery", tmp_path / "elsewhere")
    with pytest.raises(DataError, match=f"does not see {bench.data / 'gallery'}"):
        next(commit_parts(parts, store=bench.store, **how))


def test_a_part_that_is_sent_away_takes_its_own_rows_along_and_is_found_from_any_folder(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    records = bench.listing().records
    monkeypatch.chdir(bench.data.parent)
    near = Records(records._columns, Path(bench.data.name, "gallery"))
    sent = pickle.dumps(near.select(np.array([3, 5])))
    monkeypatch.chdir(tmp_path)
    found = pickle.loads(sent)
    assert list(found) == [records[3], records[5]]
    assert len(found.labels("track_id").dictionary) == 2
