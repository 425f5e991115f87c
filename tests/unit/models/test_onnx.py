"""Exported networks: run by ONNX Runtime itself, against what torch computes, at a batch that no export saw."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from vreid_cli.errors import ExportError, StoreError
from vreid_cli.models import onnx as exporting
from vreid_cli.models.backbones import BACKBONES
from vreid_cli.models.checkpoint import save_checkpoint, weights_digest
from vreid_cli.models.network import Network, build_random
from vreid_cli.models.onnx import PARITY_BATCHES, PARITY_TOLERANCE, check_parity, write_onnx
from vreid_cli.models.onnx_session import OnnxNetwork
from vreid_cli.models.transforms import Transform
from vreid_cli.models.weights import LoadedNetwork, load_network

#: Small, so that it goes fast; but AlexNet and VGG16 pool otherwise at their full size, so one of them has it.
SIDES = {"densenet201": 32, "resnet18": 32, "mobilenet_v2": 32, "alexnet": 224, "vgg16": 32, "inception_v3": 75}
WIDTHS = {
    "densenet201": 1920,
    "resnet18": 512,
    "mobilenet_v2": 1280,
    "alexnet": 4096,
    "vgg16": 4096,
    "inception_v3": 2048,
}
FACTS = {"vreid": "1.2.3"}

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


def unsettle(network: Network) -> Network:
    """Normalisations as training leaves them: those of a new network hide what is done to them."""
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.8, 1.25, generator=generator)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(0, 0.1, generator=generator)
    return network.eval()


def make(arch: str, *, seed: int = 0, neck: bool = False) -> LoadedNetwork:
    network = unsettle(build_random(BACKBONES[arch], seed=seed, neck=neck))
    if arch == "mobilenet_v2":  # torchvision's own weights, as they begin, lose the image on the way
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, generator=torch.Generator().manual_seed(seed))
    # Means and deviations of its own: the metadata must carry those of the checkpoint.
    transform = Transform(SIDES[arch] + 5, SIDES[arch], mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    return LoadedNetwork(network, transform, "made.safetensors", weights_digest(network))


@dataclass(frozen=True)
class Exported:
    """A network, its file, and the errors that were told."""

    loaded: LoadedNetwork
    path: Path
    errors: dict[int, float]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A ResNet18 with a neck."""
    loaded, path = make("resnet18", neck=True), tmp_path_factory.mktemp("small") / "a.onnx"
    return Exported(loaded, path, write_onnx(path, loaded, facts=FACTS))


@pytest.fixture(scope="module")
def program(small: Exported) -> object:
    """The same in memory, for tests in which only the writing matters."""
    return exporting._export(small.loaded, facts=FACTS)


def random_images(batch: int, side: int) -> np.ndarray:
    return np.random.default_rng(batch).normal(size=(batch, 3, side, side)).astype(np.float32)


