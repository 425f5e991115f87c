"""Which run a command works on, and what is said of runs that are gone, moved, damaged or made otherwise."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny import EXTRACT, Vreid


@pytest.mark.parametrize("command", [["rank"], ["evaluate"], ["show"], ["export", "features"]])
def test_without_a_run_the_hint_says_how_to_make_one(vreid: Vreid, command: list[str]) -> None:
    error = vreid.error(*command)
    assert error["message"] == "there is no run to work on: neither --run-dir nor runs/latest names one"
    assert "vreid extract" in error["hint"]
    assert "is no run directory" in vreid.error(*command, "--run-dir", "nowhere")["message"]
    assert list(Path().iterdir()) == []


def test_a_run_that_is_gone_is_said_to_be_gone(vreid: Vreid, ready: Path) -> None:
    shutil.rmtree(ready)
    error = vreid.error("rank")
    assert error["message"] == "there is no run to work on: the run that runs/latest names is gone, or its run.json"
    assert error["file"] == "runs/latest"


def test_a_run_can_be_moved_and_used_from_elsewhere(
    vreid: Vreid, ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vreid("rank")
    shutil.move("runs", "größere läufe")
    run = Path("größere läufe") / ready.name
    assert vreid.json("evaluate", "--run-dir", run)["results"][0]["valid_queries"] == 4
    vreid("rank", "--run-dir", (tmp_path / run).resolve(), "--task", "i2t")
    monkeypatch.chdir(run)
    assert len(vreid.json("evaluate", "--run-dir", ".")["results"]) == 2
    assert "0001_c002" in vreid("show", "--run-dir", ".", "-o", "sheet.png") + vreid("show", "--run-dir", ".")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"schema": 1, "da', "is not valid JSON"),
        ("[]", "holds a list, not an object"),
        ('{"dataset": 3}', "data.dataset = 3: needs text in quotes"),
    ],
)
def test_a_damaged_run_file_is_named_and_can_be_mended(
    vreid: Vreid, ready: Path, made: Path, weights: Path, content: str, message: str
) -> None:
    (ready / "run.json").write_text(content)
    error = vreid.error("rank")
    assert message in error["message"]
    assert error["file"] == str(ready / "run.json")
    (ready / "run.json").unlink()
    assert vreid(*EXTRACT, "--data-dir", made / "data", "--weights", weights).count("nothing to compute") == 2
    vreid("rank")


def test_random_weights_without_a_seed_in_the_run_file_do_no_harm(vreid: Vreid, ready: Path) -> None:
    (ready / "run.json").write_text('{"weights": "random"}')
    vreid("rank")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "data.dataset=veri"), "--set data.dataset 'veri'"),
        (("--set", "data.data_dir=elsewhere"), "--set data.data_dir 'elsewhere'"),
        (("--set", "model.arch=vgg16"), "--set model.arch 'vgg16'"),
        (("--config", "veri-t2t"), "veri-t2t.toml: data.dataset 'veri'"),
    ],
)
def test_a_setting_that_contradicts_the_run_is_refused(
    vreid: Vreid, ready: Path, arguments: tuple[str, ...], message: str
) -> None:
    error = vreid.error("rank", *arguments)
    assert message in error["message"]
    assert f"the run {ready} was made with" in error["message"]
