"""The engine that works on the machines of a Ray cluster.

Each worker is an actor with a GPU or some cores of its own, which keeps what its work needs: a network, a part of a
gallery. Workers start on every machine that has room, also on those that join later. What a lost worker was at is
done again by another, as :class:`~vreid_cli.engines.schedule.Schedule` says.
"""

from __future__ import annotations

import logging
import os
import pickle
import platform
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import torch

from vreid_cli.engines.engine import P, R
from vreid_cli.engines.schedule import MOST_DEATHS, Schedule
from vreid_cli.errors import ClusterError, DeviceError, PartsLostError, UsageError, VreidError, first_line
from vreid_cli.runtime.devices import choose_device
from vreid_cli.runtime.extras import installed_version, require_extra
from vreid_cli.runtime.progress import log

#: Seconds that a machine may take to accept a connection.
_PATIENCE = 5.0
#: Seconds between looks at which machines the cluster has.
_LOOK = 1.0
#: Looks without any worker after which the cluster is given up.
_MOST_LOOKS = 60
#: Parts that a worker with a GPU takes at a time, so that its decoding processes need not start for each.
_AT_ONCE = 16
_SAME_EVERYWHERE = "all machines of the cluster need the same vreid, with the same extras, and torch"
_KEPT = "what was finished is kept; the same command goes on from there"


class RayWorker:
    """Works on a machine of the cluster, in a process of its own.

    Args:
        threads: Of the computations on its cores.
    """

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self._shipped = ""
        self._work: Callable[[Sequence[Any]], Iterator[Any]] | None = None

    def hello(self) -> tuple[str, dict[str, str]]:
        """The machine, and the versions that must be those of everybody."""
        return platform.node(), _versions()

    def run(self, shipped: list[Any], parts: Sequence[Any]) -> tuple[list[Any] | VreidError, list[logging.LogRecord]]:
        """Results of the parts, or the error that ends everything, and what was logged meanwhile.

        Args:
            shipped: A reference to the work, pickled; it is opened when it is another than before.
            parts: Parts.
        """
        import ray

        with _logged() as records:
            try:
                # Its name, not the reference: that would keep the pickled work in the cluster's memory.
                if self._work is None or self._shipped != shipped[0].hex():
                    self._work = None
                    self._work, self._shipped = pickle.loads(ray.get(shipped[0])), shipped[0].hex()
                return list(self._work(parts)), records
            except VreidError as error:
                return error, records


@dataclass(eq=False)
class _Member:
    """A worker as the engine sees it.

    Attributes:
        actor: Its handle.
        node: The machine, by Ray's id.
        due: The answer that it owes; None while it has nothing to do.
        ready: Whether it could start, and fits.
    """

    actor: Any
    node: str
    due: Any
    ready: bool = False


class _Lost:
    """Stands for the answer of a worker that is gone."""


