"""Two processes under torchrun extract what one does, also when one of them is killed and the command repeated."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import EXTRACT, TRACKS, draw_tracks, save_weights

from vreid_cli.cli.app import run

TESTS = Path(__file__).resolve().parent.parent
#: One process is killed as it is about to write its second part.
KILL = """
import os, signal
from vreid_cli.__main__ import program
from vreid_cli.store.features import FeatureStore
write_part, calls = FeatureStore.write_part, []
def write(self, *args, **options):
    calls.append(self)
    if os.environ["RANK"] == os.environ.get("KILL") and len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    write_part(self, *args, **options)
FeatureStore.write_part = write
program()
"""


def start(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command in two processes under torchrun."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launcher, "vreid.py", *arguments]
    paths = os.pathsep.join([str(TESTS / "support"), str(TESTS.parent)])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": paths, **more}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)


def content(run: Path) -> dict[str, bytes]:
    """All that a run's stores hold."""
    return {str(path.relative_to(run)): path.read_bytes() for path in (run / "features").rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_features_are_those_of_one_process_though_each_was_killed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vreid.py").write_text(KILL)
    draw_tracks(tmp_path / "data", TRACKS)
    save_weights(tmp_path / "tiny.safetensors")
    command = (*EXTRACT, "--data-dir", "data", "--weights", "tiny.safetensors", "--set", "extract.part_images=2")
    for killed in ("1", "0"):
        assert "exitcode  : -9" in start(tmp_path, *command, "--run-dir", "two", KILL=killed).stderr
        assert not (tmp_path / "two/features/gallery/complete.json").exists()
    done = start(tmp_path, *command, "--run-dir", "two", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"schema"') == 1, "one process speaks"
    monkeypatch.chdir(tmp_path)
    assert run([*command, "--run-dir", "one"]) == 0
    assert content(tmp_path / "two") == content(tmp_path / "one")
    assert sorted(path.name for path in (tmp_path / "two").glob(".*")) == [".lock"]
    assert len((tmp_path / "two/history.jsonl").read_text().splitlines()) == 1
