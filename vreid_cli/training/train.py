"""The loop: epochs of batches, whatever the recipe, on one process or several."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vreid_cli.errors import DataError, UsageError
from vreid_cli.models.checkpoint import StateDict, network_state, restore_network
from vreid_cli.models.network import Network
from vreid_cli.models.transforms import Transform
from vreid_cli.runtime.devices import AUTOCAST, check_precision, float32_products
from vreid_cli.runtime.progress import progress
from vreid_cli.training.batches import Labels, plan_epoch, random_source
from vreid_cli.training.distributed import Executor
from vreid_cli.training.images import Images, Piece, load_lessons
from vreid_cli.training.losses import Criterion
from vreid_cli.training.options import TrainingOptions
from vreid_cli.training.state import (
    EpochResult,
    Scores,
    TrainingState,
    optimizer_tensors,
    restore_optimizer,
)

#: Looks for held-out vehicles with a network in eval mode, which it leaves as it is.
Validate = Callable[[Network], Scores]
#: Is told of each finished epoch; the state is made only where it is asked for.
OnEpoch = Callable[[EpochResult, "Learner"], None]

#: Streams of chance that have nothing to do with each other.
_ORDER, _CHANGES, _DROPOUT = 0, 1, 2


@dataclass(frozen=True)
class Lessons:
    """What is learned from.

    Attributes:
        images: (N) squares that crops are cut from.
        labels: (N,) int64, the class of each.
        transform: Input of the network.
        workers: Processes that prepare images; 0 for none.
    """

    images: Images
    labels: Labels
    transform: Transform
    workers: int = 0


class _Pupil(nn.Module):
    """Network and gathering in one module, so that one call is one forward pass of the whole batch."""

    def __init__(self, network: Network, executor: Executor) -> None:
        super().__init__()
        self.network = network
        self._executor = executor

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings and scores of all processes' images, from (B, 3, H, W) of this one's."""
        head = self.network.head
        if head is None:
            raise ValueError("training needs a network with a classifier")
        embeddings = self._executor.gather(self.network.embed(images))
        scores: torch.Tensor = head(self.network.finish(embeddings))
        return embeddings, scores


