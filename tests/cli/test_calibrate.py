"""``vreid calibrate``, and probabilities in every command after it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny import EXTRACT, Vreid, draw_tracks, save_weights

from vreid_cli.cli.app import run

VEHICLES = 24
CAMERAS = ("query", "gallery")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """A folder with a ranked run of vehicles that two cameras saw."""
    folder = tmp_path_factory.mktemp("labelled")
    tracks = {f"{side}/{n:04d}_c00{c}": 1 for n in range(1, VEHICLES + 1) for c, side in enumerate(CAMERAS, 1)}
    draw_tracks(folder / "data", tracks)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run([*EXTRACT, "--data-dir", "data", "--weights", str(weights)]) == 0
        assert run(["rank", "--metric", "meanMCD50,minMED"]) == 0
    return folder


@pytest.fixture
def mine(vreid: Vreid, labelled: Path, tmp_path: Path) -> Path:
    """A copy of that run."""
    shutil.copytree(labelled / "runs", tmp_path / "runs")
    return Path("runs/tracks-resnet18-tiny")


def test_each_ranking_of_the_run_is_calibrated_and_every_command_says_so(vreid: Vreid, mine: Path) -> None:
    report = vreid.json("calibrate")
    names = [f"{mine}/calibrations/t2t-{metric}.json" for metric in ("meanMCD50", "minMED")]
    assert report["outputs"] == names
    one = report["calibrations"][0]
    assert one["fitted_on"]["vehicles"] == VEHICLES
    assert one["prior"] == pytest.approx(1 / VEHICLES)
    assert one["reliability"]["cross_validated"]
    assert not one["reliability_not_cross_validated"]["cross_validated"]
    assert set(one["distances"]) == {"0.5", "0.9", "0.99"}
    assert any("fitted on 24 vehicles only" in warning for warning in report["warnings"])
    assert "next: vreid rank --force" in vreid("calibrate")
    kept = vreid("calibrate", mine / "rankings" / "t2t-minMED.parquet", "-o", "kept.json")
    assert "next: vreid rank --calibration kept.json" in kept
    assert f"vreid show --run-dir {mine}, " in vreid("calibrate", "--run-dir", mine)
    told = vreid("calibrate")
    for text in ("P(same vehicle | distance)", "cross-validated by vehicle", "1 of 24", "written:", "d at 90%"):
        assert text in told
    # Rankings that are there already show probabilities, and ranking again writes them; all say by which calibration.
    own = "calibrations/t2t-meanMCD50.json"
    assert f"calibration {own}" in vreid("show", "0001_c001")
    assert f"meanMCD50, calibration {own}: " in vreid("rank", "--metric", "meanMCD50,minMED")
    table = pq.read_table(mine / "rankings" / "t2t-meanMCD50.parquet")
    kept = json.loads(Path(names[0]).read_text())
    ratio = np.interp(table["distance"].to_numpy(), kept["distances"], kept["log_ratios"])
    odds = np.exp(ratio) / (VEHICLES - 1)
    assert table["probability"].to_numpy() == pytest.approx(odds / (1 + odds), rel=1e-4)
    (shown,) = (report := vreid.json("show", "0001_c001", "--top", "3"))["queries"]
    assert report["calibration"] == own
    assert [item["probability"] for item in shown["nearest"]] == pytest.approx(table["probability"].to_pylist()[:3])
    vreid("show", "0001_c001", "-o", "sheet.png")
    results = vreid.json("evaluate")["results"]
    assert [result["calibration"] for result in results] == [own, own.replace("meanMCD50", "minMED")]
    assert own in vreid("evaluate")
    assert f"vehicles resampled; calibration {own}" in vreid("evaluate", "--split-open", "0.3").replace("\n", " ")
    assert all(result["reliability"]["cross_validated"] for result in results)
    assert results[0]["reliability"]["brier"] == pytest.approx(one["reliability"]["brier"])
    told = vreid("evaluate", str(mine / "rankings/t2t-minMED.parquet"))
    assert "are pairs what their probability says?" in told
    assert "calibration calibrations/t2t-minMED.json" in told
    assert "earlier ranking" not in vreid("info")


def test_rankings_by_candidates_are_left_out_and_take_the_calibration(vreid: Vreid, mine: Path) -> None:
    vreid("index")
    vreid("rank", "--candidates", "5")
    report = vreid.json("calibrate")
    assert [Path(output).stem for output in report["outputs"]] == ["t2t-meanMCD50", "t2t-minMED"]
    vreid("rank", "--candidates", "5")
    named = mine / "rankings" / "t2t-meanMCD50-candidates.parquet"
    assert "probability" in pq.read_table(named).column_names
    assert "does not list every" in vreid.error("calibrate", named)["message"]


def test_another_run_of_the_same_network_takes_the_calibration(vreid: Vreid, mine: Path, weights: Path) -> None:
    vreid("calibrate")
    draw_tracks(Path("own"), {"query/red car": 1, "query/van": 1, "gallery/a": 1, "gallery/b": 1, "gallery/c": 1})
    vreid(*EXTRACT, "--data-dir", "own", "--weights", weights, "--run-dir", "runs/own")
    vreid("rank", "--calibration", mine / "calibrations", "--set", "rank.expected=0.5")
    table = pq.read_table("runs/own/rankings/t2t-meanMCD50.parquet")
    assert (table["probability"].to_numpy() > 0).all()
    assert f"if 0.5 of 3 show it; calibration {mine}/calibrations/t2t-meanMCD50.json" in vreid("show")
    report = vreid.json("rank", "--calibration", mine / "calibrations", "--force")
    assert report["calibrations"] == {"meanMCD50": f"{mine}/calibrations/t2t-meanMCD50.json"}
    answers = ("--no-match", "--min-probability", "0.99", "-o")
    vreid("rank", "--calibration", mine / "calibrations" / "t2t-meanMCD50.json", *answers, "answers.parquet")
    rows = pq.read_table("answers.parquet").to_pylist()
    missing = [row for row in rows if row["gallery_id"] == "no match"]
    assert missing
    assert all(row["distance"] == np.inf and row["probability"] is None for row in missing)
    vreid("rank", "--calibration", mine / "calibrations", *answers, "answers.json")
    tracks = json.loads(Path("answers.json").read_text())["tracks"]
    first = tracks[missing[0]["query_id"]]["ranking"]["1"]
    assert first == {"id": "no match", "class": None, "distance": None}
    for file in ("answers.parquet", "answers.json"):
        assert "no match" in vreid("show", "--ranking", file)
        vreid("show", "--ranking", file, "-o", "sheet.png", "--run-dir", "runs/own")
        assert "no images" not in vreid.err


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"identity": {"weights_digest": "another"}}, "its weights_digest is another, not "),
        ({"definition": "released"}, "its definition is released, not paper"),
        ({"metric": "minMCD"}, "its metric is minMCD, not meanMCD50"),
    ],
)
def test_a_calibration_of_another_network_metric_or_definition_is_refused_by_its_field(
    vreid: Vreid, mine: Path, change: dict[str, Any], field: str
) -> None:
    vreid("calibrate", mine / "rankings" / "t2t-meanMCD50.parquet", "-o", "cal.json")
    content = json.loads(Path("cal.json").read_text())
    changed = {**content["identity"], **change.get("identity", {})}
    for path in ("cal.json", mine / "calibrations" / "t2t-meanMCD50.json"):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text(json.dumps({**content, **change, "identity": changed}))
    error = vreid.error("rank", "--calibration", "cal.json", "-o", "r.json")
    assert field in error["message"]
    # What lies in the run is not asked for: it is left out, and why is said.
    report = vreid.json("rank", "-o", "r.json")
    assert any(field in warning and "is not used" in warning for warning in report["warnings"])
    assert "probability" not in Path("r.json").read_text()
    assert "no calibration gives" in vreid.error("rank", "--min-probability", "0.5", "-o", "q.json")["message"]


def test_rankings_of_several_networks_make_a_calibration_for_one_that_is_named(vreid: Vreid, mine: Path) -> None:
    rankings = []
    for seed in (11, 12):
        weights = save_weights(Path(f"fold{seed}.safetensors"), seed=seed)
        vreid("extract", "--run-dir", f"runs/{seed}", *EXTRACT[1:], "--data-dir", mine_data(mine), "--weights", weights)
        vreid("rank", "--run-dir", f"runs/{seed}")
        rankings.append(f"runs/{seed}/rankings/t2t-meanMCD50.parquet")
    final = save_weights(Path("final.safetensors"), seed=13)
    error = vreid.error("calibrate", *rankings, "-o", "cal.json")
    assert "different networks" in error["message"]
    assert "--network" in error["hint"]
    vreid("calibrate", *rankings, "--network", final, "-o", "cal.json")
    content = json.loads(Path("cal.json").read_text())
    assert content["fitted_on"]["same"] == 2 * VEHICLES
    vreid("extract", "--run-dir", "runs/final", *EXTRACT[1:], "--data-dir", mine_data(mine), "--weights", final)
    vreid("rank", "--run-dir", "runs/final", "--calibration", "cal.json")
    assert "weights_digest" in vreid.error("rank", "--run-dir", "runs/11", "--calibration", "cal.json")["message"]
    other = save_weights(Path("large.safetensors"), seed=14, side=40)
    error = vreid.error("calibrate", *rankings, "--network", other, "-o", "cal.json")
    assert "its transform is" in error["message"]


def mine_data(mine: Path) -> str:
    return str(json.loads((mine / "run.json").read_text())["data_dir"])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("calibrate", "nowhere.parquet"), 1, "there is no ranking nowhere.parquet"),
        (("calibrate", "--method", "magic"), 2, "--method magic: needs 'isotonic' or 'logistic'"),
        (("calibrate", "-o", "one.json"), 2, "there are 2 calibrations to write"),
        (("calibrate", "RANKING", "-o", "one.txt"), 2, "a calibration is written as .json"),
        (("calibrate", "RANKING", "--set", "calibrate.folds=1"), 2, "needs at least 2"),
        (("rank", "--min-probability", "1.5"), 2, "--min-probability 1.5: needs less than 1"),
        (("rank", "--min-probability", "0"), 2, "--min-probability 0.0: needs more than 0"),
        (("rank", "--min-probability", "x"), 2, "--min-probability x: needs a number"),
        (("rank", "--threshold", "nan"), 2, "--threshold nan: needs"),
        (("rank", "--min-probability", "0.5", "--threshold", "1"), 2, "which one?"),
        (("rank", "meanMCD50"), 2, "rank makes rankings of features"),
        (("rank", "--fuse"), 2, "--fuse: which rankings?"),
        (("rank", "--fuse", "meanMCD50"), 2, "--fuse: which rankings?"),
        (("rank", "--fuse", "meanMCD50", "RSCR"), 1, "the run was not ranked by RSCR"),
        (("rank", "--fuse", "meanMCD50", "meanMCD51"), 2, "no metric of the task t2t"),
        (("rank", "--fuse", "meanMCD50", "minMED", "--top-k", "3"), 2, "--top-k: --fuse takes rankings as they are"),
        (("rank", "--fuse", "RANKING", "nowhere.json"), 1, "nowhere.json"),
        (("evaluate", "--min-probability", "1.5"), 2, "--min-probability 1.5: needs less than 1"),
        (("evaluate", "--min-probability", "0.5"), 1, "have no probabilities"),
        (("evaluate", "--split-open", "0"), 2, "--split-open 0.0: needs more than 0"),
        (("evaluate", "--split-open", "1"), 2, "--split-open 1.0: needs less than 1"),
        (("evaluate", "--split-open", "half"), 2, "--split-open half: needs a number"),
        (("rank", "--no-match"), 2, "what is near enough to be a match?"),
        (("rank", "--calibration", "nowhere.json"), 1, "there is no file nowhere.json"),
        (("rank", "--calibration", "runs"), 1, "there are no calibrations in runs"),
        (("rank", "--task", "i2i", "--no-match", "--threshold", "1", "-o", "s.txt"), 2, "has no row for it"),
    ],
)
def test_bad_input_is_refused(vreid: Vreid, mine: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    ranking = str(mine / "rankings" / "t2t-meanMCD50.parquet")
    typed = [ranking if word == "RANKING" else word for word in arguments]
    assert message in vreid.error(*typed, code=code)["message"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "holds a list, not an object"),
        ("{}", "its schema is None"),
        ('{"schema": 1}', "is no calibration"),
        ("x", "is not valid JSON"),
    ],
)
@pytest.mark.usefixtures("mine")
def test_a_damaged_calibration_is_named(vreid: Vreid, content: str, message: str) -> None:
    Path("cal.json").write_text(content)
    error = vreid.error("rank", "--calibration", "cal.json")
    assert message in error["message"]
    assert error["file"] == "cal.json"


def test_reliability_of_too_few_vehicles_for_intervals_is_plotted(vreid: Vreid, mine: Path, weights: Path) -> None:
    vreid("calibrate")
    draw_tracks(Path("few"), {f"{side}/000{n}_c00{c}": 1 for n in (1, 2) for c, side in enumerate(CAMERAS, 1)})
    vreid(*EXTRACT, "--data-dir", "few", "--weights", weights, "--run-dir", "runs/few")
    vreid("rank", "--calibration", mine / "calibrations")
    report = vreid.json("evaluate", "--plot", "plot.png")
    assert all(part["interval"] is None for part in report["results"][0]["reliability"]["bins"])
    assert "plot.png" in report["outputs"]


def test_ones_own_calibration_takes_the_place_of_one_that_ships(
    vreid: Vreid, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranking = mine / "rankings" / "t2t-meanMCD50.parquet"
    vreid("calibrate", ranking, "--method", "logistic", "-o", "shipped.json")
    monkeypatch.setattr("vreid_cli.workflows.calibrations.shipped_calibrations", lambda name: [Path("shipped.json")])
    vreid("rank", "--set", "rank.expected=2", "--force")

    def said(calibration: Path, *, expected: float) -> None:
        (item, *_) = vreid.json("show", "0001_c001")["queries"][0]["nearest"]
        kept = json.loads(calibration.read_text())
        odds = np.interp(item["distance"], kept["distances"], kept["log_ratios"]) - np.log(VEHICLES / expected - 1)
        assert item["probability"] == pytest.approx(1 / (1 + np.exp(-odds)), rel=1e-4)

    said(Path("shipped.json"), expected=2)
    assert vreid.json("evaluate", ranking)["results"][0]["calibration"] == "shipped"
    vreid("calibrate", ranking)
    said(mine / "calibrations" / "t2t-meanMCD50.json", expected=2)
    vreid("rank", "--calibration", "shipped.json", "--min-probability", "0.1", "--force")
    said(Path("shipped.json"), expected=1)


@pytest.mark.usefixtures("mine")
def test_queries_whose_vehicle_is_not_there_are_scored(vreid: Vreid) -> None:
    few = ("--set", "evaluate.resamples=100")
    split = (*few, "--split-open", "0.3")
    assert "Is the vehicle there at all?" not in vreid("evaluate", *few)
    told = vreid("evaluate", *split)
    for text in ("Is the vehicle there at all?", "8 vehicles left out of the gallery", "16/8", "- (--threshold, or"):
        assert text in told
    (one, _) = vreid.json("evaluate", *split, "--threshold", "0.01")["results"]
    assert one["open_set"]["mated_queries"] == 16
    assert one["open_set"]["held_out_vehicles"] == 8
    assert one["open_set"]["at_false_positive_rate"] == {"0.01": None, "0.1": None}
    rule = one["open_set"]["decisions"]
    assert rule["threshold"] == 0.01
    assert rule["right"] + rule["wrong"] + rule["missed"] == 16
    vreid("calibrate")
    assert "≥ 50%" in vreid("evaluate", *split, "--plot", "plot.png")
    report = vreid.json("evaluate", *split, "--min-probability", "0.8", "--seed", "3")
    assert report["results"][0]["open_set"]["decisions"]["probability"] == 0.8


def test_metrics_of_a_run_become_one_ranking(vreid: Vreid, mine: Path) -> None:
    report = vreid.json("rank", "--fuse", "meanMCD50", "minmed")
    (output,) = report["outputs"]
    assert output == f"{mine}/rankings/t2t-meanMCD50+minMED.parquet"
    told = vreid("rank", "--fuse", "meanMCD50", "minMED", "--force")
    assert "fused: meanMCD50 × " in told
    command = next(line for line in told.splitlines() if line.startswith("next:"))
    words = command.removeprefix("next: vreid ").removesuffix(", to see whether it helps").split()
    few = ("--set", "evaluate.resamples=100")
    compared = vreid.json(*words, *few)
    assert [one["against"] for one in compared["comparisons"]] == [output, output]
    assert all(one["interval"] for one in compared["comparisons"])
    assert compared["results"][0]["fusion"][0].startswith("meanMCD50 × ")
    # The result is a ranking as any other: it can be calibrated, shown and written as JSON.
    vreid("calibrate", output)
    assert "probability" in vreid("show", "0001_c001", "--ranking", output)
    vreid("rank", "--fuse", output, str(mine / "rankings" / "t2t-minMED.parquet"), "-o", "again.json")
    assert vreid.json("evaluate", "again.json", *few)["results"][0]["metric"] == "meanMCD50+minMED+minMED"


def test_too_few_vehicles_are_refused_with_how_many_are_needed(vreid: Vreid, ready: Path) -> None:
    vreid("rank")
    error = vreid.error("calibrate")
    assert "shows 4 vehicles twice, and a fit needs 10 at least" in error["message"]
    vreid("rank", "--top-k", "2", "--force")
    assert "does not list every gallery item" in vreid.error("calibrate")["message"]
    vreid("rank", "-o", "r.json")
    assert "lies in no run" in vreid.error("calibrate", "r.json", code=2)["message"]
