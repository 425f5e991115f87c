"""Back-ends and precisions of extraction: which is chosen, what they compute, what is kept, what is refused."""

from __future__ import annotations

import functools
import itertools
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest
import torch

from vreid_cli.errors import DeviceError, ExportError, UsageError, WeightsError
from vreid_cli.extraction import backends
from vreid_cli.extraction.backends import (
    Circumstances,
    CompiledBackend,
    Gain,
    OnnxBackend,
    TorchBackend,
    choose_backend,
)
from vreid_cli.extraction.forward import Extractor
from vreid_cli.models import onnx_cache
from vreid_cli.models.backbones import BACKBONES
from vreid_cli.models.checkpoint import weights_digest
from vreid_cli.models.network import build_random
from vreid_cli.models.onnx import OnnxNetwork, require_onnx_device
from vreid_cli.models.onnx_cache import cached_network, cached_path, is_cached
from vreid_cli.models.transforms import Transform
from vreid_cli.models.weights import LoadedNetwork
from vreid_cli.runtime.devices import arithmetic, check_precision

CPU = torch.device("cpu")
#: Relative to the largest value: the bound between back-ends.
PARITY = 1e-5

pytestmark = pytest.mark.usefixtures("one_thread")


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


# -- the rule -----------------------------------------------------------------------------------------------

#: Ten seconds for an export that saves 10 ms an image on one thread: a thousand images repay it.
HERE = Circumstances(
    architecture="densenet201",
    area=1.0,
    device="cpu",
    threads=1,
    precision="fp32",
    images=1000,
    installed=True,
    exported=False,
)


@pytest.fixture
def gains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "GAINS", {"densenet201": Gain(10, 0.01), "alexnet": Gain(10, 0)})


@pytest.mark.usefixtures("gains")
@pytest.mark.parametrize(
    ("changes", "expected", "why"),
    [
        ({}, "onnx", "1,000 images repay its export"),
        ({"images": 999}, "torch", "999 images do not repay"),
        ({"images": 1, "exported": True}, "onnx", "its export is kept"),
        # Twice the threads share the work that is saved, a quarter of the pixels makes a quarter of it.
        ({"threads": 2}, "torch", "do not repay"),
        ({"threads": 2, "images": 2000}, "onnx", "repay"),
        ({"area": 0.25}, "torch", "do not repay"),
        ({"area": 0.25, "images": 4000}, "onnx", "repay"),
        ({"installed": False}, "torch", "the extra onnx is not installed"),
        ({"installed": False, "images": 5}, "torch", "do not repay"),
        ({"architecture": "alexnet", "images": 10**9, "exported": True}, "torch", "no faster here with alexnet"),
        ({"precision": "bf16"}, "torch", "fp32, not bf16"),
        ({"device": "cuda", "exported": True}, "torch", "always on cuda"),
        ({"device": "mps"}, "torch", "always on mps"),
    ],
)
def test_auto_takes_onnx_where_it_repays_its_export(changes: dict[str, object], expected: str, why: str):
    name, reason = choose_backend(replace(HERE, **changes))
    assert name == expected
    assert why in reason


def test_every_architecture_has_its_gain():
    assert set(backends.GAINS) == set(BACKBONES)


# -- what they compute --------------------------------------------------------------------------------------


def test_onnx_computes_what_torch_does(cache: Path):
    loaded, images = load(), pixels(11)
    by_onnx = Extractor(loaded, CPU, batch_size=4, backend=OnnxBackend(loaded, CPU, folder=cache))
    found = by_onnx.compute(images)
    expected = Extractor(loaded, CPU, batch_size=4).compute(images)
    assert found.dtype == torch.float32
    assert deviation(found, expected) <= PARITY
    assert deviation(found.flip(0), expected) > 100 * PARITY


