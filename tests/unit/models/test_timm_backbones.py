"""Models of timm, against timm itself in a few lines."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform, resolve_data_config

from vreid_cli.errors import MissingExtraError, UsageError, WeightsError
from vreid_cli.extraction.options import ExtractionOptions
from vreid_cli.extraction.resolve import resolve_inference
from vreid_cli.models.backbones import find_backbone
from vreid_cli.models.timm_backbones import find_timm
from vreid_cli.models.transforms import Transform
from vreid_cli.models.weights import LoadedNetwork, load_network

#: Small models of different kinds: what enters the classifier has another name and width in each.
MODELS = ("resnet10t", "mobilenetv3_small_050", "vit_tiny_patch16_224", "convnext_atto", "efficientvit_b0")

pytestmark = pytest.mark.usefixtures("one_thread")


def load(weights: str | Path, arch: str) -> LoadedNetwork:
    loaded = load_network(weights, arch=arch)
    assert isinstance(loaded, LoadedNetwork)
    return loaded


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_features_equal_those_of_timm(tmp_path: Path, name: str):
    torch.manual_seed(5)
    plain = timm.create_model(name, pretrained=False, num_classes=7).eval()
    save_file(plain.state_dict(), tmp_path / "model.safetensors")
    random = np.random.default_rng(1)
    images = [Image.fromarray(random.integers(0, 256, (90, 120, 3), dtype=np.uint8)) for _ in range(2)]
    prepare = create_transform(**resolve_data_config({}, model=plain), is_training=False)
    with torch.inference_mode():
        inputs = torch.stack([prepare(image) for image in images])
        expected = plain.forward_head(plain.forward_features(inputs), pre_logits=True)
    loaded = load(tmp_path / "model.safetensors", f"timm/{name}")
    assert loaded.dropped_classes == 7
    inference = resolve_inference(loaded, ExtractionOptions(backend="torch"), device=torch.device("cpu"), images=2)
    found = inference.compute(torch.stack([loaded.transform.crop_uint8(image) for image in images]))
    assert found.shape == (2, loaded.dimension)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_the_input_is_that_of_the_models_configuration():
    assert find_backbone("timm/resnet10t").transform == Transform(
        201, 176, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), interpolation="bicubic"
    )


def test_random_weights_come_from_the_seed():
    first, second, other = (load_network("random", arch="timm/resnet10t", seed=seed).digest for seed in (1, 1, 2))
    assert first == second != other


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("resnet81", "timm has no model 'resnet81'", "did you mean timm/resnet"),
        ("resnet18.nonsense", "timm knows no weights 'resnet18.nonsense'", "resnet18.a1_in1k"),
        ("zzz", "timm has no model 'zzz'", "timm.list_models"),
    ],
)
def test_an_unknown_name(name: str, message: str, hint: str):
    with pytest.raises(UsageError, match=message) as caught:
        find_backbone(f"timm/{name}")
    assert hint in str(caught.value.hint)


def test_without_timm_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    find_timm.cache_clear()
    monkeypatch.setattr("vreid_cli.runtime.extras.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match="needs timm") as caught:
        find_backbone("timm/resnet10t")
    assert 'pip install "vreid[timm]"' in str(caught.value.hint)


def test_weights_of_another_model(tmp_path: Path):
    save_file(timm.create_model("resnet10t").state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"does not fit timm/mobilenetv3_small_050"):
        load_network(tmp_path / "model.safetensors", arch="timm/mobilenetv3_small_050")
    with pytest.raises(UsageError, match="which architecture"):
        load_network(tmp_path / "model.safetensors")
