"""The forward pass: what each back-end and precision computes, and what happens where memory is short."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest
import torch
from extraction_bench import BATCH_TOLERANCE, TINY, by_torch, holds_only, load_tiny

from vreid_cli.errors import DeviceError, WeightsError
from vreid_cli.extraction.inference import Inference
from vreid_cli.models.backbones import BACKBONES
from vreid_cli.models.checkpoint import weights_digest
from vreid_cli.models.network import Network, build_random
from vreid_cli.models.transforms import Transform
from vreid_cli.models.weights import LoadedNetwork

#: Relative to the largest value: the bound between back-ends.
PARITY = 1e-5


def load(arch: str = "resnet18", *, neck: bool = False, side: int = 32) -> LoadedNetwork:
    network = build_random(BACKBONES[arch], seed=0, neck=neck).eval()
    return LoadedNetwork(network, Transform(side + 2, side), "made.safetensors", weights_digest(network))


def pixels(count: int, side: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def in_batches(inference: Inference, images: torch.Tensor, size: int) -> torch.Tensor:
    return torch.cat([inference.compute(piece) for piece in images.split(size)])


def deviation(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


# -- torch --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 8, 50])
def test_batch_size_changes_nothing_beyond_rounding(size: int):
    images = pixels(13)
    found = in_batches(Inference(load_tiny(), by_torch(size)), images, size)
    expected = in_batches(Inference(load_tiny(), by_torch(1)), images, 1)
    torch.testing.assert_close(found, expected, rtol=BATCH_TOLERANCE, atol=BATCH_TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["resnet18", "alexnet"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_network_that_was_given_is_left_as_it_was(arch: str, precision: str):
    loaded = load(arch, side=64)
    before = copy.deepcopy(loaded.network)
    images = loaded.transform.normalise(pixels(2, side=64))
    with torch.inference_mode():
        expected = loaded.network.latent(images)
    Inference(loaded, replace(by_torch(2), precision=precision)).compute(pixels(2, side=64))
    with torch.inference_mode():
        assert torch.equal(loaded.network.latent(images), expected)
    for (name, one), other in zip(loaded.network.named_parameters(), before.parameters(), strict=True):
        assert one.stride() == other.stride(), name


@pytest.mark.parametrize(("device", "precision"), [("cpu", "bf16"), ("meta", "fp32")])
def test_the_network_is_rewritten_on_a_cpu_in_full_precision_only(
    monkeypatch: pytest.MonkeyPatch, device: str, precision: str
):
    def refuse(_network: Network) -> None:
        raise AssertionError("streamlined")

    monkeypatch.setattr(Network, "streamlined", refuse)
    Inference(load(), replace(by_torch(), device=torch.device(device), precision=precision)).prepare()
    with pytest.raises(AssertionError, match="streamlined"):
        Inference(load(), by_torch()).prepare()


def test_lrs_that_are_not_finite_are_refused():
    backbone = replace(TINY, latent=lambda _trunk, images: torch.full((len(images), 10), float("inf")))
    with pytest.raises(WeightsError, match="not finite"):
        Inference(load_tiny(backbone), by_torch()).compute(pixels(2))


# -- memory -------------------------------------------------------------------------------------------------

OUT_OF_MEMORY = {
    "cuda": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 5.00 GB)"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried"),
    "python": MemoryError(),
}


@pytest.mark.parametrize("kind", list(OUT_OF_MEMORY))
def test_out_of_memory_halves_the_batches(kind: str):
    images = pixels(21)
    expected = in_batches(Inference(load_tiny(), by_torch(8)), images, 8)
    loaded, tried = holds_only(2, OUT_OF_MEMORY[kind])
    inference = Inference(loaded, by_torch(8))
    found = in_batches(inference, images, 8)
    torch.testing.assert_close(found, expected, rtol=BATCH_TOLERANCE, atol=BATCH_TOLERANCE)
    assert inference.batch_size == 2
    # Two failures lead from 8 to 2; from the next batch on nobody tries more again.
    assert tried[: tried.index(2) + 2] == [8, 4, 2, 2]
    assert sum(size for size in tried if size <= 2) == 21
    assert max(tried[-8:]) == 2


def test_too_little_memory_for_one_image():
    loaded, _ = holds_only(0, OUT_OF_MEMORY["cuda"])
    with pytest.raises(DeviceError, match="single image"):
        Inference(loaded, by_torch()).compute(pixels(4))


def test_other_errors_of_the_network_are_not_hidden():
    loaded, _ = holds_only(0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        Inference(loaded, by_torch()).compute(pixels(4))


# -- precision ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "bound"),
    # Measured with four seeds: 0.6e-2 to 1.1e-2 in bf16 (8 bits of mantissa), 0.8e-3 to 1.2e-3 in fp16 (11 bits).
    [("bf16", 3e-2), ("fp16", 4e-3)],
)
def test_half_precision_is_near_full_precision_and_is_not_it(precision: str, bound: float):
    expected = Inference(load(), by_torch(3)).compute(pixels(6))
    found = Inference(load(), replace(by_torch(3), precision=precision)).compute(pixels(6))
    assert found.dtype == torch.float32
    assert bound / 100 < deviation(found, expected) < bound
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("arch", ["resnet18", "densenet201", "inception_v3"])
def test_half_precision_pools_in_full_precision(arch: str):
    side = 139 if arch == "inception_v3" else 96  # maps of more than one place
    found = Inference(load(arch, neck=True, side=side), replace(by_torch(2), precision="bf16")).compute(
        pixels(2, side=side)
    )
    assert not torch.equal(found, found.bfloat16().float())


def test_values_beyond_fp16_are_refused_with_advice():
    loaded = load()
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(loaded.network.trunk.layer4[1].bn2, name).mul_(1e6).add_(1e6)
    with pytest.raises(WeightsError, match="not finite") as caught:
        Inference(loaded, replace(by_torch(3), precision="fp16")).compute(pixels(3))
    assert "bf16" in (caught.value.hint or "")


# -- ONNX Runtime -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder in which the export of ``load()`` is kept from the first use on."""
    return tmp_path_factory.mktemp("cache")


