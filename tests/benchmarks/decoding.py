"""JPEG files decoded by torchvision on a device, against PIL: how far apart, and how long it takes.

    python tests/benchmarks/decoding.py FOLDER [--device cuda] [--images 200] [--weights random]

On a CPU it is torchvision's libjpeg that decodes, with the resizing that a GPU would do; --set extract.decode=device
takes CUDA devices only.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from made import machine

from vreid_cli.data.decoding import decode_rgb, read_jpeg
from vreid_cli.extraction.device_decoding import DeviceDecoder
from vreid_cli.extraction.forward import Extractor
from vreid_cli.extraction.loading import Batch, stack_pixels
from vreid_cli.models.backbones import BACKBONES
from vreid_cli.models.weights import load_network
from vreid_cli.types.images import ImageRecord

LIMIT = 10**8


def measure_difference(records: list[ImageRecord], arch: str, *, weights: str, device: torch.device) -> None:
    """Print how far pixels and LRs are from those of PIL's images."""
    loaded = load_network(weights, arch=arch, seed=0)
    decoder = DeviceDecoder(device, loaded.transform, max_pixels=LIMIT)
    decoder.compare(records, Extractor(loaded, device, batch_size=8).compute, most=len(records))
    print(f"{arch}, weights {weights}: {decoder.summary().difference}")


def measure_time(records: list[ImageRecord], *, device: torch.device) -> None:
    """Print the milliseconds that an image takes either way, files in memory."""
    transform = BACKBONES["resnet18"].transform
    files = [read_jpeg(record.path, max_pixels=LIMIT) for record in records]
    waiting = [(row, jpeg) for row, jpeg in enumerate(jpeg for jpeg in files if jpeg is not None)]
    batch = Batch(list(range(len(waiting))), stack_pixels([]), [], waiting=waiting)
    decoder = DeviceDecoder(device, transform, max_pixels=LIMIT)
    for what in ("to warm up", "timed"):
        started = time.perf_counter()
        decoder.complete(batch).pixels.cpu()
        taken = time.perf_counter() - started
        print(f"{device}, {what}: {1000 * taken / len(waiting):.2f} ms an image")
    started = time.thread_time()
    for _, jpeg in waiting:
        transform.crop_uint8(decode_rgb(jpeg.path, max_pixels=LIMIT))
    print(f"PIL: {1000 * (time.thread_time() - started) / len(waiting):.2f} CPU-ms an image")


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--arch", nargs="+", default=["densenet201", "resnet18"])
    parser.add_argument("--weights", default="random")
    options = parser.parse_args()
    paths = sorted(options.folder.glob("*.jpg"))
    chosen = paths[:: max(1, len(paths) // options.images)][: options.images]
    records = [ImageRecord(path.name, path) for path in chosen]
    print(f"{machine()}; {len(records)} images")
    for arch in options.arch:
        measure_difference(records, arch, weights=options.weights, device=options.device)
    measure_time(records, device=options.device)


if __name__ == "__main__":
    main()
