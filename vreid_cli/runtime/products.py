"""The fastest matrix product that this machine has at float32 accuracy.

``torch.mm`` as it comes is not always the fastest: on some CPUs another library's product, or another path
inside torch, takes half the time. Which one depends on chip, versions and threads, and a setting's name says
little: what is exact on one chip means bfloat16 on another. So on a CPU each path is timed, its error is
checked against float64, and the choice is kept in the cache folder, because a new choice every time
would make results differ by rounding from run to run. Other devices use ``torch.mm``.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from vreid_cli.errors import StoreError
from vreid_cli.runtime.cache import cache_folder
from vreid_cli.runtime.devices import exact_float32
from vreid_cli.runtime.files import atomic_path
from vreid_cli.runtime.progress import log
from vreid_cli.runtime.threads import one_thread

#: Largest error, in parts of |a| |b|, that counts as float32's: what the paths differ by on vectors that
#: nearly coincide, where errors add up most. TF32 has 5e-4, bfloat16 4e-3.
ERROR_LIMIT = 2e-6
#: Multiplications from which on measuring repays itself.
_WORTH_MEASURING = 1e11
_PROBE = (1024, 2048, 1920)
_ROUNDS = 5


@dataclass(frozen=True)
class Product:
    """``rows @ columns.T`` in float32.

    Attributes:
        name: What computes it.
        call: Takes rows (n, D), columns (m, D) and the result (n, m), all contiguous.
        precision: What torch calls the arithmetic.
    """

    name: str
    call: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], object]
    precision: Literal["highest", "medium"] = "highest"

    def __call__(self, rows: torch.Tensor, columns: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
        """Write the (n, m) product of (n, D) and (m, D) rows into ``out``, and return it; call it where ``allowed``."""
        self.call(rows, columns, out)
        return out

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Set torch's arithmetic, which is that of all threads, to the product's."""
        with exact_float32():
            torch.set_float32_matmul_precision(self.precision)
            yield


def choose_product(device: torch.device, *, multiplications: float, name: str = "auto") -> Product:
    """The path by this name; ``auto``: the fastest one on a CPU if the work is long enough to find out.

    Args:
        device: Where the product is computed.
        multiplications: Size of the work.
        name: A key of :data:`PATHS`, or ``auto``. Devices other than the CPU have one path only.
    """
    if device.type != "cpu":
        return TORCH
    if name != "auto":
        return PATHS[name]
    return PATHS[_fastest()] if multiplications >= _WORTH_MEASURING else TORCH


def measure_products(paths: Mapping[str, Product], *, rounds: int = _ROUNDS) -> dict[str, tuple[float, float]]:
    """GFLOP/s (median) of one thread and error of each path, in turns so that a busy moment hits all alike.

    The error is the largest difference from float64, in parts of |a| |b|, between vectors of positive numbers
    that nearly coincide.
    """
    n, m, width = _PROBE
    generator = torch.Generator().manual_seed(0)
    rows, columns = (1 + torch.rand(count, width, generator=generator) for count in (n, m))
    out = torch.empty(n, m)
    errors = {}
    seconds: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(rounds):
        for name, path in paths.items():
            with one_thread(), path.allowed():
                start = time.perf_counter()
                path(rows, columns, out=out)
                seconds[name].append(time.perf_counter() - start)
            errors[name] = _error(out, rows, columns)
    return {name: (2e-9 * out.numel() * width / statistics.median(seconds[name]), errors[name]) for name in paths}


def _error(product: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> float:
    sample, other = rows[::16].double(), columns[::16].double()
    scale = torch.linalg.vector_norm(sample, dim=1)[:, None] * torch.linalg.vector_norm(other, dim=1)
    return float(((product[::16, ::16].double() - sample @ other.T) / scale).abs().max())


def machine() -> str:
    """What speeds depend on: processor, threads, and the versions of the libraries that compute."""
    model = platform.processor() or platform.machine()
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{model}, one thread, torch {torch.__version__}, numpy {np.__version__}"


def _fastest() -> str:
    """The fastest path of float32 accuracy, as it was measured on this machine once."""
    path, key = cache_folder() / "products.json", machine()
    known: dict[str, object] = {}
    # A file that is not there or damaged is made again.
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        known = found if isinstance(found, dict) else {}
    if known.get(key) in PATHS:
        return str(known[key])
    measured = measure_products(PATHS)
    words = ", ".join(f"{name} {speed:.0f} GFLOP/s (error {error:.0e})" for name, (speed, error) in measured.items())
    accurate = {name: speed for name, (speed, error) in measured.items() if error <= ERROR_LIMIT}
    fastest = max(accurate, key=lambda name: accurate[name], default=TORCH.name)
    log.info("matrix products here: %s; %s is taken from now on", words, fastest)
    try:
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps({**known, key: fastest}, indent=2), encoding="utf-8")
    except StoreError as error:
        log.debug("the choice could not be kept: %s", error)
    return fastest


def _by_torch(rows: torch.Tensor, columns: torch.Tensor, out: torch.Tensor) -> None:
    torch.mm(rows, columns.T, out=out)


def _by_numpy(rows: torch.Tensor, columns: torch.Tensor, out: torch.Tensor) -> None:
    np.matmul(rows.numpy(), columns.numpy().T, out=out.numpy())


TORCH = Product("torch", _by_torch)
#: Ways to a product on a CPU. oneDNN is left out where torch was built without it.
PATHS = {"torch": TORCH, "numpy": Product("numpy", _by_numpy)}
if torch.backends.mkldnn.is_available():
    # On chips without bfloat16 products "medium" means oneDNN in full float32.
    PATHS["onednn"] = Product("onednn", _by_torch, "medium")
