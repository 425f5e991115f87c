"""Networks of any origin behind the same commands: the one that ships, ONNX files, timm's, folders of the hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from graphs import run_plainly, write_graph
from PIL import Image
from server import Server, serve
from tiny import QUERIES, TRACKS, Vreid, draw_tracks, save_weights

from vreid_cli.models.sources import SMALL_FOLDER
from vreid_cli.store.features import FeatureStore

DATA = ("extract", "--dataset", "tracks", "--data-dir", "data")


@pytest.fixture
def vreid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Vreid:
    draw_tracks(tmp_path / "data", TRACKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VREID_CACHE_DIR", str(tmp_path / "cache"))
    return Vreid(capsys)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with serve(b"content", "osnet_ain_x1_0_vehicle_reid.onnx") as serving:
        yield serving


def features(run: str, split: str = "gallery") -> tuple[list[str], np.ndarray]:
    read = FeatureStore(Path("runs") / run / "features" / split).read()
    return list(read.image_id), np.asarray(read.matrix.take(np.arange(len(read.image_id))))


def test_own_images_are_taken_by_the_network_that_ships(vreid: Vreid):
    vreid(*DATA)
    told = [line for line in vreid.err.splitlines() if "no --weights given" in line]
    assert told == ["no --weights given: small, the network that ships with vreid, for a first look"]
    made = json.loads(Path("runs/tracks-mobilenet_v2-small/run.json").read_text())
    digest = json.loads((SMALL_FOLDER / "config.json").read_text())["weights_digest"]
    assert (made["architecture"], made["weights"], made["weights_digest"]) == ("mobilenet_v2", "small", digest)
    assert not Path("cache").exists()  # nothing was fetched
    vreid("rank")
    ranking = Path("runs/tracks-mobilenet_v2-small/rankings/t2t-meanMCD50.parquet")
    assert ranking.is_file()
    vreid("show", "--output", "sheet.png")
    assert Image.open("sheet.png").width > 500


def test_the_default_of_veri_stays_the_authors(vreid: Vreid):
    error = vreid.error("extract", "--data-dir", "data", code=1)
    assert "image_query" in error["message"] + error["hint"]
    shown = json.loads(vreid("extract", "--dataset", "csv", "--show-config", "--json"))
    assert shown["config"]["model"]["weights"] is None


def test_an_architecture_without_weights_of_its_own_has_to_name_some(vreid: Vreid):
    error = vreid.error(*DATA, "--arch", "resnet18", code=2)
    assert error["message"] == "--arch resnet18: which weights?"
    assert "--weights imagenet, random, or a file" in error["hint"]


def test_an_onnx_file_from_extract_to_show(vreid: Vreid):
    write_graph(Path("nets/theirs.onnx"), images=(1, 3, 16, 20))
    given = ("--weights", "nets/theirs.onnx", "--set", "model.input.preset=openvino")
    vreid(*DATA, *given)
    run = "tracks-onnx-theirs"
    names, found = features(run)
    pixels = []
    for name in names:
        image = Image.open(Path("data/gallery") / name).convert("RGB").resize((20, 16), Image.Resampling.BILINEAR)
        pixels.append(np.asarray(image, dtype=np.float32).transpose(2, 0, 1))
    np.testing.assert_allclose(found, run_plainly(Path("nets/theirs.onnx"), np.stack(pixels)), rtol=1e-5, atol=1e-4)
    made = json.loads(Path(f"runs/{run}/run.json").read_text())
    assert made["weights_digest"] == hashlib.sha256(Path("nets/theirs.onnx").read_bytes()).hexdigest()
    assert made["input"] == {"preset": "openvino"}
    vreid("rank", "--metric", "all")
    result = vreid.json("evaluate", f"runs/{run}/rankings/t2t-meanMCD50.parquet")["results"][0]
    assert result["total_queries"] == len(QUERIES)
    assert "theirs.onnx" in vreid("info")
    # The run says what the input is: the command goes on without it, and not with another.
    vreid(*DATA[:1], "--run-dir", f"runs/{run}")
    assert "nothing to compute" in vreid.out
    error = vreid.error(*DATA, *given[:2], "--set", "model.input.preset=tao")
    assert "holds features of another transform" in error["message"]


def test_what_an_onnx_file_needs_is_said_before_anything_is_made(vreid: Vreid):
    write_graph(Path("theirs.onnx"))
    error = vreid.error(*DATA, "--weights", "theirs.onnx", code=2)
    assert "does not say what input it expects" in error["message"]
    assert "theirs.onnx is an ONNX file" in vreid.error(
        *DATA, "--weights", "theirs.onnx", "--set", "model.input.preset=tao", "--set", "model.input.size=[16,16]",
        "--precision", "bf16", code=2,
    )["message"]  # fmt: skip
    assert not Path("runs").exists()
    error = vreid.error("export", "model", "--weights", "theirs.onnx", *("--set", "model.input.preset=tao"),
                        *("--set", "model.input.size=[16,16]"), code=2)  # fmt: skip
    assert "can only be run as it is" in error["message"]


def test_vehicle_reid_0001_is_downloaded_once_and_verified(
    vreid: Vreid, server: Server, monkeypatch: pytest.MonkeyPatch
):
    path = write_graph(Path("made.onnx"), images=(1, 3, 208, 208), flat=True)
    server.content = path.read_bytes()
    monkeypatch.setattr("vreid_cli.models.sources.VEHICLE_REID_URL", server.url)
    monkeypatch.setattr(
        "vreid_cli.models.sources.VEHICLE_REID_SHA384", hashlib.sha384(server.content).hexdigest(), raising=True
    )
    vreid(*DATA, "--weights", "vehicle-reid-0001")
    made = json.loads(Path("runs/tracks-onnx-vehicle-reid-0001/run.json").read_text())
    assert made["transform"].startswith("rgb-bilinear-squash-crop208-[[0.0, 0.0, 0.0]")
    asked = len(server.requests)
    vreid(*DATA, "--weights", "vehicle-reid-0001")
    assert len(server.requests) == asked
    monkeypatch.setattr("vreid_cli.models.sources.VEHICLE_REID_SHA384", "0" * 96)
    error = vreid.error(*DATA, "--weights", "vehicle-reid-0001")
    assert "is not the published file: SHA384" in error["message"]


@pytest.mark.slow
def test_a_model_of_timm_is_extracted_trained_and_exported(vreid: Vreid):
    vreid(*DATA, "--arch", "timm/resnet10t", "--weights", "random", "--set", "model.input.size=[64,64]")
    assert Path("runs/tracks-timm_resnet10t-random/run.json").is_file()
    draw_tracks(Path("learn"), {f"train/{track}": 2 for track in ("0011_c001", "0011_c002", "0012_c001", "0012_c002")})
    trained = ("--dataset", "tracks", "--data-dir", "learn", "--arch", "timm/resnet10t", "--weights", "random")
    for recipe in ("paper", "strong"):
        sizes = ("--epochs", "1", "--batch-size", "4", "--crop", "64", "--held-out", "0")
        per_vehicle = f"train.per_vehicle={0 if recipe == 'paper' else 2}"
        vreid("train", *trained, "--recipe", recipe, *sizes, "--set", per_vehicle, "--run-dir", recipe)
    checkpoint = "strong/checkpoints/last.safetensors"
    vreid(*DATA, "--weights", checkpoint, "--run-dir", "own")
    assert json.loads(Path("own/run.json").read_text())["architecture"] == "timm/resnet10t"
    exported = vreid.json("export", "model", "--weights", checkpoint, "--output", "own.onnx")
    assert max(exported["parity"].values()) < 1e-5
    vreid(*DATA, "--weights", "own.onnx", "--run-dir", "onnx")  # it says itself what it expects
    vreid("export", "model", "--weights", checkpoint, "--to-hub-folder", "folder")
    vreid(*DATA, "--weights", "folder", "--run-dir", "hub")
    digests = [json.loads(Path(run, "run.json").read_text())["weights_digest"] for run in ("own", "hub")]
    assert digests[0] == digests[1]


def test_a_hub_folder_is_written_once(vreid: Vreid):
    save_weights(Path("tiny.safetensors"))
    vreid("export", "model", "--weights", "tiny.safetensors", "--to-hub-folder", "folder", "--half")
    assert sorted(path.name for path in Path("folder").iterdir()) == ["README.md", "config.json", "model.safetensors"]
    error = vreid.error("export", "model", "--weights", "tiny.safetensors", "--to-hub-folder", "folder")
    assert "holds a network already" in error["message"]
    vreid("export", "model", "--weights", "tiny.safetensors", "--to-hub-folder", "folder", "--force")
    error = vreid.error(
        "export", "model", "--weights", "tiny.safetensors", "--to-hub-folder", "folder", "--output", "a.onnx", code=2
    )
    assert "which one?" in error["message"]


def test_the_network_that_ships_is_verified(vreid: Vreid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    broken = tmp_path / "broken"
    broken.mkdir()
    content = bytearray((SMALL_FOLDER / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (broken / "model.safetensors").write_bytes(content)
    monkeypatch.setattr("vreid_cli.models.sources.SMALL_FOLDER", broken)
    error = vreid.error(*DATA)
    assert "ships with vreid is damaged" in error["message"]
    assert error["hint"] == "install vreid again"
