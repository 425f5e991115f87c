"""Where a network learns: in this process alone, or in several under torchrun that share each batch.

Each process takes an equal piece of a batch. The embeddings of all pieces are gathered before a loss is computed,
so that losses between images of different pieces, and every reported number, are those of the whole batch.
On GPUs batch normalisations take their statistics from the whole batch too (torch's SyncBatchNorm); on CPUs each
process normalises its own piece.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.nn.functional import all_gather
from torch.nn.parallel import DistributedDataParallel

from vreid_cli.engines.torchrun import choose_own_device
from vreid_cli.runtime.devices import choose_device

#: The other processes wait while the first one validates.
_PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Executor:
    """This process and its place among those that learn together.

    Attributes:
        device: Where this process computes.
        rank: Number of this process, from 0; only process 0 validates, writes and prints.
        world: Number of processes.

    Examples:
        >>> executor = Executor(torch.device("cpu"))
        >>> executor.gather(torch.ones(3, 2)).shape
        torch.Size([3, 2])
    """

    device: torch.device
    rank: int = 0
    world: int = 1

    def share_statistics(self, trunk: nn.Module) -> None:
        """On several GPUs, let the batch normalisations below a module use the whole batch; in place."""
        if self.world > 1 and self.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(trunk)

    def prepare(self, module: nn.Module) -> nn.Module:
        """The module on the device; with several processes its gradients are the mean over them."""
        module = module.to(self.device)
        if self.world == 1:
            return module
        return DistributedDataParallel(module, device_ids=[self.device] if self.device.type == "cuda" else None)

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """The (world x n, …) rows of all processes, in their order, from (n, …) of each; gradients flow back."""
        return rows if self.world == 1 else torch.cat(all_gather(rows))

    def without_sync(self, module: nn.Module) -> AbstractContextManager[Any]:
        """Keeps the gradients of a prepared module in their process: for all but the last pass of a step."""
        return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()

    def wait(self) -> None:
        """Wait for all processes."""
        if self.world > 1:
            distributed.barrier()

    def close(self) -> None:
        """Leave the group of processes; a prepared module that is still held keeps its threads."""
        if self.world > 1:
            distributed.destroy_process_group()


def choose_executor(device: str) -> Executor:
    """This process alone, or its place under torchrun.

    Args:
        device: As ``--device``. Under torchrun each process takes the GPU of its own number.

    Raises:
        UsageError: One GPU is named for several processes.
        DeviceError: The device is not there.

    Examples:
        >>> choose_executor("cpu").world
        1
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Executor(choose_device(device))
    chosen = choose_own_device(device, world)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    else:
        chosen = torch.device("cpu")  # gloo knows no other
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
    return Executor(chosen, distributed.get_rank(), world)
