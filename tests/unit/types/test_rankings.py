"""Facts of rankings: declared once, and said by files, tables, comparisons and JSON alike."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import vreid_cli
from vreid_cli.types.rankings import RankingFacts, said_of

DECLARED = "    selves: Mapping[str, tuple[str, ...]]"
TOY = '    flavour: str | None = fact(None, "flavour", usual="plain")\n'
#: Writes two rankings that differ in the new fact, reads them back, and shows them.
SCRIPT = """
import json, numpy as np
from pathlib import Path
from dataclasses import replace
from rich.console import Console
from vreid_cli.evaluation.evaluate import evaluate
from vreid_cli.reports.evaluation_json import evaluation_json
from vreid_cli.reports.tables import evaluation_table
from vreid_cli.store.formats import read_ranking, read_ranking_facts, write_ranking
from vreid_cli.types.arrays import text_array
from vreid_cli.types.rankings import RankingBlock, RankingFacts
from vreid_cli.types.tracks import Items

sides = {side: Items(*(text_array([name]) for name in (side, "v", None))) for side in ("queries", "gallery")}
column = np.zeros(1, dtype=np.int32)
results = {}
for flavour, ending in (("sweet", "parquet"), ("sour", "json")):
    path = Path(f"{flavour}.{ending}")
    with write_ranking(path, RankingFacts(metric="MCD", flavour=flavour), **sides) as write:
        write(RankingBlock(column, column + 1, column, np.zeros(1, dtype=np.float32)))
    results[str(path)] = evaluate(read_ranking(path))
sweet, sour = (evaluation_json(path, one)["flavour"] for path, one in results.items())
print(sweet, sour, *next(iter(results.values())).facts.in_words(), sep="; ")
print(read_ranking_facts(Path("sweet.parquet")).difference(read_ranking_facts(Path("sour.json"))))
Console(width=150).print(evaluation_table(results))
"""


def test_a_new_fact_is_one_line(tmp_path: Path) -> None:
    copy = tmp_path / "vreid_cli"
    shutil.copytree(Path(vreid_cli.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    source = copy / "types" / "rankings.py"
    text = source.read_text(encoding="utf-8")
    assert text.count(DECLARED) == 1
    source.write_text(text.replace(DECLARED, TOY + DECLARED), encoding="utf-8")
    told = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=120
    ).stdout
    first, second, *table = told.splitlines()
    assert first.startswith("sweet; sour; ")
    assert first.endswith("; flavour sweet")
    assert second == "its flavour is sweet, not sour"
    head, *rows = [line for line in table if line[:1] in "┃│"]
    assert "flavour" in head
    assert [row.count(" sweet ") + 2 * row.count(" sour ") for row in rows] == [1, 2]


FACTS = RankingFacts(
    dataset="veri",
    task="t2t",
    metric="RSCR",
    alpha=0.5,
    definition="paper",
    track_unit="camera",
    gallery_identity={"architecture": "vgg16"},
    rerank={"k1": 20, "k2": 6, "lambda_value": 0.3},
    gallery_size=2021,
    query_lengths={"q": 3},
    selves={"q": ("g", "h")},
)


@pytest.mark.parametrize("facts", [RankingFacts(), FACTS, RankingFacts(dataset="10", weights="null", trial=0)])
def test_facts_are_kept_as_they_are(facts: RankingFacts) -> None:
    assert RankingFacts.from_stored(facts.to_stored()) == facts
    assert RankingFacts.from_metadata(facts.to_metadata()) == facts
    assert RankingFacts.from_metadata({**facts.to_metadata(), "pandas": "{"}) == facts


@pytest.mark.parametrize(
    ("name", "text"), [("coverage", "half"), ("gallery_size", "many"), ("gallery_size", '"x"'), ("selves", "7")]
)
def test_a_fact_that_is_not_what_it_should_be_is_refused(name: str, text: str) -> None:
    with pytest.raises(ValueError):
        RankingFacts.from_metadata({name: text})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"task": "i2t"}, "its task is t2t, not i2t"),
        ({"rerank": None}, "its rerank is another"),
        ({"gallery_identity": {"architecture": "resnet18"}}, "its gallery identity is another"),
        ({"top_k": 5}, "its top k is none, not 5"),
        ({"selves": {}}, None),
    ],
)
def test_the_first_difference_is_said(change: dict[str, Any], said: str | None) -> None:
    assert FACTS.difference(replace(FACTS, **change)) == said


def test_what_is_usual_is_not_said() -> None:
    usual = RankingFacts(dataset="veri", task="i2i", definition="paper")
    assert usual.in_words() == ("dataset veri", "task i2i", "definition paper")
    assert "re-ranking k1 20, k2 6, lambda_value 0.3" in FACTS.in_words()
    cut = replace(usual, coverage="positives", top_k=1000, threshold=0.5, cameras="other", trial=2, trial_seed=7)
    assert cut.in_words()[3:] == (
        "cameras other",
        "trial 2 (seed 7)",
        "lists only the 1,000 nearest of what is no farther than 0.5 and the query's vehicle",
    )
    assert said_of([usual, replace(usual, cameras="other")])[-1] == "cameras all/other"


def test_a_metric_is_named_with_its_number() -> None:
    assert (FACTS.metric_name, RankingFacts(metric="MCD").metric_name) == ("RSCR, α 0.5", "MCD")
    assert (FACTS.architecture, RankingFacts().architecture) == ("vgg16", None)
