"""Each example of CONTRIBUTING.md, put into its table and into nothing else, works from the command line."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tiny import Vreid, draw

from vreid_cli.data.layouts import LAYOUTS

GUIDE = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"
TOY = "a_toy_module"


@pytest.fixture
def toy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that the first Python block under a heading of the guide makes."""
    heading = request.param
    section = GUIDE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    block = re.search(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert block, heading
    module = ModuleType(TOY)
    monkeypatch.setitem(sys.modules, TOY, module)
    exec(block[1].replace("MODULE:", f"{TOY}:"), module.__dict__)
    return module


def guide(heading: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("toy", [heading], indirect=True, ids=[heading.replace(" ", "-")])


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
