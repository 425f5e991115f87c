"""Each example of CONTRIBUTING.md, put into its table and into nothing else, works from the command line."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tiny import Vreid, draw, draw_tracks

from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.models.backbones import BACKBONES
from vreid_cli.models.sources import SOURCES
from vreid_cli.store.features import FeatureStore

GUIDE = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"
TOY = "a_toy_module"


def example(heading: str) -> str:
    """The first Python block under a heading of the guide."""
    section = GUIDE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    block = re.search(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert block, heading
    return block[1].replace("MODULE:", f"{TOY}:")


@pytest.fixture
def toy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that the example makes."""
    module = ModuleType(TOY)
    monkeypatch.setitem(sys.modules, TOY, module)
    exec(example(request.param), module.__dict__)
    return module


def guide(heading: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("toy", [heading], indirect=True, ids=[heading.replace(" ", "-")])


EXTRACT = ("extract", "--dataset", "tracks", "--data-dir", "data", "--split", "gallery", "--run-dir", "run")


@guide("Add a backbone")
def test_backbone(toy: Any, vreid: Vreid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, toy.backbone.name, toy.backbone)
    draw_tracks(Path("data"), {"gallery/0001_c001": 1})
    vreid(*EXTRACT, "--arch", toy.backbone.name, "--weights", "random", "--backend", "torch")
    features = FeatureStore(Path("run/features/gallery")).read()
    assert features.dimension == toy.backbone.dimension
    assert features.identity["architecture"] == toy.backbone.name
    assert toy.backbone.name in vreid.error(*EXTRACT, "--arch", "regnet_y_400", code=2)["hint"]


@guide("Add weights with a name")
def test_weights(toy: Any, vreid: Vreid, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, toy.source.name, toy.source)
    draw_tracks(Path("data"), {"gallery/0001_c001": 1})
    shutil.copy(weights, "lab-resnet18.safetensors")
    vreid(*EXTRACT, "--arch", "resnet18", "--weights", "lab")
    assert FeatureStore(Path("run/features/gallery")).read().weights == "lab"


@guide("Add a layout")
def test_layout(toy: Any, vreid: Vreid, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LAYOUTS, toy.layout.name, toy.layout)
    for split, camera in (("query", "west"), ("gallery", "east")):
        for vehicle in (1, 2):
            draw(Path(f"cars/{split}/{vehicle}-{camera}-1.png"), hue=vehicle)
    vreid("extract", "--dataset", "flat", "--data-dir", "cars", "--arch", "resnet18", "--weights", weights)
    vreid("rank", "--task", "i2i")
    report = vreid.json("evaluate")
    assert (report["results"][0]["dataset"], report["results"][0]["mAP"]) == ("flat", 1.0)
    assert toy.layout.shape in vreid.error("extract", "--dataset", "flat", "--data-dir", "nowhere")["hint"]


#: What an author of the example's entry writes into the table.
ENTRIES = {
    "Add a backbone": "from vreid_cli.models.backbones import BACKBONES; BACKBONES[backbone.name] = backbone",
    "Add weights with a name": "from vreid_cli.models.sources import SOURCES; SOURCES[source.name] = source",
    "Add a layout": "from vreid_cli.data.layouts import LAYOUTS; LAYOUTS[layout.name] = layout",
}


@pytest.mark.parametrize(
    ("heading", "command", "name"),
    [
        ("Add a backbone", "extract", "regnet_y_400mf"),
        ("Add weights with a name", "extract", "those of our lab"),
        ("Add a layout", "extract", "flat"),
    ],
)
def test_help_names_the_entry(heading: str, command: str, name: str) -> None:
    # Help is made when the commands are imported, after the table is read: in a process of its own.
    program = [example(heading), ENTRIES[heading], f"from vreid_cli.cli.app import run; run(['{command}', '--help'])"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(program)], capture_output=True, text=True, encoding="utf-8", check=True
    )
    assert name in re.sub(r"[\s│]+", " ", done.stdout)
