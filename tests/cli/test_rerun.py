"""``vreid rerun``: a history runs again elsewhere, and every file is compared."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from faults import contents, make_world
from tiny import Vreid

from vreid_cli.cli.app import run
from vreid_cli.store import differences
from vreid_cli.store.differences import Difference, difference
from vreid_cli.workflows import rerun

RUN = Path("runs/r")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_world(folder)
        assert run(["show", "0001_c001", "--top", "2", "-o", "sheet.png", "--quiet"]) == 0
    return folder


@pytest.fixture(autouse=True)
def in_this_process(world: Path, vreid: Vreid, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of a history run here, where torch is imported already."""

    def program(words: Sequence[str], folder: Path) -> tuple[int, str]:
        before = Path.cwd()
        os.chdir(folder)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                return run(list(words)), "error: as said"
        finally:
            os.chdir(before)

    monkeypatch.setattr(rerun, "run_program", program)
    monkeypatch.chdir(world)


def test_the_same_commands_make_the_same_bytes_and_leave_the_run_as_it_is(vreid: Vreid, world: Path, tmp_path: Path):
    before = contents(world)
    report = vreid.json("rerun", RUN, "--output", tmp_path / "again", "--quiet")
    assert contents(world) == before
    assert Path("runs/latest").read_text() == "r\n"
    assert report["but_for"] == {f"evaluations/t2t-{metric}.json": ["paths"] for metric in ("meanMCD50", "minMED")}
    assert report["close"] == list(report["but_for"])
    assert {"features/query/part-00000.arrow", "rankings/t2t-minMED.parquet", "identities/meanMCD50.csv"} <= set(
        report["same"]
    )
    assert (tmp_path / "again/elsewhere/sheet.png").read_bytes() == Path("sheet.png").read_bytes()
    assert report["commands"] == len((RUN / "history.jsonl").read_text().splitlines())


def test_a_run_that_was_moved_runs_again(vreid: Vreid, world: Path, tmp_path: Path):
    shutil.copytree(RUN, tmp_path / "moved")
    told = vreid("rerun", tmp_path / "moved", "--quiet")
    assert "files are the same, byte for byte" in told
    assert "2 are the same but for paths: evaluations/t2t-meanMCD50.json, evaluations/t2t-minMED.json" in told
    assert (tmp_path / "moved-rerun").is_dir()


def test_what_differs_is_named(vreid: Vreid, world: Path, tmp_path: Path):
    run_dir = tmp_path / "changed"
    shutil.copytree(RUN, run_dir)
    path = run_dir / "evaluations/t2t-minMED.json"
    content = json.loads(path.read_text())
    content["results"][0]["mAP"] = 0.125
    path.write_text(json.dumps(content))
    (run_dir / "rankings/t2t-meanMCD50.parquet").rename(run_dir / "rankings/mine.parquet")
    vreid("rerun", run_dir, "--output", tmp_path / "again", "--quiet", code=1)
    assert "2 of" in vreid.err
    assert "evaluations/t2t-minMED.json: results[0].mAP is 1.0, not 0.125" in vreid.err
    assert "rankings/mine.parquet: it was not made again" in vreid.err


def test_what_cannot_be_run_again_is_said(vreid: Vreid, world: Path, tmp_path: Path):
    run_dir = tmp_path / "run"
    shutil.copytree(RUN, run_dir)
    assert "is there already" in vreid.error("rerun", run_dir, "--output", RUN)["message"]
    line = {"command": ["vreid", "rank", "--metric", "nonsense"], "folder": str(world)}
    (run_dir / "history.jsonl").write_text(json.dumps(line))
    vreid("rerun", run_dir, code=1)
    assert "vreid rank --metric nonsense failed with exit code" in vreid.err
    (run_dir / "history.jsonl").write_text(json.dumps({**line, "folder": str(tmp_path / "gone")}))
    assert "which is gone" in vreid.error("rerun", run_dir)["message"]
    (run_dir / "history.jsonl").unlink()
    assert "has no history" in vreid.error("rerun", run_dir)["message"]


@pytest.mark.parametrize("name", ["part-00000.arrow", "feat_query.npz", "ranking.json", "t2t-minMED.parquet"])
def test_numbers_that_differ_by_rounding_are_the_same(world: Path, tmp_path: Path, name: str):
    original = next(world.rglob(name))
    assert difference(original, original) is None
    shutil.copy(original, tmp_path / name)
    if name == "ranking.json":
        (tmp_path / name).write_text(original.read_text().replace("0.0", "0.00000000001", 1))
        assert difference(original, tmp_path / name) == Difference(None, ("rounding",))
        content = json.loads(original.read_text())
        next(iter(content["tracks"].values()))["ranking"]["1"]["id"] = "somebody else"
        (tmp_path / name).write_text(json.dumps(content))
        assert difference(original, tmp_path / name).harmful
    (tmp_path / name).write_bytes(b"{}")
    assert difference(original, tmp_path / name).harmful


def test_threads_batches_and_blocks_change_numbers_by_rounding_at_most(
    vreid: Vreid, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # Half of it counts from the number itself and half from the largest one: 1e-6 in all, as the contract says.
    monkeypatch.setattr(differences, "ROUNDING", 5e-7)
    threads = torch.get_num_threads()
    names = {}
    for name, count, more in (("one", 1, ()), ("two", 2, ("--set", "runtime.memory_budget_mb=1"))):
        torch.set_num_threads(count)
        try:
            run_dir = ("--run-dir", tmp_path / name)
            batch = ("--batch-size", 3 if more else 8)
            vreid("extract", "--dataset", "tracks", "--data-dir", "data", *run_dir, *batch, *more)
            vreid("rank", *run_dir, "--metric", "meanMCD50,RSCR", *more)
            vreid("evaluate", *run_dir)
        finally:
            torch.set_num_threads(threads)
        names[name] = sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*.*"))
    compared = [name for name in names["one"] if name.suffix in (".arrow", ".parquet") and name.name != "plan.parquet"]
    assert len(compared) == 4
    assert names["one"] == names["two"]
    for name in compared:
        found = difference(tmp_path / "one" / name, tmp_path / "two" / name)
        assert found is None or found.harmful is None, name
