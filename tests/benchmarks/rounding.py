"""How much threads, batch sizes and back-ends change features: what the bounds in docs/definitions.md come from.

    python tests/benchmarks/rounding.py FOLDER [--networks densenet201:random mobilenet_v2:small] [--images 24]

FOLDER holds images, or a folder of images for each track. Each way of computing is compared with the same back-end on
one thread in batches of 8, with torch so, and with the same network in float64. Printed is the largest difference,
twice: of any one number, in parts of the largest number; of any image's vector, in parts of its length.
"""

from __future__ import annotations

import argparse
import copy
from itertools import product
from pathlib import Path

import numpy as np
import torch
from made import machine
from numpy.typing import NDArray
from PIL import Image

import vreid_cli as vreid
from vreid_cli.extraction.options import ExtractionOptions
from vreid_cli.models.weights import LoadedNetwork

Rows = NDArray[np.float64]


def apart(one: Rows, other: Rows) -> str:
    """The two largest differences of (n, D) rows."""
    number = np.abs(one - other).max() / np.abs(other).max()
    vector = (np.linalg.norm(one - other, axis=1) / np.linalg.norm(other, axis=1)).max()
    return f"{number:.1e} {vector:.1e}"


def in_float64(loaded: LoadedNetwork, paths: list[Path]) -> Rows:
    """What the network gives where rounding plays no part."""
    network = copy.deepcopy(loaded.network).double().eval()
    rows = []
    for path in paths:
        with Image.open(path) as image, torch.inference_mode():
            pixels = loaded.transform.crop_uint8(image.convert("RGB"))
            rows.append(network.latent(loaded.transform.normalise(pixels[None]).double())[0].numpy())
    return np.stack(rows)


def computed(loaded: LoadedNetwork, paths: list[Path], way: tuple[str, int, int]) -> Rows:
    """(n, D) LRs by a back-end, with so many threads, in batches of such a size."""
    backend, threads, batch_size = way
    torch.set_num_threads(threads)
    options = ExtractionOptions.model_validate({"backend": backend, "batch_size": batch_size, "workers": 0})
    features = vreid.extract(paths, loaded, options=options)
    order = [str(name) for name in features.image_id]
    named = dict(zip(order, features.matrix.take(np.arange(len(order))).astype(np.float64), strict=True))
    return np.stack([row for _, row in sorted(named.items())])


def measure(name: str, paths: list[Path], *, threads: list[int], batches: list[int]) -> None:
    """Print a line for each way."""
    arch, _, weights = name.partition(":")
    loaded = vreid.load_network(weights, arch=arch)
    exact, starts = in_float64(loaded, paths), {one: computed(loaded, paths, (one, 1, 8)) for one in ("torch", "onnx")}
    print(f"\n{name}, {len(paths)} images: in parts of the largest number, and of the vector's length")
    print("| back-end | threads | batch | from 1, 8 | from torch | from float64 |\n|---|---|---|---|---|---|")
    for way in product(starts, threads, batches):
        found = computed(loaded, paths, way)
        others = [apart(found, other) for other in (starts[way[0]], starts["torch"], exact)]
        print(f"| {' | '.join(map(str, [*way, *others]))} |", flush=True)


def main() -> None:
    """Measure each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", nargs="+", default=["densenet201:random", "mobilenet_v2:small"])
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 16])
    arguments = parser.parse_args()
    print(machine())
    paths = sorted(arguments.folder.rglob("*.jpg"))[: arguments.images]
    for name in arguments.networks:
        measure(name, paths, threads=arguments.threads, batches=arguments.batches)


if __name__ == "__main__":
    main()
