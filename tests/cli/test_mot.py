"""``--dataset mot``: from videos and trackers' files to identities, on the command line and from Python."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import Vreid
from videos import damage, draw_scene, plain_frames, write_lines

import vreid_cli as vreid_library
from vreid_cli.store.features import FeatureStore

EXTRACT = ("extract", "--dataset", "mot", "--data-dir", "scene", "--arch", "resnet18")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_scene(tmp_path_factory.mktemp("videos"))


@pytest.fixture
def scene(vreid: Vreid, drawn: Path, tmp_path: Path) -> Path:
    shutil.copytree(drawn, tmp_path / "scene")
    return Path("scene")


def test_from_videos_to_identities(vreid: Vreid, scene: Path, weights: Path) -> None:
    vreid(*EXTRACT, "--weights", weights, "--save-crops", "crops")
    run = Path("runs/mot-resnet18-tiny")
    # The crops that the network saw are those of plain PyAV.
    for camera in ("c1", "c2"):
        plain = plain_frames(scene / camera / "vdo.mp4")
        for track in ("1", "2"):
            paths = sorted(Path(f"crops/{camera}_{track}").iterdir())
            assert len(paths) == 16
            for path in paths:
                k = int(path.stem)
                top = 8 if (camera, track) in (("c1", "1"), ("c2", "2")) else 46
                wanted = np.asarray(plain[k - 1])[top : top + 24, 3 + 3 * k : min(33 + 3 * k, 120)]
                np.testing.assert_array_equal(np.asarray(Image.open(path)), wanted)
    # With worker processes they are the same, and those of the library.
    before = FeatureStore(run / "features/gallery").read()
    vreid(*EXTRACT, "--weights", weights, "--restart", "--workers", "2", "--run-dir", "again")
    after = FeatureStore(Path("again/features/gallery")).read()
    rows = np.arange(len(before))
    np.testing.assert_array_equal(before.matrix.take(rows), after.matrix.take(rows))
    listing = vreid_library.read_images(scene, dataset="mot")
    features = vreid_library.extract(listing, vreid_library.load_network(weights, arch="resnet18"))
    np.testing.assert_allclose(features.matrix.take(rows), before.matrix.take(rows), rtol=1e-5, atol=1e-6)
    report = vreid.json("associate", "--run-dir", run, "--threshold", "0.001")
    found = [{track["track"] for track in one["tracks"]} for one in report["vehicles"]]
    assert sorted(map(sorted, found)) == [["c1_1", "c2_2"], ["c1_2", "c2_1"]]
    # The trackers' files come again, with the same id for a vehicle before both cameras.
    again = {camera: Path(f"{run}/identities/meanMCD50/{camera}/sort.txt") for camera in ("c1", "c2")}
    for camera, path in again.items():
        own, old = (
            [line.split(",") for line in text.read_text().splitlines()]
            for text in (path, scene / camera / "mtsc/sort.txt")
        )
        assert [line[0:1] + line[2:] for line in own] == [line[0:1] + line[2:] for line in old]
        red = "1" if camera == "c1" else "2"
        assert {new[1] for new, was in zip(own, old, strict=True) if was[1] == red} == {"1"}
    scores = vreid.json("evaluate", "--run-dir", run)["identities"][0]
    assert (scores["IDF1"], scores["boxes"]["IDF1"], scores["boxes"]["true"]) == (1.0, 1.0, 4 * 24)
    # Each track is a query among all others.
    vreid("rank", "--run-dir", run, "--cameras", "other")
    assert vreid.json("evaluate", "--run-dir", run)["results"][0]["mAP"] == 1.0
    vreid("show", "--run-dir", run, "--output", "sheet.png")
    vreid("export", "features", "--run-dir", run)


def test_an_extraction_goes_on_and_thins_otherwise(vreid: Vreid, scene: Path, weights: Path) -> None:
    told = (*EXTRACT, "--weights", weights, "--run-dir", "run")
    report = vreid.json(*told, "--per-track", "4")["splits"]["gallery"]
    assert (report["images"], report["computed"], report["tracks"]) == (16, 16, 4)
    # The same command, and one that leaves out what the run knows, compute nothing.
    for again in (told, ("extract", "--run-dir", "run")):
        report = vreid.json(*again, "--per-track", "4")
        assert report["splits"]["gallery"]["computed"] == 0
    report = vreid.json("extract", "--run-dir", "run")
    assert (report["splits"]["gallery"]["computed"], report["splits"]["gallery"]["images"]) == (0, 16)
    report = vreid.json(*told, "--per-track", "5")
    assert report["splits"]["gallery"]["images"] == 20


def test_travel_times_and_clocks(vreid: Vreid, scene: Path, weights: Path) -> None:
    vreid(*EXTRACT, "--weights", weights, "--run-dir", "run", "--per-track", "2")
    told = ("associate", "--run-dir", "run", "--threshold", "0.001", "--force")
    # At ten frames a second, both cameras see all from 0 to 2.3 s.
    Path("ways.csv").write_text("camera_a,camera_b,min_s,max_s\nc1,c2,5,60\n")
    assert vreid.json(*told, "--travel-times", "ways.csv")["identities"] == 4
    (scene / "cameras.toml").write_text("[cameras.c2]\nstart = 10\n")
    report = vreid.json(*told, "--travel-times", "ways.csv")
    assert report["identities"] == 2
    rows = Path("run/identities/meanMCD50-hops.csv").read_text().splitlines()
    assert rows[1].startswith("c1,c2,2,2,7.7,")
    (scene / "cameras.toml").write_text("[cameras.c3]\nstart = 10\n")
    assert any("no track is of these cameras: c3" in warning for warning in vreid.json(*told)["warnings"])


def test_a_damaged_video_skips_by_name_what_it_spoils(vreid: Vreid, scene: Path, weights: Path) -> None:
    damage(scene / "c2/vdo.mp4", share=0.4, length=400)
    report = vreid.json(*EXTRACT, "--weights", weights, "--run-dir", "run")
    assert report["skipped"]
    assert all(entry["image_id"].startswith("c2/vdo.mp4#frame=") for entry in report["skipped"])
    assert {entry["reason"].partition(" at frame")[0] for entry in report["skipped"]} == {"the video is damaged"}
    assert (
        "the video is damaged" in vreid.error(*EXTRACT, "--weights", weights, "--run-dir", "s", "--strict")["message"]
    )


def test_bad_scenes_are_refused_by_file_and_line(vreid: Vreid, scene: Path, weights: Path) -> None:
    told = (*EXTRACT, "--weights", weights)
    write_lines(scene / "c1/mtsc/sort.txt", [(1, 1, 2, 3, 30, 30, 1), (2, 1, 2, 3)])
    error = vreid.error(*told)
    assert error["message"] == "scene/c1/mtsc/sort.txt, line 2: 4 columns, at least 6 are needed"
    assert error["file"] == "scene/c1/mtsc/sort.txt"
    write_lines(scene / "c1/mtsc/sort.txt", [(500, 1, 2, 3, 30, 30, 1)])
    report = vreid.json(*told)
    assert any("frame 500 of c1: the video has 24" in warning for warning in report["warnings"])
    (scene / "c1/vdo.mp4").write_bytes(b"none")
    assert "scene/c1/vdo.mp4 cannot be opened as a video" in vreid.error(*told)["message"]
    (scene / "c1/vdo.mp4").unlink()
    assert "neither a video nor frames in img1/" in vreid.error(*told)["message"]
    assert "no query split" in vreid.error(*told, "--split", "query", code=2)["message"]


def test_identities_are_shown_as_a_table_and_as_a_sheet(vreid: Vreid, scene: Path, weights: Path) -> None:
    vreid(*EXTRACT, "--weights", weights, "--run-dir", "run", "--per-track", "3")
    assert "has no identities yet" in vreid.error("show", "--run-dir", "run", "--identities")["message"]
    vreid("associate", "--run-dir", "run", "--threshold", "0.001")
    told = vreid("show", "--run-dir", "run", "--identities")
    assert all(track in told for track in ("c1_1", "c1_2", "c2_1", "c2_2"))
    report = vreid.json("show", "2", "--run-dir", "run", "--identities", "--output", "one.png")
    assert [one["identity"] for one in report["vehicles"]] == [2]
    assert (report["outputs"], report["warnings"]) == (["one.png"], [])
    by_track = vreid.json("show", "c2_1", "--ranking", "run/identities/meanMCD50.parquet", "--identities")
    assert [one["identity"] for one in by_track["vehicles"]] == [2]
    assert "no identity or track '9'" in vreid.error("show", "9", "--run-dir", "run", "--identities", code=2)["message"]
    # Blue is vehicle 2: the sheet shows it, and no red.
    vreid("show", "1", "--run-dir", "run", "--identities", "--output", "other.png")
    counts = {}
    for name in ("one.png", "other.png"):
        pixels = np.asarray(Image.open(name)).astype(int)
        red, blue = (pixels[..., a] > pixels[..., b] + 100 for a, b in ((0, 2), (2, 0)))
        counts[name] = (int(red.sum()), int(blue.sum()))
    assert counts["one.png"][1] > 2000 > counts["one.png"][0]
    assert counts["other.png"][0] > 2000 > counts["other.png"][1]
