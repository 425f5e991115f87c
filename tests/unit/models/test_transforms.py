"""The input of the networks against torchvision's own pipeline, bit for bit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms as T  # noqa: N812 - the name that everyone knows

from vreid_cli.errors import WeightsError
from vreid_cli.models.transforms import IMAGENET_MEAN, IMAGENET_STD, Transform

SIZES = [(224, 224), (256, 256), (257, 255), (300, 451), (451, 300), (97, 33), (33, 97), (1, 1), (3, 120), (640, 481)]


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def torchvisions_own(transform: Transform) -> T.Compose:
    return T.Compose(
        [
            T.Resize(transform.resize),
            T.CenterCrop(transform.crop),
            T.ToTensor(),
            T.Normalize(transform.mean, transform.std),
        ]
    )


def ours(transform: Transform, image: Image.Image) -> torch.Tensor:
    return transform.normalise(transform.crop_uint8(image)[None])[0]


@pytest.mark.parametrize(("resize", "crop"), [(256, 224), (342, 299), (40, 32), (41, 32), (40, 33)])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_equals_torchvisions_pipeline_bit_for_bit(resize: int, crop: int, width: int, height: int):
    transform = Transform(resize, crop)
    image = noise(width, height)
    assert torch.equal(ours(transform, image), torchvisions_own(transform)(image))


@given(width=st.integers(1, 90), height=st.integers(1, 90), resize=st.integers(8, 48), margin=st.integers(0, 7))
def test_equals_torchvisions_pipeline_for_any_size(width: int, height: int, resize: int, margin: int):
    transform = Transform(resize, resize - margin)
    image = noise(width, height, seed=width * 100 + height)
    assert torch.equal(ours(transform, image), torchvisions_own(transform)(image))


def test_long_side_is_truncated():
    # 451 · 256 / 300 = 384.85…: 384, not 385. The crop's left edge follows from it.
    image = noise(451, 300)
    by_hand = image.resize((384, 256), Image.Resampling.BILINEAR).crop((80, 16, 304, 240))
    expected = torch.from_numpy(np.array(by_hand)).permute(2, 0, 1)
    assert torch.equal(Transform(256, 224).crop_uint8(image), expected)


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("interpolation", [T.InterpolationMode.BILINEAR, T.InterpolationMode.BICUBIC])
def test_squash_equals_torchvisions_resize_to_both_sides(width: int, height: int, interpolation: T.InterpolationMode):
    image = noise(width, height)
    expected = T.Compose([T.Resize((48, 32), interpolation), T.ToTensor(), T.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    transform = Transform(None, (48, 32), interpolation=interpolation.value)
    assert torch.equal(ours(transform, image), expected(image))


def test_bgr_reverses_the_channels_before_mean_and_deviation():
    image = noise(20, 20)
    blue_first = Transform(20, 20, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0), channels="bgr")
    by_hand = np.asarray(image)[:, :, ::-1].astype(np.float64) / 255
    by_hand = (by_hand - [0.1, 0.2, 0.3]) / [0.5, 1.0, 2.0]
    assert ours(blue_first, image).permute(1, 2, 0).numpy() == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize("transform", [Transform(40, 32), Transform(24, (16, 20)), Transform(None, (16, 20))])
def test_the_whole_images_centre_is_the_input(transform: Transform):
    image = noise(50, 33)
    whole = transform.whole().crop_uint8(image)
    assert torch.equal(T.functional.center_crop(whole, list(transform.size)), transform.crop_uint8(image))


def test_normalise_changes_neither_its_input_nor_the_batch_order():
    transform = Transform(40, 32)
    pixels = torch.stack([transform.crop_uint8(noise(50, 60, seed)) for seed in range(3)])
    before = pixels.clone()
    together = transform.normalise(pixels)
    assert torch.equal(pixels, before)
    for index in range(3):
        assert torch.equal(together[index], transform.normalise(pixels[index : index + 1])[0])


def test_normalise_by_hand():
    pixels = torch.tensor([0, 128, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    expected = [
        (value / 255 - mean) / std for value, mean, std in zip([0, 128, 255], IMAGENET_MEAN, IMAGENET_STD, strict=True)
    ]
    assert Transform(1, 1).normalise(pixels).flatten().tolist() == pytest.approx(expected, rel=1e-6)


def test_identity_tells_transforms_apart():
    some = [
        Transform(256, 224),
        Transform(256, 223),
        Transform(255, 224),
        Transform(256, 224, mean=(0.5, 0.5, 0.5)),
        Transform(256, 224, std=(0.5, 0.5, 0.5)),
        Transform(None, 224),
        Transform(256, (224, 223)),
        Transform(256, 224, interpolation="bicubic"),
        Transform(256, 224, channels="bgr"),
    ]
    assert len({transform.identity for transform in some}) == len(some)
    assert Transform(256, 224).identity == Transform(256, 224, IMAGENET_MEAN, IMAGENET_STD).identity


@pytest.mark.parametrize(
    "transform",
    [
        Transform(72, 64, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.5)),
        Transform(None, (256, 128), interpolation="bicubic", channels="bgr"),
    ],
)
def test_json_round_trip(transform: Transform):
    assert Transform.from_values(json.loads(transform.to_json())) == transform


def test_files_of_before_there_was_a_choice_are_read():
    text = '{"resize": 72, "crop": 64, "mean": [0.1, 0.2, 0.3], "std": [1, 2, 3]}'
    assert Transform.from_values(json.loads(text)) == Transform(72, 64, (0.1, 0.2, 0.3), (1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    "text",
    [
        '"{"',
        "[]",
        "null",
        "{}",
        json.dumps({"resize": "x", "crop": 1, "mean": [0, 0, 0], "std": [1, 1, 1]}),
        json.dumps({"resize": 8, "crop": 8, "mean": [0, 0], "std": [1, 1, 1]}),
        json.dumps({"resize": 8, "crop": 0, "mean": [0, 0, 0], "std": [1, 1, 1]}),
        json.dumps({"resize": 8, "crop": 9, "mean": [0, 0, 0], "std": [1, 1, 1]}),
        json.dumps({"resize": 8, "crop": 8, "mean": [0, 0, 0], "std": [1, 0, 1]}),
        json.dumps({"resize": None, "crop": [8], "mean": [0, 0, 0], "std": [1, 1, 1]}),
        json.dumps({"resize": 8, "crop": 8, "mean": [0, 0, 0], "std": [1, 1, 1], "channels": "grb"}),
        '{"resize": Infinity, "crop": 8, "mean": [0, 0, 0], "std": [1, 1, 1]}',
    ],
)
def test_damaged_json_is_refused(text: str):
    with pytest.raises(WeightsError, match="transform"):
        Transform.from_values(json.loads(text))