def test_torch_keeps_its_threads_away_from_those_of_onnx(cache: Path, monkeypatch: pytest.MonkeyPatch):
    threads: list[int] = []
    normalise = Transform.normalise

    def note(transform: Transform, images: torch.Tensor) -> torch.Tensor:
        threads.append(torch.get_num_threads())
        return normalise(transform, images)

    by_onnx = OnnxBackend(load(), CPU, folder=cache)
    by_onnx.prepare()
    monkeypatch.setattr(Transform, "normalise", note)
    torch.set_num_threads(2)
    for backend in (TorchBackend(load().network, CPU), by_onnx):
        Extractor(load(), CPU, batch_size=4, backend=backend).compute(pixels(4))
        assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert threads == [2, 1]


def test_out_of_memory_of_onnx_halves_the_batches(cache: Path, monkeypatch: pytest.MonkeyPatch):
    loaded, images, tried = load(), pixels(8), []
    backend = OnnxBackend(loaded, CPU, folder=cache)
    extractor = Extractor(loaded, CPU, batch_size=8, backend=backend)
    expected = extractor.compute(images)
    session = backend._open()._session

    class Poor:
        """Plays a session whose arena holds three images."""

        def io_binding(self) -> object:
            return session.io_binding()

        def run_with_iobinding(self, binding: object) -> None:
            tried.append(binding.get_outputs()[0].shape()[0])
            if tried[-1] > 3:
                raise RuntimeError("bfc_arena.cc:360 Failed to allocate memory for requested buffer of size 3932160000")
            session.run_with_iobinding(binding)

    monkeypatch.setattr(backend._open(), "_session", Poor())
    assert deviation(extractor.compute(images), expected) <= 1e-6
    assert tried == [8, 4, 2, 2, 4, 2, 2]
    assert extractor.batch_size == 2


@pytest.mark.parametrize(
    ("precision", "bound"),
    # Measured with four seeds: 0.6e-2 to 1.1e-2 in bf16 (8 bits of mantissa), 0.8e-3 to 1.2e-3 in fp16 (11 bits).
    [("bf16", 3e-2), ("fp16", 4e-3)],
)
def test_half_precision_is_near_full_precision_and_is_not_it(precision: str, bound: float):
    images = pixels(6)
    expected = Extractor(load(), CPU, batch_size=3).compute(images)
    loaded = load()
    backend = TorchBackend(loaded.network, CPU, precision=precision)
    found = Extractor(loaded, CPU, batch_size=3, backend=backend).compute(images)
    assert found.dtype == torch.float32
    assert bound / 100 < deviation(found, expected) < bound
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("arch", ["resnet18", "densenet201", "inception_v3"])
def test_half_precision_pools_in_full_precision(arch: str):
    network = build_random(BACKBONES[arch], seed=0, neck=True).eval()
    assert network.neck is not None
    entered: list[torch.Tensor] = []
    network.neck.register_forward_pre_hook(lambda _module, inputs: entered.append(inputs[0]))
    backend = TorchBackend(network, CPU, precision="bf16")
    side = 139 if arch == "inception_v3" else 96  # maps of more than one place
    with torch.inference_mode():
        latent = backend.latent(torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0)))
    for tensor in (entered[0], latent):
        assert tensor.dtype == torch.float32
        assert not torch.equal(tensor, tensor.bfloat16().float())


@pytest.mark.parametrize(
    ("precision", "products", "tf32"), [("fp32", "highest", False), ("tf32", "high", True), ("bf16", "highest", False)]
)
def test_arithmetic_is_set_for_the_forward_pass_only(precision: str, products: str, tf32: bool):
    def found() -> tuple[str, bool, bool]:
        return (
            torch.get_float32_matmul_precision(),
            torch.backends.cudnn.allow_tf32,
            torch.is_autocast_enabled("cpu"),
        )

    before = found()
    with arithmetic(precision, CPU):
        assert found() == (products, tf32, precision == "bf16")
    assert found() == before


def test_tf32_is_for_cuda_only():
    check_precision("tf32", torch.device("cuda:1"))
    for device in ("cpu", "mps"):
        with pytest.raises(UsageError, match=f"--precision tf32: {device} has no such arithmetic"):
            check_precision("tf32", torch.device(device))


