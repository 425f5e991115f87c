"""``vreid export model``: which network is meant, where it goes, what it reports."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from processes import in_process_of_its_own
from tiny import Vreid

from vreid_cli.data.decoding import decode_rgb
from vreid_cli.models import onnx as exporting
from vreid_cli.models.backbones import BACKBONES
from vreid_cli.models.checkpoint import save_checkpoint
from vreid_cli.models.network import build_random
from vreid_cli.models.onnx import PARITY_TOLERANCE
from vreid_cli.models.transforms import Transform
from vreid_cli.models.weights import LoadedNetwork, load_network
from vreid_cli.store.runs import RunDirectory

pytestmark = pytest.mark.slow

EXPORT = ("export", "model")


def facts_of(path: str | Path) -> dict[str, str]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(session.get_modelmeta().custom_metadata_map)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """No export at all, where only what is asked for matters: architecture and weights of each."""
    asked: list[tuple[str, str]] = []

    def write(path: Path, loaded: LoadedNetwork, *, facts: object) -> dict[int, float]:
        asked.append((loaded.network.backbone.name, loaded.weights))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("written")
        return {1: 0.0}

    monkeypatch.setattr("vreid_cli.workflows.export_model.write_onnx", write)
    return asked


# -- the whole way ---------------------------------------------------------------------------------------------


def test_the_exported_network_makes_the_features_of_its_run(vreid: Vreid, ready: Path, made: Path) -> None:
    report = vreid.json(*EXPORT)
    path = f"{ready}/exports/resnet18-tiny.onnx"
    assert report["outputs"] == [path]
    assert set(report["parity"]) == {"1", "7"}
    assert all(0 <= error <= PARITY_TOLERANCE for error in report["parity"].values())
    facts = facts_of(path)
    info = json.loads((ready / "run.json").read_text())
    assert facts["weights_digest"] == report["weights_digest"] == info["weights_digest"]
    # From the images, by what the file says of itself.
    features = RunDirectory(ready).features("query").read()
    transform = Transform.from_values(json.loads(facts["transform"]))
    images = [decode_rgb(made / "data" / "query" / name, max_pixels=10**7) for name in features.image_id]
    pixels = torch.stack([transform.crop_uint8(image) for image in images]).numpy()
    mean, std = (np.array(values, dtype=np.float32).reshape(1, 3, 1, 1) for values in (transform.mean, transform.std))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["latent"], {"images": (pixels.astype(np.float32) / 255 - mean) / std})
    expected = features.matrix.take(np.arange(len(images)))
    assert np.abs(found - expected).max() <= PARITY_TOLERANCE * np.abs(expected).max()
    history = (ready / "history.jsonl").read_text().splitlines()
    assert len(history) == 2


def test_smoke_nothing_but_the_report_is_on_stdout(tmp_path: Path, weights: Path) -> None:
    done = in_process_of_its_own(*EXPORT, "--weights", weights, cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert lines[:2] == [
        "wrote resnet18-tiny.onnx",
        "resnet18, weights tiny.safetensors: images (N, 3, 32, 32) to latent (N, 512)",
    ]
    assert lines[2].startswith("compared with torch: relative error ")
    assert len(lines) == 3
    assert done.stderr == "exporting resnet18 with weights tiny.safetensors; this may take half a minute\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["resnet18-tiny.onnx"]


def test_a_wrong_graph_is_refused_and_leaves_no_file(
    vreid: Vreid, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = exporting._export
    other = load_network("random", arch="resnet18", seed=5)

    def export(loaded: LoadedNetwork, *, facts: dict[str, str]) -> object:
        return real(replace(loaded, network=other.network), facts=facts)

    monkeypatch.setattr(exporting, "_export", export)
    error = vreid.json(*EXPORT, "--weights", weights, code=1)["error"]
    assert "resnet18-tiny.onnx would not compute what torch does: relative error" in error["message"]
    assert "at batch 1" in error["message"]
    assert list(Path().iterdir()) == []


# -- which network, and where it goes --------------------------------------------------------------------------


def test_weights_that_are_named_need_no_run_and_touch_none(
    vreid: Vreid, ready: Path, quick: list[tuple[str, str]], weights: Path
) -> None:
    before = sorted(ready.rglob("*"))
    assert vreid.json(*EXPORT, "--arch", "alexnet", "--weights", "random")["outputs"] == ["alexnet-random.onnx"]
    assert vreid.json(*EXPORT, "--weights", weights)["outputs"] == ["resnet18-tiny.onnx"]
    assert quick == [("alexnet", "random"), ("resnet18", "tiny.safetensors")]
    assert sorted(ready.rglob("*")) == before
    # Unless the run is named too.
    shutil.copy(weights, "elsewhere.safetensors")
    assert vreid.json(*EXPORT, "--run-dir", ready, "--weights", weights)["outputs"] == [
        f"{ready}/exports/resnet18-tiny.onnx"
    ]
    error = vreid.error(*EXPORT, "--run-dir", ready, "--weights", "elsewhere.safetensors")
    assert "the run runs/tracks-resnet18-tiny was made with" in error["message"]
    error = vreid.error(*EXPORT, "--arch", "alexnet")
    assert "--arch 'alexnet': the run runs/tracks-resnet18-tiny was made with 'resnet18'" in error["message"]
    assert "is no run directory" in vreid.error(*EXPORT, "--run-dir", "nowhere")["message"]


def test_weights_of_a_run_may_be_named_by_any_path(vreid: Vreid, ready: Path, made: Path, weights: Path) -> None:
    for given in (weights, Path(os.path.relpath(weights))):
        Path("vreid.toml").write_text(f'[model]\nweights = "{given.as_posix()}"\n')
        assert vreid("rank", "--show-config")
    Path("vreid.toml").write_text('[model]\nweights = "tiny.safetensors"\n')
    assert "was made with" in vreid.error("rank", "--show-config")["message"]


def test_without_a_run_it_is_the_authors_network(vreid: Vreid, quick: list[tuple[str, str]]) -> None:
    Path("cache").mkdir()
    Path("cache/VeRI_densenet_ft50.pth").write_bytes(b"not theirs")
    assert "VeRI_densenet_ft50.pth is not the published file" in vreid.error(*EXPORT)["message"]
    assert "which weights?" in vreid.error(*EXPORT, "--arch", "vgg16", code=2)["message"]
    assert quick == []


@pytest.mark.parametrize("source", ["command line", "vreid.toml"])
def test_an_architecture_that_contradicts_the_file_is_an_error(vreid: Vreid, weights: Path, source: str) -> None:
    if source == "vreid.toml":
        Path("vreid.toml").write_text('[model]\narch = "alexnet"\n')
    chosen = ["--arch", "alexnet"] if source == "command line" else []
    error = vreid.error(*EXPORT, "--weights", weights, *chosen)
    assert "tiny.safetensors is for resnet18, not for alexnet" in error["message"]
    assert error["hint"] == "use --arch resnet18"


def test_weights_that_changed_since_the_run_are_refused(
    vreid: Vreid, ready: Path, quick: list[tuple[str, str]], tmp_path: Path
) -> None:
    path = tmp_path / "later.safetensors"
    network = build_random(BACKBONES["resnet18"], seed=8)
    save_checkpoint(path, network, transform=Transform(34, 32), facts={})
    info = json.loads((ready / "run.json").read_text())
    (ready / "run.json").write_text(json.dumps({**info, "weights": str(path)}))
    error = vreid.error(*EXPORT)
    assert f"the weights {path} are no longer those that the run {ready} was made with" in error["message"]
    assert quick == []
    vreid(*EXPORT, "--weights", path)
    assert quick == [("resnet18", "later.safetensors")]


def test_an_export_replaces_nothing_without_force(vreid: Vreid, quick: list[tuple[str, str]], weights: Path) -> None:
    Path("a.onnx").write_text("old")
    options = (*EXPORT, "--weights", weights, "--output", "a.onnx")
    error = vreid.error(*options)
    assert error["message"] == "a.onnx already exists"
    assert "--force" in error["hint"]
    assert (Path("a.onnx").read_text(), quick) == ("old", [])
    vreid(*options, "--force")
    assert Path("a.onnx").read_text() == "written"


def test_another_ending_is_refused(vreid: Vreid, weights: Path) -> None:
    error = vreid.error(*EXPORT, "--weights", weights, "-o", "model.pt", code=2)
    assert error["message"] == "--output model.pt: a model's file ends in .onnx"
    Path("vreid.toml").write_text('[export]\noutput = "exported"\n')
    assert "vreid.toml: export.output exported" in vreid.error(*EXPORT, "--weights", weights, code=2)["message"]


@pytest.mark.parametrize(
    ("missing", "told"),
    [(["onnxruntime"], "onnxruntime, which is not"), (["onnx", "onnxscript"], "onnx and onnxscript, which are not")],
)
def test_without_the_extra_the_error_names_what_to_install(
    vreid: Vreid, weights: Path, monkeypatch: pytest.MonkeyPatch, missing: list[str], told: str
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr("vreid_cli.runtime.extras.find_spec", lambda name: None if name in missing else real(name))
    error = vreid.json(*EXPORT, "--weights", weights, code=1)["error"]
    assert error["message"] == f"export model needs {told} installed"
    assert 'pip install "vreid[onnx]"' in error["hint"]
    assert 'pip install -e ".[onnx]"' in error["hint"]
    assert list(Path().iterdir()) == []


def test_random_weights_are_told_to_mean_nothing(vreid: Vreid, quick: list[tuple[str, str]]) -> None:
    report = vreid.json(*EXPORT, "--arch", "resnet18", "--weights", "random")
    assert "mean nothing" in report["warnings"][0]
    assert "mean nothing" in vreid.err
