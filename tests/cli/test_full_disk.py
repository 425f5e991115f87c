"""A disk that fills up at any write of an extraction: said in words, and once there is room, the same bytes."""

from __future__ import annotations

import errno
import functools
import os
import re
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny import EXTRACT, TRACKS, Vreid, draw_tracks, save_weights

from vreid_cli.workflows import network as loading

pytestmark = pytest.mark.slow

#: What may fail without the command failing: the file itself is safe, or holds nothing that is needed.
HARMLESS = ("flushing a folder", "opening history.jsonl")
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Disk:
    """Counts what asks a disk for room, and refuses one of them.

    Attributes:
        asked: What asked for room, in order.
        full_at: Number of the one that is refused, from 1; 0: none.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.full_at = 0
        self._patch = patch
        path_open, os_open, fsync, write_table, sink = Path.open, os.open, os.fsync, pq.write_table, pa.OSFile

        def open_path(path: Path, mode: str = "r", *more: Any, **options: Any) -> Any:
            if set(mode) & set("wax"):
                self.ask(f"opening {_plain(path)}")
            return path_open(path, mode, *more, **options)

        def open_descriptor(path: Any, flags: int, *more: Any, **options: Any) -> int:
            if flags & os.O_CREAT:
                self.ask(f"creating {_plain(path)}")
            return os_open(path, flags, *more, **options)

        def flush(descriptor: int) -> None:
            folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            self.ask("flushing a folder" if folder else "flushing a file")
            fsync(descriptor)

        def write_parquet(table: pa.Table, path: Path, **options: Any) -> None:
            write_table(table, path, **options)
            self.ask(f"writing {_plain(path)}", half_written=path)

        def open_sink(path: str, mode: str) -> pa.OSFile:
            self.ask(f"writing {_plain(path)}", half_written=Path(path))
            return sink(path, mode)

        patch.setattr(Path, "open", open_path)
        patch.setattr(os, "open", open_descriptor)
        patch.setattr(os, "fsync", flush)
        patch.setattr(pq, "write_table", write_parquet)
        patch.setattr(pa, "OSFile", open_sink)
        self._ask_before("replace", lambda _, target: f"renaming to {_plain(target)}")
        self._ask_before("mkdir", lambda path, *_: f"making {_plain(path)}/")

    def _ask_before(self, method: str, name: Callable[..., str]) -> None:
        original = getattr(Path, method)

        def asking(path: Path, *arguments: Any, **options: Any) -> Any:
            if method != "mkdir" or not path.exists():  # what is there needs no room
                self.ask(name(path, *arguments))
            return original(path, *arguments, **options)

        self._patch.setattr(Path, method, asking)

    def ask(self, what: str, *, half_written: Path | None = None) -> None:
        """Note what asks, and refuse it if it is its turn."""
        self.asked.append(what)
        if len(self.asked) == self.full_at:
            if half_written is not None:
                half_written.write_bytes(b"ARROW1" * 20)
            raise FULL

    def fill_at(self, number: int) -> None:
        """Start counting again, and refuse one."""
        self.asked.clear()
        self.full_at = number


def _plain(path: Any) -> str:
    """The name, without the number of the process."""
    return str(path).rsplit("/", 1)[-1].replace(f".{os.getpid()}.tmp", "").lstrip(".")


@pytest.fixture(autouse=True, scope="module")
def _one_thread(one_thread: None) -> None:
    """The same bytes need the same threads."""


@pytest.fixture
def arguments(vreid: Vreid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str | Path, ...]:
    """The command, with its network loaded once."""
    del vreid
    data = draw_tracks(tmp_path / "data", {name: n for name, n in TRACKS.items() if name.startswith("gallery")})
    (data / "gallery/0004_c001/1.png").write_bytes(b"no image")
    weights = save_weights(tmp_path / "tiny.safetensors")
    monkeypatch.setattr(loading, "load_network", functools.cache(loading.load_network))
    chosen = ("--data-dir", data, "--weights", weights, "--split", "gallery", "--workers", "0", "--device", "cpu")
    return (*EXTRACT, *chosen, "--set", "extract.part_images=8")


def files_of(run: Path) -> dict[str, bytes]:
    """All of a run but its history, which tells how often it was tried."""
    found = [path for path in run.rglob("*") if path.is_file() and path.name not in ("history.jsonl", ".lock")]
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in found}


def check_refusal(vreid: Vreid, arguments: tuple[str | Path, ...], run: Path) -> None:
    """The command ends with exit code 1, and says what is wrong and what to do."""
    vreid(*arguments, code=1)
    assert re.search(f"^error: ({run}|runs/latest)", vreid.err, flags=re.MULTILINE)
    assert os.strerror(errno.ENOSPC) in vreid.err
    assert not list(run.rglob("*.tmp*")), "what is half-written keeps the disk full"
    assert "hint:  make room or choose another folder" in vreid.err or "hint:  choose another folder" in vreid.err


def test_every_write_may_be_the_one_that_fills_the_disk(
    vreid: Vreid, arguments: tuple[str | Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    vreid(*arguments, "--run-dir", "alone")
    wanted = files_of(Path("alone"))
    assert len([name for name in wanted if name.endswith(".arrow")]) == 2
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        vreid(*arguments, "--run-dir", "counted")
        writes = list(disk.asked)
        assert len(writes) > 25
        for number, name in enumerate(writes, start=1):
            if name in writes[: number - 1] and name in writes[number:]:
                continue  # flushing is the same for every file: the first and the last of it tell enough
            run = Path(f"run{number}")
            Path("runs/latest").unlink()
            disk.fill_at(number)
            if name in HARMLESS:
                vreid(*arguments, "--run-dir", run)
            else:
                check_refusal(vreid, (*arguments, "--run-dir", run), run)
            assert [entry.replace(run.name, "counted") for entry in disk.asked[:number]] == writes[:number]
            disk.fill_at(0)
            vreid(*arguments, "--run-dir", run)
            assert files_of(run) == wanted, f"{name} (write {number})"
            assert Path("runs/latest").read_text() == f"../{run}\n"


@contextmanager
def small_disk(folder: Path, *, kilobytes: int) -> Iterator[Callable[[int], None]]:
    """A disk of a size, mounted at a folder; what it gives makes it larger."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o"]
    done = subprocess.run([*mount, f"size={kilobytes}k", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")

    def enlarge(size: int) -> None:
        subprocess.run([*mount, f"remount,size={size}k", "tmpfs", folder], check=True)

    try:
        yield enlarge
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount")
def test_a_real_disk_of_any_size(vreid: Vreid, arguments: tuple[str | Path, ...]) -> None:
    vreid(*arguments, "--run-dir", "alone")
    wanted = files_of(Path("alone"))
    most = sum(map(len, wanted.values())) // 1024 + 40
    refused = 0
    for kilobytes in range(8, most, 16):
        run = Path(f"disk{kilobytes}") / "run"
        with small_disk(run.parent, kilobytes=kilobytes) as enlarge:
            try:
                vreid(*arguments, "--run-dir", run)
            except AssertionError:
                check_refusal(vreid, (*arguments, "--run-dir", run), run)
                refused += 1
            enlarge(10_000)
            vreid(*arguments, "--run-dir", run)
            assert files_of(run) == wanted, f"{kilobytes} kB"
    assert refused >= 3
