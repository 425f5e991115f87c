"""The training loop: it learns, repeats itself and goes on bit for bit, and leaves the world as it found it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from toys import CLASSES, PLAIN, SMALL, STRONG, TINY, toy

from vreid_cli.errors import UsageError
from vreid_cli.models.backbones import BACKBONES, Backbone
from vreid_cli.models.checkpoint import network_state
from vreid_cli.models.network import Network, build_random
from vreid_cli.models.transforms import Transform
from vreid_cli.models.weights import LoadedNetwork, load_network
from vreid_cli.training.distributed import Executor
from vreid_cli.training.images import ReadImages, TrainingSet
from vreid_cli.training.options import TrainingOptions
from vreid_cli.training.state import Scores, read_state, save_state
from vreid_cli.training.trainer import Trainer, learning_rate

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("one_thread")


def make_trainer(
    backbone: Backbone = TINY, *, seed: int = 1, data: TrainingSet | None = None, **changes: object
) -> Trainer:
    options = TrainingOptions(**{"epochs": 3, "batch_size": 8, "learning_rate": 0.02, **changes})
    network = build_random(backbone, seed=0, classes=CLASSES, neck=options.neck)
    return Trainer(network, data or toy(), options=options, executor=Executor(CPU), seed=seed)


def run(one: Trainer, **watchers: object) -> Trainer:
    one.run(**watchers)
    return one


def same(first: Network, second: Network) -> bool:
    one, other = network_state(first), network_state(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("recipe", [{}, STRONG], ids=["cross-entropy", "strong"])
def test_the_loss_falls_and_the_classes_are_learned(recipe: dict[str, object]):
    trained = run(make_trainer(epochs=12, learning_rate=0.03, flip=True, **recipe))
    losses = [epoch.loss for epoch in trained.history]
    assert losses[-1] < 0.6 * losses[0]
    lessons = toy()
    assert isinstance(lessons.images, torch.Tensor)
    with torch.inference_mode():
        scores = trained.kept(SMALL.normalise(lessons.images[:, :, 2:34, 2:34]))
    assert (scores.argmax(1).numpy() == lessons.labels).mean() > 0.9


def test_the_first_loss_is_the_cross_entropy_of_the_images():
    # Without dropout, chance or a change of weights within the epoch (one batch), it can be worked out by hand.
    lessons = toy(side=32)
    one = make_trainer(data=lessons, epochs=1, batch_size=64)
    one.network.trunk.get_submodule("5").p = 0.0
    assert isinstance(lessons.images, torch.Tensor)
    one.network.train()
    with torch.no_grad():
        scores = one.network(SMALL.normalise(lessons.images)).double().numpy()
    expected = np.mean(np.log(np.exp(scores).sum(1)) - scores[np.arange(len(scores)), lessons.labels])
    right = (scores.argmax(1) == lessons.labels).mean()
    result = run(one).history[0]
    assert result.loss == pytest.approx(expected, rel=1e-5)
    assert result.accuracy == pytest.approx(right)
    assert result.images == len(scores)


def test_one_step_of_sgd_is_the_formula():
    # w - rate * (gradient + decay * w), the decay on kernels and matrices alone.
    lessons = toy(side=32)
    options = {"epochs": 1, "batch_size": 64, "momentum": 0.0, "weight_decay": 0.1, "learning_rate": 0.5}
    one = make_trainer(PLAIN, data=lessons, **options)
    before = {name: weight.detach().clone() for name, weight in one.network.named_parameters()}
    assert isinstance(lessons.images, torch.Tensor)
    scores = one.network(SMALL.normalise(lessons.images))
    nn.functional.cross_entropy(scores, torch.from_numpy(lessons.labels)).backward()
    gradients = {
        name: weight.grad.clone() for name, weight in one.network.named_parameters() if weight.grad is not None
    }
    one.network.zero_grad()
    run(one)
    for name, weight in one.network.named_parameters():
        decay = 0.1 if weight.ndim > 1 else 0.0
        expected = before[name] - 0.5 * (gradients[name] + decay * before[name])
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("per_vehicle", [0, 2])
def test_accumulated_passes_make_the_same_step(per_vehicle: int):
    whole = run(make_trainer(PLAIN, per_vehicle=per_vehicle, flip=True))
    parts = run(make_trainer(PLAIN, per_vehicle=per_vehicle, flip=True, accumulate=2))
    for name, tensor in network_state(whole.network).items():
        torch.testing.assert_close(network_state(parts.network)[name], tensor, rtol=1e-4, atol=1e-6)
    assert [e.loss for e in parts.history] == pytest.approx([e.loss for e in whole.history], rel=1e-4)


def test_a_short_gradient_makes_a_short_step():
    steps = []
    for clip in (0.0, 1e-3):
        one = make_trainer(PLAIN, epochs=1, batch_size=64, momentum=0.0, learning_rate=1.0, clip_norm=clip)
        before = torch.cat([weight.detach().flatten().clone() for weight in one.network.parameters()])
        run(one)
        after = torch.cat([weight.detach().flatten() for weight in one.network.parameters()])
        steps.append(float((after - before).norm()))
    assert steps[1] == pytest.approx(1e-3, rel=1e-2)
    assert steps[0] > 1e-2


def test_the_moving_average_is_that_of_the_steps():
    # One step an epoch, so that each step's weights can be seen.
    seen: list[torch.Tensor] = []
    one = make_trainer(PLAIN, epochs=5, batch_size=64, ema=0.6)
    name = "trunk.0.weight"
    run(one, watch=lambda own: seen.append(own.network.state_dict()[name].clone()))
    expected = seen[1]
    for weights in seen[2:]:
        expected = 0.6 * expected + 0.4 * weights
    torch.testing.assert_close(one.kept.state_dict()[name], expected, rtol=1e-5, atol=1e-7)
    assert not torch.equal(one.kept.state_dict()[name], seen[-1])
    assert torch.equal(one.result().network.state_dict()[name], one.kept.state_dict()[name])


def test_the_same_seed_gives_the_same_weights_bit_for_bit_and_another_seed_others():
    first, second, third = (run(make_trainer(seed=seed, flip=True)) for seed in (1, 1, 2))
    assert same(first.network, second.network)
    assert [e.loss for e in first.history] == [e.loss for e in second.history]
    assert not same(first.network, third.network)


GOING_ON = {
    "sgd": {},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.05},
    "strong": {**STRONG, "jitter": 0.3, "erase": 0.5, "zoom": 0.6, "schedule": "cosine", "warm_up": 0.3},
    "average": {"ema": 0.9, "optimizer": "adamw"},
    "accumulate": {"accumulate": 2, "clip_norm": 0.5},
    "half": {"precision": "fp16"},
    "bf16": {"precision": "bf16", "channels_last": False},
}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", GOING_ON.values(), ids=GOING_ON)
@pytest.mark.parametrize("stop", [0, 1, 2])
def test_going_on_from_a_file_ends_with_the_same_bits(tmp_path: Path, recipe: dict[str, object], stop: int):
    recipe = {"epochs": 3, "flip": True, **recipe}
    whole = run(make_trainer(**recipe))
    path = tmp_path / "resume.safetensors"

    def save(own: Trainer) -> None:
        if own.epoch == stop:
            save_state(path, own.state())

    run(make_trainer(**recipe), watch=save)
    after = make_trainer(**recipe)
    after.restore(read_state(path))
    seen: list[int] = []
    run(after, watch=lambda own: seen.append(own.epoch))
    assert seen == list(range(stop, 4))
    assert same(after.network, whole.network)
    assert same(after.kept, whole.kept)
    assert [e.loss for e in after.history] == [e.loss for e in whole.history]


@dataclass(frozen=True)
class Recording(Transform):
    """Keeps what goes into the network."""

    seen: list[torch.Tensor] = field(default_factory=list)

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        self.seen.append(pixels.clone())
        return super().normalise(pixels)


def test_each_epoch_augments_an_image_otherwise():
    # One image for all, so that its order within an epoch makes no difference.
    data = replace(toy(), transform=Recording(SMALL.resize, SMALL.crop))
    assert isinstance(data.images, torch.Tensor)
    assert isinstance(data.transform, Recording)
    data.images[:] = data.images[0].clone()
    run(make_trainer(data=data, epochs=2, tint=0.5))
    pixels = [image.numpy().tobytes() for batch in data.transform.seen for image in batch]
    assert len(pixels) == len(set(pixels)) == 2 * len(data.labels)


def test_workers_change_nothing():
    alone, helped = (run(make_trainer(data=toy(workers=k), flip=True, erase=0.5)) for k in (0, 2))
    assert same(alone.network, helped.network)


def test_the_global_random_states_are_left_alone():
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the state that must not be touched
    states = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    run(make_trainer())
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002


def test_validation_comes_when_it_is_due_and_at_the_end():
    held_out = ReadImages((), torch.zeros(0, 3, 36, 36, dtype=torch.uint8))
    asked: list[bool] = []

    def validate(network: LoadedNetwork, images: ReadImages) -> Scores:
        assert images is held_out
        asked.append(network.network.training)
        return Scores(0.1 * len(asked), 0.5)

    one = run(make_trainer(data=toy(held_out=held_out), epochs=5, validate_every=2), validate=validate)
    assert asked == [False, False, False]
    assert [e.epoch for e in one.history if e.scores] == [2, 4, 5]
    assert not one.network.training


def test_the_network_is_in_eval_mode_after_an_interruption():
    def interrupt(own: Trainer) -> None:
        if own.epoch:
            raise KeyboardInterrupt

    one = make_trainer()
    with pytest.raises(KeyboardInterrupt):
        run(one, watch=interrupt)
    assert not one.network.training


def test_a_loss_that_is_not_finite_is_an_error_that_names_the_learning_rate():
    with pytest.raises(UsageError, match="diverged in epoch 1") as caught:
        run(make_trainer(learning_rate=1e30, epochs=3, batch_size=8))
    assert caught.value.hint is not None
    assert "1e+30" in caught.value.hint


def test_tf32_is_refused_where_it_does_not_exist():
    with pytest.raises(UsageError, match="tf32"):
        make_trainer(precision="tf32")


def test_the_neck_keeps_no_shift_and_the_head_no_bias():
    one = run(make_trainer(**STRONG))
    assert one.network.neck is not None
    assert one.network.head is not None
    assert one.network.head.bias is None
    assert not one.network.neck.bias.any()
    assert (one.network.neck.weight != 1).any()


@pytest.mark.slow
@pytest.mark.parametrize("arch", BACKBONES)
def test_every_architecture_learns_a_step_and_comes_back_from_its_file(tmp_path: Path, arch: str):
    # As small as each allows: only the step and the way through the file matter.
    crop = {"inception_v3": 80, "alexnet": 64}.get(arch, 32)
    neck = arch == "resnet18"
    data = toy(1, side=crop)
    options = {"epochs": 1, "batch_size": 4, "momentum": 0.0, "learning_rate": 1e-3, "neck": neck}
    one = make_trainer(BACKBONES[arch], data=data, **options)
    before = {name: tensor.clone() for name, tensor in one.network.trunk.named_parameters()}
    run(one)
    moved = [name for name, tensor in one.network.trunk.named_parameters() if not torch.equal(before[name], tensor)]
    assert len(moved) > 0.9 * len(before)

    result = one.result()
    result.save(tmp_path / "last.safetensors")
    loaded = load_network(tmp_path / "last.safetensors")
    assert (loaded.architecture, loaded.transform) == (arch, Transform(crop, crop))
    assert loaded.classes == result.classes == data.classes
    assert loaded.digest == result.digest
    assert isinstance(data.images, torch.Tensor)
    pixels = SMALL.normalise(data.images)
    with torch.inference_mode():
        expected = one.kept.latent(pixels)
        atol = 1e-5 * float(expected.abs().max())
        torch.testing.assert_close(loaded.network.latent(pixels), expected, rtol=0, atol=atol)
        assert loaded.network(pixels).shape == (CLASSES, CLASSES)


def test_the_rate_rises_in_a_line_and_falls_along_a_cosine():
    recipe = TrainingOptions(learning_rate=2.0, schedule="cosine", warm_up=0.2)
    points = [0.0, 0.05, 0.1, 0.2, 0.6, 1.0]
    assert [learning_rate(recipe, at) for at in points] == pytest.approx([0, 0.5, 1, 2, 1, 0], abs=1e-12)
    constant = TrainingOptions(learning_rate=2.0, warm_up=0.5)
    assert [learning_rate(constant, at) for at in (0.25, 0.5, 0.9)] == [1, 2, 2]
    assert learning_rate(TrainingOptions(learning_rate=2.0), 0.0) == 2
