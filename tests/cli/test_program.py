"""The program as a whole: the console script, settings and where they came from, and its streams."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from processes import in_process_of_its_own
from tiny import EXTRACT, Vreid, draw_tracks

from vreid_cli.workflows.session import RunChoice


@pytest.mark.slow
def test_smoke_extract(made: Path, weights: Path, tmp_path: Path) -> None:
    done = in_process_of_its_own(*EXTRACT, "--data-dir", made / "data", "--weights", weights, "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["outputs"] == [
        f"runs/tracks-resnet18-tiny/features/{split}" for split in ("query", "gallery")
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("ready")
def test_smoke_rank_then_evaluate_then_show_then_info_then_export(tmp_path: Path) -> None:
    # Found before the real one, which takes long to import; Arrow does that in passing, and hides what goes wrong.
    pandas = tmp_path / "pandas.py"
    pandas.write_text("open('imported', 'w')")
    rank = in_process_of_its_own("rank", cwd=tmp_path)
    assert "4 queries against 7 gallery items" in rank.stdout
    assert "run: runs/tracks-resnet18-tiny (named by runs/latest)" in rank.stderr
    evaluate = in_process_of_its_own("evaluate", "--json", cwd=tmp_path)
    assert json.loads(evaluate.stdout)["results"][0]["total_queries"] == 4
    show = in_process_of_its_own("show", "0001_c001", cwd=tmp_path)
    assert "0001_c002" in show.stdout
    info = in_process_of_its_own("info", cwd=tmp_path)
    assert "t2t-meanMCD50" in info.stdout
    assert not (tmp_path / "imported").exists()
    pandas.unlink()
    export = in_process_of_its_own("export", "features", "--format", "npz", cwd=tmp_path)
    assert "feat_query.npz" in export.stdout


PROGRAM = """
import atexit, os, sys, threading
from vreid_cli import __main__ as vreid

class Kept:
    def __del__(self):
        os.write(2, b"taken apart")

def main():
    threading.Thread(target=lambda: (threading.main_thread().join(), print("a thread ends"))).start()
    atexit.register(print, "atexit")
    {}

kept = Kept()
vreid.main = main
vreid.program()
"""


def ended(by: str) -> subprocess.CompletedProcess[str]:
    """A process of the program, whose work ends by this statement; what it prints is kept until it ends."""
    command, environment = [sys.executable, "-c", PROGRAM.format(by)], {**os.environ, "PYTHONUNBUFFERED": ""}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("by", "code", "told"),
    [
        ("sys.exit(0)", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("raise RuntimeError", 1, "RuntimeError\ntaken apart"),  # a bug: Python's own end
        ("sys.exit('words')", 1, "words\ntaken apart"),
    ],
)
def test_the_process_ends_at_once_when_all_is_done(by: str, code: int, told: str) -> None:
    done = ended(by)
    assert done.returncode == code
    assert done.stdout == "a thread ends\natexit\n"
    assert done.stderr.endswith(told)
    assert ("taken apart" in done.stderr) == bool(told)


def test_output_that_nobody_takes_is_told_when_the_process_ends() -> None:
    done = ended("os.close(1); sys.exit(0)")
    assert done.returncode == 120
    assert "Bad file descriptor" in done.stderr


MISTAKEN = """
import signal
from vreid_cli import __main__ as vreid
from vreid_cli.cli import app

def run(arguments):
    try:
        {}
    except KeyboardInterrupt:
        raise ValueError("a class cannot be built") from None

