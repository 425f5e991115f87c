"""The other data sets through the commands: VehicleID's trials, the challenge's submission, a tracker's boxes."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny import Vreid, draw, save_weights

from vreid_cli.store.features import FeatureStore
from vreid_cli.store.formats import read_ranking

RESNET = ("--arch", "resnet18")
#: Vehicle and number of images of a tiny VehicleID.
VEHICLES = {1: 3, 2: 2, 3: 1, 4: 4}
TRIALS = 10


@pytest.fixture
def vehicleid(tmp_path: Path) -> Path:
    """Four vehicles in the list of 800, one of them in that of 1600."""
    root = tmp_path / "VehicleID"
    (root / "train_test_split").mkdir(parents=True)
    lines = []
    for vehicle, count in VEHICLES.items():
        for index in range(count):
            name = f"{1000 * vehicle + index:07d}"
            draw(root / "image" / f"{name}.jpg", hue=vehicle, seed=index)
            lines.append(f"{name} {vehicle}\n")
    (root / "train_test_split" / "test_list_800.txt").write_text("".join(lines))
    (root / "train_test_split" / "test_list_1600.txt").write_text("".join(lines[:3]))
    return root


@pytest.fixture
def extracted(vreid: Vreid, vehicleid: Path, weights: Path) -> Path:
    options = ("--dataset", "vehicleid", "--data-dir", vehicleid, "--subset", 800, "--weights", weights)
    told = vreid("extract", *RESNET, *map(str, options))
    assert "gallery: 10 images" in told
    assert "query:" not in told
    assert "next: vreid rank --task i2i" in told
    return Path("runs/vehicleid-800-resnet18-tiny")


def features_of(run: Path, split: str = "gallery") -> Mapping[str, np.ndarray]:
    features = FeatureStore(run / "features" / split).read()
    return dict(zip(features.image_id, features.matrix.take(np.arange(len(features))), strict=True))


# -- VehicleID ----------------------------------------------------------------------------------------------


def test_vehicleid_asks_which_list(vreid: Vreid, vehicleid: Path, weights: Path) -> None:
    command = ("extract", *RESNET, "--dataset", "vehicleid", "--data-dir", vehicleid, "--weights", weights)
    assert "holds 800, 1600" in vreid.error(*command, code=2)["hint"]
    error = vreid.error(*command, "--subset", "800", "--split", "query", code=2)
    assert "chooses queries from the gallery" in error["message"]
    assert "at least 1" in vreid.error(*command, "--set", "data.subset=0", code=2)["message"]
    assert not Path("runs").exists()


def test_each_trial_is_ranked_by_the_distance(vreid: Vreid, extracted: Path) -> None:
    assert json.loads((extracted / "run.json").read_text())["subset"] == 800
    told = vreid("rank", "--task", "i2i", "--metric", "MCD,MED")
    assert "6 queries against 4 gallery items" in told
    assert "MCD, trial 0 (seed 0)" in told
    names = [f"i2i-{metric}-trial{number:02d}.parquet" for metric in ("MCD", "MED") for number in range(TRIALS)]
    assert sorted(path.name for path in (extracted / "rankings").iterdir()) == sorted(names)
    features = features_of(extracted)
    galleries = set()
    for number in range(TRIALS):
        path = extracted / f"rankings/i2i-MED-trial{number:02d}.parquet"
        facts = read_ranking(path).facts
        assert (facts.trial, facts.trial_seed, facts.query_source, facts.dataset) == (number, 0, "gallery", "vehicleid")
        rows = pq.read_table(path).to_pylist()
        gallery, queries = ({row[f"{side}_id"] for row in rows} for side in ("gallery", "query"))
        assert sorted(int(name[:7]) // 1000 for name in gallery) == [*VEHICLES]
        assert gallery | queries == set(features)
        assert not gallery & queries
        galleries.add(frozenset(gallery))
        for row in rows:
            distance = np.linalg.norm(features[row["query_id"]] - features[row["gallery_id"]])
            assert row["distance"] == pytest.approx(distance, rel=1e-4)
            assert int(row["query_vehicle"]) == int(row["query_id"][:7]) // 1000
        # Both metrics rank the same trial.
        other = pq.read_table(extracted / f"rankings/i2i-MCD-trial{number:02d}.parquet").to_pydict()
        assert set(other["gallery_id"]) == gallery
    assert len(galleries) > 1
    (result,) = vreid.json("evaluate", extracted / "rankings/i2i-MED-trial03.parquet")["results"]
    assert (result["total_queries"], result["junk"], result["task"]) == (6, 0, "i2i")
    vreid("show", "--ranking", extracted / "rankings/i2i-MED-trial03.parquet", "-o", "sheet.png")
    assert "trial 3" in vreid("show", "--ranking", extracted / "rankings/i2i-MED-trial03.parquet") + vreid.err


def test_number_and_seed_of_the_trials(vreid: Vreid, extracted: Path) -> None:
    vreid("rank", "--task", "i2i", "--set", "rank.trials=2")
    folder = extracted / "rankings"
    assert {path.name for path in folder.iterdir()} == {"i2i-MCD-trial00.parquet", "i2i-MCD-trial01.parquet"}
    first = pq.read_table(folder / "i2i-MCD-trial00.parquet")
    vreid("rank", "--task", "i2i", "--set", "rank.trials=3")  # the same recipe: replaced, and one more
    assert pq.read_table(folder / "i2i-MCD-trial00.parquet").equals(first)
    error = vreid.error("rank", "--task", "i2i", "--seed", "7", "--set", "rank.trials=4")
    assert "its trial seed is 0, not 7" in error["message"]
    assert not (folder / "i2i-MCD-trial03.parquet").exists()  # refused before anything was ranked
    vreid("rank", "--task", "i2i", "--seed", "7", "--force", "--set", "rank.trials=1", "-o", "one.json")
    assert json.loads(Path("one.json").read_text())["vreid"]["trial_seed"] == 7


@pytest.mark.parametrize("task", [(), ("--task", "t2t"), ("--task", "i2t")])
@pytest.mark.usefixtures("extracted")
def test_vehicleid_has_no_tracks(vreid: Vreid, task: tuple[str, ...]) -> None:
    error = vreid.error("rank", *task, code=2)
    assert "single images and no tracks" in error["message"]
    assert error["hint"] == "use --task i2i"


@pytest.mark.usefixtures("extracted")
def test_what_trials_refuse(vreid: Vreid, extracted: Path) -> None:
    rank = ("rank", "--task", "i2i")
    assert "10 trials need a folder" in vreid.error(*rank, "-o", "r.parquet", code=2)["message"]
    assert "rank.trials" in vreid.error(*rank, "--set", "rank.trials=0", code=2)["message"]
    # Features that are named are ranked as they are.
    store = extracted / "features" / "gallery"
    sides = ("--query-features", store, "--gallery-features", store)
    assert "10 queries against 10 gallery items" in vreid(*rank, *sides, "-o", "r.parquet")
    error = vreid.error(*rank, *sides, "-o", "r.parquet", "--set", "rank.trials=3", code=2)
    assert "only runs of data sets with random galleries have trials" in error["message"]


def test_vehicleid_exports_its_gallery(vreid: Vreid, extracted: Path) -> None:
    report = vreid.json("export", "features", "--format", "npz")
    assert [Path(output).name for output in report["outputs"]] == ["feat_test.npz"]
    with np.load(extracted / "exports" / "feat_test.npz") as arrays:
        assert arrays["features"].shape == (10, 512)


def test_a_subset_for_a_layout_that_has_none(vreid: Vreid, made: Path, weights: Path) -> None:
    command = ("extract", *RESNET, "--data-dir", made / "data", "--weights", weights, "--dataset")
    error = vreid.error(*command, "tracks", "--subset", "800", code=2)
    assert error["message"] == "--subset: the layout tracks has no test lists to choose from"
    assert "vehicleid" in error["hint"]


def test_another_subset_is_another_run(vreid: Vreid, extracted: Path) -> None:
    error = vreid.error("extract", "--run-dir", extracted, "--subset", "1600")
    assert "--subset '1600': the run" in error["message"]
    assert "10 images in 10 tracks, nothing to compute" in vreid("extract", "--run-dir", extracted)
    assert "3 images in 3 tracks" in vreid("extract", "--run-dir", extracted, "--subset", "1600", "--restart")


# -- AI City ------------------------------------------------------------------------------------------------


@pytest.fixture
def challenge(vreid: Vreid, tmp_path: Path, weights: Path) -> Path:
    root = tmp_path / "AIC"
    for number in range(1, 4):
        draw(root / f"image_query/{number:06d}.jpg", hue=number, seed=number)
    for number in range(1, 8):
        draw(root / f"image_test/{number:06d}.jpg", hue=number % 3, seed=10 + number)
    (root / "test_track.txt").write_text("000001.jpg 000004.jpg 000007.jpg \n000002.jpg 000005.jpg \n")
    vreid("extract", *RESNET, "--dataset", "aicity", "--data-dir", root, "--weights", weights)
    assert "2 images in no listed track" in vreid.err
    return Path("runs/aicity-resnet18-tiny")


def test_the_submission_is_the_ranking_in_numbers(vreid: Vreid, challenge: Path) -> None:
    vreid("rank", "--task", "i2i", "--output", "track2.txt")
    assert "next:" not in vreid.out
    query, gallery = features_of(challenge, "query"), features_of(challenge)
    lines = Path("track2.txt").read_text().splitlines()
    assert len(lines) == 3
    for name, line in zip(sorted(query), lines, strict=True):
        cosines = {
            int(Path(other).stem): features @ query[name] / np.linalg.norm(features) / np.linalg.norm(query[name])
            for other, features in gallery.items()
        }
        assert [int(number) for number in line.split()] == sorted(cosines, key=lambda number: -cosines[number])
    # Tracks work too: without labels there are rankings and sheets, only no scores.
    assert "3 queries against 4 gallery items" in vreid("rank")


def test_a_submission_tells_of_queries_that_are_missing(vreid: Vreid, tmp_path: Path, challenge: Path) -> None:
    (tmp_path / "AIC" / "image_query" / "000002.jpg").write_bytes(b"no image")
    vreid("extract", "--run-dir", challenge)
    vreid("rank", "--task", "i2i", "--output", "track2.txt")
    assert "query images that extract skipped (1) have no line in track2.txt" in vreid.err
    assert len(Path("track2.txt").read_text().splitlines()) == 2


@pytest.mark.usefixtures("challenge")
def test_what_a_submission_refuses(vreid: Vreid) -> None:
    submit = ("rank", "--output", "track2.txt")
    assert "not of t2t" in vreid.error(*submit, code=2)["message"]
    assert "3 metrics need a folder" in vreid.error(*submit, "--task", "i2i", "--metric", "all", code=2)["message"]
    Path("track2.txt").write_text("mine")
    error = vreid.error(*submit, "--task", "i2i")
    assert "track2.txt is there already" in error["message"]
    assert "--force" in error["hint"]
    assert Path("track2.txt").read_text() == "mine"
    vreid(*submit, "--task", "i2i", "--force")
    assert len(Path("track2.txt").read_text().splitlines()) == 3


@pytest.mark.usefixtures("ready")
def test_a_gallery_without_numbers_has_no_submission(vreid: Vreid) -> None:
    # The images of the run are called <track>/0.png, <track>/1.png: which 0 would be meant?
    error = vreid.error("rank", "--task", "i2i", "-o", "r.txt")
    assert "have the number 0" in error["message"]
    np.savez("named.npz", features=np.eye(3, 512, dtype=np.float32), image_id=list("abc"), track_id=list("abc"))
    error = vreid.error("rank", "--task", "i2i", "--gallery-features", "named.npz", "-o", "s.txt")
    assert "the gallery image a has no number for a name" in error["message"]
    assert not Path("s.txt").exists()


# -- a tracker's boxes --------------------------------------------------------------------------------------

#: Two frames with three vehicles each, as a tracker reports them: frame, track, box.
BOXES = [
    (1, "7", (4, 4, 30, 24)),
    (1, "8", (40.5, 6, 30.25, 24)),
    (1, "9", (80, 30, 60, 60)),  # partly outside
    (2, "7", (8, 4, 30, 24)),
    (2, "8", (44, 6, 30, 24)),
    (2, "9", (200, 200, 10, 10)),  # wholly outside
]


@pytest.fixture
def tracked(tmp_path: Path) -> Path:
    root = tmp_path / "mot"
    (root / "frames").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for frame in (1, 2):
        Image.fromarray(rng.integers(0, 256, (80, 120, 3)).astype(np.uint8)).save(root / f"frames/{frame:06d}.png")
    lines = ["path,split,track,camera,frame,x,y,w,h,confidence"]
    for split, camera in (("query", "c1"), ("gallery", "c2")):
        lines += [
            f"frames/{frame:06d}.png,{split},{track},{camera},{frame},{','.join(map(str, box))},0.9"
            for frame, track, box in BOXES
        ]
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "1"])
def test_boxes_are_extracted_ranked_and_shown(vreid: Vreid, tracked: Path, weights: Path, workers: str) -> None:
    command = ("extract", *RESNET, "--dataset", "csv", "--data-dir", tracked, "--weights", weights)
    report = vreid.json(*command, "--workers", workers)
    assert sum("unknown columns, ignored: confidence" in warning for warning in report["warnings"]) == 1
    (skipped, _) = report["skipped"]
    assert skipped["image_id"] == "frames/000002.png#xywh=200,200,10,10"
    assert "lies outside the frame of 120 x 80" in skipped["reason"]
    run = Path("runs/csv-resnet18-tiny")
    features = features_of(run)
    assert len(features) == 5
    assert len({feature.tobytes() for feature in features.values()}) == 5
    # The features are those of the crops as files of their own.
    assert_like_files_of_their_own(vreid, tracked, features, weights)
    told = vreid("rank")
    assert "3 queries against 3 gallery items" in told
    # The query's own crops are in the gallery: the same image file is the same crop of it.
    assert read_ranking(run / "rankings/t2t-meanMCD50.parquet").facts.selves["7"] == ("7",)
    vreid("rank", "--task", "i2i")
    vreid("show", "--ranking", run / "rankings/i2i-MCD.parquet", "--output", "sheet.png")
    assert "not there" not in vreid.err
    with Image.open("sheet.png") as sheet:
        assert min(sheet.size) > 100


def assert_like_files_of_their_own(
    vreid: Vreid, tracked: Path, features: Mapping[str, np.ndarray], weights: Path
) -> None:
    pixels = {"8": (1, (40, 6, 71, 30)), "9": (1, (80, 30, 120, 80)), "7": (2, (8, 4, 38, 28))}
    for track, (frame, box) in pixels.items():
        path = Path("cut") / "gallery" / track / "0.png"
        path.parent.mkdir(parents=True)
        with Image.open(tracked / f"frames/{frame:06d}.png") as image:
            image.crop(box).save(path)
    vreid(
        *("extract", *RESNET, "--dataset", "tracks", "--data-dir", "cut", "--split", "gallery"),
        *("--weights", weights, "--run-dir", "cut-run"),
    )
    cut = features_of(Path("cut-run"))
    names = {
        "8": "frames/000001.png#xywh=40.5,6,30.25,24",
        "9": "frames/000001.png#xywh=80,30,60,60",
        "7": "frames/000002.png#xywh=8,4,30,24",
    }
    for track, name in names.items():
        np.testing.assert_allclose(features[name], cut[f"{track}/0.png"], rtol=1e-4, atol=1e-5)
    Path("runs/latest").write_text("csv-resnet18-tiny\n")


def test_a_changed_box_is_computed_anew(vreid: Vreid, tracked: Path, weights: Path) -> None:
    command = ("extract", *RESNET, "--dataset", "csv", "--data-dir", tracked, "--weights", weights)
    vreid(*command)
    assert vreid(*command).count("nothing to compute") == 2
    before = features_of(Path("runs/csv-resnet18-tiny"))
    path = tracked / "manifest.csv"
    path.write_text(path.read_text().replace("gallery,8,c2,2,44,6,30,24", "gallery,8,c2,2,46,6,30,24"))
    told = vreid(*command)
    assert "query: 5 images in 3 tracks, 1 image skipped, nothing to compute" in told
    after = features_of(Path("runs/csv-resnet18-tiny"))
    assert set(before) - set(after) == {"frames/000002.png#xywh=44,6,30,24"}
    assert set(after) - set(before) == {"frames/000002.png#xywh=46,6,30,24"}


def test_the_crops_are_what_is_drawn(vreid: Vreid, tmp_path: Path, weights: Path) -> None:
    # A frame of two colours: a sheet that drew frames would show both everywhere.
    frame = np.zeros((60, 120, 3), dtype=np.uint8)
    frame[:, :60], frame[:, 60:] = (250, 10, 20), (20, 10, 250)
    (tmp_path / "d").mkdir()
    Image.fromarray(frame).save(tmp_path / "d" / "f.png")
    lines = ["path,split,x,y,w,h", "f.png,query,0,0,60,60", "f.png,gallery,5,0,50,60"]
    (tmp_path / "d" / "boxes.csv").write_text("\n".join(lines))
    vreid("extract", *RESNET, "--dataset", "csv", "--data-dir", tmp_path / "d" / "boxes.csv", "--weights", weights)
    vreid("rank", "--task", "i2i")
    vreid("show", "--output", "sheet.png")
    with Image.open("sheet.png") as sheet:
        colours = np.asarray(sheet.convert("RGB")).reshape(-1, 3).astype(int)
    assert (np.abs(colours - (250, 10, 20)).max(axis=1) < 12).sum() > 1000
    assert (np.abs(colours - (20, 10, 250)).max(axis=1) < 12).sum() == 0


# -- the others ---------------------------------------------------------------------------------------------


def test_vric_through_all_commands(vreid: Vreid, tmp_path: Path, weights: Path) -> None:
    root = tmp_path / "VRIC"
    listed: dict[str, list[str]] = {"probe": [], "gallery": []}
    for vehicle in range(1, 4):
        for camera, name in ((1, "probe"), (2, "gallery"), (2, "gallery"), (3, "gallery")):
            image = f"{vehicle:04d}_{camera}_{len(listed[name])}.jpg"
            draw(root / f"{name}_images" / image, hue=vehicle, seed=len(listed[name]))
            listed[name].append(f"{image} {vehicle} {camera}\n")
    for name, lines in listed.items():
        (root / f"vric_{name}.txt").write_text("".join(lines))
    report = vreid.json("extract", *RESNET, "--dataset", "vric", "--data-dir", root, "--weights", weights)
    assert sum("no list of tracks" in warning for warning in report["warnings"]) == 1
    assert "3 queries against 6 gallery items" in vreid("rank")
    (result,) = vreid.json("evaluate")["results"]
    assert (result["valid_queries"], result["positives"]) == (3, 6)


def test_veri_wild_through_all_commands(vreid: Vreid, tmp_path: Path, weights: Path) -> None:
    root = tmp_path / "VERI-Wild"
    (root / "train_test_split").mkdir(parents=True)
    names, info = [], ["id/image;Camera ID;Time;Model;Type;Color"]
    for vehicle in range(1, 4):
        for camera in (1, 2, 3):
            name = f"{vehicle:05d}/{10 * vehicle + camera:06d}"
            draw(root / "images" / f"{name}.jpg", hue=vehicle, seed=camera)
            names.append(name)
            info.append(f"{name};{camera};2018-03-11 14:47:59;Benz;SUV;white")
    (root / "train_test_split" / "test_3000.txt").write_text("\n".join(names))
    (root / "train_test_split" / "test_3000_query.txt").write_text("\n".join(names[::3]))
    (root / "train_test_split" / "vehicle_info.txt").write_text("\n".join(info))
    command = ("extract", *RESNET, "--dataset", "veri-wild", "--data-dir", root, "--weights", weights)
    vreid(*command, "--subset", "3000")
    assert "3 images of test_3000.txt among the queries" in vreid.err
    assert "3 queries against 6 gallery items" in vreid("rank", "--task", "i2i")
    (result,) = vreid.json("evaluate")["results"]
    assert (result["ranking"].split("/")[1], result["positives"]) == ("veri-wild-3000-resnet18-tiny", 6)


def test_the_mean_over_trials_is_told_with_its_spread(vreid: Vreid, extracted: Path) -> None:
    vreid("rank", "--task", "i2i", "--metric", "MED,MCD", "--set", "rank.trials=4")
    report = vreid.json("evaluate")
    assert len(report["results"]) == 8
    assert report["comparisons"] == []
    assert [(one["metric"], one["trials"]) for one in report["trials"]] == [("MCD", 4), ("MED", 4)]
    for one in report["trials"]:
        own = [result["mAP"] for result in report["results"] if result["metric"] == one["metric"]]
        assert one["mAP"]["mean"] == pytest.approx(statistics.mean(own))
        assert one["mAP"]["deviation"] == pytest.approx(statistics.stdev(own))
        first = [result["cmc"]["1"] for result in report["results"] if result["metric"] == one["metric"]]
        assert one["cmc"]["1"]["mean"] == pytest.approx(statistics.mean(first))
    told = vreid("evaluate")
    assert "Mean over trials with random galleries" in told
    assert "± the standard deviation between trials" in told


def test_trials_of_two_networks_are_averaged_apart(vreid: Vreid, vehicleid: Path, extracted: Path) -> None:
    other = save_weights(Path("other.safetensors"), seed=8)
    data = ("--dataset", "vehicleid", "--data-dir", vehicleid, "--subset", "800", "--weights", other)
    vreid("extract", *RESNET, *data, "--run-dir", "runs/other")
    runs = (extracted, Path("runs/other"))
    for run in runs:
        vreid("rank", "--run-dir", run, "--task", "i2i", "--metric", "MCD", "--set", "rank.trials=3")
    report = vreid.json("evaluate", *runs)
    assert report["comparisons"] == []
    assert [(one["architecture"], one["weights"], one["trials"]) for one in report["trials"]] == [
        ("resnet18", "tiny.safetensors", 3),
        ("resnet18", "other.safetensors", 3),
    ]
    for run, one in zip(runs, report["trials"], strict=True):
        own = [result["mAP"] for result in report["results"] if str(run) in result["ranking"]]
        assert one["mAP"]["mean"] == pytest.approx(statistics.mean(own))
    told = vreid("evaluate", *runs).partition("Mean over trials")[2]
    assert "tiny.safetensors" in told
    assert "other.safetensors" in told
