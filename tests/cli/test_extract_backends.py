"""``vreid extract --precision --backend``: what is computed by what, kept, taken up again, and refused."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny import EXTRACT, Vreid, draw_tracks

from vreid_cli.errors import ExportError
from vreid_cli.extraction import inference, resolve
from vreid_cli.models import onnx_cache
from vreid_cli.store.runs import RunDirectory
from vreid_cli.types.images import SPLITS

Worth = Callable[[int], None]
RUN = Path("runs/tracks-resnet18-tiny")


@pytest.fixture(scope="session")
def exported(made: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that ONNX Runtime extracted, and the cache in which its export is kept."""
    from vreid_cli.cli.app import run

    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("VREID_CACHE_DIR", str(folder / "cache"))
        command = [*EXTRACT, "--data-dir", str(made / "data"), "--weights", str(weights), "--backend", "onnx"]
        assert run(command) == 0
    return folder


@pytest.fixture
def by_onnx(vreid: Vreid, exported: Path) -> Path:
    """That run in the current folder; its export is kept."""
    shutil.copytree(exported / "runs", "runs")
    shutil.copytree(exported / "cache", "cache")
    return RUN


@pytest.fixture
def extract(made: Path, weights: Path) -> tuple[str, ...]:
    """The command, with images of the test's own."""
    shutil.copytree(made / "data", "data")
    return (*EXTRACT, "--data-dir", "data", "--weights", str(weights))


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise AssertionError("nothing is to be exported or loaded")

    monkeypatch.setattr(inference, "cached_network", refuse)


def how(run: Path, split: str = "gallery") -> list[dict[str, str]]:
    """Identity of each part, and what it was computed with."""
    store = RunDirectory(run).features(split)
    facts = [store.read_facts(part) for part in store.part_numbers()]
    return [{**found.identity, **found.recorded} for found in facts if found is not None]


def features(run: Path, split: str) -> np.ndarray:
    found = RunDirectory(run).features(split).read()
    return found.matrix.take(np.arange(len(found)))


def deviation(run: Path, other: Path) -> float:
    pairs = [(features(run, split), features(other, split)) for split in ("query", "gallery")]
    return max(float(np.abs(one - two).max() / np.abs(two).max()) for one, two in pairs)