class RayEngine:
    """Maps work over the workers of a cluster; to be used in a ``with`` block, which stops them at its end.

    Args:
        address: ``HOST:PORT`` of the cluster, or ``auto`` for one that runs on this machine. None for what
            ``RAY_ADDRESS`` names; without that Ray is started on this machine.
        cores: Cores of a worker where the work does not run on GPUs.

    Raises:
        MissingExtraError: Ray is not installed.
        ClusterError: The cluster cannot be reached, or has another version of Ray or Python.
    """

    here = False

    def __init__(self, address: str | None = None, *, cores: int = 4) -> None:
        require_extra("ray", ["ray"], needed_by="--engine ray")
        self._cores = cores
        self._gpus = False
        self._connected = _connect(address or os.environ.get("RAY_ADDRESS") or None)
        self._members: list[_Member] = []
        self._failures: Counter[str] = Counter()
        self._reason = "none of its machines has room"
        self._looks = 0
        self._work: tuple[object, Any] = (None, None)
        self._stdout = ExitStack()

    def __enter__(self) -> RayEngine:
        # Ray prints what happens to machines, and stdout is for results.
        self._stdout.enter_context(redirect_stdout(sys.stderr))
        return self

    def __exit__(self, *error: object) -> None:
        import ray

        with self._stdout:
            for member in list(self._members):
                self._dismiss(member)
            if self._connected:
                ray.shutdown()

    @property
    def width(self) -> int:
        """See :class:`vreid_cli.engines.engine.Engine`."""
        return max(1, sum(room for room, _ in self._rooms().values()))

    def device(self, name: str) -> torch.device:
        """See :class:`vreid_cli.engines.engine.Engine`; GPUs are those of the cluster."""
        import ray

        gpus = ray.cluster_resources().get("GPU", 0) >= 1
        if name == "cuda" and not gpus:
            raise DeviceError("--device cuda: no machine of the cluster has a GPU", hint="use --device cpu (or auto)")
        if name.startswith("cuda:") or name == "mps":
            raise UsageError(f"--device {name}: the cluster chooses a GPU for each worker", hint="use --device cuda")
        self._gpus = gpus and name in ("auto", "cuda")
        return torch.device("cuda") if self._gpus else choose_device("cpu" if name == "auto" else name)

    def map(
        self,
        work: Callable[[Sequence[P]], Iterator[R]],
        parts: Sequence[P],
        *,
        home: Callable[[P], Hashable] | None = None,
        is_done: Callable[[P], bool] | None = None,
    ) -> Iterator[R]:
        """See :class:`vreid_cli.engines.engine.Engine`.

        Raises:
            PartsLostError: At the end, some parts could not be done.
            ClusterError: No machine of the cluster can work.
            VreidError: What the work raises.
        """
        schedule = Schedule(parts, home=home)
        shipped = self._ship(work)
        try:
            while schedule.left:
                self._hire(schedule.left)
                for member in self._members:
                    if member.ready and not member.due and (some := schedule.take(member, most=self._most(schedule))):
                        member.due = member.actor.run.remote([shipped], some)
                for member, answer in self._wait():
                    if isinstance(answer, _Lost):
                        schedule.lose(member)
                    else:
                        schedule.finish(member)
                        yield from _unpack(answer)
        finally:
            for member in [one for one in self._members if one.ready and one.due]:  # nobody wants its answer any more
                self._dismiss(member)
        if schedule.given_up:
            named = ", ".join(map(str, schedule.given_up))
            raise PartsLostError(
                f"each of these killed {MOST_DEATHS} workers that were at it, and was set aside: {named}",
                hint=f"look at its images, and at the memory of the machines; {_KEPT}",
            )

    def _ship(self, work: object) -> Any:
        """A reference to the pickled work, which each worker fetches once.

        Raises:
            ClusterError: Ray has no room for it.
        """
        import ray
        from ray import cloudpickle

        if self._work[0] is not work:
            self._work = (None, None)  # makes room
            try:
                self._work = (work, ray.put(cloudpickle.dumps(work)))
            except ray.exceptions.RayError as error:
                hint = "make room, or start Ray with a larger --object-store-memory"
                raise ClusterError(f"Ray cannot keep what the workers need: {first_line(error)}", hint=hint) from None
        return self._work[1]

    def _most(self, schedule: Schedule[Any]) -> int:
        """Parts for a worker at a time: fewer towards the end, so that all end together."""
        if not self._gpus:
            return 1
        return max(1, min(_AT_ONCE, schedule.left // (4 * len(self._members))))

    def _rooms(self) -> dict[str, tuple[int, int]]:
        """For how many workers each machine has room, and the cores of each."""
        import ray

        rooms = {}
        for node in ray.nodes():
            gpus, cores = (int(node["Resources"].get(name, 0)) for name in ("GPU", "CPU"))
            own = max(1, min(self._cores, cores))
            if node["Alive"] and self._failures[node["NodeID"]] < MOST_DEATHS:
                rooms[node["NodeID"]] = gpus if self._gpus else cores // own, own
        return rooms

    def _hire(self, parts: int) -> None:
        """Start workers on machines that have room, as far as there are parts for them.

        Raises:
            ClusterError: No machine can work, and none came for a while.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        for name, (room, cores) in self._rooms().items():
            here = sum(member.node == name for member in self._members)
            for _ in range(min(room - here, parts - len(self._members))):
                actor = ray.remote(RayWorker).options(
                    num_cpus=0 if self._gpus else cores,
                    num_gpus=int(self._gpus),
                    scheduling_strategy=NodeAffinitySchedulingStrategy(name, soft=False),
                )
                handle = actor.remote(cores)
                self._members.append(_Member(handle, name, due=handle.hello.remote()))
        self._looks = 0 if self._members else self._looks + 1
        if self._looks > (_MOST_LOOKS if not self._failures else 0):
            raise ClusterError(f"no worker can start on the cluster: {self._reason}", hint=_SAME_EVERYWHERE)

    def _wait(self) -> list[tuple[_Member, Any]]:
        """Workers that answered and what, or that they are lost; waits for a moment."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        due = {member.due: member for member in self._members if member.due}
        if not due:
            time.sleep(_LOOK)
            return []
        found, _ = ray.wait(list(due), num_returns=1, timeout=_LOOK)
        answers = []
        for reference in found:
            member, member.due = due[reference], None
            try:
                answer = ray.get(reference)
            except RayError as error:
                if member.ready and isinstance(error, RayTaskError):  # a bug: let it show
                    raise
                answer = _Lost()
                self._fire(member, why=error)
            if member.ready or isinstance(answer, _Lost):
                answers.append((member, answer))
            else:
                self._welcome(member, *answer)
        return answers

    def _welcome(self, member: _Member, machine: str, versions: Mapping[str, str]) -> None:
        """A worker is ready, if it is like this process.

        Raises:
            ClusterError: It is not.
        """
        own = _versions()
        for name, here in own.items():
            if versions.get(name) != here:
                raise ClusterError(
                    f"{machine} of the cluster has {name} {versions.get(name)}, and this machine has {here}",
                    hint=_SAME_EVERYWHERE,
                )
        member.ready = True
        log.debug("a worker on %s is ready", machine)

    def _fire(self, member: _Member, *, why: Exception) -> None:
        """A worker is gone, or could not start."""
        self._dismiss(member)
        lines = [line for line in str(why).splitlines() if line.strip()] or [type(why).__name__]
        if member.ready:
            log.warning("a worker of the cluster is lost; another does its work: %s", lines[0])
        else:
            self._failures[member.node] += 1
            self._reason = lines[-1].strip()
            log.debug("a worker could not start: %s", why)

    def _dismiss(self, member: _Member) -> None:
        import ray

        self._members.remove(member)
        ray.kill(member.actor)


def _unpack(answer: tuple[list[Any] | VreidError, list[logging.LogRecord]]) -> list[Any]:
    """The results that a worker gave, after what it logged.

    Raises:
        VreidError: It gave an error.
    """
    results, records = answer
    for record in records:
        if log.isEnabledFor(record.levelno):
            log.handle(record)
    if isinstance(results, VreidError):
        raise results
    return results


@contextmanager
def _logged() -> Iterator[list[logging.LogRecord]]:
    """What is logged meanwhile, ready to be sent."""
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            record.msg, record.args, record.exc_info = record.getMessage(), (), None
            records.append(record)

    log.handlers, log.propagate = [Keep()], False
    log.setLevel(logging.DEBUG)
    yield records


def _versions() -> dict[str, str]:
    """What must be the same everywhere, or results may differ and what is sent may not be understood."""
    return {name: installed_version(name) for name in ("vreid", "torch")}


def _connect(address: str | None) -> bool:
    """Connect to a cluster, or start Ray on this machine; False where this process was connected before.

    Raises:
        ClusterError: There is none, or it has another version of Ray or Python.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        return False
    if address is not None and ":" in address:
        _knock(address)
    try:
        ray.init(
            address=address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        hint = "start one with ray start --head, or name it: --set runtime.ray_address=HOST:PORT, or RAY_ADDRESS"
        if "ersion mismatch" in str(error):
            hint = "use the Python and the Ray of the cluster here too"
        raise ClusterError(f"the Ray cluster {address or ''}: {' '.join(lines)}", hint=hint) from None
    if address is None:
        log.info("no Ray cluster is named: Ray was started on this machine")
    return True


def _knock(address: str) -> None:
    """Ray tries for minutes to reach a machine where nobody answers."""
    host, _, port = address.rpartition(":")
    hint = "name it as HOST:PORT with --set runtime.ray_address=…, or in RAY_ADDRESS; ray status shows it"
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ClusterError(f"no Ray cluster answers at {address}: {first_line(error)}", hint=hint) from None