def run(path: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (latent,) = session.run(None, {"images": images})
    return latent


def deviation(found: np.ndarray, loaded: LoadedNetwork, images: np.ndarray) -> float:
    with torch.inference_mode():
        expected = loaded.network.latent(torch.from_numpy(images)).numpy()
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("arch", list(BACKBONES))
def test_every_architecture_computes_what_torch_does(tmp_path: Path, arch: str):
    path, loaded = tmp_path / "a.onnx", make(arch)
    try:
        errors = write_onnx(path, loaded, facts=FACTS)
        assert [entry.name for entry in tmp_path.iterdir()] == ["a.onnx"]
        images = random_images(3, SIDES[arch])
        found = run(path, images)
        described = onnx.load(path, load_external_data=False).graph
    finally:
        path.unlink(missing_ok=True)  # VGG16 takes half a gigabyte
    assert found.shape == (3, WIDTHS[arch])
    assert found.dtype == np.float32
    assert deviation(found, loaded, images) <= PARITY_TOLERANCE
    # The bound means something: another image's LR is far from it, and DenseNet201's has no ReLU.
    assert deviation(found[::-1], loaded, images) > 100 * PARITY_TOLERANCE
    assert (found.min() < 0) == (arch == "densenet201")
    assert set(errors) == set(PARITY_BATCHES)
    assert all(0 <= error <= PARITY_TOLERANCE for error in errors.values())
    assert shape_of(described.input) == {"images": ["N", 3, SIDES[arch], SIDES[arch]]}
    assert shape_of(described.output) == {"latent": ["N", WIDTHS[arch]]}


def shape_of(values: object) -> dict[str, list[str | int]]:
    assert all(value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for value in values)
    return {value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in values}


def test_a_neck_is_part_of_what_is_exported(tmp_path: Path, small: Exported):
    images = random_images(3, 32)
    found = run(small.path, images)
    assert deviation(found, small.loaded, images) <= PARITY_TOLERANCE
    with torch.inference_mode():
        without = small.loaded.network.embed(torch.from_numpy(images)).numpy()
    assert np.abs(found - without).max() > 0.01 * np.abs(found).max()
    # As a checkpoint brings it.
    save_checkpoint(tmp_path / "a.safetensors", small.loaded.network, transform=small.loaded.transform, facts={})
    loaded = load_network(str(tmp_path / "a.safetensors"), arch="resnet18", seed=0)
    assert check_parity(OnnxNetwork(small.path), loaded, name=small.path) == small.errors


def test_the_file_says_what_it_is_and_nothing_of_where_it_was_made(small: Exported):
    facts = {entry.key: entry.value for entry in onnx.load(small.path).metadata_props}
    assert json.loads(facts.pop("transform")) == {
        "resize": 37,
        "crop": 32,
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.25, 0.3],
        "interpolation": "bilinear",
        "channels": "rgb",
    }
    assert facts == {
        "vreid": "1.2.3",
        "architecture": "resnet18",
        "weights": "made.safetensors",
        "weights_digest": small.loaded.digest,
    }
    assert OnnxNetwork(small.path).facts["architecture"] == "resnet18"
    content = small.path.read_bytes()
    for trace in (b"site-packages", b"vreid_cli", b".py", str(Path.home()).encode() + b"/"):
        assert trace not in content


