"""The parts of training, each against an oracle of its own: batches, changes, losses, vehicles, images, rates."""

from __future__ import annotations

import hashlib
import math
import random as plain_random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vreid_cli.errors import DataError, UsageError
from vreid_cli.models.transforms import Transform
from vreid_cli.training.augmentation import augment
from vreid_cli.training.batches import check_batches, plan_epoch, random_source
from vreid_cli.training.images import ImageFiles, ImagesInMemory, load_lessons, read_images
from vreid_cli.training.losses import Criterion
from vreid_cli.training.options import TrainingOptions
from vreid_cli.training.train import learning_rate
from vreid_cli.training.vehicles import divide, fingerprint, number_vehicles
from vreid_cli.types.images import ImageRecord

SMALL = Transform(resize=36, crop=32)


# ---- batches


@given(
    counts=st.lists(st.integers(2, 9), min_size=4, max_size=20),
    per_vehicle=st.integers(2, 4),
    vehicles=st.integers(2, 4),
    seed=st.integers(0, 99),
)
def test_a_batch_holds_k_images_of_each_of_p_vehicles(counts, per_vehicle, vehicles, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    size = {"batch_size": per_vehicle * vehicles, "per_vehicle": per_vehicle}
    batches = plan_epoch(labels, **size, pieces=1, random=random_source(seed))
    assert batches
    seen: Counter[int] = Counter()
    for batch in batches:
        classes = labels[batch].reshape(vehicles, per_vehicle)
        assert (classes == classes[:, :1]).all()
        assert len(set(classes[:, 0])) == vehicles
        for row, label in zip(batch.reshape(vehicles, per_vehicle), classes[:, 0], strict=True):
            # Only vehicles with fewer than K images repeat one within a batch.
            assert len(set(row)) == min(per_vehicle, counts[label])
        seen.update(batch.tolist())
    # No image comes oftener than filling up a vehicle's last hand explains.
    assert max(seen.values()) <= 1 + -(-per_vehicle // 2)
    left = [
        label for label, count in enumerate(counts) if sum(seen[row] for row in np.flatnonzero(labels == label)) < count
    ]
    assert len(left) < vehicles, "P vehicles still had images, so there was another batch in them"


@given(count=st.integers(4, 60), size=st.integers(2, 12), pieces=st.integers(1, 3), seed=st.integers(0, 9))
def test_images_in_random_order_come_once_an_epoch(count, size, pieces, seed):
    labels = np.zeros(count, dtype=np.int64)
    batches = plan_epoch(labels, batch_size=size * pieces, per_vehicle=0, pieces=pieces, random=random_source(seed))
    rows = [row for batch in batches for row in batch.tolist()]
    assert len(set(rows)) == len(rows)
    assert all(len(batch) % pieces == 0 and len(batch) >= 2 * pieces for batch in batches)
    assert all(len(batch) == size * pieces for batch in batches[:-1])
    assert count - len(rows) < 2 * pieces + pieces


def test_epochs_differ_and_the_same_epoch_is_the_same():
    labels = np.repeat(np.arange(6), 4)
    for per_vehicle in (0, 2):
        plans = [
            np.concatenate(
                plan_epoch(labels, batch_size=8, per_vehicle=per_vehicle, pieces=1, random=random_source(1, n))
            )
            for n in (1, 1, 2)
        ]
        assert (plans[0] == plans[1]).all()
        assert plans[0].tolist() != plans[2].tolist()


@pytest.mark.parametrize(
    ("counts", "size", "per_vehicle", "passes", "processes", "error", "told"),
    [
        ([3, 1, 3, 1], 4, 2, 1, 1, DataError, "2 of 4 have one: v1, v3"),
        ([3], 4, 0, 1, 1, DataError, "1 vehicle"),
        ([3, 3], 6, 2, 1, 1, UsageError, "3 vehicles x 2 images: there are 2"),
        ([3, 3, 3], 5, 2, 1, 1, UsageError, "not two vehicles or more with 2 images each"),
        ([3, 3, 3], 2, 2, 1, 1, UsageError, "not two vehicles or more"),
        ([3, 3, 3, 3], 12, 4, 2, 1, UsageError, "for each of 2 forward passes"),
        ([3, 3], 7, 0, 2, 1, UsageError, "cannot be divided into 2 equal pieces"),
        ([3, 3], 7, 0, 1, 2, UsageError, "2 processes x 1 passes"),
        ([3, 3, 3, 3], 4, 2, 2, 2, UsageError, "4 equal pieces of two"),
        ([1, 1], 8, 0, 2, 1, DataError, "2 images cannot fill 2 pieces"),
    ],
)
def test_what_makes_no_batches_is_refused(counts, size, per_vehicle, passes, processes, error, told):
    labels = np.repeat(np.arange(len(counts)), counts)
    names = [f"v{k}" for k in range(len(counts))]
    numbers = {"batch_size": size, "per_vehicle": per_vehicle, "passes": passes, "processes": processes}
    with pytest.raises(error, match=told) as caught:
        check_batches(names, labels, **numbers)
    assert caught.value.hint or error is DataError


def test_the_hint_about_batches_is_right():
    labels = np.repeat(np.arange(5), 3)
    names = [f"v{k}" for k in range(5)]
    with pytest.raises(UsageError) as caught:
        check_batches(names, labels, batch_size=24, per_vehicle=2, passes=2, processes=1)
    best = int(str(caught.value.hint).rpartition(" ")[2])
    assert best == 8
    check_batches(names, labels, batch_size=best, per_vehicle=2, passes=2, processes=1)


# ---- changes


def noise(side: int = 36) -> torch.Tensor:
    return torch.randint(0, 256, (3, side, side), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)


def change(image: torch.Tensor, crop: int, seed: int = 0, **recipe: object) -> torch.Tensor:
    return augment(image, crop, recipe=TrainingOptions(**recipe), random=random_source(seed))


def test_without_any_change_a_crop_of_the_image_is_left():
    image, places = noise(), set()
    for seed in range(8):
        crop = change(image, 32, seed)
        found = [(y, x) for y in range(5) for x in range(5) if torch.equal(image[:, y : y + 32, x : x + 32], crop)]
        assert len(found) == 1
        places.update(found)
    assert len(places) > 3


def test_half_of_the_images_are_mirrored():
    image = noise()
    mirrored = [torch.equal(change(image, 36, seed, flip=True), image.flip(2)) for seed in range(40)]
    straight = [torch.equal(change(image, 36, seed, flip=True), image) for seed in range(40)]
    assert all(one != other for one, other in zip(mirrored, straight, strict=True))
    assert 10 < sum(mirrored) < 30


def test_erasing_paints_one_colour_over_a_rectangle():
    image, painted = noise(), 0
    for seed in range(20):
        erased = change(image, 36, seed, erase=1.0)
        rows, columns = torch.nonzero((erased != image).any(0), as_tuple=True)
        if not len(rows):
            continue
        painted += 1
        box = erased[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert all(len(channel.unique()) == 1 for channel in box)
        assert 0.015 * 36 * 36 <= box[0].numel() <= 0.33 * 36 * 36
    assert painted >= 18


def test_zoom_cuts_out_a_part_and_enlarges_it():
    # Each pixel holds its own column, so the cut is read off the result.
    ramp = torch.arange(0, 216, 6, dtype=torch.uint8).expand(3, 36, 36).contiguous()
    widths = []
    for seed in range(30):
        row = change(ramp, 36, seed, zoom=0.25)[0, 18].float() / 6
        assert (row.diff() >= 0).all()
        widths.append(float(row[-1] - row[0]))
    assert 0.25 * 36 < min(widths) < 24
    assert max(widths) > 30


def test_light_and_tint_stay_within_what_the_recipe_allows():
    grey = torch.full((3, 36, 36), 100, dtype=torch.uint8)
    tinted = [change(grey, 36, seed, tint=0.2)[:, 0, 0].tolist() for seed in range(30)]
    flat = [value for one in tinted for value in one]
    assert 80 <= min(flat) < 85
    assert 115 < max(flat) <= 120
    assert any(len(set(one)) == 3 for one in tinted)
    bright = [change(grey, 36, seed, jitter=0.2)[:, 0, 0].tolist() for seed in range(30)]
    # Brightness alone moves a flat grey; contrast and saturation have nothing to work on.
    assert all(max(one) - min(one) <= 1 for one in bright)
    assert 79 <= min(map(min, bright)) < 85


def test_a_change_depends_on_its_own_source_of_chance_alone():
    recipe = {"zoom": 0.5, "flip": True, "jitter": 0.3, "tint": 0.2, "erase": 0.5}
    image = noise()
    before = image.clone()
    first = change(image, 32, 3, **recipe)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - the global state must not matter
    plain_random.seed(99)
    state = torch.random.get_rng_state()
    assert torch.equal(change(image, 32, 3, **recipe), first)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(change(image, 32, 4, **recipe), first)
    assert torch.equal(image, before)


# ---- losses


def oracle_cross_entropy(scores: np.ndarray, targets: list[int], smoothing: float) -> float:
    total = 0.0
    for row, target in zip(scores, targets, strict=True):
        logs = [value - math.log(sum(math.exp(other) for other in row)) for value in row]
        total -= (1 - smoothing) * logs[target] + smoothing * sum(logs) / len(logs)
    return total / len(targets)


def oracle_batch_hard(embeddings: np.ndarray, targets: list[int], margin: float) -> float:
    total = 0.0
    for i, anchor in enumerate(embeddings):
        far = max(
            np.linalg.norm(anchor - embeddings[j]) for j in range(len(targets)) if targets[j] == targets[i] and j != i
        )
        near = min(np.linalg.norm(anchor - embeddings[j]) for j in range(len(targets)) if targets[j] != targets[i])
        total += max(0.0, far - near + margin)
    return total / len(targets)


@pytest.mark.parametrize("margin", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("spread", [0.1, 1.0, 30.0])
def test_losses_by_the_formula(margin: float, spread: float):
    generator = np.random.default_rng(4)
    targets = [0, 0, 1, 1, 1, 2, 2, 0]
    centres = generator.normal(size=(3, 6)) * spread
    embeddings = centres[targets] + generator.normal(size=(8, 6))
    scores = generator.normal(size=(8, 5))
    criterion = Criterion(TrainingOptions(triplet=0.7, margin=margin, label_smoothing=0.1))
    losses = criterion(
        torch.tensor(embeddings, dtype=torch.float32),
        torch.tensor(scores, dtype=torch.float32),
        targets=torch.tensor(targets),
    )
    cross_entropy, triplet = oracle_cross_entropy(scores, targets, 0.1), oracle_batch_hard(embeddings, targets, margin)
    assert float(losses.cross_entropy) == pytest.approx(cross_entropy, rel=1e-5)
    assert float(losses.triplet) == pytest.approx(triplet, rel=1e-5, abs=1e-6)
    assert float(losses.total) == pytest.approx(cross_entropy + 0.7 * triplet, rel=1e-5)


def test_without_a_triplet_loss_cross_entropy_is_all():
    scores = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    losses = Criterion(TrainingOptions())(torch.zeros(4, 2), scores, targets=torch.tensor([0, 1, 2, 0]))
    assert float(losses.triplet) == 0
    assert float(losses.total) == pytest.approx(oracle_cross_entropy(scores.numpy(), [0, 1, 2, 0], 0.0), rel=1e-5)


def test_without_pytorch_metric_learning_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vreid_cli.runtime.extras.find_spec", lambda name: None)
    Criterion(TrainingOptions())
    with pytest.raises(UsageError, match="pytorch_metric_learning") as caught:
        Criterion(TrainingOptions(triplet=1.0))
    assert caught.value.hint is not None
    assert 'pip install "vreid[train]"' in caught.value.hint


# ---- the learning rate


def test_the_rate_rises_in_a_line_and_falls_along_a_cosine():
    recipe = TrainingOptions(learning_rate=2.0, schedule="cosine", warm_up=0.2)
    points = [0.0, 0.05, 0.1, 0.2, 0.6, 1.0]
    assert [learning_rate(recipe, at) for at in points] == pytest.approx([0, 0.5, 1, 2, 1, 0], abs=1e-12)
    constant = TrainingOptions(learning_rate=2.0, warm_up=0.5)
    assert [learning_rate(constant, at) for at in (0.25, 0.5, 0.9)] == [1, 2, 2]
    assert learning_rate(TrainingOptions(learning_rate=2.0), 0.0) == 2


# ---- vehicles


def records(*vehicles: str | None, folder: Path = Path("none")) -> list[ImageRecord]:
    return [ImageRecord(f"{k}.png", folder / f"{k}.png", f"t{k}", vehicle) for k, vehicle in enumerate(vehicles)]


def test_the_vehicles_with_the_smallest_digests_are_held_out():
    names = [f"car_{k}" for k in range(20)]
    divided = divide(records(*names, *names, None), held_out=7)
    expected = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:7]
    assert {record.vehicle_id for record in divided.held_out} == set(expected)
    assert len(divided.held_out) == 14
    assert {record.vehicle_id for record in divided.learned} == set(names) - set(expected)
    assert divided.unlabelled == 1
    share = divide(records(*names), held_out=0.31)
    assert {record.vehicle_id for record in share.held_out} == set(expected)
    assert not divide(records(*names), held_out=0).held_out


@pytest.mark.parametrize(
    ("names", "held_out", "error"),
    [
        ((None, None), 0, DataError),
        (("a", "b", "c"), 2, DataError),
        (("a", "b", "c", "d"), 1, DataError),
        (("a", "b", "c", "d"), 9, DataError),
        (("a", "b", "c", "d"), 2.5, UsageError),
    ],
)
def test_what_cannot_be_divided_is_refused(names, held_out, error):
    with pytest.raises(error) as caught:
        divide(records(*names), held_out=held_out)
    assert "held" in caught.value.message or "nothing to learn" in caught.value.message


def test_vehicles_are_numbered_by_name():
    classes, labels = number_vehicles(records("b", "a", "b", "c"))
    assert classes == ["a", "b", "c"]
    assert labels.tolist() == [1, 0, 1, 2]
    assert labels.dtype == np.int64


def test_the_fingerprint_tells_images_labels_and_sizes_apart(tmp_path: Path):
    for k in range(2):
        (tmp_path / f"{k}.png").write_bytes(b"x" * (k + 1))
    first = fingerprint(records("a", "b", folder=tmp_path))
    assert fingerprint(records("a", "b", folder=tmp_path)) == first
    assert fingerprint(records("a", "c", folder=tmp_path)) != first
    assert fingerprint(records("a", folder=tmp_path)) != first
    (tmp_path / "1.png").write_bytes(b"longer")
    assert fingerprint(records("a", "b", folder=tmp_path)) != first


# ---- images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for k, size in enumerate([(90, 60, 3), (60, 90, 3), (70, 70, 3), (40, 41, 3)]):
        Image.fromarray(generator.integers(0, 255, size=size, dtype=np.uint8)).save(tmp_path / f"{k}.png")
    (tmp_path / "2.png").write_bytes(b"no image")
    return tmp_path


@pytest.mark.parametrize("memory", [0, 1 << 30])
@pytest.mark.parametrize("workers", [0, 2])
def test_read_images_hold_the_crop_that_the_network_will_see(folder: Path, memory: int, workers: int):
    read = read_images(records(*"abcd", folder=folder), SMALL, max_pixels=10_000, memory=memory, workers=workers)
    assert isinstance(read.images, ImagesInMemory if memory else ImageFiles)
    assert [position for position, _ in read.bad] == [2]
    assert "not an image" in read.bad[0][1]
    assert [record.vehicle_id for record in read.records] == ["a", "b", "d"]
    assert len(read.images) == 3
    for record, pixels in zip(read.records, (read.images[k] for k in range(3)), strict=True):
        assert pixels.shape == (3, 36, 36)
        with Image.open(record.path) as image:
            assert torch.equal(pixels[:, 2:34, 2:34], SMALL.crop_uint8(image))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_image_that_vanishes_while_learning_is_named(folder: Path, workers: int):
    read = read_images(records(*"abcd", folder=folder), SMALL, max_pixels=10_000, memory=0, workers=0)
    (folder / "1.png").unlink()
    lessons = load_lessons(
        read.images,
        [[(0, 0)], [(1, 1)]],
        transform=SMALL,
        recipe=TrainingOptions(),
        seed=(0,),
        workers=workers,
        pin_memory=False,
    )
    next(lessons)
    with pytest.raises(DataError, match=r"1\.png: the file is not there") as caught:
        next(lessons)
    assert "--resume" in str(caught.value.hint)


def test_lessons_do_not_depend_on_how_many_prepare_them(folder: Path):
    read = read_images(records(*"abcd", folder=folder), SMALL, max_pixels=10_000, memory=0, workers=0)
    pieces = [[(0, 0), (1, 1)], [(2, 2), (0, 3)], [(1, 4)]]
    recipe = TrainingOptions(zoom=0.5, flip=True, jitter=0.3, erase=0.5)

    def load(workers: int, seed: tuple[int, ...] = (0, 1)) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return list(
            load_lessons(
                read.images, pieces, transform=SMALL, recipe=recipe, seed=seed, workers=workers, pin_memory=False
            )
        )

    alone, helped, otherwise = load(0), load(2), load(0, seed=(0, 2))
    assert [rows.tolist() for _, rows in alone] == [[0, 1], [2, 0], [1]]
    assert all(torch.equal(one[0], other[0]) for one, other in zip(alone, helped, strict=True))
    # The same image at another place, or in another epoch, is changed otherwise.
    assert not torch.equal(alone[0][0][0], alone[1][0][1])
    assert not torch.equal(alone[0][0], otherwise[0][0])
