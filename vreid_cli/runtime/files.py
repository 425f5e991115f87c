"""Files that are either whole or not there: written under another name, flushed, renamed; or uploaded when whole."""

from __future__ import annotations

import csv
import errno
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vreid_cli.errors import StoreError
from vreid_cli.runtime.memory import free_memory
from vreid_cli.runtime.objects import ObjectPath, as_path
from vreid_cli.runtime.progress import log
from vreid_cli.types.escaping import for_spreadsheet

#: Bytes of a file that fit into any memory; a larger one may take this share of what is free.
_ALWAYS_FITS, _SHARE = 64 << 20, 4


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; rename it to ``path`` when the block ends without an error.

    What goes to an object store is written to the folder of temporary files, and uploaded then.

    Raises:
        StoreError: The file cannot be written (no room, no permission); the old file is then untouched.
    """
    if isinstance(path, ObjectPath):
        with explain_write_errors(path), TemporaryDirectory(prefix="vreid-") as folder:
            yield Path(folder, path.name)
            path.upload(Path(folder, path.name))
        return
    # The ending stays last: some writers choose their format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        with explain_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            put_in_place(temporary, path)
    finally:
        with suppress(OSError):  # where the folder is a file, say: the first error is the one to tell
            temporary.unlink(missing_ok=True)


@contextmanager
def alone(path: Path, *, doing: str = "writing") -> Iterator[None]:
    """Keep other processes from a file and what is written with it, or wait for one that is at it.

    An object store has no locks: there nobody waits.

    Args:
        path: The file.
        doing: What a message says that the other one does.

    Raises:
        StoreError: The lock cannot be written.
    """
    if isinstance(path, ObjectPath):
        yield
        return
    from filelock import FileLock, Timeout  # not for commands that only look

    # Never deleted: a process that still waits for it would then hold another file than the next one.
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another vreid is %s %s: waiting for it", doing, path)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def local_file(path: Path) -> Iterator[Path]:
    """The file itself; of an object a copy in the folder of temporary files, until the block ends.

    Whoever has opened or mapped the copy can read on after that.

    Raises:
        FileNotFoundError: There is no such object.
    """
    if not isinstance(path, ObjectPath):
        yield path
        return
    with TemporaryDirectory(prefix="vreid-") as folder:
        path.download(Path(folder, path.name))
        yield Path(folder, path.name)


@contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Tell what the system refuses while ``path`` is written.

    Raises:
        StoreError: No room, no permission, or the like.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None)
        remedy = "make room or choose another folder" if full else "choose another folder or name"
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}",
            hint=f"{remedy}, then run the same command again",
            file=path,
        ) from error


def put_in_place(temporary: Path, path: Path) -> None:
    """Flush a file that is whole, and give it its name.

    Raises:
        OSError: The system refuses.
    """
    _flush(temporary)
    temporary.replace(path)
    with suppress(OSError):  # some network file systems refuse to flush a folder; the file itself is safe
        _flush(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table as CSV, atomically; None becomes an empty cell, and text is nothing that a spreadsheet computes.

    Raises:
        StoreError: The file cannot be written.

    Examples:
        >>> write_csv(Path("od.csv"), ["from", "c001"], [["c001", 3]])
        >>> Path("od.csv").read_text().split()
        ['from,c001', 'c001,3']
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(map(for_spreadsheet, row) for row in rows)


def refuse_huge(path: Path) -> None:
    """Refuse a file that would fill the memory when it, or a line of it, is read and parsed.

    Raises:
        OSError: It is larger than a quarter of the free memory.
    """
    if isinstance(path, ObjectPath):  # to ask for its size takes as long as to read most of them
        return
    size = path.stat().st_size
    if size > _ALWAYS_FITS and size > free_memory() // _SHARE:
        raise OSError(errno.EFBIG, f"its {size:,} bytes are more than a quarter of the free memory", str(path))


def read_bytes(path: Path) -> bytes:
    """All of a file.

    Raises:
        OSError: It cannot be read, or would fill the memory.
    """
    refuse_huge(path)
    return path.read_bytes()


def read_text(path: Path, *, encoding: str = "utf-8", errors: str = "strict") -> str:
    """All of a file, as text.

    Raises:
        OSError: It cannot be read, or would fill the memory.
        UnicodeDecodeError: It is no such text.
    """
    refuse_huge(path)
    return path.read_text(encoding=encoding, errors=errors)


def checksum_file(path: Path) -> str:
    """CRC-32 of a file's bytes, as eight digits.

    Examples:
        >>> _ = Path("a.txt").write_text("a")
        >>> checksum_file(Path("a.txt"))
        'e8b7be43'
    """
    found = 0
    with path.open("rb") as file:
        while some := file.read(1 << 20):
            found = zlib.crc32(some, found)
    return f"{found:08x}"


def refuse_folder(path: Path) -> None:
    """Refuse a folder where a file is read and written: nothing could replace it.

    Raises:
        StoreError: It is one.
    """
    if path.is_dir():
        raise StoreError(f"{path} is a folder, not a file", hint="move it away, then run the same command", file=path)


def real_path(path: str | Path) -> Path:
    """The absolute path without links; of one that links to itself as far as it can be followed.

    Examples:
        >>> Path("loop").symlink_to("loop")
        >>> real_path("loop").name
        'loop'
    """
    path = as_path(path)
    # Path.resolve raises over a loop.
    return path.resolve() if isinstance(path, ObjectPath) else Path(os.path.realpath(path))


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        StoreError: The file is missing, unreadable, no JSON, holds something else, or has a key twice.
    """
    try:
        value = json.loads(read_text(path), object_pairs_hook=_distinct)
    except FileNotFoundError:
        raise StoreError(f"there is no file {path}", file=path) from None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}", file=path) from None
    except ValueError as error:
        hint = "write it again, or take the file that was written by the program itself"
        raise StoreError(f"{path} is not valid JSON: {error}", hint=hint, file=path) from None
    except RecursionError:
        raise StoreError(f"{path} is JSON nested too deeply", file=path) from None
    if not isinstance(value, dict):
        raise StoreError(f"{path} holds a {type(value).__name__}, not an object", file=path)
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, whose keys are text that can be written and stand there once.

    Raises:
        ValueError: They are not. Python would keep the last of two values without a word.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {json.dumps(max(names, key=names.count))} stands there twice")
    try:
        "".join(found).encode()
    except UnicodeEncodeError:
        raise ValueError("a key holds half a letter (a lone surrogate)") from None
    return found


def _flush(path: Path) -> None:
    """Force a file or a folder's entries to the disk; folders cannot be opened so on Windows."""
    folder = path.is_dir()
    if os.name == "nt" and folder:
        return
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)  # Windows flushes only what may be written
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
