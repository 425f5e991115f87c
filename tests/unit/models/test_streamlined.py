"""Networks rewritten for a CPU compute what torchvision's compute, whatever training left in their normalisations."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from vreid_cli.models.backbones import BACKBONES
from vreid_cli.models.network import Network, build_random

CPU = torch.device("cpu")
#: Side of the images: small, and for DenseNet one that its transitions cannot halve evenly.
SIDES = {"densenet201": (64, 72), "resnet18": (64,), "mobilenet_v2": (64,), "inception_v3": (107,)}
STREAMLINED = [name for name, backbone in BACKBONES.items() if backbone.streamlined is not None]


def unsettle(network: Network, *, seed: int) -> Network:
    """Give the normalisations what training may leave: scales of either sign, zero, and next to zero."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: float, high: float, count: int) -> torch.Tensor:
        return torch.rand(count, generator=generator) * (high - low) + low

    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            count = module.num_features
            scale = draw(0.5, 1.5, count)
            scale[: count // 4] *= -1
            scale[count // 4 : count // 4 + 3] = torch.tensor([0.0, 1e-38, -1e-12])
            scale[-2:] = torch.tensor([1e-42, 3e-5])
            with torch.no_grad():
                module.weight.copy_(scale[torch.randperm(count, generator=generator)])
                module.bias.copy_(draw(-0.5, 0.5, count))
            module.running_mean.copy_(draw(-0.3, 0.3, count))
            module.running_var.copy_(draw(0.5, 2.0, count))
    return network.eval()


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).abs().max() / expected.abs().max())


def test_the_networks_with_normalisations_are_streamlined():
    assert sorted(STREAMLINED) == ["densenet201", "inception_v3", "mobilenet_v2", "resnet18"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), [(name, side) for name in STREAMLINED for side in SIDES[name]])
def test_streamlined_computes_the_same(name: str, side: int):
    network = unsettle(build_random(BACKBONES[name], seed=1), seed=2)
    before = copy.deepcopy(network.state_dict())
    images = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(3))
    streamlined = network.streamlined()
    assert streamlined is not None
    with torch.inference_mode():
        found = streamlined(images.contiguous(memory_format=torch.channels_last))
        plain = network.latent(images)
        expected = copy.deepcopy(network).double().latent(images.double())
    # Not only near torchvision's float32: as near to the truth as that is, give or take its own rounding.
    assert relative(found, expected) <= max(4 * relative(plain, expected), 2e-6)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_the_transitions_of_densenet_and_its_last_average_without_relu():
    network = unsettle(build_random(BACKBONES["densenet201"], seed=4), seed=5)
    streamlined = network.streamlined()
    assert streamlined is not None
    with torch.inference_mode():
        latent = streamlined(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(6)))
    assert float(latent.min()) < 0


def test_a_neck_stays_behind_the_streamlined_trunk():
    network = build_random(BACKBONES["resnet18"], seed=0, neck=True)
    assert network.neck is not None
    with torch.no_grad():
        network.neck.weight.fill_(2.0)
        network.neck.bias.fill_(0.5)
    network.eval()
    streamlined = network.streamlined()
    assert streamlined is not None
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(streamlined(images), network.latent(images), rtol=1e-5, atol=1e-5)


def test_nothing_is_kept_for_gradients():
    streamlined = build_random(BACKBONES["densenet201"], seed=0).eval().streamlined()
    assert streamlined is not None
    assert not streamlined(torch.zeros(1, 3, 32, 32)).requires_grad
