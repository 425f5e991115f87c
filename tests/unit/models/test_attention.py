"""Last maps: their places add up to the LR and to the cosine, whatever the network."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cosine_similarity

from vreid_cli.models.attention import spatial_maps
from vreid_cli.models.backbones import BACKBONES
from vreid_cli.models.network import Network, build_random


def some_network(name: str, *, neck: bool = False) -> Network:
    network = build_random(BACKBONES[name], seed=3, neck=neck).eval()
    if network.neck is not None:  # as training leaves it: neither the identity nor centred
        generator = torch.Generator().manual_seed(1)
        for tensor in (network.neck.running_mean, network.neck.weight.data, network.neck.bias.data):
            assert tensor is not None
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return network


def images(side: int) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("neck", [False, True], ids=["plain", "neck"])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", pytest.param("densenet201", marks=pytest.mark.slow)])
def test_places_add_up_to_the_lr_and_to_the_cosine(name: str, neck: bool) -> None:
    network, batch = some_network(name, neck=neck), images(64)
    maps = spatial_maps(network, batch)
    assert maps is not None
    assert maps.adds_up
    with torch.inference_mode():
        latent = network.latent(batch)
    torch.testing.assert_close(maps.places.mean(dim=(1, 2)), latent, rtol=1e-3, atol=1e-4)
    for one, other in ((0, 1), (1, 0), (0, 0)):
        expected = cosine_similarity(latent[one], latent[other], dim=0)
        assert maps.cosine_parts(one, latent[other]).sum() == pytest.approx(float(expected), abs=1e-4)


def test_layers_behind_the_pool_leave_lengths_alone() -> None:
    maps = spatial_maps(some_network("alexnet"), images(224))
    assert maps is not None
    assert not maps.adds_up
    assert maps.lengths(0).shape == maps.places.shape[1:3]
    assert torch.equal(maps.lengths(1) ** 2 > 0, maps.places[1].abs().sum(dim=2) > 0)
    with pytest.raises(ValueError, match="mean over places"):
        maps.cosine_parts(0, maps.latent[1])


def test_a_place_is_where_it_is() -> None:
    network = some_network("resnet18")
    batch = torch.zeros(2, 3, 128, 128)
    batch[1, :, :32, 96:] = 3.0  # only the right upper corner differs
    maps = spatial_maps(network, batch)
    assert maps is not None
    changed = (maps.places[1] - maps.places[0]).norm(dim=2)
    assert changed[:2, 2:].min() > changed[2:, :2].max()


def test_an_image_too_small_for_a_map_has_none_that_adds_up_wrongly() -> None:
    maps = spatial_maps(some_network("resnet18"), images(8))
    assert maps is None or not maps.adds_up


def test_the_network_is_left_as_it_was() -> None:
    network = some_network("resnet18")
    spatial_maps(network, images(64))
    assert all(not module._forward_hooks for module in network.modules())
