"""Every write of every command but extract: killed at it, or refused by the system, nothing is lost and all can go on.

Extraction has tests of its own: tests/cli/test_full_disk.py and tests/benchmarks/survival.py.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import contents, make_world, renew
from kills import Killed
from tiny import Vreid

from vreid_cli.cli.app import run
from vreid_cli.runtime import files

COMMANDS = {
    "rank": ("rank", "--metric", "minMCD,meanMCD"),
    "rank again": ("rank", "--force"),
    "fuse": ("rank", "--fuse", "minMED", "meanMCD50"),
    "evaluate": ("evaluate", "--per-query", "scores.csv"),
    "calibrate": ("calibrate",),
    "associate": ("associate", "--threshold", "0.02", "--force"),
    "show": ("show", "-o", "page.html", "--set", "show.max_queries=1"),
    "export": ("export", "features", "--format", "npz"),
}
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
        original = files.put_in_place

        def put_in_place(temporary: Path, path: Path) -> None:
            self.written.append(path)
            (self._act if len(self.written) == self._at else original)(temporary, path)

        patch.setattr(files, "put_in_place", put_in_place)
        patch.chdir(self.world)

    def start(self, at: int = 0, act: PutInPlace = files.put_in_place) -> dict[str, bytes]:
        """A new world, in which something will happen at this write; what it holds."""
        renew(self.world, self.kept)
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


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_killed_at_any_write_can_be_run_again(writes: Writes, name: str) -> None:
    command = COMMANDS[name]
    before = writes.start()
    writes.vreid(*command)
    count, wanted = len(writes.written), contents(writes.world)
    assert count

    def die(temporary: Path, path: Path) -> None:
        # What a process leaves that has no time to tidy up, and half of it at that.
        half = temporary.with_name(temporary.name.replace(f".{os.getpid()}.", ".1."))
        half.write_bytes(temporary.read_bytes()[: temporary.stat().st_size // 2])
        raise Killed(str(path))

    for at in range(1, count + 1):
        writes.start(at, die)
        with pytest.raises(Killed):
            run([*command])
        for file, content in left(contents(writes.world)).items():
            assert content in (before.get(file), wanted[file]), (at, file)
        writes.again()
        writes.vreid(
            *command, *([] if "--force" in command or name in ("evaluate", "show", "calibrate") else ["--force"])
        )
        assert left(contents(writes.world)) == wanted, (at, writes.written)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        *((name, errno.ENOSPC) for name in ("evaluate", "associate", "export")),
        ("rank", errno.EACCES),
        ("show", errno.EROFS),
    ],
)
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


@pytest.mark.parametrize("command", [("show", "-o"), ("export", "features", "-o"), ("rank", "--metric", "MED", "-o")])
def test_a_name_that_is_too_long_is_told(writes: Writes, command: tuple[str, ...]) -> None:
    before = writes.start()
    suffix = "" if command[0] == "export" else ".png" if command[0] == "show" else ".parquet"
    more = ("--task", "i2t") if command[0] == "rank" else ()
    error = writes.vreid.error(*command, "x" * 300 + suffix, *more)
    assert "File name too long" in error["message"]
    assert contents(writes.world) == before
