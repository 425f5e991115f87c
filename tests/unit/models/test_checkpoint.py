"""Checkpoints of every kind: wrapped, renamed, damaged, hostile; and our own."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from published import State, build_published
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from vreid_cli.errors import StoreError, WeightsError
from vreid_cli.models.backbones import BACKBONES
from vreid_cli.models.checkpoint import load_weights, network_state, read_checkpoint, save_checkpoint, weights_digest
from vreid_cli.models.network import build_random
from vreid_cli.models.transforms import Transform

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def state() -> State:
    return build_published().state_dict()


@pytest.fixture(scope="module")
def small() -> State:
    """A ResNet18 with a head of 7, for tests in which the size does not matter."""
    return network_state(build_random(BACKBONES["resnet18"], seed=1, classes=7))


def refusal(path: Path, arch: str = "resnet18") -> WeightsError:
    with pytest.raises(WeightsError) as caught:
        load_weights(build_random(BACKBONES[arch], seed=0), read_checkpoint(path).state, source=str(path))
    assert path.name in caught.value.message
    return caught.value


@dataclass
class Hostile:
    """An object whose unpickling would make a file."""

    path: str

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, (f"touch '{self.path}'",))


def old_names(state: State) -> State:
    """The names of torchvision before 2018: ``denselayer1.norm.1`` for ``denselayer1.norm1``."""
    renamed = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): t for name, t in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in renamed
    return renamed


LAYOUTS: dict[str, Callable[[State], object]] = {
    "plain": lambda state: state,
    "old names": old_names,
    "no counters": lambda state: {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")},
    "old names, no counters": lambda state: {
        n: t for n, t in old_names(state).items() if not n.endswith("num_batches_tracked")
    },
    "state_dict": lambda state: {"epoch": 50, "state_dict": state},
    "model": lambda state: {"model": state, "optimizer": {"lr": 0.1}},
    "module.": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "state_dict, module.": lambda state: {"state_dict": {f"module.{name}": t for name, t in state.items()}},
    "no head": lambda state: {n: t for n, t in state.items() if not n.startswith("classifier.")},
}


@pytest.mark.slow
@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_published_layout_is_read_however_it_is_wrapped(tmp_path: Path, state: State, layout: str):
    path = tmp_path / "weights.pt"
    state = {name: tensor.flatten()[:1].clone() for name, tensor in state.items()}  # the names are what matters
    torch.save(LAYOUTS[layout](state), path)
    found = read_checkpoint(path).state
    left_out = [n for n in state if n not in found]
    expected = "num_batches_tracked" if "counters" in layout else "classifier" if layout == "no head" else "nothing"
    assert all(expected in name for name in left_out)
    assert set(found) <= set(state)
    assert all(torch.equal(found[name], state[name]) for name in found)


def test_checkpoint_round_trip_carries_architecture_and_transform(tmp_path: Path):
    network = build_random(BACKBONES["resnet18"], seed=3, classes=9)
    transform = Transform(72, 64, mean=(0.5, 0.5, 0.5))
    path = tmp_path / "folder" / "best.safetensors"
    save_checkpoint(path, network, transform=transform, facts={"epoch": "12"})
    read = read_checkpoint(path)
    assert (read.architecture, read.transform) == ("resnet18", transform)
    assert read.state["fc.weight"].shape == (9, 512)
    other = build_random(BACKBONES["resnet18"], seed=4)
    assert load_weights(other, read.state, source="memory") == 9
    assert weights_digest(other) == weights_digest(network)
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["epoch"] == "12"


def test_full_disk_while_saving(tmp_path: Path, limited_files: Callable[[int], AbstractContextManager[None]]):
    path = tmp_path / "best.safetensors"
    path.write_bytes(b"old")
    network = build_random(BACKBONES["resnet18"], seed=3)
    with limited_files(100_000), pytest.raises(StoreError, match="cannot be written"):
        save_checkpoint(path, network, transform=network.backbone.transform, facts={})
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["best.safetensors"]


def test_metadata_of_an_unknown_architecture(tmp_path: Path, small: State):
    save_file(small, tmp_path / "a.safetensors", metadata={"architecture": "resnet19"})
    assert "resnet19" in refusal(tmp_path / "a.safetensors").message


def test_missing_and_unexpected_keys_are_listed(tmp_path: Path, small: State):
    state = {name: tensor for name, tensor in small.items() if name not in ("conv1.weight", "layer1.0.bn1.bias")}
    state["extra.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "a.pth")
    message = refusal(tmp_path / "a.pth").message
    for name in ("conv1.weight", "layer1.0.bn1.bias", "extra.weight"):
        assert name in message


def test_unexpected_keys_alone(tmp_path: Path, small: State):
    torch.save({**small, "layer9.weight": torch.zeros(1)}, tmp_path / "a.pth")
    assert "unexpected layer9.weight" in refusal(tmp_path / "a.pth").message


def test_long_lists_of_keys_are_cut(tmp_path: Path, small: State):
    torch.save(small, tmp_path / "a.pth")
    error = refusal(tmp_path / "a.pth", "densenet201")
    assert re.search(r"and \d{3} more", error.message)
    assert len(error.message) < 1000
    assert "--arch" in (error.hint or "")


def test_wrong_shape(tmp_path: Path, small: State):
    torch.save({**small, "conv1.weight": torch.zeros(64, 1, 7, 7)}, tmp_path / "a.pth")
    message = refusal(tmp_path / "a.pth").message
    assert "conv1.weight" in message
    assert "(64, 1, 7, 7)" in message
    assert "(64, 3, 7, 7)" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(tmp_path: Path, small: State, value: float):
    broken = small["layer1.0.conv1.weight"].clone()
    broken[3, 2, 1, 0] = value
    torch.save({**small, "layer1.0.conv1.weight": broken}, tmp_path / "a.pth")
    assert "layer1.0.conv1.weight" in refusal(tmp_path / "a.pth").message


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], 7, {"state_dict": {"epoch": 1}}])
def test_no_state_dict(tmp_path: Path, content: object):
    torch.save(content, tmp_path / "a.pth")
    assert "no state dict" in refusal(tmp_path / "a.pth").message


def test_missing_file(tmp_path: Path):
    assert "there is no weights file" in refusal(tmp_path / "a.pth").message


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_hostile_pickle_is_refused_and_does_not_run(tmp_path: Path, small: State, legacy: bool, wrapped: bool):
    trace = tmp_path / "it ran"
    hostile = Hostile(str(trace))
    content = {"state_dict": small, "extra": hostile} if wrapped else hostile
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    error = refusal(tmp_path / "a.pth")
    assert not trace.exists()
    assert "posix.system" in error.message or "nt.system" in error.message
    # torch's own message advises to load it all the same.
    assert "weights_only" not in f"{error.message} {error.hint}"


def test_hostile_pickle_named_safetensors(tmp_path: Path):
    trace = tmp_path / "it ran"
    torch.save(Hostile(str(trace)), tmp_path / "a.safetensors")
    refusal(tmp_path / "a.safetensors")
    assert not trace.exists()


def test_whole_model_is_refused(tmp_path: Path):
    torch.save(nn.Linear(2, 2), tmp_path / "a.pth")
    error = refusal(tmp_path / "a.pth")
    assert "torch.nn.modules.linear.Linear" in error.message
    assert "state_dict()" in (error.hint or "")


@pytest.mark.slow
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.0, 1e-4, 0.01, 0.5, 0.999])
def test_truncated_pth(tmp_path: Path, small: State, legacy: bool, share: float):
    path = tmp_path / "a.pth"
    torch.save(small, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refusal(path)


@pytest.mark.parametrize("share", [0.0, 1e-7, 1e-4, 0.5, 0.999])
def test_truncated_safetensors(tmp_path: Path, small: State, share: float):
    path = tmp_path / "a.safetensors"
    save_file(small, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refusal(path)


@pytest.mark.parametrize("content", [b"<!DOCTYPE html>", b"hello", b"version https://git-lfs.github.com/spec/v1\n"])
@pytest.mark.parametrize("ending", [".pth", ".pt", ".safetensors"])
def test_text_files(tmp_path: Path, content: bytes, ending: str):
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    refusal(path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damage_never_ends_in_a_traceback(tmp_path: Path, legacy: bool):
    path = tmp_path / "a.pth"
    torch.save({"a.b": torch.arange(12.0), "s": {"x": 1}}, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    rng = np.random.default_rng(3)
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), rng.integers(1, 6)):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_checkpoint(path)
        except WeightsError:
            continue


def test_load_weights_reports_the_dropped_head(small: State):
    network = build_random(BACKBONES["resnet18"], seed=2)
    assert load_weights(network, small, source="memory") == 7
    assert torch.equal(network.trunk.conv1.weight, small["conv1.weight"])
