"""What the benchmarks share: made features of VeRi's size, clocks, and a watch on memory."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray

from vreid_cli import FeatureSet
from vreid_cli.store.features import FeatureStore
from vreid_cli.store.parts import PartFacts
from vreid_cli.types.images import ImageRecord

#: How many of VeRi's test tracks have 1, 2, … 7 images: all 2,021, and the 1,677 that hold a query image.
GALLERY_LENGTHS = {1: 7, 2: 14, 3: 41, 4: 75, 5: 185, 6: 1697, 7: 2}
QUERY_LENGTHS = {1: 5, 2: 13, 3: 31, 4: 62, 5: 157, 6: 1407, 7: 2}
WIDTH = 1920
#: What a part says of itself where no image made it.
NO_FACTS = PartFacts(identity={}, recorded={}, contents="", labels="", skipped=())


def lengths_of(counts: dict[int, int], *, seed: int = 0) -> NDArray[np.int64]:
    """(n,) lengths in mixed order."""
    lengths = np.repeat(list(counts), list(counts.values())).astype(np.int64)
    return np.random.default_rng(seed).permutation(lengths)


def made_tracks(
    lengths: NDArray[np.int64], *, prefix: str = "", vehicles: int = 200, seed: int = 1, width: int = WIDTH
) -> FeatureSet:
    """Tracks of made features: vehicles around a common mean, tracks around their vehicle, images around those.

    The spreads are such that distances within a track, within a vehicle and between vehicles stand to each
    other about as in the authors' released sample.
    """
    rng = np.random.default_rng(seed)
    common = 0.35 * np.random.default_rng(0).normal(size=width)
    centres = common + 0.5 * np.random.default_rng(1).normal(size=(vehicles, width))
    vehicle = np.sort(rng.integers(0, vehicles, size=len(lengths)))
    owner = np.repeat(np.arange(len(lengths)), lengths)
    rows = (centres[vehicle] + 0.3 * rng.normal(size=(len(lengths), width))).astype(np.float32)[owner]
    rows += 0.3 * rng.standard_normal(size=rows.shape, dtype=np.float32)
    tracks = [f"{prefix}{v:04d}_c{i % 20:03d}_{i:07d}" for i, v in enumerate(vehicle)]
    names = [tracks[i] for i in owner]
    return FeatureSet.from_arrays(
        rows, track_id=names, vehicle_id=[n[len(prefix) :][:4] for n in names], camera_id=[n[-12:-8] for n in names]
    )


def veri_sized() -> tuple[FeatureSet, FeatureSet]:
    """Query and gallery of the real lengths; the query tracks are other images of the same vehicles."""
    return (
        made_tracks(lengths_of(QUERY_LENGTHS), seed=2),
        made_tracks(lengths_of(GALLERY_LENGTHS), seed=3),
    )


def write_store(path: Path, features: FeatureSet, *, dtype: type = np.float32, part_rows: int = 20_000) -> None:
    """Keep features as ``extract`` would."""
    store = FeatureStore(path)
    path.mkdir(parents=True)
    ends = np.flatnonzero(np.r_[features.track_id[1:] != features.track_id[:-1], True]) + 1
    first, parts = 0, 0
    while first < len(features):
        end = int(ends[min(np.searchsorted(ends, first + part_rows), len(ends) - 1)])
        records = [
            ImageRecord(
                features.image_id[i], Path(), features.track_id[i], features.vehicle_id[i], features.camera_id[i], i
            )
            for i in range(first, end)
        ]
        rows = features.matrix.take(np.arange(first, end))
        store.write_part(parts, records, features=rows.astype(dtype), facts=NO_FACTS)
        first, parts = end, parts + 1
    store.write_complete([], facts={"parts": parts, "images": len(features)})


def module_before(commit: str, path: str) -> ModuleType:
    """A module of the package as it was at a commit, the other side of a comparison; its imports are today's."""
    here = Path(__file__).parent
    source = subprocess.run(["git", "show", f"{commit}:{path}"], cwd=here, capture_output=True, text=True, check=True)
    module = ModuleType(f"before_{Path(path).stem}")
    sys.modules[module.__name__] = module
    exec(compile(source.stdout, f"{commit}:{path}", "exec"), module.__dict__)
    return module


def median_seconds(work: Callable[[], object], *, runs: int = 3) -> float:
    """Median of some runs, after one that does not count."""
    work()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def copied_bytes(size: int = 256 << 20) -> float:
    """Bytes that one core copies from memory to memory in a second of CPU time."""
    source, target = np.ones(size, np.uint8), np.ones(size, np.uint8)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        np.copyto(target, source)
        seconds.append(time.process_time() - start)
    return size / statistics.median(seconds)


def _status(name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found.group(1)) / 1e6


@contextmanager
def watch_memory() -> Iterator[dict[str, float]]:
    """Gigabytes: the peak of RssAnon while the block runs, and VmHWM at its end (Linux)."""
    seen = {"anonymous": 0.0, "all": 0.0}
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.01):
            seen["anonymous"] = max(seen["anonymous"], _status("RssAnon"))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()
        seen["all"] = _status("VmHWM")


def machine() -> str:
    """One line for the record."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        model = next(
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{model}, {os.cpu_count()} cores, {device}, torch {torch.__version__}, numpy {np.__version__}"
