"""Downloads from a local server that breaks off, changes its mind or sends something else."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from server import Server, names_in, serve

from vreid_cli.errors import DataError, StoreError, WeightsError
from vreid_cli.runtime.downloads import Download, fetch
from vreid_cli.runtime.progress import log

NAME = "weights.pth"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with serve(np.random.default_rng(0).bytes(3_000_000), NAME) as serving:
        yield serving


def source_for(server: Server, folder: Path, timeout: float = 30.0) -> Download:
    expected = hashlib.sha256(server.content).hexdigest()

    def check(path: Path) -> str | None:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        return None if found == expected else f"SHA-256 {found}, expected {expected}"

    return Download(server.url, folder / NAME, check, timeout=timeout, advice="or fetch it elsewhere")


def download(source: Download) -> bytes:
    """A download that must succeed and leave nothing but the file."""
    fetch(source)
    assert names_in(source.path.parent) == [NAME]
    return source.path.read_bytes()


def download_refusal(source: Download) -> DataError:
    """The error of a download that must leave nothing behind."""
    error = broken_download(source)
    assert not source.path.parent.exists() or names_in(source.path.parent) == []
    return error


def broken_download(source: Download) -> DataError:
    """The error of a download that says what to do instead."""
    with pytest.raises(DataError) as caught:
        fetch(source)
    assert source.url in caught.value.message
    assert "or fetch it elsewhere" in (caught.value.hint or "")
    return caught.value


def test_changed_byte_is_refused(tmp_path: Path, server: Server):
    source = source_for(server, tmp_path / "cache")
    changed = bytearray(server.content)
    changed[len(changed) // 2] ^= 1
    server.content = bytes(changed)
    error = download_refusal(source)
    assert hashlib.sha256(server.content).hexdigest() in error.message


@pytest.mark.parametrize("status", [404, 403, 500])
def test_server_says_no(tmp_path: Path, server: Server, status: int):
    server.status = status
    assert str(status) in download_refusal(source_for(server, tmp_path / "cache")).message


def test_connection_refused(tmp_path: Path, server: Server):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    source = replace(source_for(server, tmp_path / "cache"), url=f"http://127.0.0.1:{port}/VeRI.pth")
    assert "refused" in download_refusal(source).message.lower()


def test_connection_cut_short_twice_goes_on_each_time(tmp_path: Path, server: Server):
    source = source_for(server, tmp_path / "cache")
    server.cut = 1_000_001
    for kept in (1_000_001, 2_000_002):
        error = broken_download(source)
        assert f"broke after {kept:,} of {len(server.content):,} bytes" in error.message
        assert "the same command goes on from there" in (error.hint or "")
        assert part_of(source).read_bytes() == server.content[:kept]
    assert download(source) == server.content
    assert server.asked == [(None, None), ("bytes=1000001-", '"one"'), ("bytes=2000002-", '"one"')]


def part_of(source: Download) -> Path:
    return source.part


def begin(server: Server, folder: Path, size: int = 1_000_000) -> Download:
    """A download whose connection broke after so many bytes."""
    source = source_for(server, folder)
    server.cut = size
    broken_download(source)
    assert part_of(source).stat().st_size == size
    server.cut = None
    server.asked.clear()
    return source


@pytest.mark.parametrize("case", ["ignores ranges", "sends another part", "has other content now", "is at fault once"])
def test_a_server_that_does_not_go_on_is_asked_for_all(tmp_path: Path, server: Server, case: str):
    source = begin(server, tmp_path / "cache")
    if case == "ignores ranges":
        server.ranges = False
    elif case == "sends another part":
        server.shift = 5
    elif case == "has other content now":
        server.content, server.tag = server.content[::-1], '"two"'
        source = source_for(server, tmp_path / "cache")
    else:
        server.status = 503
        assert "503" in broken_download(source).message
        assert part_of(source).stat().st_size == 1_000_000
        server.status = 200
    assert download(source) == server.content
    again = [(None, None)] if case == "sends another part" else []
    assert server.asked == [("bytes=1000000-", '"one"'), *again]


@pytest.mark.parametrize("tag", [None, 'W/"weak"', "no tag", '"a", "b"'])
def test_without_a_strong_tag_the_rest_is_asked_for_by_its_place_alone(tmp_path: Path, server: Server, tag: str | None):
    server.tag = tag
    source = begin(server, tmp_path / "cache")
    assert download(source) == server.content
    assert server.asked == [("bytes=1000000-", None)]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_part_that_is_whole_is_used(tmp_path: Path, server: Server, ranges: bool):
    source = begin(server, tmp_path / "cache")
    part_of(source).write_bytes(server.content)  # the process was killed between the last byte and the end
    server.ranges = ranges
    assert download(source) == server.content
    assert server.asked == [("bytes=3000000-", '"one"')]


@pytest.mark.parametrize("surplus", [0, 1, 1_000_000])
def test_a_part_beyond_the_end_that_is_wrong_is_thrown_away(tmp_path: Path, server: Server, surplus: int):
    source = begin(server, tmp_path / "cache")
    part_of(source).write_bytes(bytes(len(server.content) + surplus))
    assert download(source) == server.content
    assert server.asked[-1] == (None, None)


def test_a_wrong_part_is_thrown_away_so_that_the_next_attempt_succeeds(tmp_path: Path, server: Server):
    source = begin(server, tmp_path / "cache")
    part_of(source).write_bytes(b"x" + server.content[1:1_000_000])
    error = download_refusal(source)
    assert "(1,000,000 bytes of it at an earlier attempt) is not the published file" in error.message
    assert "run the same command again, which starts over" in (error.hint or "")
    assert download(source) == server.content
    assert server.asked == [("bytes=1000000-", '"one"'), (None, None)]


def test_a_damaged_tag_is_no_tag(tmp_path: Path, server: Server):
    source = begin(server, tmp_path / "cache")
    source.tag.write_bytes(b'"\xff\r\nX: y"')
    assert download(source) == server.content
    assert server.asked == [("bytes=1000000-", None)]


@dataclass
class Meter:
    """Stands for the progress bar, and interrupts as Ctrl-C does."""

    interrupt_at: int
    spans: list[tuple[int, int]] = field(default_factory=list)
    done: int = 0

    @contextlib.contextmanager
    def __call__(self, *, total: int, what: str, unit: str, initial: int) -> Iterator[Meter]:
        self.spans.append((initial, total))
        self.done = initial
        yield self

    def update(self, n: float) -> None:
        self.done += int(n)
        if self.done >= self.interrupt_at:
            raise KeyboardInterrupt


def test_an_interrupted_download_goes_on_and_the_bar_begins_at_what_is_there(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
):
    source, meter = source_for(server, tmp_path / "cache"), Meter(interrupt_at=2_000_000)
    monkeypatch.setattr("vreid_cli.runtime.downloads.progress", meter)
    with pytest.raises(KeyboardInterrupt):
        download(source)
    kept = part_of(source).read_bytes()
    assert 0 < len(kept) < 2_000_000
    assert server.content.startswith(kept)
    meter.interrupt_at = len(server.content) + 1
    assert download(source) == server.content
    assert server.asked == [(None, None), (f"bytes={len(kept)}-", '"one"')]
    assert meter.spans == [(0, len(server.content)), (len(kept), len(server.content))]
    assert meter.done == len(server.content)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once a download waits for another."""
    event = threading.Event()
    monkeypatch.setattr(log, "info", lambda form, *_: event.set() if "waiting for it" in form else None)
    return event


