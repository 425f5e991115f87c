"""Weights of every kind: made checkpoints in the published layout, downloads from a local server, hostile files."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torchvision import models
from torchvision.transforms import functional as TF  # noqa: N812 - as torchvision's users write it
from vreid_cli.extraction.forward import Extractor

from vreid_cli.config import Layer
from vreid_cli.data.decoding import decode_rgb
from vreid_cli.errors import StoreError, UsageError, WeightsError
from vreid_cli.models.backbones import BACKBONES, build_random
from vreid_cli.models.checkpoint import load_trunk, read_checkpoint, save_checkpoint, weights_digest
from vreid_cli.models.transforms import Transform
from vreid_cli.models.weights import VERI_BLOB, WeightsSource, architecture_of, fetch_weights, load_network
from vreid_cli.runtime.progress import log
from vreid_cli.store.features import FeatureStore
from vreid_cli.workflows.extract import extract
from vreid_cli.workflows.session import settle

CLASSES = 576
#: Relative to the largest value; the same operations, but channels-last kernels.
LR_TOLERANCE = 1e-5
State = dict[str, torch.Tensor]


@dataclass
class Hostile:
    """An object whose unpickling would make a file."""

    path: str

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, (f"touch '{self.path}'",))


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def published() -> nn.Module:
    """torchvision's DenseNet201 with 576 classes and weights that are nothing special, as the authors saved theirs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = models.densenet201(weights=None, num_classes=CLASSES)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
                module.momentum = None  # statistics of the one batch below: else the LR would hardly see the image
        with torch.no_grad():
            model.train()(torch.randn(3, 3, 128, 128))
    return model.eval()


@pytest.fixture(scope="module")
def state(published: nn.Module) -> State:
    return published.state_dict()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, state: State) -> Path:
    path = tmp_path_factory.mktemp("published") / "VeRI_densenet_ft50.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def digest(checkpoint: Path) -> str:
    return load(checkpoint).digest


@pytest.fixture(scope="module")
def small() -> State:
    """A ResNet18 with a head of 7, for tests in which the size does not matter."""
    return build_state("resnet18")


def build_state(arch: str, classes: int = 7) -> State:
    network = build_random(BACKBONES[arch], seed=1, classes=classes)
    state = {name: tensor.clone() for name, tensor in network.trunk.state_dict().items()}
    for name, tensor in network.head.state_dict().items():
        state[f"{network.backbone.head}.{name}"] = tensor.clone()
    return state


def load(path: Path, arch: str = "densenet201"):
    return load_network(arch, str(path), seed=0, source=WeightsSource(cache_dir=path.parent))


def refusal(path: Path, arch: str = "resnet18") -> WeightsError:
    with pytest.raises(WeightsError) as caught:
        load(path, arch)
    assert path.name in caught.value.message
    return caught.value


def blob_id(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def draw_image(path: Path, width: int = 300, height: int = 217) -> Path:
    rng = np.random.default_rng(5)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)
    return path


