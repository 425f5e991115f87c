"""Downloads that go on where they broke off, and that are verified before they are used.

What has come so far is kept in ``<name>.part`` beside the target, with the server's tag for that content, so that the
next attempt asks for the rest alone. Only one process at a time works on a target.
"""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from filelock import FileLock, Timeout

from vreid_cli.errors import WeightsError
from vreid_cli.runtime.files import explain_write_errors, put_in_place
from vreid_cli.runtime.progress import log, progress

#: Says what is wrong with a file; None if nothing is.
Check = Callable[[Path], str | None]

_CHUNK = 1 << 20
_PARTIAL, _BEYOND_THE_END = 206, 416
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
#: A weak tag (W/"…") does not promise the same bytes, so nothing can be continued by it.
_STRONG_TAG = re.compile(r'"[!#-~]*"')


@dataclass(frozen=True)
class Download:
    """What is fetched from where.

    Attributes:
        url: Address.
        path: Where the file goes, once it is whole and verified.
        check: Compares it with what was published.
        timeout: Seconds to wait for the server.
        advice: What else the user can do, for hints.
    """

    url: str
    path: Path
    check: Check
    timeout: float
    advice: str

    @property
    def part(self) -> Path:
        """What has come so far."""
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def tag(self) -> Path:
        """The server's tag for the content that ``part`` is the beginning of."""
        return self.path.with_name(f"{self.path.name}.part.etag")

    def kept(self) -> int:
        """Bytes that have come so far."""
        return self.part.stat().st_size if self.part.is_file() else 0

    def discard(self) -> None:
        """Throw away what has come so far."""
        self.part.unlink(missing_ok=True)
        self.tag.unlink(missing_ok=True)


def fetch(download: Download) -> None:
    """Fetch the file; does nothing if another process has done so meanwhile.

    Raises:
        WeightsError: The server cannot be reached, breaks off (what has come is kept), or sends something else than
            what was published (which is thrown away).
        StoreError: The folder cannot be written to.
    """
    with explain_write_errors(download.path):
        download.path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(download.path):
            if download.path.is_file():
                return
            try:
                reused = _complete(download)
                _verify(download, reused=reused)
                put_in_place(download.part, download.path)
            finally:
                if not download.kept():
                    download.discard()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from the same download meanwhile; waits for one that is at it."""
    # Never deleted: a process that still waits for it would then hold another file than the next one.
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("another vreid is downloading %s: waiting for it", path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _complete(download: Download) -> int:
    """Bring the part to its full length; returns how many bytes of it earlier attempts had fetched."""
    kept = download.kept()
    reused = _transfer(download)
    if reused is None and download.check(download.part) is None:
        return kept  # an earlier attempt was stopped between its last byte and the end
    if reused is None:
        log.info("what an earlier attempt fetched cannot be continued and was thrown away")
        download.discard()
        reused = _transfer(download)
    return reused or 0


def _transfer(download: Download) -> int | None:
    """Receive what is missing; returns where that began, or None where the server does not continue what is kept."""
    have = download.kept()
    response = _open(download, have)
    if response is None:
        return None
    with response:
        try:
            start, size = _read_span(response)
            if start not in (0, have):
                if have:
                    return None
                raise ValueError("it sends another part of the file than was asked for")
        except ValueError as error:
            raise _refusal(download, error) from None
        log.info("downloading %s%s", download.url, f", from byte {start:,} on" if start else "")
        _receive(response, download, start=start, size=size)
    return start


def _open(download: Download, have: int) -> Any:
    """The server's answer to the question for all from byte ``have`` on; None where it has nothing there."""
    headers = {"User-Agent": "vreid", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        tag = download.tag.read_text(encoding="utf-8", errors="replace") if download.tag.is_file() else ""
        if _STRONG_TAG.fullmatch(tag):
            headers["If-Range"] = tag
    try:
        request = urllib.request.Request(download.url, headers=headers)
        return urllib.request.urlopen(request, timeout=download.timeout)
    except (OSError, HTTPException, ValueError) as error:
        if have and isinstance(error, HTTPError) and error.code == _BEYOND_THE_END:
            error.close()
            return None
        raise _refusal(download, error) from None


def _read_span(response: Any) -> tuple[int, int]:
    """Where in the file the body begins (-1: unknown), and how large the whole file is (0: unknown).

    Raises:
        ValueError: The headers are damaged.
    """
    length = int(response.headers.get("Content-Length") or 0)
    if response.status != _PARTIAL:
        return 0, length
    span = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range") or "")
    if span is None:
        return -1, 0
    return int(span[1]), int(span[1]) + length if span[2] == "*" else int(span[2])


def _receive(response: Any, download: Download, *, start: int, size: int) -> None:
    """Write a body to the part, from ``start`` on."""
    try:
        with download.part.open("ab" if start else "wb") as file:
            if not start:
                # After the part was emptied: a tag must never stand beside bytes that it does not belong to.
                tag = response.headers.get("ETag") or ""
                download.tag.write_text(tag if _STRONG_TAG.fullmatch(tag) else "", encoding="utf-8")
            for chunk in _read(response, download, start=start, size=size):
                file.write(chunk)
    except OSError:
        # The disk is full, or the like: errors of the network are none any more. Make room for others.
        download.discard()
        raise


def _read(response: Any, download: Download, *, start: int, size: int) -> Iterator[bytes]:
    """A body in pieces, with a progress bar; every network error becomes ours."""
    received = start
    try:
        with progress(total=size, what="weights", unit="B", initial=start) as bar:
            # read1: what has come when the connection breaks is lost with read, which waits for all of its chunk.
            while chunk := response.read1(_CHUNK):
                received += len(chunk)
                bar.update(len(chunk))
                yield chunk
    except (OSError, HTTPException, ValueError) as error:
        raise _refusal(download, error, received=received) from None
    if size and received != size:
        raise _refusal(download, None, received=received, size=size)


def _refusal(download: Download, error: Exception | None, *, received: int = 0, size: int = 0) -> WeightsError:
    if error is None:
        message = f"{download.url}: the connection broke after {received} of {size} bytes"
    else:
        # An HTTPError's reason lacks the number that people search for.
        reason = error if isinstance(error, HTTPError) else getattr(error, "reason", None) or error
        message = f"{download.url} cannot be downloaded: {reason}"
    kept = "what has come is kept, and the same command goes on from there; " if received or download.kept() else ""
    return WeightsError(message, hint=f"{kept}{download.advice}", file=download.url)


def _verify(download: Download, *, reused: int) -> None:
    """Throw away what is not the published file.

    Raises:
        WeightsError: It is not.
    """
    wrong = download.check(download.part)
    if wrong is None:
        return
    download.discard()
    begun = f" ({reused} bytes of it at an earlier attempt)" if reused else ""
    again = "run the same command again, which starts anew" if reused else "try again later"
    raise WeightsError(
        f"what {download.url} sent{begun} is not the published file: {wrong}; it was thrown away",
        hint=f"{again}, or from another mirror (model.weights_url); {download.advice}",
        file=download.url,
    )