@pytest.fixture
def worth_exporting(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets ``auto`` export from so many images on."""
    return lambda images: monkeypatch.setattr(resolve, "WORTH_EXPORTING", images)


# -- ONNX Runtime ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_onnx_makes_the_features_that_torch_makes(by_onnx: Path, made: Path) -> None:
    assert 0 < deviation(by_onnx, made / RUN) <= 1e-5
    info = json.loads((by_onnx / "run.json").read_text())
    assert (info["backend"], info["precision"]) == ("onnx", "fp32")
    for split in ("query", "gallery"):
        for part in how(by_onnx, split):
            assert (part["backend"], part["batch_size"]) == ("onnx", "8")
            assert re.match(r"\d+\.\d+", part["onnxruntime"])


@pytest.mark.slow
def test_going_on_takes_up_what_made_the_features(
    vreid: Vreid, by_onnx: Path, extract: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_tracks(Path("data"), {"gallery/0005_c001": 2})
    assert "gallery: 17 images in 8 tracks, 2 computed now" in vreid(*extract)
    assert "by ONNX Runtime (as the features that are there), fp32, batches of 8" in vreid.err
    assert {part["backend"] for part in how(by_onnx)} == {"onnx"}
    # One split decides for the next.
    shutil.copytree("data/query", "data/train")
    assert "10 computed now" in vreid(*extract, "--split", "train")
    assert {part["backend"] for part in how(by_onnx, "train")} == {"onnx"}


@pytest.mark.usefixtures("no_export")
def test_features_of_torch_stay_with_torch(
    vreid: Vreid, ready: Path, extract: tuple[str, ...], worth_exporting: Worth
) -> None:
    worth_exporting(1)
    draw_tracks(Path("data"), {"gallery/0005_c001": 2})
    assert "2 computed now" in vreid(*extract)
    assert "by torch (as the features that are there)" in vreid.err
    assert {part["backend"] for part in how(ready)} == {"torch"}


@pytest.mark.usefixtures("no_export")
def test_another_back_end_is_another_identity(vreid: Vreid, ready: Path, extract: tuple[str, ...]) -> None:
    error = vreid.error(*extract, "--backend", "onnx")
    assert "holds features of another backend: 'torch', not 'onnx'" in error["message"]
    assert "--restart" in error["hint"]


@pytest.mark.usefixtures("no_export")
def test_and_the_other_way_round_until_restart(
    vreid: Vreid, by_onnx: Path, extract: tuple[str, ...], made: Path
) -> None:
    error = vreid.error(*extract, "--backend", "torch")
    assert "holds features of another backend: 'onnx', not 'torch'" in error["message"]
    vreid(*extract, "--backend", "torch", "--restart")
    assert {split: how(by_onnx, split)[0]["backend"] for split in ("query", "gallery")} == {
        "query": "torch",
        "gallery": "torch",
    }
    assert deviation(by_onnx, made / RUN) == 0


@pytest.mark.usefixtures("no_export")
def test_where_nothing_is_to_be_computed_nothing_is_loaded(
    vreid: Vreid, by_onnx: Path, extract: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vreid_cli.runtime.extras.find_spec", lambda name: None)
    shutil.rmtree("data/gallery/0009_c001")
    told = vreid(*extract)
    assert "gallery: 14 images in 6 tracks, nothing to compute" in told


# -- the choice left to vreid ----------------------------------------------------------------------------------


def test_auto_exports_where_the_images_repay_it(
    vreid: Vreid,
    exported: Path,
    extract: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    worth_exporting: Worth,
) -> None:
    (kept,) = (exported / "cache" / "onnx").iterdir()
    made_here: list[Path] = []

    def write(path: Path, loaded: object, *, facts: object) -> dict[int, float]:
        made_here.append(path)
        path.parent.mkdir(parents=True)
        shutil.copy(kept, path)
        return {1: 3e-7, 7: 4e-7}

    monkeypatch.setattr(onnx_cache, "write_onnx", write)
    worth_exporting(26)
    vreid(*extract)  # 25 images
    assert "by torch (25 images do not repay an export to ONNX)" in vreid.err
    worth_exporting(25)
    vreid(*extract, "--restart", "--split", "query,gallery")
    assert "by ONNX Runtime (25 images repay its export)" in vreid.err
    assert "relative error against torch 3e-07 at batch 1, 4e-07 at batch 7" in vreid.err
    assert len(made_here) == 1
    worth_exporting(10**6)
    vreid(*extract, "--restart")
    assert "by ONNX Runtime (its export is kept)" in vreid.err
    assert len(made_here) == 1


def test_auto_falls_back_to_torch_where_the_export_is_refused(
    vreid: Vreid, extract: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, worth_exporting: Worth
) -> None:
    def refuse(path: Path, loaded: object, *, facts: object) -> dict[int, float]:
        raise ExportError("it would not compute what torch does")

    monkeypatch.setattr(onnx_cache, "write_onnx", refuse)
    worth_exporting(1)
    vreid(*extract)
    assert "it would not compute what torch does" in vreid.err
    assert "by torch (ONNX Runtime cannot be used)" in vreid.err
    assert how(RUN)[0]["backend"] == "torch"
    # Asking for it is an error instead.
    error = vreid.error(*extract, "--backend", "onnx", "--restart")
    assert "would not compute" in error["message"]


def test_batches_stay_as_they_were_begun(
    vreid: Vreid, ready: Path, extract: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    vreid(*extract, "--batch-size", "3", "--restart")
    draw_tracks(Path("data"), {"gallery/0005_c001": 2})
    vreid(*extract)
    draw_tracks(Path("data"), {"gallery/0006_c001": 2})
    vreid(*extract, "--batch-size", "5")
    assert [part["batch_size"] for part in how(ready)] == ["3", "3", "5"]
    vreid(*extract, "--restart")
    assert {part["batch_size"] for part in how(ready)} == {"8"}


# -- precision -------------------------------------------------------------------------------------------------


def test_precision_is_part_of_what_features_are(vreid: Vreid, made: Path, extract: tuple[str, ...]) -> None:
    vreid(*extract, "--precision", "bf16")
    assert "by torch (ONNX Runtime computes in fp32, not bf16), bf16, batches of 8" in vreid.err
    assert json.loads((RUN / "run.json").read_text())["precision"] == "bf16"
    assert {part["precision"] for split in SPLITS[:2] for part in how(RUN, split)} == {"bf16"}
    # 0.6e-2 to 1.1e-2 were measured with other weights of this network.
    assert 1e-4 < deviation(RUN, made / RUN) < 3e-2
    error = vreid.error(*extract)
    assert "holds features of another precision: 'bf16', not 'fp32'" in error["message"]
    assert "--restart" in error["hint"]


# -- what cannot be --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--precision", "fp8"), "--precision fp8: needs 'fp32', 'tf32', 'bf16', 'fp16' or 'int8'"),
        (("--backend", "tflite"), "--backend tflite: needs 'auto', 'torch' or 'onnx'"),
        (("--precision", "tf32", "--device", "cpu"), "--precision tf32: cpu has no such arithmetic"),
        (
            ("--backend", "onnx", "--precision", "bf16", "--device", "cpu"),
            "--backend onnx: ONNX Runtime computes in fp32 or int8, not in bf16",
        ),
    ],
)
def test_wrong_combinations_are_refused(
    vreid: Vreid, extract: tuple[str, ...], arguments: tuple[str, ...], message: str
) -> None:
    assert message in vreid.error(*extract, *arguments, code=2)["message"]
    assert not Path("runs").exists()


def test_a_setting_of_a_file_is_named_as_such(vreid: Vreid, extract: tuple[str, ...]) -> None:
    Path("vreid.toml").write_text('[extract]\nprecision = "tf32"\n')
    error = vreid.error(*extract, "--device", "cpu", code=2)
    assert error["message"] == "vreid.toml: extract.precision tf32: cpu has no such arithmetic"


def test_without_the_extra_the_error_names_what_to_install(
    vreid: Vreid, extract: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, worth_exporting: Worth
) -> None:
    real = importlib.util.find_spec
    missing = ("onnxruntime", "onnxscript")
    monkeypatch.setattr("vreid_cli.runtime.extras.find_spec", lambda name: None if name in missing else real(name))
    error = vreid.error(*extract, "--backend", "onnx")
    assert error["message"] == "--backend onnx needs onnxscript and onnxruntime, which are not installed"
    assert 'pip install "vreid[onnx]"' in error["hint"]
    worth_exporting(1)
    vreid(*extract)
    assert "by torch (ONNX Runtime may be faster, but the extra onnx is not installed)" in vreid.err


# -- int8 ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_int8_from_the_first_images_to_the_table(vreid: Vreid, extract: tuple[str, ...], made: Path) -> None:
    command = (*extract, "--precision", "int8", "--run-dir", "run")
    vreid(*command)
    assert "int8 against fp32 on 6 other images: LRs moved by" in vreid.err
    assert "on this chip" in vreid.err
    assert "by ONNX Runtime (only it computes in int8), int8" in vreid.err
    assert 1e-5 < deviation(Path("run"), made / RUN) < 0.2
    assert len({part["quantised_by"] for split in ("query", "gallery") for part in how(Path("run"), split)}) == 1
    # New images would quantise it otherwise: what made the features that are there goes on.
    before = features(Path("run"), "query").tobytes()
    draw_tracks(Path("data"), {"gallery/0005_c001": 2})
    assert "gallery: 17 images in 8 tracks, 2 computed now" in vreid(*command)
    assert features(Path("run"), "query").tobytes() == before
    assert "int8 by onnx" in (told := vreid("info", "run"))
    assert "LRs moved by" in told
    assert "precision int8" in vreid("rank", "--run-dir", "run", "--task", "i2i", "--metric", "MCD")
    assert "precision int8" in vreid("evaluate", "--run-dir", "run").replace("\n", " ")


@pytest.mark.usefixtures("ready")
def test_int8_is_never_mixed_with_fp32(vreid: Vreid, extract: tuple[str, ...]) -> None:
    error = vreid.error(*extract, "--precision", "int8")
    assert "holds features of another precision: 'fp32', not 'int8'" in error["message"]
    # Nothing was quantised in vain.
    assert not Path("cache").exists()


def test_int8_needs_the_extra(vreid: Vreid, extract: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vreid_cli.runtime.extras.find_spec", lambda name: None)
    error = vreid.error(*extract, "--precision", "int8")
    assert "--precision int8 needs onnx" in error["message"]
    assert 'pip install "vreid[onnx]"' in error["hint"]
