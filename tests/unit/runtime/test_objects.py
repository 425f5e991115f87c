"""Addresses of object stores: a folder in a store answers as a folder of this machine does."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path, PosixPath
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from stores import put_folder

from vreid_cli.errors import StoreError, UsageError
from vreid_cli.runtime.files import atomic_path, local_file, write_text
from vreid_cli.runtime.objects import ObjectPath, as_path, join, refuse_credentials, require_local

FILES = {"a.txt": "one", "b.txt": "three", "tracks/t1/0.jpg": "", "tracks/t1/1.jpg": "x", "tracks/t2/deep/2.jpg": "yy"}


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[tuple[Path, ObjectPath]]:
    """The same files here and in a store."""
    for name, text in FILES.items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_text(text)
    MemoryFileSystem.store.clear()
    there = as_path(put_folder(tmp_path / "set", "memory://bucket/set"))
    assert isinstance(there, ObjectPath)
    yield tmp_path / "set", there
    MemoryFileSystem.store.clear()


@pytest.mark.parametrize(
    "name", ["a.txt", "tracks", "tracks/t1", "tracks/t1/1.jpg", "tracks/t2/deep", "no", "a.tx", "trac"]
)
def test_what_is_there_is_there(folders: tuple[Path, ObjectPath], name: str) -> None:
    here, there = (folder / name for folder in folders)
    for ask in (Path.exists, Path.is_file, Path.is_dir):
        assert getattr(there, ask.__name__)() == ask(here)
    if here.is_file():
        assert there.read_bytes() == here.read_bytes()
        assert there.read_text(encoding="utf-8") == here.read_text()
        assert there.stat().st_size == here.stat().st_size
    if not here.exists():
        for ask in (there.stat, there.read_bytes, there.size_and_stamp):
            with pytest.raises(FileNotFoundError) as caught:
                ask()
            assert caught.value.filename == str(there)


@pytest.mark.parametrize("pattern", ["*", "*.txt", "a*", "tracks/*", "tracks/*/*.jpg", "no/*", "tracks/t2/deep/2.jpg"])
def test_patterns_find_the_same(folders: tuple[Path, ObjectPath], pattern: str) -> None:
    here, there = folders
    found = sorted(path.relative_to(there).as_posix() for path in there.glob(pattern))
    assert found == sorted(path.relative_to(here).as_posix() for path in here.glob(pattern))


def test_a_walk_meets_the_same(folders: tuple[Path, ObjectPath]) -> None:
    here, there = folders
    known = {
        Path(name).relative_to(here).as_posix(): (sorted(below), sorted(files)) for name, below, files in os.walk(here)
    }
    met = {
        path.relative_to(there).as_posix(): (sorted(below), sorted(files)) for path, below, files in there.walk_below()
    }
    assert met == known
    assert sorted(there.file_names()) == ["a.txt", "b.txt"]
    assert {name: size for name, (size, _) in there.files_below().items()} == {n: len(t) for n, t in FILES.items()}


def test_names_are_those_of_paths(folders: tuple[Path, ObjectPath]) -> None:
    here, there = (folder / "tracks/t1/1.jpg" for folder in folders)
    assert (there.name, there.stem, there.suffix, there.parent.name) == (
        here.name,
        here.stem,
        here.suffix,
        here.parent.name,
    )
    assert str(there.with_suffix(".png")) == "memory://bucket/set/tracks/t1/1.png"
    assert str(there.parent / "../t2/0.jpg") == "memory://bucket/set/tracks/t2/0.jpg"
    assert str(as_path("S3://bucket//a/./b/")) == "s3://bucket/a/b"
    assert pickle.loads(pickle.dumps(there)) == there
    assert there.absolute() is there
    assert there.resolve() == there
    assert there != PosixPath("/bucket/set/tracks/t1/1.jpg")


def test_no_function_of_this_machine_takes_it_for_a_file(folders: tuple[Path, ObjectPath]) -> None:
    there = folders[1] / "a.txt"
    for use in (open, os.stat, os.listdir, lambda path: path.rename("b"), lambda path: path.touch()):
        with pytest.raises(TypeError, match="object store"):
            use(there)  # type: ignore[operator]
    with pytest.raises(OSError, match="mode 'w'"):
        there.open("w")


def test_a_replaced_object_has_another_stamp(folders: tuple[Path, ObjectPath]) -> None:
    there = folders[1] / "a.txt"
    before = there.size_and_stamp()
    assert folders[1].files_below()["a.txt"] == before
    write_text(there, "two")
    after = there.size_and_stamp()
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_the_tag_counts_where_size_and_time_are_the_same(
    folders: tuple[Path, ObjectPath], monkeypatch: pytest.MonkeyPatch
) -> None:
    info = {"type": "file", "size": 3, "LastModified": datetime(2026, 1, 2, tzinfo=UTC), "ETag": '"a"'}
    monkeypatch.setattr(MemoryFileSystem, "info", lambda *_, **__: info)
    there = folders[1] / "a.txt"
    before = there.size_and_stamp()
    assert there.size_and_stamp() == before
    info["ETag"] = '"b"'
    assert there.size_and_stamp()[1] != before[1]
    assert there.stat().st_mtime == datetime(2026, 1, 2, tzinfo=UTC).timestamp()


def test_an_object_is_written_whole_or_not_at_all(folders: tuple[Path, ObjectPath]) -> None:
    there = folders[1] / "a.txt"
    with pytest.raises(UnicodeEncodeError), atomic_path(there) as temporary:
        temporary.write_text("half\ud800", encoding="utf-8")
    assert there.read_text() == "one"
    with atomic_path(there) as temporary:
        temporary.write_text("whole")
        assert there.read_text() == "one"
    assert there.read_text() == "whole"
    assert not temporary.exists()


def test_a_copy_here_can_be_read_after_it_is_gone(folders: tuple[Path, ObjectPath]) -> None:
    here, there = folders
    with local_file(there / "a.txt") as copy:
        file = copy.open("rb")
    assert not copy.exists()
    with file:
        assert file.read() == b"one"
    with local_file(here / "a.txt") as same:
        assert same == here / "a.txt"


@pytest.mark.parametrize("reads", [[(0, 3)], [(-2, 2)], [(1, 2), (0, 99)], [(3, 1)], [(9, 1)]])
def test_ranges_are_those_of_a_file(folders: tuple[Path, ObjectPath], reads: list[tuple[int, int]]) -> None:
    here, there = (folder / "b.txt" for folder in folders)
    assert isinstance(there, ObjectPath)
    with here.open("rb") as known, there.open_ranges() as file:
        for place, count in reads:
            whence = os.SEEK_END if place < 0 else os.SEEK_SET
            assert file.seek(place, whence) == known.seek(place, whence)
            assert file.read(count) == known.read(count)
            assert file.tell() == known.tell()


@pytest.mark.parametrize(
    "text",
    [
        "s3://key:secret@bucket/x",
        "s3://key@bucket",
        "gs://key:se/cret@bucket",
        "--data-dir=s3://key:secret@bucket",
        "https://key:secret@host/x",
    ],
)
def test_credentials_are_refused_without_a_word_of_them(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        refuse_credentials(text)
    assert "key" not in f"{caught.value.message} {caught.value.hint}".replace("KEY", "")
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    "text", ["s3://bucket/a@b:c", "s3://arn:aws:s3:eu:1:accesspoint/a/b", "a@b:c/d", "hf-hub:o/n", "ray://h:1"]
)
def test_what_holds_no_credentials_is_taken(text: str) -> None:
    refuse_credentials(text)


def test_a_name_may_be_an_address() -> None:
    folder = as_path("s3://bucket/cars")
    assert str(join(folder, "1.jpg")) == "s3://bucket/cars/1.jpg"
    assert str(join(folder, "s3://other/1.jpg")) == "s3://other/1.jpg"
    with pytest.raises(UsageError, match="on this machine"):
        require_local(folder, "it is")
    require_local(Path("cars"), "it is")
    require_local(None, "it is")


class NoCredentialsError(Exception):
    """As botocore names it."""


class HTTPClientError(Exception):
    """As botocore names it."""


class ConnectTimeoutError(HTTPClientError):
    """As botocore names it."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NoCredentialsError("Unable to locate credentials"), "there are no credentials"),
        (PermissionError("Forbidden"), "no permission"),
        (ConnectTimeoutError("http://10.0.0.1"), "cannot be reached"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "cannot be reached"),
        (FileNotFoundError("The specified bucket does not exist"), "there is no bucket memory://bucket"),
        (OSError(errno.EIO, "Please reduce your request rate."), "Please reduce your request rate."),
        (ValueError("Invalid header value b'Credential=AKIAXYZ'"), "ValueError"),
    ],
)
@pytest.mark.parametrize(
    "use",
    [
        lambda path: path.exists(),
        lambda path: path.read_bytes(),
        lambda path: list(path.iterdir()),
        lambda path: list(path.glob("*")),
        lambda path: path.files_below(),
        lambda path: write_text(path, "x"),
    ],
)
def test_what_the_store_refuses_is_told_in_words(
    folders: tuple[Path, ObjectPath],
    monkeypatch: pytest.MonkeyPatch,
    use: Callable[[ObjectPath], Any],
    error: Exception,
    said: str,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    for name in ("info", "cat_file", "ls", "find", "put_file"):
        monkeypatch.setattr(MemoryFileSystem, name, refuse)
    with pytest.raises(StoreError) as caught:
        use(folders[1])
    assert said in caught.value.message
    assert caught.value.hint
    assert "AKIAXYZ" not in caught.value.message
