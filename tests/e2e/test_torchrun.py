"""Two processes under torchrun learn as one does on the same batches."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import draw

TESTS = Path(__file__).resolve().parent.parent
#: The same sums in another order, through a network of a few layers.
TOLERANCE = 1e-5
#: Through ResNet18, whose batch normalisations over a handful of small images make any rounding larger.
LOSS_TOLERANCE = 1e-3


def start(folder: Path, *arguments: str, processes: int) -> str:
    """Run Python on these arguments in one process, or in several under torchrun; what it printed."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), *arguments]
    # The package beside these tests, also where another one is installed.
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": paths}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


LEARN = """
import sys
from safetensors.torch import save_file
from toys import CLASSES, SMALL, STRONG, TINY, toy
from vreid_cli.training.options import TrainingOptions
from vreid_cli.models.network import build_random
from vreid_cli.models.checkpoint import network_state
from vreid_cli.training.distributed import choose_executor
from vreid_cli.training.train import Learner

recipe = TrainingOptions(epochs=4, batch_size=8, flip=True, erase=0.5, ema=0.5, accumulate=int(sys.argv[2]),
                       **{**STRONG, "optimizer": "sgd"})
network = build_random(TINY, seed=0, classes=CLASSES, neck=True)
network.trunk.get_submodule("5").p = 0.0  # what drops out is drawn by each process for itself
executor = choose_executor("cpu")
learner = Learner(network, recipe, executor=executor, seed=3)
learner.learn(toy(), validate=None, on_epoch=lambda *_: None)
if executor.rank == 0:
    print(*[result.loss for result in learner.history])
    save_file({name: tensor.contiguous() for name, tensor in network_state(learner.result).items()}, sys.argv[1])
executor.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", ["1", "2"])
def test_weights_and_losses_are_those_of_one_process(tmp_path: Path, accumulate: str):
    # Batch normalisations, a loss between images, a moving average: all of them need the whole batch.
    (tmp_path / "learn.py").write_text(LEARN)
    told = [
        start(tmp_path, "learn.py", f"{processes}.safetensors", accumulate, processes=processes) for processes in (1, 2)
    ]
    losses = [[float(text) for text in one.split()] for one in told]
    assert len(losses[0]) == 4
    assert losses[1] == pytest.approx(losses[0], rel=TOLERANCE)
    one, two = (load_file(tmp_path / f"{processes}.safetensors") for processes in (1, 2))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_command_under_torchrun_makes_one_run(tmp_path: Path):
    rows = ["path,split,vehicle,camera"]
    for vehicle in range(12):
        for camera in (1, 2):
            name = f"{vehicle}_{camera}.png"
            draw(tmp_path / name, hue=7 * vehicle + 1, seed=camera)
            rows.append(f"{name},train,v{vehicle},c{camera}")
    (tmp_path / "cars.csv").write_text("\n".join(rows))
    command = (
        *(
            "-m",
            "vreid_cli",
            "train",
            "--dataset",
            "csv",
            "--data-dir",
            "cars.csv",
            "--device",
            "cpu",
            "--workers",
            "0",
        ),
        *("--recipe", "strong", "--arch", "resnet18", "--weights", "random", "--crop", "64", "--epochs", "1"),
        *("--batch-size", "16", "--set", "train.per_vehicle=2", "--held-out", "4", "--learning-rate", "1e-5"),
    )
    losses = []
    for processes in (1, 2):
        out = start(tmp_path, *command, "--run-dir", f"run{processes}", processes=processes)
        assert out.count("next: vreid extract") == 1, "one process speaks"
        assert "held-out vehicles, last" in out
        with (tmp_path / f"run{processes}" / "log.csv").open() as file:
            losses += [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses[1] == pytest.approx(losses[0], rel=LOSS_TOLERANCE)
    names = {path.name for path in (tmp_path / "run2" / "checkpoints").iterdir()}
    assert names == {"last.safetensors", "best.safetensors", "resume.safetensors"}