def test_values_beyond_fp16_are_refused_with_advice():
    loaded = load()
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(loaded.network.trunk.layer4[1].bn2, name).mul_(1e6).add_(1e6)
    backend = TorchBackend(loaded.network, CPU, precision="fp16")
    with pytest.raises(WeightsError, match="not finite") as caught:
        Extractor(loaded, CPU, batch_size=3, backend=backend).compute(pixels(3))
    assert "bf16" in (caught.value.hint or "")


@pytest.mark.usefixtures("gains")
@pytest.mark.parametrize(
    ("measured", "images", "expected", "why"),
    [
        (0.02, 500, "onnx", "500 images repay its export"),
        (0.02, 499, "torch", "499 images do not repay"),
        (-0.001, 10**9, "torch", "no faster here with densenet201"),
    ],
)
def test_what_was_measured_here_counts(measured: float, images: int, expected: str, why: str):
    # Measured at the input as it is: the area plays no part any more.
    name, reason = choose_backend(replace(HERE, images=images, area=0.25), measured=measured)
    assert name == expected
    assert why in reason


@pytest.mark.parametrize(("by_torch", "by_onnx", "saved"), [(0.8, 0.4, 0.05), (0.4, 0.8, -0.05)])
def test_what_was_measured_is_kept_for_this_network_and_machine(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, by_torch: float, by_onnx: float, saved: float
):
    loaded, torch_backend = load(), TorchBackend(load().network, CPU)
    onnx_backend = OnnxBackend(loaded, CPU, folder=cache)
    onnx_backend.prepare()
    outliers = itertools.count()

    def seconds(backend: object, images: torch.Tensor) -> float:
        assert images.shape == (8, 3, 32, 32)
        # The first of three is disturbed: the middle one counts.
        return (by_torch if backend is torch_backend else by_onnx) + (9 if next(outliers) == 0 else 0)

    monkeypatch.setattr(backends, "_seconds", seconds)
    assert backends.kept_gain(loaded, tmp_path) is None
    found = backends.measure_gain(loaded, torch_backend, onnx_backend, folder=tmp_path)
    assert found == pytest.approx(saved)  # one thread, eight images
    assert backends.kept_gain(loaded, tmp_path) == found
    assert backends.kept_gain(replace(loaded, transform=Transform(66, 64)), tmp_path) is None
    with monkeypatch.context() as patch:
        patch.setattr(backends, "machine", lambda: "another")
        assert backends.kept_gain(loaded, tmp_path) is None
    (tmp_path / "backends.json").write_text("damaged")
    assert backends.kept_gain(loaded, tmp_path) is None


# -- torch.compile ------------------------------------------------------------------------------------------


class Compiler:
    """Stands for torch.compile: notes what it was asked for and how many images each call brought."""

    def __init__(self, *, holds: int = 99, factor: float = 1.0) -> None:
        self.asked: list[dict[str, object]] = []
        self.sizes: list[int] = []
        self._holds = holds
        self._factor = factor

    def __call__(self, latent: Callable[[torch.Tensor], torch.Tensor], **asked: object) -> object:
        self.asked.append(asked)
        place: list[torch.Tensor] = []

        def compiled(images: torch.Tensor) -> torch.Tensor:
            self.sizes.append(len(images))
            if len(images) > self._holds:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
            result = latent(images) * self._factor
            if not place or place[0].shape != result.shape:
                place[:] = [result]
            return place[0].copy_(result)  # as CUDA graphs do: always the same place

        return compiled


def compiled_extractor(batch_size: int) -> Extractor:
    loaded = load()
    return Extractor(
        loaded, CPU, batch_size=batch_size, backend=CompiledBackend(loaded.network, CPU, mode="reduce-overhead")
    )


