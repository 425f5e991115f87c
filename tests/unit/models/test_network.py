"""A backbone with and without a classifier, and its random weights."""

from __future__ import annotations

import pytest
import torch

from vreid_cli.models.backbones import BACKBONES
from vreid_cli.models.network import build_random

pytestmark = pytest.mark.usefixtures("one_thread")


def test_random_weights_depend_on_the_seed_only():
    torch.manual_seed(1)
    first = build_random(BACKBONES["resnet18"], seed=7)
    torch.manual_seed(2)
    second = build_random(BACKBONES["resnet18"], seed=7)
    other = build_random(BACKBONES["resnet18"], seed=8)
    states = [network.state_dict() for network in (first, second, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["trunk.conv1.weight"], states[2]["trunk.conv1.weight"])


@pytest.mark.parametrize("arch", ["resnet18", "inception_v3"])
def test_building_leaves_the_global_random_state_alone(arch: str):
    torch.manual_seed(99)
    expected = torch.rand(5)
    torch.manual_seed(99)
    build_random(BACKBONES[arch], seed=1)
    assert torch.equal(torch.rand(5), expected)


def test_building_does_not_seed_the_gpus(monkeypatch: pytest.MonkeyPatch):
    # torch.manual_seed seeds them as well, and nothing would bring their state back.
    def refuse(_seed: int) -> None:
        raise AssertionError("a GPU's generator was seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    build_random(BACKBONES["resnet18"], seed=1)


def test_head_scores_come_from_the_lr():
    network = build_random(BACKBONES["resnet18"], seed=1, classes=6).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        scores = network(images)
        expected = network.latent(images) @ network.head.weight.T + network.head.bias
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-6)


def test_network_without_head_has_no_scores():
    with pytest.raises(ValueError, match="no classifier"):
        build_random(BACKBONES["resnet18"], seed=1)(torch.zeros(1, 3, 64, 64))
