"""What the commands take on a small run, beside `vreid --help` and a bare `import torch`.

    python tests/benchmarks/startup.py [--against CHECKOUT]

Each command runs several times as a process of its own, in turns with the others, and with those of another checkout.
CPU seconds change least with what else the machine does; the least of the clock's comes nearest to an idle machine.
Bytecode is kept, as installed packages keep it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from made import machine
from PIL import Image

VREID = ["-m", "vreid_cli"]
COMMANDS = {
    "vreid --help": [*VREID, "--help"],
    "vreid info": [*VREID, "info", "run"],
    "vreid evaluate": [*VREID, "evaluate", "--run-dir", "run"],
    "vreid show": [*VREID, "show", "--run-dir", "run"],
    "vreid rank": [*VREID, "rank", "--run-dir", "run", "--force"],
    "import torch": ["-c", "import torch"],
    "the same, no garbage": ["-c", "import gc; gc.disable(); import torch; gc.freeze()"],
}


def seconds(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, float]:
    """CPU seconds and seconds of the clock."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, process.stderr and process.stderr.read()
    return used.ru_utime + used.ru_stime, time.perf_counter() - start


def make_run(folder: Path, environment: dict[str, str]) -> None:
    """Eight vehicles before two cameras, three small images each; extracted by a network of random weights."""
    for side in ("query", "gallery"):
        for track in range(16):
            name = f"{track // 2:04d}_c{track % 2:03d}"
            (folder / "data" / side / name).mkdir(parents=True)
            for image in range(3):
                colour = (30 * (track // 2), 20 * (track % 2), 5 * image)
                Image.new("RGB", (60, 40), colour).save(folder / "data" / side / name / f"{name}_{image:08d}_0.jpg")
    network = ["--weights", "random", "--arch", "resnet18"]
    for words in (["extract", "--dataset", "tracks", "--data-dir", "data", *network], ["rank"]):
        seconds([*VREID, *words, "--run-dir", "run"], folder, environment)


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout, whose commands run in turns with these")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "bytecode"), "PYTHONDONTWRITEBYTECODE": ""}
        make_run(folder, environment)
        sides = {"": environment}
        if arguments.against is not None:
            sides[", the other"] = {**environment, "PYTHONPATH": str(arguments.against.resolve())}
        runs = [(what, side) for what, words in COMMANDS.items() for side in (sides if words[0] == "-m" else [""])]
        found: dict[tuple[str, str], list[tuple[float, float]]] = {run: [] for run in runs}
        for turn in range(arguments.rounds + 1):
            for what, side in runs:
                taken = seconds(COMMANDS[what], folder, sides[side])
                if turn:  # the first one writes bytecode
                    found[what, side].append(taken)
    for (what, side), taken in found.items():
        cpu, clock = zip(*taken, strict=True)
        ratio = statistics.median(cpu) / statistics.median(one for one, _ in found[what, ""])
        print(
            f"{what + side:25s} {statistics.median(cpu):.2f} CPU seconds ({min(cpu):.2f} to {max(cpu):.2f}), "
            f"{ratio:.2f} x; by the clock {min(clock):.2f} to {max(clock):.2f}"
        )


if __name__ == "__main__":
    main()