def test_the_same_network_gives_the_same_file(
    tmp_path: Path, small: Exported, program: object, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(exporting, "_export", lambda loaded, *, facts: program)
    assert write_onnx(tmp_path / "b.onnx", small.loaded, facts=FACTS) == small.errors
    assert (tmp_path / "b.onnx").read_bytes() == small.path.read_bytes()


def test_the_network_is_left_as_it_was(small: Exported):
    assert weights_digest(small.loaded.network) == small.loaded.digest
    assert not any(module.training for module in small.loaded.network.modules())


def test_the_run_time_gives_tensors(small: Exported):
    images = torch.from_numpy(random_images(2, 32)).contiguous(memory_format=torch.channels_last)
    found = OnnxNetwork(small.path).latent(images)
    assert deviation(found.numpy(), small.loaded, images.numpy()) <= PARITY_TOLERANCE


# -- what is refused ----------------------------------------------------------------------------------------


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    """An old file, which a refused export must leave as it is."""
    path = tmp_path / "a.onnx"
    path.write_bytes(b"old")
    yield path
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.onnx"]
    assert path.read_bytes() == b"old"


def export_another(monkeypatch: pytest.MonkeyPatch, change: Callable[[LoadedNetwork], LoadedNetwork]) -> None:
    """Let the exporter follow a network that is not quite the one that was asked for."""
    real = exporting._export
    monkeypatch.setattr(exporting, "_export", lambda loaded, *, facts: real(change(loaded), facts=facts))


def changed_by(value: float) -> Callable[[LoadedNetwork], LoadedNetwork]:
    def change(loaded: LoadedNetwork) -> LoadedNetwork:
        network = make("resnet18", neck=True).network
        with torch.no_grad():
            network.trunk.conv1.weight[5] += value
        return replace(loaded, network=network)

    return change


@pytest.mark.parametrize("value", [0.01, float("nan")])
def test_a_graph_that_computes_something_else_is_refused(
    small: Exported, target: Path, monkeypatch: pytest.MonkeyPatch, value: float
):
    export_another(monkeypatch, changed_by(value))
    with pytest.raises(ExportError, match=r"relative error (\d\.\de-\d\d|nan) at batch 1, allowed 1e-05") as caught:
        write_onnx(target, small.loaded, facts=FACTS)
    assert str(target) in caught.value.message
    assert caught.value.file == str(target)


def test_a_graph_for_one_batch_size_only_is_refused(small: Exported, target: Path, monkeypatch: pytest.MonkeyPatch):
    real = torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", lambda *args, dynamic_shapes, **options: real(*args, **options))
    with pytest.raises(ExportError, match=r"takes batches of 2 images only"):
        write_onnx(target, small.loaded, facts=FACTS)


class _WrongFrom:
    """Runs right below a batch size."""

    batch = None

    def __init__(self, exported: Exported, batch: int) -> None:
        self._right, self._batch = OnnxNetwork(exported.path), batch

    def latent(self, images: torch.Tensor) -> torch.Tensor:
        latent = self._right.latent(images)
        latent[-1, -1] += 1.0 * (len(images) >= self._batch)
        return latent


def test_the_error_tells_which_batch_is_wrong(small: Exported):
    with pytest.raises(ExportError, match="at batch 7,"):
        check_parity(_WrongFrom(small, 2), small.loaded, name=small.path)
    check_parity(_WrongFrom(small, 8), small.loaded, name=small.path)


@pytest.mark.parametrize(
    ("found", "expected", "error"),
    [
        ([[1.0, -2.0]], [[1.0, -2.0]], 0.0),
        ([[1.0, -2.0]], [[1.0, -4.0]], 0.5),
        ([[1.0, 3.0]], [[1.0, -1.0]], 4.0),
        ([[0.0, 0.0]], [[0.0, 0.0]], 0.0),
        ([[0.0, 0.1]], [[0.0, 0.0]], float("inf")),
        ([[1.0]], [[1.0, 1.0]], float("inf")),
        ([[1.0, float("nan")]], [[1.0, 1.0]], float("nan")),
        ([[1.0, 1.0]], [[1.0, float("nan")]], float("nan")),
    ],
)
def test_relative_error(found: list[list[float]], expected: list[list[float]], error: float):
    measured = exporting.relative_error(torch.tensor(found), torch.tensor(expected))
    assert measured == pytest.approx(error, nan_ok=True)


def test_full_disk(
    small: Exported,
    program: object,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    limited_files: Callable[[int], AbstractContextManager[None]],
):
    monkeypatch.setattr(exporting, "_export", lambda loaded, *, facts: program)
    with limited_files(1_000_000), pytest.raises(StoreError, match="cannot be written"):
        write_onnx(target, small.loaded, facts=FACTS)


def test_images_too_small_for_the_network(tmp_path: Path):
    loaded = replace(make("alexnet"), transform=Transform(16, 16))
    with pytest.raises(ExportError, match=r"alexnet for images of 16 x 16: .*too small"):
        write_onnx(tmp_path / "a.onnx", loaded, facts=FACTS)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_onnx(tmp_path: Path):
    (tmp_path / "a.onnx").write_bytes(b"no model")
    with pytest.raises(ExportError, match=r"a\.onnx: ONNX Runtime cannot load it"):
        OnnxNetwork(tmp_path / "a.onnx")


def test_chatter_of_the_exporter_is_kept_for_verbose(
    small: Exported,
    program: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    def chatter(*_args: object, **_options: object) -> object:
        print("[torch.onnx] Obtain model graph")
        warnings.warn("a thing to come", FutureWarning, stacklevel=1)
        return program

    told: list[str] = []
    monkeypatch.setattr(torch.onnx, "export", chatter)
    monkeypatch.setattr(exporting.log, "debug", lambda form, *args: told.append(form % args))
    write_onnx(tmp_path / "a.onnx", small.loaded, facts=FACTS)
    assert capfd.readouterr() == ("", "")
    assert told == ["[torch.onnx] Obtain model graph", "a thing to come"]
