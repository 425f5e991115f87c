"""Does ``vreid extract`` need more memory for more images? Peaks of RssAnon for few and for many (Linux).

    PYTHONPATH=tests/support python tests/benchmarks/memory.py

The images are small and drawn here, as is the network (ResNet18 at 32 pixels, never trained): what is
measured is what the number of images costs, not what a network does. Each extraction is a process of its own;
its memory and that of its decoding process are sampled from outside.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from made import machine
from tiny import draw, save_weights

_EVERY = 0.02
_TRACK = 10


def draw_images(folder: Path, count: int) -> Path:
    """Tracks of ten images each; every track shows the same ten, which costs an extraction as much."""
    first = folder / "gallery" / "000000_c001"
    drawn = [draw(first / f"{number}.png", hue=number, seed=number) for number in range(_TRACK)]
    contents = [path.read_bytes() for path in drawn]
    for number in range(_TRACK, count):
        path = folder / "gallery" / f"{number // _TRACK:06d}_c001" / f"{number % _TRACK}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(contents[number % _TRACK])
    return folder


def anonymous(pid: int) -> float:
    """Megabytes of memory that belong to no file; 0 once the process is gone."""
    try:
        found = re.search(r"^RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return 0.0
    return 0.0 if found is None else int(found.group(1)) / 1e3


def children(pid: int) -> list[int]:
    """Processes that a process started and that are still there."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def peaks(command: list[str], folder: Path) -> tuple[float, float, float]:
    """Highest RssAnon of a command and of its decoding processes together, in MB, and its seconds."""
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    own, others = 0.0, 0.0
    while process.poll() is None:
        own = max(own, anonymous(process.pid))
        others = max(others, sum(anonymous(child) for child in children(process.pid)))
        time.sleep(_EVERY)
    if process.returncode:
        raise SystemExit(f"the extraction ended with {process.returncode}")
    return own, others, time.monotonic() - started


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs=2, default=(1_000, 20_000))
    few, many = parser.parse_args().images
    print(machine())
    found: dict[int, tuple[float, float, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = save_weights(folder / "tiny.safetensors")
        for count in (few, many):
            data = draw_images(folder / f"data{count}", count)
            command = [sys.executable, "-m", "vreid_cli", "extract", "--dataset", "tracks", "--data-dir", str(data)]
            command += ["--arch", "resnet18", "--weights", str(weights), "--split", "gallery", "--device", "cpu"]
            # One back-end for all: many images would repay an export to ONNX, which takes memory of its own.
            command += ["--backend", "torch", "--workers", "1", "--quiet", "--run-dir", str(folder / f"run{count}")]
            own, workers, seconds = found[count] = peaks(command, folder)
            print(f"{count:,} images: {own:.0f} MB, its decoding process {workers:.0f} MB, {seconds:.0f} s", flush=True)
    for place, name in enumerate(("the command", "its decoding process")):
        one, other = found[few][place], found[many][place]
        print(f"{name}: ratio {other / one:.3f}; {1e3 * (other - one) / (many - few):.2f} kB for each further image")


if __name__ == "__main__":
    main()
