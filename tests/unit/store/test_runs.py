"""The run directory: who writes to it, what is kept in it, and how it is found."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vreid_cli.errors import StoreError
from vreid_cli.store.runs import HistoryEntry, RunDirectory, latest_run, owning_run, rankings_in


def refusal(action: Callable[[], object]) -> StoreError:
    with pytest.raises(StoreError) as caught:
        action()
    return caught.value


def test_lock_refuses_a_second_writer(tmp_path: Path):
    first, second = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "run")
    with first.locked():
        error = refusal(lambda: second.locked().__enter__())
        assert "another vreid" in error.message
        with RunDirectory(tmp_path / "other").locked():
            pass
    with second.locked():
        pass


def test_lock_holds_between_processes_and_dies_with_its_holder(tmp_path: Path):
    script = (
        "import sys, time; from pathlib import Path; from vreid_cli.store.runs import RunDirectory\n"
        "with RunDirectory(Path(sys.argv[1])).locked():\n    print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        run = RunDirectory(tmp_path / "run")
        refusal(lambda: run.locked().__enter__())
        holder.kill()
        holder.wait()
        with run.locked():
            pass


def test_lock_is_released_after_an_error(tmp_path: Path):
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(ValueError, match="inside"), run.locked():
        raise ValueError("inside")
    with run.locked():
        pass


def test_run_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        assert "cannot be written to" in refusal(lambda path=path: RunDirectory(path).locked().__enter__()).message


def test_info_is_left_alone_where_nothing_changed(tmp_path: Path):
    run = RunDirectory(tmp_path)
    assert "no run directory" in refusal(run.read_info).message
    run.write_info({"dataset": "veri", "seed": 3})
    before = run.info_path.stat().st_mtime_ns, run.info_path.stat().st_ino
    run.write_info({"seed": 3, "dataset": "veri"})
    assert (run.info_path.stat().st_mtime_ns, run.info_path.stat().st_ino) == before
    run.write_info({"dataset": "tracks"})
    assert run.read_info() == {"dataset": "tracks"}


def test_latest_run_can_be_moved(tmp_path: Path):
    runs = tmp_path / "runs"
    assert latest_run(runs) is None
    run = RunDirectory(runs / "one")
    run.write_info({})
    run.mark_latest(runs)
    assert (runs / "latest").read_text() == "one\n"
    found = latest_run(runs)
    assert found is not None
    assert found.path == runs / "one"
    runs.rename(tmp_path / "moved")
    found = latest_run(tmp_path / "moved")
    assert found is not None
    assert found.path == tmp_path / "moved" / "one"
    (tmp_path / "moved" / "one" / "run.json").unlink()
    assert latest_run(tmp_path / "moved") is None


def test_latest_run_outside_of_runs(tmp_path: Path):
    run = RunDirectory(tmp_path / "elsewhere" / "one")
    run.write_info({})
    run.mark_latest(tmp_path / "runs")
    found = latest_run(tmp_path / "runs")
    assert found is not None
    assert found.path.resolve() == run.path.resolve()


def test_history_is_read_as_it_was_written(tmp_path: Path):
    run = RunDirectory(tmp_path)
    assert run.read_history() == ([], 0)
    run.append_history(["vreid", "extract", "--data-dir", "my é"], version="1", exit_code=0)
    with run.history_path.open("a") as file:
        file.write('{"command": []\n[]\n\n{"command": ["vreid"], "time": 5, "exit_code": "x"}\n')
    (first, second), damaged = run.read_history()
    assert (first.command, first.version, first.exit_code) == ("vreid extract --data-dir 'my é'", "1", 0)
    assert first.time is not None
    assert first.folder == str(Path.cwd())
    assert second == HistoryEntry(("vreid",))
    assert damaged == 2


def test_splits_are_those_with_a_folder(tmp_path: Path):
    run = RunDirectory(tmp_path)
    assert run.extracted_splits() == []
    run.features("gallery").path.mkdir(parents=True)
    assert run.extracted_splits() == ["gallery"]
    assert run.features("gallery").path == tmp_path / "features" / "gallery"


def test_the_run_that_a_ranking_lies_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = RunDirectory(tmp_path / "run")
    run.write_info({})
    for name in ("b.parquet", "a.json", "notes.txt"):
        path = run.rankings / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (run.path / "copy.parquet").touch()
    assert rankings_in(run.rankings) == [run.rankings / "a.json", run.rankings / "b.parquet"]
    for stray in (run.path / "copy.parquet", run.path / "exports" / "copy.parquet"):
        assert owning_run(stray) is None
    for folder, path in (
        (tmp_path, "run/rankings/a.json"),
        (run.path, "rankings/a.json"),
        (run.rankings, "a.json"),
    ):
        monkeypatch.chdir(folder)
        found = owning_run(Path(path))
        assert found is not None
        assert found.path.resolve() == run.path.resolve()
    run.info_path.unlink()
    assert owning_run(run.rankings / "a.json") is None
