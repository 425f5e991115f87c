"""``vreid extract`` on a run that is there: what it goes on with, what it refuses, and that nothing is lost by it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny import EXTRACT, Vreid, save_weights

from vreid_cli.store.runs import RunDirectory

RUN = Path("run")


@pytest.fixture
def data(made: Path, vreid: Vreid) -> Path:
    del vreid
    return Path(shutil.copytree(made / "data", "data"))


@pytest.fixture
def command(data: Path, weights: Path) -> tuple[str | Path, ...]:
    return (*EXTRACT, "--device", "cpu", "--run-dir", RUN, "--weights", weights)


def files_of(run: Path = RUN) -> dict[str, bytes]:
    features = run / "features"
    return {path.relative_to(features).as_posix(): path.read_bytes() for path in features.rglob("*") if path.is_file()}


def test_a_run_says_what_made_it_and_goes_on_where_the_images_moved(
    vreid: Vreid, command: tuple[str | Path, ...], data: Path
) -> None:
    vreid(*command, "--data-dir", data)
    info = json.loads((RUN / "run.json").read_text())
    store = RunDirectory(RUN).features("gallery")
    facts = store.read_facts(0)
    assert facts is not None
    assert set(facts.identity) == {"architecture", "weights_digest", "transform", "precision", "backend"}
    assert {name: info[name] for name in facts.identity} == dict(facts.identity)
    assert {"batch_size", "threads", "torch", "vreid"} <= set(facts.recorded)
    complete = store.read_complete()
    assert (complete["schema"], complete["dataset"], complete["protocol"]) == (2, "tracks", "separate")
    before = files_of()
    moved = data.rename("moved")
    assert "nothing to compute" in vreid(*command, "--data-dir", moved)
    after = files_of()
    changed = sorted(name for name in before if after[name] != before[name])
    assert changed == ["gallery/complete.json", "query/complete.json"]
    assert json.loads((RUN / "run.json").read_text())["data_dir"] == str(moved.resolve())
    assert store.read().image_root == str((moved / "gallery").resolve())


def test_a_restart_that_is_refused_costs_nothing(
    vreid: Vreid, command: tuple[str | Path, ...], data: Path, tmp_path: Path
) -> None:
    vreid(*command, "--data-dir", data)
    before = files_of()
    other = save_weights(tmp_path / "other.safetensors", seed=8)
    # The query split would keep the old network's features beside the gallery's new ones.
    restart = (*command[:-1], other, "--data-dir", data, "--split", "gallery", "--restart")
    assert "query holds features of another weights_digest" in vreid.error(*restart)["message"]
    assert files_of() == before
    vreid(*command[:-1], other, "--data-dir", data, "--restart")
    assert files_of().keys() == before.keys()
    assert files_of() != before


def test_a_store_of_an_older_version_is_refused_until_it_is_made_again(
    vreid: Vreid, command: tuple[str | Path, ...], data: Path
) -> None:
    vreid(*command, "--data-dir", data)
    path = RunDirectory(RUN).features("query").complete_path
    path.write_text(path.read_text().replace('"schema": 2', '"schema": 1'))
    error = vreid.error("rank", "--run-dir", RUN, "--task", "i2i")
    assert "another version" in error["message"]
    assert error["hint"] == "make them again: vreid extract --restart"
    vreid(*command, "--data-dir", data, "--restart")
    vreid("rank", "--run-dir", RUN, "--task", "i2i")


def test_a_run_that_is_in_use_is_refused(vreid: Vreid, command: tuple[str | Path, ...], data: Path) -> None:
    with RunDirectory(RUN).locked():
        assert "another vreid is working" in vreid.error(*command, "--data-dir", data)["message"]


def test_the_same_extraction_is_the_same_to_the_bit(vreid: Vreid, command: tuple[str | Path, ...], data: Path) -> None:
    vreid(*command, "--data-dir", data)
    before = files_of()
    vreid(*command, "--data-dir", data, "--run-dir", "other")
    assert files_of(Path("other")) == before
