"""Each example of CONTRIBUTING.md, put into its table and into nothing else, works from the command line."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny import Vreid, draw, draw_tracks

from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.models.backbones import BACKBONES
from vreid_cli.models.sources import SOURCES
from vreid_cli.ranking.metrics import AGGREGATIONS, DISTANCES
from vreid_cli.store.features import FeatureStore
from vreid_cli.store.formats import FEATURE_FORMATS, RANKING_FORMATS
from vreid_cli.types.rankings import RankingFacts

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
    vreid(*EXTRACT, "--arch", toy.backbone.name, "--weights", "random")
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


def columns(path: str) -> dict[str, list[Any]]:
    table: dict[str, list[Any]] = pq.read_table(path).to_pydict()
    return table


@guide("Add a distance")
def test_distance(toy: Any, vreid: Vreid, ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DISTANCES, toy.name, toy.entry)
    vreid("rank", "--task", "i2i", "--metric", "mcb")
    vreid("rank", "--metric", "minMCB,minMED")
    rows = columns(f"{ready}/rankings/i2i-MCB.parquet")
    query, gallery = (FeatureStore(ready / "features" / split).read() for split in ("query", "gallery"))
    for row in range(0, len(rows["rank"]), 7):
        one, other = (
            features.matrix.take(np.flatnonzero(features.image_id == rows[name][row]))
            for features, name in ((query, "query_id"), (gallery, "gallery_id"))
        )
        assert rows["distance"][row] == pytest.approx(float(np.abs(one - other).sum()), rel=1e-5)
    results = vreid.json("evaluate")["results"]
    assert {(result["task"], result["metric"]) for result in results} == {
        ("i2i", "MCB"),
        ("t2t", "minMCB"),
        ("t2t", "minMED"),
    }


@guide("Add an aggregation")
def test_aggregation(toy: Any, vreid: Vreid, ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(AGGREGATIONS, toy.name, toy.places)
    vreid("rank", "--metric", "maxMED,minMED")
    largest, smallest = (columns(f"{ready}/rankings/t2t-{name}.parquet") for name in ("maxMED", "minMED"))
    pairs = [
        dict(zip(zip(rows["query_id"], rows["gallery_id"], strict=True), rows["distance"], strict=True))
        for rows in (largest, smallest)
    ]
    # A track of one image has one distance; of several, the largest is above the smallest.
    assert all(pairs[0][pair] >= pairs[1][pair] for pair in pairs[1])
    assert sum(pairs[0][pair] > pairs[1][pair] for pair in pairs[1]) > len(pairs[1]) / 2


@guide("Add a feature format")
def test_feature_format(toy: Any, vreid: Vreid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FEATURE_FORMATS, toy.ending, toy.entry)
    Path("query.csv").write_text("a,0001,c001,0,1\nb,0002,c001,1,0\n")
    Path("gallery.csv").write_text("c,0001,c002,0,2\nd,0002,c002,3,1\nd,0002,c002,2,0\n")
    vreid("rank", "--query-features", "query.csv", "--gallery-features", "gallery.csv", "--output", "r.parquet")
    assert vreid.json("evaluate", "r.parquet")["results"][0]["mAP"] == 1.0
    error = vreid.error("rank", "--query-features", "query.xls", "--gallery-features", "gallery.csv", "-o", "r.parquet")
    assert "query.xls" in error["message"]


@guide("Add a ranking format")
def test_ranking_format(toy: Any, vreid: Vreid, ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RANKING_FORMATS, toy.ending, toy.entry)
    vreid("rank", "--output", "r.tsv")
    vreid("rank", "--output", "r.parquet")
    rows = columns("r.parquet")
    expected = zip(rows["query_id"], rows["rank"], rows["gallery_id"], strict=True)
    written = [line.split("\t")[:3] for line in Path("r.tsv").read_text().splitlines()]
    assert written == [[query, str(rank), item] for query, rank, item in expected]


@guide("Add an option")
def test_option(toy: Any) -> None:
    assert toy.ShowOptions(columns=3).columns == 3
    with pytest.raises(ValueError, match="columns"):
        toy.ShowOptions(columns=0)


@guide("Add a fact of a ranking")
def test_fact(toy: Any) -> None:
    fields = {"__annotations__": {"weather": str | None}, "weather": toy.weather}
    facts = dataclass(frozen=True)(type("Facts", (RankingFacts,), fields))
    rain = facts(task="t2t", weather="rain")
    assert "weather rain" in rain.in_words()
    assert rain.to_dict()["weather"] == "rain"
    assert facts.from_metadata(rain.to_metadata()) == rain
    assert rain.difference(facts(task="t2t")) == "its weather is rain, not none"


#: What an author of the example's entry writes into the table.
ENTRIES = {
    "Add a backbone": "from vreid_cli.models.backbones import BACKBONES; BACKBONES[backbone.name] = backbone",
    "Add weights with a name": "from vreid_cli.models.sources import SOURCES; SOURCES[source.name] = source",
    "Add a distance": "from vreid_cli.ranking.metrics import DISTANCES; DISTANCES[name] = entry",
    "Add an aggregation": "from vreid_cli.ranking.metrics import AGGREGATIONS; AGGREGATIONS[name] = places",
    "Add a layout": "from vreid_cli.data.layouts import LAYOUTS; LAYOUTS[layout.name] = layout",
}


@pytest.mark.slow
def test_help_names_the_entries() -> None:
    # Help is made when the commands are imported, after the tables are read: in a process of its own.
    program = [line for heading, entry in ENTRIES.items() for line in (example(heading), entry)]
    program += ["from vreid_cli.cli.app import run", *(f"run(['{name}', '--help'])" for name in ("extract", "rank"))]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(program)], capture_output=True, text=True, encoding="utf-8", check=True
    )
    told = re.sub(r"[\s│]+", " ", done.stdout)
    for name in ("regnet_y_400mf", "those of our lab", "meanMCB50", "maxMCD", "flat"):
        assert name in told
