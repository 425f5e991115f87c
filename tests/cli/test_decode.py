"""``vreid extract --set extract.decode=device``: what it makes, and tells, and where it is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from tiny import EXTRACT, Vreid, draw_tracks

from vreid_cli.config import Resolved
from vreid_cli.store.runs import RunDirectory
from vreid_cli.workflows import computing

RUN = Path("runs/tracks-resnet18-tiny")
DEVICE = ("--set", "extract.decode=device")
GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))


@pytest.fixture
def extract(vreid: Vreid, weights: Path) -> tuple[str, ...]:
    """The command, and a folder with the JPEG files that it extracts: two tracks a side, one image of them a PNG."""
    draw_tracks(Path("data"), {"query/0001_c001": 3, "gallery/0001_c002": 2, "gallery/0002_c001": 4})
    for path in sorted(Path("data").rglob("*.png"))[1:]:
        with Image.open(path) as image:
            image.save(path.with_suffix(".jpg"))
        path.unlink()
    return (*EXTRACT, "--data-dir", "data", "--weights", str(weights))


@pytest.fixture(params=["cpu", GPU])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the device decodes; nobody may decode on a CPU but these tests, which have to work without a GPU."""
    if request.param == "cpu":
        monkeypatch.setattr(computing, "require_device_decoding", lambda device, *, name: None)
    return str(request.param)


def test_what_was_decoded_where_and_the_difference_are_told(
    vreid: Vreid, extract: tuple[str, ...], device: str
) -> None:
    told = vreid(*extract, *DEVICE, "--device", device)
    assert vreid.err.count(f"decoding on {device}: pixels differ by ") == 2
    assert f"query: 3 images decoded on {device}, 0 by PIL" in vreid.err
    assert f"gallery: 5 images decoded on {device}, 1 by PIL" in vreid.err
    assert " s decoding on the device, " in told
    shutil.rmtree("runs")
    splits = vreid.json(*extract, *DEVICE, "--device", device)["splits"]
    found = splits["gallery"]["decoding"]
    assert (found["device"], found["routes"]) == (device, {"on_device": 5, "by_pil": 1, "refused": 0})
    assert found["seconds"] > 0
    measured = found["difference"]
    assert set(measured) == {"images", "pixel_mean", "pixel_max", "latent_median", "latent_max"}
    assert measured["images"] == 5
    assert 0 <= measured["latent_median"] <= measured["latent_max"] < 0.5
    assert vreid.json(*extract, *DEVICE, "--device", device)["splits"]["gallery"]["decoding"] is None
    shutil.rmtree("runs")
    assert vreid.json(*extract, "--device", device)["splits"]["gallery"]["decoding"] is None


def test_the_features_are_near_to_pils(vreid: Vreid, extract: tuple[str, ...], device: str) -> None:
    vreid(*extract, "--device", device, "--run-dir", "pil")
    vreid(*extract, *DEVICE, "--device", device, "--run-dir", "other")
    rows = [RunDirectory(Path(name)).features("gallery").read() for name in ("pil", "other")]
    one, other = (found.matrix.take(np.arange(len(found))) for found in rows)
    assert np.linalg.norm(one - other) < 0.1 * np.linalg.norm(one)
    assert json.loads(Path("other/run.json").read_text())["transform"].endswith("-imagenet-nvjpeg")


def test_other_pixels_are_another_identity(vreid: Vreid, extract: tuple[str, ...], device: str) -> None:
    own = (*extract, "--device", device)
    vreid(*own)
    error = vreid.error(*own, *DEVICE)
    plain = "rgb-bilinear34-crop32-imagenet"
    assert f"holds features of another transform: '{plain}', not '{plain}-nvjpeg'" in error["message"]
    assert "--restart" in error["hint"]
    vreid(*own, *DEVICE, "--restart")
    error = vreid.error(*own)
    assert f"holds features of another transform: '{plain}-nvjpeg', not '{plain}'" in error["message"]
    draw_tracks(Path("data"), {"gallery/0005_c001": 2})
    assert "2 computed now" in vreid(*own, *DEVICE)


def test_it_works_with_onnx_runtime_too(vreid: Vreid, extract: tuple[str, ...], device: str) -> None:
    if device != "cpu":
        pytest.skip("ONNX Runtime's build for GPUs is another package")
    own = (*extract, "--device", device, "--split", "gallery")
    vreid(*own, *DEVICE, "--backend", "onnx", "--run-dir", "onnx")
    vreid(*own, *DEVICE, "--backend", "torch", "--run-dir", "torch")
    rows = [RunDirectory(Path(name)).features("gallery").read() for name in ("onnx", "torch")]
    one, other = (found.matrix.take(np.arange(len(found))) for found in rows)
    assert np.abs(one - other).max() <= 1e-5 * np.abs(other).max()


def test_a_cpu_is_refused_before_anything_is_read(vreid: Vreid, extract: tuple[str, ...]) -> None:
    shutil.rmtree("data")
    error = vreid.error(*extract, *DEVICE, "--device", "cpu", code=2)
    assert error["message"] == "--set extract.decode=device: only CUDA devices decode JPEG, cpu does not"
    assert "--device cuda" in error["hint"]
    assert "PIL" in error["hint"]
    Path("vreid.toml").write_text('[extract]\ndecode = "device"\n')
    error = vreid.error(*extract, "--device", "cpu", code=2)
    assert error["message"] == "vreid.toml: extract.decode=device: only CUDA devices decode JPEG, cpu does not"
    assert not Path("runs").exists()


def test_a_torchvision_without_nvjpeg_is_refused(
    vreid: Vreid, extract: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode_jpeg(*_args: object, **_options: object) -> None:
        raise RuntimeError("decode_jpegs_cuda: torchvision not compiled with nvJPEG support\nException raised from …")

    def check(resolved: Resolved, device: torch.device) -> None:
        checked(resolved, torch.device("cuda:0"))

    checked = computing.check_computing
    monkeypatch.setattr(torchvision.io, "decode_jpeg", decode_jpeg)
    monkeypatch.setattr("vreid_cli.workflows.extract.check_computing", check)
    error = vreid.error(*extract, *DEVICE, "--device", "cpu")
    assert error["message"].startswith("--set extract.decode=device: torchvision ")
    assert error["message"].endswith(
        "cannot decode JPEG on cuda:0: decode_jpegs_cuda: torchvision not compiled with nvJPEG support"
    )
    assert "torchvision 0.20 or newer with nvJPEG" in error["hint"]
    assert not Path("runs").exists()


def test_the_setting_is_shown_and_checked(vreid: Vreid, extract: tuple[str, ...]) -> None:
    assert 'decode = "pil"' in vreid(*extract, "--show-config")
    shown = vreid(*extract, *DEVICE, "--show-config")
    (line,) = [line for line in shown.splitlines() if line.startswith("decode")]
    assert line.split() == ["decode", "=", '"device"', "#", "--set"]
    error = vreid.error(*extract, "--set", "extract.decode=gpu", code=2)
    assert error["message"] == "--set extract.decode = \"gpu\": needs 'pil' or 'device'"
