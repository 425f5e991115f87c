"""Extraction and ranking on a Ray cluster of two machines: the files of one process, whoever is lost on the way."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from clusters import add_node, cluster
from tiny import EXTRACT, TRACK_METRICS, Vreid, columns

from vreid_cli.engines.schedule import Schedule
from vreid_cli.extraction import split
from vreid_cli.extraction.parts import Part
from vreid_cli.store.features import FeatureStore
from vreid_cli.types.features import FeatureSet

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
PARTS = ("--set", "extract.part_images=2")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster for all tests of this module."""
    with cluster(2) as made, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", made.address)
        yield made


def content(run: str) -> dict[str, bytes]:
    """All that a run's stores hold."""
    paths = [path for path in Path(run, "features").rglob("*") if path.is_file()]
    return {str(path.relative_to(run)): path.read_bytes() for path in paths}


def on_first_finish(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something as soon as a worker has done a part."""
    finish, done = Schedule.finish, []

    def finish_and_act(self: Schedule[object], worker: object) -> None:
        finish(self, worker)
        if not done:
            done.append(act())

    monkeypatch.setattr(Schedule, "finish", finish_and_act)


def exchange_a_node(nodes: Any) -> Callable[[], None]:
    """Takes a machine away as if its plug were pulled, and lets another one join."""

    def exchange() -> None:
        nodes.remove_node(nodes.worker_nodes.copy().pop(), allow_graceful=False)
        add_node(nodes)

    return exchange


def test_extract_writes_the_bytes_of_one_process_also_when_a_machine_is_exchanged(
    vreid: Vreid, nodes: Any, made: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A worker names the image that it cannot use, as one process does.
    bad = Path(shutil.copytree(made / "data", "data"), "gallery/0004_c001/1.png").absolute()
    bad.write_bytes(b"no image")
    command = (*EXTRACT, "--data-dir", "data", "--weights", weights, *PARTS)
    expected = vreid.json(*command, "--run-dir", "one")
    on_first_finish(monkeypatch, exchange_a_node(nodes))
    report = vreid.json(*command, "--run-dir", "many", "--engine", "ray")
    assert f"skipped {bad}: not an image in a known format" in vreid.err
    assert report["skipped"] == expected["skipped"] != []
    assert {name: split["computed"] for name, split in report["splits"].items()} == {"query": 10, "gallery": 14}
    assert content("many") == content("one")
    assert "nothing to compute" in vreid(*command, "--run-dir", "many")


def rows(run: Path) -> dict[str, dict[str, list[object]]]:
    """All rankings of a run, row by row."""
    return {path.stem: columns(path) for path in run.glob("rankings/*.parquet")}


def test_rankings_are_those_of_one_process_also_when_a_machine_is_exchanged(
    vreid: Vreid, nodes: Any, ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ready, "one")
    expected_report = vreid.json("rank", "--metric", "all", "--run-dir", "one")
    on_first_finish(monkeypatch, exchange_a_node(nodes))
    report = vreid.json("rank", "--metric", "all", "--engine", "ray")
    assert report["warnings"] == expected_report["warnings"]
    found, expected = rows(ready), rows(Path("one"))
    assert len(expected) == len(TRACK_METRICS)
    assert found.keys() == expected.keys()
    for name, columns_of_one in expected.items():
        distances = found[name].pop("distance")
        assert distances == pytest.approx(columns_of_one.pop("distance"), abs=1e-6)
        assert found[name] == columns_of_one


def test_features_that_are_not_what_they_were_are_refused(
    vreid: Vreid, nodes: Any, ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--rerank compares all with all" in vreid.error("rank", "--rerank", "--engine", "ray", code=2)["message"]
    read = FeatureStore.read

    def read_and_write(self: FeatureStore) -> FeatureSet:
        found = read(self)
        if self.path.name == "gallery":
            self.part_path(0).rename(self.path / "gone")
        return found

    monkeypatch.setattr(FeatureStore, "read", read_and_write)
    vreid("rank", "--engine", "ray", code=1)
    assert "as many as complete.json says: 0, not 1" in vreid.err


def test_a_part_that_kills_its_workers_is_named_and_all_others_are_done(
    vreid: Vreid, nodes: Any, made: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (*EXTRACT, "--data-dir", made / "data", "--weights", weights, *PARTS, "--run-dir", "run")
    commit_parts = split.commit_parts

    def deadly(parts: Sequence[Part], **how: Any) -> Iterator[object]:
        if parts[0].number == 1 and how["store"].path.name == "query":
            os._exit(1)
        yield from commit_parts(parts, **how)

    with monkeypatch.context() as patch:
        patch.setattr(split, "commit_parts", deadly)
        vreid(*command, "--engine", "ray", code=1)
    assert "killed 3 workers that were at it, and was set aside: part 1 (3 images, " in vreid.err
    assert str(made / "data/query/0002_c002/0.png") in vreid.err
    left = sorted(path.name for path in Path("run/features/query").glob("*.arrow"))
    assert left == ["part-00000.arrow", "part-00002.arrow", "part-00003.arrow"]
    assert not Path("run/features/query/complete.json").exists()
    assert Path("run/features/gallery/complete.json").exists()
    assert "query: 10 images in 4 tracks, 3 computed now" in vreid(*command)


def test_a_cluster_with_another_version_is_refused(
    vreid: Vreid, nodes: Any, made: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    command = (*EXTRACT, "--data-dir", made / "data", "--weights", weights, "--engine", "ray")
    with monkeypatch.context() as patch:
        patch.setattr("vreid_cli.engines.ray.installed_version", lambda name: "9.9.9")
        error = vreid.json(*command, code=1)["error"]
        assert "and this machine has 9.9.9" in error["message"]
        assert "the same vreid" in error["hint"]
    with monkeypatch.context() as patch:
        patch.setattr(ray, "__version__", "1.0.0")
        error = vreid.json(*command, code=1)["error"]
        assert "Version mismatch" in error["message"]
        assert "Ray: 1.0.0" in error["message"]
        assert error["hint"] == "use the Python and the Ray of the cluster here too"


def test_a_wrong_address_is_refused_at_once(
    vreid: Vreid, made: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (*EXTRACT, "--data-dir", made / "data", "--weights", weights, "--engine", "ray")
    for address in ("127.0.0.1:1", "127.0.0.1:ray", "ray://127.0.0.1:1"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        error = vreid.json(*command, code=1)["error"]
        assert f"no Ray cluster answers at {address}" in error["message"]
        assert "HOST:PORT" in error["hint"]
    named = (*command, "--set", "runtime.ray_address=127.0.0.1:2")
    assert "no Ray cluster answers at 127.0.0.1:2" in vreid.error(*named)["message"]
    assert not Path("runs").exists()


def test_devices_are_those_of_the_cluster(vreid: Vreid, nodes: Any, made: Path, weights: Path) -> None:
    command = (*EXTRACT, "--data-dir", made / "data", "--weights", weights, "--engine", "ray")
    assert "no machine of the cluster has a GPU" in vreid.error(*command, "--device", "cuda")["message"]
    assert "chooses a GPU for each worker" in vreid.error(*command, "--device", "cuda:1", code=2)["message"]
    assert "quantises the network for itself alone" in vreid.error(*command, "--precision", "int8", code=2)["message"]


def test_without_ray_the_option_says_what_to_install(
    vreid: Vreid, made: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vreid_cli.runtime.extras.find_spec", lambda name: None)
    error = vreid.error(*EXTRACT, "--data-dir", made / "data", "--weights", weights, "--engine", "ray")
    assert error["message"] == "--engine ray needs ray, which is not installed"
    assert "vreid[ray]" in error["hint"]
