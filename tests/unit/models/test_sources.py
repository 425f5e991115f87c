"""Named weights: where they come from, and how they are verified."""

from __future__ import annotations

import hashlib
import json
import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from published import CLASSES, LR_TOLERANCE, blob_id, build_published, draw_image, lr_step_by_step
from server import Server, names_in, serve
from tiny import Vreid, draw_tracks, save_weights

from vreid_cli.config import Layer
from vreid_cli.errors import UsageError, WeightsError
from vreid_cli.models.backbones import BACKBONES
from vreid_cli.models.options import DownloadOptions
from vreid_cli.models.sources import SOURCES, VERI_BLOB, WeightsSource, default_weights, find_source
from vreid_cli.models.weights import load_network
from vreid_cli.store.features import FeatureStore
from vreid_cli.workflows.extract import extract
from vreid_cli.workflows.inputs import extraction_run
from vreid_cli.workflows.session import resolve_session

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("published") / "made.pth"
    torch.save(build_published().state_dict(), path)
    return path.read_bytes()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with serve(b"content", "VeRI_densenet_ft50.pth") as serving:
        yield serving


def mirror(server: Server, folder: Path) -> DownloadOptions:
    return DownloadOptions(cache_dir=folder, weights_url=server.url, weights_blob=blob_id(server.content))


@pytest.mark.slow
def test_verified_download_is_kept(tmp_path: Path, server: Server, checkpoint: bytes):
    server.content = checkpoint
    downloads = mirror(server, tmp_path / "cache")
    first = load_network("veri", downloads=downloads)
    assert (first.architecture, first.weights, first.dropped_classes) == ("densenet201", "veri", CLASSES)
    assert first.warnings == ()
    assert names_in(tmp_path / "cache") == ["VeRI_densenet_ft50.pth"]
    assert load_network("veri", downloads=downloads).digest == first.digest
    assert server.requests == ["/VeRI_densenet_ft50.pth"]


def test_published_id_is_that_of_the_contract():
    assert VERI_BLOB == "0127c8070cdbbe42d31f6ff0b6933114395a2d89"
    # `git hash-object` of a file with the content "hello\n"
    assert blob_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_another_file_than_the_published_one_is_refused(tmp_path: Path, server: Server):
    downloads = mirror(server, tmp_path / "cache")
    server.content = b"changed"
    with pytest.raises(WeightsError) as caught:
        load_network("veri", downloads=downloads)
    assert blob_id(b"changed") in caught.value.message
    assert blob_id(b"content") in caught.value.message
    assert names_in(tmp_path / "cache") == []


def test_without_a_network_the_hint_says_what_to_do(tmp_path: Path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    downloads = DownloadOptions(cache_dir=tmp_path / "cache", weights_url=f"http://127.0.0.1:{port}/VeRI.pth")
    with pytest.raises(WeightsError, match=f"127.0.0.1:{port}") as caught:
        load_network("veri", downloads=downloads)
    for words in (str(tmp_path / "cache" / "VeRI_densenet_ft50.pth"), "--weights FILE", "model.weights_url"):
        assert words in str(caught.value.hint)


def test_wrong_file_in_the_cache(tmp_path: Path, server: Server):
    path = tmp_path / "cache" / "VeRI_densenet_ft50.pth"
    path.parent.mkdir()
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError) as caught:
        load_network("veri", downloads=mirror(server, path.parent))
    assert str(path) in caught.value.message
    assert "delete it" in (caught.value.hint or "")
    assert server.requests == []
    assert path.read_bytes() == b"something else"


def test_veri_is_for_densenet_only(tmp_path: Path):
    with pytest.raises(UsageError, match="densenet201 only"):
        load_network("veri", arch="resnet18", downloads=DownloadOptions(cache_dir=tmp_path))
    assert [default_weights(arch) for arch in ("densenet201", "resnet18")] == ["veri", None]
    assert find_source("veri", "densenet201") is SOURCES["veri"]
    assert find_source("some/file.pth", "resnet18") is None


def test_imagenet_is_checked_by_the_digits_in_its_name(tmp_path: Path, server: Server):
    sha256 = hashlib.sha256(server.content).hexdigest()
    locate, downloads = SOURCES["imagenet"].locate, DownloadOptions(cache_dir=tmp_path / "cache")
    assert locate is not None
    folder = server.url.rpartition("/")[0]
    backbone = replace(BACKBONES["resnet18"], imagenet_url=f"{folder}/resnet18-{sha256[:8]}.pth")
    assert locate(backbone, downloads).read_bytes() == server.content
    with pytest.raises(WeightsError, match=sha256):
        locate(replace(backbone, imagenet_url=f"{folder}/resnet18-00000000.pth"), downloads)
    assert names_in(tmp_path / "cache") == [f"resnet18-{sha256[:8]}.pth"]


@pytest.mark.parametrize("arch", list(BACKBONES))
def test_torchvision_names_its_files_by_their_digest(arch: str):
    assert re.search(r"-[0-9a-f]{8}\.pth$", BACKBONES[arch].find_imagenet())


@pytest.mark.slow
def test_settings_lead_to_a_mirror(tmp_path: Path, server: Server, checkpoint: bytes, monkeypatch: pytest.MonkeyPatch):
    server.content = checkpoint
    monkeypatch.chdir(tmp_path)
    for split in ("query", "gallery"):
        (tmp_path / "data" / split / "0001_c001").mkdir(parents=True)
        draw_image(tmp_path / "data" / split / "0001_c001" / "a.jpg")
    values = {
        "run": {"run_dir": "run"},
        "data": {"dataset": "tracks", "data_dir": "data", "splits": ["gallery"]},
        "model": {
            "weights": "veri",
            "cache_dir": "cache",
            "weights_url": server.url,
            "weights_blob": blob_id(server.content),
        },
        "runtime": {"device": "cpu"},
    }
    report = extract(resolve_session([Layer("test", values)], choose_run=extraction_run))
    assert server.requests == ["/VeRI_densenet_ft50.pth"]
    found = torch.from_numpy(FeatureStore(Path(report.outputs[0])).read().matrix.take(np.array([0])))[0]
    expected = lr_step_by_step(build_published(), tmp_path / "data" / "gallery" / "0001_c001" / "a.jpg")
    torch.testing.assert_close(found, expected, rtol=0, atol=LR_TOLERANCE * float(expected.abs().max()))


def test_a_source_is_one_entry_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    path = save_weights(tmp_path / "somewhere.safetensors")
    toy = WeightsSource(
        "toy", "a toy's", locate=lambda backbone, downloads: path, backbones=("resnet18",), default=True
    )
    monkeypatch.setitem(SOURCES, "toy", toy)
    draw_tracks(tmp_path / "data", {"gallery/0001_c001": 2})
    monkeypatch.chdir(tmp_path)
    vreid = Vreid(capsys)
    common = ("--dataset", "tracks", "--data-dir", "data", "--split", "gallery", "--run-dir", "run")
    vreid("extract", *common, "--arch", "resnet18")  # it is the default of its architecture
    assert json.loads((tmp_path / "run" / "run.json").read_text())["weights"] == "toy"
    error = vreid.error("extract", *common, "--arch", "alexnet", "--weights", "toy", code=2)
    assert "resnet18 only" in error["message"]
