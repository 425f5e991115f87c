"""The fault table: every command, every file that it reads, and everything that can be wrong with that.

Each case ends with a named error and exit code 1, or with a result that names what was left out; never with a
traceback, and nothing that was there is harmed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults import (
    ANY,
    IMAGE,
    JSON,
    NPZ,
    NUMBERS,
    TEXT,
    TWICE,
    VERSION,
    VIDEO,
    Damage,
    adding,
    contents,
    make_world,
    renew,
    replacing,
)

from vreid_cli.cli.app import run

RUN = Path("runs/r")
FROM_JSON = ("rank", "--query-features", "feat_query.json", "--gallery-features", "feat_test.json", "-o", "new.parquet")
FROM_NPZ = ("rank", "--query-features", "feat_query.npz", "--gallery-features", "feat_test.npz", "-o", "new.json")
FROM_LANCE = ("rank", "--query-features", "feat_query.json", "--gallery-features", "feat_test.lancedb", "-o", "l.json")
CANDIDATES = ("rank", "--candidates", "3", "--force")
CSV_SET = ("extract", "--dataset", "csv", "--data-dir", "cars.csv", "--run-dir", "runs/new")
AGAIN = ("extract", "--dataset", "tracks", "--data-dir", "data", "--run-dir", "runs/r")
NEW = ("extract", "--dataset", "tracks", "--data-dir", "data", "--run-dir", "runs/new")


@dataclass(frozen=True)
class Row:
    """A command, a file that it reads, and what may be wrong with that file.

    Attributes:
        command: The command.
        file: The file, or a pattern of the name where other programs choose it.
        damages: What is wrong, by name.
        unknowable: Damages that nobody can know of, such as a file that is not there where any file may be.
        named: What is named instead of the file.
        works: Whether the command succeeds where nothing is wrong; else it would take too long to.
    """

    command: tuple[str, ...]
    file: str
    damages: Mapping[str, Damage]
    unknowable: tuple[str, ...] = ()
    named: str | None = None
    works: bool = True


def part(split: str) -> str:
    return f"runs/r/features/{split}/part-00000.arrow"


def lists(dataset: str, folder: str, split: str = "gallery") -> tuple[str, ...]:
    return ("extract", "--dataset", dataset, "--data-dir", folder, "--split", split, "--run-dir", "runs/new")


#: PIL reads past some damage, and takes an image for what it is whatever its name.
PIXELS = ("flipped bits", "of another kind")
ASSOCIATE = ("associate", "--threshold", "0.01", "--force", "--clocks", "clocks.toml")
LABELLED = ("associate", "--labelled", "feat_test.json", "--false-match-rate", "0.5")
LAST = "runs/trained/checkpoints/last.safetensors"
SHEET = ("show", "--set", "show.max_queries=1", "-o")

ROWS = (
    # -- settings
    Row(("rank", "--force"), "vreid.toml", TEXT, ("missing", "empty", "unreadable", "a folder")),
    Row(("rank", "--force", "--config", "./vreid.toml"), "vreid.toml", TEXT, ("empty",)),
    # -- images and networks
    Row(NEW, "net.onnx", ANY),
    Row(NEW, IMAGE, ANY, ("missing", *PIXELS)),
    Row(CSV_SET, IMAGE, ANY, PIXELS),
    Row((*SHEET, "sheet.png"), IMAGE, {name: ANY[name] for name in ("missing", "cut short", "a folder")}),
    Row((*SHEET, "page.html"), IMAGE, ANY, PIXELS),
    Row(("export", "model", "--weights", LAST), LAST, ANY, works=False),
    # -- lists of images
    Row(
        CSV_SET,
        "cars.csv",
        {
            **TEXT,
            "an id twice": replacing("\n", "\ndata/query/0001_c001/0001_c001_00000010_0.png,query,other,0009\n"),
            "no such column": replacing("path", "file"),
            "a column twice": replacing("split", "path"),
        },
    ),
    Row(lists("veri", "veri"), "veri/name_test.txt", {**TEXT, **TWICE}),
    Row(lists("veri", "veri", "query"), "veri/name_query.txt", TEXT),
    Row(
        lists("veri", "veri"),
        "veri/test_track.txt",
        {**TEXT, **TWICE, "an image in two tracks": adding("0001_c002_t2 0001_c002_00000020_0.jpg")},
        named="no listed track",
    ),
    Row(lists("vric", "vric"), "vric/vric_gallery.txt", {**TEXT, **TWICE, "two vehicles": adding("a.jpg 13 3")}),
    Row(lists("veri-wild", "wild"), "wild/train_test_split/test_3000.txt", {**TEXT, **TWICE}),
    Row(
        lists("veri-wild", "wild"),
        "wild/train_test_split/vehicle_info.txt",
        {**TEXT, **TWICE, "two cameras": adding("00001/000001;9;2018")},
    ),
    Row(
        lists("vehicleid", "vehicleid"),
        "vehicleid/train_test_split/test_list_800.txt",
        {**TEXT, **TWICE, "two vehicles": adding("0000001 8")},
    ),
    Row(lists("aicity", "aicity"), "aicity/test_track.txt", {**TEXT, **TWICE}, named="no listed track"),
    Row(
        lists("aicity", "aicity", "train"),
        "aicity/train_label.xml",
        {**TEXT, "two vehicles": replacing("</Items>", '<Item imageName="000001.jpg" vehicleID="2" /></Items>')},
    ),
    Row(
        lists("mot", "scene"),
        "scene/c1/mtsc/sort.txt",
        {**TEXT, **TWICE, **NUMBERS, "a frame of 30 digits": replacing("^1", "9" * 30)},
        named="left out",
    ),
    Row(lists("mot", "labels"), "labels/c1/labels/c1_1.txt", {**TEXT, **TWICE, **NUMBERS}, named="left out"),
    Row(lists("mot", "otc"), "otc/c1/c1.ottrk", ANY),
    Row(lists("mot", "film"), "film/c1/vdo.avi", VIDEO, ("flipped bits",), named="neither a video"),
    Row(lists("mot", "scene"), "scene/c1/seqinfo.ini", ANY),
    Row(lists("mot", "scene"), "scene/c1/img1/000001.jpg", ANY, PIXELS),
    # -- what a run holds
    Row(AGAIN, "runs/r/run.json", {**JSON, **VERSION}),
    Row(AGAIN, "runs/r/features/gallery/plan.parquet", ANY),
    Row(AGAIN, part("gallery"), ANY),
    Row(AGAIN, "runs/r/features/gallery/complete.json", {**ANY, **VERSION}),
    Row(AGAIN, "runs/r/features/gallery/skipped.csv", ANY),
    Row(AGAIN, "runs/r/history.jsonl", ANY),
    Row(AGAIN, "runs/latest", ANY),
    Row(("rank", "--force"), "runs/r/run.json", {**JSON, **VERSION}),
    Row(("rank", "--force"), part("query"), ANY),
    Row(("rank", "--force"), "runs/r/features/gallery/complete.json", {**JSON, **VERSION}),
    Row(("rank", "--force"), "runs/latest", TEXT),
    Row(("rank",), "runs/r/rankings/t2t-meanMCD50.parquet", ANY),
    Row(("rank", "--force"), "runs/r/calibrations/t2t-meanMCD50.json", {**JSON, **VERSION, **NUMBERS}, ("missing",)),
    Row(("rank", "--fuse", "minMED", "meanMCD50"), "runs/r/rankings/t2t-minMED.parquet", ANY),
    # -- features from elsewhere
    Row(FROM_JSON, "feat_query.json", {**JSON, **NUMBERS}),
    Row(FROM_JSON, "feat_test.json", {**JSON, **NUMBERS}),
    Row(FROM_NPZ, "feat_test.npz", NPZ),
    Row(FROM_LANCE, "feat_test.lancedb/features.lance/data/*.lance", ANY, named="feat_test.lancedb"),
    Row(FROM_LANCE, "feat_test.lancedb/features.lance/_versions/*.manifest", ANY, named="feat_test.lancedb"),
    # -- indexes
    Row(CANDIDATES, "runs/r/index/cosine.json", {**JSON, **VERSION}),
    Row(CANDIDATES, "runs/r/index/cosine-1.faiss", ANY),
    Row(("index",), "runs/r/index/cosine.json", {**JSON, **VERSION}, ("missing", "unreadable")),
    Row(("index",), "runs/r/index/cosine-1.faiss", ANY),
    Row(("info", "--verify"), "runs/r/index/cosine-1.faiss", ANY),
    # -- scores
    Row(("evaluate",), "runs/r/rankings/t2t-minMED.parquet", ANY, ("missing",)),
    Row(("evaluate", "runs/r/rankings/t2t-minMED.parquet"), "runs/r/rankings/t2t-minMED.parquet", ANY),
    Row(
        ("evaluate", "ranking.json"),
        "ranking.json",
        {
            **JSON,
            **NUMBERS,
            "an item twice": replacing('"id": "0002_c002"', '"id": "0001_c002"'),
            "two vehicles": replacing('"class": "0002"', '"class": "0003"'),
            "a rank of 30 digits": replacing('"2":', f'"{"9" * 30}":'),
        },
    ),
    Row(("evaluate",), "runs/r/identities/meanMCD50.parquet", ANY, ("missing",)),
    Row(("evaluate", "runs/r/identities/meanMCD50.csv"), "runs/r/identities/meanMCD50.csv", TEXT),
    Row(("evaluate",), "runs/r/run.json", {**ANY, **VERSION}),
    Row(
        ("evaluate", "--truth", "reviewed.csv"),
        "reviewed.csv",
        {**TEXT, "a pair in two ways": replacing("$", "0001_c001,0001_c002,different\n")},
    ),
    Row(("calibrate",), "runs/r/rankings/t2t-meanMCD50.parquet", ANY, ("missing",)),
    # -- what is shown
    Row(("show",), "runs/r/rankings/t2t-meanMCD50.parquet", ANY, ("missing",)),
    Row(("show", "0001_c001", "--match", "0001_c002"), part("gallery"), ANY),
    Row(("show", "--identities"), "runs/r/identities/meanMCD50.parquet", ANY),
    # -- identities
    Row(ASSOCIATE, part("gallery"), ANY),
    Row((*ASSOCIATE, "--travel-times", "ways.csv"), "ways.csv", {**TEXT, **NUMBERS}),
    Row(ASSOCIATE, "clocks.toml", TEXT, ("empty",)),
    Row((*LABELLED, "--force"), "feat_test.json", ANY, works=False),
    Row(ASSOCIATE[:-3], "runs/r/identities/meanMCD50.parquet", ANY),
    # -- exports
    Row(("export", "features", "--force"), part("query"), ANY),
    # -- what a run says of itself
    Row(("info",), "runs/r/run.json", {**JSON, **VERSION}),
    Row(("info",), "runs/r/history.jsonl", ANY, ("missing", "empty", "cut short")),
    Row(("info",), "runs/r/features/gallery/plan.parquet", ANY),
    Row(("info", "--verify"), part("gallery"), ANY, named="complete.json says"),
    Row(("info",), "runs/r/rankings/t2t-minMED.parquet", ANY, ("missing",)),
    Row(("info",), "runs/r/evaluations/t2t-minMED.json", {**ANY, **VERSION}, ("missing",)),
    Row(("info", "runs/trained"), LAST, ANY, ("missing",)),
    # -- training
    Row(("train", "--resume", "runs/trained"), "runs/trained/checkpoints/resume.safetensors", ANY, works=False),
)


# -- what must hold -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Where the world is, and what it was at the beginning."""
    world, pristine = tmp_path_factory.mktemp("world"), tmp_path_factory.mktemp("kept") / "pristine"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world)
        make_world(world)
    shutil.copytree(world, pristine)
    return world, pristine