app.run = run
vreid.program()
"""


@pytest.mark.parametrize(
    ("by", "code", "told"),
    [
        ("signal.raise_signal(signal.SIGINT)", 130, "interrupted"),
        ("raise KeyboardInterrupt  # nobody pressed anything", 1, "ValueError: a class cannot be built"),
    ],
)
def test_ctrl_c_that_compiled_code_takes_for_an_error_is_an_interruption(by: str, code: int, told: str) -> None:
    done = subprocess.run([sys.executable, "-c", MISTAKEN.format(by)], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert told in done.stderr
    assert ("Traceback" in done.stderr) == (code == 1)


#: What ``os`` has on POSIX alone, as far as a program like this could come to use it.
ONLY_POSIX = [
    *("chown", "fork", "getegid", "geteuid", "getgid", "getloadavg", "getpgid", "getpgrp", "getpriority", "getuid"),
    *("initgroups", "killpg", "lchown", "mkfifo", "mknod", "nice", "posix_fadvise", "pread", "pwrite", "sendfile"),
    *("sched_getaffinity", "sched_yield", "setpgid", "setsid", "statvfs", "sync", "sysconf", "uname", "wait3", "wait4"),
]


def test_the_main_path_needs_nothing_that_only_posix_has(
    vreid: Vreid, made: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ONLY_POSIX:
        monkeypatch.delattr(os, name, raising=False)
    vreid(*EXTRACT, "--data-dir", made / "data", "--weights", weights)
    vreid("rank")
    vreid("evaluate")
    vreid("show", "--output", "page.html")
    vreid("info")
    assert Path("page.html").stat().st_size > 10_000


@pytest.mark.slow
def test_smoke_demo_settings(tmp_path: Path) -> None:
    done = in_process_of_its_own("demo", "--show-config", "--epochs", "3", cwd=tmp_path)
    assert "epochs = 3" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--show-config"], ["--json", "--show-config"], ["--json", "--task", "x"]])
@pytest.mark.usefixtures("ready")
def test_a_reader_that_stops_reading_is_no_error(tmp_path: Path, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "vreid_cli", "rank", *arguments]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        told = process.stderr.read().decode()
    assert "Traceback" not in told
    assert "BrokenPipe" not in told


@pytest.mark.shared
def test_the_real_sample_goes_all_the_way(vreid: Vreid, weights: Path, shared: Path) -> None:
    run = ("--run-dir", "run")
    vreid(*EXTRACT, "--data-dir", shared / "reference/image_sample", "--weights", weights, *run)
    vreid("rank", *run)
    result = vreid.json("evaluate", *run)["results"][0]
    assert (result["valid_queries"], result["total_queries"], result["positives"], result["junk"]) == (4, 4, 4, 0)
    assert vreid.json("show", *run, "-o", "sheet.png")["warnings"] == []
    assert Image.open("sheet.png").width > 600


def test_each_setting_says_where_it_came_from(vreid: Vreid, ready: Path, made: Path, weights: Path) -> None:
    Path("vreid.toml").write_text('[rank]\ntask = "i2t"\ntop_k = 9\ncameras = "other"\n')
    shown = vreid.json("rank", "--show-config", "--set", "rank.top_k=8", "--definition", "paper")
    assert shown["config"]["rank"]["task"] == "i2t"
    assert shown["config"]["rank"]["top_k"] == 8
    assert shown["config"]["data"]["data_dir"] == str(made / "data")
    sources = shown["sources"]
    assert (
        sources.items()
        >= {
            "rank.task": "vreid.toml",
            "rank.top_k": "--set",
            "rank.definition": "command line",
            "rank.metric": "default",
            "model.weights": f"{ready}/run.json",
        }.items()
    )
    Path("other.toml").write_text("[run]\nseed = 5\n")
    sources = vreid.json("rank", "--show-config", "--config", "other.toml")["sources"]
    assert (sources["run.seed"], sources["rank.task"]) == ("other.toml", "default")
    sources = vreid.json("extract", "--show-config", "--config", "own-tracks")["sources"]
    assert sources["model.weights"].endswith("own-tracks.toml")
    # It can be saved and used as it is.
    Path("saved.toml").write_text(vreid("rank", "--show-config"))
    saved = vreid.json("rank", "--show-config", "--config", "saved.toml")["config"]
    assert saved == vreid.json("rank", "--show-config")["config"]
    assert not (ready / "rankings").exists()


@pytest.mark.usefixtures("ready")
def test_a_file_is_strict_and_its_errors_name_it(vreid: Vreid) -> None:
    Path("vreid.toml").write_text("[rank]\ntop_k = true\n")
    error = vreid.error("rank")
    assert error["message"] == "vreid.toml: rank.top_k = true: needs a whole number"
    assert error["file"] == "vreid.toml"
    Path("vreid.toml").write_text("[rank]\nmetrics = []\n")
    assert "did you mean 'metric'?" in vreid.error("rank")["hint"]
    assert "there is no preset 'veri'" in vreid.error("rank", "--config", "veri")["message"]
    assert "there is no configuration file" in vreid.error("rank", "--config", "a/b")["message"]


def test_quiet_says_nothing_but_the_result_and_verbose_says_more(vreid: Vreid, ready: Path, made: Path) -> None:
    again = ("extract", "--run-dir", ready)
    vreid(*again)
    usual = vreid.err
    vreid(*again, "--quiet")
    assert vreid.err == ""
    assert "nothing to compute" in vreid.out
    vreid(*again, "--verbose")
    assert len(vreid.err) > len(usual)


def test_wrong_usage_as_json_is_one_object_too(vreid: Vreid) -> None:
    for arguments in (["rnk"], ["rank", "--foo"], [], ["rank", "--top-k"], ["rank", "surplus"], ["export", "feature"]):
        assert vreid.json(*arguments, code=2)["error"]["message"]


def test_a_terminal_without_the_letters_loses_nothing(vreid: Vreid, weights: Path, tmp_path: Path) -> None:
    draw_tracks(Path("data"), {"query/車": 1, "gallery/über": 1})
    vreid(*EXTRACT, "--data-dir", "data", "--weights", weights)
    vreid("rank")
    command = [sys.executable, "-m", "vreid_cli", "show"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for more in ([], ["--json"]):
        done = subprocess.run([*command, *more], cwd=tmp_path, env=environment, capture_output=True, check=True)
        assert b"\\u8eca" in done.stdout
    assert json.loads(done.stdout)["queries"][0]["query_id"] == "車"


def test_to_look_at_results_nobody_waits_for_torch() -> None:
    modules = ", ".join(f"vreid_cli.workflows.{name}" for name in ("info", "evaluate", "show"))
    code = f"import {modules}, sys; print(sorted({{'torch', 'scipy', 'matplotlib'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.usefixtures("vreid")
def test_garbage_is_collected_from_when_work_begins(
    program: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look(*_: object) -> RunChoice:
        seen.append((gc.isenabled(), gc.get_freeze_count() > 0))
        return RunChoice()

    monkeypatch.setattr("vreid_cli.workflows.info.choose_run", look)  # before: modules are still imported
    monkeypatch.setattr("vreid_cli.workflows.info.info", lambda session: look() and None)
    monkeypatch.setattr(sys, "argv", ["vreid", "info"])
    with pytest.raises(SystemExit):
        program()
    assert seen == [(False, False), (True, True)]
