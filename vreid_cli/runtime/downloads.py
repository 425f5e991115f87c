"""Downloads that continue where they broke off, and that are verified before they are used.

What has arrived is kept in ``<name>.part`` beside the target, with the server's tag for that content, so that the
next attempt asks for the rest only. One process at a time works on a target.
"""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from vreid_cli.errors import DataError, VreidError
from vreid_cli.runtime.files import alone, explain_write_errors, put_in_place
from vreid_cli.runtime.progress import log, progress
from vreid_cli.types.amounts import amount

_CHUNK = 1 << 20
_PARTIAL, _BEYOND_THE_END = 206, 416
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
#: A weak tag (W/"…") does not promise the same bytes, so a download cannot be continued by it.
_STRONG_TAG = re.compile(r'"[!#-~]*"')


@dataclass(frozen=True)
class Download:
    """A file to fetch.

    Attributes:
        url: Its address.
        path: Where it goes once it is complete and verified.
        check: Says what distinguishes a file from the published one; None for nothing.
        timeout: Seconds to wait for the server.
        advice: What else the user can do, for hints.
        error: Class of the errors.
    """

    url: str
    path: Path
    check: Callable[[Path], str | None]
    timeout: float = 30.0
    advice: str = "try again later"
    error: type[VreidError] = DataError

    @property
    def part(self) -> Path:
        """What has arrived so far."""
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def tag(self) -> Path:
        """The server's tag for the content that ``part`` is the beginning of."""
        return self.path.with_name(f"{self.path.name}.part.etag")

    def kept(self) -> int:
        """Bytes that have arrived so far."""
        return self.part.stat().st_size if self.part.is_file() else 0

    def discard(self) -> None:
        """Delete what has arrived so far."""
        self.part.unlink(missing_ok=True)
        self.tag.unlink(missing_ok=True)

    def failure(self, reason: object, *, received: int = 0) -> VreidError:
        """The error of a server that is unreachable, refuses or breaks off."""
        # The text of an HTTPError holds the number that people search for; other errors wrap their reason.
        if not isinstance(reason, HTTPError):
            reason = getattr(reason, "reason", None) or reason
        kept = "what has arrived is kept, and the same command goes on from there; " if received or self.kept() else ""
        return self.error(f"{self.url} cannot be downloaded: {reason}", hint=kept + self.advice, file=self.url)


def fetch(download: Download) -> None:
    """Fetch a file, unless another process does so meanwhile.

    Raises:
        VreidError: Of the download's class: the server cannot be reached, breaks off (what has arrived is kept), or
            sends another file than the published one (which is deleted).
        StoreError: The folder cannot be written to.
    """
    with explain_write_errors(download.path):
        download.path.parent.mkdir(parents=True, exist_ok=True)
        with alone(download.path, doing="downloading"):
            if download.path.is_file():
                return
            try:
                _verify(download, reused=_complete(download))
                put_in_place(download.part, download.path)
            finally:
                if not download.kept():
                    download.discard()


def _complete(download: Download) -> int:
    """Bring the part to its full length; returns how many bytes of it earlier attempts had fetched."""
    kept = download.kept()
    reused = _transfer(download)
    if reused is not None:
        return reused
    if download.check(download.part) is None:
        return kept  # an earlier attempt was stopped between its last byte and the end
    log.info("the server cannot continue the earlier download: starting over")
    download.discard()
    return _transfer(download) or 0


def _transfer(download: Download) -> int | None:
    """Receive what is missing; returns where that began, or None where the server does not continue the part."""
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
                raise ValueError("the server sent another part of the file")
        except ValueError as error:
            raise download.failure(error) from None
        log.info("downloading %s%s", download.url, f", from byte {start:,} on" if start else "")
        _receive(response, download, start=start, size=size)
    return start


def _open(download: Download, have: int) -> Any:
    """The server's answer to the question for all from byte ``have`` on; None if the file ends before it."""
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
        raise download.failure(error) from None


def _read_span(response: Any) -> tuple[int, int]:
    """Where in the file the body begins (-1: unknown), and how large the whole file is (0: unknown)."""
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
                # After the part was emptied: a tag must never stand beside bytes of other content.
                tag = response.headers.get("ETag") or ""
                download.tag.write_text(tag if _STRONG_TAG.fullmatch(tag) else "", encoding="utf-8")
            for chunk in _read(response, download, start=start, size=size):
                file.write(chunk)
    except OSError:
        # The disk is full, or the like; errors of the network have become ours. Make room for others.
        download.discard()
        raise


def _read(response: Any, download: Download, *, start: int, size: int) -> Iterator[bytes]:
    """A body in pieces, with a progress bar; every network error becomes the download's."""
    received = start
    try:
        with progress(total=size, what=download.path.name, unit="B", initial=start) as bar:
            # read1: read waits for all of its chunk, and loses what has arrived if the connection breaks.
            while chunk := response.read1(_CHUNK):
                received += len(chunk)
                bar.update(len(chunk))
                yield chunk
    except (OSError, HTTPException, ValueError) as error:
        raise download.failure(error, received=received) from None
    if size and received != size:
        raise download.failure(f"the connection broke after {received:,} of {amount(size, 'byte')}", received=received)


def _verify(download: Download, *, reused: int) -> None:
    """Delete a part that is not the published file, and say so."""
    if wrong := download.check(download.part):
        download.discard()
        earlier = f" ({amount(reused, 'byte')} of it at an earlier attempt)" if reused else ""
        again = "run the same command again, which starts over" if reused else "try again later"
        raise download.error(
            f"what {download.url} sent{earlier} is not the published file: {wrong}; it was deleted",
            hint=f"{again}; {download.advice}",
            file=download.url,
        )
