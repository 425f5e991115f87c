"""The page of a ranking without a browser: what it holds, and what is refused."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ranked import lists
from sheets import paint

import vreid_cli as vreid
from vreid_cli.errors import DataError, StoreError, UsageError
from vreid_cli.reports.pages.rendering import script_json
from vreid_cli.reports.tables import probability_text
from vreid_cli.types.calibrations import Calibration, FittedOn
from vreid_cli.types.features import FeatureSet


def side(root: Path, prefix: str, *, seed: int, longest: int = 4) -> FeatureSet:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, size=9)
    paths = paint(root / prefix, int(lengths.sum()))
    tracks = np.repeat([f"{prefix}{i}" for i in range(9)], lengths)
    made = FeatureSet.from_arrays(
        rng.normal(size=(len(paths), 5)).astype(np.float32),
        track_id=tracks.tolist(),
        image_id=[path.relative_to(root).as_posix() for path in paths],
        vehicle_id=[f"v{int(name[1:]) % 3}" for name in tracks],
        camera_id=[f"c{int(name[1:]) % 2}" for name in tracks],
        source=prefix,
    )
    return made.at(root)


@pytest.fixture
def sides(tmp_path: Path) -> dict[str, FeatureSet]:
    return {"query": side(tmp_path, "q", seed=1), "gallery": side(tmp_path, "g", seed=2)}


def data_of(page: vreid.ReportPage, name: str = "data") -> Any:
    (text,) = re.findall(rf'<script type="application/json" id="{name}">(.*?)</script>', page.html, flags=re.DOTALL)
    return json.loads(text)


@pytest.mark.parametrize("metric", ["meanMCD50", "medMED", "RSCR"])
def test_every_match_holds_its_distances_and_the_rankings_own(sides: dict[str, FeatureSet], metric: str) -> None:
    ranking = vreid.rank(**sides, options=vreid.RankingOptions(metric=metric))[metric]
    listed = {(q, name): d for q, rows in lists(ranking).items() for name, _, d in rows}
    data = data_of(vreid.report(ranking, **sides, options=vreid.ShowOptions(top=9)))
    for query in data["queries"]:
        for match in query["matches"]:
            item = data["items"][match["item"]]["id"]
            assert match["distance"] == listed[query["id"], item]
            pair = vreid.explain(ranking, query["id"], item, **sides).distances
            cells = np.frombuffer(base64.b64decode(match["pair"]["cells"]), "<f4")
            assert cells.tolist() == pair.cells.astype(np.float32).ravel().tolist()
            assert [place for place, _ in match["pair"]["counts"]] == np.flatnonzero(pair.counts).tolist()
            assert match["pair"]["spelled"] == pair.spelled


def test_junk_is_shown_without_a_rank(sides: dict[str, FeatureSet]) -> None:
    ranking = vreid.rank(**sides)["meanMCD50"]
    data = data_of(vreid.report(ranking, "q1", **sides, options=vreid.ShowOptions(top=99)))
    (query,) = data["queries"]
    kinds = {data["items"][match["item"]]["id"]: (match["kind"], match["rank"]) for match in query["matches"]}
    junk = {name for name in kinds if int(name[1:]) % 3 == 1 and int(name[1:]) % 2 == 1}
    assert {name for name, (kind, rank) in kinds.items() if kind == "junk" and rank is None} == junk
    assert {name for name, (kind, _) in kinds.items() if kind == "right"} == {"g4"}
    assert sorted(rank for _, rank in kinds.values() if rank) == list(range(1, 9 - len(junk) + 1))
    kept = vreid.report(
        ranking,
        "q1",
        **sides,
        options=vreid.ShowOptions(top=99),
        evaluation=vreid.EvaluationOptions(same_camera="keep"),
    )
    assert {match["kind"] for match in data_of(kept)["queries"][0]["matches"]} == {"right", "wrong"}


def test_the_worst_and_the_best_by_ap(sides: dict[str, FeatureSet]) -> None:
    ranking = vreid.rank(**sides)["meanMCD50"]
    found = vreid.evaluate(ranking).queries
    known = {q: ap for q, ap in zip(found.query_ids, found.average_precision, strict=True) if not np.isnan(ap)}

    def shown(**chosen: Any) -> list[str]:
        return list(
            vreid.report(ranking, chosen.pop("names", None), **sides, options=vreid.ShowOptions(**chosen)).nearest
        )

    rising = sorted(known, key=lambda name: known[name])
    assert shown(worst=3) == rising[:3]
    assert shown(best=2) == rising[-2:]
    assert shown(worst=2, best=1) == [*rising[:2], rising[-1]]
    assert shown(worst=50, best=10) == rising
    some = ["q0", "q4", "q8"]
    assert shown(names=some, worst=1) == [min(some, key=lambda name: known[name])]
    assert shown(page_queries=4) == [f"q{i}" for i in range(4)]
    sheet = vreid.show(ranking, **sides, options=vreid.ShowOptions(worst=3))
    assert list(sheet.nearest) == rising[:3]
    bare = {name: replace(one, vehicle_id=np.full(len(one), None)) for name, one in sides.items()}
    with pytest.raises(UsageError, match="no query has a known positive"):
        vreid.report(vreid.rank(**bare)["meanMCD50"], **bare, options=vreid.ShowOptions(worst=3))


def test_probabilities_and_no_match_are_shown(sides: dict[str, FeatureSet]) -> None:
    plain = vreid.rank(**sides)["meanMCD50"]
    fitted = FittedOn(dataset=None, vehicles=10, digest="", queries=10, same=10, different=90)
    knots: dict[str, Any] = {"distances": (0.0, 2.0), "log_ratios": (3.0, -3.0)}
    calibration = Calibration(metric="meanMCD50", expected=1.0, fitted_on=fitted, **knots)
    sure = replace(plain, facts=plain.facts.with_probabilities(calibration))
    for ranking, known in ((plain, False), (sure, True)):
        matches = [match for query in data_of(vreid.report(ranking, **sides))["queries"] for match in query["matches"]]
        for match in matches:
            chance = calibration.probability(np.array([match["distance"]]), prior=sure.facts.prior or 0)[0]
            assert match.get("probability") == (probability_text(float(chance)) if known else None)
    options = vreid.RankingOptions(no_match=True, threshold=1e-9)
    data = data_of(vreid.report(vreid.rank(**sides, options=options)["meanMCD50"], **sides))
    assert all(query["no_match"] and not query["matches"] for query in data["queries"])


def test_long_tracks_are_thinned_and_said_so(tmp_path: Path) -> None:
    sides = {"query": side(tmp_path, "q", seed=1, longest=30), "gallery": side(tmp_path, "g", seed=2, longest=30)}
    ranking = vreid.rank(**sides)["meanMCD50"]
    data = data_of(vreid.report(ranking, **sides, options=vreid.ShowOptions(max_images=4)))
    counts = {name: int((sides["query"].track_id == name).sum()) for name in ranking.queries.ids}
    assert max(counts.values()) > 12
    for query in data["queries"]:
        assert query["count"] == counts[query["id"]]
        assert len(query["strip"]) == min(4, query["count"])
        for match in query["matches"]:
            assert len(match["pair"]["rows"]) <= 12
            # What is counted of what is left out is said by the text alone.
            assert set(map(str, match["pair"]["rows"])) <= set(query["shown"])


def test_a_folder_of_images_makes_a_page_without_distances(tmp_path: Path) -> None:
    for track in ("q/a", "q/b", "g/c"):
        paint(tmp_path / track, 2)
    features = {
        s: FeatureSet.from_arrays(np.eye(2)[: len(t)], track_id=t)
        for s, t in (("query", ["a", "b"]), ("gallery", ["c"]))
    }
    ranking = vreid.rank(**features)["meanMCD50"]
    page = vreid.report(ranking, query=tmp_path / "q", gallery=str(tmp_path / "g"))
    data = data_of(page)
    assert page.warnings == ()
    assert all("pair" not in match for query in data["queries"] for match in query["matches"])
    assert len(data_of(page, "thumbnails")) == 6


def test_what_does_not_fit_is_refused(sides: dict[str, FeatureSet], tmp_path: Path) -> None:
    ranking = vreid.rank(**sides)["meanMCD50"]
    others = replace(sides["gallery"], matrix=sides["gallery"].select(np.arange(len(sides["gallery"]))[::-1]).matrix)
    with pytest.raises(DataError, match="but the features of g give"):
        vreid.report(ranking, query=sides["query"], gallery=others)
    with pytest.raises(UsageError, match="has no query 'q11'"):
        vreid.report(ranking, "q11", **sides)
    page = vreid.report(ranking, **sides)
    with pytest.raises(UsageError, match=r"written as \.html"):
        page.save(tmp_path / "page.pdf")
    (tmp_path / "page_files").mkdir()
    (tmp_path / "page_files/mine.txt").touch()
    with pytest.raises(StoreError, match=r"holds mine\.txt"):
        page.save(tmp_path / "page.html", assets=True)
    (tmp_path / "page_files/mine.txt").unlink()
    for _ in range(2):  # an earlier page's images are replaced
        page.save(tmp_path / "page.html", assets=True)
    assert len(list((tmp_path / "page_files").iterdir())) == len(data_of(page, "thumbnails"))
    assert not list(tmp_path.glob(".*"))


def test_names_cannot_leave_the_script(sides: dict[str, FeatureSet]) -> None:
    name = "</script><script>alert(1)</script>&amp;\u2028\udcff"
    assert json.loads(str(script_json({name: [name]}))) == {name: [name]}
    assert not re.search("[<>&\u2028]", str(script_json(name)))
    renamed = replace(
        sides["query"], track_id=np.array([name if t == "q0" else t for t in sides["query"].track_id], dtype=object)
    )
    page = vreid.report(vreid.rank(renamed, sides["gallery"])["meanMCD50"], query=renamed, gallery=sides["gallery"])
    assert "alert(1)</script>" not in page.html
    assert data_of(page)["queries"][0]["id"] == name


def test_marks_of_another_ranking_are_others(sides: dict[str, FeatureSet]) -> None:
    rankings = vreid.rank(**sides, options=vreid.RankingOptions(metric=("minMED", "minMCD")))
    keys = {name: data_of(vreid.report(one, **sides))["key"] for name, one in rankings.items()}
    assert keys["minMED"] != keys["minMCD"]
    assert data_of(vreid.report(rankings["minMED"], **sides))["key"] == keys["minMED"]