class Learner:
    """A network, and all that changes with it while it learns.

    Args:
        network: Has a head; it is changed in place, and lies on the executor's device from here on.
        recipe: How it learns.
        executor: Where.
        seed: Decides order, changes and dropout.

    Raises:
        UsageError: The precision is none of the device's, or what the recipe needs is not installed.
    """

    def __init__(self, network: Network, recipe: TrainingOptions, *, executor: Executor, seed: int) -> None:
        device = executor.device
        check_precision(recipe.precision, device)
        self.network = network
        self.recipe = recipe
        self.executor = executor
        self.seed = seed
        self.epoch = 0
        self.history: list[EpochResult] = []
        self._criterion = Criterion(recipe)
        if recipe.channels_last:
            network.to(memory_format=torch.channels_last)
        if network.neck is not None:
            # Without a shift of its own the classes lie around the origin, as the cosine wants it (Luo et al., 3.5).
            network.neck.bias.requires_grad_(False)
        executor.share_statistics(network.trunk)
        self._pupil = executor.prepare(_Pupil(network, executor))
        self._optimizer = _make_optimizer(network, recipe)
        self._scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
        average = get_ema_multi_avg_fn(recipe.ema) if recipe.ema else None
        self._average = AveragedModel(network, multi_avg_fn=average, use_buffers=True) if average else None

    @property
    def result(self) -> Network:
        """The network that is kept: the moving average where the recipe has one."""
        if self._average is None:
            return self.network
        averaged = self._average.module
        assert isinstance(averaged, Network)
        return averaged

    def state(self) -> TrainingState:
        """Where the training stands; tensors are not copied."""
        tensors = _below("network", network_state(self.network))
        tensors |= _below("optimizer", optimizer_tensors(self._optimizer))
        if self._average is not None:
            tensors |= _below("average", network_state(self.result))
            tensors["averaged"] = self._average.n_averaged
        scaler = self._scaler.state_dict()
        return TrainingState(self.epoch, tensors, {name: float(scaler[name]) for name in scaler}, tuple(self.history))

    def restore(self, state: TrainingState) -> None:
        """Go back to a state; the same recipe must have made it.

        Raises:
            WeightsError: It is of another network.
        """
        restore_network(self.network, state.part("network"), source="the saved training")
        restore_optimizer(self._optimizer, state.part("optimizer"))
        if self._average is not None:
            restore_network(self.result, state.part("average"), source="the saved training")
            self._average.n_averaged.copy_(state.tensors["averaged"])
        if state.numbers:
            saved: Mapping[str, float] = state.numbers
            whole = {"growth_interval", "_growth_tracker"}
            self._scaler.load_state_dict({key: int(saved[key]) if key in whole else saved[key] for key in saved})
        self.epoch = state.epoch
        self.history = list(state.history)

    def learn(self, lessons: Lessons, *, validate: Validate | None, on_epoch: OnEpoch) -> None:
        """Go on to the recipe's last epoch.

        The same arguments give the same weights bit for bit on the CPU with the same number of threads, also
        where the training was stopped and restored in between. Torch's global random state is left as it was.

        Args:
            lessons: What is learned from.
            validate: Called on the first process, with the network that is kept.
            on_epoch: Called on the first process after each epoch.

        Raises:
            UsageError: The loss is no longer finite: the learning rate is too high.
            DataError: The images do not fill a single batch.
        """
        try:
            while self.epoch < self.recipe.epochs:
                result = self._run_epoch(lessons)
                self.epoch = result.epoch
                self.result.eval()  # for those who are called
                self.network.eval()
                if self.executor.rank == 0:
                    if validate is not None and self._is_time_to_validate():
                        result = replace(result, scores=validate(self.result))
                    self.history.append(result)
                    on_epoch(result, self)
                else:
                    self.history.append(result)
                self.executor.wait()
        finally:
            self.network.eval()
            self.result.eval()

    def _is_time_to_validate(self) -> bool:
        return self.epoch % self.recipe.validate_every == 0 or self.epoch == self.recipe.epochs

    def _run_epoch(self, lessons: Lessons) -> EpochResult:
        epoch, recipe, executor = self.epoch + 1, self.recipe, self.executor
        started = time.monotonic()
        batches = plan_epoch(
            lessons.labels,
            batch_size=recipe.batch_size,
            per_vehicle=recipe.per_vehicle,
            pieces=executor.world * recipe.accumulate,
            random=random_source(self.seed, _ORDER, epoch),
        )
        if not batches:
            size = f"{recipe.batch_size} images, {recipe.per_vehicle or 'any number'} of each vehicle"
            raise DataError(f"no batch of {size}, can be made of {len(lessons.labels)} images")
        targets = torch.from_numpy(lessons.labels)
        passes = [part for batch in batches for part in np.split(batch, recipe.accumulate)]
        loader = load_lessons(
            lessons.images,
            list(_own_pieces(passes, executor)),
            transform=lessons.transform,
            recipe=recipe,
            seed=(self.seed, _CHANGES, epoch),
            workers=lessons.workers,
            pin_memory=executor.device.type == "cuda",
        )
        # Summed on the device: asking for each loss would make a GPU wait for the CPU at every step.
        totals = torch.zeros(4, device=executor.device)
        self.network.train()
        random_seed = int(random_source(self.seed, _DROPOUT, epoch, executor.rank).integers(2**63))
        with (
            _own_random_state(executor.device, random_seed),
            float32_products(tf32=recipe.precision == "tf32"),
            progress(total=sum(map(len, batches)), what=f"epoch {epoch}/{recipe.epochs}", unit="img") as bar,
        ):
            for number, (pixels, _) in enumerate(loader):
                rows = passes[number]
                step, part = divmod(number, recipe.accumulate)
                if part == 0:
                    self._set_rate((epoch - 1 + (step + 0.5) / len(batches)) / recipe.epochs)
                answer = targets[rows].to(executor.device, non_blocking=True)
                totals += self._pass(lessons.transform, pixels, targets=answer, last=part == recipe.accumulate - 1)
                bar.update(len(rows))
        return self._sum_up(epoch, totals, passes=passes, seconds=time.monotonic() - started)

    def _pass(self, transform: Transform, pixels: torch.Tensor, *, targets: torch.Tensor, last: bool) -> torch.Tensor:
        """One forward and backward pass, and the step after a batch's last: its losses and number of right answers."""
        recipe, device = self.recipe, self.executor.device
        images = transform.normalise(pixels.to(device, non_blocking=True))
        if recipe.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        dtype = AUTOCAST.get(recipe.precision)
        with nullcontext() if last else self.executor.without_sync(self._pupil):
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                embeddings, scores = self._pupil(images)
            losses = self._criterion(embeddings, scores, targets=targets)
            self._scaler.scale(losses.total / recipe.accumulate).backward()
        if last:
            self._step()
        right = (scores.detach().argmax(1) == targets).sum()
        told = [losses.total, losses.cross_entropy, losses.triplet, right]
        return torch.stack([value.detach().to(torch.float32) for value in told])

    def _step(self) -> None:
        if self.recipe.clip_norm:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.update_parameters(self.network)

    def _set_rate(self, progress_made: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, progress_made)

    def _sum_up(self, epoch: int, totals: torch.Tensor, *, passes: list[Labels], seconds: float) -> EpochResult:
        loss, cross_entropy, triplet, right = totals.tolist()
        if not math.isfinite(loss):
            raise UsageError(
                f"training diverged in epoch {epoch}: the loss is not finite",
                hint=f"choose a learning rate below {self.recipe.learning_rate:g} (--learning-rate)",
            )
        count, shown = len(passes), sum(map(len, passes))
        return EpochResult(
            epoch,
            loss=loss / count,
            cross_entropy=cross_entropy / count,
            triplet=triplet / count,
            accuracy=right / shown,
            learning_rate=self._optimizer.param_groups[0]["lr"],
            images=shown,
            seconds=seconds,
        )


