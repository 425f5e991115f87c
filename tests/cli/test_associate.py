"""``vreid associate``: from a run or feature files to identities, traffic and scores."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from filelock import FileLock, Timeout
from partitions import score_by_brute_force
from tiny import GALLERY, QUERIES, Vreid

from vreid_cli.store.identities import SCHEMA
from vreid_cli.workflows import associate


def save_features(path: str, rows: list[tuple[str, str, str, list[float]]]) -> None:
    tracks, vehicles, cameras, features = zip(*rows, strict=True)
    np.savez(path, features=np.array(features), track_id=tracks, vehicle_id=vehicles, camera_id=cameras)


CARS = [
    ("a1", "1", "a", [1.0, 0.0, 0.0]),
    ("b1", "1", "b", [0.95, 0.05, 0.0]),
    ("a2", "2", "a", [0.0, 1.0, 0.0]),
    ("b2", "2", "b", [0.0, 0.9, 0.1]),
    ("a3", "3", "a", [0.0, 0.1, 1.0]),
]


def test_from_a_run_to_scores(vreid: Vreid, ready: Path) -> None:
    report = vreid.json("associate", "--threshold", "0.3")
    table = pq.read_table(f"{ready}/identities/meanMCD50.parquet")
    assert table.schema.equals(SCHEMA)
    rows = table.to_pylist()
    assert sorted(row["track"] for row in rows) == sorted([*QUERIES, *GALLERY])
    assert report["identities"] == len({row["identity"] for row in rows})
    assert report["tracks"] == len(rows)
    with Path(f"{ready}/identities/meanMCD50.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["track"], int(line["identity"]), line["camera"]) for line in lines] == [
        (row["track"], row["identity"], row["camera"]) for row in rows
    ]
    assert {row["split"] for row in rows} == {"query", "gallery"}
    told = vreid("evaluate")
    assert "IDF1" in told
    # There are no rankings, and no table of them.
    (scores,) = vreid.json("evaluate")["identities"]
    wanted = score_by_brute_force(*([row[name] for row in rows] for name in ("identity", "vehicle", "images")))
    assert {name: scores[name] for name in wanted} == pytest.approx(wanted)
    kept = json.loads(Path(f"{ready}/identities/meanMCD50-scores.json").read_text())
    assert kept["identities"] == [scores]
    vreid("rank")
    report = vreid.json("evaluate")
    assert (len(report["results"]), len(report["identities"])) == (1, 1)
    assert vreid.json("info")["warnings"] == []


def test_one_side_alone_will_do(vreid: Vreid, ready: Path) -> None:
    shutil.rmtree(ready / "features/query")
    report = vreid.json("associate", "--threshold", "0.3")
    assert sorted(track["track"] for one in report["vehicles"] for track in one["tracks"]) == GALLERY
    assert "the tracks of gallery alone: the run holds no others" in vreid.err


def test_a_folder_that_is_query_and_gallery_counts_once(vreid: Vreid, made: Path, weights: Path) -> None:
    both = ("--query-dir", str(made / "data" / "gallery"), "--gallery-dir", str(made / "data" / "gallery"))
    vreid("extract", "--dataset", "tracks", *both, "--weights", str(weights), "--arch", "resnet18", "--device", "cpu")
    report = vreid.json("associate", "--threshold", "0.3")
    assert sorted(track["track"] for one in report["vehicles"] for track in one["tracks"]) == sorted(GALLERY)


def test_feature_files_and_where_the_result_goes(vreid: Vreid) -> None:
    save_features("a.npz", CARS[::2])
    save_features("b.npz", CARS[1::2])
    assert "give --output" in vreid.error("associate", "a.npz", "b.npz", "--threshold", "0.1", code=2)["hint"]
    assert ".parquet" in vreid.error("associate", "a.npz", "--threshold", "0.1", "-o", "x.csv", code=2)["message"]
    report = vreid.json("associate", "a.npz", "b.npz", "--threshold", "0.1", "-o", "cars.parquet")
    assert [[track["track"] for track in one["tracks"]] for one in report["vehicles"]] == [
        ["a1", "b1"],
        ["a2", "b2"],
        ["a3"],
    ]
    assert report["outputs"] == ["cars.parquet", "cars.csv", "cars-od.csv", "cars-hops.csv"]
    assert vreid.json("evaluate", "cars.parquet")["identities"][0]["IDF1"] == 1.0
    assert vreid.json("evaluate", "cars.csv")["identities"][0]["IDF1"] == 1.0
    assert not vreid.json("evaluate", ".")["skipped"]  # the scores beside a table are no ranking
    assert vreid.error("show", "--ranking", "cars.parquet", code=2)["hint"] == "add --identities"
    shown = ("show", "--identities", "--ranking", "cars.parquet", "--match", "a1")
    assert "--match is about a ranking" in vreid.error(*shown, code=2)["message"]
    # Made again, it is replaced; made otherwise only by force.
    vreid("associate", "a.npz", "b.npz", "--threshold", "0.1", "-o", "cars.parquet")
    error = vreid.error("associate", "a.npz", "b.npz", "--threshold", "0.2", "-o", "cars.parquet")
    assert "threshold 0.1, now 0.2" in error["message"]
    vreid("associate", "a.npz", "b.npz", "--threshold", "0.2", "-o", "cars.parquet", "--force")


def test_tracks_of_one_name_in_two_files_are_told_apart(vreid: Vreid) -> None:
    save_features("a.npz", CARS[:1])
    save_features("b.npz", CARS[:1])
    report = vreid.json("associate", "a.npz", "b.npz", "--threshold", "0.1", "-o", "cars.parquet")
    assert [track["track"] for track in report["vehicles"][0]["tracks"]] == ["a.npz/a1", "b.npz/a1"]


def test_the_threshold_is_chosen_by_labels(vreid: Vreid) -> None:
    save_features("cars.npz", CARS)
    save_features("strangers.npz", [(track, "", camera, feature) for track, _, camera, feature in CARS])
    told = ("associate", "cars.npz", "-o", "x.parquet")
    error = vreid.error(*told, code=2)
    assert "8 pairs of two vehicles, too few for it" in error["message"]
    report = vreid.json(*told, "--false-match-rate", "0.2")
    assert report["identities"] == 3
    assert any("scores on them flatter" in warning for warning in report["warnings"])
    assert (
        "vehicles of strangers.npz are not known"
        in vreid.error("associate", "strangers.npz", "-o", "y.parquet", code=2)["message"]
    )
    labelled = ("--labelled", "cars.npz", "--false-match-rate", "0.2")
    report = vreid.json("associate", "strangers.npz", "-o", "y.parquet", *labelled)
    assert (report["identities"], report["warnings"]) == (3, [])
    assert "vehicle of no track is known" in vreid.error("evaluate", "y.parquet")["message"]


def test_with_a_calibration_no_threshold_is_needed_and_identities_have_a_probability(vreid: Vreid) -> None:
    # Of twelve vehicles all but the last are seen by two cameras.
    shades = np.eye(12)
    for name, seen in (("query", range(11)), ("gallery", range(12))):
        save_features(f"{name}.npz", [(f"{name}{k}", str(k), name, shades[k] + shades[k - 1] / 9) for k in seen])
    vreid("rank", "--query-features", "query.npz", "--gallery-features", "gallery.npz", "-o", "ranking.parquet")
    vreid("calibrate", "ranking.parquet", "-o", "fit.json")
    told = ("associate", "query.npz", "gallery.npz", "-o", "cars.parquet", "--calibration", "fit.json")
    report = vreid.json(*told)
    assert (report["identities"], report["threshold"], report["min_probability"]) == (12, None, 0.5)
    assert [one["probability"] is None for one in report["vehicles"]] == [False] * 11 + [True]
    rows = pq.read_table("cars.parquet").to_pylist()
    assert all((row["probability"] is None) == (row["vehicle"] == "11") for row in rows)
    assert report["calibration"] == "fit.json"
    assert "by probability, at least 0.5, calibration fit.json" in vreid(*told)
    assert "min probability 0.5, now 0.6" in vreid.error(*told, "--min-probability", "0.6")["message"]
    # A distance is still understood, and so is a rate of false matches.
    assert vreid.json(*told, "--threshold", "0.3", "--force")["threshold"] == 0.3
    assert vreid.json(*told, "--false-match-rate", "0.2", "--force")["min_probability"] is None
    assert "probability" in vreid("show", "--identities", "--ranking", "cars.parquet")


def test_files_of_two_at_once_are_never_mixed(vreid: Vreid, monkeypatch: pytest.MonkeyPatch) -> None:
    save_features("cars.npz", CARS)
    told = ("associate", "cars.npz", "-o", "x.parquet", "--threshold", "0.1", "--plot", "x.png")
    vreid(*told)
    done = []

    def guarded(step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            with pytest.raises(Timeout):
                FileLock(".x.parquet.lock").acquire(timeout=0)
            done.append(step.__name__)
            return step(*given)

        return run

    steps = ("_refuse_another", "write_identities", "write_traffic", "plot_traffic")
    for name in steps:
        monkeypatch.setattr(associate, name, guarded(getattr(associate, name)))
    vreid(*told)
    assert done == [*steps]
    FileLock(".x.parquet.lock").acquire(timeout=0).lock.release()


def test_other_cameras_and_travel_times(vreid: Vreid) -> None:
    save_features("cars.npz", [*CARS, ("a4", "1", "a", [0.99, 0.01, 0.0])])
    told = ("associate", "cars.npz", "--threshold", "0.1", "-o", "x.parquet", "--force")
    assert vreid.json(*told)["identities"] == 3
    assert vreid.json(*told, "--cameras", "other")["identities"] == 4
    Path("ways.csv").write_text("camera_a,camera_b,min_s,max_s\na,b,1,60\n")
    error = vreid.error(*told, "--travel-times", "ways.csv")
    assert error["message"].startswith("ways.csv, line 2: the tracks of camera 'a' have no time in seconds")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,1,2\n", "ways.csv, line 1: the columns are 'a, b, 1, 2'"),
        ("camera_a,camera_b,min_s,max_s\na,b,1\n", "ways.csv, line 2: 3 cells, needs 4"),
        ("camera_a,camera_b,min_s,max_s\n\na,b,1,soon\n", "ways.csv, line 3: max_s 'soon' is no number of seconds"),
        ("camera_a,camera_b,min_s,max_s\na,c,1,2\n", "ways.csv, line 2: no track is of camera 'c'"),
        (
            "camera_a,camera_b,min_s,max_s\na,b,3,2\n",
            "ways.csv, line 2: the shortest time 3 s is above the longest 2 s",
        ),
    ],
)
def test_bad_travel_times_are_named_by_file_and_line(vreid: Vreid, text: str, message: str) -> None:
    save_features("cars.npz", CARS)
    Path("ways.csv").write_text(text)
    told = ("associate", "cars.npz", "--threshold", "0.1", "-o", "x.parquet", "--travel-times", "ways.csv")
    error = vreid.error(*told)
    assert error["message"] == message
    assert error["file"].startswith("ways.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fps = ", "is no valid TOML"),
        ("fps = 0", "fps = 0: needs a number above 0"),
        ("frames = 3", "unknown key 'frames'"),
        ("[cameras.a]\nfps = true", "cameras.a.fps = True: needs a number above 0"),
        ("cameras = 3", "'cameras' holds something that is no table"),
    ],
)
def test_bad_clocks_are_named(vreid: Vreid, text: str, message: str) -> None:
    save_features("cars.npz", CARS)
    Path("clocks.toml").write_text(text)
    told = ("associate", "cars.npz", "--threshold", "0.1", "-o", "x.parquet", "--clocks", "clocks.toml")
    assert message in vreid.error(*told)["message"]


def test_damaged_identities_are_refused(vreid: Vreid) -> None:
    assert "there are no rankings" in vreid.error("evaluate", ".")["message"]
    Path("x.csv").write_text("identity,track\n1,a\nx,b\n")
    assert "cannot be read as identities" in vreid.error("evaluate", "x.csv")["message"]
    Path("x.csv").write_text("identity,track,vehicle\n1,a,7\n,b,7\n")
    assert "a row without identity or track" in vreid.error("evaluate", "x.csv")["message"]
