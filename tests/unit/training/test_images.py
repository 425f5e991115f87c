"""Reading training images, and the pieces of batches that workers prepare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toys import SMALL, records

from vreid_cli.errors import DataError
from vreid_cli.training.images import ImageFiles, ReadImages, TrainingSet, decode_images, load_pieces
from vreid_cli.training.options import TrainingOptions


def read(folder: Path, *, memory: int = 0, workers: int = 0) -> ReadImages:
    images = records(*"abcd", folder=folder)
    return decode_images(images, transform=SMALL, max_pixels=10_000, memory=memory, workers=workers)


def training_set(folder: Path, *, workers: int = 0) -> TrainingSet:
    return TrainingSet(read(folder).images, np.arange(3), ("a", "b", "d"), SMALL, workers=workers)


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
    good = read(folder, memory=memory, workers=workers)
    assert isinstance(good.images, torch.Tensor if memory else ImageFiles)
    assert [record.image_id for record, _ in good.bad] == ["2.png"]
    assert "not an image" in good.bad[0][1]
    assert [record.vehicle_id for record in good.records] == ["a", "b", "d"]
    assert len(good.images) == 3
    for record, pixels in zip(good.records, (good.images[k] for k in range(3)), strict=True):
        assert pixels.shape == (3, 36, 36)
        with Image.open(record.path) as image:
            assert torch.equal(pixels[:, 2:34, 2:34], SMALL.crop_uint8(image))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_vanishes_while_learning_is_named(folder: Path, workers: int):
    data = training_set(folder, workers=workers)
    (folder / "1.png").unlink()
    pieces = load_pieces(data, [[(0, 0)], [(1, 1)]], options=TrainingOptions(), seed=(0,))
    next(pieces)
    with pytest.raises(DataError, match=r"1\.png: the file is not there") as caught:
        next(pieces)
    assert "--resume" in str(caught.value.hint)


def test_pieces_do_not_depend_on_how_many_prepare_them(folder: Path):
    pieces = [[(0, 0), (1, 1)], [(2, 2), (0, 3)], [(1, 4)]]
    options = TrainingOptions(zoom=0.5, flip=True, jitter=0.3, erase=0.5)

    def load(workers: int, seed: tuple[int, ...] = (0, 1)) -> list[torch.Tensor]:
        return list(load_pieces(training_set(folder, workers=workers), pieces, options=options, seed=seed))

    alone, helped, otherwise = load(0), load(2), load(0, seed=(0, 2))
    assert [len(pixels) for pixels in alone] == [2, 2, 1]
    assert all(torch.equal(one, other) for one, other in zip(alone, helped, strict=True))
    # The same image at another place, or in another epoch, is augmented otherwise.
    assert not torch.equal(alone[0][0], alone[1][1])
    assert not torch.equal(alone[0], otherwise[0])