def test_batches_are_filled_up_so_that_one_shape_is_compiled(monkeypatch: pytest.MonkeyPatch):
    compiler = Compiler()
    monkeypatch.setattr(torch, "compile", compiler)
    extractor, images = compiled_extractor(4), pixels(11)
    pending = [extractor.submit(piece) for piece in images.split(4)]
    expected = Extractor(load(), CPU, batch_size=4).compute(images)
    # All are on their way before the first is fetched: none may lie where the next is written.
    assert deviation(torch.cat([fetch() for fetch in pending]), expected) <= PARITY
    assert compiler.sizes == [4, 4, 4]
    assert compiler.asked == [{"mode": "reduce-overhead", "dynamic": False}]


def test_out_of_memory_of_a_compiled_network_halves_the_batches(monkeypatch: pytest.MonkeyPatch):
    compiler = Compiler(holds=2)
    monkeypatch.setattr(torch, "compile", compiler)
    extractor, images = compiled_extractor(8), pixels(13)
    found = torch.cat([extractor.compute(piece) for piece in images.split(8)])
    assert deviation(found, Extractor(load(), CPU, batch_size=8).compute(images)) <= PARITY
    assert extractor.batch_size == 2
    assert compiler.sizes == [8, 4, 2, 2, 4, 2, 2, 2, 2, 2]


def test_a_compiled_network_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "compile", Compiler(factor=1.001))
    with pytest.raises(ExportError, match=r"something else: relative error 1\.0e-03, allowed 1e-05") as caught:
        compiled_extractor(4).compute(pixels(4))
    assert "extract.compile" in (caught.value.hint or "")


def test_a_compiler_that_fails_is_named(monkeypatch: pytest.MonkeyPatch):
    def fail(_graph: object, _example: object) -> None:
        raise OSError("no compiler here")

    compile_with = functools.partial(torch.compile, backend=fail)
    monkeypatch.setattr(torch, "compile", lambda latent, **_asked: compile_with(latent))
    with pytest.raises(
        ExportError, match=r"torch\.compile cannot compile the network for cpu: .*no compiler"
    ) as caught:
        compiled_extractor(4).compute(pixels(4))
    assert "C++ compiler" in (caught.value.hint or "")


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_torch_compile_itself():
    images = pixels(7)
    expected = Extractor(load(), CPU, batch_size=4).compute(images)
    loaded = load()
    backend = CompiledBackend(loaded.network, CPU, mode="default")
    extractor = Extractor(loaded, CPU, batch_size=4, backend=backend)
    assert deviation(torch.cat([extractor.compute(piece) for piece in images.split(4)]), expected) <= PARITY


# -- the kept export ----------------------------------------------------------------------------------------


def test_a_network_is_exported_once(cache: Path, exports: list[Path], told: list[str]):
    assert is_cached(load(), cache)
    cached_network(load(), cache, device=CPU)
    assert (exports, told) == ([], [])


def test_its_name_tells_what_the_graph_depends_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    names = {cached_path(load(), tmp_path).name}
    names.add(cached_path(load(seed=1), tmp_path).name)
    names.add(cached_path(replace(load(), transform=Transform(64, 64)), tmp_path).name)
    for package in ("torch", "onnxscript"):
        with monkeypatch.context() as patch:
            real = onnx_cache._version
            patch.setattr(onnx_cache, "_version", lambda name, p=package, r=real: "9.9" if name == p else r(name))
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
def test_a_damaged_export_is_made_anew(
    tmp_path: Path, cache: Path, exports: list[Path], told: list[str], damage: Callable[[bytes], bytes]
):
    path = cached_path(load(), tmp_path)
    path.parent.mkdir()
    path.write_bytes(damage(cached_path(load(), cache).read_bytes()))
    network = cached_network(load(), tmp_path, device=CPU)
    assert exports == [path]
    assert "made anew" in told[0]
    assert str(path) in told[0]
    images = load().transform.normalise(pixels(2))
    with torch.inference_mode():
        assert deviation(network.latent(images), load().network.latent(images)) <= PARITY


def test_an_export_of_other_weights_under_the_name_is_made_anew(
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
        OnnxBackend(other, CPU, folder=tmp_path).prepare()
    assert list((tmp_path / "onnx").iterdir()) == []


# -- devices ------------------------------------------------------------------------------------------------


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
