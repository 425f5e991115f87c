"""Training of the classifier: it learns, repeats itself bit for bit, and leaves the world as it found it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vreid_cli.errors import DataError, UsageError, VreidError
from vreid_cli.models.backbones import BACKBONES, Backbone, Network, build_random
from vreid_cli.models.transforms import Transform
from vreid_cli.training.classification import (
    EpochResult,
    TrainingPlan,
    TrainingResult,
    augment,
    load_pictures,
    train_classifier,
)

SMALL = Transform(resize=36, crop=32)
CPU = torch.device("cpu")
CLASSES = 3


def _build_tiny() -> nn.Module:
    layers = [nn.Conv2d(3, 8, 5, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Dropout(0.2), nn.Linear(8, 5))


#: A network of a few thousand weights with batch normalisation and dropout, so that a test takes moments.
TINY = Backbone(
    name="tiny",
    width=8,
    transform=SMALL,
    build=_build_tiny,
    head="6",
    latent=lambda trunk, images: trunk(images),
    imagenet=None,
)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def toy_pictures(per_class: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise, with red, green or blue raised by the class: (N, 3, 36, 36) uint8 and (N,) int64."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(CLASSES).repeat(per_class)
    pictures = torch.randint(0, 120, (len(labels), 3, 36, 36), generator=generator, dtype=torch.uint8)
    pictures[torch.arange(len(labels)), labels] += 120
    return pictures, labels


def train(network: Network, *, seed: int = 1, on_epoch=lambda result: None, **changes) -> TrainingResult:
    pictures, labels = toy_pictures()
    plan = TrainingPlan(**{"epochs": 3, "batch_size": 8, "learning_rate": 0.02, **changes})
    return train_classifier(
        network, pictures, labels=labels, transform=SMALL, plan=plan, seed=seed, device=CPU, on_epoch=on_epoch
    )


def weights(network: Network) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_loss_falls_and_the_classes_are_learned() -> None:
    network = build_random(TINY, seed=0, classes=CLASSES)
    result = train(network, epochs=12, label_smoothing=0.0)
    losses = [epoch.loss for epoch in result.epochs]
    assert losses[-1] < 0.6 * losses[0]
    pictures, labels = toy_pictures()
    with torch.inference_mode():
        scores = network(SMALL.normalise(pictures[:, :, 2:34, 2:34]))
    assert (scores.argmax(1) == labels).all()


def test_a_real_backbone_learns_too() -> None:
    network = build_random(BACKBONES["resnet18"], seed=0, classes=CLASSES)
    result = train(network, epochs=3, learning_rate=2e-3, erase=0.0)
    assert result.epochs[-1].loss < result.epochs[0].loss


def test_every_epoch_is_reported_in_order_and_the_rate_rises_and_falls() -> None:
    seen: list[EpochResult] = []
    result = train(build_random(TINY, seed=0, classes=CLASSES), epochs=8, on_epoch=seen.append)
    assert tuple(seen) == result.epochs
    assert [epoch.epoch for epoch in seen] == list(range(1, 9))
    rates = [epoch.learning_rate for epoch in seen]
    assert rates.index(max(rates)) in (1, 2)
    assert max(rates) <= 0.02 * (1 + 1e-9)
    assert rates[-1] < 0.001 * max(rates)
    assert all(0 <= epoch.accuracy <= 1 for epoch in seen)


def test_the_first_loss_is_the_cross_entropy_of_the_pictures() -> None:
    # Without dropout, chance or a change of weights within the epoch (one batch), it can be worked out by hand.
    network = build_random(TINY, seed=0, classes=CLASSES)
    network.trunk.get_submodule("5").p = 0.0
    pictures, labels = toy_pictures()
    pictures = pictures[:, :, 2:34, 2:34]
    network.train()
    scores = network(SMALL.normalise(pictures)).detach().double().numpy()
    expected = np.mean(np.log(np.exp(scores).sum(1)) - scores[np.arange(len(labels)), labels.numpy()])
    plan = TrainingPlan(epochs=1, batch_size=64, label_smoothing=0.0, colour_jitter=0.0, erase=0.0, flip=False)
    result = train_classifier(
        network, pictures, labels=labels, transform=SMALL, plan=plan, seed=0, device=CPU, on_epoch=lambda _: None
    )
    assert result.epochs[0].loss == pytest.approx(expected, rel=1e-5)
    assert result.epochs[0].accuracy == pytest.approx(np.mean(scores.argmax(1) == labels.numpy()))


def test_the_same_seed_gives_the_same_weights_bit_for_bit_and_another_seed_others() -> None:
    trained = []
    for seed, global_seed in ((1, 10), (1, 20), (2, 10)):
        torch.manual_seed(global_seed)  # must not matter
        network = build_random(TINY, seed=0, classes=CLASSES)
        result = train(network, seed=seed)
        trained.append((weights(network), result))
    assert same(trained[0][0], trained[1][0])
    assert trained[0][1] == trained[1][1]
    assert not same(trained[0][0], trained[2][0])


def test_the_global_random_states_are_left_alone() -> None:
    torch.manual_seed(7)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    inside = []
    network = build_random(TINY, seed=0, classes=CLASSES)
    train(network, on_epoch=lambda _: inside.append(torch.get_rng_state()))
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])  # noqa: NPY002
    assert all(torch.equal(before, state) for state in inside)


def test_the_pictures_are_not_changed() -> None:
    pictures, labels = toy_pictures()
    before = pictures.clone()
    train_classifier(
        build_random(TINY, seed=0, classes=CLASSES),
        pictures,
        labels=labels,
        transform=SMALL,
        plan=TrainingPlan(epochs=1, batch_size=8),
        seed=0,
        device=CPU,
        on_epoch=lambda _: None,
    )
    assert torch.equal(pictures, before)


def test_the_network_is_in_eval_mode_for_the_caller_and_at_the_end() -> None:
    network = build_random(TINY, seed=0, classes=CLASSES)
    modes = []
    train(network, on_epoch=lambda _: modes.append(any(module.training for module in network.modules())))
    assert modes == [False] * 3
    assert not any(module.training for module in network.modules())


def test_the_network_is_in_eval_mode_after_an_interruption() -> None:
    def interrupt(result: EpochResult) -> None:
        raise KeyboardInterrupt

    network = build_random(TINY, seed=0, classes=CLASSES)
    with pytest.raises(KeyboardInterrupt):
        train(network, on_epoch=interrupt)
    assert not any(module.training for module in network.modules())


def test_a_loss_that_is_not_finite_is_an_error_that_names_the_learning_rate() -> None:
    network = build_random(TINY, seed=0, classes=CLASSES)
    with pytest.raises(UsageError, match="diverged") as caught:
        train(network, learning_rate=1e30)
    assert "1e+30" in str(caught.value.hint)
    assert not any(module.training for module in network.modules())


@pytest.mark.parametrize("count", [2, 9, 17])
def test_a_last_batch_of_one_picture_is_no_trouble(count: int) -> None:
    pictures, labels = toy_pictures()
    result = train_classifier(
        build_random(TINY, seed=0, classes=CLASSES),
        pictures[:count],
        labels=labels[:count],
        transform=SMALL,
        plan=TrainingPlan(epochs=1, batch_size=8),
        seed=0,
        device=CPU,
        on_epoch=lambda _: None,
    )
    assert np.isfinite(result.epochs[0].loss)


@pytest.mark.parametrize(
    ("pictures", "labels"),
    [
        (torch.zeros(4, 3, 36, 36), torch.zeros(4, dtype=torch.int64)),
        (torch.zeros(4, 1, 36, 36, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)),
        (torch.zeros(4, 3, 36, 31, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)),
        (torch.zeros(4, 3, 36, 36, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(4, 3, 36, 36, dtype=torch.uint8), torch.zeros(4)),
        (torch.zeros(4, 3, 36, 36, dtype=torch.uint8), torch.full((4,), CLASSES)),
        (torch.zeros(4, 3, 36, 36, dtype=torch.uint8), torch.full((4,), -1)),
        (torch.zeros(1, 3, 36, 36, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64)),
        (torch.zeros(0, 3, 36, 36, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64)),
    ],
    ids=["float", "grey", "smaller than the crop", "labels short", "labels float", "high", "low", "one", "none"],
)
def test_bad_input_is_refused_before_a_weight_changes(pictures: torch.Tensor, labels: torch.Tensor) -> None:
    network = build_random(TINY, seed=0, classes=CLASSES)
    before = weights(network)
    with pytest.raises(DataError):
        train_classifier(
            network,
            pictures,
            labels=labels,
            transform=SMALL,
            plan=TrainingPlan(epochs=1),
            seed=0,
            device=CPU,
            on_epoch=lambda _: None,
        )
    assert same(before, weights(network))


def test_a_network_without_a_head_is_refused() -> None:
    with pytest.raises(ValueError, match="classifier"):
        train(build_random(TINY, seed=0))


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"batch_size": 1},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"weight_decay": -1.0},
        {"label_smoothing": 1.0},
        {"colour_jitter": 1.0},
        {"erase": 1.5},
    ],
    ids=str,
)
def test_impossible_plans_are_refused_with_the_name_of_the_value(change: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(change))):
        TrainingPlan(**change)


def test_augmentation_without_any_change_is_a_crop_of_the_picture() -> None:
    pictures, _ = toy_pictures(2)
    plan = TrainingPlan(colour_jitter=0.0, erase=0.0, flip=False)
    crops = augment(pictures, 32, plan=plan, generator=torch.Generator().manual_seed(3))
    assert crops.shape == (len(pictures), 3, 32, 32)
    offsets = set()
    for picture, crop in zip(pictures, crops, strict=True):
        places = [(y, x) for y in range(5) for x in range(5) if torch.equal(picture[:, y : y + 32, x : x + 32], crop)]
        assert len(places) == 1
        offsets.add(places[0])
    assert len(offsets) > 1


def test_some_pictures_are_mirrored_and_nothing_else_happens_to_them() -> None:
    pictures, _ = toy_pictures(8)
    plan = TrainingPlan(colour_jitter=0.0, erase=0.0)
    crops = augment(pictures, 36, plan=plan, generator=torch.Generator().manual_seed(3))
    straight = [torch.equal(crop, picture) for picture, crop in zip(pictures, crops, strict=True)]
    mirrored = [torch.equal(crop.flip(2), picture) for picture, crop in zip(pictures, crops, strict=True)]
    assert all(one != other for one, other in zip(straight, mirrored, strict=True))
    assert any(straight)
    assert any(mirrored)


def test_erasing_paints_over_a_rectangle_of_one_grey() -> None:
    pictures = torch.arange(3 * 32 * 32).remainder(251).view(1, 3, 32, 32).to(torch.uint8).repeat(6, 1, 1, 1)
    plan = TrainingPlan(colour_jitter=0.0, erase=1.0, flip=False)
    erased = augment(pictures, 32, plan=plan, generator=torch.Generator().manual_seed(3))
    for before, after in zip(pictures, erased, strict=True):
        rows, columns = torch.nonzero((before != after).any(0), as_tuple=True)
        assert len(rows) > 0
        box = after[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert len(box.unique()) == 1
        assert box[0].numel() < 32 * 32 / 4


def test_loaded_pictures_hold_the_crop_that_the_network_will_see(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = []
    for k, size in enumerate([(90, 60, 3), (60, 90, 3), (70, 70, 3)]):
        paths.append(tmp_path / f"{k}.png")
        Image.fromarray(rng.integers(0, 255, size=size, dtype=np.uint8)).save(paths[-1])
    loaded = load_pictures(paths, SMALL, max_pixels=10_000)
    assert loaded.shape == (3, 3, 36, 36)
    assert loaded.dtype == torch.uint8
    for path, pixels in zip(paths, loaded, strict=True):
        with Image.open(path) as picture:
            assert torch.equal(pixels[:, 2:34, 2:34], SMALL.crop_uint8(picture))


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(VreidError, match=r"broken\.jpg") as caught:
        load_pictures([tmp_path / "broken.jpg"], SMALL, max_pixels=10_000)
    assert caught.value.file == str(tmp_path / "broken.jpg")
