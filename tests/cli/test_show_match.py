"""``vreid show QUERY --match TRACK``: the pair that is meant, from a run, from files, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from tiny import Vreid

import vreid_cli as library
from vreid_cli.store.formats import write_features


def test_a_match_of_the_run_is_shown_as_an_image_a_table_and_numbers(vreid: Vreid, ready: Path) -> None:
    vreid("rank")
    listed = vreid.json("show", "0003_c001", "--top", "9")["queries"][0]["nearest"]
    for item in listed:
        report = vreid.json("show", "0003_c001", "--match", item["gallery_id"], "-o", "pair.png")
        assert report["outputs"] == ["pair.png"]
        assert report["queries"] == [{"query_id": "0003_c001", "nearest": [item]}]
        match = report["match"]
        assert match["value"] == pytest.approx(item["distance"], abs=2e-6)
        counted = [
            cell
            for cells, counts in zip(match["cells"], match["counts"], strict=True)
            for cell, count in zip(cells, counts, strict=True)
            for _ in range(count)
        ]
        assert sum(counted) / len(counted) == pytest.approx(match["value"])
    told = vreid("show", "0003_c001", "--match", listed[0]["gallery_id"])
    assert re.search(r"^meanMCD50 = .*\d$", told, flags=re.MULTILINE)
    assert f"query 0003_c001 (rows), gallery {listed[0]['gallery_id']} (columns)" in told
    view = library.explain(
        library.read_ranking(ready / "rankings/t2t-meanMCD50.parquet"),
        "0003_c001",
        listed[-1]["gallery_id"],
        query=library.read_features(ready / "features/query"),
        gallery=library.read_features(ready / "features/gallery"),
    )
    assert view._repr_png_() == Path("pair.png").read_bytes()


def test_files_of_any_model_and_folders_of_images_do_as_well(vreid: Vreid, ready: Path, made: Path) -> None:
    files: dict[str, str] = {}
    for side, ending in (("query", "json"), ("gallery", "npz")):
        files[side] = f"{side}.{ending}"
        features_of = library.read_features(ready / "features" / side)
        write_features(Path(files[side]), features_of)
    (Path("runs") / "latest").unlink()
    features = ("--query-features", files["query"], "--gallery-features", files["gallery"])
    vreid("rank", *features, "-o", "r.json")
    folders = ("--query-dir", made / "data/query", "--gallery-dir", made / "data/gallery")
    arguments = ("show", "0003_c001", "--match", "0003_c002", "--ranking", "r.json")
    assert vreid.json(*arguments, *features, *folders, "-o", "pair.png")["warnings"] == []
    assert vreid.json(*arguments, *features, "-o", "bare.png")["warnings"] == []
    shown, bare = (Image.open(name).convert("RGB") for name in ("pair.png", "bare.png"))
    assert len(shown.getcolors(1 << 20) or []) > 2 * len(bare.getcolors(1 << 20) or [])
    # A sheet needs no features.
    assert vreid.json("show", "--ranking", "r.json", *folders, "-o", "sheet.png")["warnings"] == []
    assert "needs the features" in vreid.error(*arguments, *folders, code=2)["message"]
    assert "--gallery-features" in vreid.error(*arguments)["hint"]


def test_what_cannot_be_meant_is_refused(vreid: Vreid, ready: Path) -> None:
    vreid("rank")
    assert "about one query" in vreid.error("show", "000*", "--match", "0003_c002", code=2)["message"]
    error = vreid.error("show", "0003_c001", "--match", "0003_c0002", code=2)
    assert error["hint"].startswith("did you mean '0003_c002'?")
    ranking = str(ready / "rankings/t2t-meanMCD50.parquet")
    swapped = ("--query-features", ready / "features/query", "--gallery-features", ready / "features/query")
    error = vreid.error("show", "0003_c001", "--match", "0003_c002", "--ranking", ranking, *swapped)
    assert "holds no features of 0003_c002" in error["message"]
    assert (
        "not as 'pair.html'" in vreid.error("show", "0003_c001", "--match", "x", "-o", "pair.html", code=2)["message"]
    )


def test_places_are_lit_by_the_runs_own_network(vreid: Vreid, ready: Path) -> None:
    vreid("rank")
    arguments = ("show", "0003_c001", "--match", "0003_c002", "--attention", "-o", "pair.png")
    vreid(*arguments)
    assert Image.open("pair.png").height > 0
    assert "about one match" in vreid.error("show", "--attention", "-o", "x.png", code=2)["message"]
    assert "is for a page" in vreid.error("show", "--assets", "-o", "x.png", code=2)["message"]
    assert (ready / "rankings").is_dir()


def test_the_terminal_shows_images_beside_the_table(vreid: Vreid, ready: Path) -> None:
    vreid("rank")
    plain, told = (vreid("show", "0003_c001", "--top", "2", *more) for more in ((), ("--images",)))
    nearest = vreid.json("show", "0003_c001", "--top", "2", "--images")["queries"][0]["nearest"]
    for caption in ("query 0003_c001", *(f"#{item['rank']} {item['gallery_id']}" for item in nearest)):
        assert caption in told
        assert caption not in plain
    assert len(told.splitlines()) > len(plain.splitlines()) + 3 * 4
    assert "for the table" in vreid.error("show", "--images", "-o", "x.png", code=2)["message"]
    assert (ready / "rankings").is_dir()