def lr_step_by_step(model: nn.Module, path: Path) -> torch.Tensor:
    """The LR by torchvision's own functions, one after the other, as the paper's Input and LR are defined."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    width, height = image.size
    short = min(width, height)
    size = (int(256 * width / short), int(256 * height / short))
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
    image = image.crop((left, top, left + 224, top + 224))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    pixels = TF.normalize(pixels, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.inference_mode():
        return model.features(pixels[None]).mean(dim=(2, 3))[0]


def lr_by_vreid(path: Path, image: Path) -> torch.Tensor:
    loaded = load(path)
    extractor = Extractor(loaded, torch.device("cpu"), batch_size=8)
    return extractor.compute(loaded.transform.crop_uint8(decode_rgb(image, max_pixels=10**7))[None])[0]


# -- the published layout -----------------------------------------------------------------------------------


def old_names(state: State) -> State:
    """The names of torchvision before 2018: ``denselayer1.norm.1`` for ``denselayer1.norm1``."""
    renamed = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): t for name, t in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in renamed
    return renamed


LAYOUTS: dict[str, Callable[[State], object]] = {
    "plain": lambda state: state,
    "old names": old_names,
    "no counters": lambda state: {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")},
    "old names, no counters": lambda state: {
        n: t for n, t in old_names(state).items() if not n.endswith("num_batches_tracked")
    },
    "state_dict": lambda state: {"epoch": 50, "state_dict": state},
    "model": lambda state: {"model": state, "optimizer": {"lr": 0.1}},
    "module.": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "state_dict, module.": lambda state: {"state_dict": {f"module.{name}": t for name, t in state.items()}},
    "no head": lambda state: {n: t for n, t in state.items() if not n.startswith("classifier.")},
}


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_published_layout_is_read_however_it_is_wrapped(tmp_path: Path, state: State, layout: str):
    path = tmp_path / "weights.pt"
    state = {name: tensor.flatten()[:1].clone() for name, tensor in state.items()}  # the names are what matters
    torch.save(LAYOUTS[layout](state), path)
    found = read_checkpoint(path).state
    left_out = [n for n in state if n not in found]
    expected = "num_batches_tracked" if "counters" in layout else "classifier" if layout == "no head" else "nothing"
    assert all(expected in name for name in left_out)
    assert set(found) <= set(state)
    assert all(torch.equal(found[name], state[name]) for name in found)


@pytest.mark.parametrize("layout", ["no head", "old names, no counters"])
def test_network_is_the_same_without_what_may_be_left_out(tmp_path: Path, state: State, digest: str, layout: str):
    path = tmp_path / "weights.pt"
    torch.save(LAYOUTS[layout](state), path)
    loaded = load(path)
    assert loaded.digest == digest
    assert loaded.dropped_classes == (None if layout == "no head" else CLASSES)
    assert loaded.weights == "weights.pt"
    assert not loaded.network.training


@pytest.mark.parametrize("ending", [".safetensors", "-legacy.pth"])
def test_digest_is_the_same_in_every_format(tmp_path: Path, state: State, digest: str, ending: str):
    path = tmp_path / f"weights{ending}"
    if ending == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization="legacy" not in ending)
    assert load(path).digest == digest


def test_digest_tells_weights_apart(tmp_path: Path, state: State, digest: str):
    name = "features.denseblock3.denselayer7.conv2.weight"
    changed = {**state, name: state[name].clone()}
    changed[name][0, 0, 0, 0] += 1e-6
    torch.save(changed, tmp_path / "a.pth")
    assert load(tmp_path / "a.pth").digest != digest


def test_digest_is_blind_to_the_head_and_the_memory_format(published: nn.Module, digest: str, checkpoint: Path):
    loaded = load(checkpoint)
    loaded.network.to(memory_format=torch.channels_last)
    assert weights_digest(loaded.network) == digest


def test_lr_of_a_jpeg_step_by_step(tmp_path: Path, published: nn.Module, checkpoint: Path):
    image = draw_image(tmp_path / "drawn.jpg")
    expected = lr_step_by_step(published, image)
    found = lr_by_vreid(checkpoint, image)
    assert found.shape == (1920,)
    assert float(expected.min()) < 0
    other = lr_step_by_step(published, draw_image(tmp_path / "other.png", width=299))
    assert float((other - expected).abs().max()) > 1e3 * LR_TOLERANCE * float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=LR_TOLERANCE * float(expected.abs().max()))


@pytest.mark.shared
def test_lr_of_a_real_image_step_by_step(shared: Path, published: nn.Module, checkpoint: Path):
    image = sorted((shared / "reference" / "image_sample").rglob("*.jpg"))[0]
    expected = lr_step_by_step(published, image)
    found = lr_by_vreid(checkpoint, image)
    torch.testing.assert_close(found, expected, rtol=0, atol=LR_TOLERANCE * float(expected.abs().max()))


@pytest.mark.parametrize(
    "arch", ["resnet18", "alexnet", "inception_v3"]
)  # VGG16 has AlexNet's names, DenseNet is above
def test_every_architecture_takes_torchvisions_names(tmp_path: Path, arch: str):
    options = {"init_weights": False} if arch == "inception_v3" else {}
    torch.save(getattr(models, arch)(weights=None, **options).state_dict(), tmp_path / "a.pth")
    loaded = load(tmp_path / "a.pth", arch)  # Inception's file holds the auxiliary classifier too
    assert loaded.dropped_classes == 1000


def test_half_precision_weights_become_float32(tmp_path: Path, small: State):
    halves = {name: t.half() if t.is_floating_point() else t for name, t in small.items()}
    torch.save(halves, tmp_path / "a.pth")
    weight = load(tmp_path / "a.pth", "resnet18").network.trunk.conv1.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, halves["conv1.weight"].float())


# -- our own checkpoints ------------------------------------------------------------------------------------


def test_checkpoint_round_trip_carries_architecture_and_transform(tmp_path: Path):
    network = build_random(BACKBONES["resnet18"], seed=3, classes=9)
    transform = Transform(72, 64, mean=(0.5, 0.5, 0.5))
    path = tmp_path / "folder" / "best.safetensors"
    save_checkpoint(path, network, transform=transform, facts={"epoch": "12"})
    read = read_checkpoint(path)
    assert (read.architecture, read.transform) == ("resnet18", transform)
    assert read.state["fc.weight"].shape == (9, 512)
    loaded = load(path, "resnet18")
    assert loaded.transform == transform
    assert loaded.digest == weights_digest(network)
    assert loaded.dropped_classes == 9
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["epoch"] == "12"


def test_foreign_safetensors_get_the_architectures_own_transform(tmp_path: Path, small: State):
    save_file(small, tmp_path / "a.safetensors")
    assert load(tmp_path / "a.safetensors", "resnet18").transform == BACKBONES["resnet18"].transform


def test_metadata_of_another_architecture(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    network = build_random(BACKBONES["resnet18"], seed=3)
    save_checkpoint(path, network, transform=network.backbone.transform, facts={})
    error = refusal(path, "alexnet")
    assert "resnet18" in error.message
    assert error.hint == "use --arch resnet18"


def test_metadata_of_an_unknown_architecture(tmp_path: Path, small: State):
    save_file(small, tmp_path / "a.safetensors", metadata={"architecture": "resnet19"})
    assert "resnet19" in refusal(tmp_path / "a.safetensors").message


def test_a_file_names_its_architecture(tmp_path: Path, small: State):
    network = build_random(BACKBONES["resnet18"], seed=3)
    save_checkpoint(tmp_path / "a.SafeTensors", network, transform=network.backbone.transform, facts={})
    assert architecture_of(str(tmp_path / "a.SafeTensors")) == "resnet18"
    save_file(small, tmp_path / "foreign.safetensors")
    torch.save(small, tmp_path / "a.pth")
    for weights in ("foreign.safetensors", "a.pth", "missing.pth"):
        assert architecture_of(str(tmp_path / weights)) is None


@pytest.mark.parametrize("weights", ["veri", "imagenet", "random"])
def test_a_name_is_no_file_that_names_an_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str):
    monkeypatch.chdir(tmp_path)
    Path(weights).write_text("a file of that name")
    assert architecture_of(weights) is None


def test_no_architecture_is_read_from_files_that_are_none(tmp_path: Path, small: State):
    path = tmp_path / "a.safetensors"
    with pytest.raises(WeightsError, match="there is no weights file"):
        architecture_of(str(path))
    path.write_bytes(b"hello")
    with pytest.raises(WeightsError, match="damaged"):
        architecture_of(str(path))
    save_file(small, path, metadata={"architecture": "resnet19"})
    with pytest.raises(WeightsError, match="resnet19"):
        architecture_of(str(path))


def test_full_disk_while_saving(tmp_path: Path, limited_files: Callable[[int], AbstractContextManager[None]]):
    path = tmp_path / "best.safetensors"
    path.write_bytes(b"old")
    network = build_random(BACKBONES["resnet18"], seed=3)
    with limited_files(100_000), pytest.raises(StoreError, match="cannot be written"):
        save_checkpoint(path, network, transform=network.backbone.transform, facts={})
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["best.safetensors"]


# -- files that do not fit ----------------------------------------------------------------------------------


def test_missing_and_unexpected_keys_are_listed(tmp_path: Path, small: State):
    state = {name: tensor for name, tensor in small.items() if name not in ("conv1.weight", "layer1.0.bn1.bias")}
    state["extra.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "a.pth")
    message = refusal(tmp_path / "a.pth").message
    for name in ("conv1.weight", "layer1.0.bn1.bias", "extra.weight"):
        assert name in message


def test_unexpected_keys_alone(tmp_path: Path, small: State):
    torch.save({**small, "layer9.weight": torch.zeros(1)}, tmp_path / "a.pth")
    assert "unexpected layer9.weight" in refusal(tmp_path / "a.pth").message


def test_long_lists_of_keys_are_cut(tmp_path: Path, small: State):
    torch.save(small, tmp_path / "a.pth")
    error = refusal(tmp_path / "a.pth", "densenet201")
    assert re.search(r"and \d{3} more", error.message)
    assert len(error.message) < 1000
    assert "--arch" in (error.hint or "")


def test_wrong_shape(tmp_path: Path, small: State):
    torch.save({**small, "conv1.weight": torch.zeros(64, 1, 7, 7)}, tmp_path / "a.pth")
    message = refusal(tmp_path / "a.pth").message
    assert "conv1.weight" in message
    assert "(64, 1, 7, 7)" in message
    assert "(64, 3, 7, 7)" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(tmp_path: Path, small: State, value: float):
    broken = small["layer1.0.conv1.weight"].clone()
    broken[3, 2, 1, 0] = value
    torch.save({**small, "layer1.0.conv1.weight": broken}, tmp_path / "a.pth")
    assert "layer1.0.conv1.weight" in refusal(tmp_path / "a.pth").message


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], 7, {"state_dict": {"epoch": 1}}])
def test_no_state_dict(tmp_path: Path, content: object):
    torch.save(content, tmp_path / "a.pth")
    assert "no state dict" in refusal(tmp_path / "a.pth").message


def test_missing_file(tmp_path: Path):
    assert "there is no weights file" in refusal(tmp_path / "a.pth").message


# -- damaged and hostile files ------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_hostile_pickle_is_refused_and_does_not_run(tmp_path: Path, small: State, legacy: bool, wrapped: bool):
    trace = tmp_path / "it ran"
    hostile = Hostile(str(trace))
    content = {"state_dict": small, "extra": hostile} if wrapped else hostile
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    error = refusal(tmp_path / "a.pth")
    assert not trace.exists()
    assert "posix.system" in error.message or "nt.system" in error.message
    # torch's own message advises to load it all the same.
    assert "weights_only" not in f"{error.message} {error.hint}"


def test_hostile_pickle_named_safetensors(tmp_path: Path):
    trace = tmp_path / "it ran"
    torch.save(Hostile(str(trace)), tmp_path / "a.safetensors")
    refusal(tmp_path / "a.safetensors")
    assert not trace.exists()


def test_whole_model_is_refused(tmp_path: Path):
    torch.save(nn.Linear(2, 2), tmp_path / "a.pth")
    error = refusal(tmp_path / "a.pth")
    assert "torch.nn.modules.linear.Linear" in error.message
    assert "state_dict()" in (error.hint or "")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.0, 1e-4, 0.01, 0.5, 0.999])
def test_truncated_pth(tmp_path: Path, small: State, legacy: bool, share: float):
    path = tmp_path / "a.pth"
    torch.save(small, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refusal(path)


@pytest.mark.parametrize("share", [0.0, 1e-7, 1e-4, 0.5, 0.999])
def test_truncated_safetensors(tmp_path: Path, small: State, share: float):
    path = tmp_path / "a.safetensors"
    save_file(small, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refusal(path)


@pytest.mark.parametrize("content", [b"<!DOCTYPE html>", b"hello", b"version https://git-lfs.github.com/spec/v1\n"])
@pytest.mark.parametrize("ending", [".pth", ".pt", ".safetensors"])
def test_text_files(tmp_path: Path, content: bytes, ending: str):
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    refusal(path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damage_never_ends_in_a_traceback(tmp_path: Path, legacy: bool):
    path = tmp_path / "a.pth"
    torch.save({"a.b": torch.arange(12.0), "s": {"x": 1}}, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    rng = np.random.default_rng(3)
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), rng.integers(1, 6)):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_checkpoint(path)
        except WeightsError:
            continue


# -- downloads ----------------------------------------------------------------------------------------------


@dataclass
class Server:
    """A local server that sends one content, or the rest of it, or misbehaves.

    Attributes:
        cut: Bytes of a body after which the connection breaks.
        ranges: Whether it sends only the part that is asked for.
        shift: By how much the part is another one than was asked for.
        asked: Range and If-Range of each request.
    """

    content: bytes
    url: str = ""
    status: int = 200
    cut: int | None = None
    ranges: bool = True
    shift: int = 0
    tag: str | None = '"one"'
    stall: threading.Event | None = None
    requests: list[str] = field(default_factory=list)
    asked: list[tuple[str | None, str | None]] = field(default_factory=list)

    def start(self, wanted: str | None, tag: str | None) -> int | None:
        """Where the part begins that is sent; None for all."""
        if wanted is None or not self.ranges or tag not in (None, self.tag):
            return None
        match = re.fullmatch(r"bytes=(\d+)-", wanted)
        assert match
        return int(match[1]) + self.shift


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    serving = Server(np.random.default_rng(0).bytes(3_000_000))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            serving.requests.append(self.path)
            if serving.stall is not None:
                serving.stall.wait(20)
            if serving.status != 200:
                self.send_error(serving.status)
                return
            asked = (self.headers["Range"], self.headers["If-Range"])
            serving.asked.append(asked)
            start, size = serving.start(*asked), len(serving.content)
            if start is not None and start >= size:
                self.send_error(416)
                return
            body = serving.content[start:]
            self.send_response(200 if start is None else 206)
            if start is not None:
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            if serving.tag is not None:
                self.send_header("ETag", serving.tag)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # of a client that was interrupted
                self.wfile.write(body[: serving.cut])

        def log_message(self, *_args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    serving.url = f"http://127.0.0.1:{httpd.server_port}/VeRI_densenet_ft50.pth"
    yield serving
    if serving.stall is not None:
        serving.stall.set()
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def source_for(server: Server, folder: Path, **changes: object) -> WeightsSource:
    return WeightsSource(cache_dir=folder, veri_url=server.url, veri_blob=blob_id(server.content), **changes)


def names_in(folder: Path) -> list[str]:
    """What a download left, beside the lock that stays where it is."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def download(source: WeightsSource) -> bytes:
    """A download that must succeed and leave nothing but the file."""
    path = fetch_weights(BACKBONES["densenet201"], "veri", source=source)
    assert names_in(source.folder) == ["VeRI_densenet_ft50.pth"]
    return path.read_bytes()