class Bench:
    """Runs the command of a row in a world that is new each time."""

    def __init__(self, row: Row, worlds: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
        self.row, self.capsys = row, capsys
        self.world, self.pristine = worlds
        (self.file,) = (path.relative_to(self.pristine) for path in self.pristine.glob(row.file))

    def attempt(self, damage: Damage | None) -> tuple[int, str, str, dict[str, bytes], dict[str, bytes]]:
        """Exit code, stdout, stderr, and the files before and after."""
        renew(self.world, self.pristine)
        os.chdir(self.world)
        if damage is not None:
            damage(self.file)
        before = contents(self.world)
        self.capsys.readouterr()
        code = run([*self.row.command, "--json"])
        out, err = self.capsys.readouterr()
        return code, out, err, before, contents(self.world)

    def complaint(self, what: str, damage: Damage, usual: Mapping[str, bytes] | None, said: str) -> str | None:
        """What is wrong with how a damage was met; None where nothing is."""
        code, out, err, before, after = self.attempt(damage)
        named = any(name in err + out for name in (self.file.name, self.row.named) if name)
        if "Traceback" in err or code not in (0, 1):
            return f"exit code {code}: {err[-300:]}"
        if code == 1:
            error = json.loads(out)["error"]
            harmed = [name for name, content in before.items() if after.get(name) != content]
            if harmed:
                return f"harmed {harmed}"
            return None if error["hint"] and (named or error["file"]) else f"no hint or no name: {err}"
        del after, before
        if named and (err or self.row.command[0] == "info"):
            return None
        if what in self.row.unknowable:
            return None
        found = contents(self.world)
        found.pop(self.file.as_posix(), None)
        same = usual is not None and found == usual and (self.row.command[0] == "extract" or scrub(out) == said)
        return None if same else f"not a word: {err}"


def scrub(out: str) -> object:
    """What a command told, but for times."""
    return {key: value for key, value in json.loads(out).items() if key not in ("seconds", "history")}


@pytest.mark.parametrize("row", ROWS, ids=[f"{' '.join(row.command)} < {row.file}" for row in ROWS])
def test_whatever_is_wrong_with_a_file_is_told(
    row: Row, worlds: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(worlds[0])
    bench = Bench(row, worlds, capsys)
    usual, said = None, None
    if row.works:
        code, out, err, _, usual = bench.attempt(None)
        assert code == 0, err
        usual.pop(bench.file.as_posix(), None)
        said = scrub(out)
    complaints = {what: bench.complaint(what, damage, usual, said) for what, damage in row.damages.items()}
    assert {what: one for what, one in complaints.items() if one} == {}
