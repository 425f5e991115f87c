"""Folders in the form of the Hugging Face hub, and repositories on a server that answers as the hub does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from vreid_cli.errors import UsageError, WeightsError
from vreid_cli.models.backbones import BACKBONES
from vreid_cli.models.checkpoint import weights_digest
from vreid_cli.models.hub import write_hub_folder
from vreid_cli.models.network import build_random
from vreid_cli.models.transforms import Transform
from vreid_cli.models.weights import LoadedNetwork, architecture_of, load_network

TRANSFORM = Transform(None, (48, 40), mean=(0.1, 0.2, 0.3))


def made(*, neck: bool = True) -> LoadedNetwork:
    network = build_random(BACKBONES["resnet18"], seed=3, classes=4, neck=neck).eval()
    classes = ("0001", "0002", "0003", "0004")
    facts = {"recipe": {"epochs": 3, "learning_rate": 0.1}, "classes": list(classes), "seed": 7}
    return LoadedNetwork(network, TRANSFORM, "made", weights_digest(network), classes, facts=facts)


def test_a_folder_holds_the_same_network_without_its_classifier(tmp_path: Path):
    network = made()
    write_hub_folder(tmp_path, network, title="<Mine> & others")
    assert architecture_of(str(tmp_path)) == "resnet18"
    loaded = load_network(tmp_path)
    assert isinstance(loaded, LoadedNetwork)
    assert (loaded.digest, loaded.transform, loaded.classes) == (network.digest, TRANSFORM, ())
    assert loaded.facts["recipe"] == {"epochs": 3, "learning_rate": 0.1}
    assert network.network.head is not None  # it was not changed
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == {
        "library_name": "vreid",
        "architecture": "resnet18",
        "dimension": 512,
        "weights_digest": network.digest,
        "transform": json.loads(TRANSFORM.to_json()),
    }
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: vreid\n")
    for words in (
        "# <Mine> & others",
        "48 x 40",
        network.digest,
        "| recipe | epochs 3, learning_rate 0.1 |",
        "| seed | 7 |",
    ):
        assert words in card


def test_half_the_size_and_its_own_digest(tmp_path: Path):
    network = made()
    write_hub_folder(tmp_path / "half", network, title="a", half=True)
    write_hub_folder(tmp_path / "whole", network, title="a")
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.51 * sizes[1]
    loaded = load_network(tmp_path / "half")
    assert isinstance(loaded, LoadedNetwork)
    assert (
        loaded.digest == json.loads((tmp_path / "half" / "config.json").read_text())["weights_digest"] != network.digest
    )
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values() if tensor.ndim > 1} == {torch.float16}
    torch.testing.assert_close(
        loaded.network.trunk.conv1.weight, network.network.trunk.conv1.weight, rtol=1e-3, atol=1e-6
    )
    assert torch.equal(loaded.network.trunk.bn1.running_var, network.network.trunk.bn1.running_var)


def test_a_folder_as_timm_writes_it(tmp_path: Path):
    model = timm.create_model("resnet10t", num_classes=3)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    config = {"input_size": [3, 64, 64], "interpolation": "bilinear", "crop_pct": 0.5, "crop_mode": "squash"}
    config |= {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet10t", "pretrained_cfg": config}))
    loaded = load_network(tmp_path)
    assert loaded.architecture == "timm/resnet10t"
    assert loaded.transform == Transform(None, 64, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_folder_without_an_architecture(tmp_path: Path, text: str):
    save_file(timm.create_model("resnet10t").state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(WeightsError, match=r"config\.json"):
        load_network(tmp_path)


class Hub:
    """A server that answers for one repository as huggingface.co does.

    Attributes:
        files: Their content by name.
        requests: Paths that were asked for.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.requests = files, list[str]()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                hub.requests.append(self.path)
                name = self.path.rpartition("/")[2]
                content = hub.files.get(name) if self.path.startswith("/owner/mine/resolve/") else None
                if content is None:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "RepositoryNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", "0" * 40)
                self.end_headers()
                if body:
                    self.wfile.write(content)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    folder = tmp_path / "published"
    write_hub_folder(folder, made(), title="mine")
    served = Hub({path.name: path.read_bytes() for path in folder.iterdir()})
    template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", served.url)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    yield served
    served.server.shutdown()
    served.server.server_close()


def test_a_repository_is_fetched_and_kept(hub: Hub):
    loaded = load_network("hf-hub:owner/mine")
    assert (loaded.architecture, loaded.weights, loaded.digest) == ("resnet18", "hf-hub:owner/mine", made().digest)
    fetched = [path for path in hub.requests if path.endswith("model.safetensors")]
    assert fetched
    hub.server.shutdown()
    hub.server.server_close()
    assert load_network("hf-hub:owner/mine").digest == loaded.digest


def test_a_repository_that_cannot_be_reached(hub: Hub):
    with pytest.raises(WeightsError, match="hf-hub:owner/other cannot be fetched") as caught:
        load_network("hf-hub:owner/other")
    for words in ("--weights small", "owner/other/resolve/main/model.safetensors", "--weights FOLDER"):
        assert words in str(caught.value.hint)
    with pytest.raises(UsageError, match="hf-hub:a/b/c") as usage:
        load_network("hf-hub:a/b/c")
    assert "owner/name" in str(usage.value.hint)


def test_pretrained_weights_of_timm_come_from_its_repository(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(WeightsError, match=r"timm/resnet10t\.c3_in1k cannot be fetched") as caught:
        load_network("imagenet", arch="timm/resnet10t")
    assert "--arch timm/resnet10t, --weights FOLDER" in str(caught.value.hint)
    assert any(path.startswith("/timm/resnet10t.c3_in1k/resolve/") for path in hub.requests)
