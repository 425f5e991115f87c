"""Exports that are kept: made once, checked when they are opened, made again where they are damaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest
import torch

from vreid_cli.errors import DeviceError, ExportError, UsageError
from vreid_cli.models import onnx_cache
from vreid_cli.models.backbones import BACKBONES
from vreid_cli.models.checkpoint import weights_digest
from vreid_cli.models.network import build_random
from vreid_cli.models.onnx_cache import cached_network, cached_path
from vreid_cli.models.onnx_session import OnnxNetwork, require_onnx_device
from vreid_cli.models.transforms import Transform
from vreid_cli.models.weights import LoadedNetwork

CPU = torch.device("cpu")
#: Relative to the largest value: the bound between back-ends.
PARITY = 1e-5

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


def load(seed: int = 0) -> LoadedNetwork:
    network = build_random(BACKBONES["resnet18"], seed=seed).eval()
    return LoadedNetwork(network, Transform(34, 32), "made.safetensors", weights_digest(network))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with the export of ``load()``, made once."""
    folder = tmp_path_factory.mktemp("cache")
    cached_network(load(), folder, device=CPU)
    return folder


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch, cache: Path) -> list[Path]:
    """Exports that are made from here on; instead of following the network, each copies the right file."""
    made: list[Path] = []
    content = cached_path(load(), cache).read_bytes()

    def write(path: Path, loaded: LoadedNetwork, *, facts: dict[str, str]) -> dict[int, float]:
        made.append(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return {1: 0.0}

    monkeypatch.setattr(onnx_cache, "write_onnx", write)
    return made


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    for level in ("info", "warning"):
        monkeypatch.setattr(onnx_cache.log, level, lambda form, *args: lines.append(form % args))
    return lines


def pixels(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def deviation(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def test_a_network_is_exported_once(cache: Path, exports: list[Path], told: list[str]):
    assert cached_path(load(), cache).is_file()
    cached_network(load(), cache, device=CPU)
    assert (exports, told) == ([], [])


def test_its_name_tells_what_the_graph_depends_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    names = {cached_path(load(), tmp_path).name}
    names.add(cached_path(load(seed=1), tmp_path).name)
    names.add(cached_path(replace(load(), transform=Transform(64, 64)), tmp_path).name)
    for package in ("torch", "onnxscript"):
        with monkeypatch.context() as patch:
            real = onnx_cache.installed_version
            other = lambda name, p=package, r=real: "9.9" if name == p else r(name)  # noqa: E731
            patch.setattr(onnx_cache, "installed_version", other)
            names.add(cached_path(load(), tmp_path).name)
    assert len(names) == 5
    assert all(name.startswith("resnet18-") for name in names)


def cut_short(content: bytes) -> bytes:
    return content[: len(content) // 2]


def no_model(_content: bytes) -> bytes:
    return b"no model"


def wrong_weights(content: bytes) -> bytes:
    """As a failing disk leaves it: the graph is whole, some weights are not."""
    middle = len(content) // 2
    return content[:middle] + b"\x01" * 4096 + content[middle + 4096 :]


@pytest.mark.parametrize("damage", [cut_short, no_model, wrong_weights])
def test_a_damaged_export_is_made_again(
    tmp_path: Path, cache: Path, exports: list[Path], told: list[str], damage: Callable[[bytes], bytes]
):
    path = cached_path(load(), tmp_path)
    path.parent.mkdir()
    path.write_bytes(damage(cached_path(load(), cache).read_bytes()))
    network = cached_network(load(), tmp_path, device=CPU)
    assert exports == [path]
    assert "made again" in told[0]
    assert str(path) in told[0]
    images = load().transform.normalise(pixels(2))
    with torch.inference_mode():
        assert deviation(network.latent(images), load().network.latent(images)) <= PARITY


def test_an_export_of_other_weights_under_the_name_is_made_again(
    tmp_path: Path, cache: Path, exports: list[Path], told: list[str], monkeypatch: pytest.MonkeyPatch
):
    path = cached_path(load(seed=1), tmp_path)
    path.parent.mkdir()
    path.write_bytes(cached_path(load(), cache).read_bytes())
    cached_network(load(seed=1), tmp_path, device=CPU)
    assert exports == [path]
    assert "is of other weights" in told[0]


def test_an_export_that_computes_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
):
    class Program:
        """An exporter that is wrong: it writes the graph of other weights."""

        def save(self, path: Path, *, external_data: bool) -> None:
            Path(path).write_bytes(cached_path(load(), cache).read_bytes())

    monkeypatch.setattr("vreid_cli.models.onnx._export", lambda loaded, *, facts: Program())
    other = load(seed=1)
    with pytest.raises(ExportError, match="would not compute what torch does: relative error"):
        cached_network(other, tmp_path, device=CPU)
    assert list((tmp_path / "onnx").iterdir()) == []


def test_cuda_without_its_provider_is_an_error():
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(
        DeviceError, match="--backend onnx: the installed ONNX Runtime cannot compute on cuda"
    ) as caught:
        require_onnx_device(torch.device("cuda"))
    assert "onnxruntime-gpu" in (caught.value.hint or "")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_does_not_start_is_an_error(cache: Path, monkeypatch: pytest.MonkeyPatch):
    # ONNX Runtime only warns of a missing library, and computes on the CPU.
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    with pytest.raises(DeviceError, match="ONNX Runtime could not start on cuda:0"):
        OnnxNetwork(cached_path(load(), cache), device=torch.device("cuda:0"))


def test_other_devices_are_wrong_usage():
    with pytest.raises(UsageError, match="not on mps"):
        require_onnx_device(torch.device("mps"))
