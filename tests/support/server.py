"""A local server for downloads, which can misbehave."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Server:
    """A local server that sends one content, or the rest of it, or misbehaves.

    Attributes:
        cut: Bytes of a body after which the connection breaks.
        ranges: Whether it sends only the part that is asked for.
        shift: By how much the part is another one than was asked for.
        asked: Range and If-Range of each request.
    """

    content: bytes
    url: str = ""
    status: int = 200
    cut: int | None = None
    ranges: bool = True
    shift: int = 0
    tag: str | None = '"one"'
    stall: threading.Event | None = None
    requests: list[str] = field(default_factory=list)
    asked: list[tuple[str | None, str | None]] = field(default_factory=list)

    def start(self, wanted: str | None, tag: str | None) -> int | None:
        """Where the part begins that is sent; None for all."""
        if wanted is None or not self.ranges or tag not in (None, self.tag):
            return None
        match = re.fullmatch(r"bytes=(\d+)-", wanted)
        assert match
        return int(match[1]) + self.shift


def names_in(folder: Path) -> list[str]:
    """What a download left, beside the lock that stays where it is."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


@contextlib.contextmanager
def serve(content: bytes, name: str) -> Iterator[Server]:
    """A running server that sends this content under this name."""
    serving = Server(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            serving.requests.append(self.path)
            if serving.stall is not None:
                serving.stall.wait(20)
            if serving.status != 200:
                self.send_error(serving.status)
                return
            asked = (self.headers["Range"], self.headers["If-Range"])
            serving.asked.append(asked)
            start, size = serving.start(*asked), len(serving.content)
            if start is not None and start >= size:
                self.send_error(416)
                return
            body = serving.content[start:]
            self.send_response(200 if start is None else 206)
            if start is not None:
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            if serving.tag is not None:
                self.send_header("ETag", serving.tag)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # of a client that was interrupted
                self.wfile.write(body[: serving.cut])

        def log_message(self, *_args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    serving.url = f"http://127.0.0.1:{httpd.server_port}/{name}"
    yield serving
    if serving.stall is not None:
        serving.stall.set()
    httpd.shutdown()
    httpd.server_close()
    thread.join()
