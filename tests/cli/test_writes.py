"""Every write of every command but extract: killed at it, refused by the system, or beside the same command in another
process, nothing is lost and all can go on.

Extraction has tests of its own: tests/cli/test_full_disk.py and tests/benchmarks/survival.py.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from extraction_bench import TINY
from faults import contents, make_world, renew
from kills import Killed
from safetensors.numpy import load_file
from tiny import Vreid

from vreid_cli.cli.app import run
from vreid_cli.models.backbones import BACKBONES
from vreid_cli.runtime import files
from vreid_cli.store.formats import read_ranking_facts
from vreid_cli.workflows import rank as workflow
from vreid_cli.workflows import training_files

COMMANDS = {
    "rank": ("rank", "--metric", "minMCD,meanMCD"),
    "rank again": ("rank", "--force"),
    "fuse": ("rank", "--fuse", "minMED", "meanMCD50"),
    "evaluate": ("evaluate", "--per-query", "scores.csv"),
    "calibrate": ("calibrate",),
    "associate": ("associate", "--threshold", "0.02", "--force"),
    "show": ("show", "-o", "page.html", "--set", "show.max_queries=1"),
    "export": ("export", "features", "--format", "npz"),
    "index": ("index", "--distance", "cosine,euclidean"),
    "network": ("export", "model", "--arch", "resnet18", "--weights", "random", "--to-hub-folder", "mine"),
}
#: These replace what they wrote before.
UNFORCED = ("evaluate", "calibrate", "show", "index")
TRAIN = (
    *("train", "--run-dir", "runs/t", "--dataset", "csv", "--data-dir", "train.csv", "--arch", "resnet18"),
    *("--weights", "random", "--epochs", "2", "--crop", "32", "--batch-size", "8", "--workers", "0", "--held-out", "0"),
)
DEMO = (
    *("demo", "--run-dir", "runs/d", "--epochs", "1", "--set", "demo.train_vehicles=2"),
    *("--set", "demo.test_vehicles=2", "--set", "demo.cameras=2", "--set", "demo.images_per_track=1"),
)
PutInPlace = Callable[[Path, Path], None]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    world, kept = tmp_path_factory.mktemp("world"), tmp_path_factory.mktemp("kept") / "pristine"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world)
        make_world(world)
    shutil.copytree(world, kept)
    return world, kept


class Writes:
    """Runs a command again and again in a world that is new each time, and does something at one of its writes.

    Attributes:
        written: The files that were written, in order.
    """

    def __init__(self, vreid: Vreid, places: tuple[Path, Path], patch: pytest.MonkeyPatch) -> None:
        self.vreid, self.written = vreid, list[Path]()
        self.world, self.kept = places
        self._at, self._act = 0, files.put_in_place
        self.put = files.put_in_place

        def put_in_place(temporary: Path, path: Path) -> None:
            self.written.append(path)
            (self._act if len(self.written) == self._at else self.put)(temporary, path)

        patch.setattr(files, "put_in_place", put_in_place)
        patch.chdir(self.world)

    def start(self, at: int = 0, act: PutInPlace = files.put_in_place, *, without: str = "") -> dict[str, bytes]:
        """A new world, without one file maybe, in which something will happen at this write; what it holds."""
        renew(self.world, self.kept)
        if without:
            Path(without).unlink()
        train = Path("cars.csv").read_text().replace(",query,", ",train,").replace(",gallery,", ",train,")
        Path("train.csv").write_text(train)
        self.again(at, act)
        return contents(self.world)

    def again(self, at: int = 0, act: PutInPlace = files.put_in_place) -> None:
        """Count from the beginning."""
        self.written.clear()
        self._at, self._act = at, act


@pytest.fixture
def writes(vreid: Vreid, pristine: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Writes:
    return Writes(vreid, pristine, monkeypatch)


def left(found: dict[str, bytes]) -> dict[str, bytes]:
    """Without what a killed process had not finished."""
    return {name: content for name, content in found.items() if ".tmp" not in name}


def die(temporary: Path, path: Path) -> None:
    """What a process leaves that has no time to tidy up, and half of it at that."""
    half = temporary.with_name(temporary.name.replace(f".{os.getpid()}.", ".1."))
    half.write_bytes(temporary.read_bytes()[: temporary.stat().st_size // 2])
    raise Killed(str(path))


@pytest.fixture
def _small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of two layers, so that all of a training or a demo takes a moment."""
    monkeypatch.setitem(BACKBONES, "resnet18", replace(TINY, name="resnet18"))


