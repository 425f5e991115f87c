"""Computing parts: decoding processes, batches on their way, and where the time goes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from extraction_bench import IMAGES, SMALL, Bench, CountingInference, load_tiny
from PIL import Image

from vreid_cli.errors import VreidError
from vreid_cli.extraction.compute import compute_parts
from vreid_cli.extraction.options import ExtractionOptions
from vreid_cli.extraction.parts import first_parts
from vreid_cli.models.transforms import Transform


def test_each_part_has_the_features_of_its_images(bench: Bench):
    bench.run()
    listing = bench.listing()
    options = ExtractionOptions(part_images=4, workers=0)
    results = list(
        compute_parts(first_parts(listing.records, part_images=4), inference=CountingInference(), options=options)
    )
    assert [len(result.part.records) for result in results] == [5, 5, 4]
    stored = bench.features()
    for result in results:
        for record, row in zip(result.records(), result.features, strict=True):
            assert (stored.pop(record.image_id) == row).all()
    assert stored == {}
    assert results[0].recorded["batch_size"] == "4"


def test_workers_make_the_same_bytes(bench: Bench):
    bench.image("0002_c001/1.png").write_bytes(b"no image")
    bench.run()
    assert bench.files(bench.undisturbed(workers=2)) == bench.files()


@pytest.mark.parametrize("workers", [0, 1])
def test_timings_say_where_the_time_went(bench: Bench, workers: int):
    timings = bench.run(workers=workers).timings
    assert timings.workers == workers
    assert min(timings.wait, timings.compute, timings.write, timings.decode) > 0
    again = bench.run(workers=workers).timings
    assert (again.wait, again.compute, again.decode, again.write) == (0, 0, 0, 0)


@dataclass(frozen=True)
class Failing(Transform):
    """Fails in the process that decodes."""

    fail: Callable[[], None] = lambda: None

    def crop_uint8(self, image: Image.Image) -> torch.Tensor:
        self.fail()
        return super().crop_uint8(image)


def decoding(fail: Callable[[], None]) -> Callable[[], CountingInference]:
    return lambda: CountingInference(load_tiny(transform=Failing(SMALL.resize, SMALL.crop, fail=fail)))


def test_dead_worker_is_told_in_words(bench: Bench):
    bench.make = decoding(lambda: os._exit(9))
    with pytest.raises(VreidError, match="decodes images died") as caught:
        bench.run(workers=1)
    assert "--workers 0" in (caught.value.hint or "")


def test_error_inside_a_living_worker_is_not_taken_for_its_death(bench: Bench):
    def fail() -> None:
        raise RuntimeError("a bug")

    bench.make = decoding(fail)
    with pytest.raises(RuntimeError, match="a bug"):
        bench.run(workers=1)


def test_too_many_pixels_are_refused_while_computing(bench: Bench):
    parts = first_parts(bench.listing().records, part_images=100)
    options = ExtractionOptions(workers=0, max_pixels=48 * 44 - 1)
    (result,) = compute_parts(parts, inference=CountingInference(), options=options)
    assert (len(result.kept), len(result.skipped), result.features.shape) == (0, IMAGES, (0, 10))
    (result,) = compute_parts(
        parts, inference=CountingInference(), options=options.model_copy(update={"max_pixels": 48 * 44})
    )
    assert len(result.kept) == IMAGES
