"""``vreid.show`` and ``vreid show``: the same rows, the same sheet, the same warnings."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from tiny import EXTRACT, TRACKS, Vreid, draw_tracks

import vreid_cli as library


@pytest.mark.slow
@pytest.mark.parametrize(("task", "metric"), [("t2t", "meanMCD50"), ("i2t", "MCD"), ("i2i", "MCD")])
def test_both_ways(vreid: Vreid, weights: Path, task: str, metric: str) -> None:
    draw_tracks(Path("data"), TRACKS)
    vreid(*EXTRACT, "--data-dir", "data", "--weights", weights, "--run-dir", "run")
    vreid("rank", "--task", task, "--metric", metric, "--run-dir", "run")
    for name in ("0001_c001", "0001_c002"):
        for path in Path("data").glob(f"*/{name}/0.png"):
            path.unlink()
    path = f"run/rankings/{task}-{metric}.parquet"
    told = vreid.json("show", "000[12]*", "--ranking", path, "--top", "4", "-o", "sheet.png")
    ranking = library.read_ranking(path)
    sheet = library.show(
        ranking,
        ["000[12]*"],
        query=library.read_features("run/features/query"),
        gallery=library.read_features("run/features/gallery"),
        options=library.ShowOptions(top=4),
    )
    rows = {query: [asdict(item) for item in items] for query, items in sheet.nearest.items()}
    assert json.loads(json.dumps(rows)) == {one["query_id"]: one["nearest"] for one in told["queries"]}
    assert sheet._repr_png_() == Path("sheet.png").read_bytes()
    assert list(sheet.warnings) == told["warnings"]
    assert len(sheet.warnings) == 2
