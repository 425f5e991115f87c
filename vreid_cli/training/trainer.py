"""The training loop: epochs of batches, on one process or several."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vreid_cli.errors import UsageError
from vreid_cli.models.checkpoint import load_weights, network_state, weights_digest
from vreid_cli.models.network import Network
from vreid_cli.models.weights import LoadedNetwork
from vreid_cli.runtime.devices import AUTOCAST, check_precision, float32_products
from vreid_cli.runtime.progress import progress
from vreid_cli.training.batches import Labels, plan_epoch, random_source
from vreid_cli.training.distributed import Executor
from vreid_cli.training.images import Piece, ReadImages, TrainingSet, load_pieces
from vreid_cli.training.losses import Criterion
from vreid_cli.training.options import TrainingOptions
from vreid_cli.training.state import EpochResult, Scores, TrainingState, optimizer_tensors, restore_optimizer

#: Scores a network on images of vehicles that it has not learned.
Validate = Callable[[LoadedNetwork, ReadImages], Scores]
#: Sees a training before its first epoch and after each one.
Watch = Callable[["Trainer"], None]

#: Name of the weights of a network that was trained here.
TRAINED = "trained"
#: Independent random streams.
_ORDER, _AUGMENTATION, _DROPOUT = 0, 1, 2


class _Gathered(nn.Module):
    """Network and gathering in one module, so that one call is one forward pass of the whole batch."""

    def __init__(self, network: Network, executor: Executor) -> None:
        super().__init__()
        self.network = network
        self._executor = executor

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings and scores of all processes' images, from (B, 3, H, W) of this process."""
        head = self.network.head
        assert head is not None
        embeddings = self._executor.gather(self.network.embed(images))
        scores: torch.Tensor = head(self.network.finish(embeddings))
        return embeddings, scores


