"""Bad images: skipped with a reason, tried again once they change, and with ``strict`` refused."""

from __future__ import annotations

import builtins
import csv
import io
import os
from typing import Any

import numpy as np
import pytest
from extraction_bench import IMAGES, TRACKS, VERI, Bench, draw, expected_tracks, lr_of

from vreid_cli.errors import DataError
from vreid_cli.extraction import split
from vreid_cli.store.features import FeatureStore
from vreid_cli.store.plan import Plan


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
    images, tracks = summary.warnings
    assert "3 images in" in images
    assert tracks.endswith("without a readable image, left out: 0003_c002")
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
    assert (again.skipped, again.warnings) == (summary.skipped, summary.warnings)


def test_images_that_change_between_hashing_and_decoding_are_left_out(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    other, cut, touched = (bench.image(name) for name in ("0001_c001/0.png", "0004_c001/0.png", "0005_c003/0.png"))
    plan = split.make_plan

    def plan_and_change(*given: Any, **more: Any) -> Plan:
        made = plan(*given, **more)
        draw(other, 99)
        cut.write_bytes(cut.read_bytes()[:500])
        os.utime(touched, ns=(1, 1))  # the same image: a copy, say, on another machine
        return made

    with monkeypatch.context() as patch:
        patch.setattr(split, "make_plan", plan_and_change)
        reasons = {one.image_id: one.reason for one in bench.run().skipped}
    assert set(reasons) == {"0001_c001/0.png", "0004_c001/0.png"}
    assert reasons["0001_c001/0.png"] == "the file changed while it was read"
    assert set(bench.features()) == {*bench.features(bench.undisturbed())} - {"0001_c001/0.png"}
    # The next run looks at the new file.
    assert [one.image_id for one in bench.run().skipped] == ["0004_c001/0.png"]
    assert np.allclose(bench.features()["0001_c001/0.png"], lr_of(other), atol=1e-6)
    bench.store.clear()
    draw(other, 98)
    monkeypatch.setattr(split, "make_plan", plan_and_change)
    with pytest.raises(DataError, match="the file changed while it was read"):
        bench.run(strict=True)


def test_a_file_larger_than_any_image_is_not_even_hashed(bench: Bench, hashed: list[str]):
    path = bench.image("0003_c002/0.png")
    os.truncate(path, 1 << 40)
    (skipped,) = bench.run().skipped
    assert skipped.reason == "its 1,099,511,627,776 bytes are more than any image has"
    assert len(hashed) == IMAGES - 1


def test_repaired_image_has_only_its_part_made_again(bench: Bench):
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
    real = io.open

    def refuse(file: Any, *arguments: Any, **options: Any) -> Any:
        if str(file) == str(path):
            raise PermissionError(13, "Permission denied", str(file))
        return real(file, *arguments, **options)

    with monkeypatch.context() as patch:
        for module in (io, builtins):
            patch.setattr(module, "open", refuse)
        assert [entry.reason for entry in bench.run().skipped] == ["no permission to read the file"]
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
    undisturbed = bench.undisturbed()
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


def test_strict_stops_within_a_part(bench: Bench):
    bench.part_images = 100
    bench.image("0002_c001/2.png").write_bytes(b"no image")  # of the second batch of four
    with pytest.raises(DataError):
        bench.run(strict=True)
    assert bench.computed == 4


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
    assert "left out: 0003_c002, 0004_c001" in summary.warnings[1]
    assert len(bench.features()) == IMAGES - 5
    bench.run()
    assert bench.computed == 0


def test_all_images_bad(bench: Bench):
    for path in bench.data.rglob("*.png"):
        path.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(DataError) as caught:
            bench.run()
        assert caught.value.message.startswith(f"of {IMAGES} images in ")
        assert "the file is empty" in caught.value.message
        assert not bench.store.is_complete()
