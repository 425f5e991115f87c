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


def start(folder: Path, *arguments: str, processes: int) -> str:
    """Run Python on these arguments in one process, or in several under torchrun; what it printed."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), *arguments]
    # The package beside these tests, also where another one is installed.
    paths = os.pathsep.join([str(TESTS / "support"), str(TESTS.parent)])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": paths}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


LEARN = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from toys import CLASSES, PLAIN, STRONG, toy
from vreid_cli.training.options import TrainingOptions
from vreid_cli.models.checkpoint import network_state
from vreid_cli.models.network import build_random
from vreid_cli.training.distributed import choose_executor
from vreid_cli.training.trainer import Trainer

options = TrainingOptions(epochs=4, batch_size=8, flip=True, erase=0.5, ema=0.5, accumulate=int(sys.argv[2]),
                          **{**STRONG, "optimizer": "sgd"})
network = build_random(PLAIN, seed=0, classes=CLASSES, neck=True)
executor = choose_executor("cpu")
trainer = Trainer(network, toy(), options=options, executor=executor, seed=3)
trainer.run()
if executor.rank == 0:
    print(*[result.loss for result in trainer.history])
    save_file({name: tensor.contiguous() for name, tensor in network_state(trainer.kept).items()}, sys.argv[1])
del trainer
executor.close()
# Threads that are left when Python ends abort the process now and then.
assert not [name for name in Path("/proc/self/task").glob("*/comm") if "gloo" in name.read_text()]
"""


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", ["1", "2"])
def test_weights_and_losses_are_those_of_one_process(tmp_path: Path, accumulate: str):
    # A neck, a loss between images, a moving average: all of them need the whole batch. Batch normalisations within
    # the trunk do not: on CPUs each process normalises its own piece.
    (tmp_path / "learn.py").write_text(LEARN)
    printed = [
        start(tmp_path, "learn.py", f"{processes}.safetensors", accumulate, processes=processes) for processes in (1, 2)
    ]
    losses = [[float(text) for text in one.split()] for one in printed]
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
    out = start(tmp_path, *command, "--run-dir", "run", processes=2)
    assert out.count("next: vreid extract") == 1, "one process speaks"
    assert "held-out vehicles, last" in out
    with (tmp_path / "run" / "log.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["images"]) == 16
    assert 0 < float(row["loss"]) < 20
    assert 0 <= float(row["mAP"]) <= 1
    names = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert names == {"last.safetensors", "best.safetensors", "resume.safetensors"}
