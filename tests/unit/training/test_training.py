"""The training loop: it learns, repeats itself and goes on bit for bit, and leaves the world as it found it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from toys import CLASSES, PLAIN, SMALL, STRONG, TINY, toy

from vreid_cli.errors import DataError, StoreError, UsageError
from vreid_cli.extraction.inference import Inference, InferenceConfig
from vreid_cli.models.backbones import BACKBONES, Backbone
from vreid_cli.models.checkpoint import network_state, save_checkpoint
from vreid_cli.models.network import Network, build_random
from vreid_cli.models.transforms import Transform
from vreid_cli.models.weights import load_network
from vreid_cli.training.distributed import LocalExecutor
from vreid_cli.training.images import ImagesInMemory, load_lessons
from vreid_cli.training.options import TrainingOptions
from vreid_cli.training.state import EpochResult, Scores, best_epoch, read_state, read_state_facts, save_state
from vreid_cli.training.train import Learner, Lessons

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("one_thread")


def learner(backbone: Backbone = TINY, *, seed: int = 1, **recipe: object) -> Learner:
    settings = TrainingOptions(**{"epochs": 3, "batch_size": 8, "learning_rate": 0.02, **recipe})
    network = build_random(backbone, seed=0, classes=CLASSES, neck=settings.neck)
    return Learner(network, settings, executor=LocalExecutor(CPU), seed=seed)


def learn(one: Learner, *, on_epoch=lambda result, _: None, validate=None, lessons: Lessons | None = None) -> Learner:
    one.learn(lessons or toy(), validate=validate, on_epoch=on_epoch)
    return one


def same(first: Network, second: Network) -> bool:
    one, other = network_state(first), network_state(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("recipe", [{}, STRONG], ids=["cross-entropy", "strong"])
def test_the_loss_falls_and_the_classes_are_learned(recipe: dict[str, object]):
    trained = learn(learner(epochs=12, learning_rate=0.03, flip=True, **recipe))
    losses = [epoch.loss for epoch in trained.history]
    assert losses[-1] < 0.6 * losses[0]
    lessons = toy()
    assert isinstance(lessons.images, ImagesInMemory)
    with torch.inference_mode():
        scores = trained.result(SMALL.normalise(lessons.images.pixels[:, :, 2:34, 2:34]))
    assert (scores.argmax(1).numpy() == lessons.labels).mean() > 0.9


def test_the_first_loss_is_the_cross_entropy_of_the_images():
    # Without dropout, chance or a change of weights within the epoch (one batch), it can be worked out by hand.
    one = learner(epochs=1, batch_size=64)
    one.network.trunk.get_submodule("5").p = 0.0
    lessons = toy(side=32)
    assert isinstance(lessons.images, ImagesInMemory)
    one.network.train()
    with torch.no_grad():
        scores = one.network(SMALL.normalise(lessons.images.pixels)).double().numpy()
    expected = np.mean(np.log(np.exp(scores).sum(1)) - scores[np.arange(len(scores)), lessons.labels])
    right = (scores.argmax(1) == lessons.labels).mean()
    result = learn(one, lessons=lessons).history[0]
    assert result.loss == pytest.approx(expected, rel=1e-5)
    assert result.accuracy == pytest.approx(right)
    assert result.images == len(scores)


def test_one_step_of_sgd_is_the_formula():
    # w - rate * (gradient + decay * w), the decay on kernels and matrices alone.
    one = learner(PLAIN, epochs=1, batch_size=64, momentum=0.0, weight_decay=0.1, learning_rate=0.5)
    before = {name: weight.detach().clone() for name, weight in one.network.named_parameters()}
    lessons = toy(side=32)
    assert isinstance(lessons.images, ImagesInMemory)
    scores = one.network(SMALL.normalise(lessons.images.pixels))
    nn.functional.cross_entropy(scores, torch.from_numpy(lessons.labels)).backward()
    gradients = {
        name: weight.grad.clone() for name, weight in one.network.named_parameters() if weight.grad is not None
    }
    one.network.zero_grad()
    learn(one, lessons=lessons)
    for name, weight in one.network.named_parameters():
        decay = 0.1 if weight.ndim > 1 else 0.0
        expected = before[name] - 0.5 * (gradients[name] + decay * before[name])
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("per_vehicle", [0, 2])
def test_accumulated_passes_make_the_same_step(per_vehicle: int):
    whole = learn(learner(PLAIN, per_vehicle=per_vehicle, flip=True))
    parts = learn(learner(PLAIN, per_vehicle=per_vehicle, flip=True, accumulate=2))
    for name, tensor in network_state(whole.network).items():
        torch.testing.assert_close(network_state(parts.network)[name], tensor, rtol=1e-4, atol=1e-6)
    assert [e.loss for e in parts.history] == pytest.approx([e.loss for e in whole.history], rel=1e-4)


def test_a_short_gradient_makes_a_short_step():
    steps = []
    for clip in (0.0, 1e-3):
        one = learner(PLAIN, epochs=1, batch_size=64, momentum=0.0, learning_rate=1.0, clip_norm=clip)
        before = torch.cat([weight.detach().flatten().clone() for weight in one.network.parameters()])
        learn(one)
        after = torch.cat([weight.detach().flatten() for weight in one.network.parameters()])
        steps.append(float((after - before).norm()))
    assert steps[1] == pytest.approx(1e-3, rel=1e-2)
    assert steps[0] > 1e-2


def test_the_moving_average_is_that_of_the_steps():
    # One step an epoch, so that each step's weights can be seen.
    seen: list[torch.Tensor] = []
    one = learner(PLAIN, epochs=5, batch_size=64, ema=0.6)
    name = "trunk.0.weight"
    learn(one, on_epoch=lambda _, own: seen.append(own.network.state_dict()[name].clone()))
    expected = seen[0]
    for weights in seen[1:]:
        expected = 0.6 * expected + 0.4 * weights
    torch.testing.assert_close(one.result.state_dict()[name], expected, rtol=1e-5, atol=1e-7)
    assert not torch.equal(one.result.state_dict()[name], seen[-1])
    assert learn(learner(PLAIN)).result is not None


def test_the_same_seed_gives_the_same_weights_bit_for_bit_and_another_seed_others():
    first, second, third = (learn(learner(seed=seed, flip=True)) for seed in (1, 1, 2))
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


@pytest.mark.parametrize("recipe", GOING_ON.values(), ids=GOING_ON)
@pytest.mark.parametrize("stop", [0, 1, 2])
def test_going_on_from_a_file_ends_with_the_same_bits(tmp_path: Path, recipe: dict[str, object], stop: int):
    recipe = {"epochs": 3, "flip": True, **recipe}
    whole = learn(learner(**recipe))
    path = tmp_path / "resume.safetensors"

    def save(result: EpochResult | None, own: Learner) -> None:
        if own.epoch == stop:
            save_state(path, own.state(), facts={"note": "ü"})

    before = learner(**recipe)
    save(None, before)
    learn(before, on_epoch=save)
    after = learner(**recipe)
    after.restore(read_state(path))
    assert after.epoch == stop
    seen: list[int] = []
    learn(after, on_epoch=lambda result, _: seen.append(result.epoch))
    assert seen == list(range(stop + 1, 4))
    assert same(after.network, whole.network)
    assert same(after.result, whole.result)
    assert [e.loss for e in after.history] == [e.loss for e in whole.history]
    assert read_state_facts(path) == {"note": "ü"}


def test_each_epoch_changes_a_image_otherwise(monkeypatch: pytest.MonkeyPatch):
    # One image for all, so that its order within an epoch makes no difference.
    lessons = toy()
    assert isinstance(lessons.images, ImagesInMemory)
    lessons.images.pixels[:] = lessons.images.pixels[0].clone()
    seen: list[set[bytes]] = []

    def watch(*arguments: object, **more: object) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        batches = list(load_lessons(*arguments, **more))  # type: ignore[arg-type]
        seen.append({image.numpy().tobytes() for pixels, _ in batches for image in pixels})
        yield from batches

    monkeypatch.setattr("vreid_cli.training.train.load_lessons", watch)
    learn(learner(epochs=2, tint=0.5), lessons=lessons)
    assert len(seen[0]) == len(seen[1]) == len(lessons.labels)
    assert not seen[0] & seen[1]


def test_what_helps_to_prepare_images_changes_nothing():
    alone, lessons = learn(learner(flip=True, erase=0.5)), toy()
    helped = learner(flip=True, erase=0.5)
    helped.learn(Lessons(lessons.images, lessons.labels, SMALL, workers=2), validate=None, on_epoch=lambda *_: None)
    assert same(alone.network, helped.network)


def test_the_global_random_states_are_left_alone():
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the state that must not be touched
    states = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    learn(learner())
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002


def test_validation_comes_when_it_is_due_and_at_the_end():
    asked: list[bool] = []

    def validate(network: Network) -> Scores:
        asked.append(network.training)
        return Scores(0.1 * len(asked), 0.5)

    one = learn(learner(epochs=5, validate_every=2), validate=validate)
    assert asked == [False, False, False]
    assert [e.epoch for e in one.history if e.scores] == [2, 4, 5]
    assert not one.network.training


def test_the_best_epoch_is_the_first_of_the_highest_scores():
    def epoch(number: int, score: float | None) -> EpochResult:
        return EpochResult(number, 1, 1, 0, 0, 0, 1, 1, None if score is None else Scores(score, 0))

    assert best_epoch([epoch(1, 0.5), epoch(2, 0.7), epoch(3, None), epoch(4, 0.7), epoch(5, 0.6)]) == 2
    assert best_epoch([epoch(1, None), epoch(2, None)]) == 2


def test_the_network_is_in_eval_mode_after_an_interruption():
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    one = learner()
    with pytest.raises(KeyboardInterrupt):
        learn(one, on_epoch=interrupt)
    assert not one.network.training


def test_a_loss_that_is_not_finite_is_an_error_that_names_the_learning_rate():
    with pytest.raises(UsageError, match="diverged in epoch 1") as caught:
        learn(learner(learning_rate=1e30, epochs=3, batch_size=8))
    assert caught.value.hint is not None
    assert "1e+30" in caught.value.hint


def test_images_that_fill_no_batch_are_refused():
    with pytest.raises(DataError, match="no batch of 16 images, 2 of each vehicle, can be made of 32"):
        learn(learner(batch_size=16, per_vehicle=2))


def test_tf32_is_refused_where_it_does_not_exist():
    with pytest.raises(UsageError, match="tf32"):
        learner(precision="tf32")


def test_the_neck_keeps_no_shift_and_the_head_no_bias():
    one = learn(learner(**STRONG))
    assert one.network.neck is not None
    assert one.network.head is not None
    assert one.network.head.bias is None
    assert not one.network.neck.bias.any()
    assert (one.network.neck.weight != 1).any()


@pytest.mark.parametrize("arch", BACKBONES)
def test_every_architecture_learns_a_step_and_comes_back_from_its_file(tmp_path: Path, arch: str):
    # As small as each allows: only the step and the way through the file matter.
    crop = {"inception_v3": 80, "alexnet": 64}.get(arch, 32)
    transform = Transform(crop, crop)
    neck = arch == "resnet18"
    network = build_random(BACKBONES[arch], seed=0, classes=CLASSES, neck=neck)
    recipe = TrainingOptions(epochs=1, batch_size=4, momentum=0.0, neck=neck)
    one = Learner(network, recipe, executor=LocalExecutor(CPU), seed=0)
    before = {name: tensor.clone() for name, tensor in network.trunk.named_parameters()}
    lessons = toy(1, side=crop)
    one.learn(lessons, validate=None, on_epoch=lambda *_: None)
    moved = [name for name, tensor in network.trunk.named_parameters() if not torch.equal(before[name], tensor)]
    assert len(moved) > 0.9 * len(before)

    path = tmp_path / "last.safetensors"
    save_checkpoint(path, one.result, transform=transform, facts={})
    loaded = load_network(str(path), arch=arch, seed=0)
    assert loaded.transform == transform
    assert loaded.dropped_classes == CLASSES
    assert isinstance(lessons.images, ImagesInMemory)
    pixels = lessons.images.pixels
    with torch.inference_mode():
        expected = one.result.latent(transform.normalise(pixels)).numpy()
    latent = Inference(loaded, InferenceConfig(CPU, "torch", "as asked", "fp32", 4)).compute(pixels).numpy()
    assert latent.shape == (CLASSES, BACKBONES[arch].dimension)
    assert np.abs(latent - expected).max() <= 1e-5 * np.abs(expected).max()


# ---- the file that a training goes on from


def test_a_missing_state_says_how_to_begin_anew(tmp_path: Path):
    with pytest.raises(StoreError, match="no training to go on with") as caught:
        read_state(tmp_path / "resume.safetensors")
    assert "--restart" in str(caught.value.hint)


@pytest.mark.parametrize("damage", ["cut", "foreign", "version", "history", "text"])
def test_a_damaged_state_is_refused(tmp_path: Path, damage: str):
    path = tmp_path / "resume.safetensors"
    save_state(path, learn(learner(epochs=1)).state(), facts={})
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "text":
        path.write_text("epoch 3")
    else:
        about = {"version": "1", "epoch": 1, "numbers": {}, "history": [], "facts": {}}
        about |= {"version": "9"} if damage == "version" else {"history": [{"epoch": 1}]}
        facts = {} if damage == "foreign" else {"vreid_training": json.dumps(about)}
        save_file({"x": torch.zeros(1)}, path, metadata=facts)
    with pytest.raises(StoreError, match="holds no state of a training, or is damaged"):
        read_state(path)
