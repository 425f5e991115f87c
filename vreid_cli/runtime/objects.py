"""Addresses of object stores, such as ``s3://bucket/key``, used as paths are.

Credentials, regions and endpoints are the business of the stores' own libraries. None stands in an address.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import posixpath
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path, PosixPath
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from vreid_cli.errors import StoreError, UsageError, VreidError, require_type
from vreid_cli.runtime.extras import require_extra

#: By scheme: the extra and the package that know the store. ``memory`` lasts as long as the process, for tests.
_STORES = {"s3": ("s3", "s3fs"), "gs": ("gcs", "gcsfs"), "memory": ("s3", "fsspec")}
#: A single letter would be a drive of Windows.
_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://(?P<rest>.*)", re.DOTALL)
#: What looks like ``key:secret@bucket``; names of Amazon's access points and addresses of Ray hold colons themselves.
_SECRET = re.compile(r"\b(?!ray:)[A-Za-z][A-Za-z0-9+.-]+://(?!arn:)[^/]*[:@]")
#: Words of a library that may show a part of somebody's credentials.
_DELICATE = re.compile(r"credential|signature|token|secret|password|akia", re.IGNORECASE)

_CREDENTIALS = (
    "there are no credentials for it, or they cannot be read",
    "log in as the store's own tools do: aws configure, AWS_PROFILE, or gcloud auth application-default login",
)
_PERMISSION = (
    "no permission, or the credentials are not accepted",
    "check that the credentials are complete, have not expired and may read, list and write there",
)
_NETWORK = ("the store cannot be reached", "check the network and AWS_ENDPOINT_URL, then run the same command again")
#: What goes wrong with a store, by the names of the errors: importing their classes would need the libraries.
_TROUBLES = {
    **dict.fromkeys(("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"), _CREDENTIALS),
    **dict.fromkeys(("ProfileNotFound", "TokenRetrievalError", "SSOError", "GoogleAuthError"), _CREDENTIALS),
    "PermissionError": _PERMISSION,
    **dict.fromkeys(("HTTPClientError", "ConnectionError", "TimeoutError", "ClientConnectorError"), _NETWORK),
}


def as_path(given: str | Path) -> Path:
    """The path that a text means: one of this machine, or one of an object store.

    Raises:
        UsageError: The text is an address of no store that is known, or holds credentials; or it is no text.

    Examples:
        >>> as_path("cars/1.jpg"), as_path("file:///data/cars")
        (PosixPath('cars/1.jpg'), PosixPath('/data/cars'))
        >>> folder = as_path("s3://bucket/cars")
        >>> str(folder / "1.jpg"), folder.name
        ('s3://bucket/cars/1.jpg', 'cars')
    """
    if isinstance(given, Path):
        return given
    require_type(given, str, name=f"{given!r}", hint="a place is named by text or a pathlib.Path")
    address = _ADDRESS.fullmatch(given)
    if address is None:
        return Path(given)
    refuse_credentials(given)
    scheme = address["scheme"].lower()
    if scheme == "file":
        parts = urlsplit(given)
        if parts.netloc not in ("", "localhost"):
            raise UsageError(f"{given} names another machine", hint="write file:///folder/…, with three slashes")
        return Path(unquote(parts.path))
    if scheme not in _STORES:
        known = ", ".join(f"{one}://" for one in ("s3", "gs", "file"))
        raise UsageError(f"{given}: there is no access to addresses of {scheme}://", hint=f"known: {known}, and paths")
    if not address["rest"].strip("/"):
        raise UsageError(f"{given} names no bucket", hint=f"as in {scheme}://bucket/folder")
    return ObjectPath(f"{scheme}://{address['rest']}")


def refuse_credentials(text: str) -> None:
    """Refuse an address that holds credentials: it would be kept in files and shown in messages.

    Raises:
        UsageError: It does; the message does not repeat them.

    Examples:
        >>> refuse_credentials("s3://KEY:SECRET@bucket/cars")
        Traceback (most recent call last):
            ...
        vreid_cli.errors.UsageError: an address holds credentials, or a : or @ before its first /
    """
    if _SECRET.search(text):
        hint = "write s3://bucket/… and give the credentials as the store's own tools take them, as by AWS_PROFILE"
        raise UsageError("an address holds credentials, or a : or @ before its first /", hint=hint)


def require_local(path: Path | None, what: str) -> None:
    """Refuse a place in an object store, for what needs one on this machine.

    Args:
        path: The place.
        what: The beginning of a sentence: what is done on this machine only.

    Raises:
        UsageError: It lies in a store.
    """
    if isinstance(path, ObjectPath):
        hint = "name a path, and copy from or to the store with its own tools"
        raise UsageError(f"{path}: {what} on this machine", hint=hint)


class ObjectPath(PosixPath):
    """An object of a store, or a folder of them: all whose keys begin with its own key and a slash.

    Names are pathlib's; what touches the store goes through fsspec, and nothing that was seen is remembered. Where the
    store itself is the trouble, that is a :class:`~vreid_cli.errors.StoreError`, never a missing file.
    """

    def __str__(self) -> str:
        scheme, *rest = self.parts or ("",)
        if scheme.removesuffix(":") not in _STORES:
            return super().__str__()  # a part of an address, as relative_to gives it
        # Keys are plain text: a store knows no folder "..".
        return f"{scheme}//{posixpath.normpath('/'.join(rest))}" if rest else f"{scheme}//"

    def __fspath__(self) -> str:
        raise TypeError(f"{self} lies in an object store: no function of this machine's files can open it")

    # -- names ------------------------------------------------------------------------------------------

    def is_absolute(self) -> bool:
        """Always."""
        return True

    def absolute(self) -> ObjectPath:
        """Itself."""
        return self

    def resolve(self, strict: bool = False) -> ObjectPath:
        """Itself, without ``..``."""
        return ObjectPath(str(self))

    # -- what is there ----------------------------------------------------------------------------------

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Kind, size and time of change.

        Raises:
            FileNotFoundError: There is no such object.
        """
        info = self._info()
        if info["type"] == "directory":
            return os.stat_result((stat.S_IFDIR, *[0] * 9))
        changed = _time(info)
        times = {"st_mtime": changed, "st_mtime_ns": int(1e9 * changed)}
        return os.stat_result((stat.S_IFREG, *[0] * 5, int(info["size"]), 0, int(changed), 0), times)

    def size_and_stamp(self) -> tuple[int, int]:
        """Bytes of the object, and a number that is another one where it was replaced.

        Raises:
            FileNotFoundError: There is no such object.
        """
        return _size_and_stamp(self._info())

    def _info(self) -> dict[str, Any]:
        with self._explained():
            info: dict[str, Any] = self._store().info(str(self))
            return info

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether there is such an object or folder."""
        return self._mode() is not None

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is an object."""
        return self._mode() == stat.S_IFREG

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a folder."""
        return self._mode() == stat.S_IFDIR

    def _mode(self) -> int | None:
        try:
            return stat.S_IFMT(self.stat().st_mode)
        except FileNotFoundError:
            return None

    def iterdir(self) -> Iterator[ObjectPath]:  # type: ignore[override]
        """What lies directly in the folder."""
        return (self / name for name, _ in self._entries())

    def file_names(self) -> list[str]:
        """Names of the objects that lie directly in the folder."""
        return [name for name, info in self._entries() if info["type"] != "directory"]

    def _entries(self) -> list[tuple[str, dict[str, Any]]]:
        with self._explained():
            found = self._store().ls(str(self), detail=True)
        # Some tools mark a folder by an empty object of its name and a slash.
        entries = [(info["name"].rstrip("/").rpartition("/")[2], info) for info in found]
        own = self._store()._strip_protocol(str(self))
        return [(name, info) for (name, info) in entries if info["name"].strip("/") != own.strip("/")]

    def glob(self, pattern: str) -> Iterator[ObjectPath]:  # type: ignore[override]
        """What fits a pattern, folder by folder; ``**`` means no more than ``*``."""
        first, _, rest = pattern.partition("/")
        try:
            names = [name for name, _ in self._entries() if fnmatchcase(name, first)]
        except FileNotFoundError:
            return
        for name in names:
            yield from (self / name).glob(rest) if rest else (self / name,)

    def files_below(self) -> dict[str, tuple[int, int]]:
        """Bytes and stamp of every object below the folder, by its key relative to it; one request for many."""
        with self._explained():
            store = self._store()
            found = store.find(str(self), detail=True)
            own = store._strip_protocol(str(self)).strip("/")
        named = ((name.strip("/").removeprefix(f"{own}/"), info) for name, info in found.items())
        return {name: _size_and_stamp(info) for name, info in named if not info["name"].endswith("/")}

    def walk_below(self) -> Iterator[tuple[Path, list[str], list[str]]]:
        """Each folder from the top, with the names of its folders and objects; folders taken out are left out."""
        folders: dict[str, set[str]] = {}
        objects: dict[str, list[str]] = {}
        for key in self.files_below():
            *way, name = key.split("/")
            objects.setdefault("/".join(way), []).append(name)
            for depth, folder in enumerate(way):
                folders.setdefault("/".join(way[:depth]), set()).add(folder)
        waiting = [""]
        while waiting:
            key = waiting.pop()
            below = sorted(folders.get(key, ()))
            yield self / key, below, objects.get(key, [])
            waiting += [f"{key}/{name}".lstrip("/") for name in reversed(below)]

    # -- contents ---------------------------------------------------------------------------------------

    def read_bytes(self) -> bytes:
        """The object, by one request.

        Raises:
            FileNotFoundError: It is not there.
        """
        with self._explained():
            content: bytes = self._store().cat_file(str(self))
            return content

    def read_text(self, encoding: str | None = None, errors: str | None = None, newline: str | None = None) -> str:
        """The object as text."""
        with self.open("r", encoding=encoding, errors=errors, newline=newline) as file:
            text: str = file.read()
            return text

    def open(  # type: ignore[override]
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """The object for reading, all of it in memory; writing goes through :mod:`vreid_cli.runtime.files`."""
        if mode not in ("r", "rt", "rb"):
            raise io.UnsupportedOperation(f"{self} cannot be opened in mode '{mode}'")
        content = io.BytesIO(self.read_bytes())
        if mode == "rb":
            return content
        return io.TextIOWrapper(content, encoding=encoding or "utf-8", errors=errors, newline=newline)

    def open_ranges(self) -> io.RawIOBase:
        """The object for reading: each read asks the store for its bytes and no more."""
        return _Ranges(self)

    def read_range(self, start: int, end: int) -> bytes:
        """The bytes from ``start`` up to ``end``, by one request."""
        with self._explained():
            content: bytes = self._store().cat_file(str(self), start=start, end=end)
            return content

    def download(self, target: Path) -> None:
        """Copy it to a file of this machine.

        Raises:
            FileNotFoundError: It is not there.
        """
        with self._explained():
            self._store().get_file(str(self), str(target))

    def upload(self, source: Path) -> None:
        """Replace it by a file of this machine. It appears whole: a store shows nothing before the last byte."""
        with self._explained():
            self._store().put_file(str(source), str(self))

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove it, if it is there."""
        with self._explained(), suppress(FileNotFoundError, KeyError):
            self._store().rm_file(str(self))

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing but a look whether the bucket is there: folders of a store begin with their first object.

        Raises:
            StoreError: It is not.
        """
        if self.parts[0] != "memory:" and not ObjectPath(*self.parts[:2]).exists():
            raise self._no_bucket()

    # -- the store --------------------------------------------------------------------------------------

    def _store(self) -> Any:
        """The file system of fsspec; made once a process, also in one that was forked."""
        scheme = self.parts[0].removesuffix(":")
        extra, package = _STORES[scheme]
        require_extra(extra, [package], needed_by=f"{scheme}://")
        import fsspec

        # What is listed must be what is there now, also where another process writes.
        return fsspec.filesystem(scheme, use_listings_cache=False)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Tell in words what the store, or the way to it, refuses.

        Raises:
            FileNotFoundError: There is no such object.
            StoreError: Anything else.
        """
        try:
            yield
        except VreidError:
            raise
        except FileNotFoundError as error:
            if "bucket does not exist" in str(error):
                raise self._no_bucket() from None
            raise FileNotFoundError(errno.ENOENT, "it is not there", str(self)) from None
        except Exception as error:
            kinds = (_TROUBLES.get(one.__name__) for one in type(error).__mro__)
            what, hint = next(filter(None, kinds), (_in_words(error), "correct the address, or try again later"))
            raise StoreError(f"{self}: {what}", hint=hint, file=str(self)) from error

    def _no_bucket(self) -> StoreError:
        scheme, bucket = self.parts[:2]
        hint = "correct the address, or make the bucket with the store's own tools"
        return StoreError(f"there is no bucket {scheme}//{bucket}", hint=hint, file=str(self))


