"""Processes of torchrun that talk by files: who leads, and that nobody takes orders from a leader that was killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vreid_cli.engines import torchrun
from vreid_cli.engines.choose import open_engine
from vreid_cli.engines.torchrun import Announcement, Group, LeaderEngine, choose_own_device, find_group
from vreid_cli.errors import StoreError, UsageError
from vreid_cli.runtime.options import RuntimeOptions

LEADER, FOLLOWER = Group(0, 2), Group(1, 2)


def a_dead_process() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def write_leader(folder: Path, process: int) -> None:
    """Let the announcement come from another process."""
    path = folder / ".torchrun.tmp.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "leader": [process, "1"]}))


def test_without_torchrun_there_is_no_group(monkeypatch: pytest.MonkeyPatch):
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    assert find_group() is None
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    assert find_group() == Group(3, 4)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="torchrun on several machines"):
        find_group()


def test_every_part_belongs_to_one_process():
    shares = [Group(rank, 3).share(range(10)) for rank in range(3)]
    assert sorted(part for share in shares for part in share) == list(range(10))


def test_several_processes_do_not_share_one_gpu_nor_work_beside_ray():
    with pytest.raises(UsageError, match="2 processes cannot share one GPU"):
        choose_own_device("cuda:0", 2)
    with pytest.raises(UsageError, match="--engine ray under torchrun"):
        open_engine(RuntimeOptions(engine="ray"), LEADER)


def test_what_a_killed_leader_left_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Announcement(tmp_path, LEADER).begin({"batch_size": 1})
    write_leader(tmp_path, a_dead_process())
    monkeypatch.setattr(torchrun.time, "sleep", lambda _: Announcement(tmp_path, LEADER).begin({"batch_size": 2}))
    assert Announcement(tmp_path, FOLLOWER).wait() == {"batch_size": 2}


def test_that_of_another_launch_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Announcement(tmp_path, LEADER).begin({"batch_size": 1})
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    monkeypatch.setattr(torchrun.time, "sleep", lambda _: Announcement(tmp_path, LEADER).begin({"batch_size": 2}))
    assert Announcement(tmp_path, FOLLOWER).wait() == {"batch_size": 2}


def test_a_follower_stops_when_its_leader_is_gone(tmp_path: Path):
    Announcement(tmp_path, LEADER).begin({})
    write_leader(tmp_path, a_dead_process())
    follower = Announcement(tmp_path, FOLLOWER)
    follower._content = json.loads((tmp_path / ".torchrun.tmp.json").read_text())
    with pytest.raises(StoreError, match="the first process of torchrun is gone"):
        follower.wait_for(0)


def test_the_leader_waits_for_the_parts_of_all_and_ends_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Part:
        def __init__(self, number: int) -> None:
            self.number = number

    engine, follower = LeaderEngine(LEADER), Announcement(tmp_path, FOLLOWER)
    engine.announcement = Announcement(tmp_path, LEADER)
    engine.announcement.begin({})
    follower.wait()
    done: set[int] = set()

    def work(parts: list[Part]) -> Iterator[int]:
        for part in parts:
            done.add(part.number)
            yield part.number

    # While the leader sleeps, the follower does its share.
    monkeypatch.setattr(torchrun.time, "sleep", lambda _: done.update(FOLLOWER.share(follower.wait_for(0))))
    parts = [Part(number) for number in (3, 5, 8, 9)]
    assert list(engine.map(work, parts, is_done=lambda part: part.number in done)) == [3, 8]
    assert done == {3, 5, 8, 9}
    monkeypatch.setattr(torchrun.time, "sleep", lambda _: follower.end())
    engine.announcement.end()
    assert list(tmp_path.iterdir()) == []
