"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from vreid_cli.errors import StoreError
from vreid_cli.runtime.files import alone, atomic_path, read_json_object, write_json, write_text


def refusal(action: Callable[[], object]) -> StoreError:
    with pytest.raises(StoreError) as caught:
        action()
    return caught.value


def test_who_comes_second_waits_until_the_first_has_finished(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path, order, waits = tmp_path / "new" / "a.parquet", [], threading.Event()
    caplog.set_level(logging.INFO, logger="vreid")
    log = logging.getLogger("vreid")
    handler = logging.Handler()
    handler.emit = lambda record: waits.set()  # type: ignore[method-assign]

    def second() -> None:
        with alone(path):
            order.append("second")

    log.addHandler(handler)
    try:
        with alone(path):
            thread = threading.Thread(target=second)
            thread.start()
            assert waits.wait(60)
            order.append("first")
        thread.join()
    finally:
        log.removeHandler(handler)
    assert order == ["first", "second"]
    assert f"another vreid is writing {path}: waiting for it" in caplog.text


def test_error_in_the_middle_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("new and unfinished")
            assert path.read_text() == "old"
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_no_space_left_is_a_store_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(*_args: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    owner, name = {"write": (Path, "write_text"), "fsync": (os, "fsync"), "replace": (Path, "replace")}[where]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full)
        error = refusal(lambda: write_text(path, "new"))
    assert str(path) in error.message
    assert os.strerror(errno.ENOSPC) in error.message
    assert "make room" in (error.hint or "")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_that_is_a_file(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    assert "cannot be written" in refusal(lambda: write_json(tmp_path / "file" / "a.json", {})).message
    assert "cannot be written" in refusal(lambda: write_json(tmp_path / "file" / "b" / "a.json", {})).message


def test_file_system_that_flushes_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fsync = os.fsync

    def refuse_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    write_text(tmp_path / "a.txt", "text")
    assert (tmp_path / "a.txt").read_text() == "text"


def test_written_files_are_flushed_before_they_are_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    done: list[str] = []
    fsync, rename = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (done.append("flush"), fsync(descriptor))[1])
    monkeypatch.setattr(Path, "replace", lambda self, target: (done.append("rename"), rename(self, target))[1])
    write_text(tmp_path / "a.txt", "text")
    assert done == ["flush", "rename", "flush"]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b"3"])
def test_json_that_is_no_object(tmp_path: Path, content: bytes):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    assert str(path) in refusal(lambda: read_json_object(path)).message


def test_json_refuses_nan(tmp_path: Path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []
