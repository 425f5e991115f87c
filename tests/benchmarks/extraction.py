"""``vreid extract`` on a CPU, by torch and by ONNX Runtime, against the bare forward pass and the released code's way.

    python tests/benchmarks/extraction.py FOLDER [--images 600] [--rounds 3] [--arch densenet201] [--memory]
    python tests/benchmarks/extraction.py FOLDER --small    # the network that ships against DenseNet201, by torch
    python tests/benchmarks/extraction.py FOLDER --forward [WEIGHTS …]  # bare passes, fp32, bf16 and int8, by batch
    python tests/benchmarks/extraction.py FOLDER --whole 8 16    # whole extractions in fp32 and int8, by batch size

FOLDER holds JPEGs. The command's workflow is called in this process; what is timed goes from the plan to the
complete store, without loading the network and, for ONNX Runtime, without the export, which is made once before.
All sides of a comparison are measured in turns; medians over the rounds are printed.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from made import machine, median_seconds, watch_memory
from torch.utils.data import DataLoader

from vreid_cli.config import Layer
from vreid_cli.data.decoding import decode_rgb
from vreid_cli.data.listing import make_listing
from vreid_cli.extraction.inference import Inference, InferenceConfig
from vreid_cli.extraction.loading import ImageDataset, Preparation, sample_pixels
from vreid_cli.extraction.options import BackendName, ExtractionOptions
from vreid_cli.extraction.resolve import resolve_inference
from vreid_cli.models.onnx_cache import INT8_IMAGES
from vreid_cli.models.weights import LoadedNetwork, load_network
from vreid_cli.runtime.devices import exact_float32
from vreid_cli.runtime.options import InferencePrecision
from vreid_cli.store.runs import RunDirectory
from vreid_cli.types.images import ImageRecord
from vreid_cli.workflows.extract import extract
from vreid_cli.workflows.inputs import extraction_run
from vreid_cli.workflows.session import resolve_session

CPU = torch.device("cpu")
BATCH = 8
#: Batch sizes that forward passes are compared at.
BATCHES = (1, 8, 16)
BACKENDS: tuple[BackendName, ...] = ("torch", "onnx")
#: Networks that are measured by batch size, and their weights.
NETWORKS = (("densenet201", "random"), ("mobilenet_v2", "small"), ("resnet18", "random"))
#: Batches of a measurement of the bare forward pass, and images of one of the released way.
FORWARD_BATCHES, RELEASED_IMAGES = 5, 48


@dataclass
class Bench:
    """Images and a folder for runs."""

    images: list[Path]
    folder: Path
    arch: str
    cache: Path
    weights: str = "random"
    runs: int = 0
    opening: list[float] = field(default_factory=list)
    ready: tuple[float, float] = (0.0, 0.0)

    def write_manifest(self) -> None:
        """The images as one split."""
        with (self.folder / "manifest.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("path", "split"))
            writer.writerows((path.resolve(), "gallery") for path in self.images)

    def extract(self, backend: str, *, precision: str = "fp32", batch: int = BATCH) -> tuple[float, RunDirectory]:
        """Seconds of one extraction, and its run."""
        self.runs += 1
        run = self.folder / f"run{self.runs}"
        values = {
            "run": {"run_dir": str(run)},
            "data": {"dataset": "csv", "data_dir": str(self.folder / "manifest.csv"), "splits": ["gallery"]},
            "model": {"arch": self.arch, "weights": self.weights, "cache_dir": str(self.cache)},
            "runtime": {"device": "cpu"},
            "extract": {"backend": backend, "precision": precision, "batch_size": batch},
        }
        self.opening.clear()
        report = extract(resolve_session([Layer("benchmark", values)], choose_run=extraction_run))
        return report.seconds - sum(self.opening), RunDirectory(run)

    def dataset(self, loaded: LoadedNetwork, count: int) -> ImageDataset:
        """The first images, as extraction decodes them."""
        records = [ImageRecord(path.name, path) for path in self.images[:count]]
        listing = make_listing(records, self.images[0].parent)
        return ImageDataset(Preparation(listing.records, loaded.transform, 10**8))

    def time_opening(self) -> None:
        """Note how long a kept export takes to be checked and opened: a start-up, as loading the network is.

        And when, by the clock and in CPU-seconds, the last network was ready.
        """
        prepare, opening = Inference.prepare, self.opening

        def timed(inference: Inference) -> None:
            first = inference._latent is None
            start = time.perf_counter()
            prepare(inference)
            if inference.config.backend == "onnx":
                opening.append(time.perf_counter() - start)
            if first:
                self.ready = time.perf_counter(), time.process_time()

        Inference.prepare = timed  # type: ignore[method-assign]


def load(arch: str) -> LoadedNetwork:
    """The network that ``--weights random`` gives."""
    return load_network("random", arch=arch, seed=0)


def seconds_of(work: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def product_rate() -> float:
    """GFLOP/s of a large product by the faster of torch's two ways: no network in float32 can be faster than this."""
    one, two = torch.randn(2048, 1920), torch.randn(4096, 1920)
    best = 0.0
    for precision in ("highest", "medium"):
        torch.set_float32_matmul_precision(precision)
        seconds = median_seconds(lambda: torch.nn.functional.linear(one, two), runs=7)
        best = max(best, 2e-9 * len(one) * two.numel() / seconds)
    torch.set_float32_matmul_precision("highest")
    return best


def forward_seconds(inference: Inference, images: torch.Tensor) -> float:
    """Seconds an image of bare forward passes on ready tensors."""

    def passes() -> None:
        with torch.inference_mode():
            for _ in range(FORWARD_BATCHES):
                inference.latent(images)

    return seconds_of(passes) / (FORWARD_BATCHES * len(images))


def decode_seconds(dataset: ImageDataset) -> float:
    """CPU-seconds an image of decoding, resizing and cropping on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = time.process_time()
    for index in range(len(dataset)):
        dataset[index]
    seconds = (time.process_time() - start) / len(dataset)
    torch.set_num_threads(threads)
    return seconds


class OneByOne(torch.utils.data.Dataset[torch.Tensor]):
    """Images as the released code takes them: decoded and normalised one at a time."""

    def __init__(self, paths: list[Path], loaded: LoadedNetwork) -> None:
        self._paths, self._transform = paths, loaded.transform

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        pixels = self._transform.crop_uint8(decode_rgb(self._paths[index], max_pixels=10**8))
        return self._transform.normalise(pixels[None])[0]


def released_seconds(paths: list[Path], loaded: LoadedNetwork) -> float:
    """Seconds an image of the released code's loop: batches of one, contiguous, one worker."""
    loader = DataLoader(OneByOne(paths, loaded), batch_size=1, num_workers=1)
    found = []

    def loop() -> None:
        with torch.no_grad(), exact_float32():
            found.extend(loaded.network.latent(images).numpy() for images in loader)

    return seconds_of(loop) / len(paths)


def features(run: RunDirectory) -> np.ndarray:
    """All LRs of a run."""
    found = run.features("gallery").read()
    return found.matrix.take(np.arange(len(found)))


def compare(bench: Bench, rounds: int) -> None:
    """Print images per second and ratios."""
    count, cores = len(bench.images), len(os.sched_getaffinity(0))
    contiguous, loaded = load(bench.arch), load(bench.arch)
    bare = {
        name: Inference(loaded, InferenceConfig(CPU, name, "measured", "fp32", BATCH), cache_dir=bench.cache)
        for name in BACKENDS
    }
    print(f"export and check: {seconds_of(bare['onnx'].prepare):.1f} s")
    bare["torch"].prepare()
    sample = bench.dataset(loaded, BATCH)
    images = loaded.transform.normalise(torch.stack([sample[index][1] for index in range(BATCH)]))  # type: ignore[misc]
    for inference in bare.values():
        forward_seconds(inference, images)
    bench.time_opening()
    times: dict[str, list[float]] = {}
    runs = {}

    def note(name: str, value: float) -> None:
        times.setdefault(name, []).append(value)

    for _ in range(rounds):
        note("decode", decode_seconds(bench.dataset(loaded, count)))
        note("released", released_seconds(bench.images[:RELEASED_IMAGES], contiguous))
        for name in BACKENDS:
            before = forward_seconds(bare[name], images)
            seconds, runs[name] = bench.extract(name)
            note(f"{name} extract", seconds / count)
            note(f"{name} forward", (before + forward_seconds(bare[name], images)) / 2)
            bound = times[f"{name} forward"][-1] + times["decode"][-1] / cores
            note(f"{name} of bound", bound / times[f"{name} extract"][-1])
            note(f"{name} of released", times["released"][-1] / times[f"{name} extract"][-1])
            if name == "onnx":
                note("opening", sum(bench.opening))
    median = {name: statistics.median(values) for name, values in times.items()}
    print(f"{count} images, {rounds} rounds, {cores} cores; decoding {1e3 * median['decode']:.2f} CPU-ms an image")
    print(f"the released way: {1 / median['released']:.1f} img/s")
    for name, target in (("torch", 2.5), ("onnx", 4.0)):
        print(
            f"{name}: bare forward {1 / median[f'{name} forward']:.1f} img/s, "
            f"extract {1 / median[f'{name} extract']:.1f} img/s = {median[f'{name} of bound']:.3f} of the bound "
            f"(target 0.95; rounds {' '.join(f'{value:.3f}' for value in times[f'{name} of bound'])}), "
            f"{median[f'{name} of released']:.2f} x the released way (target {target})"
        )
    print(f"opening a kept export: {median['opening']:.1f} s")
    one, two = features(runs["torch"]), features(runs["onnx"])
    print(f"LRs of torch and ONNX Runtime differ by {np.abs(one - two).max() / np.abs(one).max():.1e} (target 1e-5)")


def compare_small(images: list[Path], folder: Path, rounds: int) -> None:
    """Print how much faster than DenseNet201 the network is that ships, decoding included."""
    rates: dict[str, list[float]] = {"mobilenet_v2": [], "densenet201": []}
    for _ in range(rounds):
        for arch, weights in (("mobilenet_v2", "small"), ("densenet201", "random")):
            place = folder / f"{arch}-{len(rates[arch])}"
            place.mkdir()
            bench = Bench(images, place, arch, folder, weights=weights)
            bench.write_manifest()
            rates[arch].append(len(images) / bench.extract("torch")[0])
    small, large = (statistics.median(rates[arch]) for arch in rates)
    print(f"{len(images)} images, {rounds} rounds: small {small:.1f} img/s, DenseNet201 {large:.1f} img/s")
    print(f"{small / large:.1f} x DenseNet201 (target 3)")


def compare_forwards(images: list[Path], cache: Path, rounds: int, weights: list[str]) -> None:
    """Print the images that a bare forward pass takes, by back-end, precision and batch size, all in turns.

    The networks are those of the weights; without any, three that need no file.

    Beside the clock the CPU time is printed, which other programs disturb less: of one thread it is what the clock
    would show alone.
    """
    sides: tuple[tuple[BackendName, InferencePrecision], ...] = (
        *(("torch", "fp32"), ("onnx", "fp32"), ("torch", "bf16"), ("onnx", "int8")),
    )
    for loaded in map(load_network, weights) if weights else (load_network(w, arch=a) for a, w in NETWORKS):
        records = make_listing([ImageRecord(path.name, path) for path in images], images[0].parent).records
        sample = partial(sample_pixels, Preparation(records, loaded.transform, 10**8), count=INT8_IMAGES, seed=0)
        networks = {}
        for backend, precision in sides:
            options = ExtractionOptions(backend=backend, precision=precision)
            found = resolve_inference(loaded, options, device=CPU, images=0, cache_dir=cache, sample=sample)
            found.prepare()
            networks[f"{backend} {precision}"] = found
            if found.quantised is not None:
                print(f"{loaded.architecture}, weights {loaded.weights}: {found.quantised.error.describe()}")
        pixels = loaded.transform.normalise(sample()[: max(BATCHES)])
        rates: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for _ in range(rounds):
            for batch in BATCHES:
                for name, network in networks.items():
                    rates.setdefault((name, batch), []).append(_rates(network, pixels[:batch]))
        print_rates(rates, rounds)


def _rates(inference: Inference, images: torch.Tensor) -> tuple[float, float]:
    """Images a second and a CPU-second, of as many passes as take 16 images, after one to get warm."""
    with torch.inference_mode():
        inference.latent(images)
        passes = -(-16 // len(images))
        clock, cpu = time.perf_counter(), time.process_time()
        for _ in range(passes):
            inference.latent(images)
        clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    return passes * len(images) / clock, passes * len(images) / cpu


def print_rates(
    rates: dict[tuple[str, int], list[tuple[float, float]]], rounds: int, batches: Sequence[int] = BATCHES
) -> None:
    """Medians by batch size, and int8 against the fastest fp32."""
    for name in dict.fromkeys(name for name, _ in rates):
        texts = []
        for batch in batches:
            clock, cpu = (statistics.median(column) for column in zip(*rates[name, batch], strict=True))
            texts.append(f"{batch}: {clock:.1f} ({cpu:.1f})")
        print(f"  {name}, img/s (a CPU-second) by batch: {', '.join(texts)}")
    for unit, what in enumerate(("second", "CPU-second")):
        best = {
            name: max(batches, key=lambda batch, name=name: statistics.median(one[unit] for one in rates[name, batch]))
            for name in ("torch fp32", "onnx fp32", "onnx int8")
        }
        values = {name: [one[unit] for one in rates[name, batch]] for name, batch in best.items()}
        fp32 = max(("torch fp32", "onnx fp32"), key=lambda name: statistics.median(values[name]))
        ratios = sorted(two / one for one, two in zip(values[fp32], values["onnx int8"], strict=True))
        print(
            f"  int8 / {fp32}, images a {what}, each at its best batch ({best['onnx int8']}, {best[fp32]}): "
            f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) in {rounds} rounds",
            flush=True,
        )


def compare_whole(images: list[Path], folder: Path, cache: Path, batches: list[int], rounds: int) -> None:
    """Print the images a second of whole extractions, decoding included, by back-end, precision and batch size.

    All in turns. What is measured begins when the network is ready: int8 is quantised and compared before.
    """
    sides = (("torch", "fp32"), ("onnx", "fp32"), ("onnx", "int8"))
    for arch, weights in NETWORKS:
        place = folder / arch
        place.mkdir()
        bench = Bench(images, place, arch, cache, weights=weights)
        bench.write_manifest()
        bench.time_opening()
        found: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for turn in range(rounds + 1):
            for backend, precision in sides:
                for batch in batches[: None if turn else 1]:  # the first exports and quantises
                    bench.extract(backend, precision=precision, batch=batch)
                    taken = time.perf_counter() - bench.ready[0], time.process_time() - bench.ready[1]
                    if turn:
                        rates = len(images) / taken[0], len(images) / taken[1]
                        found.setdefault((f"{backend} {precision}", batch), []).append(rates)
        print(f"{arch}, weights {weights}: {len(images)} images, {rounds} rounds")
        print_rates(found, rounds, batches)


def print_memory(bench: Bench) -> None:
    """Peaks of a whole extraction; apart from the clocks, which the watch would disturb."""
    for name in BACKENDS:
        with watch_memory() as memory:
            bench.extract(name)
        print(f"{name}: peak RssAnon {memory['anonymous']:.2f} GB")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--arch", default="densenet201")
    parser.add_argument("--cache", type=lambda text: Path(text).resolve(), help="keep exports here between runs")
    parser.add_argument("--memory", action="store_true", help="measure memory too")
    parser.add_argument("--forward", nargs="*", metavar="WEIGHTS", help="bare passes only, in every precision")
    parser.add_argument("--whole", type=int, nargs="+", metavar="BATCH", help="whole extractions by batch size")
    parser.add_argument("--small", action="store_true", help="compare the network that ships with DenseNet201")
    options = parser.parse_args()
    print(f"{machine()}; fastest float32 product {product_rate():.0f} GFLOP/s")
    images = sorted(path for path in options.folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
    if len(images) < options.images:
        parser.error(f"{options.folder} holds {len(images)} JPEGs only")
    weights = [str(Path(name).resolve()) if Path(name).exists() else name for name in options.forward or ()]
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(images[: options.images], Path(name), options.arch, options.cache or Path(name))
        os.chdir(name)  # runs/latest goes there too
        if options.forward is not None:
            compare_forwards(bench.images, bench.cache, options.rounds, weights)
            return
        if options.whole:
            compare_whole(bench.images, Path(name), bench.cache, options.whole, options.rounds)
            return
        if options.small:
            compare_small(bench.images, Path(name), options.rounds)
            return
        bench.write_manifest()
        compare(bench, options.rounds)
        if options.memory:
            print_memory(bench)


if __name__ == "__main__":
    main()
