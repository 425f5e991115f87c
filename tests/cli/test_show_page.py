"""``vreid show --output report.html``: which queries and whose images, from a run and from files."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from tiny import EXTRACT, QUERIES, Vreid, draw_tracks

import vreid_cli as library


def shown(path: str) -> list[str]:
    (text,) = re.findall(r'id="data">(.*?)</script>', Path(path).read_text(encoding="utf-8"), flags=re.DOTALL)
    return [query["id"] for query in json.loads(text)["queries"]]


@pytest.mark.parametrize("task", ["t2t", "i2t", "i2i"])
def test_a_page_of_the_run(vreid: Vreid, ready: Path, task: str) -> None:
    metric = "meanMCD50" if task == "t2t" else "MCD"
    vreid("rank", "--task", task)
    path = ready / f"rankings/{task}-{metric}.parquet"
    report = vreid.json("show", "--ranking", path, "--top", "3", "-o", "out/report.html")
    assert report["outputs"] == ["out/report.html"]
    assert report["warnings"] == []
    page = library.report(
        library.read_ranking(path),
        query=library.read_features(ready / "features/query"),
        gallery=library.read_features(ready / "features/gallery"),
        options=library.ShowOptions(top=3),
    )
    assert page.html == Path("out/report.html").read_text(encoding="utf-8")
    assert page.evaluation is not None
    scores = vreid.json("evaluate", path)["results"][0]
    assert f"{100 * scores['mAP']:.1f} %" in page.html
    assert f"network resnet18; weights tiny.safetensors; ranking {path.name}" in page.html
    assert len(shown("out/report.html")) == len(report["queries"])
    assert "page: out/report.html" in vreid("show", "--ranking", path, "-o", "out/report.html")


@pytest.mark.usefixtures("ready")
def test_queries_by_name_and_by_score(vreid: Vreid) -> None:
    vreid("rank")
    vreid("show", "-o", "all.html")
    assert shown("all.html") == QUERIES
    vreid("show", "*_c001", "-o", "some.html")
    assert shown("some.html") == ["0001_c001", "0003_c001"]
    vreid("evaluate", "--per-query", "queries.csv")
    with Path("queries.csv").open(newline="", encoding="utf-8") as file:
        scores = {row["query_id"]: float(row["average_precision"]) for row in csv.DictReader(file)}
    worst = min(scores, key=scores.__getitem__)
    vreid("show", "--worst", "1", "-o", "worst.html")
    assert shown("worst.html") == [worst]
    assert [one["query_id"] for one in vreid.json("show", "--worst", "1")["queries"]] == [worst]
    vreid("show", "--worst", "1", "-o", "worst.png")
    assert "--worst" in vreid.json("show", "--worst", "0", code=2)["error"]["message"]
    vreid("show", "--assets", "-o", "beside.html")
    assert list(Path("beside_files").glob("*.webp"))


def test_a_page_of_images_that_are_gone(vreid: Vreid, ready: Path, made: Path, tmp_path: Path) -> None:
    vreid("rank")
    (tmp_path / "elsewhere").mkdir()
    folders = ("--gallery-dir", "elsewhere", "--query-dir", made / "data/query")
    told = vreid.json("show", *folders, "-o", "report.html")["warnings"]
    assert all("the file is not there" in warning for warning in told)
    assert told
    told = vreid.json("show", "--gallery-dir", "nowhere", "-o", "report.html")["warnings"]
    assert any("are not at nowhere" in warning for warning in told)
    assert shown("report.html") == QUERIES
    assert (ready / "rankings").is_dir()


def test_marks_are_ground_truth_for_whom_has_none(vreid: Vreid, ready: Path) -> None:
    vreid("rank", "--metric", "minMED,meanMCD50")
    names = ("0002_c003", "0001_c002", "0009_c001")
    rows = [f"0002_c002,{name},{mark}" for name, mark in zip(names, ("same", "different", "unsure"), strict=True)]
    Path("reviewed.csv").write_text("\n".join(["query_id,gallery_id,mark", *rows]) + "\n")
    results = vreid.json("evaluate", "--truth", "reviewed.csv")["results"]
    for result in results:
        nearest = vreid.json("show", "0002_c002", "--ranking", result["ranking"], "--top", "9")["queries"][0]["nearest"]
        order = [item["gallery_id"] for item in nearest if item["gallery_id"] in names[:2]]
        assert result["mAP"] == (1.0 if order[0] == names[0] else 0.5)
        assert (result["valid_queries"], result["total_queries"]) == (1, 4)
        assert result["ground_truth"] == "reviewed.csv"
    told = vreid("evaluate", "--truth", "reviewed.csv")
    assert "ground truth from reviewed.csv" in " ".join(told.split())
    assert "all others are left out" in vreid.err
    Path("reviewed.csv").write_text("query_id,gallery_id,mark\nx,y,same\n")
    assert (
        "of 1 pair that reviewed.csv marks none is in" in vreid.error("evaluate", "--truth", "reviewed.csv")["message"]
    )
    assert "exclude each other" in vreid.error("evaluate", "--truth", "x.csv", "--split-open", "0.5", code=2)["message"]
    assert "there is no file gone.csv" in vreid.error("evaluate", "--truth", "gone.csv")["message"]
    assert (ready / "rankings").is_dir()


def test_files_and_tracks_of_any_name_are_shown(vreid: Vreid, weights: Path) -> None:
    names = ["<script>alert(1)<", '"quoted" & spaced', "שלום", "long" * 50]
    draw_tracks(Path("data"), {**{f"query/{name}": 1 for name in names}, "gallery/<b>&": 1})
    vreid(*EXTRACT, "--data-dir", "data", "--weights", weights)
    vreid("rank")
    for ending in ("html", "png", "pdf"):
        output = f"<script> 'q' שלום.{ending}"
        assert vreid.json("show", "-o", output)["outputs"] == [output]
        assert output in vreid("show", "-o", output)
    assert sorted(shown("<script> 'q' שלום.html")) == sorted(names)
    output = "pair <i>.png"
    assert vreid.json("show", names[0], "--match", "<b>&", "-o", output)["outputs"] == [output]
