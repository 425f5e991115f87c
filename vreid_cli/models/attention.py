"""Where in an image the latent representation comes from: the last maps before the network's pool."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from vreid_cli.models.network import Network

#: What the mean of a map and the LR may differ by through rounding, in parts of the LR's largest value.
_ROUNDING = 1e-3


@dataclass(frozen=True, eq=False)
class SpatialMaps:
    """The last maps of some images.

    Attributes:
        places: (B, H, W, D) what stands at each place.
        latent: (B, D) the LRs.
        adds_up: Whether each LR is the mean over its places. Then the cosine of two LRs is a sum over places.
    """

    places: torch.Tensor
    latent: torch.Tensor
    adds_up: bool

    def cosine_parts(self, image: int, other: torch.Tensor) -> torch.Tensor:
        """(H, W) what each place of an image adds to the cosine of its LR and another (D,) one.

        Raises:
            ValueError: The LR is not the mean over places.
        """
        if not self.adds_up:
            raise ValueError("this network's LR is not the mean over places")
        height, width = self.places.shape[1:3]
        scale = height * width * torch.linalg.vector_norm(self.latent[image]) * torch.linalg.vector_norm(other)
        parts: torch.Tensor = self.places[image] @ other / scale.clamp_min(torch.finfo(torch.float32).tiny)
        return parts

    def lengths(self, image: int) -> torch.Tensor:
        """(H, W) length of what stands at each place of an image."""
        lengths: torch.Tensor = torch.linalg.vector_norm(self.places[image], dim=2)
        return lengths


@torch.inference_mode()
def spatial_maps(network: Network, images: torch.Tensor) -> SpatialMaps | None:
    """The last maps of normalised images (B, 3, H, W); None for a network that has none.

    The last map whose mean over places is the LR is taken, else the last one at all. A neck behind the pool is linear,
    so it is applied to each place.

    Examples:
        >>> from vreid_cli.models.backbones import BACKBONES
        >>> from vreid_cli.models.network import build_random
        >>> maps = spatial_maps(build_random(BACKBONES["resnet18"], seed=0).eval(), torch.rand(2, 3, 64, 64))
        >>> maps.places.shape, maps.adds_up
        (torch.Size([2, 2, 2, 512]), True)
        >>> parts = maps.cosine_parts(0, maps.latent[1])
        >>> cosine = torch.nn.functional.cosine_similarity(maps.latent[0], maps.latent[1], dim=0)
        >>> bool((parts.sum() - cosine).abs() < 1e-5)
        True
    """
    seen: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
            seen.append(output.detach())

    hooks = [module.register_forward_hook(keep) for module in network.trunk.modules()]
    try:
        embedded = network.embed(images)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        return None
    tolerance = _ROUNDING * float(embedded.abs().max())

    def is_mean(maps: torch.Tensor) -> bool:
        same = maps.shape[1] == embedded.shape[1]
        return same and bool((maps.mean(dim=(2, 3)) - embedded).abs().max() <= tolerance)

    found = next((maps for maps in reversed(seen) if is_mean(maps)), None)
    places = (seen[-1] if found is None else found).permute(0, 2, 3, 1).float()
    if found is not None:
        places = network.finish(places.flatten(0, 2)).unflatten(0, places.shape[:3])
    return SpatialMaps(places, network.finish(embedded).float(), adds_up=found is not None)