def by_onnx(cache: Path, batch_size: int) -> Inference:
    return Inference(load(), replace(by_torch(batch_size), backend="onnx"), cache_dir=cache)


@pytest.mark.slow
def test_onnx_computes_what_torch_does(cache: Path):
    images = pixels(11)
    found = by_onnx(cache, 4).compute(images)
    expected = Inference(load(), by_torch(4)).compute(images)
    assert found.dtype == torch.float32
    assert deviation(found, expected) <= PARITY
    assert deviation(found.flip(0), expected) > 100 * PARITY


def test_identity_and_recorded_say_what_computed(cache: Path):
    onnx, torch_ = by_onnx(cache, 4), Inference(load(), by_torch(4))
    assert set(torch_.identity) == {"architecture", "weights_digest", "transform", "precision", "backend"}
    assert {key for key, value in onnx.identity.items() if value != torch_.identity[key]} == {"backend"}
    assert set(onnx.recorded()) - set(torch_.recorded()) == {"onnxruntime"}
    assert {"batch_size", "device", "threads", "torch", "vreid"} <= set(torch_.recorded())


def test_torch_keeps_its_threads_away_from_those_of_onnx(cache: Path):
    threads: list[int] = []

    class Noting(Transform):
        def normalise(self, images: torch.Tensor) -> torch.Tensor:
            threads.append(torch.get_num_threads())
            return super().normalise(images)

    inferences = [Inference(load(), by_torch(4)), by_onnx(cache, 4)]
    torch.set_num_threads(2)
    for inference in inferences:
        inference.transform = Noting(34, 32)
        inference.compute(pixels(4))
        assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert threads == [2, 1]


def test_out_of_memory_of_onnx_halves_the_batches(cache: Path, monkeypatch: pytest.MonkeyPatch):
    images, tried = pixels(8), []
    expected = by_onnx(cache, 8).compute(images)
    run = onnxruntime.InferenceSession.run_with_iobinding

    def hold_three(session: object, binding: object, *options: object) -> None:
        tried.append(binding.get_outputs()[0].shape()[0])
        if tried[-1] > 3:
            raise RuntimeError("bfc_arena.cc:360 Failed to allocate memory for requested buffer of size 3932160000")
        run(session, binding, *options)

    inference = by_onnx(cache, 8)
    inference.prepare()
    monkeypatch.setattr(onnxruntime.InferenceSession, "run_with_iobinding", hold_three)
    assert deviation(inference.compute(images), expected) <= BATCH_TOLERANCE
    assert tried == [8, 4, 2, 2, 4, 2, 2]
    assert inference.batch_size == 2


def test_onnx_on_another_device_is_refused(cache: Path):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    config = replace(by_torch(4), backend="onnx", device=torch.device("cuda"))
    with pytest.raises(DeviceError, match="cannot compute on cuda"):
        Inference(load(), config, cache_dir=cache).prepare()
