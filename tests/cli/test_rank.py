"""``vreid rank``: what it prints and writes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny import EXTRACT, GALLERY, QUERIES, TRACK_METRICS, Vreid, columns, draw_tracks


def test_rank_lists_every_gallery_item_for_every_query(vreid: Vreid, ready: Path) -> None:
    told = vreid("rank")
    for words in (
        *("task t2t", "definition paper", "track unit passage"),
        "next: vreid evaluate, vreid show",
    ):
        assert words in told
    table = columns(ready / "rankings" / "t2t-meanMCD50.parquet")
    assert table["query_id"] == [query for query in QUERIES for _ in GALLERY]
    assert table["rank"] == list(range(1, 8)) * 4
    for start in range(0, 28, 7):
        assert sorted(map(str, table["gallery_id"][start : start + 7])) == GALLERY
        distances = np.array(table["distance"][start : start + 7])
        assert (np.diff(distances) >= 0).all()


def test_lists_may_be_repeated_comma_separated_and_spelt_as_the_authors_do(vreid: Vreid, ready: Path) -> None:
    report = vreid.json("rank", "--metric", "minmed, MEAN50MCD", "--metric", "medMED,minMED")
    assert [Path(output).stem for output in report["outputs"]] == ["t2t-minMED", "t2t-meanMCD50", "t2t-medMED"]


def test_all_metrics_of_each_task(vreid: Vreid, ready: Path) -> None:
    report = vreid.json("rank", "--metric", "all")
    assert [Path(output).stem for output in report["outputs"]] == [f"t2t-{metric}" for metric in TRACK_METRICS]
    for task in ("i2t", "i2i"):
        report = vreid.json("rank", "--task", task, "--metric", "all")
        assert [Path(output).stem for output in report["outputs"]] == [
            f"{task}-{metric}" for metric in ("MED", "MCD", "RSCR")
        ]


@pytest.mark.parametrize("task", ["i2t", "i2i"])
def test_single_images_are_ranked_by_mcd_unless_told_otherwise(vreid: Vreid, ready: Path, task: str) -> None:
    assert "10 queries" in vreid("rank", "--task", task)
    assert (ready / "rankings" / f"{task}-MCD.parquet").is_file()


@pytest.mark.usefixtures("ready")
def test_an_unknown_metric_is_offered_the_nearest(vreid: Vreid) -> None:
    error = vreid.error("rank", "--metric", "meanMCD5", code=2)
    assert error["message"] == "--metric meanMCD5: no metric of the task t2t"
    assert error["hint"].startswith("did you mean 'meanMCD50'?")
    assert "no metric of the task i2t" in vreid.error("rank", "--task", "i2t", "--metric", "minMCD", code=2)["message"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--task", "t2i"), "--task t2i: needs 't2t', 'i2t' or 'i2i'"),
        (("--task", "i2t", "--definition", "released"), "--definition released is about two tracks"),
        (("--task", "i2i", "--track-unit", "camera"), "--track-unit: the task i2i compares single images"),
        (("--metric", "all", "-o", "r.json"), "11 metrics need a folder"),
        (("-o", "r.csv"), "unknown ending '.csv'"),
        (("--top-k", "0"), "--top-k 0: needs at least 1"),
        (("--device", "gpu"), "--device gpu: unknown device"),
        (("--query-features", "a.json", "--gallery-features", "b.json"), "where should the ranking go?"),
        (("--set", "rank.top_k=x"), '--set rank.top_k = "x": needs a whole number'),
        (("--set", "rank.alpha=2"), "--set rank.alpha: only RSCR uses it"),
        (("--set", "rank.topk=1"), "--set: unknown key 'rank.topk'"),
        (("--set", "top_k=1"), "--set top_k=1: not of the form section.key=VALUE"),
    ],
)
@pytest.mark.usefixtures("ready")
def test_rank_refuses_wrong_usage(vreid: Vreid, arguments: tuple[str, ...], message: str) -> None:
    error = vreid.json("rank", *arguments, code=2)["error"]
    assert message in error["message"]
    assert not list(Path("runs").glob("*/rankings/*"))


@pytest.mark.usefixtures("ready")
def test_a_setting_that_is_typed_as_an_option_is_told_how_it_is_given(vreid: Vreid) -> None:
    assert vreid.json("rank", "--alpha", "2", code=2)["error"]["hint"] == "it is a setting: --set rank.alpha=…"
    vreid("rank", "--lambda-value", "2", code=2)
    assert "hint:  it is a setting: --set rank.lambda_value=…" in vreid.err


def test_a_ranking_that_lists_nothing_says_so(vreid: Vreid, weights: Path) -> None:
    draw_tracks(Path("data"), {"query/0001_c001": 1, "gallery/0002_c001": 1})
    vreid(*EXTRACT, "--data-dir", "data", "--weights", weights)
    assert vreid.json("rank", "--cameras", "other")["warnings"] == [
        "nothing is listed for any query: look at --cameras, --threshold and --min-probability"
    ]
    assert "--cameras all" in vreid.error("show")["hint"]


def test_a_ranking_made_otherwise_is_replaced_only_with_force(vreid: Vreid, ready: Path) -> None:
    path = ready / "rankings" / "t2t-meanMCD50.parquet"
    vreid("rank")
    vreid("rank")  # the same recipe may be made again
    before = path.read_bytes()
    error = vreid.error("rank", "--top-k", "2")
    assert "is there already and was made otherwise: its coverage is full, not positives" in error["message"]
    assert "--force" in error["hint"]
    assert path.read_bytes() == before
    assert "lists only the 2 nearest and the query's vehicle" in vreid("rank", "--top-k", "2", "--force")
    assert len(columns(path)["rank"]) < 28


def test_a_threshold_lists_what_is_near_and_the_querys_vehicle(vreid: Vreid, ready: Path) -> None:
    vreid("rank")
    path = ready / "rankings" / "t2t-meanMCD50.parquet"
    full = columns(path)
    limit = sorted(full["distance"])[len(full["distance"]) // 2]
    told = vreid("rank", "--threshold", str(limit), "--force")
    assert "only what is no farther than" in told
    assert "and the query's vehicle" in told
    rows = zip(
        *(full[name] for name in ("query_id", "rank", "distance", "query_vehicle", "gallery_vehicle")), strict=True
    )
    expected = [(query, rank) for query, rank, d, one, other in rows if d <= np.float32(limit) or one == other]
    cut = columns(path)
    assert list(zip(cut["query_id"], cut["rank"], strict=True)) == expected
    assert 0 < len(expected) < len(full["rank"])
    (result,) = vreid.json("evaluate")["results"]
    assert (result["coverage"], result["mAP"] is None) == ("positives", False)


def test_re_ranking_has_a_file_and_a_line_of_its_own(vreid: Vreid, ready: Path) -> None:
    vreid("rank", "--metric", "meanMCD50,RSCR")
    told = vreid("rank", "--rerank", "--set", "rank.k1=4", "--set", "rank.k2=2")
    assert "re-ranking k1 4, k2 2, lambda_value 0.3" in told
    assert (ready / "rankings" / "t2t-meanMCD50-rerank.parquet").is_file()
    results = vreid.json("evaluate")["results"]
    assert [(r["metric"], r["rerank"]) for r in results] == [
        ("RSCR", None),
        ("meanMCD50", {"k1": 4, "k2": 2, "lambda_value": 0.3}),
        ("meanMCD50", None),
    ]
    table = vreid("evaluate")
    assert "re-ranking" in table
    assert "RSCR, α 1" in table
    error = vreid.error("rank", "--rerank", "--set", "rank.k1=5")
    assert "its rerank is another" in error["message"]
    error = vreid.json("rank", "--set", "rank.k1=4", code=2)["error"]
    assert "only --rerank uses it" in error["message"]


def test_outputs_elsewhere_are_named_in_what_to_do_next(vreid: Vreid, ready: Path) -> None:
    told = vreid("rank", "-o", "out dir/r é.json")
    assert "vreid evaluate 'out dir/r é.json', vreid show --ranking 'out dir/r é.json'" in told
    assert "vreid evaluate all, vreid show" in vreid("rank", "--metric", "all", "-o", "all")
    assert len(list(Path("all").iterdir())) == 11
    Path("elsewhere").mkdir()
    shutil.move(ready, Path("elsewhere") / "moved run")
    assert "vreid evaluate --run-dir 'elsewhere/moved run'" in vreid("rank", "--run-dir", "elsewhere/moved run")


def test_other_cameras_are_ranked_without_what_the_query_saw_itself(vreid: Vreid, ready: Path) -> None:
    vreid("rank", "--cameras", "other")
    table = columns(ready / "rankings" / "t2t-meanMCD50.parquet")
    assert all(q != g for q, g in zip(table["query_camera"], table["gallery_camera"], strict=True))
    vreid("evaluate", "--same-camera", "keep")
    assert "never ranked" in vreid.err


@pytest.mark.shared
def test_the_released_features_are_ranked_without_a_run(vreid: Vreid, shared: Path) -> None:
    features = [shared / "reference" / f"feat_{side}.json" for side in ("query", "test")]
    sides = ("--query-features", features[0], "--test-features", features[1])
    vreid("rank", *sides, "--metric", "meanMCD50", "--definition", "released", "--output", "r.json")
    assert vreid.err == ""
    told = vreid("evaluate", "r.json")
    assert re.search(r"meanMCD50 +│ +100\.0 ±0\.0 │ 100\.0 │ +100\.0 .* 4/4", told)
    for words in ("definition released", "dataset unknown", "track unit passage"):
        assert words in " ".join(told.split())
    assert sorted(path.name for path in Path().iterdir()) == ["r.json"]
