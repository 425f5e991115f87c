"""Sessions: which run a command works on, what it takes from it, and which settings may differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vreid_cli.config import COMMAND_LINE, Layer, Settings
from vreid_cli.errors import StoreError
from vreid_cli.store.runs import RunDirectory
from vreid_cli.workflows.session import RunChoice, Session, resolve_session

INFO = {"dataset": "tracks", "data_dir": "data", "architecture": "resnet18", "weights": "random", "seed": 5}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that runs/latest names, in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = Path("runs/mine")
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps(INFO))
    Path("runs/latest").write_text("mine\n")
    return path


def session(choice: RunChoice | None = None, **sections: dict[str, Any]) -> Session:
    def choose(_: Settings) -> RunChoice:
        return choice or RunChoice()

    return resolve_session([Layer(COMMAND_LINE, sections)], choose_run=choose)


def test_the_latest_run_lends_its_settings_and_its_seed(run: Path) -> None:
    found = session()
    settings = found.settings
    assert found.need_run().path == run
    assert (settings.data.dataset, settings.model.arch, settings.model.weights) == ("tracks", "resnet18", "random")
    assert settings.run.seed == 5
    assert found.resolved.source("model.arch") == f"{run}/run.json"


@pytest.mark.usefixtures("run")
def test_a_command_can_do_without_a_run_or_its_settings() -> None:
    assert session(RunChoice(use_latest=False)).run is None
    looking = session(RunChoice(take_settings=False))
    assert looking.run is not None
    assert looking.settings.data.dataset == "veri"
    named = session(RunChoice(use_latest=False), run={"run_dir": "runs/mine"})
    assert named.settings.data.dataset == "tracks"


def test_what_agrees_with_the_run_may_be_said_again(run: Path) -> None:
    again = session(data={"dataset": "tracks", "data_dir": str(Path("data").resolve())}, model={"weights": "random"})
    assert again.need_run().path == run
    assert session(run={"seed": 6}).settings.run.seed == 6  # a seed of this command's own, as for trials


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("data", "dataset", "veri", "--dataset 'veri': the run runs/mine was made with 'tracks'"),
        ("data", "data_dir", "elsewhere", "--data-dir 'elsewhere': the run runs/mine was made with 'data'"),
        ("model", "arch", "vgg16", "--arch 'vgg16': the run runs/mine was made with 'resnet18'"),
    ],
)
def test_what_contradicts_the_run_is_refused_unless_it_is_free(
    run: Path, section: str, key: str, value: str, message: str
) -> None:
    with pytest.raises(StoreError) as caught:
        session(**{section: {key: value}})
    assert caught.value.message == message
    assert caught.value.file == f"{run}/run.json"
    free = session(RunChoice(free=(f"{section}.{key}",)), **{section: {key: value}})
    assert str(getattr(getattr(free.settings, section), key)) == value


def test_a_command_is_recorded_where_that_is_possible(run: Path) -> None:
    Session(session().resolved, RunDirectory(run), ("vreid", "rank")).record()
    (line,) = (run / "history.jsonl").read_text().splitlines()
    assert json.loads(line)["command"] == ["vreid", "rank"]
    Session(session().resolved, RunDirectory(Path("nowhere")), ("vreid", "rank")).record()
    assert not Path("nowhere").exists()
