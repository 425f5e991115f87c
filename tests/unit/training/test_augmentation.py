"""Augmentation: what may change, by how much, and from which random numbers."""

from __future__ import annotations

import random as plain_random

import numpy as np
import torch

from vreid_cli.training.augmentation import augment
from vreid_cli.training.batches import random_source
from vreid_cli.training.options import TrainingOptions


def noise(side: int = 36) -> torch.Tensor:
    return torch.randint(0, 256, (3, side, side), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)


def change(image: torch.Tensor, crop: int, seed: int = 0, **recipe: object) -> torch.Tensor:
    return augment(image, (crop, crop), options=TrainingOptions(**recipe), random=random_source(seed))


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


def test_a_change_depends_on_its_own_random_numbers_alone():
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
