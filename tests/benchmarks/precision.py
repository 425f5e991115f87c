"""What ``vreid extract --precision`` changes in the features and the results of a trained network.

    python tests/benchmarks/precision.py FOLDER CHECKPOINT … [--precisions tf32-emulated bf16 fp16 int8] [--device cuda]

FOLDER is that of training.py, CHECKPOINT what was trained there on the same fold: the vehicles that are looked for
were never learned. ``int8`` is quantised by some of their images, as a user's run is.
``tf32`` needs CUDA; ``tf32-emulated`` computes in fp32 with the inputs of every convolution rounded to TF32's ten bits.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import torch
from made import machine
from torch import nn
from training import vreid, write_manifest

from vreid_cli.cli.app import run
from vreid_cli.models.network import Network
from vreid_cli.store.runs import RunDirectory

EMULATED = "tf32-emulated"


@dataclass(frozen=True)
class Found:
    """What one precision gives: mAP, the nearest gallery image of each query, the LRs (N, D)."""

    mean_ap: float
    nearest: dict[str, str]
    features: np.ndarray


def rounded(values: torch.Tensor) -> torch.Tensor:
    """To the nearest number with ten bits of mantissa, as the tensor cores take it."""
    return ((values.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32).view(values.shape)


@contextlib.contextmanager
def emulate() -> Iterator[None]:
    """Let convolutions take rounded inputs and weights; their sums stay in fp32, as TF32's do."""
    plain = nn.Conv2d._conv_forward

    def convolve(
        conv: nn.Conv2d, images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        return plain(conv, rounded(images), rounded(weight), bias)

    with (
        mock.patch.object(nn.Conv2d, "_conv_forward", convolve),
        mock.patch.object(Network, "streamlined", return_value=None),
    ):
        yield


def look_for(folder: Path, checkpoint: Path, *, precision: str, device: str) -> Found:
    """Image to image by the cosine."""
    command = (
        *("extract", "--dataset", "csv", "--data-dir", "cars.csv", "--run-dir", precision, "--device", device),
        *("--weights", str(checkpoint.resolve()), "--backend", "auto" if precision == "int8" else "torch", "--quiet"),
    )
    if precision == EMULATED:
        with contextlib.chdir(folder), emulate(), contextlib.redirect_stdout(sys.stderr):
            assert run(list(command)) == 0
    else:
        vreid(folder, *command, "--precision", precision)
    vreid(folder, "rank", "--run-dir", precision, "--task", "i2i", "--metric", "MCD", "--quiet")
    result = json.loads(vreid(folder, "evaluate", "--run-dir", precision, "--json", "--quiet"))["results"][0]
    rows = pq.read_table(folder / precision / "rankings" / "i2i-MCD.parquet", filters=[("rank", "=", 1)]).to_pydict()
    stores = [RunDirectory(folder / precision).features(split).read() for split in ("query", "gallery")]
    features = np.concatenate([store.matrix.take(np.arange(len(store))) for store in stores])
    return Found(result["mAP"], dict(zip(rows["query_id"], rows["gallery_id"], strict=True)), features)


def compare(folder: Path, checkpoint: Path, *, precisions: list[str], device: str) -> None:
    """Print what each precision changes in the results of one network."""
    exact = look_for(folder, checkpoint, precision="fp32", device=device)
    lengths = np.linalg.norm(exact.features, axis=1)
    print(f"{checkpoint}: fp32: mAP {exact.mean_ap:.4f}, {len(exact.nearest)} queries")
    for precision in precisions:
        found = look_for(folder, checkpoint, precision=precision, device=device)
        moved = np.linalg.norm(found.features - exact.features, axis=1) / lengths
        same = sum(found.nearest[query] == gallery for query, gallery in exact.nearest.items())
        targets = (0.005, 0.98) if precision == "int8" else (0.002, 0.99)
        print(
            f"{precision}: LRs moved by {np.median(moved):.2%} of their length (at most {moved.max():.2%}); "
            f"mAP {found.mean_ap:.4f}, a change of {found.mean_ap - exact.mean_ap:+.4f} (target {targets[0]}); "
            f"the same nearest image for {same / len(exact.nearest):.1%} of the queries (target {targets[1]:.0%})",
            flush=True,
        )


def main() -> None:
    """Compare with fp32."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--precisions", nargs="+", default=[EMULATED, "bf16", "fp16", "int8"])
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    print(machine())
    for checkpoint in options.checkpoints:
        with tempfile.TemporaryDirectory() as name:
            write_manifest(options.folder, Path(name) / "cars.csv", fold=options.fold)
            compare(Path(name), checkpoint, precisions=options.precisions, device=options.device)


if __name__ == "__main__":
    main()