def download_refusal(source: WeightsSource) -> WeightsError:
    """The error of a download that must leave nothing behind and say what to do instead."""
    error = broken_download(source)
    assert not source.folder.exists() or names_in(source.folder) == []
    return error


def broken_download(source: WeightsSource) -> WeightsError:
    """The error of a download that says what to do instead."""
    with pytest.raises(WeightsError) as caught:
        fetch_weights(BACKBONES["densenet201"], "veri", source=source)
    error = caught.value
    assert source.veri_url in error.message
    assert str(source.folder / "VeRI_densenet_ft50.pth") in (error.hint or "")
    assert "--weights" in (error.hint or "")
    return error


def test_verified_download_is_kept(tmp_path: Path, server: Server, checkpoint: Path, digest: str):
    server.content = checkpoint.read_bytes()
    source = source_for(server, tmp_path / "cache")
    first = load_network("densenet201", "veri", seed=0, source=source)
    assert (first.digest, first.weights, first.dropped_classes) == (digest, "veri", CLASSES)
    assert names_in(source.folder) == ["VeRI_densenet_ft50.pth"]
    assert server.requests == ["/VeRI_densenet_ft50.pth"]
    assert server.asked == [(None, None)]
    assert load_network("densenet201", "veri", seed=0, source=source).digest == digest
    assert len(server.requests) == 1


