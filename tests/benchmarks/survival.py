"""Kills ``vreid extract`` at random places and lets it go on: it must end with the bytes of a run left alone.

    PYTHONPATH=tests/support python tests/benchmarks/survival.py --kills 100 --seed 0

Each kill is a SIGKILL that a real process sends itself at a named seam: between two images' batches, with
half of a file written, with a file whole but not in its place, before and after every removal. The seam comes
from the seed, never from a clock. A killed run is killed again now and then before it may finish. Four
situations take turns: nothing there yet, with and without a decoding process; labels that changed; images that
changed, came and went.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch  # once, here: a fork costs nothing then
from tiny import TRACKS, draw, draw_tracks, save_weights

from vreid_cli.cli.app import run
from vreid_cli.extraction.inference import Inference
from vreid_cli.runtime import files
from vreid_cli.store.runs import RunDirectory

#: A run that was killed is killed again with this probability, before it may finish.
AGAIN = 0.3
PATTERN = r"^(?P<vehicle>\d+)_c0*(?P<camera>\d+)"
#: In the names of files that are not in their place yet.
_TEMPORARY = ".tmp"


class Seams:
    """Notes the seams that a run passes, and ends it at one of them.

    Args:
        die_at: Number of the seam to die at, from 1; 0: none.
        note: Called with the name of each seam before anything happens there.
    """

    def __init__(self, die_at: int, note: Callable[[str], None]) -> None:
        self._die_at = die_at
        self._note = note
        self._passed = 0

    def reach(self, name: str) -> bool:
        """Note a seam; whether it is the one to die at."""
        self._passed += 1
        self._note(name)
        return self._passed == self._die_at

    def pass_through(self, name: str) -> None:
        """Die at a seam, or go on."""
        if self.reach(name):
            die()

    def install(self) -> None:
        """Put the seams where something is written, removed or computed."""
        put_in_place, unlink, compute = files.put_in_place, Path.unlink, Inference.compute

        def put(temporary: Path, path: Path) -> None:
            if self.reach(f"half of {path.name} written"):
                os.truncate(temporary, temporary.stat().st_size // 2)
                die()
            self.pass_through(f"{path.name} written, not in place")
            put_in_place(temporary, path)
            self.pass_through(f"{path.name} in place")

        def remove(path: Path, missing_ok: bool = False) -> None:
            if path.name.startswith(".") or not path.exists():
                unlink(path, missing_ok=missing_ok)
                return
            self.pass_through(f"before removing {path.name}")
            unlink(path, missing_ok=missing_ok)
            self.pass_through(f"after removing {path.name}")

        def forward(inference: Inference, pixels: torch.Tensor) -> torch.Tensor:
            features = compute(inference, pixels)
            self.pass_through("a batch computed")
            return features

        files.put_in_place, Path.unlink, Inference.compute = put, remove, forward  # type: ignore[method-assign]


def die() -> None:
    """End this process at once: nothing is flushed, closed or cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Situation:
    """Something to extract.

    Attributes:
        name: What it is called.
        arguments: Of the command.
        before: A run to begin with; None: nothing.
    """

    name: str
    arguments: tuple[str, ...]
    before: Path | None


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code, negative for a signal, and the seams that it passed."""

    code: int
    seams: tuple[str, ...]
    told: str


def extract(situation: Situation, run_dir: Path, *, die_at: int = 0) -> Outcome:
    """Run the command in a process of its own, which kills itself at a seam."""
    log, seams = run_dir.with_suffix(".log"), run_dir.with_suffix(".seams")
    for path in (log, seams):
        path.write_text("")
    child = os.fork()
    if child == 0:
        _be_the_command(situation, run_dir, die_at=die_at, log=log, seams=seams)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Outcome(code, tuple(seams.read_text().splitlines()), log.read_text())


def _be_the_command(situation: Situation, run_dir: Path, *, die_at: int, log: Path, seams: Path) -> None:
    code = 99
    try:
        out = os.open(log, os.O_WRONLY | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        torch.set_num_threads(1)
        with seams.open("a", buffering=1) as file:
            Seams(die_at, lambda name: print(name, file=file)).install()
            code = run(["extract", *situation.arguments, "--run-dir", str(run_dir), "--quiet"])
        sys.stdout.flush()
    finally:
        os._exit(code)


def files_of(run_dir: Path) -> dict[str, bytes]:
    """The feature stores of a run; what a killed process left behind under another name is no part of them."""
    features = run_dir / "features"
    found = [path for path in features.rglob("*") if path.is_file() and _TEMPORARY not in path.name]
    return {path.relative_to(features).as_posix(): path.read_bytes() for path in sorted(found)}


def leftovers(run_dir: Path) -> list[str]:
    """What killed processes left behind."""
    return [path.name for path in run_dir.rglob("*") if _TEMPORARY in path.name]


def prepare(folder: Path) -> list[Situation]:
    """Draw the images, and make the runs that some situations begin with."""
    data, weights = draw_tracks(folder / "data", TRACKS), save_weights(folder / "tiny.safetensors")
    (data / "gallery/0004_c001/1.png").write_bytes(b"no image")
    changed = Path(shutil.copytree(data, folder / "changed"))  # with the times of the files
    draw(changed / "gallery/0002_c003/1.png", hue=2, seed=9000)
    draw(changed / "gallery/0001_c009/0.png", hue=1, seed=9001)
    shutil.rmtree(changed / "gallery/0009_c001")
    shutil.rmtree(changed / "query/0003_c001")
    same = ("--dataset", "tracks", "--arch", "resnet18", "--weights", str(weights), "--device", "cpu")
    same += ("--batch-size", "2", "--set", "extract.part_images=4")

    def of(images: Path, workers: int) -> tuple[str, ...]:
        return (*same, "--data-dir", str(images), "--workers", str(workers))

    fresh = Situation("nothing there", of(data, 0), None)
    before = folder / "before"
    outcome = extract(fresh, before)
    assert outcome.code == 0, outcome.told
    return [
        fresh,
        Situation("nothing there, one worker", of(data, 1), None),
        Situation("changed labels", (*of(data, 0), "--label-pattern", PATTERN), before),
        Situation("changed images", of(changed, 0), before),
    ]


def begin(situation: Situation, run_dir: Path) -> None:
    """Put the run into the state that the situation begins with."""
    for path in (run_dir, run_dir.with_suffix(".log"), run_dir.with_suffix(".seams")):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if situation.before is not None:
        shutil.copytree(situation.before, run_dir)


def campaign(folder: Path, *, kills: int, seed: int) -> Iterator[dict[str, Any]]:
    """Kill and go on; what happened each time.

    Raises:
        AssertionError: A run did not survive: it could not go on, ended with other bytes, or called complete what
            was not.
    """
    os.chdir(folder)  # runs/latest belongs to no run
    situations = prepare(folder)
    undisturbed: dict[str, tuple[Outcome, dict[str, bytes]]] = {}
    for situation in situations:
        alone = folder / "alone"
        begin(situation, alone)
        outcome = extract(situation, alone)
        assert outcome.code == 0, outcome.told
        undisturbed[situation.name] = (outcome, files_of(alone))
    rng = random.Random(seed)
    done = 0
    for situation in itertools.cycle(situations):
        if done >= kills:
            return
        outcome, wanted = undisturbed[situation.name]
        seams = _kill(situation, folder / "run", kills=kills - done, rng=rng, most=len(outcome.seams), wanted=wanted)
        done += len(seams)
        yield {"situation": situation.name, "killed": seams}


def _kill(
    situation: Situation, run_dir: Path, *, kills: int, rng: random.Random, most: int, wanted: dict[str, bytes]
) -> list[str]:
    """Kill one run, perhaps more than once, then let it finish; the seams that it was killed at."""
    begin(situation, run_dir)
    complete = [wanted, {} if situation.before is None else files_of(situation.before)]
    seams: list[str] = []
    while not seams or (len(seams) < kills and rng.random() < AGAIN):
        # A run that goes on has less to do: only in the first is every seam sure to be reached.
        outcome = extract(situation, run_dir, die_at=rng.randint(1, most if not seams else max(1, most // 2)))
        if outcome.code != -signal.SIGKILL:
            assert outcome.code == 0, outcome.told
            assert seams, "the first run was to be killed"
            break
        seams.append(outcome.seams[-1])
        _check_marks(run_dir, complete, seams)
    outcome = extract(situation, run_dir)
    where = f"{situation.name}, killed at: {'; '.join(seams)}"
    assert outcome.code == 0, f"{where}: {outcome.told}"
    assert "Traceback" not in outcome.told, f"{where}: {outcome.told}"
    found = files_of(run_dir)
    differing = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
    assert not differing, f"{where}: other bytes in {', '.join(differing)}"
    assert not leftovers(run_dir), f"{where}: {leftovers(run_dir)} were left behind"
    return seams


def _check_marks(run_dir: Path, complete: list[dict[str, bytes]], seams: list[str]) -> None:
    """A split that says that it is complete must be so: as before, or as it is to be."""
    found = files_of(run_dir)
    for split in RunDirectory(run_dir).extracted_splits():
        own = {name: content for name, content in found.items() if name.startswith(f"{split}/")}
        known = [{name: files[name] for name in files if name.startswith(f"{split}/")} for files in complete]
        assert f"{split}/complete.json" not in own or own in known, f"{split} lies, killed at: {'; '.join(seams)}"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print what happened as one JSON object")
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        runs = []
        for one in campaign(Path(folder).resolve(), kills=arguments.kills, seed=arguments.seed):
            runs.append(one)
            if not arguments.json:
                print(f"{one['situation']}: {'; '.join(one['killed'])}", flush=True)
        os.chdir("/")
    killed = [seam for one in runs for seam in one["killed"]]
    if arguments.json:
        print(json.dumps({"runs": runs, "kills": len(killed)}))
        return
    seconds = time.monotonic() - started
    print(f"{len(killed)} kills at {len(set(killed))} different seams, {len(runs)} runs, {seconds:.0f} s: all survived")


if __name__ == "__main__":
    main()
