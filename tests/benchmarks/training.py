"""What ``vreid train --recipe strong`` learns of real vehicles, and the network that ships with vreid.

    python tests/benchmarks/training.py FOLDER [--seeds 0 1 2] [--fold 0]
    python tests/benchmarks/training.py FOLDER --small START.pt
    python tests/benchmarks/training.py FOLDER --small START.pt --ship vreid_cli/models/small

FOLDER holds images named ``<vehicle>_cam1.jpg`` and ``<vehicle>_cam2.jpg``. Sorted by the SHA-256 of their names, 57
vehicles (the first ones, or those of another fold) are looked for from camera 1 to camera 2 and never learned; the
last checkpoint counts. Every step is the command that a person would type.

ResNet18 learns from nothing, in ten minutes on two cores. ``--small`` measures the preset ``small`` instead:
MobileNetV2 from ImageNet's weights. ``--ship`` learns all vehicles by it and writes the network as it ships, but for
its model card.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from made import machine

HELD_OUT = 57
RECIPE = (
    *("--recipe", "strong", "--arch", "resnet18", "--weights", "random", "--crop", "96", "--epochs", "30"),
    *("--batch-size", "32", "--set", "train.per_vehicle=2", "--learning-rate", "2e-3", "--held-out", "0"),
)


def write_manifest(images: Path, path: Path, *, fold: int | None) -> int:
    """A line for each image; how many vehicles there are. Without a fold all of them are for training."""
    vehicles = sorted({image.name.rpartition("_cam")[0] for image in images.glob("*_cam?.jpg")})
    by_digest = sorted(vehicles, key=lambda name: hashlib.sha256(name.encode()).digest())
    looked_for = set() if fold is None else set(by_digest[fold * HELD_OUT : (fold + 1) * HELD_OUT])
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "split", "vehicle", "camera"))
        for vehicle in vehicles:
            for camera, side in (("cam1", "query"), ("cam2", "gallery")):
                split = side if vehicle in looked_for else "train"
                writer.writerow((images.resolve() / f"{vehicle}_{camera}.jpg", split, vehicle, camera))
    return len(vehicles)


def vreid(folder: Path, *arguments: str) -> str:
    """One command, whose progress is shown; what it printed."""
    command = [sys.executable, "-m", "vreid_cli", *arguments]
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True, env=os.environ).stdout


def score(folder: Path, run: str, *weights: str) -> tuple[float, float]:
    """MAP and rank-1 of the vehicles that were never learned, image to image by the cosine."""
    vreid(folder, "extract", "--dataset", "csv", "--data-dir", "cars.csv", "--run-dir", run, *weights, "--quiet")
    vreid(folder, "rank", "--run-dir", run, "--task", "i2i", "--metric", "MCD", "--quiet")
    result = json.loads(vreid(folder, "evaluate", "--run-dir", run, "--json", "--quiet"))["results"][0]
    assert result["valid_queries"] == HELD_OUT
    return result["mAP"], result["cmc"]["1"]


def ship(images: Path, start: Path, folder: Path, *, more: list[str]) -> None:
    """Train the network that ships on all vehicles, and write it."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        print(f"{write_manifest(images, place / 'cars.csv', fold=None)} vehicles, none held out")
        vreid(place, "train", "--config", "small", "--data-dir", "cars.csv", "--weights", str(start.resolve()), *more)
        target = ("--to-hub-folder", str(folder.resolve()), "--half", "--force")
        vreid(place, "export", "model", "--weights", "runs/small/checkpoints/last.safetensors", *target)
    print(f"{folder}: SHA-256 of the weights", hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest())


def main() -> None:
    """Train with each seed, and print what the last checkpoints are worth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--small", type=Path, metavar="START", help="ImageNet's MobileNetV2, to begin the preset from")
    parser.add_argument("--ship", type=Path, metavar="DIR", help="learn all vehicles and write the network here")
    parser.epilog = "What follows -- goes to vreid train."
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    options, more = parser.parse_args(sys.argv[1:end]), sys.argv[end + 1 :]
    print(machine())
    if options.ship is not None:
        ship(options.folder, options.small, options.ship, more=more)
        return
    recipe, begin = RECIPE, ("--arch", "resnet18", "--weights", "random")
    if options.small is not None:
        begin = ("--arch", "mobilenet_v2", "--weights", str(options.small.resolve()))
        recipe = ("--config", "small", *begin)
    print("vreid train", *recipe, *more)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count = write_manifest(options.folder, folder / "cars.csv", fold=options.fold)
        print(f"{count} vehicles, {HELD_OUT} held out: fold {options.fold}")
        untrained = score(folder, "untrained", *begin)
        print(f"as it begins: mAP {untrained[0]:.3f}, rank-1 {untrained[1]:.3f}")
        found = []
        for seed in options.seeds:
            started = time.monotonic()
            data = ("--dataset", "csv", "--data-dir", "cars.csv", "--run-dir", f"seed{seed}", "--seed", str(seed))
            vreid(folder, "train", *data, *recipe, *more)
            seconds = time.monotonic() - started
            found.append(score(folder, f"seed{seed}", "--weights", f"seed{seed}/checkpoints/last.safetensors"))
            print(
                f"seed {seed}: mAP {found[-1][0]:.3f}, rank-1 {found[-1][1]:.3f}, trained in {seconds:.0f} s",
                flush=True,
            )
    means = [statistics.mean(column) for column in zip(*found, strict=True)]
    spread = statistics.stdev([one[0] for one in found]) if len(found) > 1 else 0.0
    print(f"mean of {len(found)} seeds: mAP {means[0]:.3f} ± {spread:.3f} (standard deviation), rank-1 {means[1]:.3f}")


if __name__ == "__main__":
    main()
