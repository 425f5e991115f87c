"""``vreid show``: which queries of which ranking it shows, and whose images."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import EXTRACT, QUERIES, Vreid, draw_tracks


def test_show_lists_the_nearest_and_says_how_they_were_counted(vreid: Vreid, ready: Path) -> None:
    vreid("rank")
    told = vreid("show", "--top", "2")
    assert all(query in told for query in QUERIES)
    for words in (
        *("meanMCD50", "dataset tracks", "task t2t", "definition paper", "track unit passage"),
        "--same-camera drop",
    ):
        assert words in told
    nearest = {entry["query_id"]: entry["nearest"] for entry in vreid.json("show", "--top", "9")["queries"]}
    # The query's own vehicle before its own camera is junk, and ranks are counted without it.
    assert "0001_c001_again" not in [item["gallery_id"] for item in nearest["0001_c001"]]
    assert [item["rank"] for item in nearest["0001_c001"]] == list(range(1, 7))
    kept = vreid.json("show", "0001_c001", "--top", "9", "--same-camera", "keep")["queries"][0]["nearest"]
    assert "0001_c001_again" in [item["gallery_id"] for item in kept]
    assert "ranking: runs/tracks-resnet18-tiny/rankings/t2t-meanMCD50.parquet" in vreid.err


@pytest.mark.usefixtures("ready")
def test_show_finds_queries_by_name_and_by_pattern(vreid: Vreid) -> None:
    vreid("rank")

    def shown(*names: str) -> list[str]:
        return [entry["query_id"] for entry in vreid.json("show", *names)["queries"]]

    assert shown("*_c001") == ["0001_c001", "0003_c001"]
    assert shown("0003_c001", "000?_c001") == ["0003_c001", "0001_c001"]
    error = vreid.error("show", "0001_c01", code=2)
    assert error["message"].endswith("has no query '0001_c01'")
    assert error["hint"].startswith("did you mean '0001_c001'?")
    told = vreid("show", "--set", "show.max_queries=3")
    assert "1 more query" in told
    assert QUERIES[3] not in told


def test_show_takes_the_default_ranking_else_the_only_one_else_asks(vreid: Vreid, ready: Path) -> None:
    assert vreid.error("show")["message"] == f"{ready} has no rankings yet"
    vreid("rank", "--metric", "minMED")
    assert vreid.json("show")["ranking"] == f"{ready}/rankings/t2t-minMED.parquet"
    vreid("rank", "--metric", "medMED")
    error = vreid.error("show")
    assert "several rankings" in error["message"]
    assert "t2t-medMED.parquet" in error["hint"]
    vreid("rank")
    assert vreid.json("show")["ranking"] == f"{ready}/rankings/t2t-meanMCD50.parquet"


@pytest.mark.parametrize("task", ["t2t", "i2t", "i2i"])
@pytest.mark.usefixtures("ready")
def test_a_sheet_holds_the_very_images(vreid: Vreid, made: Path, task: str) -> None:
    metric = "meanMCD50" if task == "t2t" else "MCD"
    vreid("rank", "--task", task)
    report = vreid.json("show", "--ranking", f"runs/tracks-resnet18-tiny/rankings/{task}-{metric}.parquet",
                        "0003_c001*", "--top", "3", "-o", "sheets/sheet.png")  # fmt: skip
    assert report["outputs"] == ["sheets/sheet.png"]
    assert report["warnings"] == []
    sheet = np.asarray(Image.open("sheets/sheet.png").convert("RGB")).reshape(-1, 3)
    # The vehicle's own colour lies on the sheet, as the mean of its body does in the image.
    body = np.asarray(Image.open(made / "data/query/0003_c001/0.png"))[8:24, 6:30].reshape(-1, 3).mean(axis=0)
    assert (np.abs(sheet - body).max(axis=1) < 12).sum() > 500


def test_a_sheet_of_images_that_moved_says_how_to_find_them_again(vreid: Vreid, ready: Path, made: Path) -> None:
    shutil.copytree(made / "data", "data")
    vreid("extract", "--run-dir", ready, "--data-dir", "data")
    vreid("rank")
    Path("data").rename("moved")
    error = vreid.error("show", "-o", "sheet.png")
    assert "are not at" in error["message"]
    assert "--data-dir" in error["hint"]
    assert "nothing to compute" in vreid("extract", "--run-dir", ready, "--data-dir", "moved")
    vreid("show", "-o", "sheet.png")


@pytest.mark.slow
def test_a_sheet_shows_the_images_of_the_rankings_own_run(
    vreid: Vreid, ready: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vreid("rank")
    shutil.copy(ready / "rankings/t2t-meanMCD50.parquet", "copy.parquet")
    draw_tracks(Path("other"), {"query/0007_c001": 1, "gallery/0008_c002": 1})
    vreid(*EXTRACT, "--data-dir", "other", "--weights", weights, "--run-dir", "newer")
    vreid("show", "--ranking", ready / "rankings/t2t-meanMCD50.parquet", "-o", "sheet.png")
    assert "newer" not in vreid.err
    error = vreid.error("show", "--ranking", "copy.parquet", "-o", "sheet.png")
    assert error["message"].startswith("nothing that copy.parquet names is in newer/features/query")
    vreid("show", "--ranking", "copy.parquet", "-o", "sheet.png", "--run-dir", ready)
    monkeypatch.chdir(ready / "rankings")
    vreid("show", "--ranking", "t2t-meanMCD50.parquet", "-o", "sheet.png")
    Path("../../latest").unlink()
    assert "lies in no run" in vreid.error("show", "--ranking", "../../../copy.parquet", "-o", "s.png")["message"]


@pytest.mark.usefixtures("ready")
def test_show_refuses_what_it_cannot_show(vreid: Vreid) -> None:
    vreid("rank")
    assert "not as 'x.bmp'" in vreid.json("show", "-o", "x.bmp", code=2)["error"]["message"]
    assert "--top" in vreid.json("show", "--top", "0", code=2)["error"]["message"]


def test_names_are_shown_as_they_are(vreid: Vreid, weights: Path) -> None:
    names = ["[bold]x[", ":car:", "-x", "mes véhicules 車"]
    draw_tracks(Path("data"), {**{f"query/{name}": 1 for name in names}, "gallery/a[/b]": 1})
    vreid(*EXTRACT, "--data-dir", "data", "--weights", weights)
    vreid("rank")
    told = vreid("show")
    assert all(name in told for name in [*names, "a[/b]"])
    assert "-x" in vreid("show", "--", "-x")
    vreid("show", "-o", "[red]sheet.png")
    assert "[red]sheet.png" in vreid.out
