"""Things that lie where something else is expected: each a named error or a named, counted skip."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from tiny import EXTRACT, TRACKS, Vreid, draw_tracks

import vreid_cli as library
from vreid_cli.errors import DataError, UsageError, WeightsError

COMMON = (*EXTRACT, "--data-dir", "data", "--weights", "tiny.safetensors")
RUN = Path("runs/tracks-resnet18-tiny")


@pytest.fixture
def vreid(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Vreid:
    draw_tracks(tmp_path / "data", TRACKS)
    monkeypatch.chdir(tmp_path)
    Path("tiny.safetensors").symlink_to(weights)
    return Vreid(capsys)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_among_the_images_is_skipped(vreid: Vreid):
    os.mkfifo("data/gallery/0009_c001/pipe.jpg")
    (skipped,) = vreid.json(*COMMON)["skipped"]
    assert (skipped["image_id"], skipped["reason"]) == ("0009_c001/pipe.jpg", "is no regular file")


def manifest(text: str) -> tuple[str, ...]:
    Path("cars.csv").write_text(text, encoding="utf-8")
    return (
        "extract",
        "--dataset",
        "csv",
        "--data-dir",
        "cars.csv",
        "--split",
        "gallery",
        "--weights",
        "tiny.safetensors",
    )


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("path\ndata/a\0b.png\n", "line 2: its path holds a NUL byte", "correct the line"),
        ("path;track\na.png;1\n", "has no column 'path'", "separated by ';': save it with commas"),
        ("path\ttrack\na.png\t1\n", "has no column 'path'", "save it with commas"),
    ],
)
def test_a_manifest_that_is_none(vreid: Vreid, text: str, message: str, hint: str):
    error = vreid.error(*manifest(text))
    assert message in error["message"]
    assert hint in error["hint"]


def test_images_outside_the_manifests_folder_are_told(vreid: Vreid, tmp_path: Path):
    Path("inner").mkdir()
    Path("inner/cars.csv").write_text(
        f"path\n../data/gallery/0009_c001/0.png\n{tmp_path}/data/gallery/0004_c001/0.png\n"
    )
    vreid(
        "extract",
        "--dataset",
        "csv",
        "--data-dir",
        "inner/cars.csv",
        "--split",
        "gallery",
        "--weights",
        "tiny.safetensors",
    )
    assert "2 images of cars.csv outside its folder: ../data/gallery/0009_c001/0.png" in vreid.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": [[1.0]], "b": [[2.0]], "a": [[3.0]]}', 'the key "a" stands there twice'),
        ('{"\\ud800": [[1.0]]}', "lone surrogate"),
        ('{"a": [[1.0]', "is not valid JSON"),
    ],
)
def test_json_that_would_be_read_wrongly(vreid: Vreid, text: str, message: str):
    Path("f.json").write_text(text)
    error = vreid.error("rank", "--query-features", "f.json", "--gallery-features", "f.json", "--output", "r.parquet")
    assert message in error["message"]
    assert error["hint"]


def test_a_reader_that_has_seen_enough_is_no_error(vreid: Vreid):
    vreid(*COMMON)
    code = "import os, sys; os.close(1); from vreid_cli.cli.app import run; r, w = os.pipe(); os.close(r); "
    code += "os.dup2(w, 1); sys.stdout = os.fdopen(1, 'w'); sys.exit(run(['info']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_an_interruption_is_told_in_json_too(vreid: Vreid, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vreid_cli.workflows.info.info", interrupt)
    vreid("info", "--json", code=130)
    assert json.loads(vreid.out)["error"]["message"] == "interrupted"


def test_a_metric_of_tracks_for_single_images_offers_its_distance(vreid: Vreid):
    vreid(*COMMON)
    error = vreid.error("rank", "--task", "i2t", "--metric", "meanMCD50", code=2)
    assert error["hint"].startswith("did you mean 'MCD'?")


FEATURES = library.FeatureSet.from_arrays([[1, 0], [0, 1]], track_id=["a", "b"])


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: library.FeatureSet.from_arrays(np.zeros(3), track_id=["a"] * 3), DataError, r"shape \(3,\)"),
        (lambda: library.FeatureSet.from_arrays([["x"]], track_id=["a"]), DataError, "no numbers"),
        (lambda: library.FeatureSet.from_arrays(np.eye(2), track_id=["a"]), DataError, "track_id has 1 entry for 2"),
        (lambda: library.rank(np.eye(2), FEATURES), UsageError, "query: needs a FeatureSet, not a ndarray"),
        (lambda: library.rank(FEATURES, FEATURES, {"metric": "MCD"}), UsageError, "options: needs a RankingOptions"),
        (lambda: library.evaluate(np.eye(2)), UsageError, "ranking: needs a Ranking, not a ndarray"),
        (lambda: library.read_features(3), UsageError, "3: needs a str, not an int"),
        (lambda: library.read_ranking(None), UsageError, "None: needs a str"),
        (lambda: library.read_identities("nowhere.csv"), DataError, "there are no identities nowhere.csv"),
        (lambda: library.read_images(".", "quer", dataset="tracks"), UsageError, "there is no split 'quer'"),
        (lambda: library.load_network("smal"), WeightsError, "there is no weights file smal"),
        (lambda: library.extract("images", "small"), UsageError, "network: small names one"),
        (lambda: library.extract(3, None), UsageError, "images: needs a Sequence, not an int"),
        (lambda: library.extract([3], None), UsageError, "3: needs a str, not an int"),
        (lambda: library.show({}, gallery=FEATURES), UsageError, "ranking: needs a Ranking, not a dict"),
        (lambda: library.report({}, gallery=FEATURES), UsageError, "ranking: needs a Ranking, not a dict"),
        (lambda: library.explain({}, "a", "b", gallery=FEATURES), UsageError, "ranking: needs a Ranking, not a dict"),
        (lambda: library.compare({}, {}), UsageError, "one: needs an Evaluation, not a dict"),
        (lambda: library.associate(np.eye(2)), UsageError, "features: needs a FeatureSet, not a ndarray"),
        (lambda: library.associate(FEATURES, {"threshold": 1}), UsageError, "options: needs an AssociationOptions"),
        (lambda: library.fuse(FEATURES), UsageError, "rankings: needs a Sequence, not a FeatureSet"),
        (lambda: library.calibrate(["r.parquet"]), UsageError, "rankings: needs a Ranking, not a str"),
        (lambda: library.build_index(np.eye(2)), UsageError, "features: needs a FeatureSet, not a ndarray"),
        (lambda: library.split_trial(np.eye(2)), UsageError, "features: needs a FeatureSet, not a ndarray"),
        (lambda: library.evaluate_identities({}), UsageError, "found: needs an Identities, not a dict"),
        (
            lambda: library.evaluate_distances([0.5, 1], query_vehicles=["a"], gallery_vehicles=["a", "b"]),
            DataError,
            r"distances: needs rows and columns, not an array of shape \(2,\)",
        ),
        (
            lambda: library.evaluate_distances([[0.5, 1], [2]], query_vehicles=["a"], gallery_vehicles=["a", "b"]),
            DataError,
            "no numbers in rows of one length",
        ),
    ],
)
def test_arguments_of_the_library_are_looked_at(call, kind: type[Exception], message: str):
    with pytest.raises(kind, match=message):
        call()


def test_lists_are_matrices_too():
    labels = {"query_vehicles": ["a"], "gallery_vehicles": ["a", "b"]}
    assert library.evaluate_distances([[0.5, 1]], **labels).mean_ap == 1
    assert len(library.rank(FEATURES, FEATURES)["meanMCD50"].queries) == 2


def test_one_damaged_ranking_of_several_is_skipped_and_the_others_are_scored(vreid: Vreid):
    vreid(*COMMON)
    vreid("rank", "--metric", "minMED,minMCD,meanMCD")
    damaged = RUN / "rankings" / "t2t-minMCD.parquet"
    damaged.write_bytes(damaged.read_bytes()[:300])
    report = vreid.json("evaluate")
    assert [Path(one["ranking"]).stem for one in report["results"]] == ["t2t-meanMCD", "t2t-minMED"]
    assert [one["ranking"] for one in report["skipped"]] == [str(damaged)]
    assert f"skipped: {damaged} is damaged" in vreid.err
    assert vreid.error("evaluate", damaged)["hint"] == "make it again with vreid rank --force"


def test_names_cannot_act_in_a_terminal(vreid: Vreid):
    Path("data/gallery/0009_c001").rename("data/gallery/0009_c001_\x1b[31mred\x9b2J\u202e")
    Path("data/gallery/0009_c001_\x1b[31mred\x9b2J\u202e/bad.png").touch()
    vreid(*COMMON)
    assert "0009_c001_\\x1b[31mred\\x9b2J\\u202e" in vreid.err
    told = vreid.err
    vreid("rank")
    told += vreid("show", "0001_c001", "--top", "9")
    assert "0009_c001_\\x1b[31mred" in told
    told += vreid("show", "0001_c001", "--top", "9", "--json")
    assert not {"\x1b", "\x9b"} & set(told)
    assert json.loads(vreid.out)["queries"][0]["nearest"][-1]["gallery_id"]


def test_quiet_leaves_out_what_is_no_result(vreid: Vreid):
    told = vreid(*COMMON, "--quiet") + vreid("rank", "--quiet")
    assert "next:" not in told
    assert "images per second" not in told
    assert "run: runs/" in told


def test_a_missing_folder_is_told_before_torch_is_imported(tmp_path: Path):
    code = "import sys; from vreid_cli.cli.app import run; run(['extract', '--data-dir', 'none']); print(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "there is no folder none" in done.stderr
    assert "'torch'" not in done.stdout


@pytest.mark.parametrize(
    ("box", "used"), [("0,0,1000000000,1000000000", False), ("20,20,30,30", False), ("-4,-4,20,20", True)]
)
def test_a_box_that_lies_by_more_than_half_outside_its_frame_is_skipped(vreid: Vreid, box: str, used: bool):
    rows = f"data/gallery/0001_c002/0.png,a,{box}\ndata/gallery/0001_c002/1.png,a,0,0,9,9\n"
    report = vreid.json(*manifest(f"path,track,x,y,w,h\n{rows}"))
    assert (report["skipped"] == []) is used
    assert used or "outside the frame of 36 x 30 pixels" in report["skipped"][0]["reason"]


def test_what_is_too_large_is_named_on_the_side_that_holds_it(vreid: Vreid):
    Path("large.json").write_text(json.dumps({"a": [[1e38] * 40]}))
    Path("small.json").write_text(json.dumps({"a": [[1.0] * 40]}))
    for query, gallery in (("large.json", "small.json"), ("small.json", "large.json")):
        command = ("rank", "--metric", "meanMED", "-o", "r.json", "--query-features", query)
        assert vreid.error(*command, "--gallery-features", gallery)["file"] == "large.json"


def test_hints_name_the_command_whose_help_they_mean(vreid: Vreid):
    assert vreid.json("rank", "--foo", code=2)["error"]["hint"] == "see vreid rank --help"
    assert vreid.error("rank", "--top-k", "0", code=2)["hint"].startswith("vreid rank --help tells")
    assert vreid.json("export", "features", "--foo", code=2)["error"]["hint"] == "see vreid export features --help"


def test_an_interruption_while_the_program_starts_is_told(program, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vreid", "info", "--json"])
    monkeypatch.setitem(sys.modules, "vreid_cli.cli.app", _Interrupting("vreid_cli.cli.app"))
    with pytest.raises(SystemExit) as ended:
        program()
    told = capsys.readouterr()
    assert (ended.value.code, "Traceback" in told.err) == (130, False)
    assert json.loads(told.out)["error"]["message"] == "interrupted"


class _Interrupting(types.ModuleType):
    def __getattr__(self, name: str) -> object:
        raise KeyboardInterrupt
