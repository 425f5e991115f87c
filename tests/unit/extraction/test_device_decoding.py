"""JPEG files decoded by the device: how far from PIL, what goes PIL's way, and that nothing is mixed up or lost."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn
from toys import SMALL, tiny

from vreid_cli.data.decoding import Jpeg, decode_rgb, read_jpeg
from vreid_cli.data.listing import DataFolders, Listing
from vreid_cli.data.tracks import read_tracks
from vreid_cli.errors import DataError, DeviceError, UsageError
from vreid_cli.extraction import device_decoding
from vreid_cli.extraction.device_decoding import (
    SAMPLE,
    DecodingSummary,
    DeviceDecoder,
    Difference,
    Routes,
    decode_files,
    difference_of,
    require_device_decoding,
)
from vreid_cli.extraction.extract import ExtractionOptions, SplitSummary, extract_split
from vreid_cli.extraction.forward import Extractor
from vreid_cli.extraction.loading import Batch, ImageDataset, load_batches
from vreid_cli.models.network import build_random
from vreid_cli.models.weights import LoadedNetwork, weights_digest
from vreid_cli.store.features import FeatureStore
from vreid_cli.types.images import ImageRecord

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]
LIMIT = 1_000_000
#: Mean absolute difference from PIL, of 255. 0.042 was the most that was measured on a CPU with these images;
#: nvJPEG was not measured: its bound tells an image from another one, or from one with other colours.
FARTHEST = {"cpu": 0.05, "cuda": 4.0}


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


def drawing(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth, so that what is left of colours at half their resolution is alike for all decoders."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def as_bytes(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def save(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def exact(path: Path, box: tuple[float, float, float, float] | None = None) -> torch.Tensor:
    return SMALL.crop_uint8(decode_rgb(path, max_pixels=LIMIT, box=box))


def distance(pixels: torch.Tensor, path: Path) -> float:
    return float((pixels.cpu().double() - exact(path).double()).abs().mean())


def load(records: Sequence[ImageRecord]) -> Batch:
    """All of them in one batch, as the workers leave it."""
    dataset = ImageDataset(records, SMALL, max_pixels=LIMIT, leave_jpegs=True)
    (batch,) = load_batches(dataset, [list(range(len(records)))], workers=0, pin_memory=False)
    return batch


def record(path: Path, **options: object) -> ImageRecord:
    return ImageRecord(path.name, path, track_id=path.parent.name, **options)


def decoder_on(device: torch.device) -> DeviceDecoder:
    return DeviceDecoder(device, SMALL, max_pixels=LIMIT)


# -- one batch ----------------------------------------------------------------------------------------------


KINDS = {
    "usual.jpg": as_bytes(drawing(88, 117)),
    "fine.jpg": as_bytes(drawing(90, 64), quality=95, subsampling=0),
    "odd.jpg": as_bytes(drawing(61, 37), subsampling=2),
    "grey.jpg": as_bytes(drawing(70, 50).convert("L")),
    "narrow.jpg": as_bytes(drawing(11, 400)),
    "low.jpg": as_bytes(drawing(400, 9)),
    "tiny.jpg": as_bytes(drawing(3, 2)),
    "large.jpg": as_bytes(drawing(900, 700)),
    "progressive.jpg": as_bytes(drawing(120, 90), progressive=True),
    "own-size.jpg": as_bytes(drawing(36, 36)),
}


def test_jpegs_of_all_shapes_are_near_to_what_pil_makes_of_them(tmp_path: Path, device: torch.device):
    paths = [save(tmp_path / name, content) for name, content in KINDS.items()]
    decoder = decoder_on(device)
    batch = load([record(path) for path in paths])
    assert [row for row, _ in batch.waiting] == list(range(len(paths)))
    assert (len(batch.pixels), batch.bad) == (0, [])
    done = decoder.complete(batch)
    assert (done.indices, done.waiting, done.bad) == (list(range(len(paths))), [], [])
    assert (done.pixels.dtype, tuple(done.pixels.shape)) == (torch.uint8, (len(paths), 3, 32, 32))
    assert done.pixels.device.type == device.type
    found = {path.name: distance(pixels, path) for path, pixels in zip(paths, done.pixels, strict=True)}
    assert max(found.values()) <= FARTHEST[device.type], found
    assert sum(vars(decoder.summary().routes).values()) == len(paths)


def rgb_inside() -> bytes:
    return as_bytes(drawing(40, 40), keep_rgb=True)


def test_whatever_is_no_plain_jpeg_goes_pils_exact_way_in_the_same_batch(tmp_path: Path, device: torch.device):
    plain = as_bytes(drawing(60, 44, seed=1))
    others = {
        "a.png": as_bytes(drawing(60, 44), "PNG"),
        "b.jpg": as_bytes(drawing(60, 44, seed=3), "PNG"),  # of a wrong name
        "c.jpg": as_bytes(drawing(60, 44, seed=4).convert("CMYK")),
        "d.jpg": rgb_inside(),
        "e.jpg": plain + b"camera's own appendix",
        "f.jpg": as_bytes(drawing(60, 44), "MPO", save_all=True, append_images=[drawing(60, 44, seed=9)]),
    }
    records = [record(save(tmp_path / name, content)) for name, content in others.items()]
    boxed = record(save(tmp_path / "g.jpg", plain), box=(4, 5, 30, 31))
    jpegs = [record(save(tmp_path / name, plain)) for name in ("h.jpg", "i.jpg")]
    mixed = [jpegs[0], *records[:3], jpegs[1], *records[3:], boxed]
    batch = load(mixed)
    assert [row for row, _ in batch.waiting] == [0, 4]
    decoder = decoder_on(device)
    done = decoder.complete(batch)
    assert done.indices == list(range(len(mixed)))
    for row, one in enumerate(mixed):
        if one in jpegs:
            assert distance(done.pixels[row], one.path) <= FARTHEST[device.type]
        else:
            assert torch.equal(done.pixels[row].cpu(), exact(one.path, one.box)), one.image_id
    assert decoder.summary().routes == Routes(on_device=2, by_pil=7, refused=0)


def test_a_batch_without_jpegs_is_left_as_it_is(tmp_path: Path, device: torch.device):
    batch = load([record(save(tmp_path / "a.png", as_bytes(drawing(60, 44), "PNG")))])
    decoder = decoder_on(device)
    assert decoder.complete(batch) is batch
    assert decoder.summary() == DecodingSummary(str(device), Routes(by_pil=1), None)


def huge_header() -> bytes:
    content = bytearray(as_bytes(drawing(60, 44)))
    size = content.index(b"\xff\xc0") + 5
    content[size : size + 4] = (50_000).to_bytes(2, "big") * 2
    return bytes(content)


def test_what_pil_refuses_by_the_header_or_for_its_end_is_refused_alike(tmp_path: Path, device: torch.device):
    whole = as_bytes(drawing(200, 150), quality=95)
    bad = {
        "empty.jpg": b"",
        "text.jpg": b"no image",
        "half.jpg": whole[: len(whole) // 2],
        "huge.jpg": huge_header(),
        "flat.jpg": as_bytes(drawing(600, 2)),
        "header.jpg": whole[:100],
    }
    records = [record(save(tmp_path / name, content)) for name, content in bad.items()]
    records += [record(tmp_path / "missing.jpg"), record(save(tmp_path / "good.jpg", whole))]
    by_pil = load_batches(ImageDataset(records, SMALL, max_pixels=LIMIT), [list(range(8))], workers=0, pin_memory=False)
    (expected,) = by_pil
    done = decoder_on(device).complete(load(records))
    assert (done.indices, done.bad) == (expected.indices, expected.bad)
    assert done.indices == [7]


def refusing(monkeypatch: pytest.MonkeyPatch, *, sizes: Sequence[int]) -> list[int]:
    """Let the device refuse files of these lengths; how many files were asked for at a time."""
    asked: list[int] = []

    def decode(contents: Sequence[bytes], device: torch.device) -> list[torch.Tensor]:
        asked.append(len(contents))
        if any(len(content) in sizes for content in contents):
            raise RuntimeError("Failed to decode jpeg stream: 2\nand more lines")
        return decode_files(contents, device)

    monkeypatch.setattr(device_decoding, "decode_files", decode)
    return asked


def damaged(content: bytes) -> bytes:
    """Whole by its end, without a table that it needs: PIL refuses it as well."""
    start = content.index(b"\xff\xdb")
    return content[:start] + content[start + 2 + int.from_bytes(content[start + 2 : start + 4], "big") :]


def test_what_the_device_refuses_is_tried_by_pil_and_named_if_that_fails_too(
    tmp_path: Path, device: torch.device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    contents = [as_bytes(drawing(60 + seed, 44, seed=seed)) for seed in range(5)]
    contents[3] = damaged(contents[3])
    records = [record(save(tmp_path / f"{row}.jpg", content)) for row, content in enumerate(contents)]
    asked = refusing(monkeypatch, sizes=[len(contents[1]), len(contents[3])])
    decoder = decoder_on(device)
    with caplog.at_level(logging.DEBUG, logger="vreid"):
        done = decoder.complete(load(records))
    assert asked == [5, 1, 1, 1, 1, 1]
    assert done.indices == [0, 1, 2, 4]
    ((index, reason),) = done.bad
    assert index == 3
    with pytest.raises(Exception, match="cannot be decoded"):
        decode_rgb(records[3].path, max_pixels=LIMIT)
    assert "cannot be decoded" in reason
    assert torch.equal(done.pixels[1].cpu(), exact(records[1].path))
    for row, index in enumerate(done.indices):
        assert distance(done.pixels[row], records[index].path) <= FARTHEST[device.type]
    assert decoder.summary().routes == Routes(on_device=3, by_pil=1, refused=2)
    assert f"{records[1].path}: refused by {device}, PIL is asked: Failed to decode jpeg stream: 2" in caplog.messages


def test_a_batch_of_which_nothing_is_left(tmp_path: Path, device: torch.device):
    broken = save(tmp_path / "a.jpg", damaged(as_bytes(drawing(60, 44))))
    done = decoder_on(device).complete(load([record(broken)]))
    assert (done.indices, len(done.pixels), [index for index, _ in done.bad]) == ([], 0, [0])


def test_pixels_of_another_size_than_the_header_says_are_not_taken(
    tmp_path: Path, device: torch.device, monkeypatch: pytest.MonkeyPatch
):
    path = save(tmp_path / "a.jpg", as_bytes(drawing(60, 44)))
    monkeypatch.setattr(device_decoding, "decode_files", lambda contents, on: [torch.zeros(3, 60, 44).byte().to(on)])
    decoder = decoder_on(device)
    assert torch.equal(decoder.complete(load([record(path)])).pixels[0].cpu(), exact(path))
    assert decoder.summary().routes == Routes(by_pil=1, refused=1)


def test_few_large_images_are_decoded_at_a_time(tmp_path: Path, device: torch.device, monkeypatch: pytest.MonkeyPatch):
    sizes = [(60, 40), (60, 40), (100, 100), (50, 50), (50, 50), (10, 10)]
    paths = [save(tmp_path / f"{row}.jpg", as_bytes(drawing(*size, seed=row))) for row, size in enumerate(sizes)]
    asked = refusing(monkeypatch, sizes=[])
    monkeypatch.setattr(device_decoding, "_AT_ONCE", 5_000)
    done = decoder_on(device).complete(load([record(path) for path in paths]))
    assert asked == [2, 1, 2, 1]
    for pixels, path in zip(done.pixels, paths, strict=True):
        assert distance(pixels, path) <= FARTHEST[device.type]


def test_the_decoder_waits_for_memory_that_is_still_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # torchvision decodes on a stream of its own: only this order keeps it from images that are still being cropped.
    paths = [save(tmp_path / f"{row}.jpg", as_bytes(drawing(60, 44, seed=row))) for row in range(2)]
    order: list[str] = []
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(
        device_decoding, "decode_files", lambda *asked: (order.append("decode"), decode_files(*asked))[1]
    )
    monkeypatch.setattr(device_decoding, "_AT_ONCE", 1)
    decoder = decoder_on(torch.device("cpu"))
    decoder._stream = SimpleNamespace(synchronize=lambda: order.append("wait"))
    assert len(decoder.complete(load([record(path) for path in paths])).pixels) == 2
    assert order == ["wait", "decode"] * 2


def test_workers_pass_files_on(tmp_path: Path):
    paths = [save(tmp_path / f"{row}.jpg", as_bytes(drawing(60, 44, seed=row))) for row in range(5)]
    dataset = ImageDataset([record(path) for path in paths], SMALL, max_pixels=LIMIT, leave_jpegs=True)
    first, second = load_batches(dataset, [[0, 1, 2], [3, 4]], workers=1, pin_memory=False)
    assert [jpeg for _, jpeg in first.waiting + second.waiting] == [
        Jpeg(path, 60, 44, path.read_bytes()) for path in paths
    ]
    assert [row for row, _ in second.waiting] == [0, 1]


def test_only_the_plain_kind_of_jpeg_is_read_so(tmp_path: Path):
    content = as_bytes(drawing(60, 44))
    path = save(tmp_path / "a.jpg", content)
    assert read_jpeg(path, max_pixels=60 * 44) == Jpeg(path, 60, 44, content)
    assert read_jpeg(save(tmp_path / "b.jpg", rgb_inside()), max_pixels=LIMIT) is None
    assert read_jpeg(save(tmp_path / "c.jpg", content[:-2]), max_pixels=LIMIT) is None


# -- a whole split ------------------------------------------------------------------------------------------


def _build() -> nn.Module:
    layers = [nn.Conv2d(3, 8, 5, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8, 5))


@dataclass
class Bench:
    """Tracks of images, a store, and one extraction after the other."""

    data: Path
    store: FeatureStore
    device: torch.device
    loaded: LoadedNetwork = field(init=False)

    def __post_init__(self) -> None:
        network = build_random(tiny(_build, "5"), seed=0).eval()
        self.loaded = LoadedNetwork(network, SMALL, "random", weights_digest(network))

    @property
    def listing(self) -> Listing:
        return read_tracks(DataFolders(self.data), "gallery")

    def extractor(self) -> Extractor:
        return Extractor(self.loaded, self.device, batch_size=4)

    def run(self, store: FeatureStore | None = None, **changes: object) -> SplitSummary:
        options = ExtractionOptions(
            identity={"architecture": "tiny"},
            recorded={"batch_size": "4"},
            facts={"dataset": "tracks", "weights": "random"},
            transform=SMALL,
            part_images=4,
            workers=0,
            max_pixels=LIMIT,
            strict=False,
            decode_on_device=True,
        )
        return extract_split(
            store or self.store, self.listing, extractor=self.extractor(), options=replace(options, **changes)
        )

    def features(self) -> dict[str, np.ndarray]:
        found = self.store.read()
        return dict(zip(found.image_id, found.matrix.take(np.arange(len(found))), strict=True))

    def recorded(self, store: FeatureStore | None = None) -> list[dict[str, str]]:
        there = store or self.store
        facts = [there.read_facts(part) for part in there.part_numbers()]
        return [dict(found.recorded) for found in facts if found is not None]


#: Images of each track; every third is no JPEG.
TRACKS = {"0001_c001": 3, "0002_c001": 5, "0003_c002": 2, "0004_c001": 4}


@pytest.fixture
def bench(tmp_path: Path, device: torch.device) -> Bench:
    seed = 0
    for track, count in TRACKS.items():
        for number in range(count):
            name, kind = ("a.png", "PNG") if seed % 3 == 2 else ("a.jpg", "JPEG")
            image = drawing(50 + seed, 70 - seed, seed)
            save(tmp_path / "data" / "gallery" / track / f"{number}{name}", as_bytes(image, kind))
            seed += 1
    return Bench(tmp_path / "data", FeatureStore(tmp_path / "store"), device)


def test_features_are_those_of_the_pixels_that_the_device_decodes(bench: Bench, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="vreid"):
        summary = bench.run()
    records = bench.listing.records
    assert (summary.images, summary.computed, summary.skipped) == (14, 14, ())
    assert summary.decoding is not None
    assert summary.decoding.routes == Routes(on_device=10, by_pil=4, refused=0)
    assert f"store: 10 images decoded on {bench.device}, 4 by PIL" in caplog.messages
    assert summary.effort.decode_on_device > 0
    features = bench.features()
    for one in records:
        if one.path.suffix == ".png":
            pixels = exact(one.path)[None]
        else:
            (image,) = decode_files([one.path.read_bytes()], bench.device)
            pixels = SMALL.crop_decoded(image)[None]
        expected = bench.extractor().compute(pixels)[0].numpy()
        np.testing.assert_allclose(features[one.image_id], expected, rtol=1e-5, atol=1e-6)


def test_the_difference_is_measured_first_told_and_kept_in_the_parts(bench: Bench, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="vreid"):
        summary = bench.run()
    assert summary.decoding is not None
    measured = summary.decoding.difference
    assert measured is not None
    jpegs = [one.path for one in bench.listing.records if one.path.suffix == ".jpg"]
    own = torch.stack([exact(path) for path in jpegs])
    decoded = [SMALL.crop_decoded(decode_files([path.read_bytes()], bench.device)[0]).cpu() for path in jpegs]
    steps = np.abs(torch.stack(decoded).numpy().astype(int) - own.numpy().astype(int))
    one, other = (bench.extractor().compute(p).double().numpy() for p in (torch.stack(decoded), own))
    relative = np.linalg.norm(one - other, axis=1) / np.linalg.norm(other, axis=1)
    assert (measured.images, measured.pixel_max) == (10, steps.max())
    assert measured.pixel_mean == pytest.approx(steps.mean())
    assert measured.latent_median == pytest.approx(np.median(relative), abs=1e-6)
    assert measured.latent_max == pytest.approx(relative.max(), abs=1e-6)
    assert caplog.messages[0] == f"decoding on {bench.device}: {measured.describe()}"
    for part in bench.recorded():
        assert part["torchvision"] == torchvision.__version__
        assert {key: part[key] for key in measured.recorded()} == measured.recorded()


def test_interrupted_and_resumed_it_ends_with_the_same_bytes(bench: Bench, tmp_path: Path):
    undisturbed = FeatureStore(tmp_path / "undisturbed")
    bench.run(undisturbed)
    bench.run()
    bench.store.part_path(1).unlink()
    summary = bench.run()
    assert 0 < summary.computed < 14
    for path in undisturbed.path.iterdir():
        assert (bench.store.path / path.name).read_bytes() == path.read_bytes(), path.name


def test_where_nothing_is_computed_nothing_is_compared(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    bench.run()
    monkeypatch.setattr(DeviceDecoder, "compare", lambda *_: pytest.fail("nothing is to be compared"))
    assert bench.run().decoding is None


def test_pil_decodes_everything_by_default(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(device_decoding, "decode_files", lambda *_: pytest.fail("PIL decodes"))
    summary = bench.run(decode_on_device=False)
    assert (summary.computed, summary.decoding, summary.effort.decode_on_device) == (14, None, 0.0)
    assert all("torchvision" not in part for part in bench.recorded())


def test_a_file_that_nobody_can_decode_is_skipped_by_name_and_stops_where_that_is_asked_for(bench: Bench):
    path = bench.data / "gallery" / "0002_c001" / "0a.jpg"
    path.write_bytes(damaged(path.read_bytes()))
    summary = bench.run()
    ((name, reason),) = [(entry.image_id, entry.reason) for entry in summary.skipped]
    assert name == "0002_c001/0a.jpg"
    assert "cannot be decoded" in reason
    assert summary.decoding is not None
    assert summary.decoding.routes == Routes(on_device=9, by_pil=4, refused=1)
    assert summary.images == 13
    with pytest.raises(DataError, match="cannot be decoded") as caught:
        bench.run(FeatureStore(bench.store.path.with_name("strict")), strict=True)
    assert caught.value.file == str(path)


# -- what is compared ---------------------------------------------------------------------------------------


def test_the_sample_is_spread_over_all_records(tmp_path: Path, device: torch.device):
    path = save(tmp_path / "a.jpg", as_bytes(drawing(60, 44)))
    opened: list[int] = []

    class Watched(Sequence[ImageRecord]):
        def __len__(self) -> int:
            return 1_000

        def __getitem__(self, index: int) -> ImageRecord:  # type: ignore[override]
            opened.append(index)
            return record(path)

    decoder = decoder_on(device)
    decoder.compare(Watched(), lambda pixels: pixels.flatten(1).float().cpu())
    assert len(opened) == SAMPLE
    assert np.diff([-1, *opened, 1_000]).max() <= 1_000 / SAMPLE + 2
    measured = decoder.summary().difference
    assert measured is not None
    assert measured.images == SAMPLE


def test_bad_images_and_other_formats_are_passed_over(
    tmp_path: Path, device: torch.device, caplog: pytest.LogCaptureFixture
):
    good = record(save(tmp_path / "good.jpg", as_bytes(drawing(60, 44))))
    bad = [record(tmp_path / "missing.jpg"), record(save(tmp_path / "empty.jpg", b"")), replace(good, box=(1, 1, 9, 9))]
    bad += [record(save(tmp_path / "broken.jpg", damaged(good.path.read_bytes())))]
    bad += [record(save(tmp_path / "a.png", as_bytes(drawing(60, 44), "PNG")))]
    decoder = decoder_on(device)
    decoder.compare([*bad, good, *bad], lambda pixels: pixels.flatten(1).float().cpu())
    measured = decoder.summary().difference
    assert measured is not None
    assert measured.images == 1
    none = decoder_on(device)
    with caplog.at_level(logging.INFO, logger="vreid"):
        none.compare(bad, lambda pixels: pytest.fail("there is nothing to compare"))
    assert "there was no JPEG file to compare" in caplog.text
    assert none.summary().difference is None
    assert none.recorded() == {"torchvision": torchvision.__version__}


def test_difference_by_hand():
    exact_pixels = torch.full((2, 3, 1, 1), 100, dtype=torch.uint8)
    decoded = exact_pixels.clone()
    decoded[0, 0] -= 9
    decoded[1, 2] += 3
    latent = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    other = torch.tensor([[3.0, 4.5], [0.0, 2.0]])
    found = difference_of((decoded, exact_pixels), (other, latent))
    assert found == Difference(2, 2.0, 9, pytest.approx(0.05), pytest.approx(0.1))
    assert found.describe() == (
        "pixels differ by 2 of 255 on average (at most 9), latent representations by 5 % of their length (at most 10 %)"
    )


# -- where it cannot be -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cpu", "mps"])
def test_only_cuda_decodes(name: str):
    with pytest.raises(UsageError, match=f"^--set extract.decode=device: only CUDA devices decode JPEG, {name} does"):
        require_device_decoding(torch.device(name), name="--set extract.decode=device")


def fail(reason: str, kind: type[Exception] = RuntimeError) -> Callable[..., None]:
    def decode_jpeg(*_args: object, **_options: object) -> None:
        raise kind(reason)

    return decode_jpeg


def test_a_torchvision_without_nvjpeg_is_told_at_once(monkeypatch: pytest.MonkeyPatch):
    reason = "decode_jpegs_cuda: torchvision not compiled with nvJPEG support"
    monkeypatch.setattr(torchvision.io, "decode_jpeg", fail(f"{reason}\nException raised from …"))
    with pytest.raises(DeviceError) as caught:
        require_device_decoding(torch.device("cuda:0"), name="--set extract.decode=device")
    assert caught.value.message.startswith("--set extract.decode=device: torchvision ")
    assert caught.value.message.endswith(f"cannot decode JPEG on cuda:0: {reason}")
    assert "PIL" in (caught.value.hint or "")


def test_an_old_torchvision_that_takes_no_list(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torchvision.io, "decode_jpeg", fail("'list' object has no attribute 'device'", AttributeError))
    with pytest.raises(DeviceError, match="no attribute 'device'") as caught:
        require_device_decoding(torch.device("cuda"), name="x")
    assert "0.20 or newer" in (caught.value.hint or "")


def test_a_torchvision_that_decodes_nothing_any_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(torchvision.io, "decode_jpeg")
    with pytest.raises(DeviceError, match="it has no decode_jpeg any more"):
        require_device_decoding(torch.device("cuda"), name="x")


def test_torchvisions_announcement_does_not_reach_the_user(recwarn: pytest.WarningsRecorder):
    decode_files([KINDS["usual.jpg"]], torch.device("cpu"))
    assert not recwarn.list


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_this_cuda_decodes():
    require_device_decoding(torch.device("cuda"), name="x")