def learning_rate(recipe: TrainingOptions, progress_made: float) -> float:
    """The learning rate at a share (0 to 1) of all steps: up in a line, then level or down along a cosine."""
    if progress_made < recipe.warm_up:
        return recipe.learning_rate * progress_made / recipe.warm_up
    if recipe.schedule == "constant":
        return recipe.learning_rate
    fall = (progress_made - recipe.warm_up) / (1 - recipe.warm_up)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * fall))


def _make_optimizer(network: Network, recipe: TrainingOptions) -> torch.optim.Optimizer:
    learned = [weight for weight in network.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in learned if weight.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [weight for weight in learned if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate)
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0)


def _own_pieces(passes: list[Labels], executor: Executor) -> Iterator[Piece]:
    """This process's images of each forward pass; an image's place counts those of all processes."""
    start = 0
    for rows in passes:
        size = len(rows) // executor.world
        own = range(executor.rank * size, (executor.rank + 1) * size)
        yield [(int(rows[index]), start + index) for index in own]
        start += len(rows)


def _below(prefix: str, tensors: StateDict) -> StateDict:
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


@contextmanager
def _own_random_state(device: torch.device, seed: int) -> Iterator[None]:
    """Seed torch's generators on the CPU and on this CUDA device, for dropout; put them back afterwards."""
    if device.type != "cuda":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
        return
    index = torch.cuda.current_device() if device.index is None else device.index
    with torch.random.fork_rng(devices=[index]), torch.cuda.device(index):
        torch.default_generator.manual_seed(seed)
        torch.cuda.manual_seed(seed)
        yield
