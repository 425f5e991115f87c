"""Networks rewritten for inference on a CPU: the same function in fewer steps, to rounding.

There a forward pass waits for the memory as much as for arithmetic, and torch takes each layer by itself. Batch
normalisation in eval mode only scales and shifts; it moves into the weights of a neighbouring convolution.
DenseNet201 is rewritten whole: its dense layers read from and write to one buffer instead of joining tensors each time.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name that everyone knows
from torch.nn.utils import fuse_conv_bn_eval

#: Beyond it a threshold of float32 would overflow; the channel is constant for any value that occurs.
_LARGEST_THRESHOLD = 1e30
#: Names under which torchvision keeps a convolution and the normalisation of what it gives.
_PAIRS = (("conv", "bn"), ("conv1", "bn1"), ("conv2", "bn2"), ("0", "1"), ("1", "2"), ("2", "3"))


def fold_normalisation(trunk: nn.Module) -> nn.Module:
    """A copy whose convolutions do what the batch normalisations behind them did; for ResNet, Inception and MobileNet.

    Args:
        trunk: torchvision's model in eval mode; not changed.
    """
    folded = copy.deepcopy(trunk).eval()
    for module in folded.modules():
        for first, second in _PAIRS:
            conv, norm = getattr(module, first, None), getattr(module, second, None)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, first, fuse_conv_bn_eval(conv, norm))
                setattr(module, second, nn.Identity())
    return folded


def _scale_and_shift(norm: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """What a batch normalisation multiplies by and adds in eval mode, float64 (C,) each."""
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def _weight(conv: nn.Module) -> torch.Tensor:
    """(O, I, h, w) float64 of a convolution without bias."""
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is None
    return conv.weight.double()


def _channels_last(weight: torch.Tensor) -> torch.Tensor:
    return weight.float().contiguous(memory_format=torch.channels_last)


class _Clamped:
    """Normalisation, ReLU and a 1 x 1 convolution, as a clamp and a convolution.

    ``relu(s x + b) = s (max(x, t) - t)`` with ``t = -b / s``, and with the minimum where s is negative: the factor s
    goes into the weights and the constant ``-s t`` into the bias, which leaves one pass over the memory.

    Args:
        norm: The normalisation before the ReLU.
        conv: The convolution.
        then: A normalisation behind it.
    """

    def __init__(self, norm: nn.Module, conv: nn.Module, *, then: nn.Module | None = None) -> None:
        scale, shift = _scale_and_shift(norm)
        weight = _weight(conv)
        bias = weight.new_zeros(len(weight))
        if then is not None:
            after, bias = _scale_and_shift(then)
            weight = weight * after.view(-1, 1, 1, 1)
        threshold = (-shift / scale).float()
        # A scale of zero, as training leaves on channels that it has no use for: the ReLU gives a constant.
        constant = ~(threshold.abs() < _LARGEST_THRESHOLD)
        bias = bias + weight[:, constant, 0, 0] @ shift[constant].clamp_min(0)
        threshold[constant] = 0
        weight = (weight * torch.where(constant, 0, scale).view(1, -1, 1, 1)).float()
        # With the numbers as they are rounded, so that what the clamp cuts off cancels.
        bias = bias - weight[:, :, 0, 0].double() @ threshold.double()
        falling = scale < 0
        # Limits (1, C, 1, 1); none above where no scale is negative.
        self._low = torch.where(falling, -torch.inf, threshold).view(1, -1, 1, 1)
        self._high = torch.where(falling, threshold, torch.inf).view(1, -1, 1, 1) if bool(falling.any()) else None
        self._weight, self._bias = _channels_last(weight), bias.float()

    def clamp(self, maps: torch.Tensor, room: torch.Tensor) -> torch.Tensor:
        """Clamped maps (B, C, H, W) channels last, written to ``room``: at least B C H W values."""
        batch, channels, height, width = maps.shape
        out = room[: maps.numel()].view(batch, height, width, channels).permute(0, 3, 1, 2)
        if self._high is None:
            return torch.maximum(maps, self._low, out=out)
        return torch.clamp(maps, self._low, self._high, out=out)

    def convolve(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, O, H, W) of clamped maps (B, C, H, W)."""
        return F.conv2d(maps, self._weight, self._bias)


class _DenseLayer:
    """What a dense layer adds to the maps before it."""

    def __init__(self, layer: nn.Module) -> None:
        parts = dict(layer.named_children())
        self._narrow = _Clamped(parts["norm1"], parts["conv1"], then=parts["norm2"])
        self._kernels = _channels_last(_weight(parts["conv2"]))
        self.growth = len(self._kernels)

    def __call__(self, maps: torch.Tensor, room: torch.Tensor) -> torch.Tensor:
        narrowed = self._narrow.convolve(self._narrow.clamp(maps, room)).relu_()
        return F.conv2d(narrowed, self._kernels, padding=1)


class StreamlinedDenseNet(nn.Module):
    """LRs (B, D) of normalised float32 images (B, 3, H, W) by a DenseNet's ``features``; on a CPU.

    A transition averages before its convolution instead of after it: both are linear, and the order of torchvision
    takes four times the arithmetic.

    Args:
        trunk: torchvision's DenseNet in eval mode; not changed.
    """

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        parts = dict(trunk.get_submodule("features").named_children())
        scale, shift = _scale_and_shift(parts["norm0"])
        self._first = _channels_last(_weight(parts["conv0"]) * scale.view(-1, 1, 1, 1)), shift.float()
        self._blocks: list[Sequence[_DenseLayer]] = []
        self._transitions: list[_Clamped] = []
        for name, part in parts.items():
            if name.startswith("denseblock"):
                self._blocks.append([_DenseLayer(layer) for layer in part.children()])
            elif name.startswith("transition"):
                inner = dict(part.named_children())
                self._transitions.append(_Clamped(inner["norm"], inner["conv"]))
        scale, shift = _scale_and_shift(parts["norm5"])
        self._last = scale.float(), shift.float()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See the class."""
        weight, bias = self._first
        maps = F.conv2d(images, weight, bias, stride=2, padding=3).relu_()
        maps = F.max_pool2d(maps, kernel_size=3, stride=2, padding=1)
        transitions: list[_Clamped | None] = [*self._transitions, None]
        for layers, transition in zip(self._blocks, transitions, strict=True):
            maps, room = _dense_block(maps, layers)
            if transition is not None:
                maps = transition.convolve(F.avg_pool2d(transition.clamp(maps, room), kernel_size=2, stride=2))
        scale, shift = self._last
        # No ReLU before the average (docs/definitions.md#latent-representation): the last normalisation follows it.
        return torch.addcmul(shift, maps.mean((2, 3)), scale)


def _dense_block(maps: torch.Tensor, layers: Sequence[_DenseLayer]) -> tuple[torch.Tensor, torch.Tensor]:
    """The maps (B, C, H, W) with what each layer adds, and room for as many values."""
    batch, channels, height, width = maps.shape
    total = channels + sum(layer.growth for layer in layers)
    joined = maps.new_empty(batch, height, width, total).permute(0, 3, 1, 2)
    room = maps.new_empty(joined.numel())
    joined[:, :channels] = maps
    for layer in layers:
        joined[:, channels : channels + layer.growth] = layer(joined[:, :channels], room)
        channels += layer.growth
    return joined, room