def test_published_id_is_that_of_the_contract():
    assert VERI_BLOB == "0127c8070cdbbe42d31f6ff0b6933114395a2d89"
    # `git hash-object` of a file with the content "hello\n"
    assert blob_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_changed_byte_is_refused(tmp_path: Path, server: Server):
    source = source_for(server, tmp_path / "cache")
    changed = bytearray(server.content)
    changed[len(changed) // 2] ^= 1
    server.content = bytes(changed)
    error = download_refusal(source)
    assert blob_id(server.content) in error.message
    assert source.veri_blob in error.message


@pytest.mark.parametrize("status", [404, 403, 500])
def test_server_says_no(tmp_path: Path, server: Server, status: int):
    server.status = status
    assert str(status) in download_refusal(source_for(server, tmp_path / "cache")).message


def test_connection_refused(tmp_path: Path, server: Server):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    source = replace(source_for(server, tmp_path / "cache"), veri_url=f"http://127.0.0.1:{port}/VeRI.pth")
    assert "refused" in download_refusal(source).message.lower()


def test_connection_cut_short_twice_goes_on_each_time(tmp_path: Path, server: Server):
    source = source_for(server, tmp_path / "cache")
    server.cut = 1_000_001
    for kept in (1_000_001, 2_000_002):
        error = broken_download(source)
        assert f"broke after {kept} of {len(server.content)} bytes" in error.message
        assert "the same command goes on from there" in (error.hint or "")
        assert part_of(source).read_bytes() == server.content[:kept]
    assert download(source) == server.content
    assert server.asked == [(None, None), ("bytes=1000001-", '"one"'), ("bytes=2000002-", '"one"')]


def part_of(source: WeightsSource) -> Path:
    return source.folder / "VeRI_densenet_ft50.pth.part"


def begin(server: Server, folder: Path, size: int = 1_000_000) -> WeightsSource:
    """A download whose connection broke after so many bytes."""
    source = source_for(server, folder)
    server.cut = size
    broken_download(source)
    assert part_of(source).stat().st_size == size
    server.cut = None
    server.asked.clear()
    return source


@pytest.mark.parametrize("case", ["ignores ranges", "sends another part", "has other content now", "is at fault once"])
def test_a_server_that_does_not_go_on_is_asked_for_all(tmp_path: Path, server: Server, case: str):
    source = begin(server, tmp_path / "cache")
    if case == "ignores ranges":
        server.ranges = False
    elif case == "sends another part":
        server.shift = 5
    elif case == "has other content now":
        server.content, server.tag = server.content[::-1], '"two"'
        source = source_for(server, tmp_path / "cache")
    else:
        server.status = 503
        assert "503" in broken_download(source).message
        assert part_of(source).stat().st_size == 1_000_000
        server.status = 200
    assert download(source) == server.content
    again = [(None, None)] if case == "sends another part" else []
    assert server.asked == [("bytes=1000000-", '"one"'), *again]


@pytest.mark.parametrize("tag", [None, 'W/"weak"', "no tag", '"a", "b"'])
def test_without_a_strong_tag_the_rest_is_asked_for_by_its_place_alone(tmp_path: Path, server: Server, tag: str | None):
    server.tag = tag
    source = begin(server, tmp_path / "cache")
    assert download(source) == server.content
    assert server.asked == [("bytes=1000000-", None)]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_part_that_is_whole_is_used(tmp_path: Path, server: Server, ranges: bool):
    source = begin(server, tmp_path / "cache")
    part_of(source).write_bytes(server.content)  # the process was killed between the last byte and the end
    server.ranges = ranges
    assert download(source) == server.content
    assert server.asked == [("bytes=3000000-", '"one"')]


@pytest.mark.parametrize("surplus", [0, 1, 1_000_000])
def test_a_part_beyond_the_end_that_is_wrong_is_thrown_away(tmp_path: Path, server: Server, surplus: int):
    source = begin(server, tmp_path / "cache")
    part_of(source).write_bytes(bytes(len(server.content) + surplus))
    assert download(source) == server.content
    assert server.asked[-1] == (None, None)


def test_a_wrong_part_is_thrown_away_so_that_the_next_attempt_succeeds(tmp_path: Path, server: Server):
    source = begin(server, tmp_path / "cache")
    part_of(source).write_bytes(b"x" + server.content[1:1_000_000])
    error = download_refusal(source)
    assert "(1000000 bytes of it at an earlier attempt) is not the published file" in error.message
    assert "run the same command again, which starts anew" in (error.hint or "")
    assert download(source) == server.content
    assert server.asked == [("bytes=1000000-", '"one"'), (None, None)]


def test_a_damaged_tag_is_no_tag(tmp_path: Path, server: Server):
    source = begin(server, tmp_path / "cache")
    (source.folder / "VeRI_densenet_ft50.pth.part.etag").write_bytes(b'"\xff\r\nX: y"')
    assert download(source) == server.content
    assert server.asked == [("bytes=1000000-", None)]


@dataclass
class Meter:
    """Stands for the progress bar, and interrupts as Ctrl-C does."""

    interrupt_at: int
    told: list[tuple[int, int]] = field(default_factory=list)
    done: int = 0

    @contextlib.contextmanager
    def __call__(self, *, total: int, what: str, unit: str, initial: int) -> Iterator[Meter]:
        self.told.append((initial, total))
        self.done = initial
        yield self

    def update(self, n: float) -> None:
        self.done += int(n)
        if self.done >= self.interrupt_at:
            raise KeyboardInterrupt


def test_an_interrupted_download_goes_on_and_the_bar_begins_at_what_is_there(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
):
    source, meter = source_for(server, tmp_path / "cache"), Meter(interrupt_at=2_000_000)
    monkeypatch.setattr("vreid_cli.runtime.downloads.progress", meter)
    with pytest.raises(KeyboardInterrupt):
        download(source)
    kept = part_of(source).read_bytes()
    assert 0 < len(kept) < 2_000_000
    assert server.content.startswith(kept)
    meter.interrupt_at = len(server.content) + 1
    assert download(source) == server.content
    assert server.asked == [(None, None), (f"bytes={len(kept)}-", '"one"')]
    assert meter.told == [(0, len(server.content)), (len(kept), len(server.content))]
    assert meter.done == len(server.content)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once a download waits for another."""
    event = threading.Event()
    monkeypatch.setattr(log, "info", lambda form, *_: event.set() if "waiting for it" in form else None)
    return event


def test_two_at_once_fetch_it_once(tmp_path: Path, server: Server, waiting: threading.Event):
    source = source_for(server, tmp_path / "cache")
    server.stall = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(fetch_weights, BACKBONES["densenet201"], "veri", source=source) for _ in range(2)]
        assert waiting.wait(20)
        server.stall.set()
        contents = {future.result(20).read_bytes() for future in both}
    assert contents == {server.content}
    assert len(server.requests) == 1
    assert names_in(source.folder) == ["VeRI_densenet_ft50.pth"]


def test_one_that_waited_goes_on_where_the_other_broke_off(tmp_path: Path, server: Server, waiting: threading.Event):
    source = source_for(server, tmp_path / "cache")
    source.folder.mkdir()
    with ThreadPoolExecutor(1) as pool:
        with FileLock(source.folder / ".VeRI_densenet_ft50.pth.lock"):
            second = pool.submit(download, source)
            assert waiting.wait(20)
            # Meanwhile the holder of the lock gets this far.
            part_of(source).write_bytes(server.content[:1_000_000])
            assert server.requests == []
        assert second.result(20) == server.content
    assert server.asked == [("bytes=1000000-", None)]


def test_silent_server(tmp_path: Path, server: Server):
    server.stall = threading.Event()
    assert "timed out" in download_refusal(source_for(server, tmp_path / "cache", timeout=0.2)).message


@pytest.mark.parametrize("url", ["nonsense", "ftp://", "http://[", "http://127.0.0.1:99999/x", "no://such"])
def test_address_that_is_none(tmp_path: Path, server: Server, url: str):
    download_refusal(replace(source_for(server, tmp_path / "cache"), veri_url=url))


def test_wrong_file_in_the_cache(tmp_path: Path, server: Server):
    source = source_for(server, tmp_path / "cache")
    source.folder.mkdir()
    path = source.folder / "VeRI_densenet_ft50.pth"
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError) as caught:
        fetch_weights(BACKBONES["densenet201"], "veri", source=source)
    assert str(path) in caught.value.message
    assert "delete it" in (caught.value.hint or "")
    assert server.requests == []
    assert path.read_bytes() == b"something else"


def test_no_room_for_the_download(
    tmp_path: Path, server: Server, limited_files: Callable[[int], AbstractContextManager[None]]
):
    with limited_files(50_000), pytest.raises(StoreError) as caught:
        fetch_weights(BACKBONES["densenet201"], "veri", source=source_for(server, tmp_path / "cache"))
    assert str(tmp_path / "cache") in caught.value.message
    assert names_in(tmp_path / "cache") == []


def test_cache_that_is_a_file(tmp_path: Path, server: Server):
    (tmp_path / "cache").write_text("no folder")
    with pytest.raises(StoreError, match="cannot be written"):
        fetch_weights(BACKBONES["densenet201"], "veri", source=source_for(server, tmp_path / "cache"))


def test_veri_is_for_densenet_only(tmp_path: Path):
    with pytest.raises(UsageError, match="densenet201 only"):
        load_network("resnet18", "veri", seed=0, source=WeightsSource(cache_dir=tmp_path))


def test_imagenet_is_checked_by_the_digits_in_its_name(tmp_path: Path, server: Server, small: State):
    torch.save(small, tmp_path / "a.pth")
    server.content = (tmp_path / "a.pth").read_bytes()
    sha256 = hashlib.sha256(server.content).hexdigest()
    folder = server.url.rpartition("/")[0]
    source = WeightsSource(cache_dir=tmp_path / "cache")
    backbone = replace(BACKBONES["resnet18"], imagenet=SimpleNamespace(url=f"{folder}/resnet18-{sha256[:8]}.pth"))
    path = fetch_weights(backbone, "imagenet", source=source)
    assert path.read_bytes() == server.content
    wrong = replace(BACKBONES["resnet18"], imagenet=SimpleNamespace(url=f"{folder}/resnet18-00000000.pth"))
    with pytest.raises(WeightsError, match=sha256):
        fetch_weights(wrong, "imagenet", source=source)
    assert names_in(source.folder) == [f"resnet18-{sha256[:8]}.pth"]


@pytest.mark.parametrize("arch", list(BACKBONES))
def test_torchvision_names_its_files_by_their_digest(arch: str):
    assert re.search(r"-[0-9a-f]{8}\.pth$", BACKBONES[arch].imagenet.url)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"VREID_CACHE_DIR": "/a"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/vreid"),
        ({"VREID_CACHE_DIR": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"HOME": "/c"}, "/c/.cache/vreid"),
    ],
)
def test_cache_folder(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str):
    for name in ("VREID_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert WeightsSource().folder == Path(expected)


def test_settings_lead_to_a_mirror(
    tmp_path: Path, server: Server, published: nn.Module, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
):
    server.content = checkpoint.read_bytes()
    monkeypatch.chdir(tmp_path)
    for split in ("query", "gallery"):
        (tmp_path / "data" / split / "0001_c001").mkdir(parents=True)
        draw_image(tmp_path / "data" / split / "0001_c001" / "a.jpg")
    values = {
        "run": {"run_dir": "run"},
        "data": {"dataset": "tracks", "data_dir": "data", "splits": ["gallery"]},
        "model": {"cache_dir": "cache", "weights_url": server.url, "weights_blob": blob_id(server.content)},
        "runtime": {"device": "cpu"},
    }
    report = extract(settle([Layer("test", values)], command=(), use_latest=False))
    assert server.requests == ["/VeRI_densenet_ft50.pth"]
    found = torch.from_numpy(FeatureStore(Path(report.outputs[0])).read().matrix.take(np.array([0])))[0]
    expected = lr_step_by_step(published, tmp_path / "data" / "gallery" / "0001_c001" / "a.jpg")
    torch.testing.assert_close(found, expected, rtol=0, atol=LR_TOLERANCE * float(expected.abs().max()))


def test_load_trunk_reports_the_dropped_head(small: State):
    network = build_random(BACKBONES["resnet18"], seed=2)
    assert load_trunk(network, small, source="memory") == 7
    assert torch.equal(network.trunk.conv1.weight, small["conv1.weight"])
