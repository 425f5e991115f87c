"""Batches of decoded images."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from extraction_bench import SMALL, Bench
from torch.utils.data._utils.pin_memory import pin_memory

from vreid_cli.data.decoding import decode_rgb
from vreid_cli.extraction.loading import Batch, ImageDataset, Preparation, VideoDataset, load_batches


def test_loader_keeps_the_order_and_separates_the_bad(bench: Bench):
    bench.image("0002_c001/1.png").write_bytes(b"no image")
    records = bench.listing().records
    dataset = Preparation(records, SMALL, 10**6)
    batches = list(load_batches(dataset, [[0, 1, 2], [3, 4], [5]], workers=0, pin_memory=False))
    assert [batch.indices for batch in batches] == [[0, 1, 2], [4], [5]]
    assert [index for batch in batches for index, _ in batch.bad] == [3]
    expected = SMALL.crop_uint8(decode_rgb(records[4].path, max_pixels=10**6))
    assert torch.equal(batches[1].pixels[0], expected)
    (only_bad,) = load_batches(dataset, [[3]], workers=0, pin_memory=False)
    assert (only_bad.indices, len(only_bad.bad)) == ([], 1)


def test_batches_are_pinned_as_torch_asks_for_it(monkeypatch: pytest.MonkeyPatch):
    pinned: list[int] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: (pinned.append(len(tensor)), tensor)[1])
    batch = Batch([3, 4], torch.zeros(2, 3, 8, 8, dtype=torch.uint8), [(5, "empty")], 0.5)
    found = pin_memory(batch)
    assert pinned == [2]
    assert (found.indices, found.bad, found.decode_seconds) == (batch.indices, batch.bad, batch.decode_seconds)


@pytest.mark.parametrize("dataset", [ImageDataset, lambda preparation: VideoDataset(preparation, [[0, 1], [2]])])
def test_decoding_processes_that_are_no_forks_get_all_they_need(bench: Bench, dataset: Callable[..., Any]):
    # Windows and macOS start them so, and Python does everywhere from 3.14 on.
    there = pickle.loads(pickle.dumps(dataset(Preparation(bench.listing().records, SMALL, 10**6))))
    first = next(iter(there)) if isinstance(there, VideoDataset) else there[0]
    pixels = first.pixels[0] if isinstance(first, Batch) else first[1]
    assert torch.equal(pixels, SMALL.crop_uint8(decode_rgb(bench.listing().records[0].path, max_pixels=10**6)))