class _Ranges(io.RawIOBase):
    """An object that is read piece by piece, without reading ahead."""

    def __init__(self, path: ObjectPath) -> None:
        self._path, self._size, self._place = path, path.stat().st_size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def readinto(self, buffer: Any) -> int:
        end = min(self._size, self._place + len(buffer))
        content = self._path.read_range(self._place, end) if self._place < end else b""
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


def join(folder: Path, name: str) -> Path:
    """A file by its name in a folder; a name can be an address of its own.

    Examples:
        >>> str(join(Path("cars"), "1.jpg")), str(join(Path("cars"), "s3://bucket/1.jpg"))
        ('cars/1.jpg', 's3://bucket/1.jpg')
    """
    return as_path(name) if "://" in name else folder / name


def _size_and_stamp(info: Mapping[str, Any]) -> tuple[int, int]:
    """The stamp is of the entity tag, which says more than a time in whole seconds; without one, it is the time."""
    tag = info.get("ETag") or info.get("etag")
    stamp = int(hashlib.sha256(str(tag).encode()).hexdigest()[:15], 16) if tag else int(1e9 * _time(info))
    return int(info["size"]), stamp


def _time(info: Mapping[str, Any]) -> float:
    """When an object was written, in seconds since 1970; each store has its own word for it."""
    found = next(info[name] for name in ("LastModified", "mtime", "created") if info.get(name) is not None)
    return found.timestamp() if isinstance(found, datetime) else float(found)


def _in_words(error: Exception) -> str:
    """What a library says, on one line, unless it might show credentials."""
    words = " ".join(str(error).split())[:300]
    return type(error).__name__ if not words or _DELICATE.search(words) else words