class Trainer:
    """A network in training, with its optimizer and history.

    The same arguments give the same weights bit for bit on a CPU with the same number of threads, also if the
    training is stopped and restored in between. Torch's global random state stays as it is.

    Args:
        network: Has a classifier for the classes of ``data``; it is trained in place, on the executor's device.
        data: What it learns from.
        options: How it learns.
        executor: Where it learns.
        seed: Decides order, augmentation and dropout.

    Attributes:
        epoch: Finished epochs.
        history: Their results.
        kept: The network that results: the moving average, if the options have one.

    Raises:
        UsageError: The device lacks the precision.
        MissingExtraError: A package that the options need is not installed.
    """

    def __init__(
        self, network: Network, data: TrainingSet, *, options: TrainingOptions, executor: Executor, seed: int
    ) -> None:
        check_precision(options.precision, executor.device)
        self.network, self.data, self.options = network, data, options
        self.executor, self.seed = executor, seed
        self.epoch = 0
        self.history: list[EpochResult] = []
        self._criterion = Criterion(options)
        network.eval()
        if options.channels_last:
            network.to(memory_format=torch.channels_last)
        if network.neck is not None:
            # Without a shift of its own the classes lie around the origin, as the cosine needs it (Luo et al., 3.5).
            network.neck.bias.requires_grad_(False)
        executor.share_statistics(network.trunk)
        self._module = executor.prepare(_Gathered(network, executor))
        self._optimizer = _make_optimizer(network, options)
        self._scaler = torch.amp.GradScaler(executor.device.type, enabled=options.precision == "fp16")
        average = get_ema_multi_avg_fn(options.ema) if options.ema else None
        self._average = AveragedModel(network, multi_avg_fn=average, use_buffers=True) if average else None
        kept = self._average.module if self._average else network
        assert isinstance(kept, Network)
        self.kept = kept

    def result(self) -> LoadedNetwork:
        """A copy of the network that results, on the CPU and in eval mode."""
        network = copy.deepcopy(self.kept).cpu().eval()
        return LoadedNetwork(network, self.data.transform, TRAINED, weights_digest(network), self.data.classes)

    def state(self) -> TrainingState:
        """All that the training needs to continue; tensors are not copied."""
        parts = {"network": network_state(self.network), "optimizer": optimizer_tensors(self._optimizer)}
        if self._average is not None:
            parts["average"] = network_state(self.kept)
        tensors = {f"{part}/{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
        if self._average is not None:
            tensors["averaged"] = self._average.n_averaged
        scaler = self._scaler.state_dict()
        return TrainingState(self.epoch, tensors, {name: float(scaler[name]) for name in scaler}, tuple(self.history))

    def restore(self, state: TrainingState) -> None:
        """Continue from a state that the same options made.

        Raises:
            WeightsError: It is of another network.
        """
        load_weights(self.network, state.part("network"), source="the saved training", head=True)
        restore_optimizer(self._optimizer, state.part("optimizer"))
        if self._average is not None:
            load_weights(self.kept, state.part("average"), source="the saved training", head=True)
            self._average.n_averaged.copy_(state.tensors["averaged"])
        if state.numbers:
            whole = {"growth_interval", "_growth_tracker"}
            numbers = {key: int(value) if key in whole else value for key, value in state.numbers.items()}
            self._scaler.load_state_dict(numbers)
        self.epoch = state.epoch
        self.history = list(state.history)

    def run(self, *, validate: Validate | None = None, watch: Watch | None = None) -> None:
        """Train to the last epoch.

        Args:
            validate: Scores the result on the vehicles that are held out; called on the first process.
            watch: Called on the first process before the first epoch and after each one, in eval mode.

        Raises:
            UsageError: The loss is no longer finite: the learning rate is too high.
        """
        if self.executor.rank:
            watch = validate = None
        self._show(watch)
        while self.epoch < self.options.epochs:
            try:
                result = self._run_epoch()
            finally:
                self.network.eval()
                self.kept.eval()
            self.epoch = result.epoch
            due = self.epoch % self.options.validate_every == 0 or self.epoch == self.options.epochs
            if due and validate is not None and self.data.held_out is not None:
                result = replace(result, scores=validate(self.result(), self.data.held_out))
            self.history.append(result)
            self._show(watch)

    def _show(self, watch: Watch | None) -> None:
        self.executor.wait()
        if watch is not None:
            watch(self)

    def _run_epoch(self) -> EpochResult:
        epoch, options, executor = self.epoch + 1, self.options, self.executor
        started = time.monotonic()
        batches = plan_epoch(
            self.data.labels,
            batch_size=options.batch_size,
            per_vehicle=options.per_vehicle,
            pieces=executor.world * options.accumulate,
            random=random_source(self.seed, _ORDER, epoch),
        )
        targets = torch.from_numpy(self.data.labels)
        passes = [part for batch in batches for part in np.split(batch, options.accumulate)]
        loader = load_pieces(
            self.data,
            list(_own_pieces(passes, executor)),
            options=options,
            seed=(self.seed, _AUGMENTATION, epoch),
            pin_memory=executor.device.type == "cuda",
        )
        # Summed on the device: reading each loss would make a GPU wait for the CPU at every step.
        totals = torch.zeros(4, device=executor.device)
        self.network.train()
        random_seed = int(random_source(self.seed, _DROPOUT, epoch, executor.rank).integers(2**63))
        with (
            _seeded(executor.device, random_seed),
            float32_products(tf32=options.precision == "tf32"),
            progress(total=sum(map(len, batches)), what=f"epoch {epoch}/{options.epochs}", unit="img") as bar,
        ):
            for number, (rows, pixels) in enumerate(zip(passes, loader, strict=True)):
                step, part = divmod(number, options.accumulate)
                if part == 0:
                    rate = learning_rate(options, (epoch - 1 + (step + 0.5) / len(batches)) / options.epochs)
                    for group in self._optimizer.param_groups:
                        group["lr"] = rate
                answer = targets[rows].to(executor.device, non_blocking=True)
                totals += self._pass(pixels, targets=answer, last=part == options.accumulate - 1)
                bar.update(len(rows))
        return self._sum_up(epoch, totals, passes=passes, seconds=time.monotonic() - started)

    def _pass(self, pixels: torch.Tensor, *, targets: torch.Tensor, last: bool) -> torch.Tensor:
        """One forward and backward pass, and the step after a batch's last: its losses and number of right answers."""
        options, device = self.options, self.executor.device
        images = self.data.transform.normalise(pixels.to(device, non_blocking=True))
        if options.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        dtype = AUTOCAST.get(options.precision)
        with nullcontext() if last else self.executor.without_sync(self._module):
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                embeddings, scores = self._module(images)
            losses = self._criterion(embeddings, scores, targets=targets)
            self._scaler.scale(losses.total / options.accumulate).backward()
        if last:
            if options.clip_norm:
                self._scaler.unscale_(self._optimizer)
                nn.utils.clip_grad_norm_(self.network.parameters(), options.clip_norm)
            self._scaler.step(self._optimizer)
            self._scaler.update()
            self._optimizer.zero_grad()
            if self._average is not None:
                self._average.update_parameters(self.network)
        right = (scores.detach().argmax(1) == targets).sum()
        values = [losses.total, losses.cross_entropy, losses.triplet, right]
        return torch.stack([value.detach().to(torch.float32) for value in values])

    def _sum_up(self, epoch: int, totals: torch.Tensor, *, passes: list[Labels], seconds: float) -> EpochResult:
        loss, cross_entropy, triplet, right = totals.tolist()
        if not math.isfinite(loss):
            raise UsageError(
                f"training diverged in epoch {epoch}: the loss is not finite",
                hint=f"choose a learning rate below {self.options.learning_rate:g} (--learning-rate)",
            )
        count, images = len(passes), sum(map(len, passes))
        return EpochResult(
            epoch,
            loss=loss / count,
            cross_entropy=cross_entropy / count,
            triplet=triplet / count,
            accuracy=right / images,
            learning_rate=self._optimizer.param_groups[0]["lr"],
            images=images,
            seconds=seconds,
        )


def learning_rate(options: TrainingOptions, done: float) -> float:
    """The learning rate after a share (0 to 1) of all steps: up in a line, then level or down along a cosine.

    Examples:
        >>> options = TrainingOptions(learning_rate=2.0, schedule="cosine", warm_up=0.2)
        >>> [round(learning_rate(options, done), 6) for done in (0.1, 0.2, 0.6)]
        [1.0, 2.0, 1.0]
    """
    if done < options.warm_up:
        return options.learning_rate * done / options.warm_up
    if options.schedule == "constant":
        return options.learning_rate
    fall = (done - options.warm_up) / (1 - options.warm_up)
    return options.learning_rate * 0.5 * (1 + math.cos(math.pi * fall))


def _make_optimizer(network: Network, options: TrainingOptions) -> torch.optim.Optimizer:
    learned = [weight for weight in network.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in learned if weight.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [weight for weight in learned if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    rate, momentum = options.learning_rate, options.momentum
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate)
    return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=momentum > 0)


def _own_pieces(passes: list[Labels], executor: Executor) -> Iterator[Piece]:
    """This process's images of each forward pass; an image's place counts those of all processes."""
    start = 0
    for rows in passes:
        size = len(rows) // executor.world
        own = range(executor.rank * size, (executor.rank + 1) * size)
        yield [(int(rows[index]), start + index) for index in own]
        start += len(rows)


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seed torch's generators on the CPU and on this CUDA device, for dropout, and restore them afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
