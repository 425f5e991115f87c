"""The LR of each architecture against a forward pass written out with plain torchvision, layer by layer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import Vreid, draw_tracks
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name that everyone knows
from torchvision import models

from vreid_cli.models.backbones import BACKBONES, Backbone
from vreid_cli.models.network import Network
from vreid_cli.models.transforms import IMAGENET_MEAN, IMAGENET_STD, Transform
from vreid_cli.models.weights import load_network
from vreid_cli.store.runs import RunDirectory

#: The same operations in the same order: what remains is the kernels' choice of blocking.
TOLERANCE = 1e-6


pytestmark = pytest.mark.usefixtures("one_thread")


def oracle_densenet201(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    # Written out to the average: no ReLU, as the paper's authors have it.
    maps = model.features(images)
    return maps.mean(dim=(2, 3))


def oracle_resnet18(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    maps = F.relu(model.bn1(model.conv1(images)))
    maps = F.max_pool2d(maps, 3, stride=2, padding=1)
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        maps = stage(maps)
    return maps.mean(dim=(2, 3))


def oracle_mobilenet_v2(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return model.features(images).mean(dim=(2, 3))


def oracle_alexnet(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    _, first, _, _, second, _, _ = model.classifier
    maps = torch.flatten(model.avgpool(model.features(images)), 1)
    return F.relu(second(F.relu(first(maps))))


def oracle_vgg16(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    first, _, _, second, _, _, _ = model.classifier
    maps = torch.flatten(model.avgpool(model.features(images)), 1)
    return F.relu(second(F.relu(first(maps))))


def oracle_inception_v3(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    # What transform_input=True does: from ImageNet's mean and deviation to (x - 0.5) / 0.5.
    mean = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    maps = images * (std / 0.5) + (mean - 0.5) / 0.5
    names = "Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 maxpool1 Conv2d_3b_1x1 Conv2d_4a_3x3 maxpool2 Mixed_5b Mixed_5c"
    names += " Mixed_5d Mixed_6a Mixed_6b Mixed_6c Mixed_6d Mixed_6e Mixed_7a Mixed_7b Mixed_7c"
    for name in names.split():
        maps = getattr(model, name)(maps)
    return maps.mean(dim=(2, 3))


ORACLES: dict[str, Callable[[nn.Module, torch.Tensor], torch.Tensor]] = {
    "densenet201": oracle_densenet201,
    "resnet18": oracle_resnet18,
    "mobilenet_v2": oracle_mobilenet_v2,
    "alexnet": oracle_alexnet,
    "vgg16": oracle_vgg16,
    "inception_v3": oracle_inception_v3,
}


def plain_model(arch: str, seed: int) -> nn.Module:
    """torchvision's own model with random weights whose LRs depend on the image.

    As torchvision initialises them, some networks lose the image on the way: every tensor would agree then.
    """
    torch.manual_seed(seed)
    options = {"aux_logits": False, "init_weights": False} if arch == "inception_v3" else {}
    model = getattr(models, arch)(weights=None, **options)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) or (isinstance(module, nn.Linear) and arch == "alexnet"):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            module.momentum = None  # statistics of the one batch below
    if any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        with torch.no_grad():
            model.train()(images_for(arch, count=3))
    return model.eval()


def images_for(arch: str, count: int = 2) -> torch.Tensor:
    size = BACKBONES[arch].transform.crop
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(11))


def same_weights(arch: str, model: nn.Module) -> Network:
    network = Network(BACKBONES[arch]).eval()
    head = f"{network.backbone.head}."
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(head)}
    network.trunk.load_state_dict(state)
    return network


def _marked(arch: str) -> object:
    """Large networks wait for the slow tests."""
    return pytest.param(arch, marks=pytest.mark.slow) if arch in ("vgg16", "inception_v3") else arch


@pytest.mark.slow
@pytest.mark.parametrize("arch", [_marked(arch) for arch in ORACLES])
def test_lr_equals_plain_torchvision(arch: str):
    model = plain_model(arch, seed=3)
    images = images_for(arch)
    with torch.inference_mode():
        expected = ORACLES[arch](model, images)
        found = same_weights(arch, model).latent(images)
    assert found.shape == (2, BACKBONES[arch].dimension)
    assert (expected[0] - expected[1]).abs().max() > 0.05 * expected.abs().max()  # else it would say nothing
    torch.testing.assert_close(found, expected, rtol=TOLERANCE, atol=TOLERANCE * float(expected.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize("arch", [_marked(arch) for arch in BACKBONES])
def test_lr_is_what_enters_the_last_linear_layer(arch: str):
    model = plain_model(arch, seed=4)
    seen: list[torch.Tensor] = []
    *_, last = (module for module in model.modules() if isinstance(module, nn.Linear))
    last.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    if arch == "inception_v3":
        model.transform_input = True
    images = images_for(arch, count=1)
    with torch.inference_mode():
        model(images)
        found = same_weights(arch, model).latent(images)
    # DenseNet201 departs from torchvision's own forward pass, which has a ReLU before its average.
    if BACKBONES[arch].latent is not None:
        assert not torch.allclose(found, seen[0], atol=1e-3)
    else:
        torch.testing.assert_close(found, seen[0], rtol=TOLERANCE, atol=TOLERANCE * float(seen[0].abs().max()))


def test_densenet_lrs_hold_negative_values():
    model = plain_model("densenet201", seed=5)
    with torch.inference_mode():
        found = same_weights("densenet201", model).latent(images_for("densenet201"))
    assert float((found < 0).float().mean()) > 0.1


def test_lrs_after_a_relu_are_sparse_and_not_negative():
    model = plain_model("alexnet", seed=6)
    with torch.inference_mode():
        found = same_weights("alexnet", model).latent(images_for("alexnet"))
    assert found.min() == 0
    assert 0.2 < float((found == 0).float().mean()) < 0.8


@pytest.mark.parametrize(
    ("arch", "dimension", "resize", "crop"),
    [
        ("densenet201", 1920, 256, 224),
        ("resnet18", 512, 256, 224),
        ("alexnet", 4096, 256, 224),
        ("vgg16", 4096, 256, 224),
        ("inception_v3", 2048, 342, 299),
    ],
)
def test_the_papers_five_are_as_the_contract_says(arch: str, dimension: int, resize: int, crop: int):
    backbone = BACKBONES[arch]
    assert (backbone.dimension, backbone.transform) == (dimension, Transform(resize, crop))
    assert backbone.transform.mean == (0.485, 0.456, 0.406)
    assert backbone.transform.std == (0.229, 0.224, 0.225)


def test_inception_always_transforms_its_input():
    assert Network(BACKBONES["inception_v3"]).trunk.transform_input is True


def test_a_toy_backbone_is_one_entry_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def build() -> nn.Module:
        layers = [nn.Conv2d(3, 6, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)]
        return nn.Sequential(*layers)

    toy = Backbone("toy", dimension=6, head="4", transform=Transform(resize=36, crop=32), build=build)
    monkeypatch.setitem(BACKBONES, "toy", toy)
    monkeypatch.chdir(tmp_path)
    draw_tracks(tmp_path / "data", {"query/0001_c001": 2, "gallery/0001_c002": 2, "gallery/0002_c002": 2})
    vreid = Vreid(capsys)
    common = ("--dataset", "tracks", "--data-dir", "data", "--weights", "random", "--run-dir", "run")
    vreid("extract", *common, "--arch", "toy")
    features = RunDirectory(Path("run")).features("gallery").read()
    with torch.inference_mode():
        image = Image.open(tmp_path / "data" / "gallery" / "0001_c002" / "0.png")
        pixels = toy.transform.normalise(toy.transform.crop_uint8(image)[None])
        expected = load_network("random", arch="toy").network.latent(pixels)[0]
    torch.testing.assert_close(torch.from_numpy(features.matrix.take(np.array([0])))[0], expected)
    error = vreid.error("extract", *common, "--arch", "toi", code=2)
    assert "'toy'" in error["message"]
    assert error["hint"] == "did you mean 'toy'?"


def test_the_tables_are_read_without_torch():
    code = "import sys, vreid_cli.models.backbones, vreid_cli.models.options; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
