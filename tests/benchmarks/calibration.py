"""The calibrations that ship beside the network ``small``, fitted on vehicles that it would not have seen.

    python tests/benchmarks/calibration.py FOLDER START.pt --ship vreid_cli/models/small --keep parts

FOLDER holds images named ``<vehicle>_cam1.jpg`` and ``<vehicle>_cam2.jpg``. The network that ships has learned all of
these vehicles, so its own distances between them are too small. In its place a network is trained for each of three
parts of the vehicles, by the same preset and from the same START, on the other parts; it ranks its part from camera 1
to camera 2. ``vreid calibrate`` pools the pairs of all parts and binds the result to ``small``. Vehicles are dealt to
the parts by the SHA-256 of their names. Every step is the command that a person would type. With ``--keep`` networks
that are there already are not trained again.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import tempfile
from contextlib import nullcontext
from pathlib import Path

from made import machine
from training import vreid

#: Task and metric of what ships: the default of each task.
SHIPPED = {"t2t": "meanMCD50", "i2t": "MCD", "i2i": "MCD"}


def write_part(images: Path, path: Path, *, part: int, parts: int) -> int:
    """A manifest in which one part of the vehicles is looked for and the others are learned; the size of the part."""
    vehicles = {image.name.rpartition("_cam")[0] for image in images.glob("*_cam?.jpg")}
    by_digest = sorted(vehicles, key=lambda name: hashlib.sha256(name.encode()).digest())
    looked_for = set(by_digest[part::parts])
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "split", "vehicle", "camera"))
        for vehicle in sorted(vehicles):
            for camera, side in (("cam1", "query"), ("cam2", "gallery")):
                split = side if vehicle in looked_for else "train"
                writer.writerow((images.resolve() / f"{vehicle}_{camera}.jpg", split, vehicle, camera))
    return len(looked_for)


def rank_part(images: Path, start: Path, folder: Path, *, part: int, parts: int) -> None:
    """Train without one part of the vehicles, and rank that part."""
    folder.mkdir(parents=True, exist_ok=True)
    count = write_part(images, folder / "cars.csv", part=part, parts=parts)
    data = ("--data-dir", "cars.csv", "--run-dir", "run")
    network = folder / "run/checkpoints/last.safetensors"
    if not network.is_file():
        vreid(folder, "train", "--config", "small", *data, "--weights", str(start.resolve()))
    vreid(folder, "extract", "--dataset", "csv", *data, "--weights", str(network.resolve()), "--quiet")
    for task, metric in SHIPPED.items():
        vreid(folder, "rank", "--run-dir", "run", "--task", task, "--metric", metric, "--quiet")
    print(vreid(folder, "evaluate", "--run-dir", "run", "--quiet"), flush=True)
    print(f"part {part} of {parts}: {count} vehicles looked for", flush=True)


def main() -> None:
    """Train, rank, calibrate, and say what the calibrations are worth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, metavar="FOLDER")
    parser.add_argument("start", type=Path, metavar="START", help="ImageNet's MobileNetV2")
    parser.add_argument("--parts", type=int, default=3)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the networks of the parts go")
    parser.add_argument("--ship", type=Path, required=True, metavar="DIR", help="folder of the network small")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() if options.keep is None else nullcontext(options.keep) as name:
        place = Path(name).resolve()
        for part in range(options.parts):
            rank_part(options.images, options.start, place / f"part{part}", part=part, parts=options.parts)
        for task, metric in SHIPPED.items():
            rankings = [f"part{part}/run/rankings/{task}-{metric}.parquet" for part in range(options.parts)]
            target = options.ship.resolve() / "calibrations" / f"{task}-{metric}.json"
            print(vreid(place, "calibrate", *rankings, "--network", "small", "--output", str(target), "--quiet"))


if __name__ == "__main__":
    main()
