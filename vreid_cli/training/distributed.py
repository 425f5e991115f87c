"""Who computes: this process alone, or several under torchrun that share each batch.

A batch is divided into equal pieces, one a process; what the pieces give is gathered again before a loss is
computed, so that losses between images of different pieces, and every number that is reported, are those of
the whole batch.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import distributed, nn

from vreid_cli.errors import UsageError
from vreid_cli.runtime.devices import choose_device
from vreid_cli.runtime.extras import require_extra

if TYPE_CHECKING:
    from accelerate import Accelerator

#: The others wait while the first process validates.
_PATIENCE = timedelta(hours=2)


class Executor(Protocol):
    """Where a network learns.

    Attributes:
        device: Where this process computes.
        rank: Number of this process, from 0; only process 0 writes and speaks.
        world: Number of processes.
    """

    device: torch.device
    rank: int
    world: int

    def share_statistics(self, module: nn.Module) -> None:
        """Let the batch normalisations below a module see the images of all processes, in place."""

    def prepare(self, module: nn.Module) -> nn.Module:
        """The module as it is to be called: its gradients are then the mean over the processes."""

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """The (world x n, …) rows of all processes, in their order, from (n, …) of each; gradients flow back."""

    def without_sync(self, module: nn.Module) -> AbstractContextManager[Any]:
        """Leaves gradients of a prepared module unshared within, for all but the last pass of a step."""

    def wait(self) -> None:
        """Wait for all processes."""

    def close(self) -> None:
        """Part from the others."""


class LocalExecutor:
    """This process alone."""

    rank = 0
    world = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def share_statistics(self, module: nn.Module) -> None:
        """This process sees them all."""

    def prepare(self, module: nn.Module) -> nn.Module:
        """The module itself, on the device."""
        return module.to(self.device)

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor itself."""
        return tensor

    def without_sync(self, module: nn.Module) -> AbstractContextManager[Any]:
        """Nothing to leave out."""
        return nullcontext()

    def wait(self) -> None:
        """Nobody to wait for."""

    def close(self) -> None:
        """Nobody to part from."""


class TorchrunExecutor:
    """One of several processes that torchrun started; Accelerate sets them up (NCCL on GPUs, gloo on CPUs)."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        # Accelerate numbers CPUs too; nothing else does.
        self.device = accelerator.device if accelerator.device.type == "cuda" else torch.device("cpu")
        self.rank: int = accelerator.process_index
        self.world: int = accelerator.num_processes

    def share_statistics(self, module: nn.Module) -> None:
        """Batch normalisations below the module use the whole batch."""
        share_batch_statistics(module, on_gpu=self.device.type == "cuda")

    def prepare(self, module: nn.Module) -> nn.Module:
        """The module in torch's DistributedDataParallel."""
        prepared: nn.Module = self._accelerator.prepare_model(module)
        return prepared

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """Rows of all processes; the gradients of all reach the process that a row came from."""
        gathered: torch.Tensor = _Gather.apply(tensor)
        return gathered

    def without_sync(self, module: nn.Module) -> AbstractContextManager[Any]:
        """Leaves the gradients where they are."""
        context: AbstractContextManager[Any] = self._accelerator.no_sync(module)
        return context

    def wait(self) -> None:
        """Wait for all processes."""
        self._accelerator.wait_for_everyone()

    def close(self) -> None:
        """Leave the group of processes."""
        self._accelerator.end_training()


def choose_executor(device: str) -> Executor:
    """This process alone, or its part under torchrun.

    Args:
        device: As ``--device``. Under torchrun each process takes the GPU of its own number.

    Raises:
        UsageError: Accelerate is missing, or one GPU is named for several processes.
        DeviceError: The device is not there.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return LocalExecutor(choose_device(device))
    require_extra("train", ["accelerate"], needed_by="training in several processes")
    if device.startswith("cuda:"):
        hint = "say --device cuda: each process takes a GPU of its own"
        raise UsageError(f"--device {device}: {world} processes cannot share one GPU", hint=hint)
    kind = choose_device(device).type
    from accelerate import Accelerator
    from accelerate.utils import InitProcessGroupKwargs

    return TorchrunExecutor(Accelerator(cpu=kind == "cpu", kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)]))


class _Gather(torch.autograd.Function):
    """Rows of all processes; backwards, each row's gradient is the sum of what all processes have for it."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        ctx.own = len(rows)
        parts = [
            torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(distributed.get_world_size())
        ]
        distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        start = distributed.get_rank() * ctx.own
        return total[start : start + ctx.own]


class _Sum(torch.autograd.Function):
    """The sum over all processes; backwards too, because the result of each depends on what all gave."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        total = values.contiguous().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total


def _mean_over_all(values: torch.Tensor) -> torch.Tensor:
    total: torch.Tensor = _Sum.apply(values)
    return total / distributed.get_world_size()


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation whose batch, while learning, is that of all processes."""

    @classmethod
    def of(cls, norm: nn.modules.batchnorm._BatchNorm) -> SharedBatchNorm:
        """The same normalisation, with the same tensors."""
        shared = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        shared._parameters, shared._buffers = norm._parameters, norm._buffers
        return shared.train(norm.training)

    def _check_input_dim(self, input: torch.Tensor) -> None:
        pass  # any number of axes

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise (B, C, …)."""
        return _normalise(self, input) if self.training else super().forward(input)


def share_batch_statistics(module: nn.Module, *, on_gpu: bool) -> None:
    """Let each batch normalisation below a module take its statistics from the images of all processes, in place.

    torch's own SyncBatchNorm does so on GPUs only.
    """
    if on_gpu:
        nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return
    for name, child in list(module.named_children()):
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            setattr(module, name, SharedBatchNorm.of(child))
        else:
            share_batch_statistics(child, on_gpu=False)


def _normalise(norm: SharedBatchNorm, values: torch.Tensor) -> torch.Tensor:
    """Batch normalisation in training mode, whose batch is that of all processes.

    Ioffe and Szegedy, arXiv 1502.03167, algorithm 1; the running deviation is the unbiased one, as torch's.
    """
    axes = [axis for axis in range(values.ndim) if axis != 1]
    shape = [-1 if axis == 1 else 1 for axis in range(values.ndim)]
    # Two rounds rather than sums of squares, which lose digits where the mean is large.
    mean = _mean_over_all(values.mean(axes))
    centred = values - mean.view(shape)
    variance = _mean_over_all(centred.square().mean(axes))
    if norm.track_running_stats and norm.running_mean is not None and norm.running_var is not None:
        count = distributed.get_world_size() * values.numel() // values.shape[1]
        with torch.no_grad():
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked += 1
            share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean.detach().to(norm.running_mean.dtype), share)
            unbiased = variance.detach() * (count / max(1, count - 1))
            norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), share)
    normal: torch.Tensor = centred * torch.rsqrt(variance + norm.eps).view(shape)
    if norm.affine:
        normal = normal * norm.weight.view(shape) + norm.bias.view(shape)
    return normal
