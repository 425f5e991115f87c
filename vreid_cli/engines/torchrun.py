"""The engine that shares parts among the processes of one machine, as torchrun starts them.

The processes talk by files in the run directory alone. The first one, the *leader*, holds the run's lock, decides what
is to be done, announces it, and ends last; the others, its *followers*, each do their share of what it announced.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vreid_cli.engines.engine import P, R
from vreid_cli.errors import StoreError, UsageError
from vreid_cli.runtime.devices import choose_device
from vreid_cli.runtime.files import read_json_object, write_json
from vreid_cli.runtime.progress import progress

#: Seconds between two looks at what another process may have written.
_LOOK = 0.25
#: What makes a launch of torchrun another one than the last.
_LAUNCH = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE")


@dataclass(frozen=True)
class Group:
    """This process among those that torchrun started.

    Attributes:
        rank: Number of this process, from 0: the leader.
        world: Number of processes.
    """

    rank: int
    world: int

    def share(self, parts: Sequence[P]) -> Sequence[P]:
        """What of the parts is for this process.

        Examples:
            >>> Group(1, 2).share([*"abcde"])
            ['b', 'd']
        """
        return parts[self.rank :: self.world]


def find_group() -> Group | None:
    """The group of this process; None where it is alone.

    Raises:
        UsageError: The processes are on several machines.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return None
    if int(os.environ.get("LOCAL_WORLD_SIZE", world)) != world:
        raise UsageError("torchrun on several machines: processes find each other on one", hint="use --engine ray")
    return Group(int(os.environ["RANK"]), world)


def choose_own_device(name: str, world: int) -> torch.device:
    """The device of this process among several: each takes the GPU of its own number.

    Raises:
        UsageError: One GPU is named for several processes.
        DeviceError: The device is not there.
    """
    if name.startswith("cuda:"):
        hint = "use --device cuda: each process takes a GPU of its own"
        raise UsageError(f"--device {name}: {world} processes cannot share one GPU", hint=hint)
    chosen = choose_device(name)
    return choose_device(f"cuda:{os.environ['LOCAL_RANK']}") if chosen.type == "cuda" else chosen


class Announcement:
    """The file by which a leader says what is to be done, and the files by which its followers say that it is.

    They are temporary files of the run directory: whoever holds its lock next removes what a killed leader left.

    Args:
        folder: The run directory.
        group: This process.
    """

    def __init__(self, folder: Path, group: Group) -> None:
        self._folder = folder
        self._group = group
        self._path = folder / ".torchrun.tmp.json"
        self._launch = [os.environ.get(name, "") for name in _LAUNCH]
        self._content: dict[str, Any] = {}

    def begin(self, facts: Mapping[str, Any]) -> None:
        """As the leader, tell the followers what they need to know."""
        leader = [os.getpid(), _born(os.getpid())]
        self._content = {"launch": self._launch, "leader": leader, "facts": dict(facts), "shares": []}
        write_json(self._path, self._content)

    def add(self, parts: Sequence[int]) -> None:
        """As the leader, announce the numbers of parts, which all processes share."""
        self._content["shares"].append(list(parts))
        write_json(self._path, self._content)

    def end(self) -> None:
        """As the leader, wait until every follower has ended its work; as a follower, say that it has."""
        if self._group.rank:
            write_json(self._mark(self._group.rank), {"leader": self._content["leader"]})
            return
        marks = [self._mark(rank) for rank in range(1, self._group.world)]
        while not all(_read(mark).get("leader") == self._content["leader"] for mark in marks):
            time.sleep(_LOOK)
        for path in (self._path, *marks):
            path.unlink()

    def wait(self) -> Mapping[str, Any]:
        """As a follower, wait for the leader of this launch; returns the facts."""
        while True:
            found = _read(self._path)
            # A leader that was killed may have left the file; that of this launch lives until its followers have ended.
            if found.get("launch") == self._launch and _lives(found["leader"]):
                self._content = found
                return dict(found["facts"])
            time.sleep(_LOOK)

    def wait_for(self, index: int) -> list[int]:
        """As a follower, wait until parts are announced for the time with this number, from 0; returns their numbers.

        Raises:
            StoreError: The leader is gone.
        """
        while True:
            found = _read(self._path)
            if found.get("leader") == self._content["leader"] and len(found["shares"]) > index:
                numbers: list[int] = found["shares"][index]
                return numbers
            self.check()
            time.sleep(_LOOK)

    def check(self) -> None:
        """As a follower, make sure that the leader is there: its lock protects the run.

        Raises:
            StoreError: It is not.
        """
        if not _lives(self._content["leader"]):
            raise StoreError("the first process of torchrun is gone", hint="run the same command again")

    def _mark(self, rank: int) -> Path:
        return self._folder / f".torchrun-{rank}.tmp.json"


class LeaderEngine:
    """Shares parts with the followers, does its own, and waits for theirs.

    Args:
        group: This process, the leader.
    """

    here = True

    def __init__(self, group: Group) -> None:
        self.group = group
        self.announcement: Announcement | None = None

    @property
    def width(self) -> int:
        """See :class:`vreid_cli.engines.engine.Engine`."""
        return self.group.world

    def device(self, name: str) -> torch.device:
        """See :class:`vreid_cli.engines.engine.Engine`."""
        return choose_own_device(name, self.group.world)

    def map(
        self,
        work: Callable[[Sequence[P]], Iterator[R]],
        parts: Sequence[P],
        *,
        home: Callable[[P], Hashable] | None = None,
        is_done: Callable[[P], bool] | None = None,
    ) -> Iterator[R]:
        """See :class:`vreid_cli.engines.engine.Engine`; parts have a number, and results are those of the own share."""
        assert self.announcement is not None
        assert is_done is not None
        self.announcement.add([part.number for part in parts])  # type: ignore[attr-defined]
        yield from work(self.group.share(parts))
        left = [part for place, part in enumerate(parts) if place % self.group.world]
        with progress(total=len(left), what="waiting for the other processes", unit="parts") as bar:
            while left:
                still = [part for part in left if not is_done(part)]
                bar.update(len(left) - len(still))
                if still:
                    time.sleep(_LOOK)
                left = still


def _born(process: int) -> str | None:
    """When a process began, in the system's own count; None where it is gone, "" where the system does not say."""
    if os.name == "nt":
        return ""  # the signal 0 would be Ctrl-C there
    try:
        os.kill(process, 0)
        state, *fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except ProcessLookupError:
        return None
    except OSError:
        return ""
    return None if state == "Z" else fields[18]


def _lives(process: Sequence[Any]) -> bool:
    number, born = process
    return bool(_born(number) == born)


def _read(path: Path) -> dict[str, Any]:
    """The content of a file; empty where it is not there, or no longer."""
    try:
        return read_json_object(path)
    except StoreError:
        return {}