@pytest.mark.usefixtures("_small_network")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_killed_at_any_write_can_be_run_again(writes: Writes, name: str) -> None:
    command = COMMANDS[name]
    before = writes.start()
    writes.vreid(*command)
    count, wanted = len(writes.written), contents(writes.world)
    assert count

    for at in range(1, count + 1):
        writes.start(at, die)
        with pytest.raises(Killed):
            run([*command])
        for file, content in left(contents(writes.world)).items():
            assert content in (before.get(file), wanted[file]), (at, file)
        writes.again()
        writes.vreid(*again(name))
        assert left(contents(writes.world)) == wanted, (at, writes.written)


def again(name: str) -> tuple[str, ...]:
    """The command where its files may be there already."""
    command = COMMANDS[name]
    return command if "--force" in command or name in UNFORCED else (*command, "--force")


@pytest.mark.usefixtures("_small_network", "one_thread")
def test_a_training_that_is_killed_at_any_write_goes_on_to_the_same_network(
    writes: Writes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # To draw the curves takes longer than all the rest.
    monkeypatch.setattr(training_files, "plot_training", lambda path, history: files.write_text(path, f"{history}"))
    networks = [Path("runs/t/checkpoints", f"{name}.safetensors") for name in ("last", "best")]

    def trained() -> list[dict[str, bytes]]:
        return [{name: array.tobytes() for name, array in load_file(path).items()} for path in networks]

    writes.start(without="vreid.toml")
    writes.vreid(*TRAIN)
    count, wanted = len(writes.written), trained()
    assert count == 11  # the state before the first epoch, and five files after each
    for at in range(1, count + 1):
        writes.start(at, die, without="vreid.toml")
        with pytest.raises(Killed):
            run([*TRAIN])
        writes.again()
        writes.vreid(*(TRAIN if at == 1 else ("train", "--resume", "runs/t")))
        assert trained() == wanted, at
        assert len(Path("runs/t/log.csv").read_text().splitlines()) == 3
        assert not list(Path("runs/t").rglob(".*.tmp*")), at


@pytest.mark.usefixtures("_small_network", "one_thread")
def test_a_demo_that_is_killed_begins_anew(writes: Writes) -> None:
    writes.start()
    writes.vreid(*DEMO)
    written, wanted = [path.name for path in writes.written], without_times(contents(writes.world))
    for name in ("demo.json", "complete.json"):
        writes.start(written.index(name) + 1, die)
        with pytest.raises(Killed):
            run([*DEMO])
        writes.again()
        writes.vreid(*DEMO)
        assert without_times(left(contents(writes.world))) == wanted, name


def without_times(found: dict[str, bytes]) -> dict[str, bytes]:
    """Without the plans, which say when images were written."""
    return {name: content for name, content in found.items() if not name.endswith("plan.parquet")}


# -- two processes at once -----------------------------------------------------------------------------------


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs a command as another process would: under another number, between two steps of the first."""

    def start(*command: str) -> int:
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 1)
            return run([*command])

    return start


@pytest.mark.usefixtures("_small_network")
@pytest.mark.parametrize("name", ["rank again", "evaluate", "show", "export", "network"])  # associate waits
def test_the_same_command_twice_at_once_leaves_whole_files(
    writes: Writes, other: Callable[..., int], name: str
) -> None:
    writes.start()
    writes.vreid(*again(name))
    wanted, ended = contents(writes.world), []

    def meanwhile(temporary: Path, path: Path) -> None:
        ended.append(other(*again(name)))
        writes.put(temporary, path)

    writes.start(1, meanwhile)
    writes.vreid(*again(name))
    assert ended == [0]
    assert contents(writes.world) == wanted


@pytest.mark.usefixtures("_small_network", "one_thread")
@pytest.mark.parametrize("command", [TRAIN, DEMO], ids=["train", "demo"])
def test_what_takes_long_is_done_by_one_process_at_a_time(
    writes: Writes, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    def meanwhile(temporary: Path, path: Path) -> None:
        capsys.readouterr()
        assert run([*command]) == 1
        assert f"another vreid is working on {command[command.index('--run-dir') + 1]}" in capsys.readouterr().err
        raise Killed  # all has been seen

    writes.start(2, meanwhile)
    with pytest.raises(Killed):
        run([*command])


def test_a_ranking_that_another_process_made_otherwise_meanwhile_is_not_replaced(
    writes: Writes, other: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    compute, ended = workflow.rank_blocks, []

    def beside(*given: Any, **more: Any) -> Any:
        if not ended:
            ended.append(0)
            ended.append(other("rank", "--metric", "medMED", "--top-k", "3"))
        return compute(*given, **more)

    writes.start()
    monkeypatch.setattr(workflow, "rank_blocks", beside)
    writes.vreid("rank", "--metric", "medMED", code=1)
    assert "t2t-medMED.parquet is there already and was made otherwise: its coverage" in writes.vreid.err
    assert ended == [0, 0]
    assert read_ranking_facts(Path("runs/r/rankings/t2t-medMED.parquet")).top_k == 3
    assert not list(Path("runs/r").rglob(".*.tmp*"))


# -- what the system refuses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code"),
    [
        *((name, errno.ENOSPC) for name in ("evaluate", "associate", "export", "network")),
        ("rank", errno.EACCES),
        *((name, errno.EROFS) for name in ("show", "fuse")),
    ],
)
@pytest.mark.usefixtures("_small_network")
def test_a_write_that_the_system_refuses_is_told_and_harms_nothing(writes: Writes, name: str, code: int) -> None:
    def refuse(temporary: Path, path: Path) -> None:
        raise OSError(code, os.strerror(code))

    command = COMMANDS[name]
    writes.start()
    writes.vreid(*command)
    for at in range(1, len(writes.written) + 1):
        before = writes.start(at, refuse)
        ended = run([*command])
        _, told = writes.vreid._capsys.readouterr()
        # Scores are shown though they cannot be kept.
        assert ended == (0 if writes.written[at - 1].parent.name == "evaluations" or "-scores" in told else 1), told
        assert f"{writes.written[at - 1]} cannot be written: {os.strerror(code)}" in told
        found = contents(writes.world)
        assert not [file for file in found if ".tmp" in file]
        assert {file: found.get(file) for file in before if file not in map(str, writes.written)} == {
            file: content for file, content in before.items() if file not in map(str, writes.written)
        }
        assert found.get(str(writes.written[at - 1])) == before.get(str(writes.written[at - 1]))


@pytest.mark.parametrize(
    ("command", "ending"),
    [
        (("show", "--set", "show.max_queries=1", "-o"), ".png"),
        (("export", "features", "-o"), ""),
        (("export", "model", *COMMANDS["network"][2:6], "--to-hub-folder"), ""),
        (("rank", "--task", "i2t", "--metric", "MED", "-o"), ".parquet"),
        (("associate", "--threshold", "0.02", "-o"), ".parquet"),
        (("evaluate", "--per-query"), ".csv"),
        ((*DEMO[:1], "--run-dir"), ""),
        ((*TRAIN[:1], *TRAIN[3:], "--run-dir"), ""),
        (("extract", "--dataset", "tracks", "--data-dir", "data", "--run-dir"), ""),
    ],
    ids=lambda given: given[0] if isinstance(given, tuple) else "",
)
@pytest.mark.usefixtures("_small_network")
def test_a_name_that_is_too_long_is_told(writes: Writes, command: tuple[str, ...], ending: str) -> None:
    before = writes.start()
    error = writes.vreid.error(*command, "x" * 300 + ending)
    assert "File name too long" in error["message"]
    after = contents(writes.world)
    # Scores that could be kept are kept.
    assert all(after[name] == before[name] for name in before if "/evaluations/" not in name)
    assert after.keys() - before.keys() <= {"runs/r/identities/meanMCD50-scores.json"}
