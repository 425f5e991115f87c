"""The calibrations that ship beside the network ``small``, fitted on vehicles that it would not have seen.

    python tests/benchmarks/calibration.py FOLDER START.pt --ship vreid_cli/models/small --keep folds [--folds 0 1 2]

FOLDER holds images named ``<vehicle>_cam1.jpg`` and ``<vehicle>_cam2.jpg``. The network that ships has learned all of
these vehicles, so its own distances between them are too small. In its place a network is trained by the same preset
and from the same START without the 57 vehicles of a fold, as tests/benchmarks/training.py does, and ranks those from
camera 1 to camera 2. ``vreid calibrate`` pools the pairs of all folds and binds the result to ``small``. Every step is
the command that a person would type. With ``--keep`` networks that are there already are not trained again.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import nullcontext
from pathlib import Path

from made import machine
from training import HELD_OUT, vreid, write_manifest

#: Task and metric of what ships: the default of each task.
SHIPPED = {"t2t": "meanMCD50", "i2t": "MCD", "i2i": "MCD"}


def rank_fold(images: Path, start: Path, folder: Path, *, fold: int, seed: int) -> None:
    """Train without the vehicles of one fold, and rank these."""
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(images, folder / "cars.csv", fold=fold)
    data = ("--data-dir", "cars.csv", "--run-dir", "run")
    network = folder / "run/checkpoints/last.safetensors"
    if not network.is_file():
        vreid(folder, "train", "--config", "small", *data, "--weights", str(start.resolve()), "--seed", str(seed))
    # By torch, whatever else is installed.
    vreid(folder, "extract", "--dataset", "csv", *data, "--weights", str(network), "--backend", "torch", "--quiet")
    for task, metric in SHIPPED.items():
        vreid(folder, "rank", "--run-dir", "run", "--task", task, "--metric", metric, "--quiet")
    print(f"fold {fold}: {HELD_OUT} vehicles looked for", flush=True)
    print(vreid(folder, "evaluate", "--run-dir", "run", "--quiet"), flush=True)


def main() -> None:
    """Train, rank, calibrate, and say what the calibrations are worth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, metavar="FOLDER")
    parser.add_argument("start", type=Path, metavar="START", help="ImageNet's MobileNetV2")
    parser.add_argument("--folds", type=int, nargs="+", default=[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the networks of the folds go")
    parser.add_argument("--ship", type=Path, required=True, metavar="DIR", help="folder of the network small")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() if options.keep is None else nullcontext(options.keep) as name:
        place = Path(name).resolve()
        for fold in options.folds:
            rank_fold(options.images, options.start, place / f"fold{fold}", fold=fold, seed=options.seed)
        for task, metric in SHIPPED.items():
            rankings = [f"fold{fold}/run/rankings/{task}-{metric}.parquet" for fold in options.folds]
            target = options.ship.resolve() / "calibrations" / f"{task}-{metric}.json"
            print(vreid(place, "calibrate", *rankings, "--network", "small", "--output", str(target), "--quiet"))


if __name__ == "__main__":
    main()
