"""Networks with the weights of files and names: which architecture, which classifier, the same LRs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from published import CLASSES, LR_TOLERANCE, State, build_published, draw_image, lr_step_by_step
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from vreid_cli.data.decoding import decode_rgb
from vreid_cli.errors import MissingExtraError, UsageError, WeightsError
from vreid_cli.extraction.inference import Inference, InferenceConfig
from vreid_cli.models.backbones import BACKBONES, Backbone
from vreid_cli.models.checkpoint import network_state, save_checkpoint, weights_digest
from vreid_cli.models.network import build_random
from vreid_cli.models.sources import SOURCES
from vreid_cli.models.weights import LoadedNetwork, architecture_of, load_network, with_classifier

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def published() -> nn.Module:
    return build_published()


@pytest.fixture(scope="module")
def state(published: nn.Module) -> State:
    return published.state_dict()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, state: State) -> Path:
    path = tmp_path_factory.mktemp("published") / "VeRI_densenet_ft50.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def digest(checkpoint: Path) -> str:
    return load(checkpoint).digest


@pytest.fixture(scope="module")
def small() -> State:
    """A ResNet18 with a head of 7, for tests in which the size does not matter."""
    return network_state(build_random(BACKBONES["resnet18"], seed=1, classes=7))


def load(path: Path, arch: str = "densenet201") -> LoadedNetwork:
    return load_network(path, arch=arch)


def lr_by_vreid(path: Path, image: Path) -> torch.Tensor:
    loaded = load(path)
    inference = Inference(loaded, InferenceConfig(torch.device("cpu"), "torch", "as asked", "fp32", 8))
    return inference.compute(loaded.transform.crop_uint8(decode_rgb(image, max_pixels=10**7))[None])[0]


LEFT_OUT: dict[str, Callable[[State], State]] = {
    "no head": lambda state: {n: t for n, t in state.items() if not n.startswith("classifier.")},
    "no counters": lambda state: {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")},
}


@pytest.mark.slow
@pytest.mark.parametrize("layout", LEFT_OUT)
def test_network_is_the_same_without_what_may_be_left_out(tmp_path: Path, state: State, digest: str, layout: str):
    path = tmp_path / "weights.pt"
    torch.save(LEFT_OUT[layout](state), path)
    loaded = load(path)
    assert loaded.digest == digest
    assert loaded.dropped_classes == (None if layout == "no head" else CLASSES)
    assert loaded.weights == "weights.pt"
    assert not loaded.network.training


@pytest.mark.parametrize("ending", [".safetensors", "-legacy.pth"])
def test_digest_is_the_same_in_every_format(tmp_path: Path, state: State, digest: str, ending: str):
    path = tmp_path / f"weights{ending}"
    if ending == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization="legacy" not in ending)
    assert load(path).digest == digest


def test_digest_tells_weights_apart(tmp_path: Path, state: State, digest: str):
    name = "features.denseblock3.denselayer7.conv2.weight"
    changed = {**state, name: state[name].clone()}
    changed[name][0, 0, 0, 0] += 1e-6
    torch.save(changed, tmp_path / "a.pth")
    assert load(tmp_path / "a.pth").digest != digest


def test_digest_is_blind_to_the_head_and_the_memory_format(published: nn.Module, digest: str, checkpoint: Path):
    loaded = load(checkpoint)
    loaded.network.to(memory_format=torch.channels_last)
    assert weights_digest(loaded.network) == digest


def test_lr_of_a_jpeg_step_by_step(tmp_path: Path, published: nn.Module, checkpoint: Path):
    image = draw_image(tmp_path / "drawn.jpg")
    expected = lr_step_by_step(published, image)
    found = lr_by_vreid(checkpoint, image)
    assert found.shape == (1920,)
    assert float(expected.min()) < 0
    other = lr_step_by_step(published, draw_image(tmp_path / "other.png", width=299))
    assert float((other - expected).abs().max()) > 1e3 * LR_TOLERANCE * float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=LR_TOLERANCE * float(expected.abs().max()))


@pytest.mark.shared
def test_lr_of_a_real_image_step_by_step(shared: Path, published: nn.Module, checkpoint: Path):
    image = sorted((shared / "reference" / "image_sample").rglob("*.jpg"))[0]
    expected = lr_step_by_step(published, image)
    found = lr_by_vreid(checkpoint, image)
    torch.testing.assert_close(found, expected, rtol=0, atol=LR_TOLERANCE * float(expected.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize(
    "arch", ["resnet18", "alexnet", "inception_v3"]
)  # VGG16 has AlexNet's names, DenseNet is above
def test_every_architecture_takes_torchvisions_names(tmp_path: Path, arch: str):
    options = {"init_weights": False} if arch == "inception_v3" else {}
    torch.save(getattr(models, arch)(weights=None, **options).state_dict(), tmp_path / "a.pth")
    loaded = load(tmp_path / "a.pth", arch)  # Inception's file holds the auxiliary classifier too
    assert loaded.dropped_classes == 1000


def test_half_precision_weights_become_float32(tmp_path: Path, small: State):
    halves = {name: t.half() if t.is_floating_point() else t for name, t in small.items()}
    torch.save(halves, tmp_path / "a.pth")
    weight = load(tmp_path / "a.pth", "resnet18").network.trunk.conv1.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, halves["conv1.weight"].float())


def test_foreign_safetensors_get_the_architectures_own_transform(tmp_path: Path, small: State):
    save_file(small, tmp_path / "a.safetensors")
    assert load(tmp_path / "a.safetensors", "resnet18").transform == BACKBONES["resnet18"].transform


def test_metadata_of_another_architecture(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    network = build_random(BACKBONES["resnet18"], seed=3)
    save_checkpoint(path, network, transform=network.backbone.transform, facts={})
    with pytest.raises(WeightsError, match="resnet18") as caught:
        load(path, "alexnet")
    assert caught.value.hint == "use --arch resnet18"


def test_a_file_names_its_architecture(tmp_path: Path, small: State):
    network = build_random(BACKBONES["resnet18"], seed=3)
    save_checkpoint(tmp_path / "a.SafeTensors", network, transform=network.backbone.transform, facts={})
    assert architecture_of(str(tmp_path / "a.SafeTensors")) == "resnet18"
    save_file(small, tmp_path / "foreign.safetensors")
    torch.save(small, tmp_path / "a.pth")
    for weights in ("foreign.safetensors", "a.pth", "missing.pth"):
        assert architecture_of(str(tmp_path / weights)) is None


@pytest.mark.parametrize(("weights", "arch"), [("veri", "densenet201"), ("imagenet", None), ("random", None)])
def test_a_name_is_no_file_that_names_an_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str, arch: str | None
):
    monkeypatch.chdir(tmp_path)
    Path(weights).write_text("a file of that name")
    assert architecture_of(weights) == arch


def test_no_architecture_is_read_from_files_that_are_none(tmp_path: Path, small: State):
    path = tmp_path / "a.safetensors"
    with pytest.raises(WeightsError, match="there is no weights file"):
        architecture_of(str(path))
    path.write_bytes(b"hello")
    with pytest.raises(WeightsError, match="damaged"):
        architecture_of(str(path))
    save_file(small, path, metadata={"architecture": "resnet19"})
    with pytest.raises(WeightsError, match="resnet19"):
        architecture_of(str(path))


def test_the_architecture_comes_from_the_file_or_is_needed(tmp_path: Path, small: State):
    network = build_random(BACKBONES["resnet18"], seed=3)
    save_checkpoint(tmp_path / "a.safetensors", network, transform=network.backbone.transform, facts={})
    loaded = load_network(tmp_path / "a.safetensors")
    assert (loaded.architecture, loaded.dimension, loaded.warnings) == ("resnet18", 512, ())
    torch.save(small, tmp_path / "a.pth")
    for weights in ("imagenet", "random", tmp_path / "a.pth"):
        with pytest.raises(UsageError, match="which architecture"):
            load_network(weights)
    with pytest.raises(UsageError) as caught:
        load_network("random", arch="resnet81")
    assert "did you mean 'resnet18'" in str(caught.value.hint)


def test_a_missing_extra_is_named_before_anything_is_downloaded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vreid_cli.runtime.extras.find_spec", lambda name: None)
    monkeypatch.setattr(
        "vreid_cli.models.sources.SOURCES",
        {
            **SOURCES,
            "vehicle-reid-0001": replace(SOURCES["vehicle-reid-0001"], locate=lambda *_: pytest.fail("fetched")),
        },
    )
    with pytest.raises(MissingExtraError, match="vehicle-reid-0001 needs onnx"):
        load_network("vehicle-reid-0001")


def test_random_weights_carry_their_warning_and_follow_the_seed():
    first, again, other = (load_network("random", arch="resnet18", seed=seed) for seed in (1, 1, 2))
    assert first.digest == again.digest != other.digest
    assert any("mean nothing" in warning for warning in first.warnings)
    assert not first.network.training


def save_named(path: Path, classes: list[str], *, neck: bool) -> LoadedNetwork:
    network = build_random(BACKBONES["resnet18"], seed=3, classes=len(classes), neck=neck)
    transform = network.backbone.transform
    save_checkpoint(path, network, transform=transform, facts={"classes": json.dumps(classes)})
    return load_network(path)


def test_a_classifier_whose_vehicles_have_names_is_kept(tmp_path: Path):
    loaded = save_named(tmp_path / "a.safetensors", ["x", "y", "z"], neck=True)
    assert loaded.classes == ("x", "y", "z")
    assert loaded.dropped_classes is None
    assert loaded.network(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_training_starts_from_the_same_classifier_only_for_the_same_vehicles(tmp_path: Path):
    loaded = save_named(tmp_path / "a.safetensors", ["x", "y", "z"], neck=True)
    own = network_state(loaded.network)
    same = network_state(with_classifier(loaded, ["x", "y", "z"], neck=True, seed=9))
    assert same.keys() == own.keys()
    assert all(torch.equal(same[name], own[name]) for name in own)
    for classes, neck in ((["x", "y"], True), (["x", "y", "w"], True), (["x", "y", "z"], False)):
        other = with_classifier(loaded, classes, neck=neck, seed=9)
        assert torch.equal(other.trunk.conv1.weight, own["conv1.weight"])
        assert other.head is not None
        assert other.head.weight.shape == (len(classes), 512)
        assert not torch.equal(other.head.weight[0], own["fc.weight"][0])
        assert (other.neck is not None) == neck


def test_a_model_whose_constructor_computes_is_loaded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Computing(nn.Sequential):
        def __init__(self) -> None:
            sizes = torch.tensor([4, 8]).tolist()  # impossible without values, as on torch's meta device
            super().__init__(nn.Flatten(), nn.Linear(12, sizes[0]), nn.Linear(*sizes))

    monkeypatch.setitem(BACKBONES, "toy", Backbone("toy", dimension=4, head="2", build=Computing))
    network = build_random(BACKBONES["toy"], seed=3)
    save_checkpoint(tmp_path / "toy.safetensors", network, transform=network.backbone.transform, facts={})
    assert load_network(tmp_path / "toy.safetensors").digest == weights_digest(network)
