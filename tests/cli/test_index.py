"""``vreid index`` and ``vreid rank --candidates``: what is made, added to, made again and refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny import EXTRACT, Vreid, columns, draw

INDEX = Path("index/cosine.json")
EXACT, SOME = ("t2t-meanMCD50.parquet", "t2t-meanMCD50-candidates.parquet")


def test_candidates_are_ranked_as_among_all_items(vreid: Vreid, ready: Path) -> None:
    assert "cosine, flat: 15 images, 15 added" in vreid("index")
    vreid("rank")
    told = vreid("rank", "--candidates", "3", "--check-recall", "4")
    assert "lists only the 3 nearest, candidates 3" in told
    assert "meanMCD50 by candidates, 4 queries checked: recall@10" in told
    whole, some = (columns(ready / "rankings" / name) for name in (EXACT, SOME))
    rows = list(zip(whole["query_id"], whole["gallery_id"], whole["distance"], strict=True))
    wanted = set(zip(some["query_id"], some["gallery_id"], strict=True))
    among = [row for row in rows if row[:2] in wanted]
    assert [row[:2] for row in among] == list(zip(some["query_id"], some["gallery_id"], strict=True))
    np.testing.assert_allclose(some["distance"], [row[2] for row in among], rtol=1e-6, atol=1e-7)
    assert some["rank"] == [1, 2, 3] * 4
    by_name = {result["candidates"]: result for result in vreid.json("evaluate")["results"]}
    assert by_name[None]["mAP"] is not None
    assert (by_name[3]["mAP"], by_name[3]["cmc"]["10"]) == (None, None)
    assert "3 candidates of an index" in vreid.err
    assert "lambda_value 0.3, candidates 3" in vreid("rank", "--candidates", "3", "--rerank")
    assert (ready / "rankings" / "t2t-meanMCD50-rerank-candidates.parquet").is_file()


def test_all_candidates_are_the_exact_ranking_and_miss_nothing(vreid: Vreid, ready: Path) -> None:
    vreid("index", "--distance", "cosine,euclidean")
    vreid("rank", "--metric", "all", "-o", "exact")
    vreid("rank", "--metric", "all", "-o", "same", "--candidates", "7")
    for path in Path("exact").iterdir():
        assert path.read_bytes() == (Path("same") / path.name).read_bytes()
    report = vreid.json("rank", "--metric", "minMED,RSCR", "--candidates", "6", "--check-recall", "9", "--force")
    assert set(report["recall"]) == {"minMED", "RSCR"}
    assert report["recall"]["minMED"]["queries"] == 4
    assert report["recall"]["minMED"]["recall"]["10"] == pytest.approx(6 / 7)
    assert report["recall"]["minMED"]["exact_map"] >= report["recall"]["minMED"]["candidate_map"]


def test_what_is_new_is_added_and_what_changed_makes_it_again(
    vreid: Vreid, ready: Path, made: Path, weights: Path
) -> None:
    shutil.copytree(made / "data", "data")
    extract = (*EXTRACT, "--data-dir", "data", "--weights", weights, "--run-dir", ready)
    vreid(*extract, "--restart")
    (first,) = vreid.json("index")["indexes"]
    assert (first["images"], first["added"], first["rebuilt"]) == (15, 15, None)
    before = (ready / INDEX).read_bytes()
    assert "nothing to add" in vreid("index")
    assert (ready / INDEX).read_bytes() == before
    for number in range(3):
        draw(Path(f"data/gallery/0005_c002/{number}.png"), hue=5, seed=number)
    vreid(*extract)
    error = vreid.error("rank", "--candidates", "3")
    assert "the index does not fit the features: the features have 1 more part than it" in error["message"]
    assert error["hint"] == "bring it up to date: vreid index --distance cosine"
    assert vreid.json("info")["files"][0]["misfit"] == "the features have 1 more part than it"
    (added,) = vreid.json("index")["indexes"]
    assert (added["images"], added["added"], added["rebuilt"]) == (18, 3, None)
    assert vreid.json("info")["files"][0]["misfit"] is None
    # The new part's track stands amid the others in the gallery: rows are found all the same.
    vreid("rank")
    vreid("rank", "--candidates", "7", "-o", "some.parquet")
    assert_same_distances(ready / "rankings" / EXACT, Path("some.parquet"))
    draw(Path("data/gallery/0005_c002/1.png"), hue=9, seed=99)
    vreid(*extract)
    assert "changed or removed since" in vreid.error("rank", "--candidates", "3")["message"]
    (again,) = vreid.json("index")["indexes"]
    assert (again["added"], again["rebuilt"]) == (18, "features that it holds were changed or removed since")
    assert "it is flat, not ivf" in vreid.json("index", "--kind", "ivf")["indexes"][0]["rebuilt"]
    assert "--restart" in vreid.json("index", "--kind", "ivf", "--restart")["indexes"][0]["rebuilt"]


def assert_same_distances(exact: Path, some: Path) -> None:
    known = {(q, g): d for q, g, d in zip(*(columns(exact)[n] for n in NAMES), strict=True)}
    rows = list(zip(*(columns(some)[n] for n in NAMES), strict=True))
    assert rows
    np.testing.assert_allclose([d for *_, d in rows], [known[q, g] for q, g, _ in rows], rtol=1e-6, atol=1e-7)


NAMES = ("query_id", "gallery_id", "distance")


def test_errors_say_what_to_type(vreid: Vreid, ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = vreid.error("rank", "--candidates", "3", "--metric", "minMED")
    assert "there is no index for the euclidean distance" in error["message"]
    assert error["hint"] == "make it: vreid index --distance euclidean"
    vreid("index")
    facts = json.loads((ready / INDEX).read_text())
    file = ready / "index" / facts["file"]
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    error = vreid.error("rank", "--candidates", "3")
    assert "is damaged: it has" in error["message"]
    assert error["hint"] == "make it again: vreid index"
    assert "is damaged" in vreid.json("index")["indexes"][0]["rebuilt"]
    facts = json.loads((ready / INDEX).read_text())
    facts["identity"]["weights_digest"] = "another"
    (ready / INDEX).write_text(json.dumps(facts))
    assert "features of another weights_digest: 'another'" in vreid.error("rank", "--candidates", "3")["message"]
    vreid("index")
    monkeypatch.setattr("vreid_cli.runtime.extras.find_spec", lambda name: None)
    for command in (("index",), ("rank", "--candidates", "3")):
        assert 'pip install "vreid[faiss]"' in vreid.error(*command)["hint"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--check-recall", "5"), "--check-recall: only rankings by candidates miss something"),
        (("--candidates", "0"), "--candidates 0: needs at least 1"),
        (("--candidates", "3", "--gallery-features", "g.npz"), "features from elsewhere have no index"),
        (("--fuse", "meanMCD50", "RSCR", "--candidates", "3"), "--candidates: --fuse takes rankings as they are made"),
    ],
)
@pytest.mark.usefixtures("ready")
def test_what_has_no_candidates_is_refused(vreid: Vreid, arguments: tuple[str, ...], message: str) -> None:
    assert message in vreid.error("rank", *arguments, code=2)["message"]


def test_an_index_waits_for_whoever_writes_to_the_run(vreid: Vreid, ready: Path) -> None:
    from vreid_cli.store.runs import RunDirectory

    with RunDirectory(ready).locked():
        assert "another vreid is working on" in vreid.error("index")["message"]


@pytest.mark.usefixtures("ready")
def test_tracks_are_associated_by_candidates(vreid: Vreid) -> None:
    whole = vreid.json("associate", "--threshold", "0.01", "-o", "whole.parquet")
    same = vreid.json("associate", "--threshold", "0.01", "--candidates", "10", "-o", "same.parquet")
    assert same["vehicles"] == whole["vehicles"]
    few = vreid.json("associate", "--threshold", "0.01", "--candidates", "1", "-o", "few.parquet")
    assert few["identities"] >= whole["identities"]
    error = vreid.error("associate", "--threshold", "0.01", "-o", "same.parquet")
    assert "candidates" in error["message"]