def test_two_at_once_fetch_it_once(tmp_path: Path, server: Server, waiting: threading.Event):
    source = source_for(server, tmp_path / "cache")
    server.stall = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(fetch, source) for _ in range(2)]
        assert waiting.wait(20)
        server.stall.set()
        for future in both:
            future.result(20)
    assert source.path.read_bytes() == server.content
    assert len(server.requests) == 1
    assert names_in(source.path.parent) == [NAME]


def test_one_that_waited_goes_on_where_the_other_broke_off(tmp_path: Path, server: Server, waiting: threading.Event):
    source = source_for(server, tmp_path / "cache")
    source.path.parent.mkdir()
    with ThreadPoolExecutor(1) as pool:
        with FileLock(source.path.parent / f".{NAME}.lock"):
            second = pool.submit(download, source)
            assert waiting.wait(20)
            # Meanwhile the holder of the lock gets this far.
            part_of(source).write_bytes(server.content[:1_000_000])
            assert server.requests == []
        assert second.result(20) == server.content
    assert server.asked == [("bytes=1000000-", None)]


def test_silent_server(tmp_path: Path, server: Server):
    server.stall = threading.Event()
    assert "timed out" in download_refusal(source_for(server, tmp_path / "cache", timeout=0.2)).message


@pytest.mark.parametrize("url", ["nonsense", "ftp://", "http://[", "http://127.0.0.1:99999/x", "no://such"])
def test_address_that_is_none(tmp_path: Path, server: Server, url: str):
    download_refusal(replace(source_for(server, tmp_path / "cache"), url=url))


def test_no_room_for_the_download(
    tmp_path: Path, server: Server, limited_files: Callable[[int], AbstractContextManager[None]]
):
    with limited_files(50_000), pytest.raises(StoreError) as caught:
        fetch(source_for(server, tmp_path / "cache"))
    assert str(tmp_path / "cache") in caught.value.message
    assert names_in(tmp_path / "cache") == []


def test_cache_that_is_a_file(tmp_path: Path, server: Server):
    (tmp_path / "cache").write_text("no folder")
    with pytest.raises(StoreError, match="cannot be written"):
        fetch(source_for(server, tmp_path / "cache"))


def test_errors_are_of_the_class_that_is_asked_for(tmp_path: Path, server: Server):
    server.status = 404
    with pytest.raises(WeightsError, match="404"):
        fetch(replace(source_for(server, tmp_path), error=WeightsError))
